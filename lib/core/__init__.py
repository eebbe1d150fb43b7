"""What every room needs and none owns: keyed draws, progress, the cache, ledger, results' format.

Imports no other room. What the builder shares with it starts without PyTorch.
"""
