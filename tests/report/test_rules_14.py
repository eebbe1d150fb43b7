"""MP-7's rule on animals whose masks are planted."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge


def animals(mask, center, n=40, seed=0):
    """What is deleted at the eyes beyond the feet: by masks, and by the centered Gaussian."""
    noise = np.random.default_rng(seed).normal(0, 0.1, (2, n))
    own, middle = pd.Series(mask + noise[0]), pd.Series(center + noise[1])
    ones = pd.DataFrame({"mask from ones": own})
    return judge("14-animal-parts", "MP-7", own=own, center=middle, gap=ones)


@pytest.mark.parametrize(
    ("mask", "center", "n", "verdict", "part"),
    [
        (0.3, 0.1, 40, "supported", "supported"),
        (-0.1, -0.3, 40, "contradicted", "contradicted"),
        (0.3, 0.3, 40, "inconclusive", "invalid"),  # the blob in the middle does as well
        (0.2, 0.3, 40, "inconclusive", "invalid"),
        (0.3, 0.1, 9, "inconclusive", "invalid"),  # too few
    ],
)
def test_eyes_have_to_go_beyond_the_center(mask, center, n, verdict, part):
    found = animals(mask, center, n)
    assert (found.verdict, found.parts[0].verdict) == (verdict, part)
    assert [part.core for part in found.parts] == [True, False, False]
