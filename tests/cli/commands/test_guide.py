"""`chatfmt guide`: topics, Markdown in a pipe, and without marks on a terminal."""

from __future__ import annotations

import re

import pytest

from chatfmt.cli import main
from chatfmt.cli.commands.guide import topics, without_comments

from ...conftest import ROOT


def test_it_lists_topics_and_prints_a_guide(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(topics()) > 15 and [line.split()[0] for line in lines if line.strip()][2:] == list(topics())
    assert any(" ".join(line.split()) == "masks Masks: which text the model is trained on" for line in lines)
    assert main(["guide", "masks"]) == 0
    text = (ROOT / "chatfmt" / "guides" / "masks.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == without_comments(text) + "\n"
    assert "<!--" in text and "<!--" not in without_comments(text)


def test_an_unknown_topic(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "mask"]) == 2
    assert capsys.readouterr().err == "error: unknown topic `mask`\nhint: did you mean `masks`?\n"


def test_a_narrow_terminal_shows_tables_uncut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    assert main(["guide", "trainers"]) == 0
    shown = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    table = shown[shown.rindex("--for  ") : shown.index("It reads no weights")]
    text = (ROOT / "chatfmt" / "guides" / "trainers.md").read_text(encoding="utf-8")
    names = re.findall("^\\| `([a-z].*?)` \\|", text, re.MULTILINE)
    assert re.findall("^ ([a-z][a-z-]+) ", table, re.MULTILINE) == names and "…" not in table


def test_a_terminal_shows_the_words_for_pictures() -> None:
    for topic in topics():
        text = (ROOT / "chatfmt" / "guides" / f"{topic}.md").read_text(encoding="utf-8")
        assert "![" not in without_comments(text), topic
    assert without_comments("![A terminal: lengths](stats.svg)") == "*[A terminal: lengths]*"
