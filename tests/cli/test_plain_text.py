"""Plain text where JSON is expected: the hint of the error works."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ..conftest import run_cli

LINES = ['He said "hi"', "a\tb, then", "  c ; d"]
HINT = "hint: for lines of plain text: `--no-header --no-quote --delimiter none --map text=column1`\n"


@pytest.mark.parametrize("name", ["plain.txt", "plain.jsonl", "-"])
def test_the_suggested_command_reads_each_line_unchanged(tmp_path: Path, name: str) -> None:
    text = "".join(line + "\n" for line in LINES)
    source = name if name == "-" else str(tmp_path / name)
    if name != "-":
        Path(source).write_text(text)
    stdin, shown = (text, "stdin") if name == "-" else (None, source)
    failed = run_cli("convert", source, stdin=stdin)
    assert failed.returncode == 4
    hint = (
        HINT if name != "-" else f"{HINT[:-1]}; `--on-error skip` leaves out such rows, and --rejects FILE keeps them\n"
    )
    assert failed.stderr.decode() == f"error: {shown} row 0: not JSON: expected a value (line 1, byte 0)\n{hint}"
    typed = re.search(r"`(--no-header.*?)`", failed.stderr.decode())
    assert typed is not None
    done = run_cli("convert", source, *shlex.split(typed[1]), "-q", stdin=stdin)
    assert done.stdout == b'{"text":"He said \\"hi\\""}\n{"text":"a\\tb, then"}\n{"text":"  c ; d"}\n'


def test_text_with_commas_gets_the_same_hint(tmp_path: Path) -> None:
    source = tmp_path / "plain.txt"
    source.write_text("Well, yes\nno\n")
    failed = run_cli("convert", source)
    assert failed.stderr.decode() == (
        f"error: {source} row 0: the record has 1 field, the header has 2 (line 2, byte 10)\n"
        "hint: use `--delimiter` if the fields are separated by another character; " + HINT.removeprefix("hint: ")
    )


LOOKS = [
    "[20.06.19, 15:58:57] Ann: hi", "{smile} hi", '{"a": 1}', "[1, 2]", "PAR1 is a word", "ORC", "<html> is a tag",
    "%PDF is a word", "Rar! it said",
]  # fmt: skip


@pytest.mark.parametrize("first", LOOKS)
def test_lines_are_lines_whatever_they_look_like(tmp_path: Path, first: str) -> None:
    (tmp_path / "a.txt").write_text(f"{first}\nand more\n")
    flags = ("--no-header", "--no-quote", "--delimiter", "none", "--map", "text=column1")
    done = run_cli("convert", "a.txt", *flags, "-q", cwd=tmp_path)
    assert (done.stderr, [json.loads(line)["text"] for line in done.stdout.splitlines()]) == (b"", [first, "and more"])
