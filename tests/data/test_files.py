"""Files of every kind through the loader: bad ones, odd ones, and the geometry of the crop."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo_folder, picture, save, small

from lib.data.files import MAX_PIXELS, Crop, UnreadableImage, decode, dimensions
from lib.data.images import ImageError


@pytest.fixture
def folder(tmp_path) -> Path:
    return photo_folder(tmp_path / "photos")


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = (head, data, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def animation(kind: str) -> bytes:
    file = io.BytesIO()
    more = [picture(seed) for seed in (1, 2)]
    picture(0).save(file, kind, save_all=True, append_images=more)
    return file.getvalue()


def jpeg(seed: int = 0) -> bytes:
    file = io.BytesIO()
    picture(seed, 200, 160).save(file, "JPEG")
    return file.getvalue()


BAD = {
    "truncated.jpg": (jpeg()[:2000], "truncated"),
    "cut.png": (png_header(50, 50), "cannot be read"),
    "text.jpg": (b"this is no picture\n", "no image in a known format"),
    "empty.jpg": (b"", "no image in a known format"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image in a known"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 40, "no image in a known format"),
    "huge.png": (png_header(60_000, 60_000), "limit of 89 million pixels"),
    "large.png": (png_header(10_000, 10_000), "limit of 89 million pixels"),
    "moving.gif": (animation("GIF"), "animated"),
    "moving.webp": (animation("WEBP"), "animated"),
    "moving.png": (animation("PNG"), "animated"),
    "pages.tiff": (animation("TIFF"), "several pages"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name(folder, name):
    content, message = BAD[name]
    (folder / "243" / name).write_bytes(content)
    images = small(folder)
    for read in (images.pixels, lambda: list(images.batches(3))):
        with pytest.raises(ImageError, match=message) as caught:
            read()
        assert f"/243/{name}'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files_are_skipped_and_counted(folder):
    good = small(folder)
    for name, (content, _) in BAD.items():
        (folder / "243" / name).write_bytes(content)
    save(folder / "wug" / "unknown.png")
    images = small(folder, unreadable="skip")
    assert images.names == good.names and torch.equal(images.targets, good.targets)
    assert torch.equal(images.pixels(), good.pixels())
    reasons = dict(images.skipped)
    assert set(reasons) == {f"243/{name}" for name in BAD} | {"wug/unknown.png"}
    assert all(message in reasons[f"243/{name}"] for name, (_, message) in BAD.items())
    assert reasons["wug/unknown.png"] == "unknown class 'wug'"


def test_nothing_left(tmp_path):
    (tmp_path / "243").mkdir()
    (tmp_path / "243" / "text.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"nothing left of .*'243/text.jpg': no image"):
        small(tmp_path, unreadable="skip")


def test_files_that_vanish_are_named(folder):
    images = small(folder)
    (folder / "243" / "photo01.png").unlink()
    with pytest.raises(ImageError, match=r"photo01.png': cannot be read: No such file"):
        images.pixels()
    with pytest.raises(ImageError, match=r"photo01.png': No such file"):
        _ = images.sha256


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_read(folder, kind):
    """A pipe or a link to /dev/zero would be read for ever."""
    odd = folder / "243" / "odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/dev/zero")
    images = small(folder)
    for use in (images.pixels, lambda: images.sha256):
        with pytest.raises(ImageError, match=r"odd.png'.*not a regular file"):
            use()
    with pytest.raises(UnreadableImage, match="not a regular file"):
        dimensions(odd)
    skipped = small(folder, unreadable="skip").skipped
    assert skipped == [("243/odd.png", "cannot be read: not a regular file")]


def read(path: Path) -> np.ndarray:
    return decode(path, Crop(48, 48)).astype(int)


def test_color_modes(tmp_path):
    rgb = picture(0)
    expected = read(save(tmp_path / "rgb.png"))
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert abs(read(tmp_path / "cmyk.jpg") - expected).mean() < 3
    rgb.quantize(256).save(tmp_path / "palette.png")
    assert abs(read(tmp_path / "palette.png") - expected).mean() < 6
    gray = rgb.convert("L")
    gray.save(tmp_path / "gray.png")
    got = read(tmp_path / "gray.png")
    assert (got[..., :1] == got).all() and got.std() > 10
    gray.point(lambda value: 255 * (value > 127)).convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(read(tmp_path / "bits.png"))) >= {0, 255}
    steps = np.array([0, 128, 129, 100 * 257, 65535], np.uint16)
    Image.fromarray(np.repeat(steps, 5).reshape(5, 5).T.copy()).save(tmp_path / "steps.png")
    assert decode(tmp_path / "steps.png", Crop(5, 5))[0, :, 0].tolist() == [0, 0, 1, 100, 255]
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    for name in ("deep.png", "deep.tiff", "deep.pgm"):
        deep.save(tmp_path / name)
        assert (read(tmp_path / name) == got).all()


def test_pixels_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.ones((9, 9), np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((9, 9), 70_000, np.int32)).save(tmp_path / "deep.tiff")
    for name, message in (("float.tiff", "floating-point"), ("deep.tiff", "32-bit")):
        with pytest.raises(ImageError, match=message):
            read(tmp_path / name)


def test_transparency_is_laid_on_white(tmp_path):
    red = Image.new("RGBA", (48, 48), (255, 0, 0, 255))
    red.paste((0, 0, 255, 0), (0, 0, 48, 24))
    red.paste((0, 0, 0, 128), (0, 36, 48, 48))
    for name in ("alpha.png", "alpha.webp"):
        red.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        got = read(tmp_path / name)
        assert got[10, 10].tolist() == [255] * 3 and got[30, 10].tolist() == [255, 0, 0]
        assert abs(got[45, 10] - 127).max() <= 1
    gray = Image.fromarray(np.repeat(np.uint16([1000, 2000]), 24 * 48).reshape(48, 48))
    gray.save(tmp_path / "gray.png", transparency=1000)
    assert read(tmp_path / "gray.png")[[10, 40], 10, 0].tolist() == [255, 8]
    keyed = Image.new("P", (48, 48), 1)
    keyed.putpalette([0, 0, 0, 9, 99, 199])
    keyed.paste(0, (0, 0, 48, 24))
    keyed.save(tmp_path / "keyed.gif", transparency=0)
    assert read(tmp_path / "keyed.gif")[[10, 40], 10].tolist() == [[255] * 3, [9, 99, 199]]


def test_exif_orientation_is_applied(tmp_path):
    upright = picture(0)
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    for name in ("turned.png", "turned.tiff"):
        turned.save(tmp_path / name, exif=exif)
        assert (read(tmp_path / name) == read(tmp_path / "upright.png")).all()
        assert dimensions(tmp_path / name) == dimensions(tmp_path / "upright.png")
        assert dimensions(tmp_path / name) == upright.size != turned.size
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "missing.png"):
        with pytest.raises(UnreadableImage, match="cannot be read"):
            dimensions(tmp_path / name)


def test_a_photo_with_a_depth_map_is_its_first_picture(tmp_path):
    picture(0).save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[picture(1)])
    picture(0).save(tmp_path / "plain.jpg", "JPEG")
    assert (read(tmp_path / "phone.jpg") == read(tmp_path / "plain.jpg")).all()


@pytest.mark.parametrize("sides", [(60, 48), (48, 60), (500, 333), (7, 5), (40, 40), (3000, 2)])
def test_crop_is_that_of_resizing_the_whole_image(sides, tmp_path):
    image = picture(1, *sides)
    image.save(tmp_path / "a.png")
    width, height = (int(40 * side / min(sides)) for side in sides)
    left, top = round((width - 32) / 2), round((height - 32) / 2)
    whole = image.resize((width, height), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((left, top, left + 32, top + 32))).astype(int)
    difference = abs(decode(tmp_path / "a.png", Crop(32, 40)).astype(int) - expected)
    assert difference.max() <= 2 and (difference > 0).mean() < 0.03


def test_a_very_long_image_takes_little_memory(tmp_path):
    Image.new("RGB", (60_000, 1), "red").save(tmp_path / "line.png")
    assert decode(tmp_path / "line.png", Crop(224, 256)).shape == (224, 224, 3)
    assert MAX_PIXELS < 60_000 * 256 * 256  # resized whole it would be beyond the limit


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (100, 100), (50, 256), (300, 320)])
@pytest.mark.parametrize("sides", [(512, 512), (640, 480), (333, 500)])
def test_points_and_boxes_follow_the_pixels(size, resize, sides, tmp_path):
    """A bright square drawn into the image is found in the crop where box() says."""
    crop, half = Crop(size, resize), 24
    x, y = sides[0] // 2 + 9, sides[1] // 2 - 6
    image = Image.new("RGB", sides)
    image.paste("white", (x - half, y - half, x + half, y + half))
    image.save(tmp_path / "square.png")
    light = decode(tmp_path / "square.png", crop)[..., 0] / 255
    x0, y0, x1, y1 = crop.box((x - half, y - half, x + half, y + half), *sides)
    if min(x0, y0) > 0 and max(x1, y1) < size:
        rows, columns = light.sum(1), light.sum(0)
        places = np.arange(size) + 0.5
        center = (columns @ places / columns.sum(), rows @ places / rows.sum())
        assert crop.point(x, y, *sides) == pytest.approx(center, abs=0.05)
        assert light.sum() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.03)
    else:
        assert size < resize / 2
    assert crop.point(-1e4, 0, *sides) is None and crop.box((-9, 0, -5, 5), *sides) is None


def test_a_box_of_which_little_is_left_is_dropped():
    crop = Crop(100, 200)  # of a 200 x 200 image: pixels 50 to 150
    assert crop.box((140, 60, 165, 90), 200, 200) == (90, 10, 100, 40)  # two fifths are left
    assert crop.box((146, 60, 165, 90), 200, 200) is None  # a fifth, a strip of 4 pixels
    assert crop.box((0, 0, 200, 200), 200, 200) == (0, 0, 100, 100)  # a quarter, all of the crop
    assert crop.box((0, 0, 80, 200), 200, 200) == (0, 0, 30, 100)
