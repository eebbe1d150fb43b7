"""One look for all figures: names, colors and dashes of methods, and maps scaled for the eye.

Figures are drawn 6 inches wide in 11-point type, so that they stay legible on a phone, in a
palette that color-blind readers can tell apart (Okabe and Ito); lines differ in dash as well.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

WIDTH = 6.0  # inches
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK, GRAY, BROWN = "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A", "#7A5C00"
PALETTE = [BLUE, RED, GREEN, ORANGE, PINK, SKY, GRAY, BLACK]
DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (6, 2, 1, 2))]
CONTROLS = ("random", "edges")  # maps that know nothing of the network

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
    "deeplift": ("DeepLIFT", BROWN, "-"),
    "lrp_epsilon": ("LRP-ε", SKY, "-"),
    "lrp_z_plus": ("LRP-z⁺", SKY, "-."),
    "cam": ("CAM", BLUE, "--"),
    "grad_cam": ("Grad-CAM", RED, "-"),
    "grad_cam_plus_plus": ("Grad-CAM++", RED, "--"),
    "guided_grad_cam": ("Guided Grad-CAM", PINK, "--"),
    "attention_rollout": ("Attention rollout", GREEN, ":"),
    "token_grad_cam": ("Grad-CAM on tokens", RED, "-."),
    "occlusion": ("Occlusion", ORANGE, "--"),
    "lime": ("LIME", PINK, "-"),
    "kernel_shap": ("KernelSHAP", BROWN, "--"),
    "rise": ("RISE", BLACK, "-"),
    "meaningful_perturbation": ("Learned mask", BLUE, "-"),
    "excitation_backprop": ("Excitation", GREEN, "--"),
    "contrastive_excitation_backprop": ("Contrastive excitation", BLACK, "-."),
    "right_for_the_right_reasons": ("RRR", PINK, "-."),
    "unregularized": ("No prior", GRAY, "-"),
    "unregularized_without_bias": ("No prior, no biases", BLACK, "--"),
    "random": ("Random", GRAY, ":"),
    "edges": ("Edges (Sobel)", BROWN, ":"),
}

sns.set_theme(
    context="paper",
    style="whitegrid",
    palette=PALETTE,
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


def label(name: str) -> str:
    """The name of a method as readers see it; any other name with blanks for underscores."""
    return METHOD_LOOK[name][0] if name in METHOD_LOOK else name.replace("_", " ")


def line(name: str, place: int = 0) -> dict:
    """Color and dash: a method's own in every figure; else those of its place in this one."""
    _, color, dash = METHOD_LOOK.get(name, ("", PALETTE[place % 8], DASHES[place % 8]))
    return {"color": color, "linestyle": dash}


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


def in_color(picture: Tensor | np.ndarray, signed: bool = False) -> np.ndarray:
    """A picture as it is drawn, ``(H, W, 3)``: a photo as it is, a map by :func:`heat`.

    Dark is 0 and bright the 99th percentile; ``signed`` by :func:`diverging`, blue negative and red
    positive.
    """
    if picture.ndim == 3:
        return as_photo(torch.as_tensor(picture))
    shade = (1 + diverging(picture)) / 2 if signed else heat(picture)
    return plt.get_cmap("RdBu_r" if signed else "magma")(shade)[..., :3]


def overlay(image: Tensor, values: Tensor | np.ndarray, strength: float = 0.55) -> Tensor:
    """A photo ``(3, H, W)`` under a map: gray, with the map's :func:`heat` in color over it."""
    gray = as_photo(image.expand(3, -1, -1)).mean(-1, keepdims=True)
    mixed = (1 - strength) * gray + strength * in_color(values)
    return torch.from_numpy(mixed).permute(2, 0, 1).float()


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
