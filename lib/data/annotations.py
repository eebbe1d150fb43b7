"""What somebody annotated in photos, boxes and points: read, checked, mapped into the crop.

A csv holds continuous coordinates in pixels of the whole photo as it is shown (EXIF orientation
applied). ImageNet's XML files and its table count pixels from 1 and include both edges: xmin 1,
xmax 500 is [0, 500). Where they say 0 the photo's edge is meant, too.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from lib.data.files import Crop, ImageError, dimensions, open_file
from lib.data.listing import Lookup, Photo, finder, read_table

MAX_XML = 2**20  # bytes; one of ImageNet's has a few thousand
COLUMNS = {"boxes": ("file", "x0", "y0", "x1", "y1"), "points": ("file", "part", "x", "y")}
LOC = ("ImageId", "PredictionString")  # the columns of LOC_val_solution.csv
Found = Iterator[tuple[str, str, str, list[float]]]  # photo, where it stands, kind, numbers


def annotate(
    photos: list[Photo], names: list[str], crop: Crop, lookup: Lookup, **sources: Path | None
) -> list[Photo]:
    """The photos with what the files ``boxes`` and ``points`` say of them.

    A csv may be about all of ``names``. Raises `ImageError`: one line that names the file, and in
    it the line or object.
    """
    found = defaultdict(list)
    for what, source in sources.items():
        if source is None:
            continue
        if not os.path.exists(source):
            raise ImageError(f"{what}: {str(source)!r} does not exist")
        if source.is_dir() and what == "boxes":
            rows = list(_from_xml(source, photos, lookup))
        else:
            rows = list(_from_csv(source, what, photos, names, lookup))
        if not rows:
            raise ImageError(f"{str(source)!r}: no {what} of {photos[0].name!r} or another photo")
        for name, *entry in rows:
            found[name].append(entry)
    return [_mapped(photo, crop, found[photo.name]) for photo in photos]


def _mapped(photo: Photo, crop: Crop, found: list) -> Photo:
    if not found:
        return photo
    sides, kept = dimensions(photo.path), defaultdict(list)
    for where, kind, numbers in found:
        x, y = numbers[::2], numbers[1::2]
        inside = min(x + y) >= 0 and max(x) <= sides[0] and max(y) <= sides[1]
        if not inside or (kind == "box" and (x[0] >= x[1] or y[0] >= y[1])):
            raise ImageError(
                f"{where}: {' '.join(f'{number:g}' for number in numbers)} is no {kind} inside "
                f"{photo.name!r}, which has {sides[0]} x {sides[1]} pixels"
            )
        mapped = crop.box(numbers, *sides) if kind == "box" else crop.point(*numbers, *sides)
        kept[kind] += [] if mapped is None else [mapped]
    instances, eye, foot = (tuple(kept[kind]) for kind in ("box", "eye", "foot"))
    return replace(photo, instances=instances, eye=eye, foot=foot)


def _from_csv(
    source: Path, what: str, photos: list[Photo], names: list[str], lookup: Lookup
) -> Found:
    """A csv of one's own, or for boxes ImageNet's table, which is about all of its photos."""
    find, stems = finder(names), defaultdict(list)
    for photo in photos:
        stems[Path(photo.name).stem].append(photo)
    for where, row in read_table(source, COLUMNS[what], LOC if what == "boxes" else ()):
        if what == "boxes" and row.keys() >= set(LOC):
            words = row["PredictionString"].split()
            if len(words) % 5:
                raise ImageError(f"{where}: expected a wnid and four numbers for each object")
            objects = [(where, words[k], words[k + 1 : k + 5]) for k in range(0, len(words), 5)]
            for photo in stems.get(row["ImageId"].strip(), ()):
                yield from _of_class(where, objects, photo, lookup)
            continue
        kind = "box" if what == "boxes" else row["part"].strip()
        if kind not in ("eye", "foot") and what == "points":
            raise ImageError(f"{where}: part {kind!r} is neither eye nor foot")
        texts = [row[column] for column in COLUMNS[what] if column not in ("file", "part")]
        yield find(row["file"], where), where, kind, _numbers(where, texts)


def _from_xml(folder: Path, photos: list[Photo], lookup: Lookup) -> Found:
    """Pascal VOC's XML, a file named like the photo, perhaps in a folder of its wnid.

    Its size is the annotated photo's, of which ours may be a resized copy.
    """
    for photo in photos:
        name = Path(photo.name).with_suffix(".xml")
        places = (folder / name, folder / name.name, folder / name.stem.split("_")[0] / name.name)
        path = next((path for path in places if path.exists()), None)
        if path is None:
            continue
        tree, where, sides = _parse(path), repr(str(path)), dimensions(photo.path)
        size = [tree.findtext(f"size/{side}") for side in ("width", "height")]
        size = sides if size == [None, None] else _numbers(f"{where} size", size)
        rounding = max(sum(size), sum(sides))  # a copy's sides are rounded to whole pixels
        if min(size) < 1 or abs(size[0] * sides[1] - size[1] * sides[0]) > rounding:
            shapes = [f"{width:g} x {height:g} pixels" for width, height in (size, sides)]
            raise ImageError(f"{where}: annotated at {shapes[0]}; {photo.name!r} has {shapes[1]}")
        objects = []
        for number, one in enumerate(tree.iterfind("object"), 1):
            texts = [one.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
            objects.append((f"{where} object {number}", one.findtext("name", ""), texts))
        for *which, box in _of_class(where, objects, photo, lookup):
            yield *which, [box[k] * sides[k % 2] / size[k % 2] for k in range(4)]


def _of_class(where: str, objects: list, photo: Photo, lookup: Lookup) -> Found:
    """The boxes of the objects of the photo's own class, in continuous coordinates."""

    def is_own(name: str) -> bool:
        try:
            return lookup(name) == photo.target
        except ImageError:  # a name that is no class, or may be two
            return False

    own = [(at, texts) for at, name, texts in objects if is_own(name)]
    if not own:
        raise ImageError(f"{where}: no object of class {photo.target}, that of {photo.name!r}")
    for at, texts in own:
        x0, y0, x1, y1 = _numbers(at, texts)
        yield photo.name, at, "box", [x0 - (x0 > 0), y0 - (y0 > 0), x1, y1]


def _numbers(where: str, texts: list[str | None]) -> list[float]:
    try:
        numbers = [float(text or "") for text in texts]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise ImageError(f"{where}: expected {len(texts)} numbers, got {texts}")
    return numbers


class _Plain(ElementTree.TreeBuilder):
    def doctype(self, *_: str | None) -> None:
        raise ValueError("a DOCTYPE, which could define entities without end")


def _parse(path: Path) -> ElementTree.Element:
    try:
        with open_file(path) as file:
            content = file.read(MAX_XML + 1)
        if len(content) > MAX_XML:
            raise ValueError("larger than a megabyte")
        return ElementTree.XML(content, ElementTree.XMLParser(target=_Plain()))
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{str(path)!r} cannot be read as XML: {reason}") from None
