r"""Meaningful Perturbation: learn the smallest mask whose deletion destroys the class score.

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
equations 2 to 4. Defaults are the values of the authors' program (``optimize_mask.py``), which are
not always those of summaries of the paper: jitter moves the image and the mask has no noise, the
mask starts from a disc and not from ones, and iterations are 300. Two things differ on purpose:
gradients pass through the blur of the mask (the program ignores it there), and a photograph is
jittered by repeating its edge (the program cuts a crop of 224 from a photograph of 228 pixels).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pad

from lib import copies, draws, store
from lib.attribution import baselines
from lib.attribution.baselines import gaussian_blur, mean_color, resolve_baseline
from lib.progress import progress

GAMES = ("deletion", "preservation")
PERTURBATIONS = ("blur", "constant", "noise")
STARTS = ("disc", "ones", "random")
SCORES = ("probability", "logit")
DATASET_MEAN = (123 / 255, 117 / 255, 104 / 255)  # zero in the authors' mean-subtracted space
STATES = 11  # masks kept along the way, the first and the last included
_JITTER, _NOISE, _MASK_NOISE, _START = 1, 2, 3, 4  # streams of random numbers
_CODE = store.code(__file__, baselines.__file__, draws.__file__, copies.__file__)


@dataclass(frozen=True)
class LearnedMasks:
    """Masks (1 keeps a pixel, 0 replaces it) and how they came about.

    ``masks`` are what the image was multiplied with, ``coarse`` the variables that were learned.
    ``trace`` holds ``objective``, ``score``, ``length`` (the L1 norm) and ``variation`` of each
    image at every iteration, the last column after the last step, under that iteration's draws.
    ``states[:, k]`` are the variables at iteration ``iterations[k]``.
    """

    masks: Float[Tensor, "n 1 h w"]
    coarse: Float[Tensor, "n 1 a b"]
    trace: dict[str, Float[Tensor, "n steps"]]
    states: Float[Tensor, "n k a b"]
    iterations: list[int]


def meaningful_perturbation(
    classifier, images: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], **options
) -> Float[Tensor, "n 1 h w"]:
    """What :func:`learn_masks` marks as relevant, in [0, 1]; ``options`` are its options.

    One minus the mask of the deletion game, the mask itself of the preservation game.
    """
    masks = learn_masks(classifier, images, targets, **options).masks
    return masks if options.get("game") == "preservation" else 1 - masks


def learn_masks(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    game: str = "deletion",
    perturbation: str = "blur",
    blur_sigma: float = 10.0,
    constant: str | float | Tensor | None = None,
    l1: float = 1e-4,
    tv: float = 1e-2,
    beta: float = 3.0,
    jitter: int = 4,
    mask_noise: float = 0.0,
    mask_size: int | None = None,
    upsampling: str = "nearest",
    mask_blur: float = 5.0,
    start: str = "disc",
    learning_rate: float = 0.1,
    iterations: int = 300,
    score: str = "probability",
    seed: int = 0,
    batch_size: int | None = None,
    cache: bool = True,
) -> LearnedMasks:
    r"""Masks $m$ of all images, by Adam with a clip to [0, 1] after each step.

    $$\min_m \lambda_1\lVert 1-m\rVert_1 + \lambda_2\sum_u\lVert\nabla m(u)\rVert^\beta
    + E_\tau f_c(\Phi(x(\cdot-\tau), m)),\quad \Phi(x, m) = \hat m x + (1-\hat m)\mu$$

    for the deletion game; the preservation game has $\lVert m\rVert_1$ and $-f_c$.

    Args:
        perturbation: $\mu$ is the image under a Gaussian ``blur_sigma`` (pixels), a ``constant``
            (a name of ``BASELINES``, a gray level or a tensor; by default the mean color of
            ImageNet, or the image's own where it is not RGB), or uniform ``noise`` drawn anew at
            each iteration.
        l1, tv, beta: weights and exponent of the terms, which are sums over the small mask.
        jitter: the image is shifted by so many different offsets in each direction, 1 px apart.
        mask_noise: sigma of Gaussian noise on the small mask at each iteration.
        mask_size: cells of the small mask along each side; by default one for 8 x 8 pixels.
        upsampling, mask_blur: how the small mask becomes $\hat m$: ``nearest`` or ``linear``,
            then a Gaussian (pixels).
        start: ``disc``, the smallest centered disc whose deletion takes 99 % of the score
            (ones where the perturbation does not lower the score at all), ``ones`` or ``random``.
        score: $f_c$, the softmax ``probability`` or the ``logit`` of the target.
        cache: keep each image's result on disk, by the hash of everything it depends on.

    Raises:
        ValueError: an option that is unknown, negative, or does not fit the images.
    """
    options = {k: v for k, v in locals().items() if k not in ("classifier", "images", "targets")}
    for name in ("batch_size", "cache"):
        del options[name]
    pixels, classes = copies.check_inputs(classifier, images, targets)
    _check(options, pixels)
    if isinstance(constant, Tensor):
        constant = resolve_baseline(constant, images.detach()).to(pixels)
    height, width = mask_matrices(pixels, options)
    keys = _keys(classifier, pixels, classes, options) if cache else [None] * len(pixels)
    kept = {"states": pixels.new_empty(len(_kept(iterations)), height.shape[1], width.shape[1])}
    kept["trace"] = pixels.new_empty(4, iterations + 1)
    found = {row: store.read_tensors("masks", key, like=kept) for row, key in enumerate(keys)}
    missing = [row for row, state in found.items() if state is None]
    size = copies.batch_size_for(classifier, pixels, "gradients", batch_size)
    with progress("learning masks", len(missing) * iterations) as advance:
        for at in range(0, len(missing), size):
            rows = missing[at : at + size]
            own = {"constant": constant[rows]} if isinstance(constant, Tensor) else {}
            problem = Problem(classifier, pixels[rows], classes[rows], {**options, **own})
            for row, state in zip(rows, _optimize(problem, advance), strict=True):
                found[row] = state
                store.write_tensors("masks", keys[row], state)
    states = torch.stack([state["states"] for state in found.values()])
    trace = torch.stack([state["trace"] for state in found.values()])
    coarse = states[:, -1:]
    masks = (height @ coarse.to(height) @ width.T).clamp(0, 1)
    names = ("objective", "score", "length", "variation")
    return LearnedMasks(
        masks.to(images.device),
        coarse.to(images.device),
        {name: trace[:, k] for k, name in enumerate(names)},
        states,
        _kept(iterations),
    )


def _keys(classifier, pixels: Tensor, classes: Tensor, options: dict) -> list[str | None]:
    shared = store.key(getattr(classifier, "decisive", classifier), options, _CODE)
    own = zip(pixels, classes.tolist(), strict=True)
    return [shared and store.key(shared, image, target) for image, target in own]


class Problem:
    """The optimization of one micro-batch: everything that stays fixed while masks change."""

    def __init__(self, classifier, pixels: Tensor, classes: Tensor, options: dict):
        self.classifier, self.classes, self.options = classifier, classes, options
        self.pixels, self.keys = pixels, draws.image_keys(pixels)
        self.null = _null(pixels, options)
        self.height, self.width = mask_matrices(pixels, options)
        before = options["jitter"] // 2
        margin = [before, max(options["jitter"] - 1 - before, 0)] * 2
        self.margin = before
        self.padded = pad(pixels, margin, mode="replicate")
        self.null_padded = None if self.null is None else pad(self.null, margin, mode="replicate")

    def masks(self, coarse: Float[Tensor, "b 1 s t"]) -> Float[Tensor, "b 1 h w"]:
        """Upsampling and blur are linear and separable: one matrix for each direction."""
        return self.height @ coarse @ self.width.T

    def perturbed(self, masks: Tensor, iteration: int, *, still: bool = False) -> Tensor:
        """The images under full-size masks, with this iteration's jitter and noise."""
        shifts = torch.full((len(masks), 2), self.margin)
        if self.options["jitter"] > 1 and not still:
            draw = self._uniform(_JITTER, iteration, (2,))
            shifts = (draw * self.options["jitter"]).long()
        pixels = self._shifted(self.padded, shifts)
        if self.null_padded is None:
            null = self._uniform(_NOISE, iteration, pixels.shape[1:]).to(pixels)
        else:
            null = self._shifted(self.null_padded, shifts)
        return torch.addcmul(null, masks, pixels - null)

    def score(self, images: Tensor, rows: Tensor | None = None, *, fast: bool = False) -> Tensor:
        """The score of each image's own class; ``fast`` without gradients."""
        logits = self.classifier.scores(images) if fast else self.classifier(images)
        values = logits.softmax(1) if self.options["score"] == "probability" else logits
        classes = self.classes if rows is None else self.classes[rows]
        return copies.of_targets(values, classes)

    def terms(self, coarse: Tensor, iteration: int) -> Float[Tensor, "b 4"]:
        """Objective, score, L1 norm and variation of each image at one iteration's draws."""
        options, used = self.options, coarse
        if options["mask_noise"]:
            keys = [(key, _MASK_NOISE, iteration) for key in self.keys]
            noise = draws.normal(options["seed"], keys, coarse.shape[1:]).to(coarse)
            used = (coarse + options["mask_noise"] * noise).clamp(0, 1)
        score = self.score(self.perturbed(self.masks(used), iteration))
        deletion = options["game"] == "deletion"
        length = ((1 - coarse) if deletion else coarse).abs().sum((1, 2, 3))
        variation = total_variation(coarse, options["beta"])
        sign = 1 if deletion else -1
        objective = options["l1"] * length + options["tv"] * variation + sign * score
        return torch.stack([objective, score, length, variation], 1)

    def first(self) -> Float[Tensor, "b 1 s t"]:
        """The masks to start from."""
        shape = (1, self.height.shape[1], self.width.shape[1])
        if self.options["start"] == "random":
            return self._uniform(_START, 0, shape).to(self.pixels)
        if self.options["start"] == "disc":
            return self._disc(shape[1:])
        return torch.ones(len(self.pixels), *shape).to(self.pixels)

    def _disc(self, shape: tuple[int, int]) -> Tensor:
        discs = _discs(self.pixels)
        deletion = self.options["game"] == "deletion"
        candidates = 1 - discs if deletion else discs
        everyone = torch.arange(len(self.pixels), device=self.pixels.device)

        def scores(candidate: int, rows: Tensor) -> Tensor:
            masks = candidates[candidate].expand(len(everyone), *discs.shape[1:])
            return self.score(self.perturbed(masks, 0, still=True)[rows], rows, fast=True)

        # the first and the last candidate are an intact and a fully perturbed image, or reversed
        first, last = scores(0, everyone), scores(-1, everyone)
        intact, gone = (first, last) if deletion else (last, first)
        coarse = adaptive_avg_pool2d(candidates, shape)
        chosen = torch.ones_like(coarse[:1]).repeat(len(everyone), 1, 1, 1)
        waiting = everyone[intact > gone]
        for k in range(1, len(candidates)):
            if len(waiting) == 0:
                break
            rest = (scores(k, waiting) - gone[waiting]) / (intact - gone)[waiting]
            reached = rest < 0.01 if deletion else rest > 0.99
            chosen[waiting[reached]] = coarse[k]
            waiting = waiting[~reached]
        return chosen

    def _uniform(self, stream: int, iteration: int, shape) -> Tensor:
        keys = [(key, stream, iteration) for key in self.keys]
        return draws.uniform(self.options["seed"], keys, shape)

    def _shifted(self, padded: Tensor, shifts: Tensor) -> Tensor:
        h, w = self.pixels.shape[2:]
        pairs = zip(padded, shifts.tolist(), strict=True)
        return torch.stack([image[:, y : y + h, x : x + w] for image, (y, x) in pairs])


def total_variation(coarse: Float[Tensor, "b 1 s t"], beta: float) -> Float[Tensor, " b"]:
    r"""$\sum_u (d_x^2+d_y^2)^{\beta/2}$ with forward differences, zero beyond the border."""
    right = pad(coarse[..., :, 1:] - coarse[..., :, :-1], (0, 1))
    down = pad(coarse[..., 1:, :] - coarse[..., :-1, :], (0, 0, 0, 1))
    squared = right.square() + down.square()
    tiny = 1e-12 if beta < 2 else 0.0  # keeps the slope at zero finite
    return ((squared + tiny) ** (beta / 2) - tiny ** (beta / 2)).sum((1, 2, 3))


def mask_matrices(pixels: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    """Matrices H (height, cells) and W (width, cells): the full mask is H m W^T."""

    def matrix(side: int) -> Tensor:
        cells = options["mask_size"] or -(-side // 8)
        basis = interpolate(torch.eye(cells)[None], size=side, mode=options["upsampling"])
        columns = basis[0].double().view(cells, 1, side, 1)
        return gaussian_blur(columns, options["mask_blur"]).view(cells, side).T.to(pixels)

    return matrix(pixels.shape[2]), matrix(pixels.shape[3])


def _optimize(problem: Problem, advance: Callable[[int], None]) -> list[dict[str, Tensor]]:
    iterations, trace, states = problem.options["iterations"], [], []
    coarse = problem.first().requires_grad_(True)
    adam = torch.optim.Adam([coarse], lr=problem.options["learning_rate"], betas=(0.9, 0.999))
    kept = set(_kept(iterations))
    for iteration in range(iterations + 1):
        with torch.set_grad_enabled(iteration < iterations):
            terms = problem.terms(coarse, iteration)
        trace.append(terms.detach().cpu())
        if iteration in kept:
            states.append(coarse.detach().cpu().clone()[:, 0])
        if iteration < iterations:
            (coarse.grad,) = torch.autograd.grad(terms[:, 0].sum(), coarse)
            adam.step()
            with torch.no_grad():
                coarse.clamp_(0, 1)
            advance(len(coarse))
    path, masks = torch.stack(trace, 2), torch.stack(states, 1)
    if not torch.isfinite(path).all():
        raise ValueError("the masks' objective is no longer finite: lower the learning rate")
    return [{"states": m.clone(), "trace": t.clone()} for m, t in zip(masks, path, strict=True)]


def _kept(iterations: int) -> list[int]:
    return sorted({round(k * iterations / (STATES - 1)) for k in range(STATES)})


def _null(pixels: Tensor, options: dict) -> Tensor | None:
    if options["perturbation"] == "noise":
        return None
    if options["perturbation"] == "blur":
        return gaussian_blur(pixels, options["blur_sigma"])
    if options["constant"] is not None:
        return resolve_baseline(options["constant"], pixels)
    if pixels.shape[1] == 3:
        return torch.tensor(DATASET_MEAN).view(1, 3, 1, 1).to(pixels).expand_as(pixels)
    return mean_color(pixels)


def _discs(pixels: Tensor) -> Float[Tensor, "r 1 h w"]:
    """Centered discs with radii 0, 5 ... 170 of 224 pixels, their edges blurred by sigma = 10."""
    h, w = pixels.shape[2:]
    unit = max(h, w) / 224
    y = torch.arange(h).view(-1, 1) + 0.5 - h / 2
    x = torch.arange(w).view(1, -1) + 0.5 - w / 2
    radii = torch.arange(0, 175, 5).view(-1, 1, 1) * unit
    discs = ((x.square() + y.square()).sqrt() < radii)[:, None].to(pixels)
    return gaussian_blur(discs, 10 * unit)


def _check(options: dict, pixels: Tensor) -> None:
    for name, known in (
        ("game", GAMES),
        ("perturbation", PERTURBATIONS),
        ("start", STARTS),
        ("score", SCORES),
        ("upsampling", ("nearest", "linear")),
    ):
        if options[name] not in known:
            raise ValueError(f"{name} {options[name]!r} is unknown; choose one of: {known}")
    for name in ("l1", "tv", "mask_noise", "mask_blur", "blur_sigma", "jitter"):
        if not 0 <= options[name] < float("inf"):
            raise ValueError(f"{name} must be a finite number from 0, is {options[name]}")
    for name in ("beta", "learning_rate"):
        if not 0 < options[name] < float("inf"):
            raise ValueError(f"{name} must be a finite number above 0, is {options[name]}")
    if options["iterations"] < 1:
        raise ValueError(f"iterations must be at least 1, not {options['iterations']}")
    size, side = options["mask_size"], min(pixels.shape[2:])
    if size is not None and not 1 <= size <= side:
        raise ValueError(f"mask_size must lie in 1..{side}, the images' shorter side, is {size}")
    if options["jitter"] > side:
        raise ValueError(f"jitter of {options['jitter']} px exceeds the images' side of {side} px")
