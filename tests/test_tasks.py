"""What networks are trained on: digits, faces, folders; and the networks that fit."""

import pytest
import torch
from PIL import Image
from torch import nn

from lib import tasks
from lib.digits import load_digits
from lib.faces import load_faces
from lib.tasks import load_task, make_network


def folders(path, names=("cat", "dog"), count=3):
    for label, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (40, 36), (60 * label, 10 * i, 0)).save(path / name / f"{i}.png")
    return str(path)


def test_digits_are_a_task():
    digits, task = load_digits(), load_task(limit=30)
    assert torch.equal(task.train_images, digits.train_images[:30])
    assert torch.equal(task.test_labels, digits.test_labels)
    assert task.sha256 == digits.sha256 and task.size == 28
    images, labels = task.test_batch(20)
    assert torch.equal(images, digits.test_images[:20]) and labels.tolist() == [*range(10)] * 2
    fewer = tasks.with_limit(task, 7)
    assert len(fewer.train_images) == len(fewer.train_labels) == 7


def test_folders_are_a_task(tmp_path):
    task = load_task(folders(tmp_path / "a"), folders(tmp_path / "b", count=2), size=28)
    assert task.categories == ["cat", "dog"] and task.train_labels.tolist() == [0] * 3 + [1] * 3
    assert task.test_batch(9)[0].shape == (4, 3, 28, 28)
    assert len(tasks.with_limit(task, 2).train_images) == 2


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("digits", "a", "leave the test folder out"),
        ("a", None, "need a folder of test images"),
        ("nowhere", "a", "no such folder"),
        ("one", "a", "fewer than two class folders"),
    ],
)
def test_folders_that_do_not_fit(train, test, message, tmp_path, monkeypatch):
    folders(tmp_path / "a")
    folders(tmp_path / "one", names=("cat",))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_task(train, test)
    assert "\n" not in str(error.value)


def test_faces_are_200_photographs_and_their_backgrounds():
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


def test_a_face_is_labeled_a_face():
    """Faces share a shape, backgrounds do not: the mean face is further from flat."""
    faces = load_faces(test=100)
    means = [faces.train_images[faces.train_labels == label].mean(0) for label in (0, 1)]
    assert means[1].std() > 3 * means[0].std()


@pytest.mark.parametrize("test", [0, 1, 199, 200])
def test_faces_left_for_both_parts(test):
    with pytest.raises(ValueError, match="between 2 and 198"):
        load_faces(test=test)


def test_networks_by_name():
    task = load_task(limit=10)
    one, two = make_network("vgg_like", task), make_network("vgg_like", task, bias=False)
    assert one(task.train_images[:2]).shape == (2, 10)
    assert all(name.endswith("weight") for name, _ in two.named_parameters())
    classifier = tasks.as_classifier(one, task, "vgg")
    torch.testing.assert_close(classifier(task.test_images[:2]), one.eval()(task.test_images[:2]))
    with pytest.raises(ValueError, match="network 'vgg_lik' is unknown"):
        make_network("vgg_lik", task)
    with pytest.raises(ValueError, match="for images of 28 x 28"):
        make_network("vgg_like", tasks.replace(task, size=32))


def test_batch_normalization_cannot_lose_its_shift():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    with pytest.raises(ValueError, match="batch normalization shifts while it trains"):
        tasks.drop_biases(network.eval())


def test_recipe_is_overruled_by_what_is_given():
    assert tasks.recipe("vgg_like", lr=1.0, epochs=None) == tasks.RECIPES["vgg_like"] | {"lr": 1.0}
    assert tasks.recipe("resnet18") == {}
