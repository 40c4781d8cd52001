"""YAML of strangers: its own types and no others."""

from itertools import chain
from typing import Any, ClassVar

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_PAIRS = {"tag:yaml.org,2002:pairs", "tag:yaml.org,2002:omap"}  # lists of tuples, which are no plain data
_MOST = 2**19  # values and characters; a job of the most bytes has fewer where no alias repeats them
# what the library raises for values that are not of the types they say they are, and for very deep ones
NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """YAML's own types and no others; nothing is made of what _size refuses."""

    yaml_constructors: ClassVar = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag not in _PAIRS
    }

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node:
            _size(node, {})
        return node


def parse_yaml(text: str) -> Any:
    """Raises one of NOT_YAML."""
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader


def _size(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Values and characters, those of an alias counted wherever it stands, for so much is made when it is merged or
    written out. known: of nodes seen before, 0 of those that it is part of."""
    if node not in known:
        known[node] = 0
        known[node] = 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else _below(node, known))
    if not known[node]:
        raise _refused(node, "an alias stands in what it stands for")
    if known[node] > _MOST:
        raise _refused(
            node, f"expected at most {_MOST} values and characters, those of an alias counted wherever it stands"
        )
    return known[node]


def _below(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    if isinstance(node, yaml.SequenceNode):
        return sum(_size(each, known) for each in node.value)
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if key.value in seen:
                raise _refused(key, "a key is there twice")
            seen.add(key.value)
    return sum(_size(each, known) for each in chain.from_iterable(node.value))


def _refused(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
