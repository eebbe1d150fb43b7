"""Boxes from maps, IoU, boxes of the same size elsewhere."""

from types import SimpleNamespace

import pytest
import torch

from lib.attribution import edges
from lib.evaluation.weak_localization import (
    best_iou,
    box_overlap,
    boxes_from_maps,
    centered,
    iou,
    scattered,
)


def rectangle(x0, y0, x1, y1, value=1.0, height=20, width=30):
    values = torch.zeros(1, height, width)
    values[0, y0:y1, x0:x1] = value
    return values


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.99])
def test_a_bright_rectangle_is_boxed_exactly(threshold):
    maps = rectangle(4, 7, 11, 9)
    before = maps.clone()
    assert boxes_from_maps(maps, threshold=threshold).tolist() == [[4, 7, 11, 9]]
    assert torch.equal(maps, before)


def test_first_row_and_column_and_single_pixels():
    assert boxes_from_maps(rectangle(0, 0, 30, 20)).tolist() == [[0, 0, 30, 20]]
    assert boxes_from_maps(rectangle(29, 19, 30, 20)).tolist() == [[29, 19, 30, 20]]


def test_the_largest_component_wins_not_the_brightest():
    maps = rectangle(0, 0, 3, 3, 9.0) + rectangle(10, 5, 20, 15, 2.0)
    assert boxes_from_maps(maps).tolist() == [[10, 5, 20, 15]]
    assert boxes_from_maps(maps, threshold=0.5).tolist() == [[0, 0, 3, 3]]


def test_the_threshold_is_strict_and_relative():
    maps = rectangle(0, 0, 2, 2, 10.0) + rectangle(2, 0, 4, 2, 2.0)
    assert boxes_from_maps(maps).tolist() == [[0, 0, 2, 2]]  # 2.0 is not above 20 %
    assert boxes_from_maps(7 * maps, threshold=0.19).tolist() == [[0, 0, 4, 2]]


def test_corners_connect():
    maps = rectangle(0, 0, 2, 2) + rectangle(2, 2, 4, 4)
    assert boxes_from_maps(maps).tolist() == [[0, 0, 4, 4]]


def test_a_map_without_a_positive_value_points_nowhere():
    boxes = boxes_from_maps(torch.cat([torch.zeros(1, 20, 30), -rectangle(1, 1, 5, 5)]))
    assert boxes.isnan().all()
    assert best_iou(boxes, [torch.tensor([[0.0, 0, 5, 5]])] * 2).tolist() == [0, 0]


def test_iou_by_hand():
    one = torch.tensor([0.0, 0, 4, 2])
    others = torch.tensor([[0.0, 0, 4, 2], [2, 0, 6, 2], [4, 0, 8, 2], [1, 0, 3, 1]])
    assert torch.allclose(iou(one, others), torch.tensor([1, 4 / 12, 0, 2 / 8]))


def test_the_best_instance_counts():
    known = [torch.tensor([[0.0, 0, 2, 2], [4, 4, 8, 8]])]
    assert best_iou(torch.tensor([[4.0, 4, 8, 8]]), known).tolist() == [1]


def test_boxes_elsewhere_keep_their_size_and_stay_inside():
    boxes = torch.tensor([[4.0, 7, 11, 9], [0, 0, 30, 20]])
    assert centered(boxes, 20, 30).tolist() == [[11.5, 9, 18.5, 11], [0, 0, 30, 20]]
    places = scattered(boxes, 20, 30, keys=[3, 4], count=500)
    assert places.shape == (500, 2, 4)
    sides = places[..., 2:] - places[..., :2]
    assert torch.allclose(sides, (boxes[:, 2:] - boxes[:, :2]).expand_as(sides), atol=1e-4)
    assert (
        places.min() >= 0 and (places[..., 2] <= 30.001).all() and (places[..., 3] <= 20.001).all()
    )
    assert abs(places[:, 0, 0].mean() - 11.5) < 1  # uniform over what is possible
    alone = scattered(boxes[1:], 20, 30, keys=[4], count=500)
    torch.testing.assert_close(alone[:, 0], places[:, 1])


def test_bad_input():
    with pytest.raises(ValueError, match="threshold must lie in"):
        boxes_from_maps(rectangle(0, 0, 2, 2), threshold=1.0)
    with pytest.raises(ValueError, match="NaN"):
        boxes_from_maps(torch.full((1, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="NaN or infinity"):
        boxes_from_maps(rectangle(0, 0, 2, 2, torch.inf))
    with pytest.raises(ValueError, match="image 1 has no box"):
        best_iou(torch.rand(2, 4), [torch.rand(1, 4), torch.empty(0, 4)])
    with pytest.raises(ValueError, match="2 boxes for 1 images"):
        best_iou(torch.rand(2, 4), [torch.rand(1, 4)])


def test_rows_of_photos_with_a_box_beside_the_box_moved(classifier, pixels, photos):
    some = photos.subset(range(2))
    parameters = {"methods": {"edges": {}}, "threshold": 0.2, "places": 3, "seed": 0}
    rows = box_overlap(classifier, some, pixels[:2], parameters)
    assert rows["image"].tolist() == [0, 1] and rows["method"].tolist() == ["edges", "edges"]
    box = boxes_from_maps(edges(classifier, pixels[:2], some.targets).sum(1))
    expected = best_iou(box, some.instances)
    assert rows["iou"].tolist() == pytest.approx(expected.tolist())
    moved = best_iou(centered(box, 224, 224), some.instances)
    assert rows["centered"].tolist() == pytest.approx(moved.tolist())
    assert rows["elsewhere"].between(0, 1).all()


def test_no_boxes_no_rows(classifier, pixels, photos):
    bare = SimpleNamespace(instances=[torch.empty(0, 4)] * 2, targets=photos.targets[:2])
    assert box_overlap(classifier, bare, pixels[:2], {"methods": {}, "seed": 0}).empty
