"""What a chapter opens with: its record, its network, its photos, under one name.

lesson = open_lesson("07-pixel-removal", classifier=classifier, images=images, seed=seed)
network, photos = lesson.network, lesson.photos
photo, target = lesson.example(0)
rows = lesson.rows("removal", methods=methods, fractions=fractions)
lesson.claim("PR-1", [above(...), above(...)])
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lib.data.images import Images, load_images
from lib.evaluation.mosaics import in_cells
from lib.networks.classifier import Classifier
from lib.report import say
from lib.report.record import Report
from lib.report.verdicts import VERDICTS, Part
from lib.rows import Network, evidence


class Lesson(Report):
    """A report's record with what its cells work on. ``network`` and ``photos`` may be missing."""

    network: Classifier
    photos: Images

    def __init__(self, slug: str, seed: int = 0, claims: bool = True):
        super().__init__(slug, claims)
        self.slug, self.seed = slug, seed
        self._spec: Network | None = None

    def example(self, i: int = 0) -> tuple[Tensor, int]:
        """Photo i, ``(1, 3, H, W)``, on the network's device, and its class: for work by hand."""
        some = self.photos.subset([i])
        return some.pixels().to(self.network.device), int(some.targets[0])

    def right(self) -> Images:
        """The photos whose class the network ranks first."""
        top = [
            self.network(pixels).argmax(1).cpu() == batch.targets
            for batch, pixels in self.photos.batches(64)
        ]
        return self.photos.subset(torch.cat(top).nonzero()[:, 0])

    def mosaics(self, grid: str) -> tuple[Images, list[int]]:
        """Photos in the order in which ``own_cell`` puts them into mosaics, and [rows, columns].

        ``grid`` is "1x2", of all photos, or "2x2", of those that the network gets right.
        """
        rows, columns = (int(side) for side in grid.split("x"))
        photos = self.photos if rows * columns == 2 else self.right()
        order = in_cells(photos.targets.tolist(), rows * columns)
        if not order:
            raise ValueError(f"{len(photos)} photos do not fill a mosaic of {grid} classes")
        return photos.subset(order), [rows, columns]

    def rows(
        self, protocol, photos: Images | None = None, *, chunk=8, **parameters
    ) -> pd.DataFrame:
        """The evidence that a protocol of ``PROTOCOLS`` gives: see :func:`lib.rows.evidence`.

        ``photos`` are this lesson's unless others are given; ``parameters`` are the protocol's.
        """
        photos = self.photos if photos is None else photos
        rows = evidence(
            protocol, self._spec, photos, parameters, seed=self.seed, chunk=chunk, report=self.slug
        )
        calls = self._results["rows"]
        calls[f"{protocol} {len(calls) + 1}"] = rows.attrs["rows"]
        self.provenance(rows={name: made["sha256"] for name, made in calls.items()})
        return rows

    def parts(self, *names: str) -> dict[str, Part]:
        """The parts of the claims named (all that are judged, if none is), by what they compare."""
        chosen = [self.judged[name] for name in names or self.judged]
        return {part.of: part for judgment in chosen for part in judgment.parts}

    def told(self, name: str) -> Mapping[str, Any]:
        """A claim as ``%%say`` sees it: ``claim("PR-1").supported``."""
        judgment = self.judged[name]
        numbers = {key: getattr(judgment.deciding, key) for key in ("estimate", "interval", "n")}
        verdicts = {verdict: judgment.verdict == verdict for verdict in VERDICTS}
        return vars(judgment) | numbers | verdicts | {"deciding": judgment.deciding}


def opened(slug: str, parameters: Mapping[str, Any], claims: bool) -> Lesson:
    """See :func:`lib.report.open_lesson`."""
    say.install()
    given = {name: parameters.get(name) for name in ("labels", "boxes", "points", "limit")}
    seed, device = parameters.get("seed", 0), parameters.get("device", "auto")
    lesson = Lesson(slug, seed, claims)
    facts: dict[str, Any] = {"seed": seed}
    if "classifier" in parameters:
        lesson._spec = Network(parameters["classifier"], parameters.get("weights"), device)
        network = lesson.network = lesson._spec.load()
        facts |= {"classifier": network.name, "weights_sha256": network.sha256}
        facts["device"] = str(network.device)
        if "images" in parameters:
            given |= {"size": network.input_size, "categories": network.categories}
            given["unreadable"] = parameters.get("unreadable", "refuse")
            photos = lesson.photos = load_images(parameters["images"], **given, seed=seed)
            facts |= {"images_sha256": photos.sha256, "photos": len(photos)}
            facts["skipped"] = len(photos.skipped)
    lesson.provenance(**facts)
    return lesson
