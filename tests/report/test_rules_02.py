"""Report 02's rule on planted trainings: SG-7."""

import numpy as np
import pandas as pd
from support.chapter import judge

KINDS = ("clean", "noisy", "untrained")
CALM = {"clean": 1.2, "noisy": 1.0, "untrained": 1.4}
AGREES = {"clean": 0.2, "noisy": 0.3, "untrained": 0.0}


def planted(n: int, **means: float) -> pd.DataFrame:
    """n values of every kind and explanation, with the means given."""
    wave = np.sin(np.arange(n))
    return pd.DataFrame(
        {
            (kind, name): means[kind] + 0.01 * wave * (1 + place)
            for place, kind in enumerate(KINDS)
            for name in ("gradient", "SmoothGrad")
        }
    )


def rule(calm=CALM, agrees=AGREES, n=24):
    return judge(
        "02-training-with-noise", "SG-7", tv=planted(n, **calm), beyond=planted(n // 2, **agrees)
    )


def test_noise_that_helps_everywhere():
    judged = rule()
    assert judged.verdict == "supported"
    assert [part.n for part in judged.parts] == [24, 24, 12, 12]
    assert [part.core for part in judged.parts] == [True, True, True, False]


def test_noise_that_harms_everywhere():
    judged = rule(CALM | {"noisy": 1.3}, AGREES | {"noisy": 0.1})
    assert judged.verdict == "contradicted"


def test_calm_at_the_price_of_agreement():
    assert rule(CALM, AGREES | {"noisy": 0.1}).verdict == "mixed"


def test_what_an_untrained_network_does_as_well_decides_nothing():
    judged = rule(CALM | {"untrained": 0.9}, AGREES)
    assert [part.verdict for part in judged.parts] == [
        "invalid",
        "invalid",
        "supported",
        "supported",
    ]
    assert judged.verdict == "supported"  # by the part that is left
    assert rule(CALM | {"untrained": 0.9}, AGREES | {"untrained": 0.5}).verdict == "inconclusive"


def test_too_few_pairs():
    assert rule(n=18).parts[2].verdict == "invalid"  # of 9 pairs not even the gate is decided
