"""The form of what we annotated in a public folder's photos, which the tests do not have."""

import csv
from pathlib import Path

import pytest

from lib.data import imagenet
from lib.data.annotations import COLUMNS


def rows(what: str) -> list[dict[str, str]]:
    path = Path(__file__).parents[2] / f"params/thousand/{what}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        found = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS[what]
    return found


def corners(row: dict[str, str]) -> list[float]:
    return [float(row[edge]) for edge in ("x0", "y0", "x1", "y1")]


@pytest.mark.parametrize("what", sorted(COLUMNS))
def test_names_are_of_imagenets_photos(what):
    wnids, files = set(imagenet.wnids()), [row["file"] for row in rows(what)]
    for file in files:
        assert file.split("_")[0] in wnids and file.endswith(".JPEG") and "/" not in file
    assert files == sorted(files)


def test_one_box_for_each_photo():
    boxes = rows("boxes")
    assert len({row["file"].split("_")[0] for row in boxes}) == len(boxes) == 150
    for row in boxes:
        x0, y0, x1, y1 = corners(row)
        assert 0 <= x0 < x1 and 0 <= y0 < y1


def test_eyes_and_feet_lie_in_the_boxes():
    boxes = {row["file"]: corners(row) for row in rows("boxes")}
    points = [row for row in rows("points") if row["file"] in boxes]
    assert len({row["file"] for row in points}) > 9
    for row in points:
        x0, y0, x1, y1 = boxes[row["file"]]
        assert x0 <= float(row["x"]) <= x1 and y0 <= float(row["y"]) <= y1, row
