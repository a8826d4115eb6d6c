"""`--workers`: a positive integer, or the same error from every command that has the option."""

from __future__ import annotations

import pytest

import chatfmt
from chatfmt.errors import UsageError

from ..conftest import ROOT, run_cli

EVERYDAY = ROOT / "tests" / "data" / "everyday.jsonl"
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
