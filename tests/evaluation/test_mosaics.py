"""Mosaics: what lies where, and the scores of maps whose answers are known."""

from types import SimpleNamespace

import pytest
import torch

from lib.evaluation import mosaics as module
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


def test_no_photo_is_in_two_mosaics_and_no_class_twice_in_one():
    order = in_cells([7, 7, 1, 2, 7, 1], 2)  # rounds: 7 1 2, then 7 1, then 7
    assert order == [0, 2, 1, 5]
    assert in_cells([7, 7, 7], 2) == []


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


PHOTOS = SimpleNamespace(targets=torch.tensor([0, 1, 2, 3]), names=list("abcd"))
PIXELS = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_own_cell_of_planted_maps(small, monkeypatch):
    def planted(classifier, images, targets, methods, *, seed):
        """The map of an even class is on the left; of an odd one everywhere."""
        maps = torch.ones(len(images), 3, *images.shape[2:])
        maps[targets % 2 == 0, :, :, 16:] = 0
        maps[:, :, 0, 0] = -100  # evidence against: no part of the positive mass
        return dict.fromkeys(methods, maps)

    monkeypatch.setattr(module, "maps_by_label", planted)
    given = {"methods": {"one": {}, "other": {}}, "grid": [1, 2], "seed": 0}
    rows = own_cell(small, PHOTOS, PIXELS, given)
    assert rows["image"].tolist() == [0, 2, 0, 2, 1, 3, 1, 3] and set(rows["mosaic"]) == {"a", "c"}
    half = 256 / (256 + 255)  # one pixel of the left cell is negative
    assert rows.groupby("cell")["positive"].mean().tolist() == pytest.approx([1, half])
    absolute = rows.groupby("cell")["absolute"].mean()
    assert absolute.tolist() == pytest.approx([1, 256 / (256 + 255 + 100)])
    apart = rows.groupby("mosaic")["apart"]
    assert apart.nunique().eq(1).all() and apart.mean().between(0.9, 1).all()  # from either side
    with pytest.raises(ValueError, match="no whole mosaics"):
        own_cell(small, PHOTOS, PIXELS[:3], given)


def test_controls_know_no_class(small):
    methods = {"gradient": {}, "random": {}, "edges": {}}
    rows = own_cell(small, PHOTOS, PIXELS, {"methods": methods, "grid": [2, 2], "seed": 0})
    rows = rows.set_index("method")
    assert rows.loc["random", "positive"].sum() == pytest.approx(1)  # one map for all classes
    assert rows.loc[["random", "edges"], "apart"].isna().all()
    assert rows.loc["gradient", "apart"].between(0, 1).all()
