r"""Scenes of which we know what decides: a body with two parts, and the shape of one is the label.

After Hesse, Schaub-Meyer, Roth, *FunnyBirds: a synthetic vision dataset for a part-based analysis
of explainable AI methods*, ICCV 2023: a part can be taken away, and the scene is drawn again
without it, so that no fill has to be invented. Here the parts are flat shapes. The red one decides;
the blue one, the green body and the texture behind them never do.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from lib.core import draws, store
from lib.data.tasks import Task

SHAPES = ["square", "triangle", "cross", "ring"]
CATEGORIES = [*SHAPES, "none"]
PARTS = ("part", "distractor", "body")  # of which the first decides; all of about 50 pixels
REGIONS = (*PARTS, "background")  # behind which is nothing true to be seen
SIDE = 28  # pixels, as the small networks want them
HALF, RADIUS, REACH = 3, 4.0, 9.0  # parts of 7 x 7 pixels, 9 from the center of a disc
COLORS = {"body": (0.2, 0.7, 0.3), "distractor": (0.2, 0.4, 1.0), "part": (1.0, 0.25, 0.15)}


@dataclass(frozen=True, eq=False, repr=False)
class Scenes:
    """Images ``(N, 3, 28, 28)`` float32 in [0, 1], labels, and where each of ``REGIONS`` is.

    Regions do not overlap and cover the picture. A part's is the square of 7 x 7 pixels that all
    shapes are drawn in: nothing outside of the deciding part's differs between two labels.
    """

    images: Float[Tensor, "n 3 h w"]
    targets: Int[Tensor, " n"]
    regions: dict[str, Bool[Tensor, "n h w"]]

    @property
    def instances(self) -> list[Tensor]:
        """No boxes: what a protocol measures inside the boxes of photos is left out."""
        return [torch.empty(0, 4)] * len(self.targets)


def constructed_scenes(n: int, *, seed: int = 0, without: str | None = None) -> Scenes:
    """The first ``n`` scenes of a seed, each drawn by its number alone.

    ``without`` leaves one of ``REGIONS`` out of the pictures, and changes nothing else: behind a
    part or the body is the texture, and instead of the background an even gray.

    Raises ``ValueError`` for n < 1 and an unknown region.
    """
    if n < 1:
        raise ValueError(f"the number of scenes must be at least 1, not {n}")
    if without not in (None, *REGIONS):
        raise ValueError(f"region {without!r} is unknown; choose one of: {', '.join(REGIONS)}")
    keys = range(n)
    drawn = draws.uniform(seed, [(k, 0) for k in keys], (9, 1, 1)).unbind(1)
    turn, apart, down, right, label, other, *light = drawn
    targets, others = ((len(SHAPES) * u[:, 0, 0]).long() for u in (label, other))
    angles = {
        "part": 2 * math.pi * turn,
        "distractor": 2 * math.pi * turn + math.pi + 2 * apart - 1,
    }
    y, x = torch.arange(SIDE).view(-1, 1), torch.arange(SIDE)
    y, x = y - (SIDE / 2 - 1.5 + 2 * down), x - (SIDE / 2 - 1.5 + 2 * right)  # from the center
    ink = {"body": y.square() + x.square() <= RADIUS**2}
    regions = dict(ink)
    for name, shape in (("distractor", others), ("part", targets)):
        offset = (y - REACH * angles[name].sin()).round(), (x - REACH * angles[name].cos()).round()
        shapes = _shapes(*offset)
        ink[name], regions[name] = shapes[shape, torch.arange(n)], shapes[0]
    regions["background"] = ~(regions["body"] | regions["distractor"] | regions["part"])
    coarse, fine = (draws.uniform(seed, [(k, s) for k in keys], (3, s, s)) for s in (7, SIDE))
    images = 0.2 + 0.4 * interpolate(coarse, SIDE, mode="bilinear") + 0.2 * fine
    images = images if without != "background" else torch.full_like(images, 0.5)
    for (name, where), u in zip(ink.items(), light, strict=True):
        color = torch.tensor(COLORS[name]).view(3, 1, 1) * (0.7 + 0.3 * u)[:, None]
        images = images if without == name else torch.where(where[:, None], color, images)
    return Scenes(images, targets, {name: regions[name] for name in REGIONS})


def _shapes(y: Tensor, x: Tensor) -> Bool[Tensor, "4 n h w"]:
    """Where each of ``SHAPES`` is, around the pixel at (0, 0); the square holds the others."""
    square, distance = (y.abs() <= HALF) & (x.abs() <= HALF), y.square() + x.square()
    triangle = square & (2 * x.abs() <= y + HALF)
    cross = square & (torch.minimum(y.abs(), x.abs()) <= 1)
    ring = square & (distance >= 4) & (distance <= 12)
    return torch.stack([square, triangle, cross, ring])


def scenes_task(train: int, *, test: int = 1000, seed: int = 0) -> Task:
    """``train`` scenes of a seed to learn from, ``test`` of the next seed to be asked about.

    Of any four, one is whole and one each lacks the part, the distractor and the body, so that a
    network knows such pictures. A scene without the part has a class of its own, ``none``: else
    one of the shapes would stand for seeing nothing, and could not fall when its part is gone.
    """
    parts = *_with_gaps(train, seed), *_with_gaps(test, seed + 1)
    return Task(*parts, CATEGORIES, 3, SIDE, store.digest(*parts))


def _with_gaps(n: int, seed: int) -> tuple[Tensor, Tensor]:
    whole, *lacking = (constructed_scenes(n, seed=seed, without=r) for r in (None, *PARTS))
    every, which = torch.stack([s.images for s in (whole, *lacking)]), torch.arange(n) % 4
    return every[which, torch.arange(n)], torch.where(which == 1, len(SHAPES), whole.targets)
