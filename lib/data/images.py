"""Photographs with labels: the 20 embedded ones, a folder of one's own, ImageNet's validation set.

Pixels are float32 (N, 3, size, size), RGB, in [0, 1]. Points and boxes are continuous coordinates
of the final crop: pixel (row, column) covers [column, column + 1) x [row, row + 1).
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.data import imagenet
from lib.data.annotations import annotate
from lib.data.files import SUFFIXES, Crop, ImageError, UnreadableImage, decode, file_sha256
from lib.data.listing import Photo, Skipped, embedded_photos, list_folder, printable

__all__ = ["ImageError", "Images", "load_images"]

HASHED_WHOLE = 1000  # files; ImageNet's validation set would be 6 GB to read at every load


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Labelled photographs, decoded when asked for. Row i of everything is the same photo."""

    photos: tuple[Photo, ...]
    categories: list[str]
    crop: Crop
    skipped: Skipped
    workers: int

    def __len__(self) -> int:
        return len(self.photos)

    def __repr__(self) -> str:
        return f"Images({len(self)} photos, {self.crop.size} px, {len(self.skipped)} skipped)"

    @property
    def names(self) -> list[str]:
        """File names (with the class folder's); plain text from the user, not escaped."""
        return [photo.name for photo in self.photos]

    @property
    def targets(self) -> Tensor:
        """Class indices, int64 (N,)."""
        return torch.tensor([photo.target for photo in self.photos], dtype=torch.int64)

    @property
    def instances(self) -> list[Tensor]:
        """Per photo the boxes (k, 4) x0, y0, x1, y1, one for each object of the class."""
        return [torch.tensor(p.instances, dtype=torch.float32).view(-1, 4) for p in self.photos]

    @property
    def parts(self) -> list[dict[str, list[tuple[float, float]]]]:
        """Per photo the points (x, y) of an animal's eyes and feet: {"eye": [...], "foot": [...]}.

        Only points inside the crop; both lists are empty where there is no animal.
        """
        return [{"eye": list(photo.eye), "foot": list(photo.foot)} for photo in self.photos]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the files' bytes, the labels and the crop's geometry, in order.

        Of more than 1,000 files not the bytes but the names and sizes are taken.
        """
        whole = len(self) <= HASHED_WHOLE
        digest = hashlib.sha256(repr((self.crop, whole)).encode())
        for photo in self.photos:
            try:
                content = (
                    file_sha256(photo.path) if whole else (photo.name, photo.path.stat().st_size)
                )
            except OSError as error:
                raise ImageError(f"{str(photo.path)!r}: {error.strerror}") from None
            digest.update(repr((content, photo.target)).encode())
        return digest.hexdigest()

    def subset(self, indices: slice | Sequence[int] | Tensor) -> "Images":
        """These photos, in the order given. A slice, indices or a mask of booleans."""
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            indices = indices if indices.size else indices.astype(np.int64)
        rows = np.arange(len(self))[indices]
        return replace(self, photos=tuple(self.photos[row] for row in np.atleast_1d(rows)))

    def pixels(self) -> Tensor:
        """All photos at once, float32 (N, 3, size, size) in [0, 1]."""
        return self._tensor(self._decoded(len(self)), len(self))

    def batches(self, n: int) -> Iterator[tuple["Images", Tensor]]:
        """Pairs (images, pixels) of at most ``n`` photos, in order.

        Decoded in threads while the caller works, about one batch ahead, so memory is bounded
        by two batches however many photos there are.
        """
        _whole("n", n, 1)
        decoded = self._decoded(n + 2 * self.workers)
        for start in range(0, len(self), n):
            part = self.subset(slice(start, start + n))
            yield part, self._tensor(decoded, len(part))

    def _tensor(self, decoded: Iterator[np.ndarray], n: int) -> Tensor:
        pixels = torch.empty(n, 3, self.crop.size, self.crop.size)
        for row, image in zip(pixels, islice(decoded, n), strict=True):
            row.copy_(torch.from_numpy(image).permute(2, 0, 1)).div_(255)
        return pixels

    def _decoded(self, ahead: int) -> Iterator[np.ndarray]:
        """The crops in order, at most ``ahead`` of them decoded before they are asked for."""
        pool = ThreadPoolExecutor(self.workers)
        try:
            jobs = (pool.submit(decode, photo.path, self.crop) for photo in self.photos)
            running = deque(islice(jobs, ahead))
            while running:
                yield running.popleft().result()
                running.extend(islice(jobs, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def load_images(
    source: str | Path = "embedded",
    *,
    size: int = 224,
    resize: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    labels: str | Path | None = None,
    boxes: str | Path | None = None,
    points: str | Path | None = None,
    categories: Sequence[str] | None = None,
    unreadable: str = "refuse",
    workers: int | None = None,
) -> Images:
    """List labelled photographs; pixels are decoded when asked for.

    Args:
        source: "embedded", or a folder: class sub-folders named by wnid, class index or class
            name (ImageNet's validation set is one), images whose names begin with a wnid, as in
            n01440764_tench.JPEG, or images with a csv of labels. Hidden files and files without an
            image's extension (README, Thumbs.db) are ignored.
        size, resize: the shortest side is resized to ``resize`` (antialiased bicubic, on 8 bits),
            then ``size`` x ``size`` pixels are cut from the center. By default ``resize`` is
            256 / 224 of ``size``, the customary ratio.
        limit: at most so many photos, drawn by ``seed`` and the file's name: the same ones every
            time, those of a smaller limit before the others. Without it all, in the order of the
            folders and files.
        labels: for a folder without sub-folders, a csv with the columns file,label (a label is an
            index, wnid or name); by default labels.csv in the folder, if there is one.
        boxes: where the objects are. A csv with the columns file,x0,y0,x1,y1 (one row per object),
            in continuous pixels of the original photos, the whole of one being 0,0,width,height;
            or ImageNet's own annotation: LOC_val_solution.csv, or a folder of XML files (Pascal
            VOC), each named like its photo and in it or in a folder of the wnid. Of ImageNet's,
            the objects of the photo's class are taken. Photos may be without, and a box of which
            too little is left in the crop is none.
        points: animals' eyes and feet, a csv with the columns file,part,x,y, a part being eye or
            foot. A file is named as in `Images.names`, or by its last part.
        categories: the classifier's class names, by default ImageNet's. A wnid is known only to
            ImageNet's.
        unreadable: "refuse" raises when a file that cannot be read is decoded, and at once for an
            unknown class. "skip" leaves both out and records them in ``.skipped``; to know them
            it decodes every chosen file once here, so that names, targets and pixels never
            change later. A label that may be a wrong one (ambiguous, out of range, twice in the
            csv) is refused in both.
        workers: threads that decode, by default one per core, at most 8.

    Raises:
        ImageError: one line that names the file, folder or parameter.
    """
    _whole("size", size, 1)
    resize = round(size * 256 / 224) if resize is None else resize
    _whole("resize", resize, size)
    _whole("seed", seed, None)
    if limit is not None:
        _whole("limit", limit, 1)
    if workers is not None:
        _whole("workers", workers, 1)
    if unreadable not in ("refuse", "skip"):
        raise ImageError(f"unreadable: expected 'refuse' or 'skip', got {unreadable!r}")
    names = imagenet.categories() if categories is None else list(categories)
    crop, skip, workers = Crop(size, resize), unreadable == "skip", workers or _cores()
    lookup = imagenet.class_lookup(names)
    labels, boxes, points = (
        None if path is None else Path(os.path.expanduser(path)) for path in (labels, boxes, points)
    )
    if str(source) == "embedded":
        if labels is not None:
            raise ImageError("labels: the embedded photos have theirs")
        if not imagenet.is_imagenet(names):
            raise ImageError("the embedded photos have ImageNet's classes, the classifier others")
        photos, skipped = embedded_photos(), []
        boxes = boxes or imagenet.TABLES / "photo_boxes.csv"
        points = points or imagenet.TABLES / "photo_points.csv"
    else:
        folder = os.path.expanduser(source)
        if not os.path.exists(folder):  # unlike Path, of any text
            raise ImageError(f"no such folder: {str(folder)!r}")
        photos, skipped = list_folder(Path(folder), labels, lookup, skip)
    listed = [photo.name for photo in photos] + [name for name, _ in skipped]
    photos = _draw(photos, limit, seed)
    if skip:
        with ThreadPoolExecutor(workers) as pool:
            reasons = list(pool.map(lambda photo: _unreadable(photo, crop), photos))
        pairs = list(zip(photos, reasons, strict=True))
        skipped += [(photo.name, reason) for photo, reason in pairs if reason]
        photos = [photo for photo, reason in pairs if not reason]
        if not photos:
            raise ImageError(f"nothing left of {str(source)!r}: {skipped[0][0]!r}: {skipped[0][1]}")
    photos = annotate(photos, listed, crop, lookup, boxes=boxes, points=points)
    return Images(tuple(photos), names, crop, skipped, workers)


def load_photos(path: str | Path, *, size: int = 224, limit: int | None = None) -> Images:
    """Photographs without labels: one file, or the first ``limit`` of a folder, by name.

    Their targets are 0 and mean nothing. Raises `ImageError` for what is missing, no image, or a
    folder without images.
    """
    found = Path(os.path.expanduser(path))
    if os.path.isdir(found):
        files = sorted(file for file in found.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ImageError(f"no images in {str(found)!r}")
    else:
        files = [found]
    photos = tuple(Photo(file, printable(file.name), 0) for file in files[:limit])
    crop = Crop(size, round(size * 256 / 224))
    for photo in photos:
        if reason := _unreadable(photo, crop):
            raise UnreadableImage(photo.path, reason)
    return Images(photos, [], crop, [], _cores())


def _whole(name: str, value: int, least: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ImageError(f"{name}: expected a whole number, got {value!r}")
    if least is not None and value < least:
        raise ImageError(f"{name}: expected at least {least}, got {value}")


def _cores() -> int:
    available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min(len(available), 8)


def _draw(photos: list[Photo], limit: int | None, seed: int) -> list[Photo]:
    """The ``limit`` photos whose hashes with the seed come first, in the order of their hashes.

    So more photos come after those that were there, and the rows of these are kept.
    """
    if limit is None:
        return photos

    def rank(row: int) -> bytes:
        return hashlib.sha256(f"{seed}/{photos[row].name}".encode()).digest()

    return [photos[row] for row in sorted(range(len(photos)), key=rank)[:limit]]


def _unreadable(photo: Photo, crop: Crop) -> str | None:
    try:
        decode(photo.path, crop)
    except UnreadableImage as error:
        return error.reason
    return None
