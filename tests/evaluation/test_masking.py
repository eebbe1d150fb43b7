"""KPM, KNM, KAM, RAM: by hand on four pixels, and the properties the protocol must have."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.attribution import input_x_gradient, random
from lib.core import draws
from lib.evaluation import masking
from lib.evaluation.maps import signed
from lib.evaluation.masking import (
    FRACTIONS,
    KINDS,
    METRICS,
    blurred_copy,
    masking_curves,
    masking_metrics,
    visible,
)
from lib.evaluation.removal import removal_order
from lib.networks.classifier import Classifier

KEYS = [1]
HAND = torch.tensor([[[3.0, -2.0], [1.0, 0.0]]])


@pytest.mark.parametrize(
    ("kind", "fraction", "shown"),
    [
        ("keep_positive", 0.25, [[1, 0], [0, 0]]), ("keep_positive", 0.5, [[1, 0], [1, 0]]),
        ("keep_positive", 1.0, [[1, 0], [1, 0]]), ("keep_positive", 0.24, [[0, 0], [0, 0]]),
        ("keep_negative", 0.25, [[0, 1], [0, 0]]), ("keep_negative", 1.0, [[0, 1], [0, 0]]),
        ("keep_absolute", 0.25, [[1, 0], [0, 0]]), ("keep_absolute", 0.5, [[1, 1], [0, 0]]),
        ("keep_absolute", 0.75, [[1, 1], [1, 0]]), ("keep_absolute", 1.0, [[1, 1], [1, 0]]),
        ("remove_absolute", 0.25, [[0, 0], [1, 0]]), ("remove_absolute", 0.5, [[0, 1], [1, 0]]),
        ("remove_absolute", 1.0, [[1, 1], [1, 0]]),
    ],
)  # fmt: skip
def test_four_pixels_by_hand(kind, fraction, shown):
    result = visible(HAND, kind, fraction, keys=KEYS)
    assert torch.equal(result, torch.tensor([shown], dtype=torch.bool))


def sums(bias=0.0):
    """Logits: the sum of all pixels, and a constant: linear, read off by hand."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.tensor(bias))

        def forward(self, x):
            total = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([total, total * 0 + self.level], 1)

    return Classifier(Sum(), categories=["sum", "level"], mean=(0.0,), std=(1.0,))


def test_curves_and_areas_by_hand(monkeypatch):
    monkeypatch.setattr(masking, "blurred_copy", lambda images, blur: torch.full_like(images, 0.1))
    images = torch.tensor([[[[0.4, 0.8], [0.6, 0.2]]]])
    curves = masking_curves(
        sums(bias=1.2), images, torch.tensor([0]), HAND, fractions=[0.25, 0.5, 1.0]
    )
    logits = curves.pivot(index="kind", columns="fraction", values="logit")
    hand = {
        "keep_positive": [0.4 + 0.3, 0.4 + 0.6 + 0.2, 0.4 + 0.6 + 0.2],
        "keep_negative": [0.8 + 0.3] * 3,
        "keep_absolute": [0.4 + 0.3, 0.4 + 0.8 + 0.2, 0.4 + 0.8 + 0.6 + 0.1],
        "remove_absolute": [0.6 + 0.3, 0.6 + 0.8 + 0.2, 0.4 + 0.8 + 0.6 + 0.1],
    }
    for kind, expected in hand.items():
        assert logits.loc[kind].to_numpy() == pytest.approx(expected, abs=1e-6), kind
    shown = curves.pivot(index="kind", columns="fraction", values="shown")
    assert shown.loc["keep_positive"].tolist() == [1, 2, 2]
    assert shown.loc["remove_absolute"].tolist() == [1, 2, 3]
    (row,) = masking_metrics(curves).to_dict("records")
    assert row["KPM"] == pytest.approx(0.25 * (0.7 + 1.2) / 2 + 0.5 * 1.2, abs=1e-5)
    assert row["KNM"] == pytest.approx(0.75 * 1.1, abs=1e-5)
    # accuracy: is the sum above 1.2? keep_absolute no, yes, yes; remove_absolute no, yes, yes
    assert row["KAM"] == row["RAM"] == pytest.approx(100 * (0.25 / 2 + 0.5), abs=1e-5)


def test_fractions_are_the_papers():
    assert len(FRACTIONS) == 16 and FRACTIONS[0] == 0.01 and FRACTIONS[-1] == 1.0
    assert np.allclose(np.diff(np.log(FRACTIONS)), math.log(100) / 15)
    images = torch.rand(1, 1, 30, 30)
    curves = masking_curves(sums(), images, torch.tensor([0]), images[:, 0] - 0.5)
    positive = int((images > 0.5).sum())
    part = curves[curves["kind"] == "keep_positive"]
    assert part["shown"].tolist() == [min(math.floor(p * 900), positive) for p in FRACTIONS]
    assert list(METRICS) == ["KPM", "KNM", "KAM", "RAM"] and list(curves["kind"].unique()) == list(
        KINDS
    )


def test_a_constant_logit_has_its_unnormalized_area():
    curves = pd.concat(
        pd.DataFrame({"image": 0, "kind": k, "fraction": FRACTIONS, "logit": 10.0, "accuracy": 1.0})
        for k in KINDS
    )
    (row,) = masking_metrics(curves).to_dict("records")
    assert row["KPM"] == pytest.approx(9.9) and row["KAM"] == pytest.approx(99)


def test_negating_the_map_swaps_kpm_and_knm_only(small):
    images, targets = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 3])
    maps = torch.randn(3, 32, 32)
    one = masking_metrics(masking_curves(small, images, targets, maps))
    two = masking_metrics(masking_curves(small, images, targets, -maps))
    assert one["KPM"].to_numpy() == pytest.approx(two["KNM"].to_numpy(), rel=1e-5)
    assert one["KNM"].to_numpy() == pytest.approx(two["KPM"].to_numpy(), rel=1e-5)
    for metric in ("KAM", "RAM"):
        assert one[metric].to_numpy() == pytest.approx(two[metric].to_numpy(), rel=1e-5)
    assert not np.allclose(one["KPM"], one["KNM"])


@pytest.mark.slow
def test_random_attribution_scores_the_same_kept_positive_or_negative(small):
    images = torch.rand(150, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(150) % 4
    maps = signed(random(small, images, targets))
    metrics = masking_metrics(masking_curves(small, images, targets, maps))
    gap = metrics["KPM"] - metrics["KNM"]
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(150)


def test_keeping_everything_shows_the_image_where_the_map_is_not_zero(small):
    images, targets = torch.rand(2, 3, 40, 40), torch.tensor([1, 2])
    maps = torch.rand(2, 40, 40) + 0.1
    curves = masking_curves(small, images, targets, maps, fractions=[1.0])
    clean = small(images).gather(1, targets.view(-1, 1))[:, 0]
    for kind in ("keep_positive", "keep_absolute", "remove_absolute"):
        values = curves[curves["kind"] == kind]["logit"].to_numpy()
        assert values == pytest.approx(clean.tolist(), abs=1e-4)
    hidden = small(blurred_copy(images)).gather(1, targets.view(-1, 1))[:, 0]
    values = curves[curves["kind"] == "keep_negative"]["logit"].to_numpy()
    assert values == pytest.approx(hidden.tolist(), abs=1e-4)


def test_ties_are_broken_by_a_seeded_permutation():
    flat = torch.ones(1, 20, 20)
    first = visible(flat, "keep_positive", 0.5, keys=KEYS)
    assert int(first.sum()) == 200 and 50 < int(first[0, :10].sum()) < 150
    assert torch.equal(first, visible(flat, "keep_positive", 0.5, keys=KEYS))
    assert not torch.equal(first, visible(flat, "keep_positive", 0.5, keys=KEYS, seed=1))
    assert visible(torch.zeros(1, 4, 4), "keep_absolute", 1.0, keys=KEYS).sum() == 0


def test_batches_and_order_do_not_matter_and_chunks_add_up(small):
    images, targets = torch.rand(5, 3, 32, 32), torch.tensor([0, 1, 2, 3, 0])
    maps = torch.randn(5, 32, 32)
    whole = masking_curves(small, images, targets, maps)
    for size in (1, 7):
        again = masking_curves(small, images, targets, maps, batch_size=size)
        assert again["logit"].to_numpy() == pytest.approx(whole["logit"].to_numpy(), abs=1e-4)
        assert again["shown"].equals(whole["shown"])
    parts = [
        masking_curves(small, images[i : i + 2], targets[i : i + 2], maps[i : i + 2])
        for i in (0, 2, 4)
    ]  # not divisible by the chunk
    chunked = pd.concat(
        [part.assign(image=part["image"] + i) for part, i in zip(parts, (0, 2, 4), strict=True)]
    )
    assert chunked["logit"].to_numpy() == pytest.approx(whole["logit"].to_numpy(), abs=1e-4)
    order = [3, 1, 4, 0, 2]
    shuffled = masking_metrics(masking_curves(small, images[order], targets[order], maps[order]))
    expected = masking_metrics(whole).iloc[order]
    assert shuffled["KPM"].to_numpy() == pytest.approx(expected["KPM"].to_numpy(), abs=1e-4)


def authors_code(image, attribution, kind, fraction, sigma, size):
    """The published script's steps, spelled out (its exponent is -((d / (2 sigma))^2))."""
    d = torch.arange(size).float() - size // 2
    kernel = torch.exp(-((d[:, None] / (2 * sigma)) ** 2)) * torch.exp(
        -((d[None] / (2 * sigma)) ** 2)
    )
    kernel = kernel / kernel.sum()
    depthwise = kernel.expand(3, 1, size, size)
    padded = nn.functional.pad(image[None], [size // 2] * 4, mode="reflect")
    blurred = nn.functional.conv2d(padded, depthwise, groups=3)[0]
    value = attribution.mean(0)
    value = {"positive": value, "negative": -value, "absolute": value.abs()}[kind.split("_")[1]]
    value = torch.where(value > 0, value, torch.zeros(())).flatten()
    count = min(int(fraction * value.numel()), int((value > 0).sum()))
    mask = torch.zeros(value.numel(), dtype=torch.bool)
    if kind.startswith("keep"):
        mask[value.topk(count).indices] = True
    else:
        value = torch.where(value > 0, value, torch.tensor(float("inf")))
        mask[value.topk(count, largest=False).indices] = True
    return torch.where(mask.view(1, *image.shape[1:]), image, blurred)


def test_equals_the_authors_steps_in_normalized_space():
    images = torch.rand(2, 3, 64, 60)
    attribution = torch.randn(2, 3, 64, 60)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    mean, std = mean.view(3, 1, 1), std.view(3, 1, 1)
    hidden = blurred_copy(images)
    for kind in KINDS:
        for fraction in (0.01, 0.3, 0.7, 1.0):
            shown = visible(signed(attribution), kind, fraction, keys=[0, 1])
            ours = torch.where(shown[:, None], images, hidden)
            for i in range(2):
                theirs = authors_code(
                    (images[i] - mean) / std, attribution[i], kind, fraction, 41, 51
                )
                torch.testing.assert_close((ours[i] - mean) / std, theirs, rtol=1e-4, atol=1e-4)


def test_blur_kernels():
    dot = torch.zeros(1, 1, 151, 151, dtype=torch.float64)
    dot[0, 0, 75, 75] = 1
    for name, sigma in (("published", 41.0), ("coded", 41.0 * math.sqrt(2))):
        kernel = blurred_copy(dot, name)[0, 0]
        assert float(kernel.sum()) == pytest.approx(1)
        assert float(kernel[75, 50] / kernel[75, 75]) == pytest.approx(
            math.exp(-0.5 * (25 / sigma) ** 2)
        )
        assert float(kernel[75, 49]) == 0 and float(kernel[49, 75]) == 0
    flat = torch.full((1, 3, 40, 30), 0.3)
    torch.testing.assert_close(blurred_copy(flat), flat)


@pytest.mark.slow
def test_embedded_network(classifier, photos, pixels):
    maps = torch.rand(2, 224, 224) - 0.5
    curves = masking_curves(
        classifier,
        pixels[:2],
        photos.targets[:2],
        maps,
        fractions=[0.01, 1.0],
        kinds=["keep_absolute"],
    )
    last = curves[curves["fraction"] == 1]
    clean = classifier.scores(pixels[:2]).gather(1, photos.targets[:2, None])[:, 0]
    assert last["logit"].to_numpy() == pytest.approx(clean.tolist(), abs=1e-3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": torch.rand(1, 30, 30)}, "do not fit"),
        ({"maps": torch.full((2, 32, 32), float("nan"))}, "NaN"),
        ({"kinds": ["keep"]}, "must be some of"), ({"kinds": []}, "must be some of"),
        ({"fractions": [1.2]}, "fractions"), ({"fractions": []}, "fractions"),
        ({"fractions": [float("nan")]}, "fractions"), ({"fractions": [-0.1]}, "fractions"),
        ({"blur": "box"}, "blur 'box' is unknown"),
        ({"images": torch.rand(2, 3, 20, 20), "maps": torch.rand(2, 20, 20)}, "too small"),
    ],
)  # fmt: skip
def test_bad_input(small, options, message):
    given = {"images": torch.rand(2, 3, 32, 32), "maps": torch.rand(2, 32, 32), **options}
    images, maps = given.pop("images"), given.pop("maps")
    with pytest.raises(ValueError, match=message) as error:
        masking_curves(small, images, torch.tensor([0, 1]), maps, **given)
    assert "\n" not in str(error.value)


def test_ranks_agree_with_removal_order():
    keys = draws.image_keys(HAND[None])
    ranks = removal_order(HAND.abs(), "morf", keys).view(2, 2)
    assert ranks.tolist() == [[0, 1], [2, 3]]


def test_as_described_every_pixel_is_ranked():
    images, targets = torch.rand(1, 1, 30, 30), torch.tensor([0])
    maps = images[:, 0] - 0.5
    curves = masking_curves(sums(), images, targets, maps, reading="described")
    counts = [math.floor(p * 900) for p in FRACTIONS]
    for kind in KINDS:
        assert curves[curves["kind"] == kind]["shown"].tolist() == counts
    whole = curves[curves["fraction"] == 1.0]["logit"].to_numpy()
    assert whole == pytest.approx([float(images.sum())] * 4, rel=1e-5)
    coded = masking_curves(sums(), images, targets, maps)
    small_share = curves["fraction"] <= 0.1  # fewer than are positive: the largest come first
    keep = small_share & curves["kind"].eq("keep_positive")
    assert curves[keep]["logit"].to_numpy() == pytest.approx(coded[keep]["logit"].to_numpy())
    with pytest.raises(ValueError, match="reading"):
        masking_curves(sums(), images, targets, maps, reading="printed")


def test_the_protocol_gives_the_curves_of_every_method(small):
    pixels = torch.rand(2, 3, 40, 40)
    photos = SimpleNamespace(targets=torch.tensor([0, 1]))
    methods = {"a map": {"method": "input_x_gradient"}, "random": {}}
    rows = masking.masking(small, photos, pixels, {"methods": methods, "seed": 3})
    maps = signed(input_x_gradient(small, pixels, photos.targets))
    alone = masking_curves(small, pixels, photos.targets, maps, seed=3)
    one = rows[rows["method"] == "a map"].drop(columns="method")
    pd.testing.assert_frame_equal(one.reset_index(drop=True), alone)
    assert list(rows["method"].unique()) == list(methods)
