"""YAML of strangers: its own types and no others."""

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_MOST = 100_000  # values, those of an alias counted wherever it stands
_MERGED = 100  # keys of a mapping that takes in others
# what the library raises for values that are not of the types they say they are, and for very deep ones
NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """YAML's own types and no others; a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, "a key is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        merges = any(key.tag == _MERGE for key, _ in node.value)
        super().flatten_mapping(node)
        if merges and len(node.value) > _MERGED:
            raise yaml.constructor.ConstructorError(None, None, "too many keys are merged", node.start_mark)


def parse_yaml(text: str) -> Any:
    """Raises one of NOT_YAML."""
    value = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    _check_size(value)
    return value


def _check_size(value: Any) -> None:
    """MarkedYAMLError if aliases of aliases make much of a short text: whoever writes the value out would need all that memory."""
    left, count = [value], 0
    while left:
        each = left.pop()
        if isinstance(each, dict | list | set):
            count += len(each)
            if count > _MOST:
                raise yaml.MarkedYAMLError(
                    problem=f"expected at most {_MOST} values, aliases counted wherever they stand"
                )
            left += each.values() if isinstance(each, dict) else each
