"""`--workers`: a positive integer, or the same error from every command that has the option; runs without workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import chatfmt
from chatfmt.cli import main
from chatfmt.errors import UsageError
from chatfmt.executors import fork_server

from ..conftest import EVERYDAY, run_cli

TALK = [{"role": "user", "content": "h" * 600}, {"role": "assistant", "content": "yo"}]
TURNS = json.dumps({"messages": TALK}) + "\n"
COMMANDS = {
    "convert": ["convert", str(EVERYDAY), "-t", "chatml", "-o", "out"],
    "convert to stdout": ["convert", str(EVERYDAY), "-t", "chatml"],
    "convert stdin": ["convert", "-", "-t", "chatml"],
    "dry run": ["convert", str(EVERYDAY), "-o", "out", "--dry-run"],
    "plan": ["plan", str(EVERYDAY), "-o", "out"],
    "run": ["run", "nowhere"],
    "commit": ["commit", "nowhere"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_zero_workers_is_an_error(command, tmp_path):
    run = run_cli(*COMMANDS[command], "--workers", "0", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.decode().splitlines() == [
        "error: `--workers` must be a positive integer, not `0`",
        "hint: --workers 2",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["-3", "-1", "00", "+2", "1.5", "two", "", "٣", "10000000", "2 "])
def test_values_that_are_not_positive_integers(text, tmp_path):
    run = run_cli("convert", EVERYDAY, "-o", "out", f"--workers={text}", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.decode().splitlines()[0] == f"error: `--workers` must be a positive integer, not `{text}`"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, -1])
@pytest.mark.parametrize("out", ["out", "out.jsonl", None])
def test_convert_in_python(workers, out, tmp_path):
    recipe = chatfmt.Recipe(source=str(EVERYDAY), template="chatml")
    with pytest.raises(UsageError) as caught:
        chatfmt.convert(recipe, tmp_path / out if out else None, workers=workers)
    assert caught.value.message == f"`workers` must be a positive integer, not `{workers}`"
    assert caught.value.hint == "workers=2, or leave it out for one per core"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "rows", "options", "started"),
    [
        ("a.jsonl", 1, (), 0),
        ("a.jsonl", 2000, (), 1),
        ("a.jsonl", 1, ("--workers", "1"), 1),
        ("a.txt", 1, ("--map", "messages=messages"), 1),
    ],
)
def test_small_text_files_are_converted_without_workers(name, rows, options, started, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(fork_server, "can_fork", lambda: opened.append(1))  # false: this process has threads
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(TURNS * rows)
    assert main(["convert", name, "-t", "chatml", "-o", "out.jsonl", "-q", *options]) == 0
    assert len(Path("out.jsonl").read_text().splitlines()) == rows
    assert len(opened) == started


@pytest.mark.parametrize("command", ["inspect", "preview", "check", "stats"])
@pytest.mark.parametrize(
    ("names", "rows", "started"), [(["a.jsonl"], 1, 0), (["a.jsonl"], 2000, 1), (["a.jsonl"] * 2, 1, 1)]
)
def test_one_small_text_file_is_read_without_workers(command, names, rows, started, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(fork_server, "can_fork", lambda: opened.append(1))
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(TURNS * rows)
    assert main([command, *names]) == 0
    assert len(opened) == started
