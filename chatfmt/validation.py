"""Frozen data that checks itself as it is made, tells every problem at once, each with its place, and knows its JSON.

msgspec reads the values as the types that the fields are annotated with (https://jcristharif.com/msgspec/).
"""

from __future__ import annotations

import datetime
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from .errors import RecipeError, UnknownName, UsageError


class Problem(NamedTuple):
    """What is wrong with a value or a key, and where it stands."""

    text: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text} @ {'.'.join(self.path)}" if self.path else self.text


UNKNOWN, MISSED = "unknown key", "missing key"


@dataclass(frozen=True, init=False)
class Checked:
    """The base of a frozen dataclass with `init=False`: its constructor reads each value as the type of its key.

    `spellings` are other ways to say the value of a key: functions from what was said to what is read. `exclusive` are
    pairs of keys of which one may be said. Raises RecipeError.
    """

    spellings: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(self, **values: Any) -> None:
        wrong = self._take(values, ())
        if wrong:
            unknown = next((problem.path[-1] for problem in wrong if problem.text == UNKNOWN), None)
            raise RecipeError("; ".join(map(str, wrong)), hint="" if unknown is None else self.hint(unknown))

    @classmethod
    def hint(cls, unknown: str) -> str:
        """What to do about a key that there is not."""
        return UnknownName.of("key", unknown, [key.name for key in fields(cls)]).hint

    def plain(self) -> dict[str, Any]:
        """All keys with their values as JSON has them."""
        return {key: _plain(value) for key, value in vars(self).items()}

    def _take(self, values: Mapping[str, Any], path: tuple[str, ...]) -> list[Problem]:
        """Make the values those of this object; what is wrong with them."""
        wrong: list[Problem] = []
        types = get_type_hints(type(self), include_extras=True)
        for each in fields(self):
            self.__dict__[each.name] = self._value(each, types[each.name], values, (*path, each.name), wrong)
        wrong += [Problem(UNKNOWN, (*path, str(key))) for key in values if key not in self.__dict__]
        both = [pair for pair in self.exclusive if not wrong and all(getattr(self, key) for key in pair)]
        return wrong + [Problem(f"`{first}` and `{second}` exclude each other") for first, second in both]

    def _value(
        self, key: Field[Any], hint: Any, values: Mapping[str, Any], path: tuple[str, ...], wrong: list[Problem]
    ) -> Any:
        if key.name in values:
            said, spell = values[key.name], self.spellings.get(key.name)
            return _read(hint, spell(said) if spell else said, path, wrong)
        default = default_of(key)
        wrong += [Problem(MISSED, path)] if default is MISSING else []
        return default


def default_of(key: Field[Any]) -> Any:
    """What a key is where nobody says anything; MISSING for one that must be said."""
    return key.default if key.default_factory is MISSING else key.default_factory()


def _plain(value: Any) -> Any:
    if isinstance(value, Checked):
        return value.plain()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else msgspec.to_builtins(value, enc_hook=_refused)


def _refused(value: Any) -> Any:
    raise UsageError(f"a recipe cannot hold `{type(value).__name__}`", hint="give it text, numbers, lists or mappings")


def _read(hint: Any, value: Any, path: tuple[str, ...], wrong: list[Problem]) -> Any:
    """The value as its type; appends to `wrong` what cannot be read so."""
    kind = _kind(hint)
    nested = isinstance(kind, type) and issubclass(kind, Checked)
    if (value is None and NoneType in get_args(hint)) or (nested and isinstance(value, kind)):
        return value
    if get_origin(kind) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        inner = get_args(kind)[0]
        return tuple(_read(inner, item, (*path, str(place)), wrong) for place, item in enumerate(items))
    if (nested or get_origin(kind) is Mapping) and not isinstance(value, Mapping):
        wrong.append(Problem(f"`{value}` is not {_WORDS[Mapping]}", path))
        return None
    if nested:
        made = object.__new__(kind)
        wrong += made._take(value, path)
        return made
    if get_origin(kind) is Mapping:
        wrong += [Problem(f"the key `{key}` is not {_WORDS[str]}", path) for key in value if not isinstance(key, str)]
        inner = get_args(kind)[1]
        return {key: _read(inner, item, (*path, str(key)), wrong) for key, item in value.items()}
    try:
        return msgspec.convert(_spelled(kind, value), hint, strict=False)
    except msgspec.ValidationError as error:
        wrong.append(Problem(f"`{value}` is not {_words(hint, str(error))}", path))


def _kind(hint: Any) -> Any:
    """The type without `None`; a union of others as it is."""
    others = [one for one in get_args(hint) if one is not NoneType]
    return others[0] if NoneType in get_args(hint) and len(others) == 1 else hint


TRUTH = {"yes": True, "on": True, "no": False, "off": False}
"""Words for true and false beside those two: YAML files may use them, and texts may be them."""


def _spelled(kind: Any, value: Any) -> Any:
    if isinstance(value, str):
        return TRUTH.get(value.lower(), value) if kind is bool else Path(value) if kind is Path else value
    return os.fspath(value) if kind is str and isinstance(value, os.PathLike) else value


def _words(hint: Any, said: str = "") -> str:
    """What a value of the type is called; `said` is msgspec's message for one that is none."""
    bound = re.search(r"Expected `\w+` ([<>]=?) ([\d.]+)$", said)
    if bound:
        return f"{_BOUNDS[bound[1]]} {bound[2].removesuffix('.0')}"
    kind = _kind(hint)
    if get_origin(kind) is Annotated:
        described = [one.description for one in kind.__metadata__ if isinstance(one, Meta) and one.description]
        return described[0] if described else _words(get_args(kind)[0])
    if get_origin(kind) is Literal:
        *others, last = map(repr, (one for one in get_args(kind) if one is not NoneType))
        return f"{', '.join(others)} or {last}"
    return " or ".join(_words(one) for one in get_args(kind)) if get_args(kind) else _WORDS.get(kind, str(kind))


_BOUNDS = {">": "greater than", ">=": "at least", "<": "less than", "<=": "at most"}
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Mapping: "a mapping of keys to values",
    datetime.date: "a day such as `2024-07-26`",
    Path: "a path",
}
