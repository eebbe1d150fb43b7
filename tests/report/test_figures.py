"""Scaling for the eye, and figures that reach the report with their texts."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib.attribution import METHODS
from lib.report import figures, looks, statistics
from lib.report.verdicts import above, unmeasured


@pytest.fixture(autouse=True)
def no_figure_left_open():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would receive: (data, metadata)."""
    outputs = []
    monkeypatch.setattr(figures, "display", lambda data, **rest: outputs.append((data, rest)))
    return outputs


@pytest.fixture
def drawn(monkeypatch):
    """The axes of each figure, and its texts, in place of a picture."""
    kept = []

    def keep(fig, alt, told=(), **texts):
        fig.canvas.draw()
        kept.append((fig.axes, texts | {"alt": " ".join([alt, *told])}))

    monkeypatch.setattr(figures, "show", keep)
    return kept


def test_heat_is_capped_at_the_percentile():
    values = np.arange(201.0)
    scaled = looks.heat(values)
    assert scaled[0] == 0 and scaled[99] == pytest.approx(99 / 198)
    assert scaled[198] == 1 and scaled[200] == 1
    assert np.array_equal(looks.heat(torch.from_numpy(values + 7)), scaled)
    assert looks.heat(values, percentile=100)[99] == pytest.approx(0.495)  # uncapped is darker


def test_diverging_keeps_zero_in_the_middle():
    values = np.concatenate([np.linspace(-1, 3, 401), [100.0, -100.0]])
    scaled = looks.diverging(values)
    assert scaled.min() == -1 and scaled.max() == 1
    assert np.array_equal(np.sign(scaled), np.sign(values))
    assert np.allclose(looks.diverging(-values), -scaled)
    assert looks.diverging(np.zeros(5)).tolist() == [0] * 5


def test_maps_with_nothing_few_or_wrong_values():
    assert looks.heat(np.full((4, 4), 3.0)).max() == 0
    few = np.zeros((40, 40))
    few[3, 5], few[20, 20] = 4, 2  # fewer than one percent: the cap itself is zero
    assert looks.heat(few)[3, 5] == 1 and looks.heat(few)[20, 20] == 0.5
    assert looks.diverging(-few)[3, 5] == -1 and looks.diverging(-few)[20, 20] == -0.5
    for wrong in (float("nan"), float("inf")):
        for scale in (looks.heat, looks.diverging):
            with pytest.raises(ValueError, match="NaN or infinite"):
                scale(np.array([0.0, wrong]))


def test_photos_are_clipped_not_rescaled():
    image = torch.tensor([-0.5, 0.5, 1.5]).view(3, 1, 1).requires_grad_(True)
    assert looks.as_photo(image).ravel().tolist() == [0, 0.5, 1]
    assert looks.as_photo(torch.rand(3, 4, 7)).shape == (4, 7, 3)


def draw():
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1])
    return fig


def test_a_figure_carries_its_texts_and_is_closed(shown):
    figures.show(draw(), alt="a line", caption="It rises.", cover=True)
    figures.show(draw(), alt="a photo", caption="Small.", photo=True)
    for (data, rest), mime, kind, cover in zip(
        shown, ("image/png", "image/jpeg"), ("PNG", "JPEG"), (True, False), strict=True
    ):
        picture = Image.open(io.BytesIO(data[mime]))
        assert list(data) == [mime] and picture.format == kind and rest["raw"]
        metadata = rest["metadata"][mime]
        assert metadata["alt"] in ("a line", "a photo") and metadata["caption"]
        assert metadata["cover"] is cover
        # two inches, cut to what is drawn, whatever the pixels per inch
        assert metadata["width"] == pytest.approx(2 * figures.CSS_PER_INCH, rel=0.15)
        assert picture.width > metadata["width"]
    assert not plt.get_fignums()


@pytest.mark.parametrize("texts", [("", "caption"), ("alt", "  "), (" ", "")])
def test_a_figure_without_its_texts_is_refused(texts, shown):
    with pytest.raises(ValueError, match="needs alt text and a caption"):
        figures.show(draw(), alt=texts[0], caption=texts[1])
    assert not shown


def test_names_of_data_are_told_as_they_are(shown):
    figures.bars({"{{ 7 * 7 }}.jpg": 1.0, "{% x %}": 2.0}, caption="c", xlabel="Mass")
    alt = shown[0][1]["metadata"]["image/png"]["alt"]
    assert "{{ 7 * 7 }}.jpg: 1.00. {% x %}: 2.00." in alt


def test_the_same_figure_gives_the_same_bytes(shown):
    for _ in range(2):
        figures.show(draw(), alt="a", caption="b")
    assert shown[0][0] == shown[1][0]


def test_every_method_has_a_look_of_its_own():
    assert set(METHODS) <= set(looks.METHOD_LOOK)
    # the methods of one figure (the first report) can be told apart in print
    first = [
        "gradient",
        "input_x_gradient",
        "integrated_gradients",
        "smoothgrad",
        "random",
        "edges",
    ]
    assert len({tuple(looks.line(m).values()) for m in first}) == len(first)
    assert looks.label("my_method") == "my method"
    assert len({tuple(looks.line(f"series {k}", k).values()) for k in range(8)}) == 8


def test_pictures_draw_photos_maps_and_gaps(drawn):
    photo, heat = torch.rand(3, 8, 8), torch.rand(8, 8)
    figures.pictures(
        [[photo, heat, -heat], [photo, None]],
        columns=["Photo", "grad_cam", "Negative"],
        row_names=["first", "second, with a long name that has to be wrapped"],
        signed=True,
        caption="c",
        alt="a",
    )
    figures.pictures([[heat]], caption="c", alt="a", cell=1.5)
    axes, texts = drawn[0]
    assert texts["photo"]
    assert [[len(ax.images) for ax in axes[3 * row :][:3]] for row in range(2)] == [
        [1] * 3,
        [1, 0, 0],
    ]
    assert [ax.get_title() for ax in axes[:3]] == ["Photo", "Grad-CAM", "Negative"]
    assert axes[0].images[0].get_array().shape == (8, 8, 3)
    for k, signed in ((1, heat), (2, -heat)):
        colors = np.asarray(axes[k].images[0].get_array())
        assert np.array_equal(colors, looks.in_color(signed, signed=True))
    (hot,) = drawn[1][0][0].images
    assert np.array_equal(np.asarray(hot.get_array()), looks.in_color(heat))


def test_maps_in_color_have_their_ends_and_their_zero_where_they_belong():
    values = np.zeros((10, 10))
    values[:2], values[-2:] = 1, -1
    magma, both = plt.get_cmap("magma"), plt.get_cmap("RdBu_r")
    assert np.allclose(looks.in_color(values)[[0, 9], 0], [magma(1.0)[:3], magma(0.0)[:3]])
    drawn = looks.in_color(torch.from_numpy(values), signed=True)[[0, 5, 9], 0]
    assert np.allclose(drawn, [both(x)[:3] for x in (1.0, 0.5, 0.0)])
    photo = torch.rand(3, 4, 7)
    assert np.array_equal(looks.in_color(photo), looks.as_photo(photo))


@pytest.mark.parametrize(
    ("name", "columns", "lines", "small"),
    [
        ("30 %", 4, 1, False),
        ("30 %: 0.00 and 0.9432", 4, 1, True),
        ("0.160, p = 0.84 uninteresting", 4, 2, False),
    ],
)
def test_titles_of_a_gallery_stay_over_their_cells(shown, monkeypatch, name, columns, lines, small):
    closed = []
    monkeypatch.setattr(figures.plt, "close", closed.append)
    cells = [(name, torch.rand(3, 20, 20))] * 6
    figures.gallery(cells, columns=columns, slider="Step", caption="c", alt="a")
    (fig,) = closed
    titles = [ax.title for ax in fig.axes[:6]]
    assert {text.get_text().count("\n") + 1 for text in titles} == {lines}
    assert titles[0].get_fontsize() >= 8.5 and (titles[0].get_fontsize() < 10) == small
    for text, ax in zip(titles, fig.axes, strict=False):
        over, cell = text.get_window_extent(), ax.get_window_extent()
        assert over.x0 >= cell.x0 - 1 and over.x1 <= cell.x1 + 1
        assert over.y0 >= cell.y1 - 1
    above, below = fig.axes[0].get_window_extent(), titles[columns].get_window_extent()
    assert below.y1 <= above.y0  # the second row's titles under the first row's pictures
    slider = shown[0][1]["metadata"]["image/jpeg"]["slider"]
    assert {cell[0] for row in slider["rows"].values() for cell in row} == {name}


def rows():
    return pd.DataFrame(
        {"method": method, "fraction": x, "score": value + 0.1 * (k % 5) - 0.2 * x, "photo": k}
        for method, value in (("gradient", 0.2), ("random", 0.4))
        for x in (0.0, 0.5, 1.0)
        for k in range(10)
    )


def test_curves_are_means_with_the_interval_of_the_verdicts(drawn):
    figures.curves(rows(), x="fraction", y="score", caption="c", percent=True)
    (ax,), texts = drawn[0]
    assert [line.get_ydata()[0] for line in ax.lines] == pytest.approx([0.4, 0.6])
    (band,) = ax.collections  # those of controls would hide the others
    low, high = statistics.mean_of([0.2, 0.3, 0.4, 0.5, 0.6] * 2).interval()
    edge = [y for x, y in band.get_paths()[0].vertices if x == 0]
    assert [min(edge), max(edge)] == pytest.approx([low, high])
    assert ax.xaxis.get_major_formatter()(0.5, 0) == "50%"
    assert "Gradient: 0.4 at 0, 0.2 at 1." in texts["alt"]


def test_few_units_have_no_band_and_few_values_of_a_logarithmic_axis_are_all_marked(drawn):
    few = rows().query("photo < 9").assign(copies=lambda f: 125 * 2 ** (2 * f["fraction"]))
    figures.curves(few, x="copies", y="score", caption="c", log="x")
    (ax,), _ = drawn[0]
    assert not ax.collections
    assert [text.get_text() for text in ax.get_xticklabels()] == ["125", "250", "500"]


def test_panels_and_rows_as_they_are(drawn):
    one = rows().query("photo == 0").assign(order=lambda f: np.where(f["fraction"] < 1, "a", "b"))
    figures.curves(one, x="fraction", y="score", panel="order", unit=None, caption="c", log="y")
    axes, _ = drawn[0]
    assert [ax.get_title() for ax in axes] == ["a", "b"] and not axes[0].collections
    assert axes[0].get_yscale() == "log" and axes[0].get_xscale() == "linear"


def test_intervals_show_each_verdict_and_leave_the_unmeasured_empty(drawn):
    steps = np.arange(20.0)
    about = {"unit": "photo"}
    parts = [
        above(steps, of="more", **about),
        above(-steps, of="less", **about),
        above(steps - 9, of="open", **about),
        above(steps, of="shut", gate=above(-steps, of="no", **about), **about),
        unmeasured("no photo", of="none", **about),
    ]
    figures.intervals({part.of: part for part in parts}, caption="c", xlabel="difference")
    (ax,), texts = drawn[0]
    ranges, dots = ax.lines[0:8:2], ax.lines[1:8:2]
    assert list(ranges[0].get_xdata()) == pytest.approx(parts[0].interval)
    assert len({(dot.get_color(), dot.get_marker()) for dot in dots}) == 4
    assert [line.get_linestyle() for line in ranges] == ["-", "-", "-", ":"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [part.of for part in parts]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first at the top
    assert "more: 9.50" in texts["alt"] and "supported" in texts["alt"]
    assert "none:" not in texts["alt"]


def test_bars_strips_scatter_and_matrix_tell_their_numbers(drawn):
    figures.bars({"grad_cam": 2.0, "edges": 1.0}, caption="c", xlabel="Mass", chance=0.5)
    figures.strips({"grad_cam": [1.0, 2.0, 3.0], "one": [5.0]}, caption="c", xlabel="Mass")
    line = pd.DataFrame({"x": [0.0, 1, 2], "y": [0.0, 2, 4], "kind": ["a", "b", "a"]})
    figures.scatter(line, x="x", y="y", by="kind", diagonal=True, caption="c")
    figures.matrix(pd.DataFrame({"cam": [0.5]}, index=["lime"]), caption="c")
    told = [texts["alt"] for _, texts in drawn]
    assert "Grad-CAM: 2.00. Edges (Sobel): 1.00." in told[0]
    assert "Grad-CAM: mean 2.00. one: mean 5.00." in told[1]
    assert "3 dots; correlation 1.00." in told[2] and "LIME: CAM 0.50" in told[3]
    dots, interval, mean = drawn[1][0][0].lines[:3]
    assert sorted(dots.get_xdata()) == [1, 2, 3] and list(mean.get_xdata()) == [2]
    assert list(interval.get_xdata()) == pytest.approx(statistics.mean_of([1, 2, 3]).interval())


def test_a_canvas_is_shown_when_it_is_done_and_closed_when_it_is_not(shown):
    with figures.canvas(1, 2, height=2, caption="Two.", alt="two panels", cover=True) as axes:
        axes[0].plot([0, 1])
    assert shown[0][1]["metadata"]["image/png"]["cover"]
    with pytest.raises(ZeroDivisionError), figures.canvas(caption="c", alt="a"):
        raise ZeroDivisionError
    assert len(shown) == 1 and not plt.get_fignums()


def test_a_slider_knows_where_its_cells_are(shown):
    shades = {"a_b": [0.1, 0.3, 0.5, 0.7, 0.9], "c": [0.9, 0.7, 0.5, 0.3, 0.1]}
    cells = {
        name: [(f"{s}", [torch.full((3, 20, 20), s), torch.rand(20, 20)]) for s in row]
        for name, row in shades.items()
    }
    figures.gallery(cells, columns=3, slider="Shade", caption="c", alt="a")
    ((data, rest),) = shown
    picture = np.asarray(Image.open(io.BytesIO(data["image/jpeg"])).convert("L")) / 255
    slider = rest["metadata"]["image/jpeg"]["slider"]
    assert slider["name"] == "Shade" and list(slider["rows"]) == ["a b", "c"]
    width, height = slider["size"]
    for row, drawn in zip(slider["rows"].values(), shades.values(), strict=True):
        for (name, x, y), shade in zip(row, drawn, strict=True):
            left = picture[y + 1 : y + height - 1, x + 1 : x + width // 2 - 8]
            assert name == f"{shade}" and np.abs(left - shade).max() < 0.05
            assert picture[y + height + 3, x + 5] > 0.95  # and ends where the paper begins


def test_the_points_of_a_curve_are_where_it_is_drawn(shown):
    frame = pd.DataFrame({"method": "rise", "n": [1, 10, 100], "y": [2.0, 3, 1]})  # a black line
    figures.curves(frame, x="n", y="y", unit=None, log="x", caption="c")
    ((data, rest),) = shown
    picture = np.asarray(Image.open(io.BytesIO(data["image/png"])).convert("L"))
    points = rest["metadata"]["image/png"]["points"]
    assert [name for name, _, _ in points] == ["RISE: 2 at 1", "RISE: 3 at 10", "RISE: 1 at 100"]
    for _, x, y in points:
        assert picture[y - 2 : y + 3, x - 2 : x + 3].min() < 60
