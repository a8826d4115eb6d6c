"""The features that `datasets` gives each output column, for Parquet files and cards.

A *feature* is plain data in the form of `datasets.Features.to_dict`: `{"_type": "Value", "dtype": "string"}`,
`{"_type": "List", "feature": …}`, `{"_type": "Json"}`, `{"_type": "Image"}`, or the features of a struct by name. Most
follow from the Arrow type of a column: `json_columns.JSON` is `Json`, and everything else a `Value`, a list or a
struct. What the type does not say (an `Image` is a struct of bytes and path) is in the metadata of the Arrow field.

`Json` needs `datasets` 4.7 or later: 4.0 stops with "Feature type 'Json' not found" for a Parquet file, and with
"'module' object is not callable" for a card. Earlier versions do not know `List` in the metadata of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from .json_columns import JSON
from .schema import KEYS

Feature = Mapping[str, Any]
FEATURE = b"feature"
"""The key of a field's metadata under which its feature is, as JSON."""
HUGGINGFACE = b"huggingface"
"""The key of a schema's metadata under which `datasets` writes and reads features."""
JSON_VERSION = "4.7"
"""The first version of `datasets` that has the feature `Json`."""


def media(kind: str) -> dict[str, str]:
    """Return the feature of a column of media: `Image`, `Audio` or `Video`."""
    return {"_type": kind}


def list_of(feature: Feature) -> dict[str, Any]:
    """Return the feature of a column of lists."""
    return {"feature": feature, "_type": "List"}


def with_feature(field: pa.Field, feature: Feature) -> pa.Field:
    """Return the field with a feature that its type alone does not say."""
    return field.with_metadata({**(field.metadata or {}), FEATURE: json.dumps(feature).encode()})


def feature_of(field: pa.Field) -> Feature | None:
    """Return the feature of a field; None for a type that `datasets` has no name for."""
    declared = (field.metadata or {}).get(FEATURE)
    return json.loads(declared) if declared else _type_feature(field.type)


def _type_feature(type: pa.DataType) -> Feature | None:
    if type == JSON or (isinstance(type, pa.BaseExtensionType) and type.extension_name == "arrow.json"):
        return {"_type": "Json"}
    if pa.types.is_struct(type):
        return features_of(type)
    if pa.types.is_list(type):
        inner = feature_of(type.value_field)
        return None if inner is None else list_of(inner)
    name = _value_type(type)
    return None if name is None else {"dtype": name, "_type": "Value"}


def features_of(fields: pa.Schema | pa.StructType) -> dict[str, Feature] | None:
    """Return the features of a schema or of a struct by name; None if one of them has none."""
    found = {field.name: feature_of(field) for field in fields if field.name != KEYS}
    known = {name: feature for name, feature in found.items() if feature is not None}
    return known if len(known) == len(found) else None


def _value_type(type: pa.DataType) -> str | None:
    """Return the name of an Arrow type in `datasets.Value`."""
    if pa.types.is_decimal(type):
        return f"decimal{type.bit_width}({type.precision}, {type.scale})"
    name = {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(type), str(type))
    name = re.sub(r"^(date\d\d)\[.*", r"\1", name)
    return name if _VALUE.fullmatch(name) else None


def is_only_json(type: pa.DataType) -> bool:
    """Return whether `datasets` reads the values of a type only as JSON: maps, unions, intervals and odd structs.

    A struct is odd without fields, or with two of one name; Parquet lacks it too, as it does unions and intervals.
    """
    if pa.types.is_struct(type):
        return bool(len({field.name for field in type}) != max(1, type.num_fields))
    return bool(pa.types.is_map(type) or pa.types.is_union(type) or pa.types.is_interval(type))


def loadable_decimal(type: pa.DataType) -> pa.DataType:
    """Return a type that holds the decimals of another and that `datasets` reads: 128 or 256 bits, no scale below 0."""
    precision = type.precision - min(type.scale, 0)
    wide = pa.types.is_decimal256(type) or precision > _DIGITS
    return (pa.decimal256 if wide else pa.decimal128)(precision, max(type.scale, 0))


_DIGITS = 38
"""The digits that a decimal of 128 bits holds."""

_VALUE = re.compile(
    r"null|bool|u?int(8|16|32|64)|float(16|32|64)|string|binary|large_binary|date(32|64)|"
    r"(time32|time64|timestamp|duration)\[.*\]"
)


def to_metadata(schema: pa.Schema) -> dict[bytes, bytes]:
    """Return the metadata by which `datasets` reads Parquet columns as their features.

    It is empty if the Arrow types say it all, so that every version of `datasets` reads the file.
    """
    if HUGGINGFACE in (schema.metadata or {}):  # it is the schema of a file already
        return {HUGGINGFACE: schema.metadata[HUGGINGFACE]}
    features = features_of(schema)
    if features is None or _KINDS.isdisjoint(kinds_of(features)):
        return {}
    return {HUGGINGFACE: json.dumps({"info": {"features": features}}, ensure_ascii=False).encode()}


_KINDS = {"Json", "Image", "Audio", "Video", "ClassLabel"}
"""The features that an Arrow type does not say."""


def kinds_of(feature: Feature) -> Iterator[str]:
    """Yield the types of a feature and of all inside it."""
    kind = feature.get("_type")
    if isinstance(kind, str):
        yield kind
        inner: Mapping[str, Any] = {"": feature["feature"]} if "feature" in feature else {}
    else:
        inner = feature
    for item in inner.values():
        yield from kinds_of(item)


def to_card(features: Mapping[str, Feature]) -> list[dict[str, Any]]:
    """Return the features in the syntax of dataset cards, as `datasets.Features._to_yaml_list` gives it."""
    return [{"name": name, **_card_type(feature)} for name, feature in features.items()]


def _card_type(feature: Feature) -> dict[str, Any]:
    kind = feature.get("_type")
    if not isinstance(kind, str):
        return {"struct": to_card(feature)}
    rest = {key: value for key, value in feature.items() if key not in ("_type", "feature")}
    if kind == "Value":
        return {"dtype": feature["dtype"]}
    if "feature" in feature:
        item = _card_type(feature["feature"])
        return {_snake(kind): item.get("struct", item.get("dtype", item)), **rest}
    if kind == "ClassLabel":
        rest = {"names": {str(number): name for number, name in enumerate(feature["names"])}}
    return {"dtype": {_snake(kind): rest} if rest else _snake(kind)}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def declared_type(type: pa.DataType, feature: Any) -> pa.DataType:
    """Return an Arrow type with `json_columns.JSON` for the text that the feature says is JSON."""
    if not isinstance(feature, Mapping):
        return type
    if feature.get("_type") == "Json":
        return JSON if pa.types.is_string(type) or pa.types.is_large_string(type) else type
    if pa.types.is_list(type):
        return pa.list_(declared_type(type.value_type, feature.get("feature")))
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(declared_type(field.type, feature.get(field.name))) for field in type])
    return type


def fits(type: pa.DataType, feature: Any) -> bool:
    """Return whether a column of that type can have a feature that its type does not say."""
    kind = feature.get("_type") if isinstance(feature, Mapping) else None
    if kind == "ClassLabel":
        return bool(pa.types.is_integer(type))
    if kind == "List":
        return bool(pa.types.is_list(type)) and fits(type.value_type, feature.get("feature"))
    is_stored = pa.types.is_struct(type) and {field.name for field in type} == {"bytes", "path"}
    return kind in ("Image", "Audio", "Video") and is_stored


def declared_features(schema: pa.Schema) -> Mapping[str, Any]:
    """Return the features that `datasets` wrote into the metadata of a schema, by column; empty without any."""
    try:
        features = json.loads((schema.metadata or {}).get(HUGGINGFACE, b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}
