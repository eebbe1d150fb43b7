"""One source of truth for versions: requirements.txt, held by constraints.txt, used by conda."""

import ast
import json
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([0-9][A-Za-z0-9_.]*)$")
# what is imported under another name than it is installed by
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "ruamel": "ruamel.yaml",
    "IPython": "ipython",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "jupyter_client": "jupyter-client",
}
OWN = {"lib", "tests", "benchmarks", "support"}


def pins(*names: str) -> dict[str, str]:
    """What requirements.txt, constraints.txt or an extra of pyproject.toml pins."""
    lines = []
    for name in names:
        if name.endswith(".txt"):
            lines += [line.strip() for line in (ROOT / name).read_text().splitlines()]
        else:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            lines += project["optional-dependencies"][name]
    found = [PIN.match(line) for line in lines if line and not line.startswith("#")]
    assert all(found), f"{names}: every line is an exact pin"
    return {normal(match[1]): match[2] for match in found}


NAMED = ("requirements.txt", "test")  # what somebody chose; constraints.txt holds what these need


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports() -> set[str]:
    """The top-level packages that the project's own code and notebooks import."""
    sources = [
        path.read_text()
        for folder in ("lib", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        sources += ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    sources = [source for source in sources if not source.startswith("%%")]
    names = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return names - OWN - set(sys.stdlib_module_names)


def test_everything_imported_is_pinned_exactly():
    wanted = {normal(DISTRIBUTIONS.get(name, name)) for name in imports()}
    assert wanted - set(pins(*NAMED)) == set()


def test_conda_takes_its_packages_from_the_same_pins():
    environment = YAML(typ="safe", pure=True).load((ROOT / "environment.yml").read_text())
    pip = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [["-c constraints.txt", "-e .[test]"]]
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert not {normal(re.split(r"[=<>]", entry)[0]) for entry in conda} & set(pins(*NAMED))
    assert "python=3.11" in conda
    assert environment["channels"][0] == "conda-forge"


def test_constraints_hold_the_rest_and_leave_cuda_to_pytorch():
    constraints = pins("constraints.txt")
    assert not set(constraints) & set(pins(*NAMED))
    assert not [name for name in constraints if re.match(r"nvidia|cuda|triton", name)]


@pytest.mark.parametrize("name", ["requirements.txt", "test", "constraints.txt"])
def test_this_environment_is_the_pinned_one(name):
    wrong = {}
    for package, version in pins(name).items():
        try:
            installed = metadata.version(package).split("+")[0]
        except metadata.PackageNotFoundError:  # a constraint of another platform
            assert name == "constraints.txt", f"{package} is not installed"
            continue
        if installed != version:
            wrong[package] = installed
    assert wrong == {}


def test_constraints_cover_every_package_that_requirements_need():
    """Walk the dependencies of what is pinned: each one installed is pinned too."""
    held = pins(*NAMED, "constraints.txt")
    todo, seen = list(pins(*NAMED)), set()
    while todo:
        name = todo.pop()
        if name in seen or re.match(r"nvidia|cuda|triton", name):
            continue
        seen.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        assert name in held or name in ("pip", "setuptools"), f"{name} may drift"
        todo += [
            normal(re.match(r"[A-Za-z0-9_.-]+", need)[0])
            for need in needs
            if "extra ==" not in need
        ]
