"""LIME with 1,000 samples on one photo, against its authors' package; superpixels included."""

import numpy as np
import torch

from benchmarks.setting import classifier, passes, photos, unfolded
from benchmarks.timing import Row
from lib.attribution import lime

SAMPLES = 1000


def rows() -> list[Row]:
    from lime.lime_image import LimeImageExplainer

    pixels, targets = photos(1)
    image = pixels[0].permute(1, 2, 0).double().cpu().numpy()
    explainer = LimeImageExplainer(random_state=0)
    device = classifier().device

    def probabilities(images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()
        with torch.no_grad():
            return unfolded()(batch.to(device)).softmax(1).cpu().numpy()

    def theirs() -> None:
        explainer.explain_instance(
            image,
            probabilities,
            labels=(int(targets[0]),),
            top_labels=None,
            num_samples=SAMPLES,
            batch_size=32,
        )

    return [
        Row(
            f"LIME, {SAMPLES} samples, one photo",
            ours=lambda: lime(classifier(), pixels, targets, samples=SAMPLES),
            rivals={"lime": theirs},
            floor=lambda: passes(SAMPLES, gradients=False),
            targets={"lime": 3},
            floor_target=None,  # quickshift is not a pass through the network
        )
    ]
