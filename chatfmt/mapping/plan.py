"""Parse and check `--map`, `--marker`, `--explode` and `--where` into one FieldMapping."""

from __future__ import annotations

import json
import re
from collections import abc
from typing import Any

from jinja2.defaults import DEFAULT_FILTERS
from msgspec import Struct

from ..errors import RecipeError, UnknownName, UsageError, nearest
from ..field_path import FieldPath, Step
from ..schema import MEDIA
from .names import names_needed, reads_nothing, steps_read

TURN_FIELDS = ("system", "developer", "user", "assistant", "tool")
"""The fields that parallel lists may fill, one per role."""
PREAMBLE = "^"
"""The marker for the start of a transcript: its role is that of the text before the first marker."""


class Constant(Struct, frozen=True):
    """The same value in every row: text, a boolean, or a JSON list or object."""

    value: Any


class TextTemplate(Struct, frozen=True):
    """Text that a Jinja template builds from the row."""

    text: str


FieldSource = FieldPath | Constant | TextTemplate


class FieldMapping(Struct, frozen=True):
    """The fields to fill from a source, and how to select its rows.

    Each of `fields` becomes a column, in the order of the flags; `keys` (such as `messages.role`) rename keys inside
    turns and calls, and are passed to the dialect; `markers` split the field `transcript` into turns.
    """

    fields: tuple[tuple[str, FieldSource], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    markers: tuple[tuple[str, str], ...] = ()
    explode: FieldPath | None = None
    where: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether batches stay unchanged."""
        return not (self.fields or self.explode or self.where)

    @property
    def zipped(self) -> tuple[tuple[str, FieldPath], ...]:
        """The fields filled from parallel lists, which together become `messages`."""
        return tuple((n, p) for n, p in self.fields if n in TURN_FIELDS and isinstance(p, FieldPath) and p.is_many)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the mapping makes for the dialect."""
        zipped = [name for name, _ in self.zipped]
        names = ["messages" if name == "transcript" or name in zipped else name for name, _ in self.fields]
        return tuple(dict.fromkeys(names))

    @property
    def text_templates(self) -> list[str]:
        """The templates that make a text of a row."""
        return [part.text for _, part in self.fields if isinstance(part, TextTemplate)]

    @property
    def roots(self) -> tuple[str, ...]:
        """The source columns that paths read; a column may itself be named `a.b`."""
        paths = [part for _, part in self.fields if isinstance(part, FieldPath)]
        names = [name for path in paths for name in (path.root, path.text if "." in path.text else None)]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def needs(self) -> set[str]:
        """The columns that a path, a template or an expression reads without testing whether they exist."""
        if self.explode is not None:  # whose rows have other columns
            return {self.explode.root} if self.explode.root is not None else set()
        needed = [names_needed(text, expression=False) for text in self.text_templates]
        asked = names_needed(self.where, expression=True) if self.where else set[str]()
        return set(self.roots).union(asked, *needed)

    @property
    def steps(self) -> list[tuple[Step, ...]]:
        """The steps to each value that a path or a template reads, which may be an item of a list."""
        paths = [part.steps for _, part in self.fields if isinstance(part, FieldPath)]
        return paths + [steps for text in self.text_templates for steps in steps_read(text)]

    @property
    def spoken(self) -> set[str]:
        """The columns that a path or a template puts into the text of a turn."""
        parts = [part for name, part in self.fields if name in (*TURN_FIELDS, "prompt", "completion")]
        paths = {part.text for part in parts if isinstance(part, FieldPath)}
        texts = [part.text for part in parts if isinstance(part, TextTemplate)]
        return paths.union(str(steps[0]) for text in texts for steps in steps_read(text))

    def reads(self, names: abc.Sequence[str]) -> tuple[str, ...]:
        """Return those of the source columns `names` that a path, a template or an expression reads."""
        tags = [
            tag for text in self.text_templates for tag in re.findall(r"\{\{.*?\}\}|\{%.*?%\}", text, flags=re.DOTALL)
        ]
        words = set(re.findall(r"""(?<=\[["'])[^"']*(?=["']\])|\w+""", " ".join([*tags, self.where or ""])))
        exploded = {self.explode.root} if self.explode is not None else set()
        return tuple(name for name in names if name in words or name in self.roots or name in exploded)


def plan(
    fields: abc.Mapping[str, str],
    *,
    markers: abc.Mapping[str, str] | None = None,
    explode: str | None = None,
    where: str | None = None,
) -> FieldMapping:
    """Parse the flags of a mapping; raises RecipeError with all problems, each as `text @ key`, or UsageError.

    A value with `{{` or `{%` is a template, in which `\\n`, `\\t` and `\\\\` outside tags are escapes; JSON text in
    quotes, `true`, `false`, JSON lists and JSON objects are constants; anything else is a path.
    """
    problems: list[str] = []
    found: list[tuple[str, FieldSource]] = []
    for name, value in fields.items():
        if "." in name:
            continue
        try:
            found.append((name, to_field_source(value)))
        except UsageError as error:
            problems.append(f"{error.message} @ map.{name}")
    if where and reads_nothing(where):
        quoted = re.fullmatch(r"""\s*(["'])(.*)\1\s*""", where, re.DOTALL)
        hint = f"without the inner quotes: `{quoted[2]}`" if quoted else "name a column, as in `score > 3`"
        raise UsageError(f"`--where {where}` names no column, so it keeps all rows or none", hint=hint)
    cuts = tuple((unescape(marker), role) for marker, role in (markers or {}).items())
    problems += _transcript_problems(fields, cuts)
    if problems:
        raise RecipeError("; ".join(problems), hint="--map transcript=COLUMN --marker 'Human:=user'" if cuts else "")
    keys = tuple((name, value) for name, value in fields.items() if "." in name)
    return FieldMapping(tuple(found), keys, cuts, FieldPath.parse(explode) if explode else None, where)


def _transcript_problems(fields: abc.Mapping[str, str], cuts: tuple[tuple[str, str], ...]) -> list[str]:
    if "transcript" in fields and not cuts:
        return ["a transcript needs a marker for each role @ marker"]
    if cuts and "transcript" not in fields:
        return ["markers cut a transcript, and no column is mapped to it @ map.transcript"]
    return []


def to_field_source(value: str) -> FieldSource:
    """Parse a template, a constant or a path; raises UsageError if `value` is invalid."""
    if "{{" in value or "{%" in value:
        return TextTemplate(_unescaped_outside_tags(value))
    if value in ("true", "false") or value[:1] in ("[", "{", '"'):
        try:
            return Constant(json.loads(value))
        except ValueError:
            raise UsageError(f"`{value}` is not JSON") from None
    return FieldPath.parse(value)


def unescape(text: str) -> str:
    """Replace the escapes `\\n`, `\\r`, `\\t` and `\\\\`, which shells pass on unchanged."""
    return re.sub(r"\\([nrt\\])", lambda found: {"n": "\n", "r": "\r", "t": "\t"}.get(found[1], "\\"), text)


def _unescaped_outside_tags(text: str) -> str:
    parts = re.split(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", text, flags=re.DOTALL)
    return "".join(part if index % 2 else unescape(part) for index, part in enumerate(parts))


def check_columns(mapping: FieldMapping, columns: abc.Collection[str]) -> None:
    """Raise UnknownName if a path, a template or `--where` reads a column that the source lacks.

    `columns` are those of the source; after `--explode` any column may appear, so only its path is checked. A name may
    be missing if the text tests for it (`x is defined`), and one of media by its own name: later rows may have it.
    """
    if mapping.explode is not None:
        _check(mapping.explode, columns)
        return
    for name, part in mapping.fields:
        if isinstance(part, FieldPath) and not (name in MEDIA and part.text in (name, MEDIA[name])):
            _check(part, columns)
        if isinstance(part, TextTemplate):
            _check_names(part.text, columns, expression=False)
    if mapping.where is not None:
        _check_names(mapping.where, columns, expression=True)


def _check_names(text: str, columns: abc.Collection[str], *, expression: bool) -> None:
    for name in sorted(names_needed(text, expression=expression)):
        if name not in columns:
            if call := re.search(rf"(?<![\w.]){name}\((\w*)", text):
                close = _FILTERS.get(name) or [*nearest(name, DEFAULT_FILTERS), name][0]
                hint = f"a filter may do it: `{call[1] or 'column'}|{close}`"
                raise UsageError(f"`{text}`: Jinja has no function `{name}`", hint=hint)
            error = UnknownName.of("column", name, [known for known in columns if not known.startswith("#")])
            raise UnknownName(
                f"`{text}` reads the column `{name}`, which is not in any sampled row",
                hint=f"{error.hint} (or, if only some rows have it, test for it first: `{name} is defined`)",
            )


_FILTERS = {"len": "length", "str": "string"}
"""Names of functions of Python whose filters have other names."""


def _check(path: FieldPath, columns: abc.Collection[str]) -> None:
    if path.root is not None and path.root not in columns and path.text not in columns:
        raise UnknownName.of("column", path.root, [name for name in columns if not name.startswith("#")])
