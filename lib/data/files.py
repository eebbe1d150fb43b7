"""One image file: reading it, and the geometry from its pixels to the network's crop."""

import errno
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

MAX_PIXELS = 89_478_485  # Pillow's own limit; an RGB image of that many pixels takes 256 MiB
# Extensions that are taken for images; HEIC is among them to be refused by name, not overlooked.
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
SUFFIXES |= {".ppm", ".pgm", ".avif", ".heic", ".heif"}
# Pillow opens more, and runs Ghostscript on an EPS file whatever its name.
Image.init()
FORMATS = [
    name
    for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "MPO")
    if name in Image.OPEN
]


class ImageError(ValueError):
    """An image, a label or a parameter of the loader is wrong; one line that names it."""


class UnreadableImage(ImageError):
    """An image file that has no pixels for us: ``reason`` says why, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{str(path)!r}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Crop:
    """Resize the shortest side to ``resize``, then cut ``size`` x ``size`` from the center.

    Rounding is torchvision's: the long side is truncated, the offset rounded.
    """

    size: int
    resize: int

    def _axes(self, width: int, height: int) -> list[tuple[float, int]]:
        """Scale and offset of each axis: x in the crop = x * scale - offset."""
        short = min(width, height)
        resized = [int(self.resize * side / short) for side in (width, height)]
        return [
            (new / side, round((new - self.size) / 2))
            for new, side in zip(resized, (width, height), strict=True)
        ]

    def source_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The crop as a box x0, y0, x1, y1 in the pixels of the whole image."""
        axes = self._axes(width, height)
        start = [offset / scale for scale, offset in axes]
        stop = [(offset + self.size) / scale for scale, offset in axes]
        stop = [min(edge, side) for edge, side in zip(stop, (width, height), strict=True)]
        return (*start, *stop)

    def point(self, x: float, y: float, width: int, height: int) -> tuple[float, float] | None:
        """A point of a ``width`` x ``height`` image in crop coordinates; None outside the crop."""
        (sx, ox), (sy, oy) = self._axes(width, height)
        x, y = x * sx - ox, y * sy - oy
        return (x, y) if 0 <= x < self.size and 0 <= y < self.size else None

    def box(self, box: Sequence[float], width: int, height: int) -> tuple | None:
        """A box x0, y0, x1, y1 in crop coordinates, clipped.

        None where next to nothing is left of it: under a quarter of it, and under a twentieth of
        the crop. Clipping such a box would leave a strip that holds little of the object.
        """
        edges = [
            edge * scale - offset
            for edge, (scale, offset) in zip(box, self._axes(width, height) * 2, strict=True)
        ]
        clipped = tuple(min(max(edge, 0.0), float(self.size)) for edge in edges)
        enough = min(_area(edges) / 4, self.size**2 / 20)
        return clipped if _area(clipped) >= enough else None


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def decode(path: Path, crop: Crop) -> np.ndarray:
    """The crop of an image file as uint8 (size, size, 3), RGB.

    The 8-bit image is resized by Pillow's antialiased bicubic filter, of which only the crop is
    computed: what resizing all of it gives, up to the rounding of a few values. EXIF orientation
    is applied, transparency is laid on white, 16-bit gray is scaled to 8 bits, CMYK and palettes
    are converted; color profiles are ignored.
    Raises `UnreadableImage` for a file that is missing, truncated, no image, animated, of more
    than `MAX_PIXELS` pixels, or of floating-point or 32-bit pixels, whose range nobody knows.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            _refuse_odd(image)
            image = _to_rgb(ImageOps.exif_transpose(image))
            box = crop.source_box(*image.size)
            return np.array(image.resize((crop.size,) * 2, Image.Resampling.BICUBIC, box=box))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        reason = TOO_LARGE
    except Image.UnidentifiedImageError:
        reason = f"no image in a known format ({', '.join(FORMATS)})"
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        reason = reason if isinstance(error, _Refused) else f"cannot be read: {reason}"
    raise UnreadableImage(path, reason)


def dimensions(path: Path) -> tuple[int, int]:
    """Width and height as `decode` sees them, EXIF orientation applied.

    Raises `UnreadableImage` for a file that is missing or no image.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by a quarter
            turned &= image.format != "TIFF"  # of which Pillow gives the turned size at once
    except Exception as error:  # as in `decode`
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UnreadableImage(path, f"cannot be read: {reason}") from None
    return (height, width) if turned else (width, height)


def file_sha256(path: Path) -> str:
    """SHA-256 of a regular file; raises as `open_file`."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_file(path: Path) -> BinaryIO:
    """A regular file to read from, links followed; a pipe or a device would never end.

    Raises `OSError` for anything else.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    return open(path, "rb")


TOO_LARGE = f"larger than the limit of {MAX_PIXELS / 1e6:.0f} million pixels"


class _Refused(Exception):
    """An image that can be read and is refused all the same."""


def _refuse_odd(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _Refused(TOO_LARGE)
    # MPO is what phones and stereo cameras write: the photo, then a depth or brightness map.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise _Refused("animated or of several pages: which picture is meant?")
    if image.mode == "F":
        raise _Refused("floating-point pixels have no agreed range")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise _Refused("32-bit pixels have no agreed range")
        gray = ((values + 128) // 257).astype(np.uint8)
        gray[values == image.info.get("transparency")] = 255
        return Image.fromarray(gray).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
