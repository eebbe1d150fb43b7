"""The figures that all reports share: one call each, from numbers to a captioned picture.

    pictures   photos and maps in a grid        gallery    the same, each under its name, with
                                                           ``slider=`` one after the other
    curves     means with their intervals       bars       one number per name
    intervals  parts of claims against a line
    strips     every unit's value by group      scatter    two numbers per unit
    matrix     a table of numbers in color      canvas     axes for a figure of one report

Each takes ``caption`` and ``alt``: templates of :mod:`lib.report.say`, evaluated against the
notebook's variables. Alt text says what is drawn and its numbers by itself, unless the notebook
says it better. Bands and bars of error are the interval of :mod:`lib.report.statistics`.
``cover=True`` makes a figure the report's picture on the index.
"""

import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from PIL import Image

from lib.core import markup
from lib.report import say, statistics
from lib.report.looks import (
    BLACK,
    BLUE,
    CONTROLS,
    GRAY,
    RED,
    WIDTH,
    in_color,
    label,
    line,
)

DPI, PHOTO_DPI = 200, 150  # heat maps are noise to a compressor: pages have to stay small
FINEST = 300  # dots per inch where a slider enlarges a small picture
CSS_PER_INCH = 110  # how large a figure is shown on a wide screen
TITLE, SMALLEST = 10, 8.5  # points of a gallery's titles: as a rule, and where they are long
MARKS = 8  # so many values of a logarithmic axis are all marked
TOLD = 12  # lines of a figure whose numbers the alt text gives
NAMED = 500  # points of a figure whose values are shown under the pointer
LOOKS = {  # of a verdict: color and marker
    "supported": (BLUE, "o"),
    "contradicted": (RED, "X"),
    "inconclusive": (GRAY, "D"),
    "invalid": (GRAY, "x"),
}


def show(
    fig: Figure,
    *,
    caption: str,
    alt: str,
    told: Sequence[str] = (),
    photo: bool = False,
    cover: bool = False,
    dpi: float | None = None,
    slider: str = "",
    frames: Mapping[str, Sequence[tuple[str, Axes]]] | None = None,
    points: Sequence[tuple[str, Axes, float, float]] = (),
) -> None:
    """Put a figure into the report and close it; ``photo`` stores a JPEG, else it is a PNG.

    ``told`` are the numbers drawn, for the alt text: they hold names of data and are no templates.
    On the page ``slider`` names a control that shows one after the other of ``frames``, named axes
    of one size, by the choice that they belong to; ``points`` are named under the pointer.
    Raises ``ValueError`` without alt text or caption.
    """
    try:
        alt = " ".join([say.plain(alt), *told]).strip()
        caption = " ".join(say.fill(caption).split())
        if not alt or not caption:
            raise ValueError("a figure needs alt text and a caption")
        dpi = dpi or (PHOTO_DPI if photo else DPI)
        fig.set_dpi(dpi)
        fig.draw_without_rendering()  # now everything has its place
        box = fig.get_tightbbox().padded(0.05)
        facts = {"alt": alt, "caption": caption, "cover": cover}
        corner = box.x0 * dpi, box.y1 * dpi
        facts |= {"slider": _frames(slider, frames, corner)} if slider and frames else {}
        facts |= {"points": named} if (named := _named(points, corner)) else {}
        png = io.BytesIO()
        raw = {"compress_level": 0}  # encoded below
        fig.savefig(png, format="png", dpi=dpi, bbox_inches=box, pil_kwargs=raw)
    finally:
        plt.close(fig)
    drawn, encoded = Image.open(png).convert("RGB"), io.BytesIO()
    if photo:
        drawn.save(encoded, "JPEG", quality=90, optimize=True)  # the page stores it smaller
    else:
        drawn.quantize(256, dither=Image.Dither.NONE).save(encoded, "PNG")
    mime = "image/jpeg" if photo else "image/png"
    facts["width"] = round(drawn.width / dpi * CSS_PER_INCH)
    display({mime: encoded.getvalue()}, metadata={mime: facts}, raw=True)


def _frames(slider: str, frames: Mapping, corner: tuple[float, float]) -> dict[str, Any]:
    """Where each frame is, in pixels from the picture's upper left ``corner``."""

    def whole(ax: Axes) -> tuple[int, int, int, int]:  # the pixels that are the picture's alone
        edges = ax.get_window_extent()
        left, right = math.ceil(edges.x0 - corner[0]), math.floor(edges.x1 - corner[0])
        top, bottom = math.ceil(corner[1] - edges.y1), math.floor(corner[1] - edges.y0)
        return left, top, right - left, bottom - top

    rows = {key: [(name, *whole(ax)) for name, ax in row] for key, row in frames.items()}
    size = [min(cell[k] for row in rows.values() for cell in row) for k in (3, 4)]
    return {
        "name": slider,
        "size": size,
        "rows": {key: [cell[:3] for cell in row] for key, row in rows.items()},
    }


def _named(points: Sequence, corner: tuple[float, float]) -> list[tuple[str, int, int]]:
    """The same of points that are to be named; what a logarithmic axis cannot show is left out."""
    spots = [(name, *ax.transData.transform((x, y)) - corner) for name, ax, x, y in points]
    return [(name, round(x), round(-y)) for name, x, y in spots if math.isfinite(x + y)]


@contextmanager
def canvas(
    rows: int = 1, columns: int = 1, *, height: float = 3.2, caption: str, alt: str, **options: Any
) -> Iterator[Any]:
    """Axes for a figure that one report needs, shown at the end of the ``with``.

    Gives one Axes, or an array of them in rows and columns; ``height`` in inches. ``cover`` and
    ``photo`` as for `show`; other options go to ``plt.subplots``.
    """
    shown = {name: options.pop(name) for name in ("cover", "photo") if name in options}
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height), layout="constrained", **options
    )
    try:
        yield axes
    except BaseException:
        plt.close(fig)
        raise
    show(fig, caption=caption, alt=alt, **shown)


def pictures(
    rows: Sequence[Sequence],
    *,
    caption: str,
    alt: str,
    columns: Sequence[str] = (),
    row_names: Sequence[str] = (),
    signed: bool = False,
    cell: float | None = None,
    cover: bool = False,
) -> None:
    """A grid: image tensors ``(3, H, W)`` in color, two-dimensional maps as heat maps.

    Maps are scaled by ``looks.heat`` (dark = 0, bright = the 99th percentile), or with ``signed``
    by ``looks.diverging`` (blue negative, red positive). ``None`` leaves a gap. ``cell`` is the
    width of one in inches; without it the grid fills the page. Names of methods become labels.
    """
    count = max(len(row) for row in rows)
    names, left = _row_names(row_names)
    heads = [_wrapped(label(name), 58 // count) for name in columns]
    top = 0.19 * max([1 + head.count("\n") for head in heads], default=0) + 0.03
    cell = cell or (WIDTH - left) / count
    tall = cell * max(p.shape[-2] / p.shape[-1] for row in rows for p in row if p is not None)
    width, height = left + cell * count, top + tall * len(rows)
    fig, axes = plt.subplots(len(rows), count, figsize=(width, height), squeeze=False)
    fig.subplots_adjust(left / width, 0, 1, 1 - top / height, wspace=0.04, hspace=0.04)
    for r, row in enumerate(rows):
        for c, ax in enumerate(axes[r]):
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            sns.despine(ax=ax, left=True, bottom=True)
            if c < len(row) and row[c] is not None:
                ax.imshow(in_color(row[c], signed))
            if r == 0 and c < len(heads):
                ax.set_title(heads[c], fontsize=10 if count < 6 else 8.5, pad=3)
            if c == 0 and r < len(names):
                ax.set_ylabel(names[r], fontsize=10, labelpad=3)
    show(fig, caption=caption, alt=alt, photo=True, cover=cover)


def _row_names(names: Iterable[str]) -> tuple[list[str], float]:
    """Names in lines, to stand upright at the left, and the inches that they take."""
    shown = ["\n".join(wrap(label(name), 11)) for name in names]
    return shown, 0.2 * max((1 + name.count("\n") for name in shown if name), default=0)


def _wrapped(name: str, width: int) -> str:
    """A name in lines of at most ``width`` letters where its words allow."""
    return "\n".join(wrap(name, max(width, 6), break_long_words=False))


def _fitted(names: Collection[str], width: float) -> tuple[int, float]:
    """How many letters a line may have and how many points, so that titles stay in so many inches.

    Long ones become a little smaller; where that would be too small, they are broken into lines.
    """

    def size(letters: int) -> float:
        lines = {line for name in names for line in _wrapped(name, letters).split("\n") if line}
        wide = [TextPath((0, 0), line, size=TITLE).get_extents().width / 72 for line in lines]
        return TITLE * width / max([width, *wide])

    longest = max(map(len, names))
    letters = next((n for n in range(longest, 6, -1) if size(n) >= SMALLEST), 6)
    return letters, size(letters)


def gallery(
    cells: Sequence[tuple[str, Any]] | Mapping[str, Sequence[tuple[str, Any]]],
    *,
    caption: str,
    alt: str,
    columns: int = 4,
    slider: str = "",
    cover: bool = False,
) -> None:
    """Pictures with a name over each, in rows of ``columns``; drawn as by `pictures`.

    A cell may hold several pictures of one height, side by side. With ``slider``, the name of what
    changes, the page shows one cell at a time, and a range input moves through them; the whole
    grid is what is printed and what is seen without a script. A mapping of equally long lists
    begins each on a row of its own: the page has a menu for them.
    """
    groups = dict(cells) if isinstance(cells, Mapping) else {"": cells}
    names, left = _row_names(groups)
    tiles = [[_beside(shown) for _, shown in group] for group in groups.values()]
    high, wide = tiles[0][0].shape[:2]
    lines = -(-len(tiles[0]) // columns)  # of one group
    side = (WIDTH - left) / columns
    titles = {label(name) for group in groups.values() for name, _ in group}
    letters, size = _fitted(titles, side - 0.12)
    top = 0.21 + 0.17 * max(_wrapped(title, letters).count("\n") for title in titles)
    tall, rows = side * high / wide, lines * len(groups)
    height = rows * (tall + top)
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False)
    fig.subplots_adjust(left / WIDTH, 0, 1, 1 - top / height, wspace=0.03, hspace=top / tall)
    frames = {}
    for k, (choice, group) in enumerate(groups.items()):
        places = list(axes[k * lines : (k + 1) * lines].flat)[: len(group)]
        cut = [(label(name), ax) for (name, _), ax in zip(group, places, strict=True)]
        frames[label(choice)] = cut
        for (name, ax), tile in zip(cut, tiles[k], strict=True):
            ax.set_title(_wrapped(name, letters), fontsize=size, pad=3)
            ax.imshow(tile)
        turned = {"rotation": 90, "ha": "right", "va": "center", "ma": "center"}
        places[0].text(-0.02, 0.5, names[k], transform=places[0].transAxes, **turned)
    for ax in axes.flat:
        ax.axis("off")
    dpi = min(max(PHOTO_DPI, wide / side), FINEST) if slider else None
    show(
        fig,
        caption=caption,
        alt=alt,
        photo=True,
        cover=cover,
        dpi=dpi,
        slider=slider,
        frames=frames,
    )


def _beside(shown: Any) -> np.ndarray:
    """Pictures side by side in color ``(H, W, 3)``, a little apart; or the one that is given."""
    colors = [*map(in_color, shown if isinstance(shown, (list, tuple)) else [shown])]
    gap = np.ones((len(colors[0]), max(1, len(colors[0]) // 40), 3))
    return np.hstack([piece for color in colors for piece in (color, gap)][:-1])


def curves(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    caption: str,
    alt: str = "",
    by: str = "method",
    panel: str | None = None,
    unit: str | None = "photo",
    order: Sequence[str] | None = None,
    percent: bool = False,
    log: str = "",
    xlabel: str = "",
    ylabel: str = "",
    limits: tuple[float, float] | None = None,
    height: float = 2.9,
    cover: bool = False,
) -> None:
    """One line per value of ``by``: the mean of ``y`` over ``unit`` at each ``x``, with its band.

    ``panel`` stacks one set of axes per value of that column. ``unit=None`` draws the rows as they
    are. The bands of fewer than ten units, and of maps that know nothing of the network, are left
    out: they would hide the others. ``percent`` writes x in percent, ``log`` names the logarithmic
    axes ("x", "xy"), ``limits`` are those of x.
    """
    panels = list(frame[panel].unique()) if panel else [None]
    order = list(order) if order is not None else list(frame[by].unique())
    height = height * len(panels) + 0.2 * (len(order) + 2) // 3
    fig, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, height), sharex=True, layout="constrained", squeeze=False
    )
    told, points = [], []
    for ax, name in zip(axes[:, 0], panels, strict=True):
        part = frame[frame[panel] == name] if panel else frame
        for place, key in enumerate(order):
            told.append((name, key, _curve(ax, part[part[by] == key], x, y, key, place, unit)))
            for at, value in told[-1][2].items():
                where = say.percent(at) if percent else f"{at:.3g}"
                points.append((f"{label(str(key))}: {value:.3g} at {where}", ax, at, value))
        ax.set(title=label(str(name)) if panel else "", ylabel=ylabel or label(y).capitalize())
        ax.set_xscale("log" if "x" in log else "linear")
        ax.set_yscale("log" if "y" in log else "linear")
        if "x" in log and len(marks := sorted(frame[x].unique())) <= MARKS:
            names = [markup.number(int(m) if m == int(m) else float(m)) for m in marks]
            ax.set_xticks(marks, names)
            ax.minorticks_off()
        if limits:
            ax.set_xlim(*limits)
    if percent:
        axes[-1, 0].xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes[-1, 0].set_xlabel(xlabel or label(x).capitalize())
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    ends = [_ends(name, key, points) for name, key, points in told[:TOLD] if len(points)]
    alt = alt or f"Lines of {label(y)} against {label(x)}{', in panels' if panel else ''}."
    show(fig, caption=caption, alt=alt, told=ends, cover=cover, points=points[:NAMED])


def _curve(ax: Axes, part: pd.DataFrame, x: str, y: str, key, place: int, unit) -> pd.Series:
    look = line(str(key), place)
    if unit is None:
        points = part.sort_values(x).set_index(x)[y]
    else:
        table = part.pivot_table(index=unit, columns=x, values=y, aggfunc="mean").dropna()
        points = table.mean()
        if len(table) >= statistics.LEAST and key not in CONTROLS:
            low, high = statistics.mean_of(table.to_numpy()).interval()
            ax.fill_between(table.columns, low, high, color=look["color"], alpha=0.12, linewidth=0)
    ax.plot(points.index, points, label=label(str(key)), **look)
    return points


def _ends(panel, key, points: pd.Series) -> str:
    first, last = (f"{points.iloc[i]:.3g} at {points.index[i]:.3g}" for i in (0, -1))
    return f"{label(f'{panel}, {key}' if panel else str(key))}: {first}, {last}."


def intervals(
    parts: Mapping[str, Any], *, caption: str, xlabel: str, alt: str = "", zero: float | None = 0.0
) -> None:
    """A row per part of a claim (``lesson.parts("PR-1")``): estimate and interval, and a line.

    Blue circles are supported, red crosses contradicted, gray diamonds undecided; of an invalid
    part the line is dotted, and what was not measured leaves its row empty. ``zero`` is where the
    line stands; ``None`` draws each part's own threshold.
    """
    names = ["\n".join(wrap(name, 36)) for name in parts]
    height = 0.7 + sum(0.14 + 0.17 * (1 + name.count("\n")) for name in names)
    fig, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    told = []
    for row, (name, part) in enumerate(parts.items()):
        shade, marker = LOOKS[part.verdict]
        style = {"color": shade, "linestyle": ":" if part.verdict == "invalid" else "-"}
        if part.interval is not None:
            ax.plot(part.interval, [row, row], linewidth=2.5, solid_capstyle="butt", **style)
        if part.estimate is not None:
            edge = {"markeredgecolor": "white"} if marker == "X" else {}
            ax.plot(part.estimate, row, marker, color=shade, markersize=9 if edge else 7, **edge)
            told.append(f"{name}: {say.between(part)}, {part.verdict}.")
        if zero is None and part.threshold is not None:
            ax.plot([part.threshold] * 2, [row - 0.4, row + 0.4], color=BLACK, linewidth=1.2)
    if zero is not None:
        ax.axvline(zero, color=BLACK, linewidth=0.8)
    ax.set_yticks(range(len(names)), names, fontsize=9.5)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    ax.grid(axis="y", visible=False)
    alt = alt or f"Estimates with intervals, a row each; {xlabel}."
    show(fig, caption=caption, alt=alt, told=told)


def bars(
    values: Mapping[str, float] | pd.Series,
    *,
    caption: str,
    alt: str = "",
    xlabel: str,
    errors: Mapping[str, tuple[float, float]] | None = None,
    chance: float | None = None,
    log: bool = False,
    cover: bool = False,
) -> None:
    """A horizontal bar per name, its value beside it; ``errors`` are intervals (low, high).

    ``chance`` draws a dashed line at what knowing nothing gives.
    """
    values = dict(values)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.34 * len(values) + 0.8), layout="constrained")
    for row, (name, value) in enumerate(values.items()):
        ax.barh(row, value, color=line(name)["color"] if name in CONTROLS else BLUE, height=0.66)
        low, high = (errors or {}).get(name, (value, value))
        ax.plot([low, high], [row, row], color=BLACK, linewidth=1.5)
        end, side = (min(value, low), "right") if value < 0 else (max(value, high), "left")
        text = f" {markup.number(float(value))} "
        ax.annotate(text, (end, row), va="center", ha=side, fontsize=9.5)
    ax.set_yticks(range(len(values)), [label(name) for name in values])
    ax.set(xlabel=xlabel, xscale="log" if log else "linear")
    ax.invert_yaxis()
    ax.margins(x=0.14)
    ax.grid(axis="y", visible=False)
    if chance is not None:
        ax.axvline(chance, color=BLACK, linestyle="--", linewidth=1)
    told = [f"{label(name)}: {markup.number(float(value))}." for name, value in values.items()]
    show(fig, caption=caption, alt=alt or f"Bars of {xlabel}.", told=told, cover=cover)


def strips(
    groups: Mapping[str, Sequence[float]],
    *,
    caption: str,
    alt: str = "",
    xlabel: str,
    chance: float | None = None,
    log: bool = False,
    cover: bool = False,
) -> None:
    """A row per group: every unit's value as a dot, above them the mean with its interval."""
    fig, ax = plt.subplots(figsize=(WIDTH, 0.42 * len(groups) + 0.8), layout="constrained")
    told = []
    for row, (name, values) in enumerate(groups.items()):
        values = np.asarray(values, dtype=float)
        spread = row + 0.14 + 0.1 * np.sin(2.4 * np.arange(len(values)))  # dots side by side
        look = {"color": line(name, row)["color"]}
        ax.plot(values, spread, "o", markersize=3, alpha=0.4, markeredgewidth=0, **look)
        found = statistics.mean_of(values)
        if len(values) > 1:
            ax.plot(found.interval(), [row - 0.15] * 2, linewidth=2.5, **look)
        ax.plot(found.estimate, row - 0.15, "D", markersize=5, **look)
        told.append(f"{label(name)}: mean {markup.number(float(found.estimate))}.")
    ax.set_yticks(range(len(groups)), [label(name) for name in groups])
    ax.set(xlabel=xlabel, ylim=(len(groups) - 0.5, -0.5), xscale="log" if log else "linear")
    ax.grid(axis="y", visible=False)
    if chance is not None:
        ax.axvline(chance, color=BLACK, linestyle="--", linewidth=1)
    alt = alt or f"Dots of {xlabel}, a row for each group."
    show(fig, caption=caption, alt=alt, told=told, cover=cover)


def scatter(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    caption: str,
    alt: str = "",
    by: str | None = None,
    diagonal: bool = False,
    log: str = "",
    xlabel: str = "",
    ylabel: str = "",
    height: float = 3.6,
    cover: bool = False,
) -> None:
    """A dot per row, in the color and marker of ``by``; ``diagonal`` draws y = x."""
    fig, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    groups = frame.groupby(by, sort=False) if by else [("", frame)]
    for place, (name, part) in enumerate(groups):
        look = {"color": line(str(name), place)["color"], "marker": "osX^Dv*P"[place % 8]}
        named = {"label": label(str(name))} if by else {}
        ax.scatter(part[x], part[y], s=18, alpha=0.7, linewidths=0, **look, **named)
    ax.set(xlabel=xlabel or label(x).capitalize(), ylabel=ylabel or label(y).capitalize())
    ax.set_xscale("log" if "x" in log else "linear")
    ax.set_yscale("log" if "y" in log else "linear")
    if diagonal:
        ends = [min(frame[x].min(), frame[y].min()), max(frame[x].max(), frame[y].max())]
        ax.plot(ends, ends, color=BLACK, linewidth=0.8, linestyle="--")
    if by:
        fig.legend(loc="outside lower center", ncols=3)
    told = f"{len(frame)} dots; correlation {frame[x].corr(frame[y]):.2f}."
    alt = alt or f"Dots of {label(y)} against {label(x)}."
    show(fig, caption=caption, alt=alt, told=[told], cover=cover)


def matrix(
    table: pd.DataFrame,
    *,
    caption: str,
    alt: str = "",
    form: str = ".2f",
    center: float | None = None,
    cover: bool = False,
) -> None:
    """A table of numbers, each cell colored by its value; ``center``: the value that is white."""
    height = 0.34 * len(table) + 1.1
    fig, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    colors = {"cmap": "viridis"} if center is None else {"cmap": "RdBu_r", "center": center}
    text = table.map(lambda value: f"{value:{form}}" if pd.notna(value) else "")
    text = text.replace(r"^-(0\.?0*)$", r"\1", regex=True)  # there is no -0.0
    sns.heatmap(table, annot=text, fmt="", cbar=False, ax=ax, annot_kws={"size": 10}, **colors)
    ax.set_yticks(ax.get_yticks(), [label(str(name)) for name in table.index], rotation=0)
    many = len(table.columns) > 7
    heads = [label(str(name)) if many else _wrapped(label(str(name)), 10) for name in table.columns]
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if many else {"rotation": 0}
    ax.set_xticks(ax.get_xticks(), heads, **turned)
    ax.set(xlabel="", ylabel="")
    told = [
        f"{label(str(name))}: " + ", ".join(f"{label(str(k))} {v}" for k, v in row.items() if v)
        for name, row in text.iterrows()
    ]
    show(fig, caption=caption, alt=alt, told=told[:TOLD], cover=cover)
