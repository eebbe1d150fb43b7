"""What decides in a constructed scene is what was said to decide, and nothing else."""

import pytest
import torch

from lib.data.constructed import (
    CATEGORIES,
    COLORS,
    PARTS,
    REGIONS,
    SHAPES,
    constructed_scenes,
    scenes_task,
)

N = 200


@pytest.fixture(scope="module")
def scenes():
    return constructed_scenes(N, seed=3)


def without(region):
    return constructed_scenes(N, seed=3, without=region)


def changed(a, b):
    return (a.images != b.images).any(1)


def test_regions_cover_the_picture_once_and_both_parts_have_the_same_size(scenes):
    counted = torch.stack([scenes.regions[r] for r in REGIONS]).sum(0)
    assert (counted == 1).all()
    for part in ("part", "distractor"):
        assert (scenes.regions[part].sum((1, 2)) == 49).all()


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_taken_away_changes_its_own_pixels_only(scenes, region):
    gone = without(region)
    pixels = changed(scenes, gone)
    assert pixels.flatten(1).any(1).all()
    place = scenes.regions[region]
    if region == "background":  # the texture is seen between the strokes of a part, too
        place = place | scenes.regions["part"] | scenes.regions["distractor"]
    assert not (pixels & ~place).any()
    assert torch.equal(gone.targets, scenes.targets)


def test_the_label_is_the_shape_of_the_red_part(scenes):
    """From the pixels that go with the part: corners and center tell the four shapes apart."""
    ink = changed(scenes, without("part"))
    for k, label in enumerate(scenes.targets.tolist()):
        rows, columns = torch.where(scenes.regions["part"][k])
        tile = ink[k, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        top, bottom, center = bool(tile[0, 0]), bool(tile[6, 0]), bool(tile[3, 3])
        told = {(1, 1, 1): "square", (0, 1, 1): "triangle", (0, 0, 1): "cross", (0, 0, 0): "ring"}
        assert told[top, bottom, center] == SHAPES[label]
        color = scenes.images[k][:, ink[k]]
        assert (color[0] > 0.6).all() and (color[2] < 0.2).all(), "and it is the red one"


def test_the_distractor_and_the_place_tell_nothing_about_the_label():
    many = constructed_scenes(4000, seed=1)
    blue = torch.tensor(COLORS["distractor"]).view(3, 1, 1)
    ink = ((many.images / blue).std(1) < 0.01).sum((1, 2)).float()  # its size tells its shape
    rows = many.regions["part"].float().mean(2) @ torch.arange(28.0)
    for told in (ink, rows):
        means = torch.stack([told[many.targets == c].mean() for c in range(4)])
        assert (means - told.mean()).abs().max() < 5 * told.std() / 1000**0.5
    assert (torch.bincount(many.targets) / 4000 - 0.25).abs().max() < 0.035  # 5 standard errors


def test_a_scene_is_its_seed_and_number(scenes):
    few = constructed_scenes(5, seed=3)
    assert torch.equal(few.images, scenes.images[:5])
    assert torch.equal(few.targets, scenes.targets[:5])
    assert changed(few, constructed_scenes(5, seed=4)).flatten(1).any(1).all()
    assert len(scenes.images[:, 0].flatten(1).unique(dim=0)) == N


def test_a_task_has_pictures_with_each_gap_and_one_without_the_part_is_of_no_shape():
    task, whole = scenes_task(20, test=8, seed=3), constructed_scenes(20, seed=3)
    assert task.train_images.shape == (20, 3, 28, 28) and task.test_images.shape == (8, 3, 28, 28)
    assert task.train_images.min() >= 0 and task.train_images.max() <= 1
    for first, region in enumerate((None, *PARTS)):
        gap, rows = constructed_scenes(20, seed=3, without=region), slice(first, None, 4)
        assert torch.equal(task.train_images[rows], gap.images[rows])
        none = torch.full((5,), CATEGORIES.index("none"))
        expected = none if region == "part" else whole.targets[rows]
        assert torch.equal(task.train_labels[rows], expected)


def test_a_task_asks_about_scenes_that_were_not_learned():
    task = scenes_task(20, test=20, seed=3)
    learned = task.train_images.flatten(1)
    assert not any((learned == image).all(1).any() for image in task.test_images.flatten(1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "the number of scenes must be at least 1, not 0"),
        ({"n": 3, "without": "beak"}, "region 'beak' is unknown; choose one of: part, distractor"),
    ],
)
def test_bad_input_is_one_line(wrong, message):
    with pytest.raises(ValueError, match=message) as found:
        constructed_scenes(**wrong)
    assert "\n" not in str(found.value)
