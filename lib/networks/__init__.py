"""A network as a frozen function of pixels in [0, 1]: loading, normal form, score route, layers.

Whatever has ``scores(images) -> logits`` is a classifier here, a black box too.
Imports data (the names of the classes) and core.
"""
