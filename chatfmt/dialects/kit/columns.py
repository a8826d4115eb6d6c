"""The parts of a conversation, the columns that hold them, and how to read a part from a batch or from one row.

A *part* is a field of the output or of a dialect: `messages`, `prompt`, `completion`, `system`, `label`, … It is what
`--map PART=COLUMN` names.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field
from msgspec.structs import replace

from ... import json_columns, schema
from ...errors import DialectError, Location, NoDialect, RowError, UsageError, first_of, map_rows, refuse_rows
from ...field_path import expression_for, path_of, top_level, value_at
from ...schema import SourceRow as SourceRow
from .blocks import content_of, text_of
from .labels import label_of
from .literals import are_texts, read_literal, read_objects
from .media import find_media
from .names import DOCUMENTS, LABELS, MEDIA_COLUMNS, MEDIA_LIKE, REASONING, SYSTEM, TEMPLATE_KWARGS, TOOLS

SIDE_PARTS = frozenset({"system", "tools", "template_kwargs", "documents", "reasoning", *schema.MEDIA})
"""Parts that every dialect reads in addition to its own; `reasoning` belongs to an answer, so only those with one."""

SKIP_HINT = "--on-error skip drops such rows; add --dialect mixed to read those whose text is in other columns"
"""The hint for a row without a value that the other rows have."""
SKIP_LABELS = "--on-error skip leaves such rows out; --label \"rating == 'good'\" decides by an expression"
"""The hint for a row whose label is another word."""
OPTIONS = (
    "format", "join", "label", "margin", "mc_answer", "mc_base", "pairs", "paths", "prefer", "prompt",
    "ranked", "reasoning", "ties", "unanswerable",
)  # fmt: skip
"""The options of all dialects; `Columns.option` reads them."""
TURN_KEYS = ("messages.role", "messages.content", "messages.reasoning", "messages.tool_calls")
"""Keys inside turns, which may be paths."""
INNER_KEYS = (*TURN_KEYS, "messages.user", "messages.assistant", "tool_calls.name", "tool_calls.arguments")
"""Keys inside turns and calls that `--map` can name."""
ALIASES = {"user": "prompt", "assistant": "completion", "chat_template_kwargs": "template_kwargs"}
"""Alternative names of parts."""


class Columns(Struct, frozen=True):
    """The column of each part, and the other settings of a dialect; plain data that can be pickled.

    `fields` maps a part to a column or to a path into one (`a.b[0].c`), and `messages.role`, `messages.content`,
    `tool_calls.name`, … to the key inside each turn or call. `roles` maps role names of the dataset to roles,
    `turn_roles` are the roles of turns that have none, repeated in order. `options` are the options of the dialect.
    `keep` names the columns to pass through; `also` those to pass through beside `all` unused ones. `late` maps parts
    that are missing in the sample to the columns that later rows may fill; `watched` maps further columns that are
    empty in the sample to the part that each could be. `type` is the dataset type that the rows of a mixed dataset must
    have. `taken` are the names of the output's own columns, which no kept column can have.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    turn_roles: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[str, ...] | Literal["all"] = ()
    also: tuple[str, ...] = ()
    late: Mapping[str, str] = field(default_factory=dict)
    watched: Mapping[str, str] = field(default_factory=dict)
    type: str = ""
    taken: tuple[str, ...] = schema.CONVERSATIONS

    def path(self, part: str) -> str | None:
        """Return the column or path of `part`, None if it has none; aliases count."""
        if part in self.fields:
            return self.fields[part]
        if not self.fields:  # the usual case in detection, which asks for every part of every row
            return self.late.get(part)
        aliases = (name for name, real in ALIASES.items() if real == part and name in self.fields)
        return next((self.fields[name] for name in aliases), self.late.get(part))

    def paths(self, part: str, usual: Sequence[str]) -> Sequence[str]:
        """Return the column or path of `part` alone, or those where it usually is if it has none."""
        path = self.path(part)
        return usual if path is None else (path,)

    def parts(self) -> frozenset[str]:
        """Return the mapped parts, without the keys inside turns."""
        return frozenset(ALIASES.get(name, name) for name in self.fields if "." not in name)

    def adding(self, found: Mapping[str, str]) -> Columns:
        """Return these columns with those that were `found` for parts without a column."""
        return replace(self, fields={**found, **self.fields})

    def option(self, name: str, default: str, *choices: str) -> str:
        """Return an option as text, or its default; raises UsageError for a value that is not one of `choices`."""
        value = str(self.options.get(name, default))
        if choices and value not in choices:
            allowed = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise UsageError(
                f"the dialect option `{name}` must be {allowed}, not `{value}`",
                hint=f"--dialect-option {name}={default}",
            )
        return value

    def number(self, name: str) -> float:
        """Return an option as a number, 0 without one; raises UsageError for any other value."""
        try:
            return float(self.options.get(name, 0))
        except (TypeError, ValueError):
            raise UsageError(
                f"the dialect option `{name}` must be a number, not `{self.options[name]}`",
                hint=f"--dialect-option {name}=1",
            ) from None


def find_text(record: SourceRow, names: Sequence[str], columns: Columns, part: str) -> str | None:
    """Return the column of `part` if it holds text: the mapped one, else the first of `names`, preferably not blank.

    Columns that match `names` exactly go before those that match without regard to case.
    """
    mapped = columns.path(part)
    if mapped is not None:
        return mapped if isinstance(value_at(record, mapped), str) else None
    texts = text_columns(record, names)
    return next((name for name in texts if record[name].strip()), texts[0] if texts else None)


def text_columns(record: SourceRow, names: Sequence[str]) -> list[str]:
    """Return the columns called one of `names` that hold text, in the order of `names`."""
    return [name for name in columns_named(record, names) if isinstance(record[name], str)]


def ambiguous_part(names: Sequence[str], part: str) -> NoDialect:
    """Return the error for several columns that could be the same part."""
    either = " or ".join(f"`{name}`" for name in names)
    choices = " or ".join(f"--map {part}={shlex.quote(name)}" for name in names)
    return NoDialect(f"ambiguous {part}: column {either}", hint=f"choose with {choices}")


def find_value(record: SourceRow, names: Sequence[str], columns: Columns, part: str) -> str | None:
    """Return the column of `part` if it has a value: the mapped one, else the first of `names`, whatever their case."""
    candidates = columns.paths(part, columns_named(record, names))
    return next((name for name in candidates if value_at(record, name) is not None), None)


def find_label(record: SourceRow, columns: Columns) -> str | None:
    """Return the column of the `label` (whether the answer is good) if it holds one (see `label_of`).

    With the option `label` set to `ignore`, only a mapped one.
    """
    if columns.path("label") is None and columns.option("label", "read", "read", "ignore") == "ignore":
        return None
    path = find_value(record, LABELS, columns, "label")
    return path if path is not None and label_of(value_at(record, path)) is not None else None


def find_side_parts(record: SourceRow, columns: Columns) -> dict[str, str]:
    """Return the columns of the SIDE_PARTS that this row has."""
    if not columns.fields and not columns.late and not columns_named(record, _SIDE_NAMES):
        return {}
    found: dict[str, str] = {}
    for part, (names, fits) in _SIDES.items():
        mapped = columns.path(part)
        candidates = columns_named(record, names) if mapped is None else (mapped,)
        fitting = [name for name in candidates if fits(value_at(record, name))]
        if mapped is None and part == "system":
            fitting = [name for name in fitting if name.lower() != "developer" or _is_told(record[name])]
        if fitting:
            found[part] = next((name for name in fitting if not is_blank(value_at(record, name))), fitting[0])
    media = {part: columns.path(part) or find_media(record, part) for part in schema.MEDIA}
    return {**found, **{part: path for part, path in media.items() if path is not None}}


def _is_told(value: Any) -> bool:
    """Return whether a `developer` tells a model what to do, and is not the name of a person or a company."""
    text = text_of(value) or ""
    return len(text.split()) > 3 or text.rstrip().endswith((".", "!", "?", ":"))


def is_blank(value: Any) -> bool:
    """Return whether a value is text of white space alone, or empty."""
    return not value.strip() if isinstance(value, str) else not value


def find_answer_sides(record: SourceRow, columns: Columns) -> dict[str, str]:
    """Return the columns of the SIDE_PARTS of a row with one answer, also of what the assistant thinks before it."""
    found = find_side_parts(record, columns)
    mapped = columns.path("reasoning")
    if mapped is None and columns.option("reasoning", "read", "read", "ignore") == "ignore":
        return found
    names = columns_named(record, REASONING) if mapped is None else (mapped,)
    path = next((name for name in names if is_reasoning(value_at(record, name))), None)
    return found if path is None else {**found, "reasoning": path}


def columns_named(record: SourceRow, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns called one of `names`, in their order; if there is none, those that differ in case only."""
    return _named(tuple(record), tuple(names))


@lru_cache(maxsize=4096)
def _named(columns: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    exact = tuple(name for name in names if name in columns)
    if exact:
        return exact
    lower = {column.lower(): column for column in reversed(columns)}
    return tuple(lower[name] for name in names if name in lower)


def _is_list(value: Any) -> bool:
    value = read_literal(value)
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_object(value: Any) -> bool:
    return isinstance(read_literal(value), dict)


def _are_tools(value: Any) -> bool:
    """Return whether a value could be tool specifications; a column `tools` may hold something else."""
    value = read_objects(value)
    return isinstance(value, (list, dict))


def is_reasoning(value: Any) -> bool:
    """Return whether a value could be what an assistant thinks, not a switch such as `on` or `high`."""
    text = text_of(value)
    return text is not None and text.strip().lower() not in SWITCHES


SWITCHES = frozenset({
    "", "on", "off", "true", "false", "yes", "no", "none", "auto", "low", "medium", "high", "minimal", "default",
    "no_think", "enabled", "disabled", "0", "1",
})  # fmt: skip
_SIDES: dict[str, tuple[tuple[str, ...], Callable[[Any], bool]]] = {
    "system": (SYSTEM, lambda value: content_of(value) is not None),
    "tools": (TOOLS, _are_tools),
    "template_kwargs": (TEMPLATE_KWARGS, _is_object),
    "documents": (DOCUMENTS, _is_list),
}
_SIDE_NAMES = tuple(
    name
    for names in (*(names for names, _ in _SIDES.values()), *MEDIA_COLUMNS.values(), *MEDIA_LIKE.values())
    for name in names
)


def column_at(batch: pa.RecordBatch, path: str | None) -> pa.Array | None:
    """Return the column at a path, null where a row has nothing there; None if the batch lacks the column."""
    if path is None or path in batch.schema.names:
        return None if path is None else _unless_null(batch.column(path))
    parsed = path_of(path)
    if parsed is None or parsed.root not in batch.schema.names:
        return None
    return _unless_null(parsed.column(batch))


def _unless_null(values: pa.Array) -> pa.Array | None:
    return None if pa.types.is_null(values.type) else json_columns.text_of_binary(values)


def read_text(batch: pa.RecordBatch, columns: Columns, part: str) -> pa.StringArray:
    """Return the text of a part that every row must have.

    Raises DialectError `col.missing`, `col.null` or `col.type` for the first row without it.
    """
    path = columns.path(part)
    values = read_optional_text(batch, columns, part)
    if values is None:
        text = f"no column for `{part}`" if path is None else f"column `{path}` is missing"
        raise missing_column(batch, text, hint=f"map it with --map {part}=COLUMN")
    refuse_nulls(values, path)
    return values


def read_optional_text(batch: pa.RecordBatch, columns: Columns, part: str) -> pa.StringArray | None:
    """Return the text of a part, null where a row has none; None if no row has it. Raises DialectError `col.type`."""
    values = column_at(batch, columns.path(part))
    return None if values is None else to_text(values, columns.path(part) or part, part)


_NOT_SPACE = r"[^\p{Z}\x09-\x0d\x1c-\x20\x{85}]"


def has_text(values: pa.StringArray) -> pa.BooleanArray:
    """Return whether each text has a character that `str.strip` would keep; false for null."""
    return pc.match_substring_regex(values, _NOT_SPACE).fill_null(False)


def joined_texts(name: str) -> str:
    """Return the template for `--map` that joins the texts in a column of lists, with a blank line between them."""
    return f'{{{{ {expression_for(name, (name,))} | join("\\n\\n") }}}}'


def to_text(values: pa.Array, name: str, part: str) -> pa.StringArray:
    """Return a column as text; JSON must hold strings and nulls only. Raises DialectError `col.type`."""
    if values.type == json_columns.TEXT:
        return values

    def text_in(value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bytes) and (text := json_columns.text_of_bytes(value)) is not None:
            return text
        hint = f"map a column of text with --map {part}=COLUMN"
        if isinstance(value, (int, float)):
            hint = f"write it as text with --map {part}='{{{{ {name} }}}}'"
        elif are_texts(value):
            hint = f"join its texts with --map {part}={shlex.quote(joined_texts('COLUMN' if name == part else name))}"
        raise DialectError(f"column `{name}` holds {json_type(value)}, not text", hint=hint, code="col.type")

    return pa.array(map_rows(text_in, json_columns.decode_or_none(values)), json_columns.TEXT)


def read_bools(batch: pa.RecordBatch, columns: Columns, part: str) -> pa.BooleanArray:
    """Return the labels of a part that every row must have (see `label_of`); raises as `read_text` does."""
    path = columns.path(part)
    values = column_at(batch, path)
    if values is None:
        raise missing_column(batch, f"column `{path or part}` is missing")
    if pa.types.is_boolean(values.type) and not values.null_count:
        return values

    def label_in(value: Any) -> bool:
        if value is None:
            raise DialectError(f"column `{path}` has no value", hint=SKIP_HINT, code="col.null")
        if (label := label_of(value)) is None:
            shown = f"`{value}`" if isinstance(value, (str, int, float)) else json_type(value)
            raise DialectError(
                f"column `{path}` holds {shown}, which is not good or bad",
                hint=SKIP_LABELS if isinstance(value, str) else f"--label '{path} >= 4' decides by an expression",
                code="col.type",
            )
        return label

    return pa.array(map_rows(label_in, json_columns.decode_or_none(values)), pa.bool_())


def json_type(value: Any) -> str:
    """Return the JSON type of a value, with an article."""
    types = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else types.get(type(value), type(value).__name__)


def refuse(flags: pa.Array, error: Callable[[int], DialectError]) -> None:
    """Raise the errors of all rows whose flag is true; `error` makes that of a row."""
    refuse_rows(pc.indices_nonzero(flags).to_pylist(), error)


def refuse_nulls(values: pa.Array, path: str | None) -> None:
    """Raise DialectError `col.null` for the rows in which the column at a path is null."""
    text = f"column `{path}` has no value"
    refuse(values.is_null(), lambda row: DialectError(text, hint=SKIP_HINT, code="col.null"))


def missing_column(batch: pa.RecordBatch, message: str, hint: str = "") -> RowError:
    """Return the error `col.missing` of a batch without a column: that of each of its rows."""
    rows = (Location(row=row) for row in range(len(batch)))
    return first_of([DialectError(message, hint=hint, at=at, code="col.missing") for at in rows])


def records_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows as Python values, without the row number."""
    fields = {
        name: json_columns.text_of_binary(batch.column(name)) for name in batch.schema.names if name != schema.ROW
    }
    records = json_columns.decode_objects(fields) if fields else [{} for _ in range(batch.num_rows)]
    for name in (name for name, values in fields.items() if json_columns.is_binary(values.type)):
        for record in records:
            if isinstance(value := record.get(name), bytes):
                record[name] = value if (text := json_columns.text_of_bytes(value)) is None else text
    return records


def used_names(batch: pa.RecordBatch, columns: Columns) -> Iterator[str]:
    """Yield the top-level columns of the batch that hold parts."""
    names = batch.schema.names
    for part, path in {**columns.late, **columns.fields}.items():
        if "." not in part and (name := top_level(path, names)) in names:
            yield name
