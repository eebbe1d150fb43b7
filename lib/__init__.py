"""Input attribution: which pixels did the classifier use, and is the explanation right?

Eleven packages, each of which says in its docstring what it holds; ARCHITECTURE.md says in one
drawing who may import whom.
"""
