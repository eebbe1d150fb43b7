"""Small pictures and folders of them that the tests of the image loader make."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib.data.images import Images, load_images

CLASSES = [1, 243, 281]  # goldfish, bull mastiff, tabby


def picture(seed: int, width: int = 60, height: int = 48) -> Image.Image:
    """A smooth random picture, so that JPEG and resizing change it little."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save(path: Path, seed: int = 0, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, **options)
    return path


def small(source: Path, **options) -> Images:
    return load_images(source, **{"size": 32, "resize": 36, **options})


def photo_folder(path: Path) -> Path:
    """Twelve photos of three classes, in class folders named by index."""
    for row in range(12):
        save(path / str(CLASSES[row % 3]) / f"photo{row:02d}.png", row)
    return path


def whole_boxes(images: Images) -> torch.Tensor:
    """(N, 4) x0, y0, x1, y1: the smallest box that holds all of a photo's, else NaN."""
    missing = torch.full((1, 4), torch.nan)
    given = [known if len(known) else missing for known in images.instances]
    ends = [torch.cat([known[:, :2].amin(0), known[:, 2:].amax(0)]) for known in given]
    return torch.stack(ends) if ends else torch.empty(0, 4)
