"""The parameters cell as a schema, YAML as people expect it, and errors of one line."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.projects import (
    built_project,
    copy_of_built,
    environment,
    make_project,
    plain_project,
    reports,
    state,
    write_notebook,
)

from lib.builder.overrides import Run, parse_set, resolve_run
from lib.builder.parameters import check_values, describe, read_schema
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
more: list[int] = [1]  # may be empty
color: str = "#fff = white"  # a # in the text stays
images: str = "embedded"  # path: a folder
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
        ("more", []),
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
        ("noise", float("inf"), "inf is too large"),
        ("steps", 10**400, "is too large"),
        ("sizes", [[]], "expected an integer, got []"),
        ("tail", 0.0, "is not in (0, inf)"),
        ("flag", 1, "expected true or false"),
        ("fill", "blakc", "expected one of black, mean, got 'blakc'"),
        ("level", 2, "is not in [0, 1]"),
        ("level", "x", "expected a number or null"),
        ("sizes", [], "expected one item or more, got an empty list"),
        ("sizes", 3, "expected a list (each an integer)"),
        ("sizes", [1, "x"], "expected an integer, got 'x'"),
        ("sizes", [1, 10], "10 is not in [1, 9]"),
        ("images", "no/such/folder", "no file or folder 'no/such/folder'"),
        ("stepz", 3, "no such parameter; did you mean 'steps'?"),
    ],
)
def test_bad_values_are_named_in_one_line(schema, name, value, says):
    with pytest.raises(UsageError) as caught:
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
        ("steps: int = 3 + x", "of a known type and a plain value"),
        ("steps: int = 'three'", "expected an integer"),
        ("steps: int = 0  # [1, 3]", "is not in [1, 3]"),
        ("steps: int = 3\nsteps: int = 4", "steps: declared twice"),
        ("steps: list = []", "of a known type and a plain value"),
        ("steps: Literal[x] = 3", "of a known type and a plain value"),
        ("steps: int + str = 3", "of a known type and a plain value"),
        ("steps: int = 3\0", "null bytes"),
        ("steps: dict = {}", "of a known type and a plain value"),
        ("steps: int = ", "(parameters cell, line 1)"),
    ],
)
def test_bad_schemas_are_refused(cell, says):
    with pytest.raises(UsageError, match="cell: ") as caught:
        read_schema(cell, "cell", HERE)
    assert says in str(caught.value)


TYPES = """from typing import Literal

whole: int = 0
number: float = 0.0
flag: bool = False
text: str = "x"
word: str | None = None
count: int | None = None
side: Literal[28, 14] = 28
either: Literal["auto"] | int | str = "auto"
numbers: list[float] = [0.0]
words: list[str] = ["x"]
"""


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("whole", "-12", -12),
        ("number", "1e-3", 1e-3),
        ("number", "-.5", -0.5),
        ("number", "3", 3.0),
        ("flag", "true", True),
        ("text", "no", "no"),
        ("text", "2012", "2012"),
        ("text", "010", "010"),
        ("text", "1e5", "1e5"),
        ("text", "12:30", "12:30"),
        ("word", "null", None),
        ("word", "~", None),
        ("word", "", None),
        ("word", "2024-01-01", "2024-01-01"),
        ("count", "", None),
        ("count", "7", 7),
        ("side", "14", 14),
        ("either", "auto", "auto"),
        ("either", "5", 5),
        ("either", "five", "five"),
        ("numbers", "[1, 2.5, 1e3]", [1.0, 2.5, 1000.0]),
        ("words", "[yes, 1, 'a b']", ["yes", "1", "a b"]),
    ],
)
def test_the_type_says_what_a_text_means_in_a_file_and_in_set(name, text, value):
    schema = read_schema(TYPES, "cell", HERE)
    for given in (read_yaml(f"{name}: {text}"), parse_set(shlex.quote(f"{name}={text}"))):
        read = check_values(schema, given, "file", HERE)[name]
        assert read == value
        assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("whole", "1_000"),
        ("whole", "010"),
        ("whole", "0x10"),
        ("whole", "1.0"),
        ("whole", "null"),
        ("whole", "٣"),
        ("whole", "'5'"),
        ("number", "'0.5'"),
        ("number", ".inf"),
        ("number", "nan"),
        ("number", "1:30"),
        ("number", "9" * 400),
        ("number", "9" * 5000),
        ("whole", "9" * 400),
        ("whole", "9" * 5000),
        ("flag", "yes"),
        ("flag", "1"),
        ("text", ""),
        ("text", "null"),
        ("text", "~"),
        ("side", "'14'"),
        ("numbers", "5"),
        ("numbers", "[1"),
        ("numbers", "[a]"),
        ("numbers", "[[]]"),
        ("words", "[a, [b]]"),
        ("words", "[a, b, a]"),
        ("words", "[a] # [b]"),
        ("words", "[a], [b]"),
        ("words", "a, b"),
        ("words", "a: b"),
        ("words", ""),
        ("words", "[&x y]"),
        ("words", "[{a: b}]"),
        pytest.param("words", "[" * 9000, marks=pytest.mark.slow),
    ],
)
def test_a_text_of_another_type_is_refused_in_a_short_line(name, text):
    schema = read_schema(TYPES, "cell", HERE)
    with pytest.raises(UsageError, match=f"^SET: {name}: .{{5,400}}$"):
        check_values(schema, parse_set(shlex.quote(f"{name}={text}")), "SET", HERE)


def test_quoted_text_in_a_file_is_text():
    schema = read_schema(TYPES, "cell", HERE)
    assert check_values(schema, read_yaml("word: 'null'"), "file", HERE) == {"word": "null"}
    with pytest.raises(UsageError, match="whole: expected an integer, got '5'"):
        check_values(schema, read_yaml("whole: '5'"), "file", HERE)


def test_text_in_set_is_raw_after_the_shell_splitting():
    raw = ["/data/photos #2", "&x y", "*x", "!x y", "a: b", "{a", "[a", "'a'", "- a", "%a", "| a"]
    schema = read_schema(TYPES, "cell", HERE)
    for text in raw:
        given = check_values(schema, parse_set(f"text={shlex.quote(text)}"), "SET", HERE)
        assert given == {"text": text}


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: [1",
        "a: !!python/object:x {}",
        "a: !!int 5",
        "a: &x y",
        "a: &x [1]\nb: *x",
        "a: 1\n---\nb: 2",
        "{a: 1}: 2",
        "\t- x",
        "a: \0",
        pytest.param("a: " + "[" * 9000, marks=pytest.mark.slow),
        "a: " + "x" * 100_000,
        "a: &a [x,x,x]\n" + "\n".join(f"b{i}: &b{i} [*a,*a]" for i in range(9)),
    ],
)
def test_bad_yaml_is_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]{5,300}$"):
        read_yaml(text)


@pytest.mark.parametrize("text", ["steps", "=3", "steps=1 steps=2", "title='open"])
def test_bad_set_names_set(text):
    with pytest.raises(UsageError, match=r"^SET: "):
        parse_set(text)


def test_names_of_methods_and_fills_are_those_of_the_library():
    """The builder knows them without PyTorch, and refuses others before a kernel starts."""
    from lib.attribution import METHODS
    from lib.copies.fills import FILLS

    project, sources = Project(), {}
    for slug in project.slugs():
        schema = resolve_run(project, slug, "default").schema
        sources |= {(slug, name): p for name, p in schema.items()}
    fills = [p for (_, name), p in sources.items() if name in ("fill", "fills")]
    methods = [p for p in sources.values() if "METHODS" in p.help]
    assert fills and methods
    for parameter, known in [(p, FILLS) for p in fills] + [(p, METHODS) for p in methods]:
        many = isinstance(parameter.default, list)
        for name in known:
            assert parameter.check([name] if many else name, "file", HERE)
        with pytest.raises(UsageError, match=f"{', '.join(known)}.*'grad'"):
            parameter.check(["grad"] if many else "grad", "file", HERE)
    # a list of names is one of methods or fills, or says itself what it may hold
    others = {name for (_, name), p in sources.items() if p.type == list[str]}
    assert others == {"networks"}


def test_every_number_of_a_report_has_a_range():
    project = Project()
    for slug in project.slugs():
        for parameter in resolve_run(project, slug, "default").schema.values():
            default = parameter.default
            number = default[0] if isinstance(default, list) else default
            if type(number) in (int, float) and "one of" not in describe(parameter.type):
                assert parameter.range, f"{slug}: {parameter.name}"


def test_every_file_of_parameters_belongs_to_a_report():
    project = Project()
    files = [p for p in (project.root / "params").rglob("*") if p.is_file() and p.suffix != ".csv"]
    assert {p.name for p in files} <= {f"{slug}.yaml" for slug in project.slugs()}
    for file in files:
        slug, profile = file.stem, file.parent.name
        assert file == project.params(profile, slug)


def test_later_sources_win_and_go_to_their_own_folder(tmp_path):
    project = Project(plain_project())
    (tmp_path / "mine.yaml").write_text("steps: 7\nnoise: 0.5\n")
    plain = resolve_run(project, "01-sample", "default")
    assert (plain.parameters["steps"], plain.target, plain.changed) == (5, "default", ["steps"])
    mine = resolve_run(project, "sample", "default", str(tmp_path / "mine.yaml"), "noise=0.25")
    assert (mine.parameters["steps"], mine.parameters["noise"]) == (7, 0.25)
    assert mine.target == "custom"
    assert mine.command == f"make 01-sample PARAMS={tmp_path}/mine.yaml SET=noise=0.25"


def test_environment_variable_as_a_value(tmp_path, monkeypatch):
    project = Project(plain_project())
    file = tmp_path / "mine.yaml"
    file.write_text("images: ${SAMPLE_PICTURES}\nsteps: ${SAMPLE_STEPS}\n")
    monkeypatch.setenv("SAMPLE_STEPS", "9")
    monkeypatch.delenv("SAMPLE_PICTURES", raising=False)
    with pytest.raises(UsageError, match="SAMPLE_PICTURES is not set"):
        resolve_run(project, "01-sample", "default", str(file))
    monkeypatch.setenv("SAMPLE_PICTURES", str(tmp_path))
    run = resolve_run(project, "01-sample", "default", str(file))
    assert run.parameters["images"] == str(tmp_path)
    assert run.parameters["steps"] == 9


def test_relative_paths_reach_the_kernel_absolute():
    run = resolve_run(Project(plain_project()), "01-sample", "default", None, "images=notebooks")
    assert run.parameters["images"] == "notebooks"
    assert run.injected["images"] == str(plain_project() / "notebooks")


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
    assert Project(plain_project()).resolve(name) == "01-sample"


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UsageError, match="did you mean '01-sample'"):
        Project(plain_project()).resolve("01-sampel")
    with pytest.raises(UsageError, match="did you mean 'default'"):
        Project(plain_project()).check_profile("defualt")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, ["--set", "stepz=3"], "SET: stepz: no such parameter; did you mean 'steps'?"),
        (None, ["--set", "steps=ten"], "SET: steps: expected an integer"),
        (None, ["--set", "noise=1"], "SET: noise: 1.0 is not in [0, 1)"),
        (None, ["--set", "images=/no/where"], "SET: images: no file or folder"),
        (None, ["--set", "images=/"], "SET: images: no file or folder '/' that can be read"),
        (None, ["--set", f"steps={'9' * 400}"], "SET: steps: 9999"),
        (None, ["--set", f"names={'[' * 9000}"], "SET: names: too many brackets"),
        (None, ["--params", "/dev/zero"], "/dev/zero: no such file"),
        (None, ["--params", "missing.yaml"], "missing.yaml: no such file"),
        (None, ["--profile", "smok"], "PROFILE=smok: there is no folder"),
        (b"- 1\n", [], "params/default/01-sample.yaml: expected `name: value`"),
        (b"steps: [1\n", [], "params/default/01-sample.yaml: cannot be read as YAML"),
        (b"steps: 1\nsteps: 2\n", [], "line 2, column 1"),
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


@pytest.mark.slow
def test_every_name_is_checked_before_the_first_kernel(tmp_path):
    root = copy_of_built(tmp_path)
    (root / "notebooks/02-brief.ipynb").write_text("{}")
    done = reports(root, "build", "--force", "01-sample", "02-brief")
    assert done.returncode == 2
    assert "02-brief.ipynb: not a readable notebook" in done.stderr
    assert state(root) == state(built_project())


def test_a_variable_is_raw_text_in_a_value_or_a_list_and_is_named_when_it_is_missing(
    tmp_path, monkeypatch
):
    root = make_project(tmp_path / "project")
    photos = tmp_path / "photos #2"
    photos.mkdir()
    (root / "params/default/01-sample.yaml").write_text(
        'images: "${SAMPLE_HOME}/photos #2"\nnames: [a, "${SAMPLE_NAME}"]\nsteps: ${SAMPLE_STEPS}\n'
    )
    monkeypatch.setenv("SAMPLE_HOME", str(tmp_path))
    monkeypatch.setenv("SAMPLE_NAME", "&x: y # $z")
    monkeypatch.setenv("SAMPLE_STEPS", "")
    where = "params/default/01-sample.yaml: steps: the environment variable SAMPLE_STEPS is"
    with pytest.raises(UsageError, match=f"{where} empty"):
        resolve_run(Project(root), "01-sample", "default")
    monkeypatch.delenv("SAMPLE_STEPS")
    with pytest.raises(UsageError, match=f"{where} not set"):
        resolve_run(Project(root), "01-sample", "default")
    # what SET gives needs no variable
    run = resolve_run(Project(root), "01-sample", "default", None, "steps=7")
    assert run.parameters["steps"] == 7
    assert run.parameters["images"] == str(photos)
    assert run.parameters["names"] == ["a", "&x: y # $z"]
    assert run.command == (
        f"SAMPLE_HOME={tmp_path} SAMPLE_NAME='&x: y # $z' make 01-sample SET=steps=7"
    )


def test_without_a_file_the_profile_default_is_the_notebook(tmp_path):
    root = make_project(tmp_path)
    shutil.rmtree(root / "params")
    assert Project(root).profiles() == ["default"]
    run = resolve_run(Project(root), "01-sample", "default")
    assert (run.parameters["steps"], run.given, run.changed) == (4, {}, [])
    (root / "params/smoke").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"params/smoke/01-sample.yaml: no such file"):
        resolve_run(Project(root), "01-sample", "smoke")


@pytest.mark.parametrize(
    "make_it",
    [
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: path.write_bytes(b"# \n" * 10_000_000),
        lambda path: path.write_bytes(b"\xff\xfea"),
        lambda path: path.write_text("steps: " + "9" * 400),
        lambda path: path.write_text("null"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("? [steps]\n: 3"),
        lambda path: path.write_text('"ste\\nps": 3'),
    ],
)
def test_a_file_that_holds_no_parameters_is_named_in_one_line(tmp_path, make_it):
    make_it(tmp_path / "bad.yaml")
    with pytest.raises(UsageError, match=rf"^{tmp_path}/bad.yaml: [^\n]{{5,300}}$"):
        resolve_run(Project(plain_project()), "01-sample", "default", str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize("path", ["~nouser/x", "/" + "x" * 5000, "x/\udcff", "new\nline"])
def test_a_name_that_is_no_file_is_refused_in_one_line(path):
    project = Project(plain_project())
    with pytest.raises(UsageError, match=r"^SET: images: [^\n]{5,300}$"):
        resolve_run(project, "01-sample", "default", None, f"images='{path}'")
    with pytest.raises(UsageError, match=r"^[^\n]{5,6000}: no such file$"):
        resolve_run(project, "01-sample", "default", path)


def test_a_path_is_a_file_or_a_folder_but_not_the_whole_disk(schema, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "disk").symlink_to("/")
    bad = ["", "/", "//", "/..", "/dev/zero", "a\0b", "\ud800"]
    for path in [*bad, str(tmp_path / "pipe"), str(tmp_path / "disk"), str(tmp_path / "none")]:
        with pytest.raises(UsageError, match=r"^x: images: [^\n]{5,300}$"):
            check_values(schema, {"images": path}, "x", HERE)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbfsteps: 7\r\n")
    run = resolve_run(Project(plain_project()), "01-sample", "default", str(tmp_path / "mine.yaml"))
    assert run.given["steps"] == 7


def test_a_file_of_default_that_belongs_to_no_notebook_is_named(tmp_path):
    root = make_project(tmp_path)
    (root / "params/default/01-sample.yaml").rename(root / "params/default/sample.yaml")
    with pytest.raises(UsageError, match=r"params/default/sample.yaml: there is no such"):
        resolve_run(Project(root), "01-sample", "default")


@pytest.mark.parametrize(
    "text",
    ["/data/photos #2", "it's", 'a"b', "$HOME $$x ${X} $(X)", "`x`; y", "a\\ b\\", "100% *", "ü\n"],
)
def test_the_command_of_a_report_reaches_the_builder_as_it_was_given(tmp_path, text):
    """Through the shell and make, in each of the three ways to give a value."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/01-sample.ipynb").touch()
    shutil.copy(HERE.parents[1] / "Makefile", tmp_path)
    spy = tmp_path / "spy"
    spy.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ['SAMPLE']]))\n"
    )
    spy.chmod(0o755)
    run = Run(Project(tmp_path), "01-sample", "smoke", text, text, {}, {}, {}, {}, {"SAMPLE": text})
    done = subprocess.run(
        ["sh", "-c", f"{run.command} PYTHON={spy}"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    arguments, variable = json.loads(done.stdout)
    assert variable == text
    assert arguments[arguments.index("--profile") + 1] == "smoke"
    assert arguments[arguments.index("--params") + 1] == text
    assert arguments[arguments.index("--set") + 1] == text
