"""YAML of strangers: its own types and no others."""

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
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


def parse_yaml(text: str) -> Any:
    """Raises one of NOT_YAML."""
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
