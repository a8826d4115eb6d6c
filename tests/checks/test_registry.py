"""An entry of CHECKS is all that a new check needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chatfmt.checks import CHECKS, Check, Finding, Limits
from chatfmt.checks.column_view import ColumnView
from chatfmt.cli import main

from ..conftest import write_rows


def shouting(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    loud = [text is not None and text.isupper() for text in view.content.to_pylist()]
    yield from view.at_turns("msg.loud", np.array(loud, np.bool_), "the content is in capitals")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(CHECKS, "msg.loud", Check("warning", shouting, "capitals", "--where"))
    turns = [{"role": "user", "content": "HI"}, {"role": "assistant", "content": "hello"}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    return tmp_path / "in.jsonl"


def test_check_finds_and_fails_on_it(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(source), "--json"]) == 0
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["code"], problem["kind"], problem["message"]) == ("msg.loud", "warning", 0)
    assert problem["detail"] == "the content is in capitals"
    assert main(["check", str(source), "--fail-on", "msg.loud"]) == 1
    assert "msg.loud" in capsys.readouterr().out


def test_a_conversion_counts_and_refuses_it(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["convert", str(source), "-o", str(source.parent / "out.jsonl"), "--executor", "serial", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == {"msg.loud": 1}
    assert main([*command, "--overwrite", "--fail-on", "msg.loud"]) == 4
    said = capsys.readouterr().err
    assert "the content is in capitals (message 0, line 1)" in said and "hint: --where" in said


def test_an_unknown_code_lists_it(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(source), "--fail-on", "msg.lod"]) == 2
    assert "did you mean `msg.loud`?" in capsys.readouterr().err
