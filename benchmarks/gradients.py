"""Integrated Gradients and SmoothGrad, 25 gradients for one photo, against Captum."""

from benchmarks.setting import classifier, passes, photos, unfolded
from benchmarks.timing import Row
from lib.attribution import integrated_gradients, smoothgrad

PASSES = 25


def rows() -> list[Row]:
    from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

    pixels, targets = photos(1)
    target = int(targets)
    captum_ig = IntegratedGradients(unfolded())
    captum_smooth = NoiseTunnel(Saliency(unfolded()))
    sigma = 0.15 * float(pixels.max() - pixels.min())
    smooth = {"stdevs": sigma, "nt_samples": PASSES, "target": target, "abs": False}
    return [
        Row(
            f"Integrated Gradients, {PASSES} steps",
            ours=lambda: integrated_gradients(classifier(), pixels, targets, steps=PASSES),
            rivals={
                "Captum tuned": lambda: captum_ig.attribute(
                    pixels, target=target, n_steps=PASSES, internal_batch_size=8
                ),
                "Captum default": lambda: captum_ig.attribute(
                    pixels, target=target, n_steps=PASSES
                ),
            },
            floor=lambda: passes(PASSES, gradients=True),
            targets={"Captum tuned": 2, "Captum default": 6},
        ),
        Row(
            f"SmoothGrad, {PASSES} samples",
            ours=lambda: smoothgrad(classifier(), pixels, targets, samples=PASSES, noise=0.15),
            rivals={
                "Captum tuned": lambda: captum_smooth.attribute(
                    pixels, nt_samples_batch_size=8, **smooth
                ),
                "Captum default": lambda: captum_smooth.attribute(pixels, **smooth),
            },
            floor=lambda: passes(PASSES, gradients=True),
            targets={"Captum tuned": 2, "Captum default": 6},
        ),
    ]
