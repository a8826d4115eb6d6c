"""Read untrusted YAML: plain data only, of bounded size, and one error for whatever is wrong with it."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

MOST_BYTES = 4 << 20
MOST_NODES = 100_000
"""Values, with those of an alias counted each time: a kilobyte of aliases of aliases can stand for billions."""
TOO_MANY = f": it holds more than {MOST_NODES:,} values"
MOST_LEVELS = 100
MOST_DIGITS = 1000


class InvalidYaml(ValueError):
    """The text is not YAML of plain data; the message has one line, with the place if it is known."""


def read_yaml(text: str, loader: Any = None) -> Any:
    """Return the plain data in a YAML text; raises InvalidYaml. `loader` is a subclass of yaml.SafeLoader."""
    import yaml

    try:
        reader = _bounded((loader or yaml.SafeLoader)(text))
        try:
            node = reader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            return reader.construct_document(node)
        finally:
            reader.dispose()
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or error.context or "it does not parse"
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidYaml(f"{where}: {' '.join(problem.split())}") from None
    except RecursionError:
        raise InvalidYaml(f": it is nested deeper than {MOST_LEVELS} levels") from None
    except InvalidYaml:
        raise
    except (KeyError, IndexError, AttributeError):  # `!!bool maybe`, `!!int ""`, `!!timestamp then`
        raise InvalidYaml(": a value is not of the type of its tag") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise InvalidYaml(f": {' '.join(str(error).split()) or type(error).__name__}") from None


def _bounded(reader: Any) -> Any:
    """Return the loader, made to stop at too many values: two million fit into 4 MB, and take half a minute."""
    compose, count = reader.compose_node, itertools.count(1)

    def compose_node(*place: Any) -> Any:
        if next(count) > MOST_NODES:
            raise InvalidYaml(TOO_MANY)
        return compose(*place)

    reader.compose_node = compose_node
    return reader


@cache
def strict_loader() -> Any:
    """Return a loader for plain data in which repeated keys are errors and only true and false are booleans."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.MarkedYAMLError(problem="a key is not text", problem_mark=key.start_mark)
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key `{key.value}` appears twice", problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    truth = "tag:yaml.org,2002:bool"
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != truth]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(truth, re.compile("^(?:true|false)$"), list("tf"))
    return Loader


def _without_surrogates(text: str) -> str:
    """Return a text with characters for pairs of `\\u` escapes, as JSON has them; raises InvalidYaml for halves."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise InvalidYaml(": half of a surrogate pair") from None


def _check_size(root: yaml.Node) -> None:
    """Raise InvalidYaml for aliases that refer to what holds them, and for too many or too deeply nested values."""
    sizes: dict[int, int] = {}

    def size_of(node: yaml.Node, level: int) -> int:
        if isinstance(node.value, str):
            if node.tag.endswith(":int") and len(node.value) > MOST_DIGITS:
                raise InvalidYaml(f": a number has more than {MOST_DIGITS:,} digits")
            node.value = _without_surrogates(node.value)
            return 1
        if level > MOST_LEVELS:
            raise InvalidYaml(f": it is nested deeper than {MOST_LEVELS} levels, or an alias refers to what holds it")
        if id(node) not in sizes:
            inner = [item for pair in node.value for item in (pair if isinstance(pair, tuple) else (pair,))]
            sizes[id(node)] = 1 + sum(size_of(item, level + 1) for item in inner)
        if sizes[id(node)] > MOST_NODES:
            raise InvalidYaml(TOO_MANY)
        return sizes[id(node)]

    size_of(root, 0)
