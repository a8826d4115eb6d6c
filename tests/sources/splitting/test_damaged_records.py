"""Shards of delimited text with a damaged record: each other row is in one of them, and the record keeps its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...conftest import read_rows, run_here, succeed


@pytest.mark.parametrize("damaged", range(9))
def test_a_damaged_record_moves_no_row(damaged: int, tmp_path: Path) -> None:
    """The place of a row was counted without the damaged ones before it, and that of the last rows not found."""
    rows = [b"q%d,%s" % (row, b"\xff" if row == damaged else b"a") for row in range(9)]
    (tmp_path / "in.csv").write_bytes(b"\n".join([b"prompt,completion", *rows]))
    skip = ("--on-error", "skip", "--max-bad", "1", "--rejects", "bad.jsonl")
    command = ("convert", "in.csv", "-o", "out", "--format", "jsonl", "--rows-per-shard", "2", *skip)
    succeed(run_here(*command, cwd=tmp_path))
    shards = sorted((tmp_path / "out/data").iterdir())
    asked = [row["prompt"][0]["content"] for shard in shards for row in read_rows(shard)]
    assert asked == [f"q{row}" for row in range(9) if row != damaged]
    (rejected,) = read_rows(tmp_path / "bad.jsonl")
    assert (rejected["source"]["row"], rejected["source"]["line"]) == (damaged, damaged + 2)
