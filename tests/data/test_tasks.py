"""Tasks: what reports train on, and the refusal of what cannot be trained."""

import pytest
import torch
from support.photos import save
from torch import nn

from lib.core.runtime import torchvision
from lib.data import tasks
from lib.training import recipes
from lib.training.train import accuracy, train


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("task")
    for row in range(12):
        for part in ("train", "test"):
            save(root / part / ("bird", "cat", "dog")[row % 3] / f"photo{row:02d}.png", row)
    return str(root / "train"), str(root / "test")


def test_folders_of_images_train_and_are_explained_as_the_digits_are(
    folders, tmp_path, monkeypatch
):
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path))
    task = tasks.load_task(*folders, size=28, limit=9)
    assert (task.channels, len(task.train_labels), len(task.test_labels)) == (3, 9, 12)
    assert task.categories == ["bird", "cat", "dog"]
    network = recipes.make_network("gap_network", task, bias=False)
    trained = train(network, task.train_images, task.train_labels, epochs=1, batch_size=4)
    assert 0 <= accuracy(trained, task.test_images, task.test_labels) <= 1
    pixels, labels = task.test_batch(5)
    classifier = recipes.as_classifier(trained, task, "gap")
    assert classifier(pixels).shape == (5, 3) and len(labels) == 5
    assert float(classifier(torch.zeros_like(pixels)).abs().max()) == 0  # black is the origin


def test_recipes_are_overruled_by_what_is_given():
    assert recipes.recipe("residual", epochs=None, lr=0.5)["lr"] == 0.5
    assert recipes.recipe("residual", epochs=None)["epochs"] == 4
    assert recipes.recipe("resnet18", lr=None) == {}


def test_torchvision_networks_lose_their_biases_and_keep_their_dropout():
    task = tasks.load_task()
    network = recipes.make_network("alexnet", task, bias=False)
    assert not any("bias" in name for name, _ in network.named_parameters())
    assert any(isinstance(module, nn.Dropout) for module in network.modules())


def test_bad_input(folders, tmp_path):
    train_folder, test_folder = folders
    save(tmp_path / "one" / "cat" / "photo.png")
    bad = [
        (("digits", test_folder), "digits have their own test images"),
        ((train_folder,), "need a folder of test images"),
        ((str(tmp_path / "none"), test_folder), "no such folder"),
        ((str(tmp_path / "one"), test_folder), "fewer than two class folders"),
    ]
    for arguments, message in bad:
        with pytest.raises(ValueError, match=message) as error:
            tasks.load_task(*arguments)
        assert "\n" not in str(error.value)
    task = tasks.load_task()
    with pytest.raises(ValueError, match="network 'lenet' is unknown"):
        recipes.make_network("lenet", task)
    with pytest.raises(ValueError, match="for images of 28 x 28; size is 32"):
        recipes.make_network("residual", tasks.load_task(*folders, size=32))
    with pytest.raises(ValueError, match="batch normalization shifts while it trains"):
        recipes.drop_biases(torchvision().models.resnet18())
    with pytest.raises(ValueError, match=r"no X-DNN can be made of it: .*GELU"):
        recipes.drop_biases(nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten()))
