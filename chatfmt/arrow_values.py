"""The Python values of Arrow columns, for values of any type: also those that Python's own types cannot hold.

Nanoseconds, years beyond 9999, times of a zone that this machine does not know and hours beyond 23 become the text
that `isoformat` (for durations, `str`) would give, and times of an unknown zone are in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY = 86_400 * 10**9


def to_values(column: pa.Array) -> list[Any]:
    """Return the values of a column, None for null.

    Maps and structs become objects; a map with a repeated key, or with objects as keys, and a struct with two fields
    of one name become lists of pairs.
    """
    try:
        if _needs_care(column.type):
            return [_value(item) for item in column]
        maps = {"maps_as_pydicts": "strict"} if pa.types.is_nested(column.type) else {}  # three times as slow for texts
        return list(column.to_pylist(**maps))
    except (KeyError, TypeError, ValueError, OverflowError):
        return [_value(item) for item in column]


def as_integers(type: pa.DataType) -> pa.DataType:
    """Return the type with integers for dates and times of day, in lists and structs too; `view` reads values as it."""
    if pa.types.is_time32(type):
        return pa.int32()
    if pa.types.is_time64(type) or pa.types.is_date64(type):
        return pa.int64()
    if pa.types.is_list(type):
        return pa.list_(type.value_field.with_type(as_integers(type.value_type)))
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(as_integers(field.type)) for field in type])
    return type


def _needs_care(type: pa.DataType) -> bool:
    """Whether `as_py` changes values silently: hour 25 becomes hour 1, and pandas, if it is there, cuts nanoseconds."""
    inner = (type.field(index).type for index in range(type.num_fields))
    return bool(pa.types.is_time(type)) or getattr(type, "unit", "") == "ns" or any(map(_needs_care, inner))


def _value(scalar: pa.Scalar) -> Any:
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.MapScalar):
        keys, values = scalar.values.flatten()
        return _object(zip(map(_value, keys), map(_value, values), strict=True))
    if isinstance(scalar, pa.StructScalar):
        names = [field.name for field in scalar.type]
        return _object((name, _value(scalar[index])) for index, name in enumerate(names))
    if isinstance(scalar, pa.ListScalar):
        return [_value(item) for item in scalar.values]
    if isinstance(getattr(scalar, "value", None), pa.Scalar):  # of a union, a dictionary or an extension type
        return _value(scalar.value)
    try:
        return _time(scalar) if _needs_care(scalar.type) else scalar.as_py()
    except (ValueError, OverflowError):
        return time_text(scalar)


def _time(scalar: pa.Scalar) -> Any:
    """Return the value of a time as Python's type; as text if it has nanoseconds or is beyond a day."""
    kind, value = scalar.type, scalar.value
    if pa.types.is_time(kind):
        within = 0 <= value * _NANOSECONDS[kind.unit] < _DAY
        return _in_microseconds(scalar) if within and (kind.unit != "ns" or value % 1000 == 0) else time_text(scalar)
    if value % 1000 == 0:
        return _in_microseconds(scalar)
    if pa.types.is_duration(kind):
        return time_text(scalar)
    text = _in_microseconds(scalar).isoformat(timespec="microseconds")
    return f"{text[:26]}{value % 1000:03}{text[26:]}"


def _in_microseconds(scalar: pa.Scalar) -> Any:
    kind = scalar.type
    if kind.unit != "ns":
        return scalar.as_py()
    if pa.types.is_time(kind):
        rounded: pa.DataType = pa.time64("us")
    else:
        rounded = pa.duration("us") if pa.types.is_duration(kind) else pa.timestamp("us", kind.tz)
    return pa.array([scalar.value // 1000], pa.int64()).view(rounded)[0].as_py()


def _object(pairs: Iterable[tuple[Any, Any]]) -> Any:
    found = list(pairs)
    if any(isinstance(key, (dict, list)) for key, _ in found) or len({key for key, _ in found}) < len(found):
        return found
    return dict(found)


def time_text(scalar: pa.Scalar) -> str:
    """Return a date, a time, a timestamp (with a zone: in UTC) or a duration as text, exact at any size."""
    kind, value = scalar.type, scalar.value
    if pa.types.is_date(kind):
        return _date(value if pa.types.is_date32(kind) else value // 86_400_000)
    nanoseconds = value * _NANOSECONDS[kind.unit]
    if pa.types.is_time(kind):
        return _clock(nanoseconds)
    days, rest = divmod(nanoseconds, _DAY)
    if pa.types.is_duration(kind):
        start = f"{days} day{'' if abs(days) == 1 else 's'}, " if days else ""
        return start + _clock(rest).removeprefix("0" if rest < 10 * _DAY // 24 else "")
    return f"{_date(days)}T{_clock(rest)}{'+00:00' if kind.tz else ''}"


def _date(days: int) -> str:
    return str(np.datetime64(days, "D"))


def _clock(nanoseconds: int) -> str:
    """Return `HH:MM:SS`, with six or nine digits of a fraction if there is one."""
    seconds, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest // 1000:06}" if rest % 1000 == 0 else f".{rest:09}"
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction if rest else ''}"
