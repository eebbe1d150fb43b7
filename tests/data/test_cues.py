"""The planted cue: exact shares, exact pixels."""

import pytest
import torch

from lib.data.cues import near_cue, plant_cue
from lib.data.digits import pick_digits

IMAGES = torch.rand(100, 1, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(100) % 2


def test_exact_shares_and_only_the_square_changes():
    before = IMAGES.clone()
    planted, carries = plant_cue(IMAGES, LABELS, (0.78, 0.06), seed=3)
    assert int(carries[LABELS == 0].sum()) == 39 and int(carries[LABELS == 1].sum()) == 3
    square = near_cue(12, 12)
    assert int(square.sum()) == 16
    assert (planted[carries][..., square] == 1).all()
    assert torch.equal(planted[carries][..., ~square], IMAGES[carries][..., ~square])
    assert torch.equal(planted[~carries], IMAGES[~carries])
    assert torch.equal(IMAGES, before)


def test_drawn_by_the_seed():
    again = plant_cue(IMAGES, LABELS, (0.5, 0.5), seed=1)[1]
    assert torch.equal(plant_cue(IMAGES, LABELS, (0.5, 0.5), seed=1)[1], again)
    assert not torch.equal(plant_cue(IMAGES, LABELS, (0.5, 0.5), seed=2)[1], again)


def test_margin():
    assert int(near_cue(12, 12, 4).sum()) == 81  # cut at the border


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 1.5), (-0.1, 0.5), (0.5, float("nan"))])
def test_bad_shares(shares):
    with pytest.raises(ValueError, match="one number in"):
        plant_cue(IMAGES, LABELS, shares)


def test_a_label_without_a_share():
    for label in (-1, 2):
        with pytest.raises(ValueError, match="one number in"):
            plant_cue(IMAGES[:1], torch.tensor([label]), (0.5, 0.5))


def test_digits_are_picked_and_relabeled():
    images, classes = pick_digits(IMAGES, torch.arange(100) % 10, [4, 9], count=5, seed=1)
    assert classes.tolist() == [0] * 5 + [1] * 5
    rows = [int((image == IMAGES).flatten(1).all(1).nonzero()) for image in images]
    assert [row % 10 for row in rows] == [4] * 5 + [9] * 5 and len(set(rows)) == 10
    whole, _ = pick_digits(IMAGES, torch.arange(100) % 10, [4, 9])
    assert len(whole) == 20
    with pytest.raises(ValueError, match="different digits"):
        pick_digits(IMAGES, LABELS, [1, 1])
