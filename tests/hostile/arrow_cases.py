# ruff: noqa: E501
"""Arrow files and streams that are damaged, or built to lead a reader outside of its buffers."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import pyarrow as pa

from .case import GOOD, Case, Content, Damaged, Error, Expected, Rows
from .tables import ROW, arrow, bent, messages, table

FILE, STREAM = arrow(table()), arrow(table(), stream=True)
BROKEN = Error(3, "file.damaged", "damaged: ")


def file(name: str, content: Content, expected: Expected) -> Case:
    return Case(name, {"in.arrow": content}, expected, ("convert", "in.arrow", "-o", "out.jsonl", "--keep", "all"))


def patched(data: bytes, was: tuple[int, ...], now: tuple[int, ...]) -> bytes:
    """The bytes with a run of int32 numbers in the place of another."""
    found = struct.pack(f"<{len(was)}i", *was)
    assert found in data
    return data.replace(found, struct.pack(f"<{len(now)}i", *now), 1)


def offsets(*numbers: int) -> bytes:
    """A messages column whose three lists begin and end where these numbers say."""
    return patched(FILE, (0, 2, 4, 6), numbers)


def text(*numbers: int) -> bytes:
    """A column of text whose three values begin and end where these numbers say, in ten bytes."""
    return patched(arrow(table(v=pa.array(["01234", "567", "89"]))), (0, 5, 8, 10), numbers)


def of_dictionary(*indices: int) -> bytes:
    made = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.int32()), pa.array(["a", "b"]))
    return patched(arrow(table(v=made)), (1, 0, 1, 0), (*indices, 0))


def of_run(length: int) -> bytes:
    """A column of so many rows, all of them one value."""
    return arrow(pa.table({"v": pa.RunEndEncodedArray.from_arrays(pa.array([length], pa.int32()), pa.array(["x"]))}))


BOMB = Error(3, "file.compressed", "unpacks to more than 1000 times its size")


def large_text(rows: int = 3000) -> pa.Array:
    """Rows that share a text of a megabyte."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 2**20]))


def packed(data: pa.Table) -> bytes:
    return arrow(data, options=pa.ipc.IpcWriteOptions(compression="zstd"))


def beside(value: Any) -> pa.Table:
    """A table with a null, which has no buffer, and a value before the messages."""
    return pa.table({"n": pa.nulls(1), "v": pa.array([value]), "messages": messages(1)})


def claiming(claimed: int) -> bytes:
    """A compressed column that says of its text that it has so many bytes."""
    return packed(table(1, v=pa.array(["x" * 12345]))).replace(
        struct.pack("<q", 12345) + b"\x28\xb5", struct.pack("<q", claimed) + b"\x28\xb5"
    )


def sharing(name: str, column: pa.Array, value: Any) -> Case:
    """Gigabytes if every row had a value of its own, of which two rows are converted."""
    return Case(
        f"shared, {name}",
        {"in.arrow": arrow(table(len(column), v=column))},
        Rows([{**ROW, "v": value}] * 2),
        (*CONVERT, "--limit", "2"),
    )


def views(rows: int) -> pa.Array:
    """Views of the same megabyte of text."""
    each = struct.pack("<i4sii", 2**20, b"xxxx", 0, 0)
    return pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(each * rows), pa.py_buffer(b"x" * 2**20)])


def lists_of(texts: pa.Array) -> pa.Array:
    """Lists of one text each."""
    return pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), texts)


CONVERT = ("convert", "in.arrow", "-o", "out.jsonl", "--keep", "all")
SHARED = [
    sharing("text", large_text(), "x" * 2**20), sharing("text in objects", pa.StructArray.from_arrays([large_text()], ["a"]), {"a": "x" * 2**20}),
    sharing("lists", pa.DictionaryArray.from_arrays(pa.array([0] * 9, pa.int32()), pa.array([["a"], ["b"]])), ["a"]),
    sharing("a run", pa.RunEndEncodedArray.from_arrays(pa.array([3000], pa.int32()), pa.array(["x" * 2**20])), "x" * 2**20),
    sharing("views of text", views(3000), "x" * 2**20),
    sharing("views of lists", pa.ListViewArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array([3000] * 3000, pa.int32()), pa.array(["x" * 99] * 3000)), ["x" * 99] * 3000),
]  # fmt: skip
CASES: list[Case] = [
    *SHARED, file("a terabyte of views", arrow(table(10**6, v=views(10**6))), BOMB), file("a terabyte of views in lists", arrow(table(10**6, v=lists_of(views(10**6)))), BOMB),
    *(file(f"text that says it has {size} bytes", claiming(size), BOMB) for size in (1 << 33, 1 << 62)),
    file("100 MB of one letter", lambda path: path.write_bytes(packed(table(1, v=pa.array(["x" * 100_000_000])))), BOMB),
    Case("100 MB of one letter, not read", {"in.arrow": lambda path: path.write_bytes(packed(beside("x" * 100_000_000)))}, Rows([ROW]), CONVERT[:-2]),
    Case("100 MB of one letter in a list, not read", {"in.arrow": lambda path: path.write_bytes(packed(beside(["x" * 100_000_000])))}, Rows([ROW]), CONVERT[:-2]),
    file("a run of 10^9 rows", of_run(10**9), Error(3, "file.compressed", "unpacks to more than 1000 times its size")),
    file("whole", FILE, Rows([ROW] * 3)), file("a stream", STREAM, Rows([ROW] * 3)), file("packed inside", arrow(table(), options=pa.ipc.IpcWriteOptions(compression="zstd")), Rows([ROW] * 3)),
    file("a stream, half of it", STREAM[: len(STREAM) // 2], BROKEN), file("a file, half of it", FILE[: len(FILE) // 2], BROKEN), file("a byte short", FILE[:-1], BROKEN), file("only the magic", b"ARROW1", BROKEN),
    file("only a mark", b"\xff\xff\xff\xff", BROKEN), file("a message of 2 GB", b"\xff\xff\xff\xff\xff\xff\xff\x7f", BROKEN), file("a message of -1", b"\xff" * 8, BROKEN),
    file("zeros", b"ARROW1\0\0" + b"\0" * 512, BROKEN), file("no batches", arrow(table(0)), Error(3, "file.empty", "no records")), file("a stream, no batches", arrow(table(0), stream=True), Error(3, "file.empty", "no records")),
    file("two columns of a name", arrow(pa.Table.from_arrays([messages(), messages()], names=["messages", "messages"])), Error(3, "file.schema", "two columns are named `messages`")),
    file("a column of ours", arrow(table(**{"#row": pa.array([1, 2, 3])})), Error(3, "file.schema", "a column is named `#row`")),
    file("a key of ours", arrow(table(v=pa.array([{"#keys": '["a"]'}] * 3))), Error(3, "file.schema", "a key in the column `v` is named `#keys`")),
    file("bytes in a union", arrow(table(1, v=pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([b"\xff"])]))), Error(3, "file.schema", "a union, or a map of shared values, holds bytes")),
    file("lists beyond the end", offsets(0, 2, 4, 1_000_000), BROKEN), file("lists that go back", offsets(0, 4, 2, 6), BROKEN), file("lists before the beginning", offsets(-2, 2, 4, 6), BROKEN), file("lists to 2^31", offsets(0, 2, 4, 2**31 - 1), BROKEN),
    file("text beyond the end", text(0, 5, 8, 1_000_000), BROKEN), file("text that goes back", text(0, 5, 3, 10), BROKEN), file("text before the beginning", text(-4, 5, 8, 10), BROKEN), file("text cut in a character", arrow(table(1, v=pa.array([b"\xe2\x82"]).view(pa.string()))), BROKEN),
    file("a dictionary without that entry", of_dictionary(0, 7, 1), BROKEN), file("a dictionary and -1", of_dictionary(0, -1, 1), BROKEN), file("text under its name", GOOD + b"\n", Rows([ROW])),
    Case("compressed", {"in.arrow.gz": gzip.compress(FILE)}, Error(3, "file.compressed", "this is gz data of an Arrow file"), ("convert", "in.arrow.gz", "-o", "out.jsonl")),
    Case("through a pipe", {}, Rows([ROW] * 3), ("convert", "-", "-o", "out.jsonl"), stdin=STREAM),
    Case("through a pipe, half of it", {}, BROKEN, ("convert", "-", "-o", "out.jsonl"), stdin=STREAM[: len(STREAM) // 2]),
    *(file(f"a byte changed at {place}", bent(FILE, place), Damaged(None)) for place in range(0, len(FILE), len(FILE) // 40)),
    *(file(f"a stream, a byte changed at {place}", bent(STREAM, place), Damaged(None)) for place in range(0, len(STREAM), len(STREAM) // 40)),
]  # fmt: skip
