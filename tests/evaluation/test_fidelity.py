"""How far a line follows a classifier: planted functions, and the protocol's rows."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.attribution.lime import explain_lime, presence_rows
from lib.copies.superpixels import tiles
from lib.data.imagenet import categories
from lib.data.scenes import SCENES, scene_classes
from lib.evaluation.fidelity import (
    correlation_by,
    followed,
    held_out_rows,
    linear_fit,
    rows_with_share_off,
)

HOW = {"score": "logit", "fill": "black"}
WHITE, TARGET = torch.ones(2, 1, 8, 12, dtype=torch.float64), torch.tensor([0, 0])
WHITE[1, 0, 0, 0] = 0.99


def tile_means(x):
    return torch.nn.functional.avg_pool2d(x[:, 0], 4).flatten(1)


def fit_of(function, exact, samples=200):
    box = exact(lambda x: function(tile_means(x))[:, None].expand(-1, 2))
    given = {"samples": samples, "segments": tiles(4), "ridge": 1e-8}
    found = explain_lime(box, WHITE, TARGET, **given, **HOW)
    unseen = held_out_rows(WHITE, [6, 6], samples, 100)
    return correlation_by(followed(box, WHITE, TARGET, found, unseen, **HOW))


def test_a_linear_function_is_followed_and_one_of_two_is_not(exact):
    assert np.allclose(fit_of(lambda z: 2 * z[:, 0] - z[:, 4], exact), 1)
    xor = fit_of(lambda z: ((z[:, 0] > 0.5) ^ (z[:, 4] > 0.5)).double(), exact)
    assert (xor.abs() < 0.4).all()
    assert (fit_of(lambda z: 0 * z[:, 0] + 3, exact) == 0).all()  # nothing varies


def test_correlation_is_by_group():
    rows = pd.DataFrame({"image": [0, 0, 1, 1], "line": [0, 1, 0, 1], "network": [2, 4, 4, 2]})
    assert correlation_by(rows).to_dict() == pytest.approx({0: 1, 1: -1})


def test_rows_have_exactly_the_share_off():
    (rows,) = rows_with_share_off(WHITE[:1], [10], [0.1, 0.5, 0.97], 4)
    assert (~rows).sum(1).tolist() == [1] * 4 + [5] * 4 + [9] * 4
    assert len({row.tobytes() for row in rows}) > 6


def test_held_out_rows_go_on_where_the_explanation_stopped():
    (seen,), (unseen,) = presence_rows(WHITE[:1], [6], 30), held_out_rows(WHITE[:1], [6], 20, 10)
    assert np.array_equal(seen[20:], unseen)


SECONDS = ["seconds_lime", "seconds_grad_cam"]


def test_the_protocol(small):
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    given = {"lime": {"samples": 20, "segments": tiles(4)}, "held_out": 6, "seed": 0}
    rows = linear_fit(small, None, pixels, {**given, "off": [0.25, 0.5], "ring": 3})
    assert rows.groupby(["image", "kind"], sort=False).size().tolist() == [20, 6, 6] * 2
    ring = rows[rows["kind"] == "ring"]
    assert ring["off"].tolist() == [0.25] * 3 + [0.5] * 3 + [0.25] * 3 + [0.5] * 3
    fitted = rows[(rows["kind"] == "fitted") & (rows["copy"] == 0)]
    assert (fitted["weight"] == 1).all() and (fitted["off"] == 0).all()
    assert (rows["superpixels"] == 16).all()
    assert rows.groupby("image")[SECONDS].nunique().eq(1).all().all()
    assert (rows[SECONDS] > 0).all().all()


def test_scenes_are_classes_of_imagenet():
    found = scene_classes(categories())
    assert len(found) == len(SCENES) == 46  # enough for thirty photos, one of each class
    assert "valley" in SCENES and "yurt" not in SCENES
    assert scene_classes(["Valley", "tench"]) == [0]
