"""The plan of a mapping: what `--map`, `--marker`, `--explode` and `--where` ask for, as plain data, checked whole."""

from __future__ import annotations

import json
import re
from collections import abc
from typing import Any

from msgspec import Struct

from ..errors import RecipeError, UnknownName, UsageError
from ..field_path import FieldPath
from .names import names_needed

TURN_FIELDS = ("system", "developer", "user", "assistant", "tool")
"""The fields that parallel lists may fill, each a role."""
PREAMBLE = "^"
"""The marker that stands for the start of a transcript: the role of the text before the first marker."""


class Constant(Struct, frozen=True):
    """The same value in every row: text, a truth value, or a list or object of JSON."""

    value: Any


class Template(Struct, frozen=True):
    """Text that a Jinja template builds from the row."""

    text: str


Part = FieldPath | Constant | Template


class Mapping(Struct, frozen=True):
    """What plays which part in a source: plain frozen data, which pickles.

    `fields` fills a column each, in the order given; `keys` (`messages.role` and the like) name keys inside turns and
    calls, and are for the dialect; `markers` cut the field `transcript` into turns.
    """

    fields: tuple[tuple[str, Part], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    markers: tuple[tuple[str, str], ...] = ()
    explode: FieldPath | None = None
    where: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether batches pass unchanged."""
        return not (self.fields or self.explode or self.where)

    @property
    def zipped(self) -> tuple[tuple[str, FieldPath], ...]:
        """The fields of parallel lists, which together become `messages`."""
        return tuple((n, p) for n, p in self.fields if n in TURN_FIELDS and isinstance(p, FieldPath) and p.is_many)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that the mapping makes, as the dialect will see them."""
        zipped = [name for name, _ in self.zipped]
        names = ["messages" if name == "transcript" or name in zipped else name for name, _ in self.fields]
        return tuple(dict.fromkeys(names))

    @property
    def roots(self) -> tuple[str, ...]:
        """The source columns that paths begin with, which have found their use; a column may be called `a.b` itself."""
        paths = [part for _, part in self.fields if isinstance(part, FieldPath)]
        names = [name for path in paths for name in (path.root, path.text if "." in path.text else None)]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def reads(self, names: abc.Sequence[str]) -> tuple[str, ...]:
        """Those of the source columns `names` that paths begin with, or that a template or an expression names."""
        texts = [part.text for _, part in self.fields if isinstance(part, Template)]
        tags = [tag for text in texts for tag in re.findall(r"\{\{.*?\}\}|\{%.*?%\}", text, flags=re.DOTALL)]
        words = set(re.findall(r"\w+", " ".join([*tags, self.where or ""])))
        exploded = {self.explode.root} if self.explode is not None else set()
        return tuple(name for name in names if name in words or name in self.roots or name in exploded)


def plan(
    fields: abc.Mapping[str, str],
    *,
    markers: abc.Mapping[str, str] | None = None,
    explode: str | None = None,
    where: str | None = None,
) -> Mapping:
    """The mapping that flags spell; raises RecipeError with all problems, each as `text @ key`.

    A value with `{{` or `{%` is a template, in which `\\n`, `\\t` and `\\\\` outside of its tags stand for what they
    mean; JSON text in quotes, `true`, `false`, and lists and objects of JSON are constants; the rest are paths.
    """
    problems: list[str] = []
    found: list[tuple[str, Part]] = []
    for name, value in fields.items():
        if "." in name:
            continue
        try:
            found.append((name, to_part(value)))
        except UsageError as error:
            problems.append(f"{error.message} @ map.{name}")
    cuts = tuple((unescape(marker), role) for marker, role in (markers or {}).items())
    problems += _transcript_problems(fields, cuts)
    if problems:
        raise RecipeError("; ".join(problems), hint="--map transcript=COLUMN --marker 'Human:=user'" if cuts else "")
    keys = tuple((name, value) for name, value in fields.items() if "." in name)
    return Mapping(tuple(found), keys, cuts, FieldPath.parse(explode) if explode else None, where)


def _transcript_problems(fields: abc.Mapping[str, str], cuts: tuple[tuple[str, str], ...]) -> list[str]:
    if "transcript" in fields and not cuts:
        return ["a transcript needs a marker for each role @ marker"]
    if cuts and "transcript" not in fields:
        return ["markers cut a transcript, and no column is mapped to it @ map.transcript"]
    return []


def to_part(value: str) -> Part:
    """The template, constant or path that `value` spells; raises UsageError where it is none of them."""
    if "{{" in value or "{%" in value:
        return Template(_unescaped_outside_tags(value))
    if value in ("true", "false") or value[:1] in ("[", "{", '"'):
        try:
            return Constant(json.loads(value))
        except ValueError:
            raise UsageError(f"`{value}` is not JSON") from None
    return FieldPath.parse(value)


def unescape(text: str) -> str:
    """The text with `\\n`, `\\r`, `\\t` and `\\\\` as what they stand for, since shells hand them on as they are."""
    return re.sub(r"\\([nrt\\])", lambda found: {"n": "\n", "r": "\r", "t": "\t"}.get(found[1], "\\"), text)


def _unescaped_outside_tags(text: str) -> str:
    parts = re.split(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", text, flags=re.DOTALL)
    return "".join(part if place % 2 else unescape(part) for place, part in enumerate(parts))


def check_columns(mapping: Mapping, columns: abc.Collection[str]) -> None:
    """Refuse a path, a template or `--where` that reads a column the source does not have; raises UnknownName.

    `columns` are those of the source before anything is exploded. After `explode` any column may appear. A name whose
    presence the text itself asks for (`x is defined`) may be missing.
    """
    if mapping.explode is not None:
        _check(mapping.explode, columns)
        return
    for _, part in mapping.fields:
        if isinstance(part, FieldPath):
            _check(part, columns)
        if isinstance(part, Template):
            _check_names(part.text, columns, expression=False)
    if mapping.where is not None:
        _check_names(mapping.where, columns, expression=True)


def _check_names(text: str, columns: abc.Collection[str], *, expression: bool) -> None:
    for name in sorted(names_needed(text, expression=expression)):
        if name not in columns:
            error = UnknownName.of("column", name, [known for known in columns if not known.startswith("#")])
            raise UnknownName(
                f"`{text}` reads the column `{name}`, which no row looked at has",
                hint=f"{error.hint} (or, where only some rows have it, ask first: `{name} is defined`)",
            )


def _check(path: FieldPath, columns: abc.Collection[str]) -> None:
    if path.root is not None and path.root not in columns and path.text not in columns:
        raise UnknownName.of("column", path.root, [name for name in columns if not name.startswith("#")])
