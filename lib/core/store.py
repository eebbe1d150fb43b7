"""The one store of what takes long to compute: learned masks, trainings, exported networks.

A result is kept under the hash of all that it depends on, and its file begins with the SHA-256 of
that name and of the content: a file that was damaged, cut short or given another's name is never
believed. Nothing here stops a computation: what cannot be kept or read is said in one line.
"""

import hashlib
import inspect
import io
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from numbers import Number
from pathlib import Path
from types import BuiltinFunctionType, FunctionType

import torch
from filelock import FileLock
from torch import Tensor, fx, nn

import lib
from lib.core.cache import cache_folder

_log = logging.getLogger(__name__)
LIB = Path(lib.__file__).resolve().parent
PATIENCE = 600
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OF_EVERY_LAYER = frozenset(vars(nn.Module()))


def key(*parts) -> str | None:
    """The :func:`digest` of what a result depends on, PyTorch's version included.

    ``None`` where a part cannot be read, such as a network whose class was typed into a notebook:
    a result of unknown origin is neither kept nor found.
    """
    try:
        return digest(torch.__version__, *parts)
    except (TypeError, OSError):
        return None


def digest(*parts) -> str:
    """SHA-256 of numbers, texts, tensors, networks, code, files, and lists or mappings of them.

    A network is its weights, its layers' settings and hooks and the code of its classes, a class or
    function its file, a path the bytes there. Raises ``TypeError`` for anything else.
    """
    return _digest(parts).hex()


def code(*files: str | Path) -> str:
    """The digest of files of code: take it on import, while they are what is running."""
    return digest(*map(Path, files))


def read(folder: str, key: str | None) -> bytes | None:
    """What was kept under ``key``, or ``None``: nothing was, or it is not what was written."""
    if key is None:
        return None
    path = cache_folder() / folder / key
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return refuse(path, f"cannot be read ({error.strerror})")
    if content[:32] != _seal(folder, key, content[32:]):
        return refuse(path, "is damaged")
    return content[32:]


def write(folder: str, key: str | None, content: bytes) -> None:
    """Keep ``content`` whole or not at all: a full disk or a read-only one costs a warning."""
    if key is None:
        return
    path = cache_folder() / folder / key
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside(path) as partial, open(partial, "xb") as file:
            file.write(_seal(folder, key, content) + content)
    except OSError as error:
        _say_once(f"results cannot be kept in {path.parent} ({error.strerror})")


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of ``path`` once it is whole. Raises ``OSError``."""
    partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()


def read_tensors(
    folder: str, key: str | None, like: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """What :func:`write_tensors` kept, if it has the names, shapes and types of ``like``."""
    content = read(folder, key)
    if key is None or content is None:
        return None
    with suppress(Exception):  # whatever is no archive of tensors makes PyTorch raise anything
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if _form(found) == _form(like):
            return found
    return refuse(cache_folder() / folder / key, "holds something else")


def write_tensors(folder: str, key: str | None, tensors: Mapping[str, Tensor]) -> None:
    """Keep named tensors, from whatever device."""
    if key is not None:
        content = io.BytesIO()
        torch.save({name: value.detach().cpu() for name, value in tensors.items()}, content)
        write(folder, key, content.getvalue())


@contextmanager
def alone(folder: str, key: str | None) -> Iterator[None]:
    """Let one process at a time compute what belongs under ``key``: the next one finds it kept.

    Where no lock can be had, within ``PATIENCE`` seconds, both compute it.
    """
    with ExitStack() as stack:
        if key is not None:
            with suppress(OSError, NotImplementedError):  # no place for a lock, or a stopped holder
                locks = cache_folder() / "locks"
                locks.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(locks / f"{folder}-{key}", timeout=PATIENCE))
        yield


def folder(name: str) -> Path:
    """A folder of the cache, made if it is not there: for files that a library has to open."""
    path = cache_folder() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def _seal(folder: str, key: str, content: bytes) -> bytes:
    return hashlib.sha256(f"{folder}/{key}\n".encode() + content).digest()


def refuse(path: Path, reason: str) -> None:
    """Remove a file that cannot be believed, and say so."""
    _log.warning("%s %s: computed anew", path, reason)
    with suppress(OSError):
        path.unlink()


@cache
def _say_once(line: str) -> None:
    _log.warning(line)


def _form(tensors: Mapping[str, Tensor]) -> dict[str, tuple]:
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


def _digest(part) -> bytes:
    """Each part is hashed with its kind, so that no two lists of parts run together the same."""
    if part is None or isinstance(part, Number | str | bytes):
        kind, content = "value", repr(part).encode()
    elif isinstance(part, Mapping):
        kind, content = "mapping", b"".join(_digest(pair) for pair in sorted(part.items()))
    elif isinstance(part, list | tuple):
        kind, content = "list", b"".join(map(_digest, part))
    elif isinstance(part, Tensor):
        kind = f"{part.dtype} {tuple(part.shape)}"
        content = part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
    elif isinstance(part, nn.Module):
        kind, content = "network", _digest(_network(part))
    elif isinstance(part, type | FunctionType | BuiltinFunctionType):
        kind, content = f"code {part.__module__}.{part.__qualname__}", _source(part)
    elif isinstance(part, Path):
        if not part.is_file():  # a pipe or a device would never end
            raise OSError(f"{part} is no file")
        kind, content = "file", part.read_bytes()
    else:
        raise TypeError(f"{type(part).__name__} is no part of a key")
    whole = hashlib.sha256(hashlib.sha256(kind.encode()).digest())
    whole.update(content)
    return whole.digest()


def _network(network: nn.Module) -> list:
    layers = dict(network.named_modules())
    kinds = {kind for layer in layers.values() for kind in type(layer).__mro__}
    return [
        [_source(kind) for kind in sorted(kinds, key=repr)],
        {name: _layer(layer) for name, layer in layers.items()},
        {name: (weight, weight.requires_grad) for name, weight in network.named_parameters()},
        dict(network.named_buffers()),
    ]


def _layer(layer: nn.Module) -> list:
    hooks = [list(getattr(layer, name).values()) for name in _HOOKS]
    if isinstance(layer, fx.GraphModule):
        return [layer.code, hooks]
    settings = {name: value for name, value in vars(layer).items() if name not in _OF_EVERY_LAYER}
    return [type(layer).__qualname__, settings, hooks]


def _source(part) -> bytes:
    """The file that a class or function is written in; empty for PyTorch's own."""
    if part is object or (part.__module__ or "torch").split(".")[0] == "torch":
        return b""
    if "<" in part.__qualname__:  # made by a function: it may hold values that its file does not
        raise TypeError(f"{part.__qualname__} is not all in its file")
    return Path(inspect.getfile(inspect.unwrap(part))).read_bytes()
