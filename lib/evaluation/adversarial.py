"""Adversarial images by foolbox: photographs changed by less than the eye sees, misclassified.

FGSM: Goodfellow, Shlens, Szegedy 2015. BIM (iterative FGSM): Kurakin, Goodfellow, Bengio 2017. PGD:
Madry et al. 2018. All move against the sign of the gradient of the cross-entropy, within epsilon
in every pixel and within [0, 1].
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib import copies
from lib.core import draws

ATTACKS = ("fgsm", "bim", "pgd")


@dataclass(frozen=True)
class Attacked:
    """Images after an attack, what the classifier says before and after, and where it worked.

    ``success``: the class was right before and is wrong now. An attack that fails is no error;
    count these.
    """

    images: Float[Tensor, "n c h w"]
    before: Int[Tensor, " n"]
    after: Int[Tensor, " n"]
    success: Bool[Tensor, " n"]


def attack(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    method: str = "fgsm",
    epsilon: float = 8 / 255,
    steps: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> Attacked:
    """Images with a larger loss for ``targets``, each pixel changed by at most ``epsilon``.

    ``method`` is ``fgsm`` (one step of size epsilon), ``bim`` (``steps`` steps of epsilon / 5) or
    ``pgd`` (``steps`` steps of epsilon / 5 from a random start, drawn by (seed, image)). Pixel
    units: epsilon = 8/255 is eight gray levels of 8 bits. epsilon = 0 changes nothing.

    Raises ``ValueError`` for an unknown method, epsilon outside [0, 1], steps < 1 and images
    outside [0, 1].
    """
    if method not in ATTACKS:
        raise ValueError(f"attack {method!r} is unknown; choose one of: {', '.join(ATTACKS)}")
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must lie in [0, 1], pixel units, is {epsilon}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    pixels, classes = copies.check_inputs(classifier, images, targets)
    if pixels.min() < 0 or pixels.max() > 1:
        raise ValueError("images must lie in [0, 1] to be attacked")
    if epsilon == 0:
        attacked = pixels.clone()
    else:
        attacked = _run(classifier, pixels, classes, method, epsilon, steps, seed, batch_size)
    before, after = (_classes(classifier, batch, batch_size) for batch in (pixels, attacked))
    found = before, after, (before == classes) & (after != classes)
    return Attacked(attacked.to(images), *(part.to(images.device) for part in found))


def _run(classifier, pixels, classes, method, epsilon, steps, seed, batch_size) -> Tensor:
    import foolbox  # takes seconds to import, and few reports need it
    from foolbox.attacks import FGSM, LinfBasicIterativeAttack, LinfPGD

    class KeyedPGD(LinfPGD):
        """Starts from a draw of each image's own, whatever the batch."""

        def get_random_start(self, x0, epsilon):
            start = x0.raw
            keys = [(key,) for key in draws.image_keys(start)]
            noise = draws.uniform(seed, keys, start.shape[1:]).to(start)
            return type(x0)(start + epsilon * (2 * noise - 1))

    attacks = {
        "fgsm": FGSM,
        "bim": lambda: LinfBasicIterativeAttack(steps=steps, rel_stepsize=0.2),
        "pgd": lambda: KeyedPGD(steps=steps, rel_stepsize=0.2),
    }
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device=classifier.device)
    chosen = attacks[method]()

    def answer(batch: Tensor, wanted: Tensor) -> Tensor:
        criterion = foolbox.criteria.Misclassification(wanted)
        return chosen.run(model, batch, criterion, epsilon=epsilon).detach()

    engine = copies.Engine(classifier, pixels, classes, batch_size, f"attack ({method})")
    return engine.single_pass(answer)


def _classes(classifier, images: Tensor, batch_size: int | None) -> Tensor:
    size = copies.batch_size_for(classifier, images, "scores", batch_size)
    return torch.cat([classifier.scores(batch).argmax(1) for batch in images.split(size)])
