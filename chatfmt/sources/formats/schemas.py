"""Check that Parquet and Arrow files have the same columns and types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ...errors import InputError, Location
from ...features import declared_features, declared_type
from ..model import SourceFile
from .arrow import arrow_schema
from .columnar import columns_to_read, normal_type, open_parquet


def _schema(file: SourceFile) -> pa.Schema:
    """The schema of a Parquet or Arrow file, in the types of source batches."""
    if file.format == "parquet":
        with open_parquet(file.uri, file.shown) as opened:
            schema = opened.schema_arrow
    else:
        schema = arrow_schema(file.uri, file.shown)
    columns_to_read(schema, None, file.shown)
    features = declared_features(schema)
    return pa.schema(
        [(field.name, declared_type(normal_type(field.type), features.get(field.name))) for field in schema]
    )


def column_types(file: SourceFile) -> dict[str, pa.DataType]:
    """Return the columns of a Parquet or Arrow file with their types; none for other formats."""
    schema = _schema(file) if file.format in ("parquet", "arrow") else ()
    return {field.name: field.type for field in schema}


def check_schemas(files: Sequence[SourceFile]) -> None:
    """Raise InputError if Parquet or Arrow files differ in columns or types; the order of columns may differ."""
    columnar = [file for file in files if file.format in ("parquet", "arrow")]
    if len(columnar) < 2:
        return
    first = {field.name: field.type for field in _schema(columnar[0])}
    for file in columnar[1:]:
        other = {field.name: field.type for field in _schema(file)}
        differ = sorted(name for name in first.keys() | other.keys() if not _agree(first.get(name), other.get(name)))
        if differ:
            raise InputError(
                f"columns differ from `{columnar[0].shown}`: "
                + ", ".join(_difference(name, first, other) for name in differ),
                code="file.schema",
                at=Location(file.shown),
                hint="convert them separately, or name the files with `--data-files`",
            )


def _agree(one: pa.DataType | None, other: pa.DataType | None) -> bool:
    if one is None or other is None:
        return False
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields, others = ({field.name: field.type for field in type} for type in (one, other))
        return fields.keys() == others.keys() and all(_agree(fields[name], others[name]) for name in fields)
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _agree(one.value_type, other.value_type)
    return bool(one == other or pa.types.is_null(one) or pa.types.is_null(other))


def _difference(name: str, first: dict[str, pa.DataType], other: dict[str, pa.DataType]) -> str:
    return f"`{name}` is {other.get(name, 'missing')} here, {first.get(name, 'missing')} there"
