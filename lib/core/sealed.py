"""An exercise's answer as a word that nobody reads by accident: packed, not secret."""

from __future__ import annotations

import base64
import binascii
import zlib


def seal(code: str) -> str:
    """Code as one word of letters, digits, ``-``, ``_`` and ``=``."""
    return base64.urlsafe_b64encode(zlib.compress(code.encode(), 9)).decode()


def unseal(word: str) -> str:
    """The code that was sealed.

    Raises:
        ValueError: the word was changed.
    """
    try:
        return zlib.decompress(base64.urlsafe_b64decode(word)).decode()
    except (binascii.Error, zlib.error, ValueError):
        raise ValueError("check: the sealed answer was changed: take the cell anew") from None
