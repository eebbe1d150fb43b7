"""YAML 1.2 down to its text: what a word means is for the parameter's type to say, not for YAML."""

from __future__ import annotations

from typing import Any, ClassVar

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver

LARGEST = 32 * 1024  # characters: about a second for the parser


class Plain(str):
    """Text that stood without quotes: it may be a number, a word, null. Quoted text is a `str`."""


class _Resolver(VersionedResolver):
    versioned_resolver: ClassVar = {}  # nothing is a number, null or a date by its looks


class _Constructor(SafeConstructor):
    def construct_object(self, node, deep=False):
        if node.anchor or node.tag.rpartition(":")[2] not in ("str", "seq", "map"):
            problem = "anchors, aliases and tags are not supported: write the value, or quote it"
            raise ConstructorError(None, None, problem, node.start_mark)
        if isinstance(node, ScalarNode):
            return node.value if node.style else Plain(node.value)
        return super().construct_object(node, deep)


def read_yaml(text: str) -> Any:
    """Parse one YAML document into dicts, lists, `Plain` and `str`; nothing at all is None.

    Raises:
        ValueError: not one YAML document, a name given twice, too long or too deep; in one line.
    """
    if len(text) > LARGEST:
        raise ValueError(f"longer than {LARGEST} characters")
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.Constructor = _Resolver, _Constructor
    try:
        return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}"
        raise ValueError(f"{error.problem[:200]} ({where})") from None
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("too many brackets inside one another") from None
