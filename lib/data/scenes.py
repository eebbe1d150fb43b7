"""Which of ImageNet's classes are scenes: the whole photo is the class, not an object in it.

The list was made from the 1,000 names alone, before any photo of them was explained: landscapes,
rooms, shops, and buildings or grounds that one stands in or before. Things that can be walked
around in a photo (a yurt, a beacon, a water tower, a fountain) are not in it.
"""

from collections.abc import Sequence

from lib.data.imagenet import plain

LANDSCAPES = """alp, cliff, coral reef, geyser, lakeside, promontory, sandbar, seashore, valley,
    volcano"""
ROOMS = """altar, bakery, barbershop, bookshop, butcher shop, cinema, confectionery, greenhouse,
    grocery store, home theater, library, restaurant, shoe shop, stage, tobacco shop, toyshop"""
GROUNDS = """barn, boathouse, breakwater, castle, church, cliff dwelling, dam, dock, lumbermill,
    maze, monastery, mosque, palace, patio, pier, planetarium, prison, steel arch bridge,
    suspension bridge, viaduct"""
SCENES = frozenset(plain(name) for name in ",".join([LANDSCAPES, ROOMS, GROUNDS]).split(","))


def scene_classes(categories: Sequence[str]) -> list[int]:
    """The indices of those categories that are scenes."""
    return [index for index, name in enumerate(categories) if plain(name) in SCENES]
