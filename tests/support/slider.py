"""The moving picture of README.md: the first slider of a report, moved by its keyboard.

PYTHONPATH=tests python -m support.slider reports/default/01-smoothgrad.html docs/slider.webp
"""

import io
import sys
from pathlib import Path

from PIL import Image
from support.browser import browser


def film(page: Path, picture: Path, seconds: float = 0.9, width: int = 480) -> None:
    """Write an animated WebP that shows every position of the slider, one after the other."""
    with browser() as tab:
        tab.open(page, width=640)
        frames = tab.page.locator(".frames").first
        slider = frames.locator("input")
        slider.press("Home")
        shots = []
        for _ in range(int(slider.get_attribute("max")) + 1):
            shot = Image.open(io.BytesIO(frames.screenshot())).convert("RGB")
            shots.append(shot.resize((width, round(shot.height * width / shot.width))))
            slider.press("ArrowRight")
    given = {"append_images": shots[1:], "duration": int(1000 * seconds), "loop": 0, "quality": 60}
    shots[0].save(picture, "WEBP", save_all=True, method=6, **given)


if __name__ == "__main__":
    film(*map(Path, sys.argv[1:3]))
