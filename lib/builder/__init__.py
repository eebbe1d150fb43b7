"""What runs a notebook: parameters, execution, page, index, verification, provenance.

Run it with `python -m lib.builder` or through the Makefile. Imports core alone, and starts without
PyTorch; nothing here knows what an attribution is.
"""
