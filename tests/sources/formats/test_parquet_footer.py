"""Parquet footers with wrong counts; more in `tests/hostile/parquet_cases.py`."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.errors import InputError
from chatfmt.sources.formats.parquet_footer import FooterCheck, column_chunks

from ..reading import read_all, written

TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
COLUMNS: dict[str, pa.Array] = {
    "text": pa.array(["a", None, "", "d"] * 100),
    "dictionary": pa.array(["a", None, "a", "d"] * 100).dictionary_encode(),
    "turns": pa.array([[{"role": "u", "content": None}] * 3, [], None, [None]] * 100, pa.list_(TURN)),
    "lists": pa.array([["a", "b"], [], None, [None]] * 100),
    "lists of lists": pa.array([[["a"], []], [], None, [None]] * 100),
    "objects": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}, {"a": 2, "b": []}] * 100),
    "a list in an object first": pa.array([{"b": ["x", "y"], "a": 1}, None] * 200),
    "maps": pa.array([[("k", 1), ("l", 2)], [], None, [("m", None)]] * 100, pa.map_(pa.string(), pa.int64())),
    "fixed lists": pa.array([["a", "b"]] * 400, pa.list_(pa.string(), 2)),
    "views": pa.array(["x" * 30, None] * 200, pa.string_view()),
    "nothing": pa.nulls(400),
}  # fmt: skip


@pytest.mark.parametrize(
    "names", [(name,) for name in COLUMNS] + list(itertools.permutations(["lists", "objects", "text"]))
)
def test_correct_footers_pass(names: tuple[str, ...], tmp_path: Path) -> None:
    table = pa.table({name: COLUMNS[name] for name in names})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=170)
    assert len(read_all(written(tmp_path, sink.getvalue(), "x.parquet"))) == 400


def test_wrong_row_counts_fail() -> None:
    table = pa.table({"t": COLUMNS["turns"], "a": COLUMNS["text"]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    file = pq.ParquetFile(sink)
    whole, part = table.to_batches()[0], table.slice(0, 399).to_batches()[0]
    for batch, rows, fits in ((whole, 400, True), (part, 400, False), (part, 399, False), (whole, 401, False)):
        count = FooterCheck(file.schema_arrow, column_chunks(file, 0), rows)
        count.add(batch)
        if fits:
            count.check("x", ["t", "a"])
        else:
            with pytest.raises(InputError, match="the footer claims"):
                count.check("x", ["t", "a"])
