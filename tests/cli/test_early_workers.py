"""Workers are started before anything else is imported where the input is surely large, and never where it is not."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

convert = import_module("chatfmt.cli.convert")

RUN = {"workers": 2, "executor": None, "out": Path("out"), "dry_run": None}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(convert, "LARGE", 1000)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jsonl").write_bytes(b"x" * 600)
    (tmp_path / "sub" / "b.jsonl").write_bytes(b"x" * 600)
    return tmp_path


def test_a_large_folder_or_several_files_get_their_workers_early(data: Path) -> None:
    assert convert.crew([str(data)], RUN) == 2
    assert convert.crew([str(data / "a.jsonl"), str(data / "sub" / "b.jsonl")], RUN) == 2


def test_no_more_workers_than_there_are_shards_for_sure(data: Path) -> None:
    assert convert.crew([str(data)], {**RUN, "workers": 64}) == 4


@pytest.mark.parametrize(
    "changed",
    [{"workers": 1}, {"executor": "serial"}, {"executor": "ray"}, {"out": None}, {"out": Path("-")}, {"dry_run": True}],
)
def test_none_are_started_where_they_would_idle(data: Path, changed: dict[str, object]) -> None:
    assert convert.crew([str(data)], {**RUN, **changed}) == 0


@pytest.mark.parametrize("source", ["HuggingFaceTB/smoltalk", "-", "https://example.org/x.jsonl", "a\0b", "hf://x"])
def test_what_is_no_local_path_has_no_size(data: Path, source: str) -> None:
    assert convert.crew([source], RUN) == 0 and convert.crew([str(data / "a.jsonl")], RUN) == 0
