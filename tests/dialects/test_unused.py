"""What a dialect selects from a row is written, and what it does not select is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import run_cli, write_rows

TREE = [
    {"message_id": "a", "parent_id": None, "text": "q", "role": "prompter"},
    {"message_id": "b", "parent_id": "a", "text": "best", "role": "assistant", "rank": 0},
    {"message_id": "c", "parent_id": "a", "text": "second", "role": "assistant", "rank": 1},
    {"message_id": "d", "parent_id": "a", "text": "gone", "role": "assistant", "deleted": True},
    {"message_id": "e", "parent_id": "d", "text": "below", "role": "prompter"},
    {"message_id": "f", "parent_id": "x", "text": "alone", "role": "assistant"},
    {"message_id": "g", "parent_id": None, "text": "gone", "role": "prompter", "review_result": False},
]
ROOT = {**TREE[0], "replies": [{**TREE[1], "replies": []}, TREE[2], {**TREE[3], "replies": [TREE[4]]}]}
SQUAD = {"context": "c", "question": "q", "answers": {"text": ["a", "a", "b"], "answer_start": [0, 0, 1]}}
RATED = {"instruction": "q", "generations": ["a", "b", "c", "d", "e"], "ratings": [5, 1, 3, 5, None]}
CASES: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "rows of trees": (TREE, [], "1 {'dropped.reply.deleted': 3, 'dropped.reply.orphan': 1, 'dropped.reply.other': 1}"),
    "all paths": (TREE, ["paths=all"], "2 {'dropped.reply.deleted': 3, 'dropped.reply.orphan': 1}"),
    "a tree": ([{"prompt": ROOT}], [], "1 {'unused.reply.deleted': 2, 'unused.reply.other': 1}"),
    "pairs of a tree": ([{"prompt": ROOT}], ["paths=pairs"], "1 {'unused.reply.deleted': 2}"),
    "a deleted tree": ([{"prompt": {**ROOT, "deleted": True}}, {"prompt": ROOT}], ["paths=pairs"],
                       "1 {'dropped.reply.deleted': 1, 'unused.reply.deleted': 2}"),
    "found answers": ([SQUAD], [], "1 {'unused.answers': 1}"),
    "the best and the worst": ([RATED], [], "1 {'unused.answers': 3}"),
    "the best two": ([RATED], ["pairs=best-second", "ties=first"], "1 {'unused.answers': 3}"),
    "all pairs": ([RATED], ["pairs=all"], "5 {'unused.answers': 1, 'unused.pair.tie': 1}"),
    "answers without a pair": ([{**RATED, "ratings": [1, None, None, None, None]}, RATED], [],
                               "1 {'dropped.pair.single': 1, 'unused.answers': 3}"),
    "rows of several dialects": ([RATED, {"prompt": "q", "chosen": "a", "rejected": "b"}], [],
                                 "2 {'unused.answers': 3}"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_used_is_counted(name: str, tmp_path: Path) -> None:
    rows, options, expected = CASES[name]
    write_rows(tmp_path / "in.jsonl", rows)
    flags = [flag for option in options for flag in ("--dialect-option", option)]
    run = run_cli("convert", "in.jsonl", "-o", "out.jsonl", "--json", *flags, cwd=tmp_path)
    report = json.loads(run.stdout)
    assert f"{report['rows']} {dict(sorted(report['changes'].items()))}" == expected
    dropped = sum(count for change, count in report["changes"].items() if change.startswith("dropped."))
    assert (report["filtered"], report["rows_in"]) == (dropped, len(rows))


def test_a_message_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [*TREE, TREE[1]])
    run = run_cli("convert", "in.jsonl", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (
        4,
        "error: in.jsonl row 7: an earlier row has the `message_id` `b` too (line 8)\nhint: --on-error skip drops it\n",
    )
    assert run_cli("convert", "in.jsonl", "--on-error", "skip", "--max-bad", "1", cwd=tmp_path).returncode == 0


def test_an_empty_id_is_an_id(tmp_path: Path) -> None:
    rows = [{**TREE[0], "message_id": ""}, {**TREE[1], "parent_id": ""}]
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_cli("convert", "in.jsonl", "--to", "messages", cwd=tmp_path)
    assert [turn["content"] for turn in json.loads(run.stdout)["messages"]] == ["q", "best"]
