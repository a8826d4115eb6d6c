"""Parquet and Arrow files: their types, and batches of bounded size."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.json_columns import JSON
from chatfmt.sources import plan_splits, read, resolve

from ..reading import as_parquet, written

MOST_MEMORY = """
import re, sys
from chatfmt.sources import plan_splits, read, resolve

def read_all(path):
    ((piece,),) = plan_splits(resolve(path))
    return sum(len(batch) for batch in read(piece, batch_rows=100))

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10

read_all(sys.argv[1])
before = most()
print(read_all(sys.argv[2]), most() - before)
"""
"""Reads a small file, then another; prints the rows of that and how many more megabytes it took."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_row_group_as_large_as_the_file_is_not_read_whole(tmp_path: Path) -> None:
    rows, megabytes = [os.urandom(1 << 12).hex() for _ in range(12_800)], 100
    for name, some in (("small", rows[:1]), ("large", rows)):
        pq.write_table(pa.table({"text": some}), tmp_path / name, use_dictionary=False, write_batch_size=100)
    assert pq.read_metadata(tmp_path / "large").num_row_groups == 1
    command = [sys.executable, "-c", MOST_MEMORY, tmp_path / "small", tmp_path / "large"]
    count, more = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert count == len(rows) and more < megabytes * 2 // 3


TURNS = [[{"role": "user", "content": "x"}], None, [], [{"role": "assistant", "content": None}]]


@pytest.mark.parametrize(
    "text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize("list_", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
def test_text_and_list_types_are_normalised(text: pa.DataType, list_: Any, tmp_path: Path) -> None:
    turns = list_(pa.struct([("role", text), ("content", text)]))
    plain = pa.schema(
        [("m", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))), ("t", pa.string())]
    )
    rows = pa.Table.from_pydict({"m": TURNS, "t": ["a", None, "", "d"]}, plain)
    spelled = pa.Table.from_pydict({"m": pa.array(TURNS, turns), "t": pa.array(["a", None, "", "d"], text)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, spelled.schema) as writer:
        writer.write_table(spelled)
    ((piece,),) = plan_splits(resolve(written(tmp_path, sink.getvalue(), "x.arrow")))
    (batch,) = read(piece)
    assert batch.schema.types[1:] == plain.types
    assert batch.drop_columns(["#row"]).to_pylist() == rows.to_pylist()


def test_types_of_parquet(tmp_path: Path) -> None:
    table = pa.table({
        "j": pa.array(['{"a":1}', None], pa.json_()), "n": pa.nulls(2), "i": pa.array([1, 2], pa.int8()),
        "l": pa.array([["1"], ["2"]], pa.list_(pa.string(), 1)),
    })  # fmt: skip
    ((piece,),) = plan_splits(resolve(written(tmp_path, as_parquet(table), "x.parquet")))
    (batch,) = read(piece)
    assert [(field.name, field.type) for field in batch.schema] == [
        ("#row", pa.int64()), ("j", JSON), ("n", pa.string()), ("i", pa.int8()), ("l", pa.list_(pa.string())),
    ]  # fmt: skip


@pytest.mark.parametrize(("length", "rows", "most"), [(2 << 20, 400, 63), (8 << 20, 20, 15), (10, 5000, 5000)])
def test_a_dictionary_of_long_values_is_read_in_small_batches(
    tmp_path: Path, length: int, rows: int, most: int
) -> None:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * length]))
    bomb = as_parquet(pa.table({"a": repeated}), compression="zstd")
    assert len(bomb) < 20_000
    ((piece,),) = plan_splits(resolve(written(tmp_path, bomb, "x.parquet")))
    sizes: list[int] = []
    for batch in read(piece, batch_rows=5000):
        sizes.append(batch.num_rows)
        assert batch["a"][0].as_py() == batch["a"][-1].as_py() == "x" * length
        if sum(sizes) >= 3 * most:
            break
    assert max(sizes) == most
