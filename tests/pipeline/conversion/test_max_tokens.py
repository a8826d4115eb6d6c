"""`--max-tokens`: long conversations stop the run, are dropped or become several rows of whole exchanges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import run_cli

from ...conftest import read_rows, write_rows

tokenizers = pytest.importorskip("tokenizers")
Talk = list[str]
EXCHANGES: Talk = ["a b", "c", "d", "e f"]
"""Six tokens: two exchanges of three."""


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer of white-space separated words."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0}, unk_token="x"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.content }} {% endfor %}")
    return tmp_path / "tokenizer.json"


def convert(tokenizer: Path, *talks: Talk, over: str, limit: int = 3) -> tuple[int, list[str], list[dict[str, object]]]:
    """Return the exit code, stderr, and the rows."""
    roles = ("user", "assistant")
    rows = [
        {"id": n, "messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(talk)]}
        for n, talk in enumerate(talks)
    ]
    folder = tokenizer.parent
    write_rows(folder / "in.jsonl", rows)
    options = ("-t", "t.jinja", "--tokenizer", tokenizer.name, "--keep", "id", "--max-tokens", str(limit))
    run = run_cli("convert", "in.jsonl", *options, "--over-length", over, "-o", "out.jsonl", cwd=folder)
    out = folder / "out.jsonl"
    return run.returncode, run.stderr.decode().splitlines(), (
        read_rows(out) if out.exists() else []
    )  # fmt: skip


def test_a_long_conversation_stops_the_run(tokenizer: Path) -> None:
    code, said, rows = convert(tokenizer, ["a", "b"], EXCHANGES, over="error")
    assert (code, rows) == (4, [])
    assert said[-2:] == [
        "error: in.jsonl row 1: 6 tokens, over the limit of 3 (line 2)",
        "hint: `--over-length drop` drops such rows, `--over-length split-turns` splits them",
    ]


def test_a_long_conversation_is_dropped(tokenizer: Path) -> None:
    code, said, rows = convert(tokenizer, ["a", "b"], EXCHANGES, ["a", "b c"], over="drop")
    assert (code, [tuple(row.values()) for row in rows]) == (0, [("a b ", 2, 0), ("a b c ", 3, 2)])
    assert "filtered out: 1 row (over_length.drop 1)" in said


def test_a_long_conversation_is_split_into_exchanges(tokenizer: Path) -> None:
    code, said, rows = convert(tokenizer, ["a", "b"], EXCHANGES, ["a", "b c"], over="split-turns")
    split = [("a b ", 2, 0), ("a b c ", 3, 1), ("d e f ", 3, 1), ("a b c ", 3, 2)]
    assert (code, [tuple(row.values()) for row in rows]) == (0, split)
    assert list(rows[0]) == ["text", "num_tokens", "id"]
    assert "changed: over_length.split-turns 1" in said


def test_an_exchange_that_is_too_long_stops_the_run(tokenizer: Path) -> None:
    code, said, rows = convert(tokenizer, EXCHANGES, over="split-turns", limit=2)
    assert (code, rows) == (4, [])
    assert any(line.startswith("error: in.jsonl row 0: 6 tokens, over the limit of 2") for line in said)
