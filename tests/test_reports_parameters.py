"""The parameters cell as a schema, YAML as people expect it, and errors of one line."""

from pathlib import Path

import pytest
from reports_project import (
    built_project,
    copy_of_built,
    make_project,
    reports,
    state,
    write_notebook,
)

from lib.builder.overrides import parse_set, resolve_run
from lib.builder.parameters import ParameterError, check_values, read_schema
from lib.builder.workspace import Project, UsageError
from lib.builder.yamlfile import read_yaml

HERE = Path(__file__).parent
CELL = """from typing import Literal

steps: int = 25  # IG steps [1, 10000]
noise: float = 0.15  # share of the range [0, 1)
tail: float = 1e-3  # (0, inf)
flag: bool = True
fill: Literal["black", "mean"] = "black"  # what replaces a pixel
level: float | None = None  # [0, 1]
sizes: list[int] = [
    1,
    2,  # each [1, 9]
]
color: str = "#fff = white"  # a # in the text stays
images: Literal["embedded"] | str = "embedded"  # path: a folder
"""


@pytest.fixture(scope="module")
def schema():
    return read_schema(CELL, "cell", HERE)


def test_schema_reads_types_defaults_and_help(schema):
    assert schema["steps"].help == "IG steps [1, 10000]"
    assert schema["sizes"].default == [1, 2]
    assert schema["color"].default == "#fff = white"
    assert schema["color"].help == "a # in the text stays"
    assert schema["level"].default is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 1),
        ("steps", 10000),
        ("noise", 0),
        ("tail", 1e9),
        ("flag", False),
        ("fill", "mean"),
        ("level", None),
        ("level", 1),
        ("sizes", []),
        ("sizes", [9]),
        ("images", "embedded"),
        ("images", str(HERE)),
        ("images", "."),
    ],
)
def test_good_values_pass(schema, name, value):
    assert check_values(schema, {name: value}, "file", HERE) == {name: value}


def test_integer_given_for_a_number_becomes_one(schema):
    assert type(check_values(schema, {"noise": 0}, "file", HERE)["noise"]) is float


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("steps", "ten", "expected an integer, got 'ten'"),
        ("steps", True, "expected an integer"),
        ("steps", 2.0, "expected an integer"),
        ("steps", 0, "0 is not in [1, 10000]"),
        ("steps", 10001, "is not in [1, 10000]"),
        ("noise", 1, "1.0 is not in [0, 1)"),
        ("noise", float("inf"), "is not in [0, 1)"),
        ("tail", 0.0, "is not in (0, inf)"),
        ("flag", 1, "expected true or false"),
        ("fill", "blakc", "expected one of black, mean, got 'blakc'"),
        ("level", 2, "is not in [0, 1]"),
        ("level", "x", "expected a number or null"),
        ("sizes", 3, "expected a list (each an integer)"),
        ("sizes", [1, "x"], "expected a list (each an integer)"),
        ("sizes", [1, 10], "10 is not in [1, 9]"),
        ("images", "no/such/folder", "no file or folder 'no/such/folder'"),
        ("stepz", 3, "no such parameter; did you mean 'steps'?"),
    ],
)
def test_bad_values_are_named_in_one_line(schema, name, value, says):
    with pytest.raises(ParameterError) as caught:
        check_values(schema, {name: value}, "params/x.yaml", HERE)
    message = str(caught.value)
    assert message.startswith(f"params/x.yaml: {name}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("steps = 3", "is not `name: type = value`"),
        ("steps: int", "is not `name: type = value`"),
        ("steps: int = 3 + x", "not a plain value"),
        ("steps: int = 'three'", "expected an integer"),
        ("steps: int = 0  # [1, 3]", "is not in [1, 3]"),
        ("steps: dict = {}", "the type dict is not supported"),
        ("steps: int = ", "line 1 of the parameters cell"),
    ],
)
def test_bad_schemas_are_refused(cell, says):
    with pytest.raises(ParameterError, match="cell: ") as caught:
        read_schema(cell, "cell", HERE)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("010", "010"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("-.5", -0.5),
        ("~", None),
        ("", None),
        ("[1, 2.5, a]", [1, 2.5, "a"]),
        ("'1'", "1"),
    ],
)
def test_yaml_scalars_are_what_they_look_like(text, value):
    read = read_yaml(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: [1", "1: 2", "a: !!python/object:x {}", "\t- x"]
)
def test_bad_yaml_is_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_yaml(text)


def test_set_parses_quotes_and_lists():
    assert parse_set("steps=50 title='two words' fills=[black,mean] x=1e-3 note='a: b'") == {
        "steps": 50,
        "title": "two words",
        "fills": ["black", "mean"],
        "x": 1e-3,
        "note": "a: b",
    }


@pytest.mark.parametrize("text", ["steps", "=3", "steps=1 steps=2", "title='open", "x=[1"])
def test_bad_set_names_set(text):
    with pytest.raises(ParameterError, match=r"^SET: "):
        parse_set(text)


def test_later_sources_win_and_go_to_their_own_folder(tmp_path):
    project = Project(built_project())
    (tmp_path / "mine.yaml").write_text("steps: 7\nnoise: 0.5\n")
    plain = resolve_run(project, "01-sample", "default")
    assert (plain.parameters["steps"], plain.target, plain.changed) == (5, "default", ["steps"])
    mine = resolve_run(project, "sample", "default", str(tmp_path / "mine.yaml"), "noise=0.25")
    assert (mine.parameters["steps"], mine.parameters["noise"]) == (7, 0.25)
    assert mine.target == "custom"
    assert mine.command == f"make 01-sample PARAMS={tmp_path}/mine.yaml SET=noise=0.25"


def test_environment_variable_as_a_value(tmp_path, monkeypatch):
    project = Project(built_project())
    file = tmp_path / "mine.yaml"
    file.write_text("images: ${SAMPLE_PICTURES}\nsteps: ${SAMPLE_STEPS}\n")
    monkeypatch.setenv("SAMPLE_STEPS", "9")
    monkeypatch.delenv("SAMPLE_PICTURES", raising=False)
    with pytest.raises(ParameterError, match="SAMPLE_PICTURES is not set"):
        resolve_run(project, "01-sample", "default", str(file))
    monkeypatch.setenv("SAMPLE_PICTURES", str(tmp_path))
    run = resolve_run(project, "01-sample", "default", str(file))
    assert run.parameters["images"] == str(tmp_path)
    assert run.parameters["steps"] == 9


def test_relative_paths_reach_the_kernel_absolute():
    run = resolve_run(Project(built_project()), "01-sample", "default", None, "images=notebooks")
    assert run.parameters["images"] == "notebooks"
    assert run.injected["images"] == str(built_project() / "notebooks")


def test_each_path_of_a_list_reaches_the_kernel_absolute(tmp_path):
    root = make_project(tmp_path)
    write_notebook(
        root, "03-paths", [("code", "folders: list[str] = []  # path: some", "parameters")]
    )
    (root / "params/default/03-paths.yaml").write_text("folders: [notebooks, params]\n")
    run = resolve_run(Project(root), "03-paths", "default")
    assert run.injected["folders"] == [str(root / "notebooks"), str(root / "params")]


@pytest.mark.parametrize("name", ["01-sample", "sample", "01", "notebooks/01-sample.ipynb"])
def test_names_of_a_report(name):
    assert Project(built_project()).resolve(name) == "01-sample"


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UsageError, match="did you mean '01-sample'"):
        Project(built_project()).resolve("01-sampel")
    with pytest.raises(UsageError, match="did you mean 'default'"):
        Project(built_project()).check_profile("defualt")


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, ["--set", "stepz=3"], "SET: stepz: no such parameter; did you mean 'steps'?"),
        (None, ["--set", "steps=ten"], "SET: steps: expected an integer"),
        (None, ["--set", "noise=1"], "SET: noise: 1.0 is not in [0, 1)"),
        (None, ["--set", "images=/no/where"], "SET: images: no file or folder"),
        (None, ["--params", "missing.yaml"], "missing.yaml: no such file"),
        (None, ["--profile", "smok"], "PROFILE=smok: there is no folder"),
        (b"- 1\n", [], "params/default/01-sample.yaml: expected `name: value`"),
        (b"steps: [1\n", [], "params/default/01-sample.yaml: not valid YAML"),
        (b"steps: 1\nsteps: 2\n", [], "'steps' is given twice"),
        (b"\xff\xfe\x00", [], "params/default/01-sample.yaml: "),
    ],
)
def test_command_line_exits_2_and_touches_nothing(tmp_path, content, arguments, says):
    root = copy_of_built(tmp_path)
    if content is not None:
        (root / "params/default/01-sample.yaml").write_bytes(content)
    before = state(root)
    done = reports(root, "build", "01-sample", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert state(root) == before
    assert not (root / "reports/custom").exists()


def test_every_name_is_checked_before_the_first_kernel(tmp_path):
    root = copy_of_built(tmp_path)
    (root / "notebooks/02-quick.ipynb").write_text("{}")
    done = reports(root, "build", "--force", "01-sample", "02-quick")
    assert done.returncode == 2
    assert "02-quick.ipynb: not a readable notebook" in done.stderr
    assert state(root) == state(built_project())
