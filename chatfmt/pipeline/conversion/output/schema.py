"""The one schema of an output, merged from the types of every batch; see `features` for what `datasets` makes of it.

Text stays text, and no value is changed to fit. A JSON column becomes a column of integers, floating-point numbers,
booleans, lists or structs if all of its values are such, objects with the same keys in the same order; otherwise it
stays JSON. The turns of a view get the keys that any of them has. If a key of turns holds text in some and another
value in others (content with and without parts), all turns become JSON objects, so that text need not be encoded as
JSON.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ....features import is_only_json, list_of, loadable_decimal, media, with_feature
from ....json_columns import JSON, MEDIUM, TEXT, columns_of, decode_objects, dumps, is_turns, json_array, json_values
from ....manifest import Shard
from ....media import by_value
from ....schema import CONVERSATION_COLUMNS, KEYS, MEDIA
from ....turn_columns import fields_of, lengths_of, struct_of, to_lists, with_turns

Types = dict[str, pa.DataType]

VARIABLES = "chat_template_kwargs"
OBJECTS = frozenset({"tools", "documents", VARIABLES, "control_escapes"})
"""Columns of views that are JSON whatever the shapes of their values."""
TURNS = frozenset({*CONVERSATION_COLUMNS, "preferred_output", "non_preferred_output", "conversations"})
"""Columns of views that are conversations; turns in a kept column are objects like any other."""
PARTS = pa.list_(JSON)
"""The type of a turn's content if it is a list of parts in every turn."""
PATHS, MEDIA_BY_VALUE = pa.list_(TEXT), pa.list_(MEDIUM)
"""The types of a column of media."""
MIXED = pa.binary_view()
"""Stands for the type of a column, or of a key of turns, that is text in some of them and another value in others."""
TIMES = pa.string_view()
"""Stands for the type of text that looks like a time in every row; see `json_lines_schema`."""
_TIME = r"\d{4}-\d\d-\d\d([ T]\d\d(:?\d\d(:?\d\d(\.\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?"


def types_of(batch: pa.RecordBatch, *, typed: bool = False) -> Types:
    """Return the type of each column of an output batch; null for a column without values.

    Columns of a `typed` source (Parquet, Arrow) keep their types also without values.
    """
    columns = columns_of(batch)
    return {name: type_of(name, column, typed=typed) for name, column in columns.items() if name != KEYS}


def type_of(name: str, column: pa.Array, *, typed: bool = False) -> pa.DataType:
    """Return the narrowest type that holds every value of the column exactly."""
    if name in OBJECTS or (name in MEDIA and column.type == MEDIA_BY_VALUE):
        return column.type
    if _is_empty(column, typed):
        return pa.null()
    if column.type == JSON:
        if _has_some_text(column):
            return MIXED
        found = type_of_values(json_values(column))
        return JSON if _levels(found) > MOST_LEVELS else found
    if is_turns(column.type):
        fields = fields_of(column.flatten())
        if name not in TURNS and not typed and any(values.null_count for values in fields.values()):
            return JSON
        return _turns({key: turn_field_type(key, values, typed) for key, values in fields.items() if key != KEYS})
    return _text_type(column) if column.type == TEXT else column.type


def _is_empty(column: pa.Array, typed: bool) -> bool:
    """Return whether a column has no value from which its type follows."""
    named = column.type in (JSON, TEXT) or is_turns(column.type)
    return bool(column.null_count == len(column)) and (column.type == JSON or (named and not typed))


def _turns(fields: Mapping[str, pa.DataType]) -> pa.DataType:
    return pa.list_(pa.struct(list(fields.items())))


def _text_type(column: pa.StringArray) -> pa.DataType:
    first = next((value.as_py() for value in column if value.is_valid), None)
    if first is None or not re.fullmatch(_TIME, first):
        return TEXT
    return TIMES if pc.all(pc.match_substring_regex(column, f"^{_TIME}$")).as_py() else TEXT


def turn_field_type(key: str, values: pa.Array, typed: bool) -> pa.DataType:
    """Return the type of a key of turns: text, a number, a boolean, PARTS, JSON, or MIXED."""
    if _is_empty(values, typed):
        return pa.null()
    if values.type == TEXT:
        return _text_type(values)
    if values.type != JSON:
        return values.type
    if _has_some_text(values):
        return MIXED
    first = _first_characters(values)
    if key == "content" and pc.all(pc.equal(first, "[")).as_py():
        return PARTS
    if pc.any(pc.is_in(first, pa.array(["[", "{"], first.type))).as_py():
        return JSON
    return type_of_values(json_values(values))


def _first_characters(values: pa.Array) -> pa.Array:
    """Return the first character of each value of a JSON column that is not null."""
    return pc.utf8_slice_codeunits(values.filter(pc.not_equal(values, "null")), 0, 1)


def _has_some_text(values: pa.Array) -> bool:
    """Return whether a JSON column holds text and other values."""
    text = pc.equal(_first_characters(values), '"')
    return bool(pc.any(text).as_py() and not pc.all(text).as_py())


def type_of_values(values: Iterable[Any]) -> pa.DataType:
    """Return the type of JSON values; JSON if one type cannot hold all of them, null without any but None."""
    found: pa.DataType = pa.null()
    for value in values:
        found = _merge_exactly(found, _type_of_value(value))
        if found == JSON:
            break
    return found


def _type_of_value(value: Any) -> pa.DataType:
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if -(2**63) <= value < 2**63 else JSON
    if isinstance(value, float):
        return pa.float64() if math.isfinite(value) else JSON
    if isinstance(value, str):
        return TIMES if re.fullmatch(_TIME, value) else TEXT
    if isinstance(value, list):
        items = type_of_values(value)
        return JSON if items == JSON else pa.list_(items)
    if not value or KEYS in value or "_type" in value:  # Arrow, chatfmt and `datasets` cannot have such structs
        return JSON
    return _struct({key: _type_of_value(item) for key, item in value.items()})


def _struct(fields: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the type of objects with these keys: `datasets` reads JSON text as its value, so no field can be JSON."""
    return JSON if JSON in fields.values() else pa.struct(list(fields.items()))


MOST_LEVELS = 32
"""Levels of lists and objects beyond which a column stays JSON: Arrow cannot read back a schema of more than 124."""


def _levels(type: pa.DataType) -> int:
    """Return how many lists and structs stand one inside the other."""
    inner = [type.field(index).type for index in range(type.num_fields)]
    return 1 + max(map(_levels, inner)) if inner else 0


def _merge_exactly(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the type that holds the JSON values of both types and can give each back."""
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if pa.types.is_list(first) and pa.types.is_list(second):
        items = _merge_exactly(first.value_type, second.value_type)
        return JSON if items == JSON else pa.list_(items)
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        names = [[field.name for field in type] for type in (first, second)]
        if names[0] != names[1]:
            return JSON
        return _struct(
            {one.name: _merge_exactly(one.type, other.type) for one, other in zip(first, second, strict=True)}
        )
    return TEXT if {first, second} == {TEXT, TIMES} else JSON


def merge_type(name: str, first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the narrowest type of a column that holds the values of both types; paths are media without bytes."""
    if {first, second} == {PATHS, MEDIA_BY_VALUE}:
        return MEDIA_BY_VALUE
    if name in TURNS and first != second and is_turns(first) and is_turns(second):
        one, other = ({field.name: field.type for field in type.value_type} for type in (first, second))
        names = dict.fromkeys((*one, *other))
        return _turns({key: _merge_keys(one.get(key, pa.null()), other.get(key, pa.null())) for key in names})
    return _merge_keys(first, second)


def _merge_keys(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the type that holds the values of both types, of a column or a key of turns; MIXED if one is text."""
    merged = _merge_exactly(first, second)
    return MIXED if merged == JSON and {first, second} & {TEXT, TIMES, MIXED} else merged


def merge_types(first: Mapping[str, pa.DataType], second: Mapping[str, pa.DataType]) -> Types:
    """Return the columns of both with their merged types, in order of first appearance."""
    names = dict.fromkeys((*first, *second))
    return {name: merge_type(name, first.get(name, pa.null()), second.get(name, pa.null())) for name in names}


def types_to_text(types: Mapping[str, pa.DataType]) -> str:
    """Return types as text, empty without any."""
    return base64.b64encode(pa.schema(list(types.items())).serialize()).decode() if types else ""


def types_from_text(text: str) -> Types:
    """Return the types in a text that `types_to_text` made."""
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))) if text else pa.schema([])
    return dict(zip(schema.names, schema.types, strict=True))


def merged_types(shards: Iterable[Shard]) -> Types:
    """Return the types of the columns of all shards."""
    return reduce(merge_types, (types_from_text(shard.types) for shard in shards), Types())


def paths_to(marker: pa.DataType, types: Mapping[str, pa.DataType]) -> list[str]:
    """Return where MIXED or TIMES is in the types of an output: `date`, `messages[].content`."""
    found = []
    for name, type in types.items():
        while pa.types.is_list(type):
            name, type = f"{name}[]", type.value_type
        if pa.types.is_struct(type):
            found += [f"{name}.{path}" for path in paths_to(marker, {field.name: field.type for field in type})]
        elif type == marker:
            found.append(name)
    return found


def schema_of(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema of a Parquet output; columns and fields without any value become text."""
    return pa.schema([_output_field(name, _output_type(type, TEXT)) for name, type in types.items()])


def _output_field(name: str, type: pa.DataType) -> pa.Field:
    """Return a column of the output; one with the bytes of media has their feature: Image, Video or Audio."""
    field = pa.field(name, type)
    if name not in MEDIA or type != MEDIA_BY_VALUE:
        return field
    return with_feature(field, list_of(media(MEDIA[name].title())))


def json_lines_schema(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema by which `datasets` reads the JSON Lines of an output as the text that they hold.

    It reads text as times where all of it looks like times, even if text is declared, but not where JSON is.
    """
    return pa.schema([(name, _output_type(_type_of_line(type), JSON)) for name, type in types.items()])


def _output_type(type: pa.DataType, times: pa.DataType) -> pa.DataType:
    if pa.types.is_null(type):
        return TEXT
    if type == TIMES:
        return times
    if type == MIXED or is_only_json(type):
        return JSON
    if pa.types.is_decimal(type):
        return loadable_decimal(type)
    if is_turns(type) and MIXED in (field.type for field in type.value_type):
        return PARTS
    if pa.types.is_list(type):
        return pa.list_(_output_type(type.value_type, times))
    if pa.types.is_struct(type):
        return pa.struct([(field.name, _output_type(field.type, times)) for field in type])
    return type


def _type_of_line(type: pa.DataType) -> pa.DataType:
    """Return the type of what JSON Lines hold of a type that JSON lacks: times and decimals are written as text."""
    if pa.types.is_list(type):
        return pa.list_(_type_of_line(type.value_type))
    if pa.types.is_struct(type):
        return pa.struct([(field.name, _type_of_line(field.type)) for field in type])
    if pa.types.is_timestamp(type) or pa.types.is_date(type):
        return TIMES
    if pa.types.is_uint64(type) or is_only_json(type):  # `datasets` reads what is beyond 63 bits as a float
        return JSON
    return TEXT if pa.types.is_temporal(type) or pa.types.is_decimal(type) else type


def cast_to_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with its JSON columns, and the JSON of turns, as the types that the schema asks for."""
    if VARIABLES in schema.names:
        batch = fill_variables(batch, VARIABLES)
    types = dict(zip(schema.names, schema.types, strict=True))
    columns = [
        cast(column, types[name]) if name in types else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def fill_variables(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    """Return the batch with `{}` for rows without template variables: TRL spreads what each row has, and null fails."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        return batch.append_column(name, pa.array(["{}"] * len(batch), JSON))
    column = batch.column(index)
    return batch.set_column(index, name, pc.fill_null(column, "{}")) if column.type == JSON else batch


def cast(column: pa.Array, type: pa.DataType) -> pa.Array:
    """Return a column as a type that holds all of its values; what is not JSON stays as it is."""
    if is_turns(column.type) and type == PARTS:
        turns = column.flatten()
        return with_turns(column, json_array(decode_objects(fields_of(turns)) or [{}] * len(turns)))
    if is_turns(column.type) and is_turns(type):
        turns = column.flatten()
        wanted = {field.name: field.type for field in type.value_type}
        if not any(field.type == JSON != wanted.get(field.name) for field in turns.type):
            return column
        fields = {key: cast(values, wanted.get(key, values.type)) for key, values in fields_of(turns).items()}
        return with_turns(column, struct_of(fields, turns.is_null()))
    if (column.type, type) == (PATHS, MEDIA_BY_VALUE):
        return to_lists(by_value(column.flatten()), lengths_of(column), column.is_null())
    if column.type != JSON or type == JSON:
        return column
    try:
        return pa.array([_to_type(value, type) for value in json_values(column)], type)
    except (pa.ArrowException, TypeError, KeyError, AttributeError):  # the encoder refuses the column
        return column


def _to_type(value: Any, type: pa.DataType) -> Any:
    """Return a value as `pa.array` takes it: JSON inside it as text."""
    if value is None:
        return None
    if type == JSON:
        return dumps(value)
    if pa.types.is_list(type):
        return [_to_type(item, type.value_type) for item in value]
    if pa.types.is_struct(type):
        return {field.name: _to_type(value[field.name], field.type) for field in type}
    return value
