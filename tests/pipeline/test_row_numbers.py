"""Every row keeps its own number and its own columns: also in the second batch of the second file, after bad rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.errors import RowError
from chatfmt.recipe import Recipe

from ..conftest import read_rows

Row = dict[str, Any]
ROWS = 2100
BAD = 2077
"""A row of the second batch: a batch of JSON Lines has 2048 rows at most."""


def turns(n: int, role: str, content: str, names: tuple[str, str]) -> list[Row]:
    return [{role: names[0], content: f"q{n}"}, {role: names[1], content: f"a{n}"}]


def talk(n: int) -> list[Row]:
    return turns(n, "role", "content", ("user", "assistant"))


def answers(n: int) -> list[Row]:
    return [{"response": f"b{n}", "score": 1}, {"response": f"a{n}", "score": 2}, {"response": f"c{n}", "score": 0}]


FORMS: dict[str, tuple[Callable[[int], Row], Row, str, int]] = {
    "messages": (lambda n: {"messages": talk(n)}, {"messages": [{"role": "robot", "content": "x"}]}, "msg.role", 1),
    "sharegpt": (
        lambda n: {"conversations": turns(n, "from", "value", ("human", "gpt")), "system": f"s{n}" if n % 2 else ""},
        {"conversations": [{"from": "human", "value": None}], "system": ""}, "msg.content", 1,
    ),
    "alpaca": (
        lambda n: {"instruction": f"q{n}", "input": "", "output": f"a{n}"},
        {"instruction": "q", "input": "", "output": None}, "col.null", 1,
    ),
    "preference": (
        lambda n: {"prompt": f"q{n}", "chosen": f"a{n}", "rejected": f"b{n}"},
        {"prompt": "q", "chosen": None, "rejected": "b"}, "col.null", 1,
    ),
    "pair-turns": (
        lambda n: {"conversation": [{"input": f"q{n}", "output": f"a{n}"}]}, {"conversation": [7]}, "msg.type", 1),
    "scored": (
        lambda n: {"instruction": f"q{n}", "completions": answers(n)},
        {"instruction": "q", "completions": None}, "col.type", 3,
    ),
    "a list a line": (lambda n: {"": talk(n)}, {"": [{"role": "robot", "content": "x"}]}, "msg.role", 1),
}  # fmt: skip


def write(folder: Path, make: Callable[[int], Row], bad: Row) -> list[str]:
    """Two files of rows that say their number, numbered on over both; the second one has a bad row."""
    paths = []
    for file in range(2):
        rows = [{**make(file * ROWS + n), "n": file * ROWS + n} for n in range(ROWS)]
        if file == 1:
            rows[BAD] = {**bad, "n": -1}
        lines = [json.dumps(row.get("", row)) for row in rows]
        path = folder / f"part-{file}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("name", FORMS)
def test_rows_keep_their_numbers(name: str, tmp_path: Path) -> None:
    make, bad, code, each = FORMS[name]
    paths = write(tmp_path, make, bad)
    kept = [] if "" in bad else ["n"]
    options = {"pairs": "all"} if name == "scored" else {}
    asked = {"source": paths, "keep": kept, "dialect_options": options}
    with pytest.raises(RowError) as caught:
        chatfmt.convert(Recipe(**asked), out=tmp_path / "a.jsonl", executor="serial")
    assert (caught.value.code, caught.value.at.file, caught.value.at.row) == (code, paths[1], BAD)
    recipe = Recipe(**{**asked, "on_error": "skip"})
    chatfmt.convert(recipe, out=tmp_path / "b.jsonl", executor="serial", rejects=tmp_path / "bad.jsonl")
    (reject,) = read_rows(tmp_path / "bad.jsonl")
    assert (reject["source"]["file"], reject["source"]["row"], reject["code"]) == (paths[1], BAD, code)
    made = read_rows(tmp_path / "b.jsonl")
    numbers = [n for n in range(2 * ROWS) if n != ROWS + BAD for _ in range(each)]
    assert len(made) == len(numbers)
    for row, n in zip(made, numbers, strict=True):
        assert row.get("n", n) == n
        assert {turn["content"][1:] for part in row.values() if isinstance(part, list) for turn in part} == {str(n)}
