"""Removal curves: what is removed, in which order, and what is left of the score."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.attribution import METHODS
from lib.copies.fills import FILLS
from lib.core import draws
from lib.evaluation.boxes import inside_boxes
from lib.evaluation.maps import magnitude, signed
from lib.evaluation.removal import (
    ORDERS,
    areas,
    removal,
    removal_counts,
    removal_curves,
    removal_order,
    remove,
)

H, W = 5, 8
FRACTIONS = (0, 0.1, 0.25, 0.5, 0.8, 1)
TARGETS = torch.tensor([1, 0, 2])


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, H, W, generator=torch.Generator().manual_seed(0)).clamp(0.01)


@pytest.fixture(scope="module")
def maps():
    return torch.randn(3, H, W, generator=torch.Generator().manual_seed(1))


def curves(network, images, maps, order="morf", fractions=FRACTIONS, **options):
    targets = options.pop("targets", TARGETS[: len(images)])
    return removal_curves(
        network, images, targets, maps, order=order, fractions=fractions, **options
    )


def values(frame: pd.DataFrame, score: str) -> np.ndarray:
    return frame[score].to_numpy().reshape(frame["image"].nunique(), -1)


# --- several maps at once ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fill", ["black", "uniform"])
@pytest.mark.parametrize("fractions", [FRACTIONS, (1, 0.5, 0), (0, 1), (0.2, 0.4)])
def test_maps_by_name_equal_one_after_the_other(order, fill, fractions, images, maps, small):
    named = {"one": maps, "other": maps.flip(2), "flat": torch.zeros_like(maps)}
    together = curves(small, images, named, order, fractions, fill=fill)
    assert list(together["method"].unique()) == list(named)
    for name, values_ in named.items():
        alone = curves(small, images, values_, order, fractions, fill=fill)
        part = together[together["method"] == name].drop(columns="method").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone, rtol=1e-6)


def test_the_ends_of_maps_by_name_are_scored_once(images, maps, small, monkeypatch):
    scored, scores = [], small.scores
    monkeypatch.setattr(small, "scores", lambda x: scored.append(len(x)) or scores(x))
    named = {"one": maps, "other": maps.flip(2), "third": maps.flip(1)}
    curves(small, images, named)
    inner, ends = len(FRACTIONS) - 2, 2
    assert sum(scored) == len(images) * (inner * len(named) + ends)


def test_no_map_at_all_is_refused(images, small):
    with pytest.raises(ValueError, match="no map to remove"):
        curves(small, images, {})


# --- which pixels --------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fraction", [0, 0.1, 0.33, 0.5, 0.999, 1])
def test_the_right_number_of_the_right_pixels_in_all_channels(order, fraction, images, maps):
    changed = remove(images, maps, fraction, order=order) != images
    assert torch.equal(changed[:, 0], changed[:, 1]) and torch.equal(changed[:, 0], changed[:, 2])
    count = round(fraction * H * W)
    for gone, value in zip(changed[:, 0], maps, strict=True):
        assert int(gone.sum()) == count
        expected = value.flatten().sort(descending=order == "morf").values[:count]
        assert set(value[gone].tolist()) == set(expected.tolist())


def test_a_mostly_zero_map_does_not_lose_everything(images):
    """Counting, not thresholding: a ReLU map has many ties at zero."""
    sparse = torch.zeros(3, H, W)
    sparse[:, 2, 3] = 1
    for order in ORDERS:
        gone = (remove(images, sparse, 0.3, order=order) != images)[:, 0]
        assert gone.flatten(1).sum(1).tolist() == [12] * 3
        assert gone[:, 2, 3].tolist() == [order == "morf"] * 3
    thresholded = sparse <= sparse.flatten(1).quantile(0.3, 1).view(-1, 1, 1)
    assert thresholded.flatten(1).sum(1).tolist() == [39] * 3  # what a percentile would remove


def test_ties_are_shuffled_by_image_and_seed(images):
    keys = draws.image_keys(images)
    flat = torch.zeros(3, H, W)
    ranks = removal_order(flat, "morf", keys)
    assert all(sorted(row) == list(range(H * W)) for row in ranks.tolist())
    assert len({tuple(row) for row in ranks.tolist()}) == 3
    assert ranks.tolist() != removal_order(flat, "morf", keys, seed=1).tolist()
    assert torch.equal(ranks, removal_order(flat, "morf", keys))
    # no direction is favored: the mean rank of the upper half is that of a random half
    many = removal_order(torch.zeros(200, H, W), "lerf", range(200)).double().view(200, H, W)
    error = (H * W) / 12**0.5 / 200**0.5  # of one pixel's mean rank
    assert (many.mean(0) - (H * W - 1) / 2).abs().max() < 4.5 * error
    assert torch.argsort(flat[0].flatten(), stable=True)[0] == 0  # as an unshuffled sort would


def test_least_relevant_first_of_a_map_is_most_relevant_first_of_its_negative(maps):
    tied = maps.round()
    for one in (maps, tied):
        a = removal_order(one, "lerf", [1, 2, 3])
        assert torch.equal(a, removal_order(-one, "morf", [1, 2, 3]))
    reverse = H * W - 1 - removal_order(maps, "lerf", [1, 2, 3])
    assert torch.equal(removal_order(maps, "morf", [1, 2, 3]), reverse)


def test_counts():
    assert removal_counts([0, 0.1, 0.5, 1], 50176) == [0, 5018, 25088, 50176]
    for bad in ([], [-0.1], [1.01], [float("nan")]):
        with pytest.raises(ValueError):
            removal_counts(bad, 10)


# --- the scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
def test_the_ends_of_a_curve(fill, small, images, maps):
    frame = curves(small, images, maps, fill=fill)
    with torch.no_grad():
        clean = small(images)
    logit = clean.gather(1, TARGETS[:, None])[:, 0]
    assert np.allclose(values(frame, "logit")[:, 0], logit, atol=1e-4)
    probability = clean.softmax(1).gather(1, TARGETS[:, None])[:, 0]
    assert np.allclose(values(frame, "probability")[:, 0], probability, atol=1e-4)
    right = (clean.argmax(1) == TARGETS).double()
    assert np.array_equal(values(frame, "accuracy")[:, 0], right)
    # with nothing left the order does not matter
    other = curves(small, images, maps, order="lerf", fill=fill)
    assert np.allclose(values(frame, "logit")[:, -1], values(other, "logit")[:, -1], atol=1e-4)
    whole = remove(images, maps, 1, order="morf", fill=fill)
    with torch.no_grad():
        empty = small(whole).gather(1, TARGETS[:, None])[:, 0]
    assert np.allclose(values(frame, "logit")[:, -1], empty, atol=1e-4)
    if fill == "black":
        assert whole.abs().max() == 0
    if fill == "mean":
        assert torch.allclose(whole, images.mean((2, 3), keepdim=True).expand_as(whole))
    if fill in ("uniform", "road"):
        assert whole.std() > 0.005


def test_the_frame_is_tidy_and_steps_are_what_remove_shows(small, images, maps):
    frame = curves(small, images, maps, order="lerf", fill="uniform", seed=3)
    assert list(frame.columns) == ["image", "fraction", "probability", "logit", "accuracy"]
    assert frame["image"].tolist() == [i for i in range(3) for _ in FRACTIONS]
    assert frame["fraction"].tolist() == list(FRACTIONS) * 3
    for step, fraction in enumerate(FRACTIONS):
        shown = remove(images, maps, fraction, order="lerf", fill="uniform", seed=3)
        with torch.no_grad():
            logits = small(shown).gather(1, TARGETS[:, None])[:, 0]
        assert np.allclose(values(frame, "logit")[:, step], logits, atol=1e-4)


def test_the_target_stays_the_same_class_throughout(small, images, maps):
    frames = [curves(small, images, maps, targets=torch.full((3,), k)) for k in range(4)]
    total = sum(values(frame, "probability") for frame in frames)
    assert np.allclose(total, 1, atol=1e-5)
    assert np.array_equal(sum(values(frame, "accuracy") for frame in frames), np.ones_like(total))


def test_the_exact_envelope_of_a_linear_model(exact):
    """On F = wx + b, exact attribution's MoRF is the lower and LeRF the upper envelope."""
    random = torch.Generator().manual_seed(5)
    weights = torch.randn(3 * H * W, 2, generator=random).double()
    network = exact(lambda x: x.flatten(1) @ weights + 0.7, channels=3)
    image = torch.rand(1, 3, H, W, generator=random).double()
    target = torch.tensor([1])
    contributions = (weights[:, 1].view_as(image) * image).sum(1)  # fill: black
    every = [k / (H * W) for k in range(H * W + 1)]

    def logits(one, order="morf"):
        frame = curves(network, image, one, order, every, targets=target)
        return values(frame, "logit")[0]

    morf, lerf = logits(contributions), logits(contributions, "lerf")
    ranked = contributions.flatten().sort(descending=True).values
    score = float(network(image)[0, 1])
    assert np.allclose(morf[1:], score - ranked.cumsum(0).numpy(), atol=1e-9)
    assert np.allclose(lerf[1:], score - ranked.flip(0).cumsum(0).numpy(), atol=1e-9)
    assert np.allclose(logits(-contributions), lerf)
    assert np.allclose(logits(-contributions, "lerf"), morf)
    for seed in range(20):
        other = logits(torch.randn(1, H, W, generator=torch.Generator().manual_seed(seed)))
        assert (other >= morf - 1e-9).all() and (other <= lerf + 1e-9).all()
        assert np.allclose(other[[0, -1]], morf[[0, -1]])
    # a map that is wrong in two pixels would be seen
    wrong = contributions.flatten().clone()
    ends = torch.stack([wrong.argmax(), wrong.argmin()])
    wrong[ends] = wrong[ends.flip(0)]
    assert (logits(wrong.view(1, H, W)) > morf + 1e-6).any()


def test_a_constant_map_is_a_random_order(exact):
    weights = torch.linspace(-1, 2, 3 * H * W).double().view(-1, 1)  # a gradient down the image
    network = exact(lambda x: x.flatten(1) @ weights, channels=3)
    images = torch.ones(200, 3, H, W).double()
    images += torch.arange(200).view(-1, 1, 1, 1) * 0  # the same picture...
    images[:, 0, 0, 0] = torch.arange(200) / 255  # ... but for the pixel that names it
    zeros = torch.zeros(200, dtype=torch.long)
    frame = curves(network, images, torch.zeros(200, H, W), fractions=(0, 0.5, 1), targets=zeros)
    clean, half, empty = values(frame, "logit").T
    error = (half - clean / 2).std() / 200**0.5
    assert abs((half - (clean + empty) / 2).mean()) < 4 * error
    top_first = torch.arange(H * W, 0, -1.0).view(1, H, W).expand(200, H, W)
    biased = values(curves(network, images, top_first, fractions=(0.5,), targets=zeros), "logit")
    assert abs((biased[:, 0] - (clean + empty) / 2).mean()) > 20 * error


@pytest.mark.slow
def test_on_the_photos(classifier, photos, pixels):
    few = [0, 4]
    images, targets = pixels[few], photos.targets[few]
    maps = torch.rand(2, 224, 224, generator=torch.Generator().manual_seed(0))
    frame = curves(classifier, images, maps, fractions=(0, 0.5, 1), fill="mean", targets=targets)
    probability = values(frame, "probability")
    assert (probability[:, 0] > 0.5).all() and (probability[:, 2] < 0.05).all()
    assert values(frame, "accuracy")[:, 0].tolist() == [1, 1]


# --- fills ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
def test_fills_change_removed_pixels_only(fill, images):
    removed = torch.rand(3, H, W, generator=torch.Generator().manual_seed(2)) < 0.5
    keys, before = [(0, k) for k in range(3)], images.clone()
    filled = FILLS[fill](images, removed, keys)
    assert torch.equal(images, before)
    kept = ~removed[:, None].expand_as(images)
    assert torch.equal(filled[kept], images[kept])
    assert not torch.isclose(filled[~kept], images[~kept], atol=1e-6).all()
    alone = torch.cat(
        [FILLS[fill](images[i : i + 1], removed[i : i + 1], keys[i : i + 1]) for i in range(3)]
    )
    assert torch.allclose(alone, filled, atol=1e-6)


def test_noise_is_uniform_and_keyed():
    images, removed = torch.full((2, 3, 50, 50), 0.5), torch.ones(2, 50, 50, dtype=torch.bool)
    noise = FILLS["uniform"](images, removed, [(0, 1), (0, 2)])
    assert noise.min() >= 0 and noise.max() < 1 and abs(noise.mean() - 0.5) < 0.01
    assert not torch.equal(noise[0], noise[1]) and not torch.equal(noise[0, 0], noise[0, 1])


# --- areas, boxes, maps --------------------------------------------------------------------------


def test_areas_by_hand():
    frame = pd.DataFrame(
        {
            "image": [0, 0, 0, 1, 1, 1],
            "fraction": [0, 0.25, 1, 1, 0, 0.25],  # the second one unordered
            "logit": [4.0, 2.0, 0.0, 1.0, 1.0, 1.0],
        }
    )
    found = areas(frame, "logit", ["image"]).set_index("image")["area"]
    assert found.to_dict() == pytest.approx({0: 0.25 * 3 + 0.75 * 1, 1: 1.0})
    everything = frame.assign(method="m", order="morf")
    assert len(areas(everything, "logit", ["method", "order", "image"])) == 2
    assert areas(frame, "logit", ["image"])["area"][0] != pytest.approx(2.0)  # the plain mean


def test_boxes_are_half_open_in_pixel_centers():
    one = torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    two = torch.tensor([[0.0, 0.0, 0.6, 1.0], [3.4, 2.0, 4.0, 3.0]])
    inside = inside_boxes([one, two, torch.empty(0, 4)], 3, 4)
    assert inside[0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert inside[1].nonzero().tolist() == [[0, 0], [2, 3]]
    assert not inside[2].any()
    assert inside_boxes([torch.tensor([[0.0, 0, 4, 3]])], 3, 4).all()


def test_share_outside_by_hand(exact):
    network = exact(lambda x: x.flatten(1)[:, :2], channels=3)
    inside = torch.zeros(2, 2, 4, dtype=torch.bool)
    inside[0, :, :2] = True  # the second image has no object
    maps = torch.tensor([[[8.0, 7, 1, 2], [6, 5, 3, 4]]]).expand(2, -1, -1)
    given = network, torch.rand(2, 3, 2, 4).double(), torch.zeros(2, dtype=torch.long)
    asked = {"fractions": [0, 0.5, 0.75, 1], "inside": inside}
    found = {o: removal_curves(*given, maps, order=o, **asked)["outside"] for o in ORDERS}
    assert found["lerf"][1:4].tolist() == pytest.approx([1, 4 / 6, 0.5])
    assert found["morf"][1:4].tolist() == pytest.approx([0, 2 / 6, 0.5])
    assert found["lerf"].isna().tolist() == [True, False, False, False] + [True] * 4
    many = torch.rand(300, 3, 2, 4).double(), torch.zeros(300, dtype=torch.long)
    flat = {"fractions": [0.25], "inside": inside[:1].expand(300, 2, 4), "order": "lerf"}
    flat = removal_curves(network, *many, torch.zeros(300, 2, 4), **flat)["outside"]
    assert abs(flat.mean() - 0.5) < 4 * flat.std() / 300**0.5


def test_reductions_keep_or_drop_the_sign():
    attribution = torch.tensor([1.0, -3.0, 0.5]).view(1, 3, 1, 1)
    assert signed(attribution).item() == -1.5 and magnitude(attribution).item() == 4.5


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_one_clear_error(small, images, maps):
    bad = [
        ({"order": "first"}, "order 'first' is unknown"),
        ({"fill": "gray"}, "fill 'gray' is unknown; choose one of: black"),
        ({"fractions": (0, 1.2)}, r"must be numbers in \[0, 1\]"),
        ({"fractions": ()}, r"must be numbers in \[0, 1\]"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            curves(small, images, maps, **options)
    for wrong in (maps[:2], maps[:, None], maps[..., :-1], maps.transpose(1, 2)):
        with pytest.raises(ValueError, match="do not fit the images"):
            curves(small, images, wrong)
    with pytest.raises(ValueError, match="holds NaN"):
        curves(small, images, maps.masked_fill(maps > 2, float("nan")).clamp(max=1e9))
    with pytest.raises(ValueError):
        removal_order(maps, "morf", [1, 2])  # a key is missing


@pytest.fixture
def given(monkeypatch, exact):
    """What a protocol is given: a method larger to the left, and photos, the second boxless."""
    monkeypatch.setitem(
        METHODS, "columns", lambda c, x, t: 1 - torch.arange(8.0).expand(2, 1, 8, 8)
    )
    boxes = [torch.tensor([[0.0, 0.0, 2.0, 8.0]]), torch.empty(0, 4)]
    network = exact(lambda x: x.mean((2, 3)), channels=3)
    photos = SimpleNamespace(instances=boxes, targets=torch.tensor([0, 1]))
    return network, photos, torch.rand(2, 3, 8, 8).double()


def test_the_protocol_removes_by_every_rule_and_both_ways(given):
    asked = {"methods": {"columns": {}, "other": {"method": "columns"}}, "seed": 0}
    asked |= {"fractions": [0.0, 0.25, 1.0], "fills": ["black", "mean"]}
    asked["conventions"] = {"magnitude": ["columns", "other"], "signed": ["columns"]}
    rows = removal(*given, asked)
    assert len(rows) == 2 * 3 * 2 * 2 * 3  # images, fractions, fills, orders, maps
    for (fill, order, name), part in rows.groupby(["fill", "order", "convention"]):
        map_ = (1 - torch.arange(8.0)).expand(2, 8, 8)
        map_ = map_.abs() if name == "magnitude" else map_
        one = {"order": order, "fill": fill, "fractions": asked["fractions"]}
        alone = removal_curves(given[0], given[2], given[1].targets, map_, **one)
        part = part[part["method"] == "columns"]
        assert np.allclose(part["logit"], alone["logit"])
    first = rows.query("image == 0 and fraction == 0.25 and convention == 'signed'")
    outside = first.groupby("order")["outside"].first()
    assert outside.to_dict() == {"lerf": 1.0, "morf": 0.0}
    assert rows[rows["image"] == 1]["outside"].isna().all()
