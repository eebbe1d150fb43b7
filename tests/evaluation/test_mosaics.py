"""Mosaics: what lies where, and the scores of maps whose answers are known."""

from types import SimpleNamespace

import pytest
import torch

from lib.attribution import METHODS
from lib.evaluation.localization import energy_in_box
from lib.evaluation.mosaics import in_cells, make_mosaics, own_cell, separation


@pytest.fixture
def photos4():
    """Six 4 x 4 photos of one gray level each; the first two have one class."""
    levels = torch.linspace(0.1, 0.6, 6)
    return levels.view(6, 1, 1, 1).expand(6, 3, 4, 4).clone(), torch.tensor([7, 7, 1, 2, 3, 4])


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2), (1, 3)])
def test_every_cell_holds_its_photo(photos4, rows, columns):
    images, targets = photos4
    mosaics = make_mosaics(images, targets, rows=rows, columns=columns, count=5, seed=1)
    assert mosaics.pixels.shape == (5, 3, 4 * rows, 4 * columns)
    assert (mosaics.cells.sum(0) == 1).all()  # the cells cover the image once
    for m in range(5):
        assert len(set(mosaics.targets[m].tolist())) == rows * columns
        for cell, (member, target) in enumerate(
            zip(mosaics.members[m], mosaics.targets[m], strict=True)
        ):
            assert targets[member] == target
            part = mosaics.pixels[m][:, mosaics.cells[cell]]
            assert torch.equal(part, images[member].flatten(1))
    assert mosaics.cells[1][0, -1] or rows * columns > 2 or columns == 1  # row by row


def test_no_mosaic_twice_and_smaller_counts_are_a_prefix(photos4):
    many = make_mosaics(*photos4, count=14, seed=3)  # 15 pairs less the one of equal class
    sets = {frozenset(members) for members in many.members.tolist()}
    assert len(sets) == 14
    few = make_mosaics(*photos4, count=4, seed=3)
    assert torch.equal(few.members, many.members[:4])
    with pytest.raises(ValueError, match="do not give 15 different mosaics of 2 cells"):
        make_mosaics(*photos4, count=15)
    with pytest.raises(ValueError, match="2 photos of 1 classes"):
        make_mosaics(photos4[0][:2], photos4[1][:2], count=1)


def test_photos_are_resized_on_request(photos4):
    mosaics = make_mosaics(*photos4, count=2, size=3)
    assert mosaics.pixels.shape == (2, 3, 3, 6)


@pytest.mark.usefixtures("unchecked")
def test_bad_input(photos4):
    with pytest.raises(ValueError, match="two cells"):
        make_mosaics(*photos4, rows=1, columns=1)
    with pytest.raises(ValueError, match="count from 1"):
        make_mosaics(*photos4, count=0)
    with pytest.raises(ValueError, match="6 images, 5 targets"):
        make_mosaics(photos4[0], photos4[1][:5])


def test_grid_pointing_scores(photos4):
    mosaics = make_mosaics(*photos4, rows=2, columns=2, count=3)
    uniform = torch.ones(3, 8, 8)
    within_one = mosaics.inside(2).float()
    for cell in range(4):
        share = energy_in_box(uniform, mosaics.inside(cell), mass="positive")
        torch.testing.assert_close(share, torch.full((3,), 0.25))
        share = energy_in_box(within_one, mosaics.inside(cell), mass="positive")
        assert share.tolist() == [float(cell == 2)] * 3


def test_separation(photos4):
    mosaics = make_mosaics(*photos4, count=3)
    left, right = mosaics.inside(0), mosaics.inside(1)
    apart = separation(left.float(), 1000.0 * right, (left, right))  # the scale does not matter
    torch.testing.assert_close(apart, torch.ones(3))
    torch.testing.assert_close(separation(right.float(), left.float(), (left, right)), -apart)
    noise = torch.rand(3, 4, 8)
    torch.testing.assert_close(
        separation(noise, 5 * noise, (left, right)), torch.zeros(3), atol=1e-5, rtol=0
    )
    # left pixel weights 3 : 1 against 1 : 3; d = (1, -1) in every cell pair: wholly apart
    torch.testing.assert_close(
        separation(left * 2.0 + 1, right * 2.0 + 1, (left, right)), torch.ones(3)
    )
    with pytest.raises(ValueError, match="nonnegative"):
        separation(-noise, noise, (left, right))
    with pytest.raises(ValueError, match="not zero everywhere"):
        separation(noise, torch.zeros(3, 4, 8), (left, right))


def test_photos_are_put_into_cells_of_different_classes():
    targets = [5, 5, 5, 1, 1, 2]
    order = in_cells(targets, 2)
    assert len(order) == len(set(order)) == 4
    assert all(targets[a] != targets[b] for a, b in zip(order[::2], order[1::2], strict=True))
    assert in_cells([7, 3, 9, 4], 2) == [0, 1, 2, 3]  # one of each class: their own order
    assert in_cells([1, 1], 2) == [] == in_cells([], 4)


def test_own_cell_counts_what_a_map_leaves_in_its_cell(monkeypatch):
    def quarter(classifier, images, targets):
        """All mass in the first cell's upper left pixel, but a quarter of it, negative, outside."""
        maps = torch.zeros(len(images), 1, *images.shape[2:])
        maps[:, :, 0, 0], maps[:, :, 0, -1] = 3.0, -1.0
        return maps

    monkeypatch.setitem(METHODS, "quarter", quarter)
    photos = SimpleNamespace(targets=torch.tensor([4, 2, 0, 3]), names=list("abcd"))
    pixels = torch.rand(4, 3, 8, 8)
    given = {"methods": {"quarter": {}}, "grid": [1, 2], "seed": 0}
    rows = own_cell(None, photos, pixels, given)
    assert rows["image"].tolist() == [0, 2, 1, 3] and rows["mosaic"].tolist() == list("acac")
    assert rows["positive"].tolist() == [1, 1, 0, 0] == rows["hit"].tolist()
    assert rows["absolute"].tolist() == pytest.approx([0.75, 0.75, 0.25, 0.25])
    with pytest.raises(ValueError, match="4 photos are no whole mosaics of 1 x 3"):
        own_cell(None, photos, pixels, given | {"grid": [1, 3]})
