# ruff: noqa: E501
"""Parquet that is damaged, lies about its size, or holds what rows cannot be made of."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .case import GOOD, Case, Content, Damaged, Error, Expected, Rows
from .tables import MESSAGES, ROW, TURNS, bent, claiming, messages, parquet, table, with_footer_size

WHOLE = parquet(table(777), compression="none")
SMALL = parquet(table(), compression="zstd")
MANY = [ROW] * 777


def file(name: str, content: Content, expected: Expected, *options: str) -> Case:
    return Case(
        name, {"in.parquet": content}, expected, ("convert", "in.parquet", "-o", "out.jsonl", "--keep", "all", *options)
    )


def kept(name: str, column: pa.Array, values: list[Any]) -> Case:
    """A column beside the messages, and what becomes of it; a null is null."""
    rows = [{**ROW, "v": value} for value in values]
    return file(f"kept, {name}", parquet(table(len(values), v=column)), Rows(rows))


NO_PARQUET = Error(3, "file.not_data", "this does not begin like a Parquet file")
BROKEN = Error(3, "file.damaged", "damaged: ")
COLUMNS: list[Case] = [
    kept("text and none", pa.array(["x", None, ""]), ["x", None, ""]), kept("large text", pa.array(["x", None], pa.large_string()), ["x", None]),
    kept("dictionary", pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]), kept("view", pa.array(["x" * 40, None], pa.string_view()), ["x" * 40, None]),
    kept("numbers", pa.array([2**63 - 1, -(2**63), None]), [2**63 - 1, -(2**63), None]), kept("beyond int64", pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    kept("doubles", pa.array([1.0, -0.0, 5e-324, None]), [1.0, -0.0, 5e-324, None]), kept("booleans", pa.array([True, False, None]), [True, False, None]),
    kept("days", pa.array([datetime.date(2024, 2, 29)]), ["2024-02-29"]), kept("decimals", pa.array([decimal.Decimal("1.10")]), ["1.10"]),
    kept("lists", pa.array([["a", None], [], None]), [["a", None], [], None]), kept("structs in structs", pa.array([{"a": {"b": "x"}}, None]), [{"a": {"b": "x"}}, None]),
    kept("nulls alone", pa.nulls(2), [None, None]), kept("JSON", pa.array(['{"b":1,"a":[null]}', "null"], pa.json_()), [{"b": 1, "a": [None]}, None]),
    kept("fixed lists", pa.array([["a"], ["b"]], pa.list_(pa.string(), 1)), [["a"], ["b"]]), kept("text that looks like JSON", pa.array(["[1]", "null", "007"]), ["[1]", "null", "007"]),
]  # fmt: skip
LIES: list[Case] = [
    file("two billion rows claimed", claiming(WHOLE, 777, 2**31 - 1), BROKEN), file("2^62 rows claimed", claiming(WHOLE, 777, 2**62), BROKEN),
    file("fewer rows claimed", claiming(WHOLE, 777, 300), BROKEN), file("no rows claimed", claiming(WHOLE, 777, 0), Damaged(MANY)),
    file("a negative number of rows", claiming(WHOLE, 777, 2**64 - 1), BROKEN), file("two billion values claimed", claiming(WHOLE, 1554, 2**31 - 1), BROKEN),
    file("2^62 values claimed", claiming(WHOLE, 1554, 2**62), BROKEN), file("fewer values claimed", claiming(WHOLE, 1554, 1000), BROKEN),
    file("a footer of 4 GB", with_footer_size(WHOLE, 2**32 - 1), BROKEN), file("a footer of 2 GB", with_footer_size(WHOLE, 2**31), BROKEN), file("no footer", with_footer_size(WHOLE, 0), BROKEN),
    file("a footer of 1 byte", with_footer_size(WHOLE, 1), BROKEN), file("a footer as long as the file", with_footer_size(WHOLE, len(WHOLE)), BROKEN),
]  # fmt: skip
FORMS: list[Case] = [
    file("half of it", WHOLE[: len(WHOLE) // 2], BROKEN), file("a byte short", WHOLE[:-1], BROKEN), file("only the magic", b"PAR1", BROKEN), file("the magic twice", b"PAR1PAR1", BROKEN),
    file("without a beginning", WHOLE[100:], NO_PARQUET), file("bytes behind", WHOLE + b"\n", BROKEN), file("two files joined", SMALL + SMALL, Error(3, "file.damaged", "the file is several Parquet files concatenated")),
    file("encrypted", b"PARE" + WHOLE[4:-4] + b"PARE", NO_PARQUET), file("zeros", b"PAR1" + b"\0" * 4096, BROKEN), file("text under its name", GOOD + b"\n", Rows([ROW])),
    Case("compressed", {"in.parquet.gz": lambda path: path.write_bytes(__import__("gzip").compress(SMALL))}, Error(3, "file.compressed", "this is gz data of a Parquet file, which is already compressed inside"), ("convert", "in.parquet.gz", "-o", "out.jsonl")),
    file("a pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", Error(3, "file.pointer", "this is a Git LFS pointer, not the file")),
    file("an error page", b"<!DOCTYPE html><html><body>404", Error(3, "file.not_data", "this is a web page or XML, not data")),
]  # fmt: skip
TWICE = pa.Table.from_arrays([messages(), messages()], names=["messages", "messages"])
SCHEMAS: list[Case] = [
    file("two columns of a name", parquet(TWICE), Error(3, "file.schema", "two columns are named `messages`")), file("a column of ours", parquet(table(**{"#row": pa.array([1, 2, 3])})), Error(3, "file.schema", "a column is named `#row`")),
    file("another column of ours", parquet(table(**{"#keys": pa.array(["x"] * 3)})), Error(3, "file.schema", "a column is named `#keys`")), file("no columns", parquet(pa.table({})), Error(3, "file.empty", "no records")),
    file("no rows", parquet(table(0)), Error(3, "file.empty", "no records")), file("1,000 levels", parquet(pa.table({"messages": messages(), "deep": pa.nulls(3, deep)})) if (deep := pa.list_(pa.int32())) else b"", Rows([{**ROW, "deep": None}] * 3)),
    file("bytes as text", parquet(pa.table({"prompt": pa.array([b"\xff"]), "completion": pa.array([b"\xfe"])})), Error(2, "", "")), file("bytes kept", parquet(table(1, v=pa.array([b"\xff"]))), Error(4, "out.binary", "")),
    file("text that is not UTF-8", parquet(table(1, v=pa.array([b"\xff\xfe"]).view(pa.string()))), Error(3, "file.damaged", "damaged: ")), file("not a number", parquet(table(1, v=pa.array([float("nan")]))), Error(4, "out.range", "")),
    file("an infinity", parquet(table(1, v=pa.array([float("-inf")]))), Error(4, "out.range", "")), file("JSON that is none", parquet(table(1, v=pa.array(["{"], pa.json_()))), Error(4, "json.syntax", "not JSON: ")),
    file("JSON with a key twice", parquet(table(1, v=pa.array(['{"a":1,"a":2}'], pa.json_()))), Error(4, "json.duplicate_key", "the key `a` appears twice")),
    Case("other columns in the second file", {"d/a.parquet": SMALL, "d/b.parquet": parquet(table(v=pa.array([1, 2, 3])))}, Error(3, "file.schema", "columns differ from `a.parquet`: `v` is int64 here, missing there"), ("convert", "d", "-o", "out.jsonl")),
    Case("another type in the second file", {"d/a.parquet": parquet(table(v=pa.array(["1", "2", "3"]))), "d/b.parquet": parquet(table(v=pa.array([1, 2, 3])))}, Error(3, "file.schema", "columns differ from `a.parquet`: `v` is int64 here, string there"), ("convert", "d", "-o", "out.jsonl")),
]  # fmt: skip


def exploding(path: Any) -> None:
    """A kilobyte or so that unpacks to 24 GB of text."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * (8 << 20)]))
    path.write_bytes(parquet(pa.table({"messages": pa.array([TURNS] * 3000, MESSAGES), "v": text}), compression="zstd"))


def of_nulls(path: Path, rows: int = 80_000_000) -> None:
    """So many rows, all of them null, in one page of half a kilobyte."""
    one = {"data_page_size": 1 << 30, "max_rows_per_page": rows, "row_group_size": rows, "write_batch_size": rows}
    pq.write_table(pa.table({"v": pa.nulls(rows)}), path, compression="zstd", **one)


BOMB = Error(3, "file.compressed", "unpacks to more than 1000 times its size")


def sharing_turns(rows: int) -> pa.Array:
    """A turn a row, whose content is the same megabyte, in a dictionary."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 2**20]))
    turns = pa.StructArray.from_arrays([pa.array(["user"] * rows), text], ["role", "content"])
    return pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), turns)


CASES: list[Case] = [
    file("80,000,000 rows of null", of_nulls, BOMB),
    file("100 MB of one letter", lambda path: path.write_bytes(parquet(table(1, v=pa.array(["x" * 100_000_000])), compression="zstd", use_dictionary=False)), BOMB),
    Case("100 MB of one letter, not read", {"in.parquet": lambda path: path.write_bytes(parquet(pa.concat_tables([table(5000, v=pa.array(["y"] * 5000)), table(1, v=pa.array(["x" * 100_000_000]))]), compression="zstd", use_dictionary=False, row_group_size=5000))}, Rows([ROW] * 5001), ("convert", "in.parquet", "-o", "out.jsonl")),
    Case("turns that share a text", {"in.parquet": parquet(pa.table({"messages": sharing_turns(3000)}), compression="zstd")}, Rows([{"messages": [{"role": "user", "content": "x" * 2**20}]}] * 2), ("convert", "in.parquet", "-o", "out.jsonl", "--limit", "2")),
    *COLUMNS, *LIES, *FORMS, *SCHEMAS,
    Case("a bomb, looked at", {"in.parquet": exploding}, Rows([ROW] * 2), ("convert", "in.parquet", "-o", "out.jsonl", "--limit", "2")),
    *(file(f"a byte changed at {place}", bent(WHOLE, place), Damaged(MANY)) for place in range(2, len(WHOLE), len(WHOLE) // 40)),
    *(file(f"packed, a byte changed at {place}", bent(SMALL, place), Damaged([ROW] * 3)) for place in range(5, len(SMALL), len(SMALL) // 20)),
]  # fmt: skip
