"""The schema of Parquet output has the keys that turns get after the sample, whatever the types of the source say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ...conftest import read_rows, run_here, succeed, write_rows

Row = dict[str, Any]
CALL = '{"name": "f", "arguments": {"a": 1}}'


def sharegpt(answer: str, role: str = "gpt") -> Row:
    return {"conversations": [{"from": "human", "value": "q"}, {"from": role, "value": answer}]}


CASES: dict[str, tuple[Callable[[int], Row], Row, tuple[str, ...], str, Any]] = {
    "a call of ShareGPT": (
        lambda index: sharegpt(f"a{index}"), sharegpt(CALL, "function_call"), (), "tool_calls",
        [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
    ),
    "reasoning in tags": (
        lambda index: sharegpt(f"a{index}"), sharegpt("<think>\nhm\n</think>\n\nyes"),
        ("--transform", "reasoning=split"), "reasoning_content", "hm",
    ),
    "a column of reasoning": (
        lambda index: {"question": "q", "answer": f"a{index}", "cot": None},
        {"question": "q", "answer": "a", "cot": "hm"},
        ("--map", "reasoning=cot"), "reasoning_content", "hm",
    ),
    "a column of calls": (
        lambda index: {"question": "q", "answer": f"a{index}", "made": None},
        {"question": "q", "answer": None, "made": f"[{CALL}]"},
        ("--map", "tool_calls=made"), "tool_calls", [{"type": "function", "function": json.loads(CALL)}],
    ),
}  # fmt: skip
"""First rows, the late row, flags, the key that only the late answer has, and its value."""


@pytest.mark.parametrize("case", CASES)
def test_a_key_of_a_late_row_is_written(case: str, tmp_path: Path) -> None:
    first, late, flags, key, value = CASES[case]
    rows = [*map(first, range(1200)), late]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    succeed(run_here("convert", tmp_path / "in.parquet", *flags, "-o", tmp_path / "out", "-q"))
    (path,) = (tmp_path / "out" / "data").glob("*.parquet")
    found = pq.read_table(path).to_pylist()
    assert len(found) == 1201
    written = found[-1]["messages"][-1][key]
    assert (json.loads(written) if key == "tool_calls" else written) == value
    assert all(turn[key] is None for row in found[:-1] for turn in row["messages"])


@pytest.mark.parametrize("flags", [(), ("-t", "chatml"), ("-t", "chatml", "--keep", "id"), ("-t", "gemma")], ids=str)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_the_first_row_that_is_converted_may_be_a_late_one(suffix: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    roles = [("system", "user")[index > 1200] for index in range(1203)]
    rows = [{"id": index, "messages": [{"role": role, "content": "hi"}]} for index, role in enumerate(roles)]
    lines, table = write_rows(tmp_path / "in.jsonl", rows), pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "in.parquet")
    select = ("--on-error", "skip", "--max-bad", "99.9%") if "gemma" in flags else ("--where", "id > 1200")
    source = lines.with_suffix(f".{suffix}")
    for name in ("lines.jsonl", "columns.parquet"):
        succeed(run_here("convert", source, *flags, *select, "-o", tmp_path / name, "-q"))
    found = pq.read_table(tmp_path / "columns.parquet").to_pylist()
    assert (found, len(found)) == (read_rows(tmp_path / "lines.jsonl"), 2)
