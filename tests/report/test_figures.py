"""Scaling for the eye, and figures that reach the report with their texts."""

import io
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib.attribution import METHODS
from lib.report import plotting
from lib.report.claims import Finding


@pytest.fixture(autouse=True)
def no_figure_left_open():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would receive: (data, metadata)."""
    outputs = []
    monkeypatch.setattr(plotting, "display", lambda data, **rest: outputs.append((data, rest)))
    return outputs


def test_heat_is_capped_at_the_percentile():
    values = np.arange(201.0)
    scaled = plotting.heat(values)
    assert scaled[0] == 0 and scaled[99] == pytest.approx(99 / 198)
    assert scaled[198] == 1 and scaled[200] == 1
    assert np.array_equal(plotting.heat(torch.from_numpy(values + 7)), scaled)
    assert plotting.heat(values, percentile=100)[99] == pytest.approx(0.495)  # uncapped is darker


def test_diverging_keeps_zero_in_the_middle():
    values = np.concatenate([np.linspace(-1, 3, 401), [100.0, -100.0]])
    scaled = plotting.diverging(values)
    assert scaled.min() == -1 and scaled.max() == 1
    assert np.array_equal(np.sign(scaled), np.sign(values))
    assert np.allclose(plotting.diverging(-values), -scaled)
    assert plotting.diverging(np.zeros(5)).tolist() == [0] * 5


def test_maps_with_nothing_few_or_wrong_values():
    assert plotting.heat(np.full((4, 4), 3.0)).max() == 0
    few = np.zeros((40, 40))
    few[3, 5], few[20, 20] = 4, 2  # fewer than one percent: the cap itself is zero
    assert plotting.heat(few)[3, 5] == 1 and plotting.heat(few)[20, 20] == 0.5
    assert plotting.diverging(-few)[3, 5] == -1 and plotting.diverging(-few)[20, 20] == -0.5
    for wrong in (float("nan"), float("inf")):
        for scale in (plotting.heat, plotting.diverging):
            with pytest.raises(ValueError, match="NaN or infinite"):
                scale(np.array([0.0, wrong]))


def test_photos_are_clipped_not_rescaled():
    image = torch.tensor([-0.5, 0.5, 1.5]).view(3, 1, 1).requires_grad_(True)
    assert plotting.as_photo(image).ravel().tolist() == [0, 0.5, 1]
    assert plotting.as_photo(torch.rand(3, 4, 7)).shape == (4, 7, 3)


def draw():
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1])
    return fig


def test_a_figure_carries_its_texts_and_is_closed(shown):
    plotting.show(draw(), alt="a line", caption="It rises.", cover=True)
    plotting.show(draw(), alt="a photo", caption="Small.", photo=True)
    for (data, rest), mime, kind, cover in zip(
        shown, ("image/png", "image/jpeg"), ("PNG", "JPEG"), (True, False), strict=True
    ):
        picture = Image.open(io.BytesIO(data[mime]))
        assert list(data) == [mime] and picture.format == kind and rest["raw"]
        metadata = rest["metadata"][mime]
        assert metadata["alt"] in ("a line", "a photo") and metadata["caption"]
        assert metadata["cover"] is cover
        # two inches, cut to what is drawn, whatever the pixels per inch
        assert metadata["width"] == pytest.approx(2 * plotting.CSS_PER_INCH, rel=0.15)
        assert picture.width > metadata["width"]
    assert not plt.get_fignums()


@pytest.mark.parametrize("texts", [("", "caption"), ("alt", "  "), (" ", "")])
def test_a_figure_without_its_texts_is_refused(texts, shown):
    with pytest.raises(ValueError, match="needs alt text and a caption"):
        plotting.show(draw(), alt=texts[0], caption=texts[1])
    assert not shown


def test_the_same_figure_gives_the_same_bytes(shown):
    for _ in range(2):
        plotting.show(draw(), alt="a", caption="b")
    assert shown[0][0] == shown[1][0]


def test_grids_draw_photos_maps_and_gaps():
    photo, heat = torch.rand(3, 8, 8), torch.rand(8, 8)
    fig = plotting.grid(
        [[photo, heat, -heat], [photo, None]],
        columns=["Photo", "Map", "Negative"],
        row_names=["first", "second, with a long name that has to be wrapped"],
        signed=True,
    )
    drawn = [[len(ax.images) for ax in fig.axes[3 * row : 3 * row + 3]] for row in range(2)]
    assert drawn == [[1, 1, 1], [1, 0, 0]]
    assert [ax.get_title() for ax in fig.axes[:3]] == ["Photo", "Map", "Negative"]
    assert fig.axes[0].images[0].get_array().shape == (8, 8, 3)
    one, two = (np.asarray(fig.axes[k].images[0].get_array()) for k in (1, 2))
    assert np.allclose(one, -two) and fig.axes[1].images[0].get_clim() == (-1, 1)
    hot = plotting.grid([[heat]]).axes[0].images[0]
    assert hot.get_clim() == (0, 1) and hot.get_cmap().name == "magma"
    fig.canvas.draw()


def test_every_method_has_a_look_of_its_own():
    looks = [(plotting.color(m), plotting.dash(m)) for m in METHODS]
    assert set(METHODS) <= set(plotting.METHOD_LOOK)
    # the methods of one figure (the first report) can be told apart in print
    first = [
        "gradient",
        "input_x_gradient",
        "integrated_gradients",
        "smoothgrad",
        "random",
        "edges",
    ]
    assert len({(plotting.color(m), plotting.dash(m)) for m in first}) == len(first) <= len(looks)
    assert plotting.label("my_method") == "my method" and plotting.color("my_method")


def test_curves_show_the_mean_over_images():
    rows = [
        {"method": method, "fraction": fraction, "probability": value + image, "image": image}
        for method, value in (("gradient", 0.2), ("random", 0.4))
        for fraction in (0.0, 0.5, 1.0)
        for image in (0.0, 0.2)
    ]
    fig, ax = plt.subplots()
    plotting.curves(
        pd.DataFrame(rows), x="fraction", y="probability", methods=["gradient", "random"], ax=ax
    )
    assert [line.get_ydata()[0] for line in ax.lines[:2]] == pytest.approx([0.3, 0.5])
    assert ax.get_legend() is None
    assert len(ax.collections) == 1  # a band; those of controls would hide the others
    plotting.legend_below(fig, ax)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["Gradient", "Random"]
    assert ax.xaxis.get_major_formatter()(0.5, 0) == "50%"


def test_intervals_are_drawn_where_they_are():
    findings = {
        "a": Finding("supported", 0.5, (0.2, 0.8), 20, "", ""),
        "b": Finding("contradicted", -0.5, (-0.6, -0.4), 20, "", ""),
    }
    _, ax = plt.subplots()
    plotting.intervals(findings, ax=ax, xlabel="difference")
    assert list(ax.lines[0].get_xdata()) == [0.2, 0.8] and list(ax.lines[1].get_xdata()) == [0.5]
    assert ax.lines[0].get_color() != ax.lines[2].get_color()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first at the top


def test_every_verdict_of_a_part_has_a_look_and_the_unmeasured_none():
    verdicts = ["supported", "contradicted", "mixed", "inconclusive", "invalid"]
    findings = {
        verdict: SimpleNamespace(verdict=verdict, estimate=0.5, interval=(0.2, 0.8), n=20)
        for verdict in verdicts
    }
    findings["none"] = SimpleNamespace(verdict="inconclusive", estimate=None, interval=None, n=0)
    _, ax = plt.subplots()
    plotting.intervals(findings, ax=ax, xlabel="difference")
    lines = ax.lines[:-1]
    assert len(lines) == 2 * len(verdicts)
    looks = {(line.get_color(), line.get_marker()) for line in lines[1::2]}
    assert len(looks) == len(verdicts)
    assert [line.get_linestyle() for line in lines[::2]] == ["-"] * 4 + [":"]
    assert len(ax.get_yticklabels()) == 6
