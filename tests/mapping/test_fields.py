"""`--map` adds to what is detected: each field alone, and fields together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import from_lines, run_here, succeed, write_rows

Row = dict[str, Any]
Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
PAST = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
CALL_TEXT = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
CALLS = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
THOUGHT = {**A, "reasoning_content": "t"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
CASES: dict[str, tuple[Row, list[str], Row]] = {
    "reasoning alone": ({"instruction": "q", "output": "a", "why": "t"}, ["reasoning=why"], {"messages": [Q, THOUGHT]}),
    "reasoning beside turns": ({"messages": [Q, A], "why": "t"}, ["reasoning=why"], {"messages": [Q, THOUGHT]}),
    "a system text": (
        {"question": "q", "answer": "a", "who": "s"},
        ["system=who"],
        {"messages": [{"role": "system", "content": "s"}, Q, A]},
    ),
    "a label": (
        {"question": "q", "answer": "a", "ok": 0},
        ["label=ok"],
        {"prompt": [Q], "completion": [A], "label": False},
    ),
    "the answer alone": ({"question": "q", "reply": "a"}, ["completion=reply"], {"messages": [Q, A]}),
    "a question, tools and calls": (
        {"q": "q", "fns": [{"name": "f"}], "calls": [{"name": "f", "arguments": {"a": 1}}]},
        ["user=q", "tools=fns", "tool_calls=calls"],
        {
            "messages": [Q, {"role": "assistant", "tool_calls": [CALL]}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    ),
    "an answer with calls": (
        {"q": "q", "a": "a", "calls": '[{"name": "f", "args": {"a": 1}}]'},
        ["user=q", "assistant=a", "tool_calls=calls"],
        {"messages": [Q, {**A, "tool_calls": [CALL]}]},
    ),
    "a transcript and an answer": (
        {"t": "Human: hi\nAssistant: hello\nHuman: q", "a": "a"},
        ["transcript=t", "assistant=a"],
        {"messages": [*PAST, Q, A]},
    ),
    "a history, a question and an answer": (
        {"h": [["hi", "hello"]], "q": "q", "a": "a", "why": "t"},
        ["history=h", "prompt=q", "completion=a", "reasoning=why"],
        {"messages": [*PAST, Q, THOUGHT]},
    ),
    "reasoning inside turns": (
        {"messages": [Q, {**A, "thoughts": "t"}]},
        ["messages.reasoning=thoughts"],
        {"messages": [Q, THOUGHT]},
    ),
    "reasoning in objects inside turns": (
        {"chat": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "notes": {"cot": "t"}}]},
        ["messages=chat", "messages.reasoning=notes.cot"],
        {"messages": [Q, {**A, "notes": {"cot": "t"}, "reasoning_content": "t"}]},
    ),
    "reasoning beside calls in text": (
        {
            "messages": [Q, {"role": "assistant", "content": CALL_TEXT, "thoughts": "t"}],
            "tools": [{"name": "f", "parameters": {}}],
        },
        ["messages.reasoning=thoughts"],
        {
            "messages": [Q, {"role": "assistant", "tool_calls": CALLS, "reasoning_content": "t"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        },
    ),
    "a category as the answer": (
        {"text": "q", "label": "good"},
        ["user=text", "assistant=label"],
        {"messages": [Q, {**A, "content": "good"}]},
    ),
    "a category in the answer": (
        {"text": "q", "label": 0},
        ["user=text", "assistant=It is {{ label }}."],
        {"messages": [Q, {**A, "content": "It is 0."}]},
    ),
    "reasoning in the answer": (
        {"q": "q", "reasoning": "t", "a": "a"},
        ["user=q", "assistant=<think>{{ reasoning }}</think>{{ a }}"],
        {"messages": [Q, {**A, "content": "<think>t</think>a"}]},
    ),
    "a system text as the question": ({"system": "q", "a": "a"}, ["user=system", "assistant=a"], {"messages": [Q, A]}),
    "paths inside turns": (
        {"messages": [{"by": {"kind": "user"}, "body": "q"}, {"by": {"kind": "bot"}, "body": "a"}]},
        ["messages.role=by.kind", "messages.content=body"],
        {"messages": [{"by": {"kind": "user"}, **Q}, {"by": {"kind": "bot"}, **A}]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fields(name: str, tmp_path: Path) -> None:
    row, fields, expected = CASES[name]
    write_rows(tmp_path / "data.jsonl", [row])
    flags = [word for field in fields for word in ("--map", field)]
    markers = ["--marker", "Human:=user", "--marker", "Assistant:=assistant"] if "transcript=t" in fields else []
    done = succeed(run_here("convert", tmp_path / "data.jsonl", *flags, *markers))
    assert json.loads(done.stdout) == expected


def test_a_field_that_the_data_has_no_place_for(tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b", "why": "t"}])
    done = run_here("convert", tmp_path / "data.jsonl", "--map", "reasoning=why")
    assert done.returncode == 2
    assert b"no dialect fits" in done.stderr


def test_an_error_in_the_sample_has_the_number_of_its_row_in_the_file(tmp_path: Path) -> None:
    rows = [{"q": "q", "n": 1 if number != 267 else "x"} for number in range(300)]
    write_rows(tmp_path / "data.jsonl", rows)
    flags = ["--map", "user=q", "--map", "assistant={{ n + 1 }}"]
    stopped = run_here("convert", tmp_path / "data.jsonl", *flags)
    assert stopped.returncode == 4
    assert f"error: {tmp_path}/data.jsonl row 267: the expression" in stopped.stderr.decode()
    skipped = run_here("convert", tmp_path / "data.jsonl", *flags, "--on-error", "skip")
    assert len(skipped.stdout.splitlines()) == 299
    assert b"rejected: 1 of 300 rows (expr.error 1)" in skipped.stderr


def test_comparing_a_cell_with_a_number_says_how_to_read_it_as_one(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("q,a,rating\nx,y,5\nx,z,3\n")
    flags = ["--map", "user=q", "--map", "assistant=a", "--drop", "rating"]
    run = run_here("convert", "in.csv", *flags, "--where", "rating >= 4", cwd=tmp_path)
    assert run.returncode == 4
    hint = "hint: the column is text, as all cells of a CSV are: `NAME|float` reads it as a number"
    assert run.stderr.decode().splitlines()[-1] == hint
    run = run_here("convert", "in.csv", *flags, "--where", "rating|float >= 4", cwd=tmp_path)
    assert (run.stdout.count(b"\n"), run.stderr.decode().splitlines()[0]) == (1, "wrote 1 row to stdout, 80 B")


@pytest.mark.parametrize(("label", "cell", "problem"), [
    ("rating|float >= 4", "", "the label reads `rating`, which has no value"),
    ("rating == '5'", "", "the label reads `rating`, which has no value"),
    ("rating|int >= 4", "n/a", "the expression `{{ rating|int >= 4 }}` fails: `n/a` is not a number"),
])  # fmt: skip
def test_a_row_without_a_rating_is_not_labelled(label: str, cell: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"prompt,response,rating\nx,y,5\nx,z,{cell}\n")
    run = run_here("convert", "in.csv", "--label", label, cwd=tmp_path)
    hint = "--on-error skip leaves such rows out"
    assert (run.returncode, run.stderr.decode()) == (4, f"error: in.csv row 1: {problem} (line 3)\nhint: {hint}\n")
    rows = from_lines(run_here("convert", "in.csv", "--label", label, "--on-error", "skip", cwd=tmp_path).stdout)
    assert [(row["prompt"][0]["content"], row["label"]) for row in rows] == [("x", True)]


@pytest.mark.parametrize(
    ("where", "message", "hint"),
    [
        ('"ok == 1"', '`--where "ok == 1"` names no column, so it keeps all rows or none',
         "without the inner quotes: `ok == 1`"),
        ('"ok" == 1', '`--where "ok" == 1` names no column, so it keeps all rows or none',
         "name a column, as in `score > 3`"),
        ("true", "`--where true` names no column, so it keeps all rows or none", "name a column, as in `score > 3`"),
        ("ok", "row 1: the value of --where is the text `false`, which would count as true (line 3)",
         "write no braces, and compare text with text: `correct == 'true'`"),
        ("{{ ok == '1' }}", "row 0: the value of --where is the text `False`, which would count as true (line 2)",
         "write no braces, and compare text with text: `correct == 'true'`"),
    ],
)  # fmt: skip
def test_filters_that_cannot_tell_rows_apart_are_refused(where, message, hint, tmp_path):
    (tmp_path / "in.csv").write_text("prompt,completion,ok\nq,a,yes\nq,b,false\n")
    run = run_here("convert", "in.csv", "--where", where, "-o", "out.jsonl", cwd=tmp_path)
    at = "in.csv " if message.startswith("row") else "in.csv: "
    assert (run.returncode, run.stderr.decode()) == (
        4 if at == "in.csv " else 2,
        f"error: {at}{message}\nhint: {hint}\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("where", ["prompt", "row['ok'] == 'yes'", "ok in ['yes']", "{% if ok == 'yes' %}1{% endif %}"])
def test_filters_that_read_a_column_are_accepted(where, tmp_path):
    (tmp_path / "in.csv").write_text("prompt,completion,ok\nq,a,yes\n")
    assert run_here("convert", "in.csv", "--where", where, "-q", cwd=tmp_path).stdout.count(b"\n") == 1


def test_reasoning_that_is_no_text(tmp_path: Path) -> None:
    rows = [{"messages": [Q, {**A, "why": why}]} for why in ("t", 5, None, True)]
    write_rows(tmp_path / "data.jsonl", rows)
    done = run_here("convert", tmp_path / "data.jsonl", "--map", "messages.reasoning=why", "--on-error", "skip",
                    "--max-bad", "50%", "--rejects", tmp_path / "bad.jsonl", "-q")  # fmt: skip
    assert from_lines(done.stdout) == [
        {"messages": [Q, THOUGHT]},
        {"messages": [Q, {**A, "reasoning_content": None}]},
    ]
    reasons = [json.loads(line)["detail"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert reasons == [f"the reasoning in `why` is {kind}, not text" for kind in ("a number", "a boolean")]
