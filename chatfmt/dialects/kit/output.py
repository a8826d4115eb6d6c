"""Build the CONVERSATIONS batch that a dialect returns: its own columns, side columns and kept columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ... import json_columns, schema
from ...errors import DialectError, UsageError, map_rows, refuse_rows
from ...schema import REASONING_FIELDS
from ...turn_columns import (
    contains,
    field,
    fields_of,
    lengths_of,
    offsets_of,
    prepend,
    rows_of_turns,
    struct_of,
    to_bools,
    with_field,
    with_same_type,
)
from .blocks import WRITTEN_PARTS, content_of, text_of
from .columns import (
    SWITCHES,
    Columns,
    SourceRow,
    column_at,
    has_text,
    is_blank,
    json_type,
    records_of,
    refuse,
    used_names,
)
from .literals import read_literal
from .names import BESIDE_TURNS
from .tool_specs import to_specs

OutputRow = Mapping[str, Any]
"""The columns of one conversation as Python values; None means that it lacks the column."""
ConvertRow = Callable[[SourceRow, Columns], "OutputRow | Sequence[OutputRow | Dropped] | None"]
"""Convert a source row to one conversation, to several, or to none; each `Dropped` says what is missing and why."""

DROPPED, UNUSED = b"dropped", b"unused"
"""The keys of the schema metadata with the rows that a dialect left out by policy, and with what it left out of other
rows: a count by reason, as JSON."""


class Dropped(Struct, frozen=True):
    """A part of a row that a dialect leaves out by policy, such as a pair of answers with equal scores."""

    reason: str


_JSON_COLUMNS = ("tools", "documents", "template_kwargs", "segments")


def conversation_batch(
    batch: pa.RecordBatch, columns: Columns, own: Mapping[str, pa.Array], rows: Sequence[int] | None = None
) -> pa.RecordBatch:
    """Return the CONVERSATIONS batch with a dialect's `own` columns.

    Adds `row`, the system turn of a `system` column, `tools`, `documents`, `template_kwargs`, the kept columns, and the
    columns of media as they are in the source.
    `rows` are the source rows in `batch` of the own columns; the default is all rows in order.
    """
    check_watched(batch, columns)
    source = batch if rows is None else batch.take(pa.array(rows, pa.int64()))
    out = dict(own)
    for name, values in side_columns(source, columns).items():
        out.setdefault(name, values)
    system = read_system(source, columns)
    beside = (columns.path("system") or "").lower() in BESIDE_TURNS
    out = out if system is None else with_system(out, system, beside=beside)
    reasoning = read_reasoning(source, columns)
    out = out if reasoning is None else with_reasoning(out, reasoning)
    fields = {"row": source.column(schema.ROW)}
    fields |= {name: out[name] for name in schema.CONVERSATIONS if name in out}
    fields |= media_columns(source, columns)
    fields |= {name: values for name, values in kept_columns(source, columns).items() if name not in fields}
    return pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))


def check_watched(batch: pa.RecordBatch, columns: Columns) -> None:
    """Raise DialectError `col.late` for rows with a value in a watched column, which would be lost."""
    for name in batch.schema.names:
        if (part := columns.watched.get(name)) is not None:
            refuse(is_filled(batch.column(name)), partial(_late_column, name, part))


def _late_column(name: str, part: str, row: int) -> DialectError:
    read = f"--map {part}={name} reads it, " if part in (*schema.MEDIA, "reasoning") else ""
    text = f"column `{name}` is empty in the sample but not here, and could be the {part}"
    return DialectError(text, hint=f"{read}--drop {name} leaves it behind", code="col.late")


def is_filled(values: pa.Array) -> pa.BooleanArray:
    """Return whether each row has a value: text that is not blank, a list or an object that is not empty."""
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), pa.bool_()).fill_null(False)
    if values.type == json_columns.TEXT:
        empty = pa.array(["[]", "{}", "null"], json_columns.TEXT)  # not at import, where it would import pandas
        return pc.and_(has_text(values), pc.invert(pc.is_in(pc.utf8_trim_whitespace(values), empty)))
    if values.type == json_columns.JSON:
        empty = pa.array(["null", "[]", "{}", '""'], json_columns.JSON)
        return pc.and_(values.is_valid(), pc.invert(pc.is_in(values, empty)))
    if pa.types.is_list(values.type):
        return pc.greater(values.value_lengths().fill_null(0), 0)
    return values.is_valid()


def read_system(batch: pa.RecordBatch, columns: Columns) -> pa.Array | None:
    """Return the content of the system turn: text, or JSON where blocks make it several parts; null for blank text."""
    path = columns.path("system")
    values = column_at(batch, path)
    if values is None:
        return None
    if values.type == json_columns.TEXT and not pc.any(pc.match_substring_regex(values, WRITTEN_PARTS)).as_py():
        return pc.if_else(has_text(values), values, pa.scalar(None, json_columns.TEXT))

    def system_in(value: Any) -> Any:
        written = isinstance(value, str) and re.match(WRITTEN_PARTS, value)
        content = content_of(read_literal(value)) if written else content_of(value)
        if content is None and value:
            raise DialectError(f"column `{path}` holds {json_type(value)}, not text or blocks", code="col.type")
        return json_columns.ABSENT if is_blank(content) else content

    return json_columns.encode_values(map_rows(system_in, json_columns.decode_or_none(values)))


def with_system(own: Mapping[str, pa.Array], system: pa.Array, *, beside: bool = False) -> dict[str, pa.Array]:
    """Prepend a system turn to each row that has `system`, unless the row opens with a turn that contains its text.

    That is a turn of the system or developer; with `beside`, of any role: an instruction may repeat the question.
    """
    out = dict(own)
    prompt = own.get("prompt")
    for name in ("messages", "prompt", "chosen", "rejected"):
        if name not in own or not pa.types.is_list(own[name].type):
            continue
        first = _unless_there(system, own[name], beside=beside)
        if name in ("chosen", "rejected") and prompt is not None:
            first = pc.if_else(prompt.is_valid(), pa.scalar(None, first.type), first)
        out[name] = _with_system_turn(own[name], first)
    return out


def _with_system_turn(lists: pa.ListArray, system: pa.Array) -> pa.ListArray:
    rows = pc.and_(lists.is_valid(), system.is_valid())
    contents = system.filter(rows)
    if not len(contents):
        return lists
    roles = pa.array(["system"] * len(contents), json_columns.TEXT)
    return prepend(lists, to_bools(rows), struct_of({"role": roles, "content": contents}))


def _unless_there(system: pa.Array, lists: pa.ListArray, *, beside: bool) -> pa.Array:
    """Return `system` with null in the rows whose first turn has the role for it, or any, and contains it."""
    fields = fields_of(lists.flatten())
    if "content" not in fields:
        return system
    first = first_turns(lists)
    opens = pc.is_in(fields["role"].take(first), pa.array(["system", "developer"]))
    opens = first.is_valid() if beside else opens
    rows = pc.indices_nonzero(pc.and_(opens, system.is_valid()).fill_null(False))
    if not len(rows):
        return system
    asked, said = map(json_columns.decode_or_none, (system.take(rows), fields["content"].take(first.take(rows))))
    pairs = zip(map(text_of, asked), map(_text_beside_media, said), strict=True)
    is_there = (text is not None and text in (content or "") for text, content in pairs)
    there = dict(zip(rows.to_pylist(), is_there, strict=True))
    return pc.if_else(pa.array([there.get(row, False) for row in range(len(system))]), None, system)


def _text_beside_media(content: Any) -> str | None:
    return text_of([part for part in content if part.get("text")] if isinstance(content, list) else content)


def read_reasoning(batch: pa.RecordBatch, columns: Columns) -> pa.StringArray | None:
    """Return what the assistant thinks before its last answer, null where it is blank or a switch; None without it."""
    path = columns.path("reasoning")
    values = column_at(batch, path)
    if values is None:
        return None
    if values.type != json_columns.TEXT:

        def reasoning_in(value: Any) -> str | None:
            text = text_of(value)
            if text is None and value:
                raise DialectError(f"column `{path}` holds {json_type(value)}, not text", code="col.type")
            return text

        values = json_columns.text_array(map_rows(reasoning_in, json_columns.decode_or_none(values)))
    switches = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), pa.array(sorted(SWITCHES)))
    return pc.if_else(switches, pa.scalar(None, json_columns.TEXT), values)


def with_reasoning(own: Mapping[str, pa.Array], reasoning: pa.StringArray) -> dict[str, pa.Array]:
    """Give the last assistant turn of each row its reasoning, unless that turn has it already.

    Raises DialectError `msg.reasoning` for a row without an assistant turn, or whose turn has other reasoning.
    """
    name = next((name for name in ("completion", "messages") if name in own), None)
    if name is None or not reasoning.is_valid().true_count:
        return dict(own)
    turns = own[name].flatten()
    answers = np.flatnonzero(to_bools(pc.equal(field(turns, "role"), "assistant")))
    last = np.full(len(reasoning), -1, np.int64)
    last[rows_of_turns(own[name])[answers]] = answers
    given = to_bools(reasoning.is_valid())
    lost = np.flatnonzero(given & (last < 0)).tolist()
    refuse_rows(lost, lambda row: _reasoning_error("the row has reasoning, but no assistant turn"))
    order = np.full(len(turns), -1, np.int64)
    order[last[given]] = np.flatnonzero(given)
    thought = reasoning.take(json_columns.integers(order, order < 0))
    other: set[int] = set()
    for key in (*REASONING_FIELDS, "content"):
        values = field(turns, key)
        if values.type != json_columns.TEXT:
            continue
        said = contains(values, "</think>") if key == "content" else values.is_valid()
        for turn in pc.indices_nonzero(pc.and_(said, thought.is_valid()).fill_null(False)).to_pylist():
            if thought[turn].as_py() in values[turn].as_py():
                order[turn] = -1
            elif key != "content":
                other.add(int(order[turn]))
    refuse_rows(sorted(other), lambda row: _reasoning_error("the answer has other reasoning of its own"))
    thought = reasoning.take(json_columns.integers(order, order < 0))
    before = field(turns, "reasoning_content")
    if before.null_count < len(before):
        thought = pc.coalesce(*with_same_type(before, thought))
    made = with_field(own[name], "reasoning_content", thought)
    return {**own, name: _with_key_listed(made, "reasoning_content")}


def _with_key_listed(lists: pa.ListArray, name: str) -> pa.ListArray:
    """Return turns with a field named in `#keys` too, where a turn has it."""
    fields = fields_of(lists.flatten())
    if schema.KEYS not in fields:
        return lists
    keys = json_columns.edit_keys(fields[schema.KEYS], lambda keys: dict.fromkeys([*keys, name]))
    return with_field(lists, schema.KEYS, pc.if_else(fields[name].is_valid(), keys, fields[schema.KEYS]))


def _reasoning_error(text: str) -> DialectError:
    return DialectError(text, hint="--dialect-option reasoning=ignore leaves the column", code="msg.reasoning")


def first_turns(lists: pa.ListArray) -> pa.Int64Array:
    """Return the number of each row's first turn among the flattened turns; null for a row without turns."""
    lengths = lengths_of(lists)
    return json_columns.integers(offsets_of(lengths)[:-1], lengths == 0)


def side_columns(batch: pa.RecordBatch, columns: Columns) -> dict[str, pa.Array]:
    """Return the columns `tools`, `documents` and `template_kwargs` as JSON, null where a row has none."""
    found: dict[str, pa.Array] = {}
    if (tools := column_at(batch, columns.path("tools"))) is not None:
        found["tools"] = to_specs(tools)
    for name in ("documents", "template_kwargs"):
        if (values := column_at(batch, columns.path(name))) is not None:
            found[name] = to_json(_read_texts(values))
            _check_side(found[name], name, columns.path(name) or name)
    return found


def media_columns(batch: pa.RecordBatch, columns: Columns) -> dict[str, pa.Array]:
    """Return the columns `images`, `videos` and `audios` that the row's parts name, as they are in the source."""
    found = {part: column_at(batch, columns.path(part)) for part in schema.MEDIA if columns.path(part)}
    return {part: values for part, values in found.items() if values is not None}


def _read_texts(values: pa.Array) -> pa.Array:
    """Return a column of which the texts are read as JSON, empty ones as null."""
    is_json = values.type == json_columns.JSON
    if not (values.type == json_columns.TEXT or (is_json and pc.any(pc.starts_with(values, '"')).as_py())):
        return values
    found = json_columns.decode_or_none(values)
    read = [(read_literal(value) if value.strip() else None) if isinstance(value, str) else value for value in found]
    return json_columns.json_or_null(read)


def _check_side(values: pa.Array, part: str, path: str) -> None:
    """Raise DialectError `col.type` for documents that are not a list, or variables that are not an object."""
    kind, start = {"documents": ("a list", "["), "template_kwargs": ("an object", "{")}[part]
    wrong = pc.invert(pc.starts_with(values, start)).fill_null(False)

    def error(row: int) -> DialectError:
        value = json_columns.loads(values[row].as_py())
        return DialectError(f"column `{path}` holds {json_type(value)}, not {kind}", code="col.type")

    refuse(wrong, error)


def to_json(values: pa.Array) -> pa.Array:
    """Return a column as JSON, null where a row has no value, without the keys that Arrow filled with null."""
    if values.type == json_columns.JSON:
        return pc.if_else(pc.equal(values, "null").fill_null(True), pa.scalar(None, json_columns.JSON), values)
    if not pa.types.is_struct(values.type) and not json_columns.is_turns(values.type):
        return json_columns.to_json(values)
    found = list(map(json_columns.without_nulls, json_columns.decode_or_none(values)))
    return json_columns.json_or_null(map(json_columns.to_plain, found))


def kept_columns(batch: pa.RecordBatch, columns: Columns) -> dict[str, pa.Array]:
    """Return the columns to pass through; with `all`, those that the dialect does not read.

    Raises UsageError for a column with a name that the output needs.
    """
    names = [name for name in batch.schema.names if name not in (schema.ROW, schema.KEYS)]
    if columns.keep == "all":
        used = set(used_names(batch, columns)) - {*columns.also}
        kept = [name for name in names if name not in used and name not in columns.taken]
    else:
        kept = [name for name in columns.keep if name in names]
        for name in kept:
            if name in columns.taken:
                raise name_is_taken(name)
    fields = {kept_name(name): batch.column(name) for name in kept}
    return {**fields, **_kept_keys(batch, kept)}


def kept_name(name: str) -> str:
    """Return the name of a kept column in a CONVERSATIONS batch; `#keys` has it without the prefix."""
    return schema.KEPT + name if name in schema.CONVERSATIONS else name


def name_is_taken(name: str) -> UsageError:
    """Return the error for a kept column whose name the output needs."""
    hint = f"keep it under another name: {rename_flag(name)} --keep source_{name}"
    return UsageError(f"the column `{name}` cannot be kept: the output needs the name", hint=hint)


def rename_flag(name: str) -> str:
    """Return the flag that gives a column another name."""
    return f"--map source_{name}={name}"


def _kept_keys(batch: pa.RecordBatch, kept: Sequence[str]) -> dict[str, pa.Array]:
    """Return `#keys` reduced to the kept columns."""
    if schema.KEYS not in batch.schema.names or not kept:
        return {}
    keys = json_columns.edit_keys(batch.column(schema.KEYS), lambda keys: (key for key in keys if key in kept))
    return {schema.KEYS: keys}


def convert_rows(batch: pa.RecordBatch, columns: Columns, convert: ConvertRow) -> pa.RecordBatch:
    """Convert one source row after another to a CONVERSATIONS batch; errors name the row.

    A value of a type that `convert` does not expect, deep in the records of another program, is such an error too.
    """

    def made_of(record: SourceRow) -> Sequence[OutputRow | Dropped]:
        try:
            found = convert(record, columns)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise DialectError("a value is of another type than the dialect reads", code="col.type") from error
        return [found] if isinstance(found, Mapping) else found or []

    return batch_of_rows(batch, columns, map_rows(made_of, records_of(batch)))


def by_row(convert: ConvertRow) -> Callable[[pa.RecordBatch, Columns], pa.RecordBatch]:
    """Make a dialect of a function that converts one source row; see `convert_rows`."""

    @wraps(convert)
    def convert_batch(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
        return convert_rows(batch, columns, convert)

    return convert_batch


def batch_of_rows(
    batch: pa.RecordBatch, columns: Columns, made: Sequence[Sequence[OutputRow | Dropped]]
) -> pa.RecordBatch:
    """Return the CONVERSATIONS batch of what was made of each row of `batch`, with counts of what was left out."""
    kept = [[item for item in items if not isinstance(item, Dropped)] for items in made]
    rows = [row for row, items in enumerate(kept) for _ in items]
    left = [[item.reason for item in items if isinstance(item, Dropped)] for items in made]
    dropped = Counter(reasons[0] for reasons, items in zip(left, kept, strict=True) if reasons and not items)
    unused = Counter(reason for reasons, items in zip(left, kept, strict=True) if items for reason in reasons)
    return with_dropped(to_batch(batch, columns, [item for items in kept for item in items], rows), dropped, unused)


def to_batch(
    batch: pa.RecordBatch, columns: Columns, found: Sequence[OutputRow], rows: Sequence[int]
) -> pa.RecordBatch:
    """Return the CONVERSATIONS batch of `found`; `rows` are their source rows in `batch`."""
    own = encode_rows(found)
    if not own:
        own = {"messages": json_columns.encode_conversations([None] * len(found))}
    return conversation_batch(batch, columns, own, None if list(rows) == list(range(len(batch))) else rows)


def dropped_rows(batch: pa.RecordBatch) -> Counter[str]:
    """Return how many source rows a dialect left out of a CONVERSATIONS batch by policy, by reason."""
    return _counts(batch, DROPPED)


def unused_parts(batch: pa.RecordBatch) -> Counter[str]:
    """Return how much a dialect left out of the rows of a CONVERSATIONS batch by policy, by reason."""
    return _counts(batch, UNUSED)


def _counts(batch: pa.RecordBatch, key: bytes) -> Counter[str]:
    text = (batch.schema.metadata or {}).get(key)
    return Counter() if text is None else Counter(json_columns.loads(text.decode()))


def with_dropped(batch: pa.RecordBatch, dropped: Mapping[str, int], unused: Mapping[str, int]) -> pa.RecordBatch:
    """Return a CONVERSATIONS batch with the number of source rows, and of parts of others, that a dialect left out."""
    counts = {DROPPED: dropped, UNUSED: unused}
    found = {key: json_columns.dumps(dict(reasons)) for key, reasons in counts.items() if reasons}
    return batch.replace_schema_metadata(found) if found else batch


def encode_rows(rows: Sequence[OutputRow]) -> dict[str, pa.Array]:
    """Encode conversations as columns."""
    names = [name for name in schema.CONVERSATIONS[1:] if any(row.get(name) is not None for row in rows)]
    return {name: _encode(name, [row.get(name) for row in rows]) for name in names}


def _encode(name: str, values: list[Any]) -> pa.Array:
    if name in schema.CONVERSATION_COLUMNS:
        return json_columns.encode_conversations(values)
    if name in _JSON_COLUMNS:
        return json_columns.json_or_null(values)
    types = {
        "label": pa.bool_(),
        "text": json_columns.TEXT,
        "completions": pa.list_(json_columns.TEXT),
        "labels": pa.list_(pa.bool_()),
    }
    return pa.array(values, types[name])
