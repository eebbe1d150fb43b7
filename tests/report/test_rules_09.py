"""Report 09's rules where the answer is known."""

import numpy as np
import pandas as pd
from support.chapter import judge

SLUG = "09-lime"


def scattered(mean, n=20, spread=0.05, seed=0):
    return mean + spread * np.random.default_rng(seed).standard_normal(n)


def local(near, far):
    wide = pd.DataFrame({0.1: scattered(near), 0.9: scattered(far, seed=1)})
    return judge(SLUG, "LG-7", wide=wide).verdict


def test_the_line_has_to_follow_near_the_photo_and_less_far_from_it():
    assert local(0.7, 0.3) == "supported"
    assert local(0.7, 0.9) == "mixed"
    assert local(0.4, 0.2) == "mixed"
    assert local(0.3, 0.6) == "contradicted"


def any_model(error=1e-8, forest=0.9, times=60.0):
    ratio = scattered(np.log(times))
    planted = {"errors": [error] * 5, "forest_r": scattered(forest, seed=1), "ratio": ratio}
    return judge(SLUG, "LG-8", **planted).verdict


def test_any_model_at_a_high_price():
    assert any_model() == "supported"
    assert any_model(times=5) == "mixed"
    assert any_model(error=0.1) == "mixed"
    assert any_model(error=0.1, forest=0.2, times=5) == "contradicted"


def fails(xor, objects, scenes, count=30):
    planted = {"follows": {"exactly one of two": scattered(xor)}, "count": count}
    planted["r_object"] = scattered(objects, 30, seed=1)
    planted["r_scene"] = scattered(scenes, count, seed=2)
    return judge(SLUG, "LG-9", **planted)


def test_where_the_line_fails():
    assert fails(0.0, 0.8, 0.6).verdict == "supported"
    assert fails(0.0, 0.6, 0.8).verdict == "mixed"
    assert fails(0.9, 0.6, 0.8).verdict == "contradicted"


def test_without_scenes_half_of_it_is_open():
    found = fails(0.0, 0.8, 0.6, count=0)
    assert found.verdict == "inconclusive"
    assert [part.n for part in found.parts] == [20, 0]
