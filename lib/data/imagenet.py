"""ImageNet's 1,000 classes, and how a written label becomes a class index.

The index of a class is the rank of its WordNet id among the 1,000 ids in sorted order; the names
are torchvision's. ``data/imagenet_classes.csv`` holds both.
"""

import csv
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from lib.data.files import ImageError

TABLES = Path(__file__).parent / "tables"
# Two classes each in the original list; torchvision renamed one of the two, so that a folder of
# that name may mean either.
AMBIGUOUS = {"crane": (134, 517), "maillot": (638, 639)}


@cache
def _classes() -> tuple[list[str], list[str]]:
    with open(TABLES / "imagenet_classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["wnid"] for row in rows], [row["name"] for row in rows]


def wnids() -> list[str]:
    """The 1,000 WordNet ids, by class index."""
    return list(_classes()[0])


def categories() -> list[str]:
    """The 1,000 class names, by class index."""
    return list(_classes()[1])


def plain(name: str) -> str:
    """A class name without regard to case, underscores, repeated spaces or Unicode's spellings."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").casefold().split())


def is_imagenet(names: Sequence[str]) -> bool:
    """Whether ``names`` are ImageNet's 1,000 classes in their order."""
    return [plain(name) for name in names] == [plain(name) for name in _classes()[1]]


class UnknownClass(ImageError):
    """A label that names no class. Other bad labels may be wrong ones and are never skipped."""


def class_lookup(names: Sequence[str]) -> Callable[[str], int]:
    """A function from a label (index, class name or, for ImageNet's classes, wnid) to the index.

    It raises `UnknownClass` for a label that no class has, and `ImageError` for one that could
    mean two classes and for an index outside 0 .. len(names) - 1.
    """
    known: dict[str, set[int]] = {}
    for index, name in enumerate(names):
        known.setdefault(plain(name), set()).add(index)
    if is_imagenet(names):
        for name, indices in AMBIGUOUS.items():
            known[name].update(indices)
        for index, wnid in enumerate(_classes()[0]):
            known.setdefault(wnid, set()).add(index)

    def lookup(label: str) -> int:
        found = set(known.get(plain(label), ()))
        number = int(label) if re.fullmatch(r"[+-]?[0-9]{1,9}", label.strip()) else None
        if number is not None and 0 <= number < len(names):
            found.add(number)
        if len(found) == 1:
            return found.pop()
        if found:
            options = " or ".join(f"{index} ({names[index]})" for index in sorted(found))
            raise ImageError(f"class {label!r} is ambiguous: {options}; use the index or the wnid")
        if number is not None:
            hint = "; are the labels counted from 1?" if number == len(names) else ""
            raise ImageError(f"class index {number} is outside 0..{len(names) - 1}{hint}")
        hint = ""
        if re.fullmatch(r"n[0-9]{8}", label) and not is_imagenet(names):
            hint = " (the classifier's categories are not ImageNet's, so a wnid names none)"
        raise UnknownClass(f"unknown class {label!r}{hint}")

    return lookup
