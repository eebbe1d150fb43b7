"""Report 13's rules on planted rows."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

SLUG = "13-deletion-regions"
MASK, CONTRASTIVE = "meaningful_perturbation", "contrastive_excitation_backprop"
RIVALS = [
    CONTRASTIVE,
    "excitation_backprop",
    "guided_backprop",
    "gradient",
    "occlusion",
    "grad_cam",
]
NAMES = {"MASK": MASK, "CONTRASTIVE": CONTRASTIVE, "RIVALS": RIVALS}
PHOTOS = 12


def noise(i):
    return 0.02 * np.sin(7.0 * i)


@pytest.mark.parametrize(("gap", "verdict"), [(-1, "supported"), (1, "contradicted")])
def test_boxes_of_one_area(gap, verdict):
    methods = [MASK, *RIVALS, "random", "edges"]
    rows = [
        (i, m, share, 10 * share + gap * (m == MASK) + noise(i + k))
        for i in range(PHOTOS)
        for k, m in enumerate(methods)
        for share in (0.1, 0.2)
    ]
    equal = pd.DataFrame(rows, columns=["image", "method", "share", "logit"])
    assert judge(SLUG, "MP-4", equal=equal, **NAMES).verdict == verdict


def deleted(own, moved):
    values = {
        (place, kind): [mean + noise(i * k) for i in range(1, 1 + PHOTOS)]
        for place, means in (("own", own), ("moved", moved))
        for k, (kind, mean) in enumerate(means.items(), 1 + 3 * (place == "moved"))
    }
    return judge(SLUG, "MP-5", left=pd.DataFrame(values), KINDS=list(own))


def test_deleting_in_another_way():
    low = {"blur": 0.1, "constant": 0.2, "noise": 0.1}
    high = {"blur": 0.8, "constant": 0.9, "noise": 0.7}
    assert deleted(low, high).verdict == "supported"
    assert deleted(low | {"noise": 0.6}, high).verdict == "mixed"
    assert deleted(dict.fromkeys(low, 0.6), high).verdict == "contradicted"


def test_where_any_region_does_the_part_is_invalid():
    low = {"blur": 0.1, "constant": 0.2, "noise": 0.1}
    found = deleted(low, {"blur": 0.8, "constant": 0.9, "noise": 0.05})
    assert [part.verdict for part in found.parts] == ["supported", "supported", "invalid"]
    everywhere = deleted(low, low)
    assert everywhere.verdict == "inconclusive"


def boxes(**needed):
    """Rows of maps whose boxes suppress everything from the area `needed` on."""
    areas = dict.fromkeys((MASK, *RIVALS), 0.5) | needed
    rows = [
        (i, m, alpha, (1 - alpha), min(1.0, (1 - alpha) / (need + noise(i + k))))
        for i in range(PHOTOS)
        for k, (m, need) in enumerate(areas.items())
        for alpha in np.arange(0, 1, 0.01)
    ]
    names = ["image", "method", "alpha", "area", "suppression"]
    return judge(SLUG, "MP-6", shrinking=pd.DataFrame(rows, columns=names), **NAMES)


def test_the_smallest_box():
    assert boxes(**{MASK: 0.2}).verdict == "supported"
    assert boxes(**{MASK: 0.8}).verdict == "contradicted"
    assert boxes(**{MASK: 0.4, "gradient": 0.2}).verdict == "mixed"
