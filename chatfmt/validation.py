"""Read plain values as the types of a dataclass, and report every problem at once in the words of the input.

msgspec converts the single values (https://jcristharif.com/msgspec/); converting a whole mapping, it would stop at the
first problem.
"""

from __future__ import annotations

import datetime
import math
import os
import re
from collections.abc import Container, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from .errors import UsageError

UNKNOWN, MISSED = "unknown key", "missing key"


class Problem(NamedTuple):
    """A problem with the value at `path`, as in `must be 0 or more, not -1`, or UNKNOWN or MISSED for a key."""

    text: str
    path: tuple[str, ...]

    def describe(self, flags: Container[str] = ()) -> str:
        """Return the problem with its key, or its flag where the key is one of `flags`."""
        first, *rest = self.path
        name = ".".join([key_or_flag(first, flags), *rest])
        return f"{self.text} `{name}`" if self.text in (UNKNOWN, MISSED) else f"`{name}` {self.text}"


def flag_of(key: str) -> str:
    """Return the flag of a key of a recipe: `--rows-per-shard` for `rows_per_shard`."""
    return "--" + key.replace("_", "-")


def key_or_flag(key: str, flags: Container[str]) -> str:
    """Return the flag of `key` if the key is one of `flags`, else the key."""
    return flag_of(key) if key in flags else key


def read_fields(
    kind: type, values: Mapping[str, Any], problems: list[Problem], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the fields of the dataclass `kind` read from `values`, defaults included; add to `problems`."""
    hints = _type_hints(kind)
    made = {}
    for field in fields(kind):
        here = (*path, field.name)
        if field.name in values:
            made[field.name] = _read(hints[field.name], values[field.name], here, problems)
        else:
            made[field.name] = default_of(field)
            problems += [Problem(MISSED, here)] if made[field.name] is MISSING else []
    problems += [Problem(UNKNOWN, (*path, str(key))) for key in values if key not in made]
    return made


@cache
def _type_hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def default_of(field: Field[Any]) -> Any:
    """Return the default of a field, MISSING if it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _read(hint: Any, value: Any, path: tuple[str, ...], problems: list[Problem]) -> Any:
    kind = _without_none(hint)
    nested = is_dataclass(kind)
    if (value is None and NoneType in get_args(hint)) or (nested and isinstance(value, kind)):
        return value
    if get_origin(kind) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        inner = get_args(kind)[0]
        return tuple(_read(inner, item, (*path, str(index)), problems) for index, item in enumerate(items))
    if nested or get_origin(kind) is Mapping:
        if isinstance(value, Mapping):
            return _read_mapping(kind, value, path, problems)
        problems.append(Problem(f"must be a mapping, not `{value}`", path))
        return None
    try:
        return msgspec.convert(_respell(kind, value), hint, strict=False)
    except msgspec.ValidationError as error:
        problems.append(Problem(f"must be {_expected(hint, str(error))}, not `{value}`", path))


def _read_mapping(kind: Any, value: Mapping[Any, Any], path: tuple[str, ...], problems: list[Problem]) -> Any:
    if get_origin(kind) is not Mapping:
        before = len(problems)
        made = read_fields(kind, value, problems, path)
        return kind(**made) if len(problems) == before else None
    others = [key for key in value if not isinstance(key, str)]
    problems += [Problem(f"has the key `{key}`, which is not a string", path) for key in others]
    return {key: _read(get_args(kind)[1], item, (*path, str(key)), problems) for key, item in value.items()}


def _without_none(hint: Any) -> Any:
    """Return the one type that `hint` allows beside None; any other union unchanged."""
    others = [one for one in get_args(hint) if one is not NoneType]
    return others[0] if NoneType in get_args(hint) and len(others) == 1 else hint


TRUTH = {"yes": True, "on": True, "no": False, "off": False}
"""Words for true and false that msgspec does not know; YAML files and options may use them."""


def to_path(text: str) -> Path:
    """Return the path in a text, also of a URL of this machine: of `file:///out` it is `/out`.

    Raises UsageError for a URL with parts that a path leaves out: a store keeps what is at `a//b` apart from `a/b`.
    """
    found = re.fullmatch(r"(?:file|local):(?://)?(/(?!/).*)", text, re.IGNORECASE | re.DOTALL)
    path = Path(found[1] if found else text)
    plain = str(path) == text.rstrip("/").replace("://", ":/", 1) and ".." not in path.parts
    if not found and "://" in text and not plain:
        raise UsageError(
            "the URL of an output has an empty part, or one that is `.` or `..`", hint="leave that part out"
        )
    return path


def _respell(kind: Any, value: Any) -> Any:
    if isinstance(value, str):
        return TRUTH.get(value.lower(), value) if kind is bool else to_path(value) if kind is Path else value
    return os.fspath(value) if kind is str and isinstance(value, os.PathLike) else value


def _expected(hint: Any, message: str = "") -> str:
    """Describe the values of a type; `message` is msgspec's error, from which a violated bound is read."""
    bound = re.search(r"Expected `\w+` ([<>]=?) ([\d.]+)$", message)
    if bound:
        return _BOUNDS[bound[1]].format(bound[2].removesuffix(".0"))
    kind = _without_none(hint)
    if get_origin(kind) is Annotated:
        described = [one.description for one in kind.__metadata__ if isinstance(one, Meta) and one.description]
        return described[0] if described else _expected(get_args(kind)[0])
    if get_origin(kind) is Literal:
        *others, last = (one for one in get_args(kind) if one is not NoneType)
        return f"{', '.join(others)} or {last}"
    return " or ".join(map(_expected, get_args(kind))) if get_args(kind) else _NAMES.get(kind, str(kind))


_BOUNDS = {">": "more than {}", ">=": "{} or more", "<": "less than {}", "<=": "at most {}"}
_NAMES: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    datetime.date: "a date such as 2024-07-26",
    Path: "a path",
}


def to_plain(value: Any) -> Any:
    """Return the value as JSON has it: dataclasses and mappings as dicts, paths as text, NaN and infinity as None."""
    if is_dataclass(value):
        return to_plain(vars(value))
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else msgspec.to_builtins(value, enc_hook=_refuse)


def _refuse(value: Any) -> Any:
    raise UsageError(f"a recipe cannot hold `{type(value).__name__}`", hint="use strings, numbers, lists or mappings")
