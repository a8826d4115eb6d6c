"""Thrift's compact protocol, as far as Parquet uses it: bytes to plain values and back.

Specification: apache/thrift, doc/specs/thrift-compact-protocol.md. A struct is `{field id: (type, value)}` in file
order, a list is `(element type, values)`, integers are int, binary is bytes. Reading and writing back gives the same
bytes, so one field of a Parquet footer can be changed without knowing the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

ThriftStruct = dict[int, tuple[int, Any]]
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
DEPTH = 64
"""Maximum depth of nested structs; Parquet needs fewer than ten levels."""


class ThriftReader:
    """Read values from `data` at `offset`, which moves on; raises ValueError for bytes that are not thrift."""

    def __init__(self, data: memoryview, offset: int = 0) -> None:
        self.data, self.offset = data, offset

    def struct(self, depth: int = 0) -> ThriftStruct:
        if depth > DEPTH:
            raise ValueError("nested too deeply")
        fields: ThriftStruct = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._zigzag()
            fields[number] = (kind, self._value(kind, depth))
        return fields

    def _value(self, kind: int, depth: int, *, in_list: bool = False) -> Any:
        if kind in (TRUE, FALSE):
            return self._byte() == TRUE if in_list else kind == TRUE
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == BYTE:
            return self._byte()
        if kind == DOUBLE:
            return struct.unpack("<d", self._take(8))[0]
        if kind == BINARY:
            return self._take(self._varint())
        if kind in (LIST, SET):
            return self._list(depth)
        if kind == STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"a value of type {kind}")

    def _list(self, depth: int) -> tuple[int, list[Any]]:
        head = self._byte()
        kind, size = head & 15, head >> 4
        size = self._varint() if size == 15 else size
        if size > len(self.data):
            raise ValueError("a list longer than the file")
        return kind, [self._value(kind, depth, in_list=True) for _ in range(size)]

    def _byte(self) -> int:
        if self.offset >= len(self.data):
            raise ValueError("it ends too early")
        self.offset += 1
        return self.data[self.offset - 1]

    def _take(self, size: int) -> bytes:
        if self.offset + size > len(self.data):
            raise ValueError("it ends too early")
        self.offset += size
        return bytes(self.data[self.offset - size : self.offset])

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number longer than 64 bits")
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def write_struct(fields: ThriftStruct) -> bytes:
    """Return the bytes of a struct, its end included."""
    out, last = bytearray(), 0
    for number, (kind, value) in fields.items():
        step = number - last
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _zigzag(number)
        out += b"" if kind in (TRUE, FALSE) else _WRITE[kind](value)
        last = number
    return bytes(out + b"\0")


def _write_list(value: tuple[int, list[Any]]) -> bytes:
    kind, items = value
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _varint(len(items))
    write = _write_bool if kind in (TRUE, FALSE) else _WRITE[kind]
    return head + b"".join(map(write, items))


def _write_bool(value: bool) -> bytes:
    return bytes([TRUE if value else FALSE])


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


_WRITE: dict[int, Callable[[Any], bytes]] = {
    BYTE: lambda value: bytes([value]),
    I16: _zigzag,
    I32: _zigzag,
    I64: _zigzag,
    DOUBLE: lambda value: struct.pack("<d", value),
    BINARY: lambda value: _varint(len(value)) + value,
    LIST: _write_list,
    SET: _write_list,
    STRUCT: write_struct,
}
