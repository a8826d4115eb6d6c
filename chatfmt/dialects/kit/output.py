"""Build the CONVERSATIONS batch that a dialect returns: its own columns, side columns and kept columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns, schema
from ...errors import DialectError, Location, UsageError, located
from ...turn_columns import fields_of, lengths_of, offsets_of, prepend, struct_of, to_bools
from .columns import Columns, SourceRow, column_at, has_text, index_of_true, read_optional_text, records_of, used_names
from .tool_specs import to_specs

OutputRow = Mapping[str, Any]
"""The columns of one conversation as Python values; None means that it lacks the column."""
ConvertRow = Callable[[SourceRow, Columns], OutputRow | Sequence[OutputRow] | None]
"""Convert a source row to one conversation, to several, or to none (a tie)."""

_JSON_COLUMNS = ("tools", "documents", "template_kwargs", "segments")


def conversation_batch(
    batch: pa.RecordBatch, columns: Columns, own: Mapping[str, pa.Array], rows: Sequence[int] | None = None
) -> pa.RecordBatch:
    """Return the CONVERSATIONS batch with a dialect's `own` columns.

    Adds `row`, the system turn of a `system` column, `tools`, `documents`, `template_kwargs` and the kept columns.
    `rows` are the source rows in `batch` of the own columns; the default is all rows in order.
    """
    check_watched(batch, columns)
    source = batch if rows is None else batch.take(pa.array(rows, pa.int64()))
    out = dict(own)
    for name, values in side_columns(source, columns).items():
        out.setdefault(name, values)
    system = read_optional_text(source, columns, "system")
    out = out if system is None else with_system(out, system)
    fields = {"row": source.column(schema.ROW)}
    fields |= {name: out[name] for name in schema.CONVERSATIONS if name in out}
    fields |= kept_columns(source, columns)
    return pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))


def check_watched(batch: pa.RecordBatch, columns: Columns) -> None:
    """Raise DialectError `col.late` for the first row with a value in a watched column, which would be lost."""
    for name in batch.schema.names:
        part = columns.watched.get(name)
        filled = is_filled(batch.column(name)) if part is not None else None
        if filled is not None and pc.any(filled).as_py():
            raise DialectError(
                f"column `{name}` is empty in the sample but not here, and could be the {part}",
                hint="--dialect-option late=ignore drops it",
                at=Location(row=index_of_true(filled)),
                code="col.late",
            )


_EMPTY_JSON = pa.array(["null", "[]", "{}", '""'], json_columns.JSON)


def is_filled(values: pa.Array) -> pa.BooleanArray:
    """Return whether each row has a value: text that is not blank, a list or an object that is not empty."""
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), pa.bool_()).fill_null(False)
    if values.type == json_columns.TEXT:
        return pc.and_(has_text(values), pc.invert(pc.is_in(pc.utf8_trim_whitespace(values), _EMPTY_TEXTS)))
    if values.type == json_columns.JSON:
        return pc.and_(values.is_valid(), pc.invert(pc.is_in(values, _EMPTY_JSON)))
    if pa.types.is_list(values.type):
        return pc.greater(values.value_lengths().fill_null(0), 0)
    return values.is_valid()


_EMPTY_TEXTS = pa.array(["[]", "{}", "null"], json_columns.TEXT)


def with_system(own: Mapping[str, pa.Array], system: pa.StringArray) -> dict[str, pa.Array]:
    """Prepend a system turn to each row whose `system` is not blank, unless the row begins with the same turn."""
    system = pc.if_else(has_text(system), system, pa.scalar(None, json_columns.TEXT))
    out = dict(own)
    prompt = own.get("prompt")
    for name in ("messages", "prompt", "chosen", "rejected"):
        if name not in own or not pa.types.is_list(own[name].type):
            continue
        first = _unless_same(system, own[name])
        if name in ("chosen", "rejected") and prompt is not None:
            first = pc.if_else(prompt.is_valid(), pa.scalar(None, json_columns.TEXT), first)
        out[name] = _with_system_turn(own[name], first)
    return out


def _with_system_turn(lists: pa.ListArray, system: pa.StringArray) -> pa.ListArray:
    rows = pc.and_(lists.is_valid(), system.is_valid())
    contents = system.filter(rows)
    if not len(contents):
        return lists
    roles = pa.array(["system"] * len(contents), json_columns.TEXT)
    return prepend(lists, to_bools(rows), struct_of({"role": roles, "content": contents}))


def _unless_same(system: pa.StringArray, lists: pa.ListArray) -> pa.StringArray:
    fields = fields_of(lists.flatten())
    if "content" not in fields or fields["content"].type != json_columns.TEXT:
        return system
    index = first_turns(lists)
    same = pc.and_(pc.equal(fields["role"].take(index), "system"), pc.equal(fields["content"].take(index), system))
    return pc.if_else(same.fill_null(False), pa.scalar(None, json_columns.TEXT), system)


def first_turns(lists: pa.ListArray) -> pa.Int64Array:
    """Return the number of each row's first turn among the flattened turns; null for a row without turns."""
    lengths = lengths_of(lists)
    return pa.array(offsets_of(lengths)[:-1], mask=lengths == 0)


def side_columns(batch: pa.RecordBatch, columns: Columns) -> dict[str, pa.Array]:
    """Return the columns `tools`, `documents` and `template_kwargs` as JSON, null where a row has none."""
    found: dict[str, pa.Array] = {}
    if (tools := column_at(batch, columns.path("tools"))) is not None:
        found["tools"] = to_specs(tools)
    for name in ("documents", "template_kwargs"):
        if (values := column_at(batch, columns.path(name))) is not None:
            found[name] = to_json(values)
    return found


def to_json(values: pa.Array) -> pa.Array:
    """Return a column as JSON, null where a row has no value, without the keys that Arrow filled with null."""
    if values.type == json_columns.JSON:
        return pc.if_else(pc.equal(values, "null").fill_null(True), pa.scalar(None, json_columns.JSON), values)
    if not pa.types.is_struct(values.type) and not json_columns.is_turns(values.type):
        return json_columns.to_json(values)
    found = [
        None if value is json_columns.ABSENT else json_columns.without_nulls(value)
        for value in json_columns.decode_values(values)
    ]
    return json_columns.json_array(map(json_columns.to_plain, found), [value is not None for value in found])


def kept_columns(batch: pa.RecordBatch, columns: Columns) -> dict[str, pa.Array]:
    """Return the columns to pass through; with `all`, those that the dialect does not read.

    Raises UsageError for a column with a name that the output needs.
    """
    names = [name for name in batch.schema.names if name not in (schema.ROW, schema.KEYS)]
    if columns.keep == "all":
        used = set(used_names(batch, columns))
        kept = [name for name in names if name not in used and name not in schema.CONVERSATIONS]
    else:
        kept = [name for name in columns.keep if name in names]
        for name in kept:
            if name in schema.CONVERSATIONS:
                raise UsageError(
                    f"the column `{name}` cannot be kept: the output needs the name",
                    hint=f"keep it under another name: --map source_{name}={name} --keep source_{name}",
                )
    fields = {name: batch.column(name) for name in kept}
    return {**fields, **_kept_keys(batch, kept)}


def _kept_keys(batch: pa.RecordBatch, kept: Sequence[str]) -> dict[str, pa.Array]:
    """Return `#keys` reduced to the kept columns."""
    if schema.KEYS not in batch.schema.names or not kept:
        return {}
    texts = [
        None if text is None else json_columns.dumps([key for key in json_columns.loads(text) if key in kept])
        for text in batch.column(schema.KEYS).to_pylist()
    ]
    return {schema.KEYS: pa.array(texts, json_columns.TEXT)}


def convert_rows(batch: pa.RecordBatch, columns: Columns, convert: ConvertRow) -> pa.RecordBatch:
    """Convert one source row after another to a CONVERSATIONS batch; errors name the row."""
    found: list[OutputRow] = []
    rows: list[int] = []
    for row, record in enumerate(records_of(batch)):
        with located(row=row):
            made = convert(record, columns)
        made = [made] if isinstance(made, Mapping) else made or []
        found += made
        rows += [row] * len(made)
    return to_batch(batch, columns, found, rows)


def to_batch(
    batch: pa.RecordBatch, columns: Columns, found: Sequence[OutputRow], rows: Sequence[int]
) -> pa.RecordBatch:
    """Return the CONVERSATIONS batch of `found`; `rows` are their source rows in `batch`."""
    own = encode_rows(found)
    if not own:
        own = {"messages": json_columns.encode_conversations([None] * len(found))}
    return conversation_batch(batch, columns, own, None if list(rows) == list(range(len(batch))) else rows)


def encode_rows(rows: Sequence[OutputRow]) -> dict[str, pa.Array]:
    """Encode conversations as columns."""
    names = [name for name in schema.CONVERSATIONS[1:] if any(row.get(name) is not None for row in rows)]
    return {name: _encode(name, [row.get(name) for row in rows]) for name in names}


def _encode(name: str, values: list[Any]) -> pa.Array:
    if name in schema.CONVERSATION_COLUMNS:
        return json_columns.encode_conversations(values)
    if name in _JSON_COLUMNS:
        return json_columns.json_array(values, [value is not None for value in values])
    types = {
        "label": pa.bool_(),
        "text": json_columns.TEXT,
        "completions": pa.list_(json_columns.TEXT),
        "labels": pa.list_(pa.bool_()),
    }
    return pa.array(values, types[name])
