"""Which training images made a prediction: influence functions, and the solvers they need.

Exact where the model is convex, by conjugate gradients or LiSSA elsewhere.
Imports core.
"""
