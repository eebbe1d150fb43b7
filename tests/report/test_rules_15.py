"""The rules of MP-8 and MP-9 on planted accuracies and planted labels."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

MASK = "meaningful_perturbation"
OTHERS = ["gradient", "guided_backprop", "contrastive_excitation_backprop", "grad_cam", "occlusion"]


def detected(shares, n=200):
    """A detector that is right about so many halves of the pairs of each map."""
    found = {}
    for k, (name, share) in enumerate(shares.items()):
        draw = np.random.default_rng(k).random((2, n)) < share
        found[name] = draw.mean(0)
    return pd.DataFrame(found)


def eight(others, edges, mask=0.8, n=200):
    shares = {MASK: mask, "edges": edges, **dict(zip(OTHERS, others, strict=True))}
    return judge("15-adversarial-defense", "MP-8", found=detected(shares, n), OTHERS=OTHERS)


@pytest.mark.parametrize(
    ("others", "edges", "verdict"),
    [
        ([0.5] * 5, 0.5, "supported"),
        ([0.95] * 5, 0.5, "contradicted"),
        ([0.5, 0.5, 0.5, 0.95, 0.95], 0.5, "mixed"),
        ([0.5, 0.5, 0.5, 0.5, 0.8], 0.5, "inconclusive"),
    ],
)
def test_masks_have_to_beat_every_map(others, edges, verdict):
    found = eight(others, edges)
    assert found.verdict == verdict
    assert [part.core for part in found.parts] == [True] * 5 + [False]


@pytest.mark.parametrize("edges", [0.8, 0.99])
def test_edges_invalidate_the_comparison(edges):
    found = eight([0.5] * 5, edges)
    assert found.verdict == "inconclusive"
    assert all(part.verdict == "invalid" for part in found.parts if part.core)


def test_too_few_photos_decide_nothing():
    assert eight([0.0] * 5, 0.0, mask=1.0, n=9).verdict == "inconclusive"
    nothing = judge("15-adversarial-defense", "MP-8", found=None, OTHERS=OTHERS)
    assert nothing.verdict == "inconclusive" and not any(part.n for part in nothing.parts)


def nine(mask, box, disc, everything, n=100):
    """So many of n labels restored; the rivals' are among the mask's where they can be."""
    numbers = {"mask": mask, "box": box, "disc": disc, "everything": everything, "nothing": 0}
    top1 = pd.DataFrame({name: (np.arange(n) < k).astype(float) for name, k in numbers.items()})
    return judge("15-adversarial-defense", "MP-9", top1=top1)


@pytest.mark.parametrize(
    ("restored", "verdict"),
    [
        ((60, 20, 20, 10), "supported"),
        ((10, 40, 40, 40), "contradicted"),
        ((40, 10, 10, 90), "mixed"),
        ((40, 10, 10, 38), "inconclusive"),
        ((0, 0, 0, 0), "inconclusive"),  # no pair differs
    ],
)
def test_the_mask_has_to_restore_more_than_any_blur(restored, verdict):
    assert nine(*restored).verdict == verdict
