r"""Meaningful Perturbation: learn the smallest mask whose deletion destroys the class score.

Fong, Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV 2017,
equations 2 to 4. Defaults are the values of the authors' program (``optimize_mask.py``), which are
not always those of summaries of the paper: jitter moves the image and the mask has no noise, the
mask starts from a disc and not from ones, and iterations are 300. Two things differ on purpose:
gradients pass through the blur of the mask (the program ignores it there), and a photograph is
jittered by repeating its edge (the program cuts a crop of 224 from a photograph of 228 pixels).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pad

from lib import copies
from lib.copies import baselines, engine
from lib.copies.baselines import gaussian_blur, resolve_baseline
from lib.core import draws, store
from lib.core.progress import progress

GAMES = ("deletion", "preservation")
PERTURBATIONS = ("blur", "constant", "noise")
STARTS = ("disc", "ones", "random")
UPSAMPLINGS = ("nearest", "linear")
SCORES = ("probability", "logit")
STATES = 11  # masks kept along the way, the first and the last included
_JITTER, _NOISE, _MASK_NOISE, _START = 1, 2, 3, 4  # streams of random numbers
_CODE = store.code(__file__, baselines.__file__, draws.__file__, engine.__file__)


@dataclass(frozen=True)
class MaskSettings:
    r"""What is minimized, from where and for how long.

    $$\min_m \lambda_1\lVert 1-m\rVert_1 + \lambda_2\sum_u\lVert\nabla m(u)\rVert^\beta
    + E_\tau f_c(\Phi(x(\cdot-\tau), m)),\quad \Phi(x, m) = \hat m x + (1-\hat m)\mu$$

    for the deletion game; the preservation game has $\lVert m\rVert_1$ and $-f_c$.

    Args:
        perturbation: $\mu$ is the image under a Gaussian ``blur_sigma`` (pixels), a ``constant``
            (a name of ``BASELINES``, a gray level or a tensor; by default ImageNet's mean color),
            or uniform ``noise`` drawn anew at each iteration.
        l1, tv, beta: weights and exponent of the terms, which are sums over the small mask.
        jitter: the image is shifted by so many different offsets in each direction, 1 px apart.
        mask_noise: sigma of Gaussian noise on the small mask at each iteration.
        mask_size: cells of the small mask along each side; by default one for 8 x 8 pixels.
        upsampling, mask_blur: how the small mask becomes $\hat m$: ``nearest`` or ``linear``,
            then a Gaussian (pixels).
        start: ``disc``, the smallest centered disc whose deletion takes 99 % of the score
            (ones where the perturbation does not lower the score at all), ``ones`` or ``random``.
        score: $f_c$, the softmax ``probability`` or the ``logit`` of the target.

    Raises:
        ValueError: a setting that is unknown, negative or not finite.
    """

    game: str = "deletion"
    perturbation: str = "blur"
    blur_sigma: float = 10.0
    constant: str | float | Tensor = "imagenet"
    l1: float = 1e-4
    tv: float = 1e-2
    beta: float = 3.0
    jitter: int = 4
    mask_noise: float = 0.0
    mask_size: int | None = None
    upsampling: str = "nearest"
    mask_blur: float = 5.0
    start: str = "disc"
    learning_rate: float = 0.1
    iterations: int = 300
    score: str = "probability"
    seed: int = 0

    def __post_init__(self):
        known = {"game": GAMES, "perturbation": PERTURBATIONS, "upsampling": UPSAMPLINGS}
        for name, values in {**known, "start": STARTS, "score": SCORES}.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown; choose one of: {values}"
                )
        positive = ("beta", "learning_rate")
        for name in (*positive, "l1", "tv", "mask_noise", "mask_blur", "blur_sigma", "jitter"):
            value, least = getattr(self, name), "above" if name in positive else "from"
            if not 0 <= value < float("inf") or (value == 0 and name in positive):
                raise ValueError(f"{name} must be a finite number {least} 0, is {value}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {self.iterations}")

    def check_size(self, side: int) -> None:
        """``ValueError`` for what does not fit in images whose shorter side is ``side`` pixels."""
        if self.mask_size is not None and not 1 <= self.mask_size <= side:
            raise ValueError(
                f"mask_size must lie in 1..{side}, the images' shorter side, is {self.mask_size}"
            )
        if self.jitter > side:
            raise ValueError(f"jitter of {self.jitter} px exceeds the images' side of {side} px")


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
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    seed: int = 0,
    batch_size: int | None = None,
    cache: bool = True,
    **options,
) -> Float[Tensor, "n 1 h w"]:
    """What :func:`learn_masks` marks as relevant, in [0, 1]; ``options`` as in ``MaskSettings``.

    One minus the mask of the deletion game, the mask itself of the preservation game.
    """
    settings = MaskSettings(seed=seed, **options)
    learned = learn_masks(classifier, images, targets, settings, batch_size=batch_size, cache=cache)
    return 1 - learned.masks if settings.game == "deletion" else learned.masks


def learn_masks(
    classifier,
    images: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    settings: MaskSettings | None = None,
    *,
    batch_size: int | None = None,
    cache: bool = True,
) -> LearnedMasks:
    """Masks of all images, by Adam with a clip to [0, 1] after each step.

    ``settings`` default to the authors'. With ``cache`` each image's result is kept on disk, by
    the hash of everything it depends on. Raises ``ValueError`` for settings that do not fit the
    images.
    """
    settings = settings or MaskSettings()
    pixels, classes = copies.check_inputs(classifier, images, targets)
    settings.check_size(min(pixels.shape[2:]))
    own = settings.constant  # one image each
    if isinstance(own, Tensor):
        own = resolve_baseline(own, images.detach()).to(pixels)
    height, width = mask_matrices(pixels, settings)
    keys = _keys(classifier, pixels, classes, settings) if cache else [None] * len(pixels)
    kept = {
        "states": pixels.new_empty(len(_kept(settings.iterations)), height.shape[1], width.shape[1])
    }
    kept["trace"] = pixels.new_empty(4, settings.iterations + 1)
    found = {
        row: state
        for row, key in enumerate(keys)
        if (state := store.read_tensors("masks", key, like=kept)) is not None
    }
    missing = [row for row in range(len(pixels)) if row not in found]
    size = copies.batch_size_for(classifier, pixels, "gradients", batch_size)
    with progress("learning masks", len(missing) * settings.iterations) as advance:
        for at in range(0, len(missing), size):
            rows = missing[at : at + size]
            part = replace(settings, constant=own[rows] if isinstance(own, Tensor) else own)
            problem = Problem(classifier, pixels[rows], classes[rows], part)
            for row, state in zip(rows, _optimize(problem, advance), strict=True):
                found[row] = state
                store.write_tensors("masks", keys[row], state)
    states = torch.stack([found[row]["states"] for row in range(len(pixels))])
    trace = torch.stack([found[row]["trace"] for row in range(len(pixels))])
    coarse = states[:, -1:]
    masks = (height @ coarse.to(height) @ width.T).clamp(0, 1)
    names = ("objective", "score", "length", "variation")
    return LearnedMasks(
        masks.to(images.device),
        coarse.to(images.device),
        {name: trace[:, k] for k, name in enumerate(names)},
        states,
        _kept(settings.iterations),
    )


def _keys(classifier, pixels: Tensor, classes: Tensor, settings: MaskSettings) -> list[str | None]:
    shared = store.key(getattr(classifier, "decisive", classifier), vars(settings), _CODE)
    own = zip(pixels, classes.tolist(), strict=True)
    return [shared and store.key(shared, image, target) for image, target in own]


class Problem:
    """The optimization of one micro-batch: everything that stays fixed while masks change."""

    def __init__(self, classifier, pixels: Tensor, classes: Tensor, settings: MaskSettings):
        self.classifier, self.classes, self.settings = classifier, classes, settings
        self.pixels, self.keys = pixels, draws.image_keys(pixels)
        self.null = _null(pixels, settings)
        self.height, self.width = mask_matrices(pixels, settings)
        before = settings.jitter // 2
        margin = [before, max(settings.jitter - 1 - before, 0)] * 2
        self.margin = before
        self.padded = pad(pixels, margin, mode="replicate")
        self.null_padded = None if self.null is None else pad(self.null, margin, mode="replicate")

    def masks(self, coarse: Float[Tensor, "b 1 s t"]) -> Float[Tensor, "b 1 h w"]:
        """Upsampling and blur are linear and separable: one matrix for each direction."""
        return self.height @ coarse @ self.width.T

    def perturbed(self, masks: Tensor, iteration: int, *, still: bool = False) -> Tensor:
        """The images under full-size masks, with this iteration's jitter and noise."""
        shifts = torch.full((len(masks), 2), self.margin)
        if self.settings.jitter > 1 and not still:
            draw = self._uniform(_JITTER, iteration, (2,))
            shifts = (draw * self.settings.jitter).long()
        pixels = self._shifted(self.padded, shifts)
        if self.null_padded is None:
            null = self._uniform(_NOISE, iteration, pixels.shape[1:]).to(pixels)
        else:
            null = self._shifted(self.null_padded, shifts)
        return torch.addcmul(null, masks, pixels - null)

    def score(self, images: Tensor, rows: Tensor | None = None, *, fast: bool = False) -> Tensor:
        """The score of each image's own class; ``fast`` without gradients."""
        logits = self.classifier.scores(images) if fast else self.classifier(images)
        classes = self.classes if rows is None else self.classes[rows]
        return copies.SCORES[self.settings.score](logits, classes)

    def terms(self, coarse: Tensor, iteration: int) -> Float[Tensor, "b 4"]:
        """Objective, score, L1 norm and variation of each image at one iteration's draws."""
        settings, used = self.settings, coarse
        if settings.mask_noise:
            keys = [(key, _MASK_NOISE, iteration) for key in self.keys]
            noise = draws.normal(settings.seed, keys, coarse.shape[1:]).to(coarse)
            used = (coarse + settings.mask_noise * noise).clamp(0, 1)
        score = self.score(self.perturbed(self.masks(used), iteration))
        deletion = settings.game == "deletion"
        length = ((1 - coarse) if deletion else coarse).abs().sum((1, 2, 3))
        variation = total_variation(coarse, settings.beta)
        sign = 1 if deletion else -1
        objective = settings.l1 * length + settings.tv * variation + sign * score
        return torch.stack([objective, score, length, variation], 1)

    def first(self) -> Float[Tensor, "b 1 s t"]:
        """The masks to start from."""
        shape = (1, self.height.shape[1], self.width.shape[1])
        if self.settings.start == "random":
            return self._uniform(_START, 0, shape).to(self.pixels)
        if self.settings.start == "disc":
            return self._disc(shape[1:])
        return torch.ones(len(self.pixels), *shape).to(self.pixels)

    def _disc(self, shape: tuple[int, int]) -> Tensor:
        discs = _discs(self.pixels)
        deletion = self.settings.game == "deletion"
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
        return draws.uniform(self.settings.seed, keys, shape)

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


def mask_matrices(pixels: Tensor, settings: MaskSettings) -> tuple[Tensor, Tensor]:
    """Matrices H (height, cells) and W (width, cells): the full mask is H m W^T."""

    def matrix(side: int) -> Tensor:
        cells = settings.mask_size or -(-side // 8)
        basis = interpolate(torch.eye(cells)[None], size=side, mode=settings.upsampling)
        columns = basis[0].double().view(cells, 1, side, 1)
        return gaussian_blur(columns, settings.mask_blur).view(cells, side).T.to(pixels)

    return matrix(pixels.shape[2]), matrix(pixels.shape[3])


def _optimize(problem: Problem, advance: Callable[[int], None]) -> list[dict[str, Tensor]]:
    iterations, trace, states = problem.settings.iterations, [], []
    coarse = problem.first().requires_grad_(True)
    adam = torch.optim.Adam([coarse], lr=problem.settings.learning_rate, betas=(0.9, 0.999))
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


def _null(pixels: Tensor, settings: MaskSettings) -> Tensor | None:
    if settings.perturbation == "noise":
        return None
    if settings.perturbation == "blur":
        return gaussian_blur(pixels, settings.blur_sigma)
    return resolve_baseline(settings.constant, pixels)


def _discs(pixels: Tensor) -> Float[Tensor, "r 1 h w"]:
    """Centered discs with radii 0, 5 ... 170 of 224 pixels, their edges blurred by sigma = 10."""
    h, w = pixels.shape[2:]
    unit = max(h, w) / 224
    y = torch.arange(h).view(-1, 1) + 0.5 - h / 2
    x = torch.arange(w).view(1, -1) + 0.5 - w / 2
    radii = torch.arange(0, 175, 5).view(-1, 1, 1) * unit
    discs = ((x.square() + y.square()).sqrt() < radii)[:, None].to(pixels)
    return gaussian_blur(discs, 10 * unit)
