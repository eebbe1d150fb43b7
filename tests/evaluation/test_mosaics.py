"""Mosaics: what lies where, and the scores of maps whose answers are known."""

from types import SimpleNamespace

import pytest
import torch

from lib.attribution import METHODS
from lib.evaluation.localization import energy_in_box
from lib.evaluation.mosaics import in_cells, own_cell, right_share, tile


@pytest.fixture
def photos4():
    """Six 4 x 4 photos of one gray level each; the first two have one class."""
    levels = torch.linspace(0.1, 0.6, 6)
    return levels.view(6, 1, 1, 1).expand(6, 3, 4, 4).clone(), torch.tensor([7, 7, 1, 2, 3, 4])


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2), (1, 3)])
def test_every_cell_holds_its_photo(photos4, rows, columns):
    images, targets = photos4
    cells = rows * columns
    members = torch.tensor(in_cells(targets.tolist(), cells)).view(-1, cells)
    mosaics = tile(images, targets, members, rows, columns)
    assert mosaics.pixels.shape == (len(members), 3, 4 * rows, 4 * columns)
    assert (mosaics.cells.sum(0) == 1).all()  # the cells cover the image once
    for m in range(len(members)):
        assert len(set(mosaics.targets[m].tolist())) == cells
        for cell, (member, target) in enumerate(
            zip(mosaics.members[m], mosaics.targets[m], strict=True)
        ):
            assert targets[member] == target
            part = mosaics.pixels[m][:, mosaics.cells[cell]]
            assert torch.equal(part, images[member].flatten(1))
    assert mosaics.cells[1][0, -1] or cells > 2 or columns == 1  # row by row


def test_grid_pointing_scores(photos4):
    mosaics = tile(*photos4, torch.tensor([[0, 2, 3, 4]]), 2, 2)
    uniform, within_one = torch.ones(1, 8, 8), mosaics.inside(2).float()
    for cell in range(4):
        share = energy_in_box(uniform, mosaics.inside(cell), mass="positive")
        torch.testing.assert_close(share, torch.full((1,), 0.25))
        share = energy_in_box(within_one, mosaics.inside(cell), mass="positive")
        assert share.tolist() == [float(cell == 2)]


def test_right_share(photos4):
    mosaics = tile(*photos4, torch.tensor([[0, 2, 3, 4]] * 2), 2, 2)
    one, two, three = (mosaics.inside(cell) for cell in (0, 1, 2))

    def share(first, second):
        return right_share(first, second, one, two).tolist()

    apart = share(one.float(), 1000.0 * two)  # the scale does not matter
    assert apart == [1, 1] and share(two.float(), one.float()) == [0, 0]
    assert share(1.0 + one, torch.ones(2, 8, 8)) == pytest.approx([2 / 3, 2 / 3])
    # the first map is as strong in a third cell, where it is wrong
    assert share(one + three.float(), 1.0 * two) == pytest.approx([0.75, 0.75])
    noise = torch.rand(2, 8, 8)
    assert all(value != value for value in share(noise, 5 * noise))  # equal maps: NaN
    assert all(value != value for value in share(noise, torch.zeros(2, 8, 8)))


def test_photos_are_put_into_cells_of_different_classes():
    targets = [5, 5, 5, 1, 1, 2]
    order = in_cells(targets, 2)
    assert order[:2] == [0, 3] and sorted(order) == list(range(6))  # none is left over
    assert all(targets[a] != targets[b] for a, b in zip(order[::2], order[1::2], strict=True))
    assert in_cells([7, 3, 9, 4], 2) == [0, 1, 2, 3]  # one of each class: their own order
    assert in_cells([1, 1], 2) == [] == in_cells([], 4)
    twenty = [*range(19), 3]  # as the embedded photos: a class twice, all the same ten mosaics
    assert in_cells(twenty, 2) == list(range(20))


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


def test_classes_that_are_told_apart(small, monkeypatch):
    def left(classifier, images, targets):
        """The map of an even class is on the left; of an odd one everywhere."""
        maps = torch.ones(len(images), 1, *images.shape[2:])
        maps[targets % 2 == 0, :, :, 8:] = 0
        return maps

    monkeypatch.setitem(METHODS, "left", left)
    photos = SimpleNamespace(targets=torch.tensor([0, 1, 2, 3]), names=list("abcd"))
    given = {"methods": {"left": {}, "gradient": {}, "edges": {}}, "seed": 0}
    rows = own_cell(small, photos, torch.rand(4, 3, 8, 8), given | {"grid": [1, 2]})
    rows = rows.set_index("method")
    assert rows.loc["left", "apart"].tolist() == pytest.approx([1] * 4)  # from either side
    assert rows.loc["edges", "apart"].isna().all()  # one map for all classes
    rows = own_cell(small, photos, torch.rand(4, 3, 8, 8), given | {"grid": [2, 2]})
    assert rows.set_index("method").loc["gradient", "apart"].between(0, 1).all()
