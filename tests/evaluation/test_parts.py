"""Windows at annotated points: by hand, at borders, outside, and from a csv."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.images import load_images
from lib.evaluation.parts import have_both, paired_parts, part_windows, read_keypoints


def test_a_window_is_the_mean_around_the_pixel_of_the_point():
    maps = torch.arange(100.0).view(1, 10, 10)
    points = [{"eye": [(4.0, 6.0), (4.9, 6.9)], "foot": [(5.0, 6.0)]}]
    frame = part_windows(maps, points)
    assert frame["value"].tolist() == [64, 64, 65]  # the mean of a plane is its center
    assert part_windows(maps, points, window=1)["value"].tolist() == [64, 64, 65]
    corner = [{"eye": [(0.2, 0.7)], "foot": [(9.9, 9.0)]}]
    cut = part_windows(maps, corner)["value"].tolist()
    assert cut == [maps[0, :3, :3].mean().item(), maps[0, 7:, 7:].mean().item()]
    assert part_windows(maps, points)["inside"].all()


def test_points_outside_are_counted_and_left_out():
    maps = torch.ones(2, 10, 10)
    points = [
        {"eye": [(-0.1, 3), (10.0, 3), (3, 3)], "foot": [(5, 5)]},
        {"eye": [(3, 3)], "foot": [(5, 10.0)]},
    ]
    frame = part_windows(maps, points)
    assert frame["inside"].tolist() == [False, False, True, True, True, False]
    assert frame["value"].isna().sum() == 3
    pairs = paired_parts(frame)
    assert pairs.index.tolist() == [0] and pairs.loc[0].tolist() == [1, 1]


def test_parts_are_paired_by_animal():
    maps = torch.zeros(3, 20, 20)
    maps[0, 3, 3], maps[0, 15, 15], maps[1, 3, 3] = 25, 50, 100
    points = [
        {"eye": [(3.5, 3.5), (15.5, 15.5)], "foot": [(10, 3)]},
        {"eye": [(3.5, 3.5)], "foot": [(10, 10), (3.5, 3.5)]},
        {"eye": [(3.5, 3.5)], "foot": []},
    ]
    pairs = paired_parts(part_windows(maps, points))
    assert pairs.index.tolist() == [0, 1]
    assert pairs["eye"].tolist() == [1.5, 4] and pairs["foot"].tolist() == [0, 2]
    assert have_both(points).tolist() == [True, True, False]


@pytest.mark.usefixtures("unchecked")
def test_bad_input():
    maps = torch.ones(1, 10, 10)
    points = [{"eye": [(3, 3)], "foot": []}]
    with pytest.raises(ValueError, match="no image has a point for part 'foot'"):
        part_windows(maps, points)
    with pytest.raises(ValueError, match="odd"):
        part_windows(maps, points, window=4)
    with pytest.raises(ValueError, match="2 lists of points for 1 maps"):
        part_windows(maps, points * 2)
    with pytest.raises(ValueError, match=r"maps must be \(N, H, W\)"):
        part_windows(maps[None], points)


def test_a_point_that_is_no_number_counts_as_outside():
    points = [{"eye": [(float("nan"), 3)], "foot": [(3, float("inf"))]}]
    frame = part_windows(torch.ones(1, 10, 10), points)
    assert frame["inside"].tolist() == [False, False] and frame["value"].isna().all()


def test_the_embedded_animals(photos):
    both = have_both(photos.parts)
    assert both.sum() == 5
    frame = part_windows(torch.rand(20, 224, 224), photos.parts)
    assert frame["inside"].all() and len(paired_parts(frame)) == 5


@pytest.fixture
def folder(tmp_path):
    for name, size in (("dogs/a.png", (256, 256)), ("cats/b.png", (512, 256))):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
    return tmp_path


def listed(folder, rows):
    path = folder / "points.csv"
    path.write_text("file,part,x,y\n" + "\n".join(rows) + "\n")
    photos = load_images(folder / "images", categories=["dogs", "cats"])
    return path, photos


def test_keypoints_from_a_csv(folder):
    rows = ["dogs/a.png,eye,128,100", "a.png,foot,20,240", "b.png,eye,256,128", "b.png,foot,10,10"]
    path, photos = listed(folder, [*rows, "c.png,eye,1,1", "a.png,tail,1,1"])
    points, left_out = read_keypoints(path, photos)
    by_name = dict(zip(photos.names, points, strict=True))
    # resize 256, crop 224: 16 pixels are cut on each side, 144 of the wide photo's left and right
    assert by_name["dogs/a.png"] == {"eye": [(112.0, 84.0)], "foot": []}  # 240 - 16 is outside
    assert by_name["cats/b.png"] == {"eye": [(112.0, 112.0)], "foot": []}
    assert left_out["other_part"] == 1 and left_out["unknown_file"] == 1
    assert left_out["outside"] == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.png,eye,300,10"], "lies outside a.png, which has 256 x 256"),
        (["a.png,eye,left,10"], "line 2: .* is no point"),
        (["a.png,eye,nan,10"], "lies outside"),
        (["a.png,eye,10"], "line 2: a value is missing"),
        (["c.png,eye,10,10"], "no point of eye, foot lies in any"),
    ],
)
def test_a_bad_csv_is_named(folder, rows, message):
    path, photos = listed(folder, rows)
    with pytest.raises(ValueError, match=message):
        read_keypoints(path, photos)


def test_a_missing_csv_or_column_is_named(folder):
    path, photos = listed(folder, [])
    with pytest.raises(ValueError, match="no such file"):
        read_keypoints(folder / "other.csv", photos)
    path.write_text("file,x,y\na.png,1,2\n")
    with pytest.raises(ValueError, match="expected the columns file,part,x,y"):
        read_keypoints(path, photos)
