"""Parquet and Arrow files made to mislead, from tables and from bytes."""

from __future__ import annotations

import io
import struct
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
ROW = {"messages": TURNS}


def messages(rows: int = 3) -> pa.Array:
    return pa.array([TURNS], MESSAGES).take(pa.array([0] * rows, pa.int64()))


def table(rows: int = 3, **columns: pa.Array) -> pa.Table:
    return pa.table({"messages": messages(rows), **columns})


def parquet(data: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(data, sink, **{"write_page_checksum": True, **options})
    return sink.getvalue()


def arrow(data: pa.Table, *, stream: bool = False, **options: Any) -> bytes:
    sink = io.BytesIO()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(sink, data.schema, **options) as writer:
        writer.write_table(data)
    return sink.getvalue()


def bent(data: bytes, place: int) -> bytes:
    """The bytes with one of them changed."""
    return data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]


def claiming(data: bytes, rows: int, claimed: int) -> bytes:
    """A Parquet file of `rows` rows whose footer says everywhere that there are `claimed`."""
    (size,) = struct.unpack("<I", data[-8:-4])
    footer = data[-8 - size : -8].replace(b"\x16" + varint(2 * rows), b"\x16" + varint(2 * claimed))
    return data[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1"


def with_footer_size(data: bytes, size: int) -> bytes:
    return data[:-8] + struct.pack("<I", size) + b"PAR1"


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
