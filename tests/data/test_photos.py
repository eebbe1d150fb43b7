"""The embedded photos and our annotation of them."""

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from support.photos import whole_boxes

from lib.data import imagenet
from lib.data.images import ImageError, load_images
from lib.data.listing import embedded_photos

ANIMALS = {"00_243", "14_129", "15_99", "16_251", "17_22", "18_317", "19_305"}


@pytest.fixture(scope="module")
def embedded():
    return load_images()


def data(name: str) -> list[dict]:
    with open(imagenet.TABLES / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_embedded_photos(embedded):
    assert len(embedded) == 20 and embedded.skipped == []
    names = [embedded.categories[target] for target in embedded.targets[:5]]
    assert names == ["bull mastiff", "folding chair", "beaker", "buckeye", "strawberry"]
    pixels = embedded.pixels()
    assert pixels.shape == (20, 3, 224, 224) and pixels.dtype == torch.float32
    assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.std(dim=(1, 2, 3)).min() > 0.04
    assert load_images(limit=5).names == load_images(limit=5).names
    with pytest.raises(ImageError, match="ImageNet's classes, the classifier others"):
        load_images(categories=["cat", "dog"])
    with pytest.raises(ImageError, match="labels"):
        load_images(labels="labels.csv")


@pytest.mark.slow
def test_loading_is_light():
    code = (
        "import sys; from lib.data.images import load_images; load_images().pixels(); "
        "assert not {'foolbox', 'torchvision', 'pandas'} & set(sys.modules)"
    )
    root = Path(imagenet.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_a_photo_that_is_not_the_annotated_one_is_refused(tmp_path, monkeypatch):
    original = embedded_photos()[0].path.parent
    shutil.copytree(original, tmp_path / "foolbox" / "data")
    (tmp_path / "foolbox" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "foolbox", raising=False)
    assert embedded_photos()[0].path.is_relative_to(tmp_path)
    photo = tmp_path / "foolbox" / "data" / data("photos.csv")[7]["file"]
    content = photo.read_bytes()
    photo.write_bytes(content[:-99] + bytes([content[-99] ^ 1]) + content[-98:])
    with pytest.raises(ImageError, match=f"has not our {photo.name}; the project needs its pin"):
        load_images()


def test_the_annotated_files_are_the_installed_ones():
    for row, photo in zip(data("photos.csv"), embedded_photos(), strict=True):
        assert hashlib.sha256(photo.path.read_bytes()).hexdigest() == row["sha256"]
        assert photo.path.name == row["file"]
    files = {row["file"] for row in data("photos.csv")}
    assert {row["file"] for row in data("photo_boxes.csv")} == files
    assert {row["file"] for row in data("photo_points.csv")} <= files
    assert {row["part"] for row in data("photo_points.csv")} == {"eye", "foot"}


def test_boxes_lie_in_the_crop_and_hold_the_points(embedded):
    boxes = whole_boxes(embedded)
    assert (boxes >= 0).all() and (boxes <= 224).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (sides > 20).all()
    for box, instances, parts in zip(boxes, embedded.instances, embedded.parts, strict=True):
        share = (instances[:, 2:] - instances[:, :2]).prod(1) / 224**2
        assert (share > 0.005).all() and (share <= 1).all()
        assert box[:2].equal(instances[:, :2].amin(0)) and box[2:].equal(instances[:, 2:].amax(0))
        for point in (torch.tensor(point) for part in parts.values() for point in part):
            held = (instances[:, :2] <= point) & (point <= instances[:, 2:])
            assert held.all(1).any()
    animals = {
        name[9:-4]
        for name, parts in zip(embedded.names, embedded.parts, strict=True)
        if parts["eye"] or parts["foot"]
    }
    assert animals == ANIMALS
    assert all(parts["foot"] for parts in embedded.parts if parts["eye"])
    # Eyes are above feet in every photo of an animal that stands.
    for name, parts in zip(embedded.names, embedded.parts, strict=True):
        if parts["eye"] and "18_317" not in name:
            assert max(y for _, y in parts["eye"]) < max(y for _, y in parts["foot"])


def test_annotation_at_another_size():
    half, full = load_images(size=112, resize=128), load_images()
    # The drum's long side is truncated to whole pixels, so it may move by one.
    assert torch.allclose(whole_boxes(half) * 2, whole_boxes(full), atol=1.5)
    assert half.parts[0]["eye"][0] == pytest.approx([edge / 2 for edge in full.parts[0]["eye"][0]])
    narrow = load_images(size=64, resize=256)
    boxes = whole_boxes(narrow)[~whole_boxes(narrow).isnan().any(1)]
    assert (boxes >= 0).all() and (boxes <= 64).all()
    assert len(narrow.parts[0]["foot"]) == 0  # the dog's feet lie outside


@pytest.mark.slow
def test_picture_of_the_annotation(embedded, tmp_path):
    """Draws the contact sheet that a person looks at: $PHOTO_SHEET names a file to keep it."""
    path = Path(os.environ.get("PHOTO_SHEET", tmp_path / "photos.png"))
    sheet = contact_sheet(embedded, columns=5, scale=2)
    sheet.save(path)
    assert sheet.size == (5 * 448, 4 * 470) and path.stat().st_size > 100_000
    # The mastiff's left ear touches the left edge of its box: brown inside, green outside.
    pixels = embedded.pixels()[0]
    x0, y0, x1, y1 = (int(edge) for edge in whole_boxes(embedded)[0])
    inside, outside = pixels[:, y0:y1, x0:x1], pixels[:, y0:y1, :x0]
    assert inside[0].mean() > inside[1].mean() and outside[1].mean() > outside[0].mean()


def contact_sheet(images, columns: int, scale: int) -> Image.Image:
    """Each crop with its instances (yellow), their common box (white), eyes (red), feet (blue)."""
    side = images.crop.size * scale
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * side, rows * (side + 22)), "black")
    annotated = zip(images.instances, whole_boxes(images).tolist(), images.parts, strict=True)
    for k, (pixels, (instances, box, parts)) in enumerate(
        zip(images.pixels(), annotated, strict=True)
    ):
        crop = Image.fromarray((pixels.permute(1, 2, 0) * 255).round().byte().numpy())
        crop = crop.resize((side, side), Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(crop)
        for edges, color in [(box, "white"), *((one, "yellow") for one in instances.tolist())]:
            left, top, right, bottom = (edge * scale for edge in edges)
            draw.rectangle((left, top, right - 1, bottom - 1), outline=color)
        for part, color in (("eye", "red"), ("foot", "blue")):
            for x, y in parts[part]:
                for radius, ink in ((5, "white"), (4, color)):
                    draw.circle((x * scale, y * scale), radius, outline=ink)
        place = k % columns * side, k // columns * (side + 22)
        sheet.paste(crop, place)
        label = f"{images.names[k]}  {images.categories[images.targets[k]]}"
        ImageDraw.Draw(sheet).text((place[0] + 4, place[1] + side + 4), label, fill="white")
    return sheet
