"""Documents and variables of a row that are JSON as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ...conftest import run_here, write_rows

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
DOCUMENTS = [{"title": "T", "text": "body"}]


@pytest.mark.parametrize(
    ("name", "value"), [("documents", DOCUMENTS), ("chat_template_kwargs", {"enable_thinking": False})]
)
def test_json_as_text_is_read_like_json(name: str, value: Any, tmp_path: Path) -> None:
    texts = [json.dumps(value), " ", None]
    for values in (texts, [*texts, value]):
        write_rows(tmp_path / "in.jsonl", [{"messages": TURNS, name: each} for each in values])
        run = run_here("convert", "in.jsonl", "--to", "messages", cwd=tmp_path)
        found = [json.loads(line).get(name) or None for line in run.stdout.splitlines()]  # TRL needs `{}` there
        assert found == [value, None, None, value][: len(values)], run.stderr.decode()


def test_text_that_is_no_list_of_documents_is_an_error(tmp_path: Path) -> None:
    rows = [{"messages": TURNS, "documents": text} for text in (json.dumps(DOCUMENTS), '[{"title"')]
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_here("convert", "in.jsonl", "--to", "messages", cwd=tmp_path)
    assert run.stderr.decode().splitlines()[0] == (
        "error: in.jsonl row 1: column `documents` holds text, not a list (line 2)"
    )
