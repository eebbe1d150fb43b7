"""Which image files there are and what each one's label is; nothing is decoded here."""

import csv
import importlib.util
import io
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.data.files import SUFFIXES, ImageError, file_sha256, open_file
from lib.data.imagenet import TABLES, UnknownClass

Lookup = Callable[[str], int]
Skipped = list[tuple[str, str]]
WNID = re.compile(r"n[0-9]{8}(?![0-9A-Za-z])")


@dataclass(frozen=True)
class Photo:
    """One image file, its class, and what was annotated in it, in coordinates of the crop."""

    path: Path
    name: str
    target: int
    instances: tuple[tuple[float, float, float, float], ...] = ()
    eye: tuple[tuple[float, float], ...] = ()
    foot: tuple[tuple[float, float], ...] = ()


def embedded_photos() -> list[Photo]:
    """The 20 photographs of the package ``foolbox``, without annotation.

    The class index ends the file's name.
    """
    package = importlib.util.find_spec("foolbox")
    if package is None:
        raise ImageError("the embedded photos come with the package foolbox; it is not installed")
    folder = Path(next(iter(package.submodule_search_locations))) / "data"
    photos = []
    for _, row in read_table(TABLES / "photos.csv", ("file",)):
        name, path = row["file"], folder / row["file"]
        if not path.is_file() or file_sha256(path) != row["sha256"]:
            raise ImageError(f"the installed foolbox has not our {name}; the project needs its pin")
        target = int(Path(name).stem.rsplit("_", 1)[1])
        photos.append(Photo(path, name, target))
    return photos


def list_folder(
    folder: Path, labels: Path | None, lookup: Lookup, skip: bool
) -> tuple[list[Photo], Skipped]:
    """The labelled images of a folder, sorted by class folder and file, and those skipped with why.

    Class sub-folders; or a flat folder with a csv of labels (``labels``, else its own labels.csv)
    or with file names that all begin with a wnid, as in n01440764_tench.JPEG.
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
        named = [file for file in files if WNID.match(file)]
        if labels is None and named and not os.path.lexists(table):
            listed = _by_wnid(files, named, folder, lookup, skip)
        else:
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


def _by_wnid(
    files: list[str], named: list[str], folder: Path, lookup: Lookup, skip: bool
) -> list[tuple[str, int | str]]:
    """Each file of a flat folder with the class of the wnid its name begins with, or why not."""
    if len(named) < len(files):
        other = min(set(files) - set(named))
        raise ImageError(
            f"{str(folder)!r} has images whose names begin with a wnid (such as {named[0]!r}) and "
            f"others (such as {other!r}); expected one or the other"
        )
    where = repr(str(folder))
    return [(file, _class_of(lookup, file[:9], f"{where} image {file!r}", skip)) for file in files]


def _join(
    files: list[str], folder: Path, table: Path, lookup: Lookup, skip: bool
) -> list[tuple[str, int | str]]:
    """Each file of a flat folder with the class that the csv gives it, or the reason to skip."""
    if not os.path.isfile(table):
        raise ImageError(
            f"{str(folder)!r} has no class folders and {str(table)!r} does not exist; labels: give "
            "a csv file with the columns file,label, or begin each image's name with its wnid"
        )
    find, found = finder(files), {}
    for where, row in read_table(table, ("file", "label")):
        file = find(row["file"], where)
        if file in found:
            raise ImageError(f"{where}: a second row for {file!r}")
        found[file] = _class_of(lookup, row["label"].strip(), where, skip)
    for file in files:
        if file not in found and not skip:
            raise ImageError(f"{str(table)!r}: no row for the image {file!r}")
    return [(file, found.get(file, "no label")) for file in files]


def finder(files: Iterable[str]) -> Callable[[str, str], str]:
    """``find(written, where)``: the one file that a table means, by its name or its last part.

    A table loses blanks around a name and may write accents in another way.
    """
    alike = defaultdict(list)
    for file in files:
        for name in dict.fromkeys([_plain(file), _plain(file.rpartition("/")[2])]):
            alike[name].append(file)

    def find(written: str, where: str) -> str:
        meant = alike.get(_plain(written), [])
        meant = [written] if written in meant else meant
        if len(meant) != 1:
            number = "several images" if meant else "no image"
            raise ImageError(f"{where}: {number} {written!r} in the folder")
        return meant[0]

    return find


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def read_table(
    table: Path, columns: Sequence[str], others: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Every row of a csv with ``columns`` or with ``others``: where it stands, what it holds."""
    try:
        with open_file(table) as binary:
            file = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            have = [(name or "").strip() for name in reader.fieldnames or ()]
            wanted = others if others and set(others) <= set(have) else columns
            for name in wanted:
                if have.count(name) != 1:
                    shown = ", ".join(have) or "none"
                    raise ImageError(f"{str(table)!r}: no one column {name!r} (columns: {shown})")
            reader.fieldnames = have
            for row in reader:
                where = f"{str(table)!r} line {reader.line_num}"
                for name in wanted:
                    if not (row[name] or "").strip():
                        raise ImageError(f"{where}: the {name} is missing")
                if None in row:  # such as tabby, tabby cat
                    raise ImageError(
                        f"{where}: more fields than columns; a comma in a name needs quotes"
                    )
                yield where, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{str(table)!r}: not a csv file in UTF-8: {error}") from None
    except OSError as error:
        raise ImageError(f"{str(table)!r} cannot be read: {error.strerror}") from None
