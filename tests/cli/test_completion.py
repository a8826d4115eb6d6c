"""Completion: what real shells are told, for names and for the columns of the file already typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.cli.completion import columns_of

from ..conftest import ROOT, sampled

EVERYDAY = "tests/data/everyday.jsonl"
CASES = {
    f"chatfmt convert {EVERYDAY} --keep t": ["topic"],
    f"chatfmt convert {EVERYDAY} --fit --on-error ": ["stop", "skip"],
    "chatfmt convert gsm8k --split ": ["train", "test", "all"],
    "chatfmt convert gsm": ["gsm8k"],
    "chatfmt convert x.jsonl --for trl-d": ["trl-dpo"],
    "chatfmt loader x --for axo": ["axolotl"],
    "chatfmt templates show qwen2.5-": ["qwen2.5-vl"],
    "chatfmt templates list --supports im": ["images"],
    "chatfmt recipes show gsm": ["gsm8k"],
    "chatfmt veri": ["verify"],
}
BASH = (
    "COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _chatfmt_completion chatfmt; echo ${{COMPREPLY[@]}}"
)
ZSH = "words=({words}); CURRENT=$#words; _chatfmt_completion; echo"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds a program `chatfmt`."""
    path = tmp_path_factory.mktemp("bin") / "chatfmt"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m chatfmt "$@"\n')
    path.chmod(0o755)
    return path.parent


def told(shell: str, program: Path, script: str) -> list[str]:
    """Return the lines that a shell prints after it has read the completion script."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    env = {**os.environ, "PATH": f"{program}:{os.environ['PATH']}"}
    source = subprocess.run(
        ["chatfmt"], env={**env, "_CHATFMT_COMPLETE": f"source_{shell}"}, capture_output=True, text=True
    )
    before = "compdef() {}\n" if shell == "zsh" else ""
    run = subprocess.run(
        [path, "-c", f"{before}{source.stdout}\n{script}"], env=env, capture_output=True, text=True, cwd=ROOT
    )
    assert (source.stderr, run.stderr) == ("", "")
    return run.stdout.splitlines()


def quoted(line: str) -> str:
    """Return the words of a line as a shell array holds them; the last may be empty."""
    return " ".join(f'"{word}"' for word in line.split(" "))


def test_bash(program: Path) -> None:
    lines = [*CASES, f"chatfmt convert {EVERYDAY} --map user = t", f"chatfmt convert {EVERYDAY} --keep = m"]
    found = told("bash", program, "\n".join(BASH.format(words=quoted(line)) for line in lines))
    assert dict(zip(lines, map(str.split, found), strict=True)) == {
        **CASES,
        lines[-2]: ["topic"],
        lines[-1]: ["messages"],
    }


def test_fish(program: Path) -> None:
    """The same program answers fish and Bash, which asks it for all cases; each takes a new interpreter."""
    cases = {**dict(sampled([*CASES.items()], 4)), f"chatfmt convert {EVERYDAY} --map user=t": ["user=topic"]}
    found = told("fish", program, "\n".join(f"complete -C '{line}' | cut -f1; echo" for line in cases))
    answers = [set(part.split()) for part in "\n".join([*found, ""]).split("\n\n") if part]
    assert answers == [set(names) for names in cases.values()]


def test_zsh(program: Path) -> None:
    lines = [f"chatfmt convert {EVERYDAY} --keep t", f"chatfmt convert {EVERYDAY} --map user=t", "chatfmt veri"]
    found = told(
        "zsh",
        program,
        "\n".join(["_arguments() { print -rn -- $* }", *(ZSH.format(words=quoted(line)) for line in lines)]),
    )
    assert found[:2] == ['*: :(("topic"))', '*: :(("user=topic"))']
    assert found[2].startswith('*: :(("verify":"Compare all checksums') and len(found) == 3


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet", "x.json", "missing.csv"])
def test_columns_of_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('"a",b c\n1,2\n')
    (tmp_path / "x.tsv").write_text("a\tb c\n1\t2\n")
    (tmp_path / "x.jsonl").write_text('{"a": 1, "b c": [2]}\n')
    (tmp_path / "x.json").write_text('[\n{"a": 1}]')
    pq.write_table(pa.table({"a": [1], "b c": [2]}), tmp_path / "x.parquet")
    assert columns_of(tmp_path / name) == ([] if name in ("x.json", "missing.csv") else ["a", "b c"])


@pytest.mark.parametrize("words", ["chatfmt veri", f"chatfmt convert {EVERYDAY} --keep t", "chatfmt templates show q"])
def test_completion_needs_none_of_typers_validators(words: str) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('pydantic' in sys.modules))\n"
        "sys.argv = ['chatfmt']\nfrom chatfmt.cli import main\nmain()"
    )
    env = {**os.environ, "_CHATFMT_COMPLETE": "complete_bash", "COMP_WORDS": words.replace(" ", "\n")}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.stdout.split()[-1] == "False" and len(run.stdout.split()) > 1, run
