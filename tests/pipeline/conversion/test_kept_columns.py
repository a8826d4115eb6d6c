"""Pass-through columns whose names the output needs."""

from __future__ import annotations

import json

import pytest

import chatfmt
from chatfmt.errors import UsageError

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def convert(tmp_path, row, **keys):
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": TURNS, **row}) + "\n")
    recipe = chatfmt.Recipe(source=str(tmp_path / "in.jsonl"), template="chatml", **keys)
    summary = chatfmt.convert(recipe, tmp_path / "out.jsonl", executor="serial")
    return summary, json.loads((tmp_path / "out.jsonl").read_text())


def test_a_column_that_the_output_does_not_need_is_kept(tmp_path):
    summary, row = convert(tmp_path, {"id": 7, "assistant_spans": "x"}, keep=("id", "assistant_spans"))
    assert (row["id"], row["assistant_spans"], summary.notes) == (7, "x", ())


def test_a_column_that_an_option_adds_cannot_be_kept(tmp_path):
    with pytest.raises(UsageError) as caught:
        convert(tmp_path, {"assistant_spans": "x"}, keep=("assistant_spans",), mask=True)
    assert caught.value.message == "the column `assistant_spans` cannot be kept: the output needs the name"
    hint = "--map source_assistant_spans=assistant_spans --keep source_assistant_spans"
    assert caught.value.hint == f"keep it under another name: {hint}"


def test_keep_all_names_the_columns_that_it_leaves_out(tmp_path):
    summary, row = convert(tmp_path, {"id": 7, "text": "x", "assistant_spans": "y"}, keep=("all",), mask=True)
    assert row["id"] == 7 and row["text"] != "x" and row["assistant_spans"] != "y"
    flags = "--map source_text=text --map source_assistant_spans=assistant_spans"
    assert summary.notes == (
        f"`--keep all` leaves out `text`, `assistant_spans`, since the output needs the names: keep them with {flags}",
    )
