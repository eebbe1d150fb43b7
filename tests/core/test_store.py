"""The store: what a key covers, and that a file is believed only where it is what was written."""

import importlib
import inspect
import itertools
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import torch
from support.networks import SmallNetwork, small_network
from torch import nn

from lib.core import store
from lib.core.cache import cache_folder

ZEROS = torch.zeros(4)
STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_written_is_read(root):
    key = store.key("a result")
    assert store.read("masks", key) is None
    for content in (b"", b"x", os.urandom(100_000)):
        store.write("masks", key, content)
        assert store.read("masks", key) == content
        assert store.read("training", key) is None
    store.write_tensors("masks", key, STATE)
    found = store.read_tensors("masks", key, like=STATE)
    assert all(torch.equal(found[name], value) for name, value in STATE.items())
    assert os.listdir(root / "masks") == [key]


def test_different_parts_have_different_keys(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1"), two.write_text("2")
    network = small_network()
    parts = [
        (), (None,), (1,), (1.0,), ("1",), (b"1",), (True,), (1, 2), ((1, 2),), ("12",), ("1", "2"),
        ([],), ({},), ({"a": 1},), ({"a": 2},), ({"b": 1},), (["a", 1],), ((1, (2, 3)),),
        (((1, 2), 3),), (ZEROS,), (ZEROS.view(2, 2),), (ZEROS.double(),),
        (ZEROS.view(torch.int32),),
        (-ZEROS,), (ZEROS, ZEROS), (torch.zeros(8),), (one,), (two,), (str(one),), (network,),
        (small_network(seed=1),), (network.state_dict(),), (nn.ReLU,), (SmallNetwork,),
        (nn.ReLU(),),
        (torch.relu,), (nn.functional.relu,), (small_network,), (nn.LeakyReLU(0.1),),
        (nn.LeakyReLU(0.2),), (nn.Sequential(nn.ReLU(), nn.Tanh()),),
        (nn.Sequential(nn.Tanh(), nn.ReLU()),), (nn.Sequential(nn.ReLU(), nn.ReLU()),),
    ]  # fmt: skip
    keys = [store.key(*part) for part in parts]
    assert None not in keys and len(set(keys)) == len(keys)
    assert keys == [store.key(*part) for part in parts]
    assert store.key({"a": 1, "b": 2}) == store.key({"b": 2, "a": 1})
    strided = torch.arange(6.0).view(2, 3).T
    assert store.key(strided) == store.key(strided.contiguous())
    two.write_text("1")
    assert store.key(one) == store.key(two)


def changed_networks():
    def change(alter):
        network = small_network()
        alter(network)
        return network

    shared = nn.Linear(3, 3)
    twin = nn.Linear(3, 3)
    twin.load_state_dict(shared.state_dict())
    return [
        small_network(),
        change(lambda n: n.head.weight.data.mul_(2)),
        change(lambda n: n.features[1].running_mean.add_(1)),
        change(lambda n: n.requires_grad_(False)),
        change(lambda n: setattr(n.features[1], "eps", 1e-3)),
        change(lambda n: n.register_buffer("extra", torch.ones(1), persistent=False)),
        change(lambda n: n.head.register_forward_hook(observe)),
        change(lambda n: setattr(n, "_factor", 2.0)),
        nn.Sequential(shared, shared),
        nn.Sequential(shared, twin),
    ]


def observe(*_):
    return None


def test_a_networks_key_covers_weights_settings_hooks_and_ties():
    keys = [store.key(network) for network in changed_networks()]
    assert None not in keys
    assert all(a != b for a, b in itertools.combinations(keys, 2))


def test_training_mode_and_use_leave_a_networks_key():
    network = small_network()
    before = store.key(network)
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    assert store.key(network) == before
    assert store.key(network.train()) == before


def test_the_code_of_a_class_and_pytorchs_version_are_part_of_the_key(tmp_path, monkeypatch):
    file = tmp_path / "networks_of_mine.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "@torch.no_grad()\ndef score(x):\n    return x\n"  # another file's function around it
        "class Mine(nn.Linear):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    networks_of_mine = importlib.import_module("networks_of_mine")

    class Heir(networks_of_mine.Mine):
        pass

    Heir.__qualname__ = "Heir"
    mine = networks_of_mine.Mine(2, 2)
    heir = Heir(2, 2)
    parts = mine, heir, networks_of_mine.Mine, networks_of_mine.score
    before = [store.key(part) for part in parts]
    code = store.code(str(file))
    file.write_text(file.read_text() + "    factor = 2\n")
    after = [store.key(part) for part in parts]
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert store.code(str(file)) != code
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert store.key(mine) not in (before[0], after[0])


def test_what_cannot_be_read_has_no_key_and_is_not_kept(root):
    class Local(nn.Linear):
        pass

    altered = small_network()
    altered.head.forward = lambda x: x
    odd = [
        object(), {1, 2}, lambda x: x, print, Local, Local(2, 2), altered, Path("/nowhere"),
        Path("/dev/zero"), {"a": object()}, [1, [object()]], inspect.currentframe(),
    ]  # fmt: skip
    for part in odd:
        assert store.key(part) is None, part
    store.write("masks", None, b"x")
    store.write_tensors("masks", None, STATE)
    assert store.read("masks", None) is store.read_tensors("masks", None, like=STATE) is None
    with store.alone("masks", None):
        assert not root.exists()


def test_every_damaged_byte_is_seen(root, caplog):
    key, content = store.key("x"), os.urandom(200)
    store.write("masks", key, content)
    file = root / "masks" / key
    whole = file.read_bytes()
    flips = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    cuts = [whole[:at] for at in range(len(whole))]
    for damaged in [*flips, *cuts, whole + b"\0", content, b"\0" * 500]:
        file.write_bytes(damaged)
        caplog.clear()
        assert store.read("masks", key) is None
        assert [r.getMessage() for r in caplog.records] == [f"{file} is damaged: computed anew"]
        assert not file.exists()
    assert store.read("masks", key) is None and len(caplog.records) == 1  # said once


def test_a_file_is_believed_in_its_own_place_only(root):
    one, two = store.key(1), store.key(2)
    for folder in ("masks", "onnx"):
        store.write(folder, one, b"one")
    store.write("masks", two, b"two")
    shutil.copy(root / "masks" / two, root / "masks" / one)
    shutil.copy(root / "masks" / two, root / "onnx" / two)
    assert store.read("masks", one) is None and store.read("onnx", two) is None
    assert store.read("masks", two) == b"two" and store.read("onnx", one) == b"one"


def test_tensors_of_another_form_are_refused(root, caplog):
    key = store.key(1)
    for like in (
        {"a": STATE["a"]},
        {**STATE, "c": ZEROS},
        {**STATE, "a": STATE["a"].T},
        {**STATE, "a": STATE["a"].double()},
    ):
        store.write_tensors("masks", key, STATE)
        assert store.read_tensors("masks", key, like=like) is None
        assert "holds something else" in caplog.records.pop().getMessage()
    for content in (b"", b"text"):
        store.write("masks", key, content)
        assert store.read_tensors("masks", key, like=STATE) is None
        assert "holds something else" in caplog.records.pop().getMessage()


def test_a_full_disk_is_said_once_and_leaves_what_was_there(root, caplog, small_disk):
    kept, key = store.key(0), store.key(1)
    store.write("masks", kept, b"kept")
    with small_disk(1000):
        for _ in range(3):
            store.write("masks", key, bytes(2000))
            store.write("masks", kept, bytes(2000))
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"results cannot be kept in {root / 'masks'} (File too large)"]
    assert os.listdir(root / "masks") == [kept] and store.read("masks", kept) == b"kept"


def test_a_cache_that_is_a_file_or_deleted_or_whose_entry_is_a_folder(root, caplog):
    key = store.key(1)
    root.write_text("a file")
    assert store.read("masks", key) is None and not caplog.records
    with store.alone("masks", key):
        store.write("masks", key, b"x")
    assert len(caplog.records) == 1 and root.read_text() == "a file"
    root.unlink()
    store.write("masks", key, b"x")
    with store.alone("masks", key):
        shutil.rmtree(root)
        assert store.read("masks", key) is None
        store.write("masks", key, b"y")
    assert store.read("masks", key) == b"y"
    (root / "masks" / key).unlink()
    (root / "masks" / key).mkdir()
    caplog.clear()
    assert store.read("masks", key) is None
    assert "cannot be read (Is a directory): computed anew" in caplog.text


def test_an_empty_variable_means_the_default(monkeypatch):
    monkeypatch.setenv("ATTRIBUTION_CACHE", "")
    assert cache_folder() == Path(__file__).parents[2] / ".cache"


def compute_alone(key: str, started, count) -> None:
    started.wait()
    with store.alone("training", key):
        if store.read("training", key) is None:
            with count.get_lock():
                count.value += 1
            store.write("training", key, b"result")


@pytest.mark.slow
def test_of_processes_at_once_one_computes(root):
    context = multiprocessing.get_context("spawn")
    started, count, key = context.Barrier(3), context.Value("i", 0), store.key(1)
    processes = [
        context.Process(target=compute_alone, args=(key, started, count)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert count.value == 1 and store.read("training", key) == b"result"
