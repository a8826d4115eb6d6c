"""All of gsm8k against an oracle of its own: not one other byte changes."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pyarrow as pa
import pytest

from chatfmt import transforms
from tests.conftest import SHARED, needs_shared

from .conversations import to_batch, to_rows

FILES = {"gsm8k_train": 7473, "gsm8k_test": 1319, "gsm8k_test_socratic": 1319}
pytestmark = [needs_shared, pytest.mark.parametrize("file", FILES)]


@cache
def pairs(file: str) -> list[tuple[str, str]]:
    assert SHARED is not None
    lines = (SHARED / "data" / f"{file}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert len(rows) == FILES[file]
    return [(row["question"], row["answer"]) for row in rows]


@cache
def batch(file: str) -> pa.RecordBatch:
    return to_batch(
        [
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
            for question, answer in pairs(file)
        ]
    )


def changed(file: str, **settings: Any) -> tuple[list[tuple[str, str]], list[dict[str, Any]], dict[str, int]]:
    after, counts = transforms.apply(batch(file), settings)
    rows = to_rows(after)
    assert [[turn["role"] for turn in row["messages"]] for row in rows] == [["user", "assistant"]] * len(rows)
    return [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows], rows, dict(counts)


def cut_by_hand(answer: str) -> str:
    """The answer without annotations, found by their brackets and without a regular expression."""
    said = ""
    while "<<" in answer:
        before, _, rest = answer.partition("<<")
        inside, closed, answer = rest.partition(">>")
        assert closed and inside.count("=") == 1
        said += before
    return said + answer


def test_annotations_go_and_nothing_else(file: str) -> None:
    found, _, counts = changed(file, calculator="remove")
    assert found == [(question, cut_by_hand(answer)) for question, answer in pairs(file)]
    assert counts == {"calculator": sum("<<" in answer for _, answer in pairs(file))}
    assert not any("<<" in answer for _, answer in found)


def test_the_final_answer_is_kept_unless_asked_for(file: str) -> None:
    found, _, counts = changed(file, calculator="keep", final_answer="keep", socratic="turn")
    assert (found, counts) == (pairs(file), {})


def test_the_final_answer_goes(file: str) -> None:
    found, _, counts = changed(file, final_answer="remove")
    assert counts == {"final_answer": FILES[file]}
    for (question, answer), (kept_question, kept) in zip(pairs(file), found, strict=True):
        assert kept_question == question
        assert answer.startswith(kept) and re.fullmatch(r"\n#### -?[0-9,]+", answer[len(kept) :])


def test_the_final_answer_moves_to_a_column(file: str) -> None:
    found, rows, counts = changed(file, final_answer="column")
    assert counts == {"final_answer": FILES[file]}
    rebuilt = [(q, f"{a}\n#### {row['final_answer']}") for (q, a), row in zip(found, rows, strict=True)]
    assert rebuilt == pairs(file)


def test_the_final_answer_is_boxed(file: str) -> None:
    found, _, counts = changed(file, final_answer="boxed")
    assert counts == {"final_answer": FILES[file]}
    expected = []
    for question, answer in pairs(file):
        *working, final = answer.split("\n")
        expected.append((question, "\n".join([*working, "\\boxed{" + final.removeprefix("#### ") + "}"])))
    assert found == expected


def test_steps_make_the_answer_again(file: str) -> None:
    after, counts = transforms.apply(batch(file), {"socratic": "steps"})
    rows = to_rows(after)
    if not file.endswith("socratic"):
        assert (after, counts) == (batch(file), {})
        return
    assert counts == {"socratic": FILES[file]}
    for row, (question, answer) in zip(rows, pairs(file), strict=True):
        turns = [turn["content"] for turn in row["messages"]]
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"] * (len(turns) // 2)
        assert turns[0].startswith(question + "\n")
        asked = [turns[0][len(question) + 1 :], *turns[2::2]]
        assert "\n".join(f"{ask} ** {step}" for ask, step in zip(asked, turns[1::2], strict=True)) == answer
        assert all("\n" not in ask for ask in asked)
