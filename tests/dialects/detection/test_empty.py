"""Conversations without turns are bad rows, also where a sample has nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ...conftest import read_rows, run_cli, write_rows

GOOD = {"messages": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}]}


def write(folder: Path, *rows: dict[str, Any]) -> None:
    write_rows(folder / "in.jsonl", rows)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": [], "id": 1}, "messages"),
        ({"conversations": []}, "conversations"),
        ({"steps": [], "session": "x"}, "steps"),
        ({"history": []}, "history"),
        ({"events": "[]"}, "events"),
    ],
)
def test_an_empty_session_is_named_and_rejected(row: dict[str, Any], name: str, tmp_path: Path) -> None:
    write(tmp_path, row)
    run = run_cli("convert", "in.jsonl", cwd=tmp_path)
    assert run.stdout == b"" and run.stderr.decode() == (
        f"error: in.jsonl row 0: `{name}` is empty: the conversation has no turns (line 1)\n"
        "hint: --on-error skip rejects such rows\n"
    )
    skip = ["--on-error", "skip", "--max-bad", "100%", "--rejects", "bad.jsonl"]
    assert b"rejected: 1 row.empty" in run_cli("convert", "in.jsonl", *skip, cwd=tmp_path).stderr


@pytest.mark.parametrize("empty", [1, 5])
def test_empty_sessions_among_others(empty: int, tmp_path: Path) -> None:
    write(tmp_path, *[{"messages": []}] * empty, GOOD, {"messages": []})
    skip = ["--on-error", "skip", "--max-bad", "100%", "--rejects", "bad.jsonl"]
    run = run_cli("convert", "in.jsonl", *skip, "-o", "out.jsonl", cwd=tmp_path)
    assert f"rejected: {empty + 1} of {empty + 2} rows (row.empty {empty + 1})" in run.stderr.decode()
    assert read_rows(tmp_path / "out.jsonl") == [GOOD]
    rejects = read_rows(tmp_path / "bad.jsonl")
    assert [reject["source"]["row"] for reject in rejects] == [*range(empty), empty + 1]
    warned = run_cli("convert", "in.jsonl", cwd=tmp_path)
    assert f"warnings: row.empty {empty + 1}\n" in warned.stderr.decode()
    checked = run_cli("check", "in.jsonl", cwd=tmp_path)
    found = f"row.empty   warning       {empty + 1}   --on-error skip"
    assert (checked.returncode, checked.stdout.decode().splitlines()[3].strip()) == (0, found)
    rendered = run_cli("check", "in.jsonl", "-t", "chatml", "--json", cwd=tmp_path)
    assert (rendered.returncode, json.loads(rendered.stdout)["counts"]) == (1, {"row.empty": empty + 1})
    run = run_cli("convert", "in.jsonl", "-t", "chatml", cwd=tmp_path)
    assert run.stderr.decode() == "error: in.jsonl row 0: no turns (line 1)\nhint: --on-error skip\n"
    strict = run_cli("check", "in.jsonl", "--strict", cwd=tmp_path)
    said = f"error: {empty + 1} of {empty + 2} rows have problems\nhint: --on-error skip rejects them\n"
    assert (strict.returncode, strict.stderr.decode()) == (1, said)


def test_a_question_with_an_empty_history_is_no_empty_conversation(tmp_path: Path) -> None:
    write(tmp_path, {"history": [], "question": "Sky?", "score": 1})
    assert b"has no turns" not in run_cli("convert", "in.jsonl", cwd=tmp_path).stderr
