"""Sliders, enlarged figures and values under the pointer, in a real Chromium, from a file."""

import base64
import io
import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from PIL import Image
from support.browser import browser
from support.projects import notebook

from lib.builder import page
from lib.builder.check import page_problems
from lib.builder.render import render_body
from lib.report import figures

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
WITH_SLIDERS = [p.stem for p in sorted(ROOT.glob("notebooks/*.ipynb")) if "slider" in p.read_text()]
SHADES = {"dark <b>": [0.1, 0.2, 0.3], "light": [0.7, 0.8, 0.9]}  # what is drawn, by choice
LINES = pd.DataFrame({"x": [0, 1, 2] * 2, "y": [3.0, 5, 4, 1, 1, 2], "by": list("aaabbb")})
PICTURE = "canvas => canvas.toDataURL()"


def left_shade(url: str) -> float:
    """The red of a pixel in the left half of a picture."""
    drawn = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    return drawn.getpixel((drawn.width // 4, drawn.height // 2))[0] / 255


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page with a gallery of known shades, each beside a map, and with two known lines."""
    outputs = []

    def keep(data, metadata, raw):  # as the kernel sends it
        data = {mime: base64.b64encode(content).decode() for mime, content in data.items()}
        output = {"output_type": "display_data", "data": data, "metadata": metadata}
        outputs.append(nbformat.from_dict(json.loads(json.dumps(output))))

    def cells(shades):
        return [(f"shade {s}", [torch.full((3, 64, 64), s), torch.rand(64, 64)]) for s in shades]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "display", keep)
        texts = {"slider": "Brightness", "caption": "Shades and maps.", "alt": "Six grays."}
        figures.gallery({name: cells(shades) for name, shades in SHADES.items()}, **texts)
        figures.curves(LINES, x="x", y="y", by="by", unit=None, caption="Two lines.")
    made = nbformat.from_dict(notebook([("code", "x")]))
    made.cells[0] |= {"execution_count": 1, "outputs": outputs}
    body, _ = render_body(made, ".")
    body = f'<div class="page single"><main id="main"><h1>A page</h1>{body}</main></div>'
    whole = page.shell(body, title="A page", kind="report")
    assert page_problems(whole) == []
    file = tmp_path_factory.mktemp("page") / "sliders.html"
    file.write_text(whole)
    return file


@pytest.fixture(scope="module")
def chromium():
    with browser() as tab:
        yield tab


@pytest.mark.parametrize("width", [1280, 390])
def test_the_keyboard_moves_the_picture_and_its_value(chromium, path, width):
    chromium.open(path, width=width)
    slider = chromium.page.get_by_label("Brightness")
    canvas, value = (chromium.page.locator(tag) for tag in ("canvas", "output"))
    slider.focus()
    assert value.inner_text() == "shade 0.2"  # the middle says more than either end
    for name, shades in SHADES.items():
        chromium.page.get_by_role("combobox").select_option(name)
        slider.press("Home")
        for shade in shades:
            assert value.inner_text() == slider.get_attribute("aria-valuetext") == f"shade {shade}"
            assert left_shade(canvas.evaluate(PICTURE)) == pytest.approx(shade, abs=0.02)
            slider.press("ArrowRight")
    box = canvas.bounding_box()
    assert box["width"] > 300 and box["x"] + box["width"] <= width
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.requests == [path.as_uri()] and chromium.complaints == []


def test_without_a_script_and_on_paper_the_whole_figure_is_seen(chromium, path):
    chromium.open(path)
    sheet, frames = (chromium.page.locator(f"#figure-1 {what}") for what in ("> img", ".frames"))
    assert not sheet.is_visible() and frames.is_visible()
    chromium.page.emulate_media(media="print")
    assert sheet.is_visible() and not frames.is_visible()
    chromium.page.emulate_media(media="screen")
    still = chromium.page.context.browser.new_page(java_script_enabled=False)
    still.goto(path.as_uri())
    assert still.locator("#figure-1 > img").is_visible()
    assert not still.locator(".frames").is_visible()
    assert still.get_by_role("button").count() == 0
    still.close()


@pytest.mark.parametrize("figure", ["#figure-1", "#figure-2"])
def test_a_tap_enlarges_a_figure(chromium, path, figure):
    chromium.open(path, width=390)
    button, dialog = (chromium.page.locator(what) for what in (f"{figure} .zoom", "dialog"))
    button.focus()
    button.press("Enter")
    assert dialog.locator("img").bounding_box()["width"] > 800  # twice the window, to be scrolled
    chromium.page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("button => button === document.activeElement")
    button.click()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


@pytest.mark.parametrize("dark", [False, True])
def test_the_pointer_reads_a_curve(chromium, path, dark):
    chromium.open(path, dark=dark)
    image, tip = (chromium.page.locator(f"#figure-2 {what}") for what in ("img", ".tip"))
    image.scroll_into_view_if_needed()
    points = json.loads(image.get_attribute("data-points"))
    assert [name for name, _, _ in points] == [
        f"{by}: {y:g} at {x}" for x, y, by in LINES.itertuples(index=False)
    ]
    scale, border = image.evaluate("i => [i.clientWidth / i.naturalWidth, i.clientLeft]")
    for name, x, y in points:
        image.hover(position={"x": x * scale + border + 3, "y": y * scale + border - 2})
        assert tip.inner_text() == name
    image.hover(position={"x": 2, "y": 2})
    assert not tip.is_visible()
    assert chromium.complaints == []


def test_what_is_wider_than_the_window_has_a_shadow(chromium, tmp_path):
    sums = " + ".join(f"x_{{{k}}}" for k in range(40))
    body, _ = render_body(
        nbformat.from_dict(notebook([("markdown", f"$$a = b$$\n\n$${sums}$$")])), "."
    )
    file = tmp_path / "wide.html"
    file.write_text(page.shell(f"<main>{body}</main>", title="Wide", kind="report"))
    chromium.open(file, width=390)
    short, long = chromium.page.locator(".formula").all()
    edges = []
    for end in (False, True):
        if end:
            long.evaluate("formula => { formula.scrollLeft = 1e6 }")
        for formula in (short, long):
            shot = Image.open(io.BytesIO(formula.screenshot())).convert("L")
            edges.append([shot.getpixel((x, 3)) < 250 for x in (1, shot.width - 2)])
    assert edges == [[False, False], [False, True], [False, False], [True, False]]
    assert chromium.complaints == []


@pytest.mark.parametrize("slug", WITH_SLIDERS)
def test_every_slider_of_the_reports(chromium, slug):
    report = ROOT / f"reports/default/{slug}.html"
    assert report.stat().st_size < 1_500_000
    chromium.open(report, width=390)
    boxes = chromium.page.locator(".frames").all()
    assert boxes
    for box in boxes:
        slider, canvas, value = (box.locator(tag) for tag in ("input", "canvas", "output"))
        slider.press("Home")
        seen = []
        for _ in range(int(slider.get_attribute("max")) + 1):
            seen.append((value.inner_text(), canvas.evaluate(PICTURE)))
            slider.press("ArrowRight")
        values, drawn = (len(set(found)) for found in zip(*seen, strict=True))
        assert values == drawn == len(seen)
    assert chromium.complaints == []
