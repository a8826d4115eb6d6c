"""Columns that only rows beyond the sample of 1,000 have are known when they are named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ..conftest import read_rows, run_here, succeed, write_rows

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
KEY = "späte"
ROWS = [
    {"messages": TURNS, **({"meta": {"a": n}} if n >= 1500 else {}), **({KEY: f"x{n}"} if n >= 1600 else {})}
    for n in range(1700)
]


@pytest.fixture(params=["jsonl", "jsonl.gz", "json", "escaped.jsonl"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    ascii_only = request.param.startswith("escaped")
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in ROWS)
    text = json.dumps(ROWS) if request.param == "json" else text
    data = gzip.compress(text.encode()) if request.param.endswith("gz") else text.encode()
    (tmp_path / f"in.{request.param}").write_bytes(data)
    return f"in.{request.param}"


def converted(source: str, folder: Path, *arguments: str) -> list[dict[str, object]]:
    succeed(run_here("convert", source, "-o", "out.jsonl", *arguments, cwd=folder))
    return read_rows(folder / "out.jsonl")


def test_kept_in_json_lines_and_parquet(source: str, tmp_path: Path) -> None:
    assert converted(source, tmp_path, "--keep", "meta", "--keep", KEY) == ROWS
    assert run_here("convert", source, "-o", "x.parquet", "--keep", "meta", cwd=tmp_path).returncode == 0
    kept = pq.read_table(tmp_path / "x.parquet")["meta"].to_pylist()
    assert kept == [row.get("meta") for row in ROWS]


def test_mapped_selected_and_dropped(source: str, tmp_path: Path) -> None:
    rows = converted(source, tmp_path, "--map", f"system={KEY}")
    assert rows[1599]["messages"] == TURNS
    assert rows[1600]["messages"] == [{"role": "system", "content": "x1600"}, *TURNS]
    assert len(converted(source, tmp_path, "--where", f"{KEY}", "--overwrite")) == 100
    dropped = run_here("convert", source, "-o", "x.parquet", "-q", "--drop", KEY, "--drop", "meta", cwd=tmp_path)
    assert (dropped.returncode, dropped.stderr) == (0, b"")


def test_dedup_split_and_group_by_a_late_column(tmp_path: Path) -> None:
    rows = [{"c": n, "role": "user", "content": "hi"} for n in range(1200)]
    late = [{"c": 2000 + n % 2, "n": -n, "role": "user", "content": f"{n}"} for n in range(4)]
    write_rows(tmp_path / "in.jsonl", (*rows, *late))
    found = converted(
        "in.jsonl", tmp_path, "--group-by", "c", "--order-by", "n", "--where", "n is defined", "--to", "messages"
    )
    assert [[turn["content"] for turn in row["messages"]] for row in found] == [["2", "0"], ["3", "1"]]  # type: ignore[attr-defined]


def test_a_column_that_no_row_has_is_unknown(source: str, tmp_path: Path) -> None:
    run = run_here("convert", source, "-o", "out.jsonl", "--keep", "content", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (
        2,
        f"error: {source}: unknown column `content`\nhint: one of: messages\n".encode(),
    )
