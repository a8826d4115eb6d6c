"""An entry of TRANSFORMS is all that a new transform needs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from chatfmt.cli import main
from chatfmt.transforms import TRANSFORMS, Transform
from chatfmt.transforms.edit import Changed


def keep_first(batch: pa.RecordBatch, value: str) -> Changed:
    return batch.slice(0, 1), Counter(first=len(batch) - 1)


@pytest.fixture(autouse=True)
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSFORMS, "first", Transform(keep_first, "rows after the first", "choice", ("keep", "drop")))


def test_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transforms"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "rows after the first" in line)
    assert line.split()[:2] == ["first", "keep|drop"]


def test_a_conversion_applies_and_counts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n' * 3)
    command = ["convert", str(source), "-o", str(out), "--executor", "serial", "--json", "--transform"]
    assert main([*command, "first=drop"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == {"first": 2}
    assert len(out.read_text().splitlines()) == 1


def test_a_wrong_value_shows_its_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    assert main(["convert", str(source), "-o", str(tmp_path / "o.jsonl"), "--transform", "first=no"]) == 2
    assert "hint: first=keep|drop" in capsys.readouterr().err
