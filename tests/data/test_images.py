"""The loader: classes, the layouts of a folder, subsets, batches."""

import ast
import importlib.util
import itertools
import os
import shutil
import threading
import unicodedata
from pathlib import Path

import pytest
import torch
from support.photos import photo_folder, save, small, whole_boxes

from lib.data import imagenet
from lib.data.files import Crop, decode
from lib.data.images import ImageError, load_images, load_photos


@pytest.fixture
def folder(tmp_path) -> Path:
    return photo_folder(tmp_path / "photos")


def flat(folder: Path, rows: list[tuple], header: str = "file,label") -> Path:
    for row in rows:
        save(folder / row[0], len(row[0]))
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_classes_are_torchvisions_in_the_order_of_their_wnids():
    assert imagenet.wnids() == sorted(set(imagenet.wnids())) and len(imagenet.wnids()) == 1000
    package = importlib.util.find_spec("torchvision")  # found, not imported: that is slow
    source = Path(package.submodule_search_locations[0]) / "models" / "_meta.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert imagenet.categories() == ast.literal_eval(values["_IMAGENET_CATEGORIES"])
    known = {"n01440764": "tench", "n02108422": "bull mastiff", "n12768682": "buckeye"}
    names = dict(zip(imagenet.wnids(), imagenet.categories(), strict=True))
    assert {wnid: names[wnid] for wnid in known} == known


def test_three_layouts_and_the_csv_give_the_same_targets_and_pixels(tmp_path, folder):
    names, wnids = imagenet.categories(), imagenet.wnids()
    labels = {
        "wnid": lambda k: wnids[k],
        "name": lambda k: names[k],
        "loud": lambda k: names[k].upper().replace(" ", "_"),
    }
    reference = small(folder)
    # The csv and the other layouts sort their paths differently, so compare by file name.
    expected = {name.split("/")[-1]: row for row, name in enumerate(reference.names)}
    (tmp_path / "flat").mkdir()
    rows = ["extra,file,label"]
    for kind, label in labels.items():
        for name, target in zip(reference.names, reference.targets.tolist(), strict=True):
            old, new = folder / name, tmp_path / kind / label(target) / Path(name).name
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(old.read_bytes())
            if kind == "wnid":
                (tmp_path / "flat" / old.name).write_bytes(old.read_bytes())
                written = [str(target), names[target], wnids[target]][len(rows) % 3]
                rows.append(f"x,{old.name},{written}")
    (tmp_path / "labels of mine.csv").write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    sources = [(tmp_path / kind, None) for kind in labels]
    for source, table in [*sources, (tmp_path / "flat", tmp_path / "labels of mine.csv")]:
        images = small(source, labels=table)
        order = [expected[name.split("/")[-1]] for name in images.names]
        assert images.names == sorted(images.names) and len(images) == 12
        assert torch.equal(images.targets, reference.targets[order])
        assert torch.equal(images.pixels(), reference.pixels()[order])


def test_a_flat_folder_whose_names_begin_with_wnids(tmp_path, folder):
    reference = small(folder)
    for name, target in zip(reference.names, reference.targets.tolist(), strict=True):
        wnid, stem = imagenet.wnids()[target], Path(name).name.removesuffix(".png")
        new = tmp_path / "flat" / f"{wnid}_{stem}.png"
        new.parent.mkdir(exist_ok=True)
        new.write_bytes((folder / name).read_bytes())
    images = small(tmp_path / "flat")  # sorted by wnid, as the class folders are by their index
    assert torch.equal(images.targets, reference.targets)
    assert torch.equal(images.pixels(), reference.pixels())
    for first, second in ((1, 2), (3, 6), (6, 12)):
        fewer, more = (small(tmp_path / "flat", limit=n, seed=5).names for n in (first, second))
        assert len(fewer) == first and set(fewer) < set(more)
    wnid = imagenet.wnids()[7]
    for name in (f"{wnid}.png", f"{wnid.upper()}-1.png", f"{wnid}_{wnid}.JPEG"):
        save(tmp_path / "names" / name)
    with pytest.raises(ImageError, match=r"names begin with a wnid .* and others .*'N01514668-1"):
        small(tmp_path / "names")
    (tmp_path / "names" / f"{wnid.upper()}-1.png").unlink()
    assert small(tmp_path / "names").targets.tolist() == [7, 7]


def test_labels_win_over_the_wnids_of_names(tmp_path):
    for name in ("n01443537_a.png", "n02123045_b.png"):
        save(tmp_path / name)
    assert small(tmp_path).targets.tolist() == [1, 281]
    mine = tmp_path / "mine.txt"
    mine.write_text("file,label\nn01443537_a.png,7\nn02123045_b.png,8\n")
    assert small(tmp_path, labels=mine).targets.tolist() == [7, 8]
    mine.rename(tmp_path / "labels.csv")
    assert small(tmp_path).targets.tolist() == [7, 8]
    with pytest.raises(ImageError, match=r"other.csv' does not exist; labels: "):
        small(tmp_path, labels=tmp_path / "other.csv")


def test_names_that_begin_with_no_wnid_of_a_class(tmp_path):
    save(tmp_path / "n01443537_a.png")
    save(tmp_path / "n99999999_wug.png")
    with pytest.raises(ImageError, match=r"image 'n99999999_wug.png': unknown class 'n99999999'$"):
        small(tmp_path)
    kept = small(tmp_path, unreadable="skip")
    assert kept.names == ["n01443537_a.png"]
    assert kept.skipped == [("n99999999_wug.png", "unknown class 'n99999999'")]
    with pytest.raises(ImageError, match=r"unknown class 'n01443537'.*not ImageNet's"):
        small(tmp_path, categories=["cat", "dog"])
    (tmp_path / "n99999999_wug.png").rename(tmp_path / "n014435371_wug.png")  # nine digits
    for unreadable in ("refuse", "skip"):
        with pytest.raises(ImageError, match=r"'n01443537_a.png'\) and others .*'n014435371_wug"):
            small(tmp_path, unreadable=unreadable)
    (tmp_path / "n01443537_a.png").unlink()
    with pytest.raises(ImageError, match=r"labels: give a csv file .*begin each image's name with"):
        small(tmp_path)


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (240, 274), (260, 297), (28, 32)])
def test_the_margin_of_the_crop_keeps_its_ratio(folder, size, resize):
    assert load_images(folder, size=size).crop == Crop(size, resize)


def test_own_categories(tmp_path):
    save(tmp_path / "Sharp_Cat" / "a.png")
    save(tmp_path / "1" / "b.png")
    assert small(tmp_path, categories=["dog", "sharp cat"]).targets.tolist() == [1, 1]
    with pytest.raises(ImageError, match=r"ambiguous: 0 .* or 1"):
        small(tmp_path, categories=["1", "Sharp cat"])
    with pytest.raises(ImageError, match="ambiguous"):
        small(tmp_path, categories=["x", "y", "sharp cat", "Sharp cat"])
    save(tmp_path / "n01440764" / "c.png")
    with pytest.raises(ImageError, match=r"unknown class 'n01440764'.*not ImageNet's"):
        small(tmp_path, categories=["dog", "sharp cat"])


@pytest.mark.parametrize("name", ["crane", "Maillot", "cardigan"])
def test_names_of_two_classes_are_refused(tmp_path, name):
    save(tmp_path / name / "a.png")
    for unreadable in ("refuse", "skip"):
        with pytest.raises(ImageError, match=f"folder '{name}'.*ambiguous.*use the index"):
            small(tmp_path, unreadable=unreadable)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("1000", "folder '1000': class index 1000 is outside 0..999; .*counted from 1"),
        ("-1", "class index -1 is outside"),
        ("2000", "class index 2000 is outside 0..999$"),
        ("wug", "folder 'wug': unknown class 'wug'"),
        ("n99999999", "unknown class 'n99999999'"),
    ],
)
def test_class_folders_that_name_no_class(tmp_path, label, message):
    save(tmp_path / label / "a.png")
    with pytest.raises(ImageError, match=message):
        small(tmp_path)


def test_bad_folders(tmp_path, folder):
    def refused(message: str, source: Path, **options):
        with pytest.raises(ImageError, match=message) as caught:
            small(source, **options)
        assert "\n" not in str(caught.value)

    refused("no such folder: .*nowhere", tmp_path / "nowhere")
    refused("not a folder", folder / "1" / "photo00.png")
    (tmp_path / "empty" / "243").mkdir(parents=True)
    refused("no images in .*empty", tmp_path / "empty")
    (tmp_path / "empty" / "notes.docx").write_text("")
    refused(r"no images in .*other files there: \.docx", tmp_path / "empty")
    refused("labels: .*has class folders", folder, labels=tmp_path / "labels.csv")
    refused("no such folder", Path("~nobody-of-this-name/photos"))
    refused("no such folder", Path("x" * 5000))
    refused("has folders inside .*one level of class folders", folder.parent)
    save(folder / "stray.png")
    refused("images of its own .*stray.png.* and in class folders", folder)


def test_bad_label_files(tmp_path):
    rows = [("a.png", 1), ("b.png", 243)]
    cases = {
        "no one column 'file' .columns: file;label": (rows, "file;label"),
        "no one column 'label'": (rows, "file,class"),
        "line 4: a second row for 'a.png'": ([*rows, ("a.png", 243)], None),
        "line 3: class index 1000 .*counted from 1": ([("a.png", 1), ("b.png", 1000)], None),
        "line 3: the label is missing": ([("a.png", 1), ("b.png",)], None),
        "line 2: unknown class 'wug'": ([("a.png", "wug"), ("b.png", 1)], None),
        "line 2: class 'crane' is ambiguous": ([("a.png", "crane"), ("b.png", 1)], None),
        "line 3: more fields than columns": ([("a.png", 1), ("b.png", "tabby", "cat")], None),
    }
    for number, (message, (table, header)) in enumerate(cases.items()):
        source = flat(tmp_path / str(number), table, header or "file,label")
        with pytest.raises(ImageError, match=message):
            small(source)
    source = flat(tmp_path / "missing", rows)
    (source / "b.png").unlink()
    with pytest.raises(ImageError, match=r"line 3: no image 'b.png'"):
        small(source)
    source = flat(tmp_path / "more", rows)
    save(source / "c.png")
    with pytest.raises(ImageError, match=r"no row for the image 'c.png'"):
        small(source)
    skipping = small(source, unreadable="skip")
    assert skipping.names == ["a.png", "b.png"] and skipping.skipped == [("c.png", "no label")]
    (source / "labels.csv").unlink()
    with pytest.raises(ImageError, match="labels: give a csv file with the columns file,label"):
        small(source)
    (source / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
    with pytest.raises(ImageError, match="not a csv file in UTF-8"):
        small(source)


@pytest.mark.parametrize("name", [" a.png", "\u00e9.png", "e\u0301.png"])
def test_names_that_a_table_can_hardly_hold(tmp_path, name):
    """Blanks at the ends, and an accent that another file system spells otherwise."""
    save(tmp_path / name, 1)
    save(tmp_path / "b.png", 2)
    for written in (name, f'"{name}"', unicodedata.normalize("NFC", name)):
        table = tmp_path / "labels.csv"
        table.write_text(f"file,label\r\n{written},1\r\nb.png,243\r\n", encoding="utf-8-sig")
        images = small(tmp_path)
        assert dict(zip(images.names, images.targets.tolist(), strict=True))[name] == 1
        assert images.pixels().shape[0] == 2


def test_names_that_differ_in_a_blank_are_told_apart_or_refused(tmp_path):
    save(tmp_path / " a.png", 1)
    save(tmp_path / "a.png", 2)
    (tmp_path / "labels.csv").write_text('file,label\n" a.png",1\na.png,243\n')
    assert small(tmp_path).targets.tolist() == [1, 243]
    (tmp_path / "labels.csv").write_text("file,label\n a.png,1\na.png,243\n")
    with pytest.raises(ImageError, match=r"line 3: a second row for 'a.png'"):
        small(tmp_path)
    (tmp_path / "labels.csv").write_text('file,label\n"a.png ",1\n" a.png",243\n')
    with pytest.raises(ImageError, match=r"line 2: several images 'a.png '"):
        small(tmp_path)


def test_links_that_lead_nowhere(folder):
    (folder / "1" / "loop.png").symlink_to(folder / "1" / "loop.png")
    with pytest.raises(ImageError, match=r"loop.png': cannot be read: Too many levels"):
        small(folder).pixels()
    assert [name for name, _ in small(folder, unreadable="skip").skipped] == ["1/loop.png"]
    (folder / "2").symlink_to(folder / "2")  # a class that would be missing without a word
    for unreadable in ("refuse", "skip"):
        with pytest.raises(ImageError, match=r"/2' is a link that leads nowhere"):
            small(folder, unreadable=unreadable)


def test_a_table_that_cannot_be_read(tmp_path):
    save(tmp_path / "a.png")
    unreadable = Path("/proc/self/mem")  # for root, too
    if not unreadable.exists():
        pytest.skip("only Linux has a file that nobody can read")
    (tmp_path / "labels.csv").symlink_to(unreadable)
    with pytest.raises(ImageError, match=r"labels.csv' cannot be read: Input/output error"):
        small(tmp_path)
    with pytest.raises(ImageError, match="labels: give a csv file"):
        small(tmp_path, labels=tmp_path)


def test_files_that_are_not_images_are_ignored(folder):
    for name in (".DS_Store", "Thumbs.db", "README.md", "1/.hidden.png", "1/._photo00.png"):
        (folder / name).write_text("x")
    (folder / ".cache").mkdir()
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_text("x")
    assert len(small(folder)) == 12


def test_names_are_plain_text(tmp_path):
    odd = ["<script>alert(1).png", "naïve ☃.png", "a\nb.png"]
    for name in odd:
        save(tmp_path / "243" / name)
    assert small(tmp_path).names == sorted(f"243/{name}" for name in odd)
    try:
        save(tmp_path / "243" / os.fsdecode(b"\xff.png"))
    except OSError:
        return  # a file system that knows no such names
    assert "243/\ufffd.png" in small(tmp_path).names
    "".join(small(tmp_path).names).encode()


def test_limit_and_seed(folder):
    everything = small(folder)
    assert everything.names == sorted(everything.names)
    previous: list = []
    for limit in range(1, 13):
        chosen = small(folder, limit=limit, seed=3)
        assert len(chosen) == limit == len(set(chosen.names))
        assert chosen.names[:-1] == previous  # so that the rows of those before are kept
        assert chosen.names == small(folder, limit=limit, seed=3).names
        rows = [everything.names.index(name) for name in chosen.names]
        assert torch.equal(chosen.targets, everything.targets[rows])
        previous = chosen.names
    assert len(small(folder, limit=99)) == 12
    assert len({tuple(small(folder, limit=4, seed=seed).names) for seed in range(6)}) > 3


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("n", [1, 5, 12, 100])
def test_batches_are_the_pixels(folder, n, workers):
    images = small(folder, workers=workers)
    pixels = images.pixels()
    assert pixels.shape == (12, 3, 32, 32) and pixels.dtype == torch.float32
    bytes_ = torch.from_numpy(decode(folder / images.names[7], images.crop)).permute(2, 0, 1)
    assert torch.equal(pixels[7], bytes_ / 255)
    parts, blocks = zip(*images.batches(n), strict=True)
    assert torch.equal(torch.cat(blocks), pixels)
    assert [name for part in parts for name in part.names] == images.names
    assert torch.equal(torch.cat([part.targets for part in parts]), images.targets)
    assert [len(part) for part in parts] == [len(block) for block in blocks]


def test_batches_decode_a_bounded_number_ahead_and_stop(folder, monkeypatch):
    count, third, seventh = itertools.count(1), threading.Event(), threading.Event()

    def counting(path, crop):
        number = next(count)
        if number == 3:
            third.set()
        if number == 7:
            seventh.set()
        return decode(path, crop)

    monkeypatch.setattr("lib.data.images.decode", counting)
    before = threading.active_count()
    stream = small(folder, workers=1).batches(2)
    next(stream)
    assert third.wait(30), "what is asked for is decoded, and what comes next"
    assert not seventh.wait(0.2), "no more than two batches ahead"
    stream.close()
    assert threading.active_count() == before


def test_subset(folder):
    images = small(folder)
    pixels = images.pixels()
    mask = images.targets == 243
    cases = {
        (3, 0, 3): [3, 0, 3],
        (2, 5, 8): slice(2, 9, 3),
        (5, 1): torch.tensor([5, 1]),
        tuple(mask.nonzero()[:, 0].tolist()): mask,
        (): [],
    }
    for rows, indices in cases.items():
        part = images.subset(indices)
        assert part.names == [images.names[row] for row in rows]
        assert torch.equal(part.pixels(), pixels[list(rows)])
        assert whole_boxes(part).shape == (len(rows), 4)
    with pytest.raises(IndexError):
        images.subset([12])


def test_annotation_is_absent_for_a_folder(folder):
    images = small(folder)
    assert whole_boxes(images).isnan().all() and whole_boxes(images).shape == (12, 4)
    assert images.parts[0] == {"eye": [], "foot": []}


def test_sha256(folder, monkeypatch):
    digest = small(folder).sha256
    assert digest == small(folder).sha256 and len(digest) == 64
    assert digest != small(folder, size=30).sha256
    assert digest != small(folder, limit=11).sha256
    content = (folder / "1" / "photo00.png").read_bytes()
    (folder / "1" / "photo00.png").rename(folder / "281" / "photo00.png")
    assert digest != small(folder).sha256
    (folder / "281" / "photo00.png").rename(folder / "1" / "photo00.png")
    (folder / "1" / "photo00.png").write_bytes(content[:-1] + b"\0")
    changed = small(folder).sha256
    assert digest != changed
    labels = flat(folder.parent / "flat", [("a.png", 1), ("b.png", 243)])
    before = small(labels).sha256
    (labels / "labels.csv").write_text("file,label\na.png,1\nb.png,281\n")
    assert small(labels).sha256 != before
    # Beyond the limit the bytes are not read: names, sizes and labels count.
    monkeypatch.setattr("lib.data.images.HASHED_WHOLE", 5)
    listed = small(folder).sha256
    (folder / "1" / "photo00.png").write_bytes(content)
    assert small(folder).sha256 == listed != changed


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size: expected at least 1"),
        ({"size": 40, "resize": 39}, "resize: expected at least 40"),
        ({"limit": 0}, "limit: expected at least 1"),
        ({"limit": 2.5}, "limit: expected a whole number"),
        ({"seed": "a"}, "seed: expected a whole number"),
        ({"workers": 0}, "workers"),
        ({"unreadable": "ignore"}, "unreadable: expected 'refuse' or 'skip', got 'ignore'"),
    ],
)
def test_bad_parameters(folder, options, message):
    with pytest.raises(ImageError, match=message):
        small(folder, **options)


def test_photos_without_labels_are_a_file_or_the_first_of_a_folder(folder, tmp_path):
    names = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg"))
    one = load_photos(names[0], size=32)
    assert one.names == [names[0].name] and one.pixels().shape == (1, 3, 32, 32)
    for k in range(3):
        shutil.copy(names[k], tmp_path / f"{k}{names[k].suffix}")
    (tmp_path / "notes.txt").write_text("no photo")
    some = load_photos(tmp_path, size=32, limit=2)
    assert [name[0] for name in some.names] == ["0", "1"]


@pytest.mark.parametrize("what", ["missing.jpg", "empty", "text.jpg"])
def test_what_is_no_photo_is_refused_in_one_line(tmp_path, what):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("this is no image")
    with pytest.raises(ImageError, match=what) as caught:
        load_photos(tmp_path / what)
    assert "\n" not in str(caught.value)
