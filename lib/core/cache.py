"""Where the store of :mod:`lib.core.store` lies: the builder asks too, which has no PyTorch."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$ATTRIBUTION_CACHE``, or ``.cache`` beside lib."""
    beside = Path(__file__).resolve().parents[2] / ".cache"
    return Path(os.environ.get("ATTRIBUTION_CACHE") or beside)
