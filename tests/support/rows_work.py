"""What the tests of rows run on workers and in processes of their own: importable by name."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import torch

from lib.core import draws
from lib.data.images import Images, load_images
from lib.rows import Network, evidence

NETWORK = Network(device="cpu")


def scores(classifier, photos: Images, pixels: torch.Tensor, parameters: dict) -> pd.DataFrame:
    """The target's logit with noise on the photo, and each photo's file, which no draw knows.

    ``parameters`` may name a ``log``, to which each chunk appends its first photo, a photo whose
    chunk ``raises``, one whose chunk ``dies``, with a ``marker`` only the first time.
    """
    files = [photo.path.name for photo in photos.photos]
    if parameters.get("raises") in files:
        raise ValueError("this chunk does not work")
    if parameters.get("dies") in files:
        marker = parameters.get("marker")
        if not marker or not Path(marker).exists():
            Path(marker or os.devnull).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    keys = [(key,) for key in draws.image_keys(pixels)]
    noisy = pixels + 0.1 * draws.normal(parameters["seed"], keys, pixels.shape[1:])
    with torch.no_grad():
        logits = classifier(noisy)
    if log := parameters.get("log"):
        with open(log, "a") as file:
            file.write(files[0] + "\n")
    chosen = logits.gather(1, photos.targets[:, None])[:, 0]
    return pd.DataFrame(
        {"image": range(len(files)), "score": chosen.numpy(), "worker": 0, "file": files}
    )


def train_small(seed: int) -> dict[str, torch.Tensor]:
    """The weights of a small network after one epoch on random images."""
    from lib.training.train import train

    draw = torch.Generator().manual_seed(seed)
    images, labels = torch.rand(32, 3, 8, 8, generator=draw), torch.arange(32) % 4
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    for weights in network.parameters():
        torch.nn.init.normal_(weights, generator=draw)
    return train(network, images, labels, epochs=1, seed=seed).state_dict()


def main(folder: str, log: str, chunk: int, ready: str, others: int) -> None:
    """Rows of all photos of a folder, once ``others`` processes are ready too; prints a summary."""
    photos = load_images(folder, size=32, resize=36)
    NETWORK.load()
    Path(ready, str(os.getpid())).touch()
    while len(os.listdir(ready)) < others:
        time.sleep(0.01)
    rows = evidence(scores, NETWORK, photos, {"log": log}, chunk=chunk, report="main")
    print(json.dumps(rows.attrs["rows"]))


if __name__ == "__main__":
    from support import rows_work  # so that the protocol has a name that can be imported

    rows_work.main(*sys.argv[1:3], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
