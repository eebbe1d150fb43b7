"""Every figure's look, in one place: colors, names, photo grids, heat maps, curves, intervals.

Figures are drawn 6 inches wide in 11-point type, so that they stay legible on a phone, in a
palette that color-blind readers can tell apart (Okabe and Ito); lines differ in dash as well.
"""

import io
from collections.abc import Callable, Sequence
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import display
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lib.report import claims

WIDTH = 6.0  # inches
DPI, PHOTO_DPI = 200, 150  # heat maps are noise to a compressor: pages have to stay small
CSS_PER_INCH = 110  # how large a figure is shown on a wide screen
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, RED, PINK, GRAY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A"

# name -> (what readers see, color, dash)
METHOD_LOOK: dict[str, tuple[str, str, str]] = {
    "gradient": ("Gradient", SKY, "--"),
    "input_x_gradient": ("InputGrad", ORANGE, "-"),
    "integrated_gradients": ("Integrated Gradients", BLUE, "-"),
    "smoothgrad": ("SmoothGrad", GREEN, "-"),
    "smoothgrad_squared": ("SmoothGrad²", GREEN, "--"),
    "guided_backprop": ("Guided backprop", PINK, "-"),
    "expected_gradients": ("Expected Gradients", GREEN, "-."),
    "x_gradient": ("X-Gradient", RED, "-"),
    "cam": ("CAM", BLUE, "--"),
    "grad_cam": ("Grad-CAM", RED, "-"),
    "guided_grad_cam": ("Guided Grad-CAM", PINK, "--"),
    "occlusion": ("Occlusion", ORANGE, "--"),
    "lime": ("LIME", PINK, "-"),
    "rise": ("RISE", BLACK, "-"),
    "meaningful_perturbation": ("Learned mask", BLUE, "-"),
    "excitation_backprop": ("Excitation", ORANGE, "-"),
    "contrastive_excitation_backprop": ("Contrastive excitation", RED, "-"),
    "right_for_the_right_reasons": ("RRR", PINK, "-."),
    "unregularized": ("No prior", GRAY, "-"),
    "unregularized_without_bias": ("No prior, no biases", BLACK, "--"),
    "random": ("Random", GRAY, ":"),
    "edges": ("Edges (Sobel)", BLACK, ":"),
}

CONTROLS = ("random", "edges")  # maps that must lose

sns.set_theme(
    context="paper",
    style="whitegrid",
    palette=[BLUE, RED, GREEN, ORANGE, PINK, SKY, GRAY, BLACK],
    rc={
        "figure.dpi": 100,
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#e4e4e4",
        "lines.linewidth": 1.8,
        "font.family": "DejaVu Sans",
    },
)


def label(method: str) -> str:
    """The name of a method as readers see it."""
    return METHOD_LOOK[method][0] if method in METHOD_LOOK else method.replace("_", " ")


def color(method: str) -> str:
    """The color of a method, the same in every report."""
    return METHOD_LOOK[method][1] if method in METHOD_LOOK else GRAY


def dash(method: str) -> str:
    """The line style of a method, the same in every report."""
    return METHOD_LOOK[method][2] if method in METHOD_LOOK else "-."


def show(fig: Figure, *, alt: str, caption: str, photo: bool = False, cover: bool = False) -> None:
    """Put the figure into the report with its alternative text and caption, and close it.

    ``photo=True`` stores a JPEG (for grids of photographs), otherwise a PNG. ``cover=True`` makes
    it the report's picture on the index page. Raises ``ValueError`` without alt text or caption.
    """
    if not alt.strip() or not caption.strip():
        raise ValueError("a figure needs alt text and a caption")
    png = io.BytesIO()
    dpi = PHOTO_DPI if photo else DPI
    raw = {"compress_level": 0}  # encoded below
    fig.savefig(png, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.05, pil_kwargs=raw)
    plt.close(fig)
    drawn = Image.open(png).convert("RGB")
    if photo:
        mime, content = "image/jpeg", _encoded(drawn, "JPEG", quality=80, optimize=True)
    else:
        palette = drawn.quantize(256, dither=Image.Dither.NONE)
        mime, content = "image/png", _encoded(palette, "PNG")
    width = round(drawn.width / dpi * CSS_PER_INCH)
    metadata = {"alt": alt, "caption": caption, "cover": cover, "width": width}
    display({mime: content}, metadata={mime: metadata}, raw=True)


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def as_photo(image: Tensor) -> np.ndarray:
    """An image tensor ``(3, H, W)`` in [0, 1] as an array ``(H, W, 3)``; values are clipped."""
    return image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()


def heat(values: Tensor | np.ndarray, percentile: float = 99.0) -> np.ndarray:
    r"""A nonnegative map scaled for the eye: $\mathrm{clip}((v-\min v)/(P_{99}-\min v), 0, 1)$.

    SmoothGrad's rule. Without the cap a few extreme pixels leave the rest nearly black; where it
    would hide them all, the maximum takes its place. A constant map becomes zero.
    """
    v = _finite(values)
    low, high = v.min(), np.percentile(v, percentile)
    high = high if high > low else v.max()
    return np.clip((v - low) / (high - low), 0, 1) if high > low else np.zeros_like(v)


def diverging(values: Tensor | np.ndarray, percentile: float = 99.0) -> np.ndarray:
    r"""A signed map scaled for the eye: $\mathrm{clip}(v/P_{99}(|v|), -1, 1)$; zero stays zero."""
    v = _finite(values)
    span = np.percentile(np.abs(v), percentile) or np.abs(v).max()
    return np.clip(v / span, -1, 1) if span > 0 else np.zeros_like(v)


def _finite(values: Tensor | np.ndarray) -> np.ndarray:
    v = np.asarray(values, dtype=float)
    if not np.isfinite(v).all():
        raise ValueError("a map holds NaN or infinite values: it cannot be drawn")
    return v


def overlay(image: Tensor, values: Tensor | np.ndarray, strength: float = 0.55) -> Tensor:
    """A photo ``(3, H, W)`` under a map: gray, with the map's :func:`heat` in color over it."""
    tint = plt.get_cmap("magma")(heat(values))[..., :3]
    gray = as_photo(image.expand(3, -1, -1)).mean(-1, keepdims=True)
    return torch.from_numpy((1 - strength) * gray + strength * tint).permute(2, 0, 1).float()


def outline(image: Tensor, box: Sequence[float], color: str = BLUE, width: int = 3) -> Tensor:
    """A photo ``(3, H, W)`` with the frame of a box (x0, y0, x1, y1); unchanged for a NaN box."""
    framed = image.clone()
    if np.isnan(np.asarray(box, dtype=float)).any():
        return framed
    x0, y0, x1, y1 = (round(float(side)) for side in box)
    mask = torch.zeros(image.shape[1:], dtype=torch.bool)
    mask[max(0, y0) : y1, max(0, x0) : x1] = True
    mask[y0 + width : max(0, y1 - width), x0 + width : max(0, x1 - width)] = False
    framed[:, mask] = torch.tensor(to_rgb(color)).view(3, 1).to(framed)
    return framed


def grid(
    rows: Sequence[Sequence],
    *,
    columns: Sequence[str] = (),
    row_names: Sequence[str] = (),
    signed: bool = False,
    cell: float | None = None,
) -> Figure:
    """A grid of pictures: image tensors ``(3, H, W)`` in color, two-dimensional maps as heat maps.

    Maps are scaled by :func:`heat` (dark = 0, bright = the 99th percentile), or with
    ``signed=True`` by :func:`diverging` (blue negative, red positive). ``None`` leaves a gap.
    """
    count = max(len(row) for row in rows)
    names = ["\n".join(wrap(name, 11)) for name in row_names]
    left = 0.2 * max([1 + name.count("\n") for name in names], default=0)
    top = 0.19 * max([1 + title.count("\n") for title in columns], default=0) + 0.03
    cell = cell or (WIDTH - left) / count
    width, height = left + cell * count, top + cell * len(rows)
    fig, axes = plt.subplots(len(rows), count, figsize=(width, height), squeeze=False)
    fig.subplots_adjust(left / width, 0, 1, 1 - top / height, wspace=0.04, hspace=0.04)
    for r, row in enumerate(rows):
        for c in range(count):
            ax = axes[r, c]
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            sns.despine(ax=ax, left=True, bottom=True)
            if c < len(row) and row[c] is not None:
                _draw(ax, row[c], signed)
            if r == 0 and c < len(columns):
                ax.set_title(columns[c], fontsize=10, pad=3)
            if c == 0 and r < len(names):
                ax.set_ylabel(names[r], fontsize=10, labelpad=3)
    return fig


def _draw(ax, picture, signed: bool) -> None:
    if picture.ndim == 3:
        ax.imshow(as_photo(picture))
    elif signed:
        ax.imshow(diverging(picture), cmap="RdBu_r", vmin=-1, vmax=1)
    else:
        ax.imshow(heat(picture), cmap="magma", vmin=0, vmax=1)


def interval(seed: int = 0) -> Callable[[pd.Series], tuple[float, float]]:
    """For seaborn's ``errorbar``: the 95 % bootstrap interval of the mean that claims use."""
    return lambda values: claims.bootstrap(values, seed=seed)[1]


def curves(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    methods: Sequence[str],
    ax,
    percent: bool = True,
    seed: int = 0,
) -> None:
    """One line per method (column ``method``): its mean over images with a 95 % bootstrap band.

    The bands of the controls, ``random`` and ``edges``, are left out: they would hide the others.
    """
    for method in methods:
        sns.lineplot(
            frame[frame["method"] == method],
            x=x,
            y=y,
            errorbar=None if method in CONTROLS else interval(seed),
            color=color(method),
            linestyle=dash(method),
            label=label(method),
            ax=ax,
            err_kws={"alpha": 0.12, "linewidth": 0},
        )
    ax.get_legend().remove()
    if percent:
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def legend_below(fig: Figure, ax, columns: int = 3) -> None:
    """One legend for the whole figure, under it, from the lines of ``ax``."""
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=columns)


def intervals(findings: dict[str, object], *, ax, xlabel: str, zero: float = 0.0) -> None:
    """A row per finding or part: its estimate with its interval, against a line at ``zero``.

    Of one that is invalid the line is dotted; what was not measured leaves its row empty.
    """
    looks = {
        "supported": (BLUE, "o"),
        "contradicted": (RED, "X"),
        "mixed": (PINK, "s"),
        "inconclusive": (GRAY, "D"),
        "invalid": (GRAY, "x"),
    }
    for row, finding in enumerate(findings.values()):
        shade, marker = looks[finding.verdict]
        style = {"color": shade, "linestyle": ":" if finding.verdict == "invalid" else "-"}
        if finding.interval is not None:
            ax.plot(finding.interval, [row, row], linewidth=2.5, solid_capstyle="butt", **style)
        if finding.estimate is not None:
            ax.plot(finding.estimate, row, marker, color=shade, markersize=7)
    ax.axvline(zero, color=BLACK, linewidth=0.8)
    ax.set_yticks(range(len(findings)), list(findings))
    ax.set_ylim(len(findings) - 0.5, -0.5)
    ax.set_xlabel(xlabel)
    ax.grid(axis="y", visible=False)
