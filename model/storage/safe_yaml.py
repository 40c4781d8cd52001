"""YAML from untrusted sources, limited to plain types and to a maximum size."""

from itertools import chain
from typing import Any, ClassVar

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_TUPLE_TAGS = {"tag:yaml.org,2002:pairs", "tag:yaml.org,2002:omap"}  # lists of tuples are not plain data
_MAX_SIZE = 2**19  # values plus characters; the largest job file has fewer unless aliases repeat its content
# the errors of the library for invalid text, for values that do not fit their tag, and for very deep nesting
NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """A loader of YAML's own types. It constructs nothing from a document that `_expanded_size` rejects."""

    yaml_constructors: ClassVar = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag not in _TUPLE_TAGS
    }

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node:
            _expanded_size(node, {})
        return node


def parse_yaml(text: str) -> Any:
    """Parse untrusted YAML. Raises one of NOT_YAML if the text is invalid or its content is too large."""
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader


def _expanded_size(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Count the values and characters of a node. The content of an alias counts at each use, because a merge or a dump
    creates it each time.

    known: the counts of the nodes visited before; a node that contains the current one has 0. Raises MarkedYAMLError if
    a node contains itself, is too large, or has a key twice.
    """
    if node not in known:
        known[node] = 0
        known[node] = 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else _children_size(node, known))
    if not known[node]:
        raise _yaml_error(node, "an alias refers to a node that contains it")
    if known[node] > _MAX_SIZE:
        raise _yaml_error(
            node, f"expected at most {_MAX_SIZE} values and characters, counting the content of an alias at each use"
        )
    return known[node]


def _children_size(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    if isinstance(node, yaml.SequenceNode):
        return sum(_expanded_size(child, known) for child in node.value)
    keys = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if key.value in keys:
                raise _yaml_error(key, "a key occurs twice")
            keys.add(key.value)
    return sum(_expanded_size(child, known) for child in chain.from_iterable(node.value))


def _yaml_error(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
