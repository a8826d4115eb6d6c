"""A rare row that lacks a part of all others is a bad row wherever it stands; rows of several types stop detection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ...conftest import run_cli, write_rows

HINT = "hint: --on-error skip drops such rows; add --dialect mixed to read those whose text is in other columns\n"
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
LABELLED = {"prompt": "q", "completion": "a", "label": True}


@pytest.mark.parametrize("place", [2, 1005], ids=["sampled", "later"])
@pytest.mark.parametrize(
    ("row", "part"), [({"question": "q", "answer": "a"}, "answer"), (PAIR, "rejected"), (LABELLED, "label")]
)
@pytest.mark.parametrize("null", [True, False], ids=["null", "absent"])
def test_a_rare_incomplete_row_is_a_bad_row(row: Any, part: str, place: int, null: bool, tmp_path: Path) -> None:
    rows = [dict(row) for _ in range(place + 2)]
    rows[place] = {**row, part: None} if null else {key: value for key, value in row.items() if key != part}
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_cli("convert", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path)
    said = f"error: in.jsonl row {place}: column `{part}` has no value (line {place + 1})\n{HINT}"
    assert (run.returncode, run.stderr.decode()) == (4, said)
    skipped = run_cli(
        "convert", "in.jsonl", "-o", "out.jsonl", "--on-error", "skip", "--max-bad", "1", "-q", cwd=tmp_path
    )
    assert (skipped.returncode, len((tmp_path / "out.jsonl").read_text().splitlines())) == (0, place + 1)


@pytest.mark.parametrize(
    ("others", "odd", "said"),
    [
        (9, PAIR, "9 language-modeling, 1 preference; in.jsonl row 9 is preference"),
        (5, {"prompt": "q"}, "5 language-modeling, 2 prompt-only; in.jsonl row 5 is prompt-only"),
    ],
)
def test_rows_of_several_types_are_no_bad_rows(others: int, odd: Any, said: str, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a"}] * others + [odd] * (2 if others == 5 else 1)
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_cli("convert", "in.jsonl", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()[0]) == (
        2, f"error: in.jsonl: the rows are of different types: {said}",
    )  # fmt: skip


def test_files_of_several_types_are_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data/a.jsonl", [PAIR])
    (tmp_path / "data/b.jsonl").write_text('{"prompt": "q", "completion": "a"}\n' * 5)
    run = run_cli("convert", "data", cwd=tmp_path)
    said = "1 preference, 5 language-modeling; a.jsonl row 0 is preference"
    assert run.stderr.decode().splitlines()[0] == f"error: data: the rows are of different types: {said}"


def test_a_part_that_rows_may_lack_makes_none_of_them_bad(tmp_path: Path) -> None:
    rows = [{"system": "s", "prompt": "q", "completion": "a"}] * 9 + [{"prompt": "q", "completion": "a"}]
    write_rows(tmp_path / "in.jsonl", rows)
    assert b"(checked 10 rows)" in run_cli("inspect", "in.jsonl", cwd=tmp_path).stdout
