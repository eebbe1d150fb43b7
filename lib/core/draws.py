"""Random numbers keyed by (seed, image, draw), never by position in a batch.

An image is identified by its own pixels, rounded to 8 bits: the same photo gets the same draws in
any order, any batch and on any device, and nobody has to carry identifiers around. Numbers are
drawn on the CPU and moved, so that every device sees the same ones.
"""

import hashlib
from collections.abc import Sequence
from operator import index
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor


def image_keys(images: Float[Tensor, "n c h w"]) -> list[int]:
    """One 64-bit key per image, from its shape and its pixels rounded to 8 bits."""
    rounded = (images.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu().contiguous()
    shape = str(tuple(images.shape[1:])).encode()
    return [_integer(shape + image.numpy().tobytes()) for image in rounded]


def generator(seed: SupportsIndex, *key: SupportsIndex) -> torch.Generator:
    """A CPU generator for one (seed, key...); different keys give independent streams."""
    stream = repr((index(seed), tuple(index(part) for part in key)))
    return torch.Generator().manual_seed(_integer(stream.encode()))


def normal(
    seed: SupportsIndex, keys: Sequence[tuple[SupportsIndex, ...]], shape: Sequence[int]
) -> Tensor:
    """Standard normal noise ``(len(keys), *shape)`` in float32, one independent block per key."""
    noise = torch.empty(len(keys), *shape)
    for block, key in zip(noise, keys, strict=True):
        block.normal_(generator=generator(seed, *key))
    return noise


def uniform(
    seed: SupportsIndex, keys: Sequence[tuple[SupportsIndex, ...]], shape: Sequence[int]
) -> Tensor:
    """Uniform numbers in [0, 1), ``(len(keys), *shape)`` in float32, one block per key."""
    noise = torch.empty(len(keys), *shape)
    for block, key in zip(noise, keys, strict=True):
        block.uniform_(generator=generator(seed, *key))
    return noise


def permutation(seed: SupportsIndex, key: tuple[SupportsIndex, ...], n: int) -> Tensor:
    """A random order of ``range(n)`` for one key."""
    return torch.randperm(n, generator=generator(seed, *key))


def _integer(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
