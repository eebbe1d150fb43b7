"""Boxes and points of a folder's photos: each format, the geometry, and all that can be wrong."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from support.photos import picture, save, small, whole_boxes

from lib.data import imagenet
from lib.data.annotations import MAX_XML
from lib.data.images import ImageError, Images, load_images

GOLDFISH, TABBY = "n01443537", "n02123045"
A, B = f"{GOLDFISH}_a.png", f"{TABBY}_b.png"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two flat photos of 60 x 48 pixels: resized to 48 and cut, x loses 6 on either side."""
    save(tmp_path / "photos" / A, 1)
    save(tmp_path / "photos" / B, 2)
    return tmp_path / "photos"


def load(folder: Path, **options) -> Images:
    return small(folder, **{"size": 48, "resize": 48, **options})


def voc(*objects: tuple, size: tuple | None = (60, 48), before: str = "") -> str:
    """An annotation as ImageNet writes them; an object is a name and four numbers."""
    sides = "<size><width>{}</width><height>{}</height><depth>3</depth></size>"
    boxes = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    shape = sides.format(*size) if size else ""
    return f"{before}<annotation><folder>val</folder>{shape}{boxes}</annotation>"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def boxes_csv(folder: Path, *rows: str, header: str = "file,x0,y0,x1,y1") -> Path:
    return write(folder.parent / "boxes.csv", "\n".join([header, *rows]) + "\n")


def points_csv(folder: Path, *rows: str, header: str = "file,part,x,y") -> Path:
    return write(folder.parent / "points.csv", "\n".join([header, *rows]) + "\n")


def table(folder: Path, *rows: str) -> Path:
    return boxes_csv(folder, *rows, header="ImageId,PredictionString")


def refused(message: str, folder: Path, **options) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)


def test_each_format_says_the_same_of_one_object(folder):
    """Pixels 11 to 30 and 5 to 20, counted from 1, are [10, 30) and [4, 20)."""
    inclusive = (11, 5, 30, 20)
    texts = {name: voc((name[:9], *inclusive)) for name in (A, B)}
    for layout in ("flat", "nested"):
        for name, text in texts.items():
            inner = Path(name[:9], name) if layout == "nested" else Path(name)
            write(folder.parent / layout / inner.with_suffix(".xml"), text)
    words = " ".join(map(str, inclusive))
    rows = [f"{Path(name).stem},{name[:9]} {words} " for name in (A, B)]
    loc = table(folder, *rows, "ILSVRC2012_val_00048981,n03995372 85 1 499 272").rename(
        folder.parent / "LOC_val_solution.csv"
    )
    mine = boxes_csv(folder, f"{A},10,4,30,20", f"{B},10,4,30,20")
    for source in (mine, loc, folder.parent / "flat", folder.parent / "nested"):
        images = load(folder, boxes=source)
        assert whole_boxes(images).tolist() == [[4, 4, 24, 20]] * 2, source
        assert images.instances[0].tolist() == [[4, 4, 24, 20]]
    assert whole_boxes(load(folder)).isnan().all()


def test_a_box_is_around_the_pixels_that_it_says(folder):
    """White pixels 11 to 30, counted from 1: their sum in the crop is the mapped box's area."""
    image = Image.new("RGB", (60, 48))
    image.paste("white", (10, 4, 30, 20))
    image.save(folder / A)
    xml = write(folder.parent / "xml" / f"{Path(A).stem}.xml", voc((GOLDFISH, 11, 5, 30, 20)))
    images = load(folder, boxes=xml.parent)
    light = images.pixels()[0, 0]
    x0, y0, x1, y1 = (int(edge) for edge in whole_boxes(images)[0])
    assert light[y0:y1, x0:x1].min() > 0.95 and light.sum() == pytest.approx(20 * 16, rel=0.01)
    wide = load(folder, boxes=xml.parent, size=84, resize=96)  # twice, 6 pixels less all around
    assert whole_boxes(wide)[0].tolist() == [20 - 18, 8 - 6, 60 - 18, 40 - 6]


def test_whole_photos_and_zeros(folder):
    """ImageNet holds both 1 .. 60 and 0 .. 60 for a photo from edge to edge."""
    for numbers in ("1 1 60 48", "0 0 60 48"):
        images = load(folder, boxes=table(folder, f"{Path(A).stem},{GOLDFISH} {numbers}"))
        assert (
            whole_boxes(images)[0].tolist() == [0, 0, 48, 48]
            and whole_boxes(images)[1].isnan().all()
        )


def test_several_objects_of_which_the_photos_own_class_counts(folder):
    others = [("person", 1, 1, 60, 48), (TABBY, 2, 2, 9, 9), ("crane", 1, 1, 9, 9)]
    own = [(GOLDFISH, 7, 1, 16, 10), ("Goldfish", 27, 11, 36, 30)]
    write(
        folder.parent / "xml" / f"{Path(A).stem}.xml", voc(others[0], own[0], *others[1:], own[1])
    )
    images = load(folder, boxes=folder.parent / "xml")
    assert images.instances[0].tolist() == [[0, 0, 10, 10], [20, 10, 30, 30]]
    assert whole_boxes(images)[0].tolist() == [0, 0, 30, 30] and len(images.instances[1]) == 0
    row = " ".join(f"{name} {x0} {y0} {x1} {y1}" for name, x0, y0, x1, y1 in [own[0], others[1]])
    images = load(folder, boxes=table(folder, f"{Path(A).stem},{row}"))
    assert images.instances[0].tolist() == [[0, 0, 10, 10]]
    rows = [f"{A},6,0,16,10", f"{A},26,10,36,30"]
    images = load(folder, boxes=boxes_csv(folder, *rows))
    assert whole_boxes(images)[0].tolist() == [0, 0, 30, 30]
    away = load(folder, boxes=boxes_csv(folder, f"{A},0,0,5,48"))  # cut away with the margin
    assert whole_boxes(away).isnan().all() and len(away.instances[0]) == 0


def test_a_resized_copy_is_scaled_by_the_annotated_size(folder):
    xml = folder.parent / "xml" / f"{Path(A).stem}.xml"
    write(xml, voc((GOLDFISH, 21, 9, 60, 40), size=(120, 96)))
    assert whole_boxes(load(folder, boxes=xml.parent))[0].tolist() == [4, 4, 24, 20]
    picture(1, 60, 47).save(folder / A)  # 48 and a half, rounded down
    write(xml, voc((GOLDFISH, 1, 1, 120, 95), size=(120, 95)))
    load(folder, boxes=xml.parent)
    write(xml, voc((GOLDFISH, 11, 5, 30, 20), size=None))
    assert whole_boxes(load(folder, boxes=xml.parent))[0].isfinite().all()


def test_points(folder):
    rows = [f"{A},eye,16,10", f"{A},eye,20.5,10", f"{A},foot,30,40", f"{B},foot,60,48"]
    images = load(folder, points=points_csv(folder, *rows))
    assert images.parts[0] == {"eye": [(10, 10), (14.5, 10)], "foot": [(24, 40)]}
    assert images.parts[1] == {"eye": [], "foot": []}  # its corner lies outside the crop
    images = load(folder, points=points_csv(folder, *rows), boxes=boxes_csv(folder, f"{A},6,0,9,9"))
    assert images.parts[0]["eye"] and whole_boxes(images)[0].tolist() == [0, 0, 3, 9]


def test_class_folders_and_limits(tmp_path):
    """A csv names a photo with its folder or, where it is unique, without; drawn or not."""
    folder = tmp_path / "photos"
    for name in ("1/a.png", "281/a.png", "281/b.png"):
        save(folder / name)
    rows = ["1/a.png,6,0,16,10", "281/a.png,6,0,26,10", "b.png,6,0,36,10"]
    images = load(folder, boxes=boxes_csv(folder, *rows))
    assert whole_boxes(images)[:, 2].tolist() == [10, 20, 30]
    for limit in (1, 2):
        drawn = load(folder, boxes=boxes_csv(folder, *rows), limit=limit)
        expected = [whole_boxes(images)[images.names.index(name)] for name in drawn.names]
        assert torch.equal(whole_boxes(drawn), torch.stack(expected))
    refused("line 2: several images 'a.png'", folder, boxes=boxes_csv(folder, "a.png,6,0,16,10"))
    write(tmp_path / "xml" / "a.xml", voc((GOLDFISH, 7, 1, 16, 10)))
    refused("a.xml': no object of class 281, that of '281/a.png'", folder, boxes=tmp_path / "xml")
    (tmp_path / "xml" / "a.xml").rename(write(tmp_path / "xml" / "1" / "a.xml", ""))
    images = load(folder, boxes=tmp_path / "xml")
    assert (
        whole_boxes(images)[0].tolist() == [0, 0, 10, 10] and whole_boxes(images)[1:].isnan().all()
    )


def test_skipped_photos_may_be_annotated(folder):
    (folder / A).write_text("no picture")
    rows = [f"{A},6,0,16,10", f"{B},6,0,16,10"]
    images = load(folder, boxes=boxes_csv(folder, *rows), unreadable="skip")
    assert whole_boxes(images).tolist() == [[0, 0, 10, 10]] and len(images.skipped) == 1
    refused(f"{A}': cannot be read|no image in a known", folder, boxes=boxes_csv(folder, *rows))


def test_turned_photos_are_annotated_as_they_are_shown(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1, 48, 60).save(folder / A, exif=exif)  # shown as 60 x 48
    images = load(folder, boxes=boxes_csv(folder, f"{A},10,4,30,20"))
    assert whole_boxes(images)[0].tolist() == [4, 4, 24, 20]


def test_ones_own_annotation_of_the_embedded_photos(tmp_path):
    name = "imagenet_00_243.jpg"
    csv = write(tmp_path / "boxes.csv", f"file,x0,y0,x1,y1\n{name},0,0,512,512\n")
    images = load_images(boxes=csv)
    assert (
        whole_boxes(images)[0].tolist() == [0, 0, 224, 224]
        and whole_boxes(images)[1:].isnan().all()
    )
    assert images.parts == load_images().parts


BAD_BOXES = {
    f"{A},10,4,61,20": "line 2: 10 4 61 20 is no box inside '.*_a.png', which has 60 x 48 pixels",
    f"{A},-1,4,30,20": "line 2: -1 4 30 20 is no box",
    f"{A},10,4,30,48.5": "line 2: 10 4 30 48.5 is no box",
    f"{A},30,4,10,20": "line 2: 30 4 10 20 is no box",
    f"{A},10,4,10,20": "line 2: 10 4 10 20 is no box",
    f"{A},0.1,0.1,0.6,inf": "line 2: expected 4 numbers, got .*'inf'",
    f"{A},nan,4,30,20": "line 2: expected 4 numbers",
    f"{A},left,4,30,20": "line 2: expected 4 numbers, got .*'left', '4', '30', '20'",
    f"{A},10,4,30": "line 2: the y1 is missing",
    f"{A},10,4,30,": "line 2: the y1 is missing",
    f"{A},10,4,30,20,tabby": "line 2: more fields than columns",
    "c.png,10,4,30,20": "line 2: no image 'c.png'",
    "": "no boxes of 'n01443537_a.png' or another photo",
}


@pytest.mark.parametrize("row", BAD_BOXES)
def test_bad_boxes_are_named(folder, row):
    refused(f"boxes.csv':? {BAD_BOXES[row]}", folder, boxes=boxes_csv(folder, row))
    if row:
        second = BAD_BOXES[row].replace("line 2", "line 3")
        refused(second, folder, boxes=boxes_csv(folder, f"{B},6,0,9,9", row))


BAD_POINTS = {
    f"{A},eye,61,4": "line 2: 61 4 is no eye inside '.*_a.png', which has 60 x 48 pixels",
    f"{A},foot,6,-4": "line 2: 6 -4 is no foot",
    f"{A},tail,6,4": "line 2: part 'tail' is neither eye nor foot",
    f"{A},box,6,4": "line 2: part 'box' is neither",
    f"{A},eye,6,x": "line 2: expected 2 numbers",
    f"{A},eye,6": "line 2: the y is missing",
    "c.png,eye,6,4": "line 2: no image 'c.png'",
}


@pytest.mark.parametrize("row", BAD_POINTS)
def test_bad_points_are_named(folder, row):
    refused(f"points.csv' {BAD_POINTS[row]}", folder, points=points_csv(folder, row))


BAD_ROWS = {
    "{a},{w} 1 1 61 48": "line 2: 0 0 61 48 is no box",
    "{a},{w} -1 1 60 48": "line 2: -1 0 60 48 is no box",
    "{a},{w} 1 1 60": "line 2: expected a wnid and four numbers for each object",
    "{a},{w} 1 1 60 x": "line 2: expected 4 numbers",
    "{a},n02123045 1 1 60 48": "line 2: no object of class 1, that of 'n01443537_a.png'",
    "{a},": "line 2: the PredictionString is missing",
    "other,{w} 1 1 60 48": "no boxes of 'n01443537_a.png' or another photo",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_bad_rows_of_imagenets_table_are_named(folder, row):
    source = table(folder, row.format(a=Path(A).stem, w=GOLDFISH))
    refused(f"boxes.csv'.*{BAD_ROWS[row]}", folder, boxes=source)


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "' + "b" * 100 + '">]>'
FINE = (GOLDFISH, 11, 5, 30, 20)
BAD_XML = {
    "no xml": ("file,x0,y0", "cannot be read as XML: syntax error: line 1, column 0"),
    "empty": ("", "cannot be read as XML: no element found"),
    "cut": (voc(FINE)[:-20], "cannot be read as XML: .*line 1"),
    "encoding": ('<?xml version="1.0" encoding="klingon"?><a/>', "as XML: unknown encoding"),
    "entities": (voc((*FINE[:4], "&b;"), before=BOMB), "as XML: a DOCTYPE"),
    "undefined": (voc((*FINE[:4], "&b;")), "as XML: undefined entity"),
    "large": (voc(FINE) + " " * MAX_XML, "as XML: larger than a megabyte"),
    "foreign": ("<html><body/></html>", "no object of class 1, that of 'n01443537_a.png'"),
    "other class": (voc((TABBY, 11, 5, 30, 20)), "no object of class 1"),
    "outside": (voc(FINE, (GOLDFISH, 1, 1, 61, 9)), "object 2: 0 0 61 9 is no box inside"),
    "negative": (voc((GOLDFISH, -3, 1, 9, 9)), "object 1: -3 0 9 9 is no box inside"),
    "swapped": (voc((GOLDFISH, 30, 5, 11, 20)), "object 1: 29 4 11 20 is no box"),
    "text": (voc((GOLDFISH, "a", 5, 11, 20)), "object 1: expected 4 numbers, got .'a', '5'"),
    "hole": (voc(FINE).replace("<ymin>5</ymin>", ""), "object 1: expected 4 numbers, got .*None"),
    "turned": (voc(FINE, size=(48, 60)), "annotated at 48 x 60 pixels; '.*_a.png' has 60 x 48"),
    "no size": (voc(FINE, size=(0, 0)), "annotated at 0 x 0 pixels"),
    "odd size": (voc(FINE, size=("", 48)), "size: expected 2 numbers"),
}


@pytest.mark.parametrize("name", BAD_XML)
def test_bad_xml_is_named(folder, name):
    text, message = BAD_XML[name]
    xml = write(folder.parent / "xml" / f"{Path(A).stem}.xml", text)
    refused(f"_a.xml'.* ?{message}", folder, boxes=xml.parent)


def test_a_doctype_in_another_encoding_is_refused(folder):
    xml = write(folder.parent / "xml" / f"{Path(A).stem}.xml", "")
    text = voc(FINE, before='<?xml version="1.0" encoding="utf-16"?><!DOCTYPE annotation>')
    xml.write_bytes(text.encode("utf-16"))
    refused("a DOCTYPE", folder, boxes=xml.parent)
    xml.write_bytes(text.replace("<!DOCTYPE annotation>", "").encode("utf-16"))
    assert whole_boxes(load(folder, boxes=xml.parent))[0].tolist() == [4, 4, 24, 20]
    xml.write_text("<a>" * 140_000 + "</a>" * 140_000)  # deep, within the limit
    refused("no object of class 1", folder, boxes=xml.parent)


def test_sources_that_are_none(folder):
    refused("boxes: '.*nowhere.csv' does not exist", folder, boxes=folder / "nowhere.csv")
    refused("points: '.*nowhere.csv' does not exist", folder, points=folder / "nowhere.csv")
    refused("no boxes of 'n01443537_a.png' or another photo", folder, boxes=folder)
    refused("photos' cannot be read: not a regular file", folder, points=folder)
    refused("cannot be read|not a csv file in UTF-8", folder, boxes=folder / A)
    wrong = boxes_csv(folder, f"{A},1,1", header="file,x,y")
    refused(r"boxes.csv': no one column 'x0' \(columns: file, x, y\)", folder, boxes=wrong)
    refused("no one column 'part'", folder, points=wrong)
    (folder.parent / "xml" / f"{Path(A).stem}.xml").mkdir(parents=True)
    refused(
        "_a.xml' cannot be read as XML: not a regular file", folder, boxes=folder.parent / "xml"
    )


def test_columns_that_are_not_asked_for_do_not_matter(folder):
    header = "part,file,x0,y0,x1,y1,PredictionString,x,y"
    both = boxes_csv(folder, f"eye ,{A},10,4,30,20,,16,10", header=header)
    images = load(folder, boxes=both, points=both)
    assert whole_boxes(images)[0].tolist() == [4, 4, 24, 20] and images.parts[0]["eye"] == [
        (10, 10)
    ]
    header = "file,part,x,y,ImageId,PredictionString"
    images = load(folder, points=points_csv(folder, f"{A},eye,16,10,,", header=header))
    assert images.parts[0] == {"eye": [(10, 10)], "foot": []}


def test_imagenets_table_is_no_file_of_points(folder):
    loc = table(folder, f"{Path(A).stem},{GOLDFISH} 1 1 60 48")
    refused("no one column 'file'", folder, points=loc)
    assert imagenet.wnids()[1] == GOLDFISH
