"""Maps against the truth of scenes that were constructed: does a map find the part that decides?

The single deletion of Hesse, Schaub-Meyer, Roth (*FunnyBirds*, ICCV 2023): the rank correlation,
over the parts of a scene, of a map's sum with the fall of the logit when a part is taken away.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.data.constructed import PARTS, REGIONS, Scenes
from lib.evaluation.correlation import rank_correlation
from lib.evaluation.localization import energy_in_box, pointing_game
from lib.networks.classifier import of_targets


def region_falls(
    classifier, scenes: Scenes, removed: Mapping[str, Float[Tensor, "n 3 h w"]]
) -> Float[Tensor, "n regions"]:
    r"""$S_c(x)-S_c(x_{\setminus r})$ for each of ``REGIONS``; ``removed[r]`` is drawn without r."""
    with torch.no_grad():
        every = [scenes.images, *(removed[r] for r in REGIONS)]
        scores = [of_targets(classifier(images), scenes.targets).cpu() for images in every]
    return scores[0][:, None] - torch.stack(scores[1:], 1)


def ground_truth(
    scenes: Scenes, maps: Mapping[str, Float[Tensor, "n h w"]], falls: Float[Tensor, "n regions"]
) -> pd.DataFrame:
    """One row per scene (``photo``) x method x measure, with its ``value``.

    ``maps`` hold a number per pixel, larger for what speaks for the class. ``part``,
    ``distractor``: the share of the positive mass in that region; ``peak``: 1 where the largest
    value lies in the part; ``deletion``: the rank correlation over ``PARTS`` of the map's sum with
    ``falls`` (`region_falls`), 0 for a map that does not tell them apart. The first three are
    NaN for a map without mass.
    """
    frames = []
    for m, values in maps.items():
        values = values.detach().cpu()
        sums = torch.stack([(values * scenes.regions[r]).sum((1, 2)) for r in PARTS], 1)
        pair = torch.stack([sums, falls[:, : len(PARTS)]], -1).double().numpy()
        measured = {
            r: energy_in_box(values, scenes.regions[r], mass="positive", empty="nan").numpy()
            for r in ("part", "distractor")
        }
        peak = pointing_game(values, scenes.regions["part"], tolerance=0, empty="nan").numpy()
        measured |= {"peak": peak, "deletion": rank_correlation(pair, axis=1)}
        frame = pd.DataFrame(measured).rename_axis("photo").reset_index()
        frames.append(frame.melt("photo", var_name="measure").assign(method=m))
    return pd.concat(frames, ignore_index=True)
