"""Which image files there are and what each one's label is; nothing is decoded here."""

import csv
import importlib.util
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.data.files import SUFFIXES, Crop, ImageError, dimensions, file_sha256
from lib.data.imagenet import TABLES, UnknownClass

Lookup = Callable[[str], int]
Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class Photo:
    """One image file, its class, and what was annotated in it, in coordinates of the crop."""

    path: Path
    name: str
    target: int
    description: str = ""
    note: str = ""
    instances: tuple[tuple[float, float, float, float], ...] = ()
    eye: tuple[tuple[float, float], ...] = ()
    foot: tuple[tuple[float, float], ...] = ()


def embedded_photos(crop: Crop) -> list[Photo]:
    """The 20 photographs of the package ``foolbox``, with this project's annotation.

    The class index ends the file's name. A box goes tightly around what is visible of one object
    of the class (a part cut off or hidden is not guessed at), one box per object. An eye is the
    middle of an eye that can be made out, closed or open; a foot is the middle of a paw, of a
    bird's foot, of an insect's tarsus. The csv files hold pixels of the original photo.
    """
    package = importlib.util.find_spec("foolbox")
    if package is None:
        raise ImageError("the embedded photos come with the package foolbox; it is not installed")
    folder = Path(next(iter(package.submodule_search_locations))) / "data"
    boxes, points = defaultdict(list), defaultdict(list)
    for row in _rows("photo_boxes.csv"):
        boxes[row["file"]].append(tuple(float(row[edge]) for edge in ("x0", "y0", "x1", "y1")))
    for row in _rows("photo_points.csv"):
        points[row["file"], row["part"]].append((float(row["x"]), float(row["y"])))
    photos = []
    for row in _rows("photos.csv"):
        name, path = row["file"], folder / row["file"]
        if not path.is_file() or file_sha256(path) != row["sha256"]:
            raise ImageError(f"the installed foolbox has not our {name}; the project needs its pin")
        sides = dimensions(path)
        inside = {
            part: tuple(filter(None, (crop.point(*xy, *sides) for xy in points[name, part])))
            for part in ("eye", "foot")
        }
        instances = tuple(filter(None, (crop.box(box, *sides) for box in boxes[name])))
        target = int(Path(name).stem.rsplit("_", 1)[1])
        texts = row["description"], row["note"]
        photos.append(Photo(path, name, target, *texts, instances, **inside))
    return photos


def list_folder(
    folder: Path, labels: Path | None, lookup: Lookup, skip: bool
) -> tuple[list[Photo], Skipped]:
    """The labelled images of a folder, sorted by class folder and file, and those skipped with why.

    Class sub-folders, or a flat folder with a csv of labels (``labels``, else its own labels.csv).
    With ``skip``, images of an unknown class and images without a row in the csv are skipped;
    everything else that is wrong raises `ImageError`.
    """
    if not os.path.isdir(folder):
        raise ImageError(f"not a folder: {str(folder)!r}")
    files, folders, others = _scan(folder)
    inside = {}
    for name in folders:
        images, nested, more = _scan(folder / name)
        if nested:
            raise ImageError(
                f"{str(folder / name)!r} has folders inside (such as {nested[0]!r}); "
                "expected one level of class folders with the images in them"
            )
        others |= more
        if images:
            inside[name] = images
    if not files and not inside:
        seen = f" (other files there: {', '.join(sorted(others)[:5])})" if others else ""
        raise ImageError(f"no images in {str(folder)!r}{seen}")
    if files and inside:
        raise ImageError(
            f"{str(folder)!r} has images of its own (such as {files[0]!r}) and in class folders "
            f"(such as {next(iter(inside))!r}); expected one or the other"
        )
    if inside:
        if labels is not None:
            raise ImageError(f"labels: {str(folder)!r} has class folders, which name the classes")
        classes = {name: _class_of(lookup, name, f"folder {name!r}", skip) for name in inside}
        listed = [(f"{name}/{file}", classes[name]) for name in inside for file in inside[name]]
    else:
        table = labels or folder / "labels.csv"
        listed = _join(files, folder, table, lookup, skip)
    photos = [
        Photo(folder / file, printable(file), found)
        for file, found in listed
        if isinstance(found, int)
    ]
    return photos, [(printable(file), found) for file, found in listed if isinstance(found, str)]


def printable(name: str) -> str:
    """A file name as text that can be encoded, whatever bytes the file system holds."""
    return os.fsencode(name).decode("utf-8", "replace")


def _rows(name: str) -> Iterator[dict[str, str]]:
    with open(TABLES / name, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _scan(folder: Path) -> tuple[list[str], list[str], set[str]]:
    """Image files, folders, and the extensions of other files; hidden ones are left out."""
    files, folders, others = [], [], set()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ImageError(f"{str(folder)!r} cannot be listed: {error.strerror}") from None
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if os.path.isdir(entry.path):
            folders.append(entry.name)
        elif suffix in SUFFIXES:
            files.append(entry.name)
        elif not os.path.exists(entry.path):  # perhaps a class folder
            raise ImageError(f"{entry.path!r} is a link that leads nowhere")
        else:
            others.add(suffix or printable(entry.name))
    return files, folders, others


def _class_of(lookup: Lookup, label: str, where: str, skip: bool) -> int | str:
    """The class index, or the reason to skip."""
    try:
        return lookup(label)
    except UnknownClass as error:
        if skip:
            return str(error)
        raise ImageError(f"{where}: {error}") from None
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from None


def _join(
    files: list[str], folder: Path, table: Path, lookup: Lookup, skip: bool
) -> list[tuple[str, int | str]]:
    """Each file of a flat folder with the class that the csv gives it, or the reason to skip."""
    alike = defaultdict(list)
    for file in files:
        alike[_plain(file)].append(file)
    rows, found = _read_labels(table, folder), {}
    for line, written, label in rows:
        where = f"{str(table)!r} line {line}"
        meant = [written] if written in alike[_plain(written)] else alike[_plain(written)]
        if len(meant) != 1:
            number = "several images" if meant else "no image"
            raise ImageError(f"{where}: {number} {written!r} in {str(folder)!r}")
        (file,) = meant
        if file in found:
            raise ImageError(f"{where}: a second row for {file!r}")
        found[file] = _class_of(lookup, label, where, skip)
    for file in files:
        if file not in found and not skip:
            raise ImageError(f"{str(table)!r}: no row for the image {file!r}")
    return [(file, found.get(file, "no label")) for file in files]


def _plain(name: str) -> str:
    """A file's name without what a table loses: blanks around it, how its accents are written."""
    return unicodedata.normalize("NFC", name).strip()


def _read_labels(table: Path, folder: Path) -> list[tuple[int, str, str]]:
    """Line number, file and label of every row of a csv with the columns file and label."""
    if not os.path.isfile(table):
        raise ImageError(
            f"{str(folder)!r} has no class folders and {str(table)!r} does not exist; "
            "labels: give a csv file with the columns file,label"
        )
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = [(name or "").strip() for name in reader.fieldnames or ()]
            for wanted in ("file", "label"):
                if columns.count(wanted) != 1:
                    have = ", ".join(columns) or "none"
                    raise ImageError(f"{str(table)!r}: no one column {wanted!r} (columns: {have})")
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{str(table)!r}: not a csv file in UTF-8: {error}") from None
    except OSError as error:
        raise ImageError(f"{str(table)!r} cannot be read: {error.strerror}") from None
    for line, row in rows:
        where = f"{str(table)!r} line {line}"
        if not (row["file"] or "").strip() or not (row["label"] or "").strip():
            raise ImageError(f"{where}: the file or the label is missing")
        if None in row:  # such as tabby, tabby cat
            raise ImageError(f"{where}: more fields than columns; a comma in a name needs quotes")
    return [(line, row["file"], row["label"].strip()) for line, row in rows]
