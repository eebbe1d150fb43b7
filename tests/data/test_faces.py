"""The 200 photographs of faces and backgrounds: shape, balance, split by seed, labels."""

import pytest
import torch

from lib.data.faces import load_faces


def test_200_photographs_split_by_seed():
    faces = load_faces(test=80)
    assert faces.train_images.shape == (120, 1, 28, 28) and len(faces.test_labels) == 80
    assert faces.test_labels[:4].tolist() == [0, 1, 0, 1] and faces.train_labels.sum() == 60
    whole = torch.cat([faces.test_images, faces.train_images])
    assert whole.min() >= 0 and 0.9 < whole.max() <= 1
    assert torch.equal(whole[..., 0], whole[..., 2])  # mirrored at the edge
    assert len(torch.unique(whole.flatten(1), dim=0)) == 200  # nobody on both sides
    again, other = load_faces(test=80), load_faces(test=80, seed=1)
    assert torch.equal(again.test_images, faces.test_images) and again.sha256 == faces.sha256
    assert not torch.equal(other.test_images, faces.test_images) and other.sha256 != faces.sha256


def test_faces_are_those_that_look_alike():
    faces = load_faces(test=100)

    def likeness(label):
        mean = faces.train_images[faces.train_labels == label].mean(0).flatten()
        pictures = faces.test_images[faces.test_labels == label].flatten(1)
        return torch.corrcoef(torch.cat([mean[None], pictures]))[0, 1:].mean()

    assert likeness(1) > likeness(0) + 0.1


@pytest.mark.parametrize("test", [0, 1, 199, 200])
def test_neither_part_is_empty(test):
    with pytest.raises(ValueError, match="between 2 and 198"):
        load_faces(test=test)
