"""Evidence: the same rows however they are computed, and nothing computed twice."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import rows_work
from support.photos import photo_folder, small
from support.rows_work import NETWORK, scores

from lib.rows import Job, RowsError, evidence, files, kept, run_jobs
from lib.rows.__main__ import main
from lib.rows.code import ROOT
from lib.rows.estimate import counted
from lib.rows.evidence import chunk_rows
from lib.rows.executors import on_worker
from lib.rows.files import agree

REMOVAL = {
    "methods": {"gradient": {}, "IG": {"method": "integrated_gradients", "steps": 2}, "random": {}},
    "conventions": {name: ["gradient", "IG", "random"] for name in ("signed", "magnitude")},
    "fills": ["uniform"],
    "fractions": [0, 0.3, 1],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return photo_folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def photos(folder):
    return small(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    yield tmp_path / "cache" / "rows"
    torch.set_num_threads(threads)  # which a job on a worker sets to 1


def by_photo(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns="image").sort_values("photo", kind="stable", ignore_index=True)


def test_rows_are_numbered_and_named_in_the_whole_list(photos):
    rows = evidence(scores, NETWORK, photos, {}, chunk=5)
    assert list(rows.columns) == ["image", "photo", "score", "worker", "file"]
    assert rows["image"].tolist() == list(range(12))
    assert rows["photo"].tolist() == photos.names
    assert rows.attrs["rows"] | {"sha256": ""} == {
        "chunks": 3, "computed": 3, "adopted": {}, "sha256": "",
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.integers(1, 7), st.permutations(range(6)))
def test_neither_chunks_nor_order_matter(folder, chunk, order):
    photos = small(folder).subset(slice(0, 6))
    whole = evidence("removal", NETWORK, photos, REMOVAL, chunk=6)
    other = evidence("removal", NETWORK, photos.subset(order), REMOVAL, chunk=chunk)
    assert len(whole) == 6 * 3 * 2 * 2 * 3  # photos, methods, conventions, orders, fractions
    assert agree(by_photo(whole), by_photo(other))


@pytest.mark.slow
def test_removal_is_what_removal_curves_gives(photos):
    from lib.attribution import gradient
    from lib.evaluation.maps import signed
    from lib.evaluation.removal import removal_curves

    few = photos.subset(slice(0, 3))
    parameters = {"methods": {"g": {"method": "gradient"}}, "fractions": [0.2]}
    rows = evidence("removal", NETWORK, few, parameters, chunk=2)
    network, pixels = NETWORK.load(), few.pixels()
    maps = {"g": signed(gradient(network, pixels, few.targets))}
    curves = removal_curves(network, pixels, few.targets, maps, order="lerf", fractions=[0.2])
    assert set(curves.columns) <= set(rows.columns)
    assert agree(curves, rows[rows["order"] == "lerf"].reset_index()[curves.columns])


def test_localization_of_photos_with_boxes(photos):
    box = ((4.0, 4.0, 20.0, 20.0),)
    given = [replace(p, instances=box if k % 2 else ()) for k, p in enumerate(photos.photos)]
    boxed = replace(photos, photos=tuple(given))
    parameters = {"methods": {"edges": {}, "random": {}}}
    rows = evidence("localization", NETWORK, boxed, parameters, chunk=1)
    assert set(rows["image"]) == {1, 3, 5, 7, 9, 11}
    assert np.allclose(rows["area"], 16 * 16 / 32**2)
    assert rows["energy"].between(0, 1).all()
    moved = replace(boxed, photos=(*given[:-1], replace(given[-1], instances=((0, 0, 8, 8),))))
    again = evidence("localization", NETWORK, moved, parameters, chunk=1)
    assert again.attrs["rows"]["computed"] == 1  # an annotation is part of what rows depend on


def test_photos_added_at_the_end_reuse_all_full_chunks(photos):
    first = evidence(scores, NETWORK, photos.subset(slice(0, 9)), {}, chunk=4)
    more = evidence(scores, NETWORK, photos, {}, chunk=4)
    assert more.attrs["rows"]["computed"] == 1
    pd.testing.assert_frame_equal(more[:8], first[:8])


@pytest.mark.slow
@pytest.mark.parametrize("change", ["parameters", "seed", "label", "bytes", "weights"])
def test_whatever_rows_depend_on_computes_them_anew(folder, tmp_path, change):
    own = photo_folder(tmp_path / "own")
    photos = small(own)
    given = {"parameters": {"a": 1}, "seed": 0}
    evidence(scores, NETWORK, photos, **given, chunk=4)
    network = NETWORK
    if change == "parameters":
        given["parameters"] = {"a": 2}
    elif change == "seed":
        given["seed"] = 1
    elif change == "label":
        photos = replace(photos, photos=(*photos.photos[:-1], replace(photos.photos[-1], target=5)))
    elif change == "bytes":
        photos.photos[-1].path.write_bytes(photos.photos[0].path.read_bytes())
    else:
        network = replace(NETWORK, weights="random")
    rows = evidence(scores, network, photos, **given, chunk=4)
    assert rows.attrs["rows"]["computed"] == (1 if change in ("label", "bytes") else 3)


def test_the_same_photos_twice_are_computed_once_and_numbered_twice(photos):
    twice = photos.subset([0, 1, 0, 1, 2])
    rows = evidence(scores, NETWORK, twice, {}, chunk=2)
    assert rows.attrs["rows"]["computed"] == rows.attrs["rows"]["chunks"] == 2
    assert rows["image"].tolist() == [0, 1, 2, 3, 4]
    assert agree(rows["score"][:2].to_frame(), rows["score"][2:4].to_frame().reset_index(drop=True))


def test_names_do_not_matter(photos):
    evidence(scores, NETWORK, photos, {}, chunk=4)
    named = replace(photos, photos=tuple(replace(p, name=f"{p.name}!") for p in photos.photos))
    rows = evidence(scores, NETWORK, named, {}, chunk=4)
    assert rows.attrs["rows"]["computed"] == 0
    assert rows["photo"].str.endswith("!").all()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut short", "a byte", "foreign", "empty"])
def test_a_damaged_file_is_computed_anew_and_said(photos, cache, caplog, damage):
    before = evidence(scores, NETWORK, photos, {}, chunk=4)
    first, second, *_ = sorted(cache.glob("*.parquet"))
    content = bytearray(first.read_bytes())
    content[content.index(files.read(first)["score"].to_numpy()[:1].tobytes())] ^= 1
    damaged = {
        "cut short": content[: len(content) // 2],
        "a byte": bytes(content),
        "foreign": second.read_bytes(),
        "empty": b"",
    }[damage]
    first.write_bytes(damaged)
    after = evidence(scores, NETWORK, photos, {}, chunk=4)
    assert after.attrs["rows"]["computed"] == 1
    assert len([r for r in caplog.records if first.name in r.message]) == 1
    assert agree(before, after)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flipped_bit_is_believed(tmp_path_factory, data):
    rows = pd.DataFrame({"image": [0, 1], "score": [0.5, float("nan")], "text": ["a", "b"]})
    path = tmp_path_factory.mktemp("file") / "key.code.parquet"
    files.write(path, rows)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = files.read(path)
    assert found is None or (agree(rows, found) and files.checksum(found) == files.checksum(rows))


def test_a_missing_photo_names_worker_and_path(photos, tmp_path):
    gone = tmp_path / "gone.png"
    elsewhere = replace(photos, photos=(replace(photos.photos[0], path=gone),))
    with pytest.raises(RowsError, match=rf"worker \S+:{os.getpid()}: {gone} is no file"):
        on_worker(chunk_rows, "removal", NETWORK, NETWORK.sha256, elsewhere, "", {})
    with pytest.raises(RowsError, match=f"^{gone} is no file"):
        evidence(scores, NETWORK, elsewhere, {})


def test_a_worker_with_other_photos_or_weights_says_so(photos):
    with pytest.raises(RowsError, match="is another one here"):
        on_worker(chunk_rows, "removal", NETWORK, NETWORK.sha256, photos, "", {})
    with pytest.raises(RowsError, match="has other weights here"):
        on_worker(chunk_rows, "removal", NETWORK, "", photos, "", {})


def test_a_chunk_that_fails_is_named_and_the_others_are_kept(photos):
    parameters = {"raises": photos.photos[5].path.name}
    named = rf"{photos.names[4]} to {photos.names[7]}: ValueError: this chunk does not work"
    with pytest.raises(RowsError, match=rf"failed 3 times, all else is kept: {named}"):
        evidence(scores, NETWORK, photos, parameters, chunk=4)
    assert "2 of 3" in kept.table()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"protocol": "removl"}, "protocol 'removl' is unknown; choose one of: removal"),
        ({"parameters": {"a": object()}}, "parameters must be plain values"),
        ({"chunk": 0}, "12 photos in chunks of 0"),
        ({"workers": "four"}, "WORKERS: expected a number of processes or tcp://host:port"),
        ({"workers": "tcp://127.0.0.1:9"}, "WORKERS=tcp://127.0.0.1:9: no Dask scheduler"),
    ],
)
def test_wrong_settings_are_one_line(photos, options, says, monkeypatch):
    monkeypatch.setattr("lib.rows.executors.SECONDS_TO_CONNECT", 1)
    given = {"protocol": scores, "parameters": {}, **options}
    protocol, parameters = given.pop("protocol"), given.pop("parameters")
    with pytest.raises(RowsError) as error:
        evidence(protocol, NETWORK, photos, parameters, **given)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_without_distributed_lib_imports_and_says_what_to_install():
    script = (
        "import sys; sys.modules['distributed'] = None\n"
        "from lib.rows.executors import open_executor, RowsError\n"
        "try: open_executor('tcp://127.0.0.1:9')\n"
        "except RowsError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "needs the package distributed: make env EXTRAS=cluster" in done.stdout


def other_code(cache: Path, change=None) -> None:
    """Let what is stored look as if other code had computed it."""
    for path in cache.glob("*.parquet"):
        rows = files.read(path)
        if change:
            rows["score"] = change(rows["score"])
        files.write(path.with_name(f"{files.key(path)}.{'0' * 16}.parquet"), rows)
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("change", [None, lambda score: score * (1 + 1e-4)])
def test_rows_of_other_code_that_come_out_alike_are_adopted(photos, cache, monkeypatch, change):
    evidence(scores, NETWORK, photos, {}, chunk=1)
    other_code(cache, change)
    monkeypatch.setenv("ADOPT", "1")
    rows = evidence(scores, NETWORK, photos, {}, chunk=1)
    assert rows.attrs["rows"]["computed"] == 2  # a tenth of twelve, and at least one
    assert rows.attrs["rows"]["adopted"] == {"0" * 16: 10}
    monkeypatch.delenv("ADOPT")
    again = evidence(scores, NETWORK, photos, {}, chunk=1).attrs["rows"]
    assert (again["computed"], again["adopted"]) == (0, {"0" * 16: 10})


@pytest.mark.slow
def test_rows_of_other_code_that_differ_are_computed_anew(photos, cache, monkeypatch, caplog):
    evidence(scores, NETWORK, photos, {}, chunk=1)
    other_code(cache, lambda score: score + 0.1)
    monkeypatch.setenv("ADOPT", "1")
    rows = evidence(scores, NETWORK, photos, {}, chunk=1).attrs["rows"]
    assert (rows["computed"], rows["adopted"]) == (12, {})
    assert "gave other rows: none is adopted" in caplog.text


@pytest.fixture
def verified(photos, cache, tmp_path, monkeypatch):
    """What a verification says of the rows that an earlier run has kept."""
    evidence(scores, NETWORK, photos, {}, chunk=1)
    monkeypatch.setenv("ROWS_KEPT", str(cache))
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path / "anew"))
    return lambda: evidence(scores, NETWORK, photos, {}, chunk=1).attrs["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("by_other_code", [False, True])
def test_a_tenth_of_the_rows_of_an_earlier_run_is_computed_again(verified, cache, by_other_code):
    if by_other_code:
        other_code(cache)
    rows = verified()
    assert (rows["computed"], sum(rows["adopted"].values())) == (2, 10)
    assert verified()["computed"] == 0  # another report asks for the same


@pytest.mark.slow
@pytest.mark.parametrize("spoiled", ["all", "one is missing", "one is damaged", "none is there"])
def test_rows_that_are_not_kept_or_differ_fail_a_verification(verified, cache, spoiled):
    paths = sorted(cache.glob("*.parquet"))
    for path in paths if spoiled in ("all", "none is there") else paths[:1]:
        rows = files.read(path)
        path.unlink()
        if spoiled == "all":
            files.write(path, rows.assign(score=rows["score"] + 0.1))
        elif spoiled == "one is damaged":
            path.write_bytes(b"PAR1")
    with pytest.raises(RowsError, match="are not kept or came out otherwise"):
        verified()


def test_rows_of_other_code_are_not_taken_unasked(photos, cache, monkeypatch, caplog):
    monkeypatch.delenv("ADOPT", raising=False)
    evidence(scores, NETWORK, photos, {}, chunk=4)
    other_code(cache)
    assert evidence(scores, NETWORK, photos, {}, chunk=4).attrs["rows"]["computed"] == 3
    assert "3 chunks have rows of other code; ADOPT=1 tries them" in caplog.text


def test_agreement_is_to_tolerance_for_floats_and_exact_for_the_rest():
    rows = pd.DataFrame({"n": [1, 2], "x": [100.0, np.nan], "text": ["a", "b"]})
    assert agree(rows, rows.assign(x=[100.09, np.nan]))
    assert not agree(rows, rows.assign(x=[100.2, np.nan]))
    assert not agree(rows, rows.assign(x=[100.0, 1.0]))
    assert not agree(rows, rows.assign(n=[1, 3]))
    assert not agree(rows, rows.assign(text=["a", "c"]))
    assert not agree(rows, rows[:1])
    assert not agree(rows, rows[["n", "x"]])
    assert agree(rows.assign(seconds_lime=1.0), rows.assign(seconds_lime=2.0))  # a time


def test_rows_are_listed_by_report_and_shared_ones_survive_a_cleaning(photos, cache):
    evidence(scores, NETWORK, photos.subset(slice(0, 8)), {}, chunk=4, report="one")
    evidence(scores, NETWORK, photos, {}, chunk=4, report="two")
    evidence(scores, NETWORK, photos, {"a": 1}, chunk=12, report="two")
    listed = {line.split()[0]: line.split()[1:5] for line in kept.table().splitlines()[1:]}
    assert listed == {"one": ["8", "2", "of", "2"], "two": ["12", "4", "of", "4"]}
    assert main(["clean", "two"]) == 0
    assert len(list(cache.glob("*.parquet"))) == 2
    assert (
        evidence(scores, NETWORK, photos, {}, chunk=4, report="two").attrs["rows"]["computed"] == 1
    )
    assert main(["clean", "one"]) == 0
    assert len(list(cache.glob("*.parquet"))) == 3
    assert main(["clean", "two"]) == 0
    assert list(cache.iterdir()) == []
    assert kept.table() == "no rows yet"


def test_the_command_line_refuses_in_one_line(photos, cache, capsys):
    evidence(scores, NETWORK, photos, {}, report="one")
    (cache.parent / kept.FOLDER / "damaged").write_text("{")
    for arguments, says in (
        (["clean", "ones"], "error: REPORT=ones: has no rows; there are rows of: one"),
        (["estimate", "defualt"], "error: PROFILE=defualt: there is no folder params/defualt"),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err == says + "\n"
    assert main(["list"]) == 0
    assert capsys.readouterr().out.split()[4:8] == ["one", "12", "2", "of"]


def test_an_estimate_counts_passes_and_goes_on_with_the_photos_it_had(
    photos, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROWS_ESTIMATE", str(tmp_path / "log"))
    monkeypatch.setattr("lib.rows.estimate.SECONDS", 0)
    methods = {"IG": {"method": "integrated_gradients", "steps": 7}}
    parameters = {"methods": methods, "fractions": [0, 0.5, 1]}
    rows = evidence("removal", NETWORK, photos, parameters, report="r")
    line = json.loads((tmp_path / "log").read_text())
    assert set(rows["photo"]) == {photos.names[0]}
    assert (line["report"], line["photos"], line["protocol"]) == ("r", 12, "removal")
    assert (line["scores"], line["gradients"]) == (12 * 4, 12 * 7)  # the ends are scored once
    assert min(line[cost] for cost in ("hours here", "GB of photos", "GB of rows")) > 0


def test_counting_passes_leaves_the_exported_network_as_it_is(photos):
    classifier, pixels = NETWORK.load(), photos.subset([0, 1]).pixels()
    classifier.scores(pixels)
    before = dict(classifier._sessions)
    with counted(classifier) as passes:
        classifier.scores(pixels)
    assert passes == {"scores": 2}
    assert classifier._sessions == before  # else an estimate times another export


def test_adopt_makes_the_reports_with_rows_again_and_no_others(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01-with.ipynb").write_text('"rows = lesson.rows(...)"')
    (tmp_path / "notebooks" / "02-without.ipynb").write_text("{}")
    for extra, made in (["ADOPT=1"], ["01-with"]), ([], []):
        command = ["make", "-n", "rows", "PYTHON=python", *extra]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        commands = [line.split() for line in done.stdout.splitlines() if line.startswith("python")]
        assert [words[4] for words in commands if "build" in words] == made
        assert commands[-1] == ["python", "-m", "lib.rows", "list"]


def test_a_full_disk_costs_no_computed_rows(photos, monkeypatch, caplog):
    def full(path, rows, **about):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    rows = evidence(scores, NETWORK, photos, {}, chunk=4)
    assert len(rows) == 12
    assert "No space left on device" in caplog.text


def test_trainings_go_the_same_way(tmp_path):
    jobs = [Job(tmp_path / f"{seed}.pt", rows_work.train_small, (seed,)) for seed in range(3)]

    def read(path):
        return torch.load(path, weights_only=True) if path.exists() else None

    def write(path, state):
        torch.save(state, path)

    first = run_jobs(jobs, read, write)
    assert set(first) == {job.path for job in jobs}
    jobs[0].path.unlink()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
    again = run_jobs(jobs, read, write)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    for path, state in first.items():
        for name, value in state.items():
            torch.testing.assert_close(again[path][name], value, rtol=1e-3, atol=1e-4)
