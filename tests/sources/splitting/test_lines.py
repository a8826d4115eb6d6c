"""The line of a row, as an editor counts it: in every text format, after blank lines, in any piece of a file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import chatfmt
from chatfmt import sources
from chatfmt.errors import RowError

from ...conftest import run_cli, run_here

ROWS = [{"prompt": f"q{n}", "completion": f"a{n}", "n": n} for n in range(30)]


def spaced(rows: list[dict[str, object]]) -> str:
    """JSON Lines with a byte order mark, blank lines and other line ends."""
    return "\ufeff\n" + "".join(json.dumps(row) + ("\r\n \n" if row["n"] in (3, 9) else "\n") for row in rows)


def cells(rows: list[dict[str, object]]) -> str:
    lines = [f'{row["prompt"]},{row["completion"]},"{row["n"]}\n"\n' + "\n" * (row["n"] == 4) for row in rows]
    return "prompt,completion,n\n" + "".join(lines)


FORMS: dict[str, Callable[[list[dict[str, object]]], str]] = {
    "in.jsonl": spaced,
    "in.csv": cells,
    "in.json": lambda rows: json.dumps(rows, indent=1),
}


@pytest.mark.parametrize("name", FORMS)
def test_lines_are_those_of_the_text(name: str, tmp_path: Path) -> None:
    text = FORMS[name](ROWS)
    lines = text.split("\n")
    path = tmp_path / name
    path.write_text(text, newline="")
    source = sources.resolve(str(path))
    found = {}
    for shard in sources.plan_splits(source, rows_per_shard=7):
        for split in shard:
            finder = sources.LineFinder(split)
            rows = range(split.first_row, split.first_row + (split.rows or 0))
            found |= {row: finder.line(row) for row in rows}
            assert [finder.line(row) for row in reversed(rows)] == [found[row] for row in reversed(rows)]
    assert [*found] == [*range(30)]
    for row, line in found.items():
        assert line is not None and f"q{row}" in "".join(lines[line - 1 : line + 1])
    assert sources.LineFinder(split).line(30) is None


def test_a_compressed_file_has_the_lines_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(spaced(ROWS).encode()))
    run = run_here("convert", "in.jsonl.gz", "--map", "user={{ 1 // (n - 5) }}", "-q", cwd=tmp_path)
    assert run.stderr.decode().splitlines()[0].endswith("integer division or modulo by zero (line 8)")


def test_every_face_names_the_line(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "q"}], "n": n} for n in range(12)]
    rows[5]["messages"] = [{"role": "robot", "content": "q"}]
    (tmp_path / "in.jsonl").write_text(spaced(rows), newline="")
    place, error = "row 5 message 0 (line 8)", "in.jsonl row 5: unknown role `robot` (message 0, line 8)"
    for command in (["convert"], ["convert", "-o", "out.jsonl"], ["convert", "-o", "out", "--rows-per-shard", "4"]):
        run = run_cli(command[0], "in.jsonl", *command[1:], cwd=tmp_path)
        assert run.stderr.decode().splitlines()[-2] == f"error: {error}", run.stderr
    skip = ("--on-error", "skip", "--rejects", "bad.jsonl", "-q")
    run_here("convert", "in.jsonl", "-o", "out.jsonl", *skip, cwd=tmp_path)
    (rejected,) = (json.loads(line) for line in (tmp_path / "bad.jsonl").open())
    assert rejected["source"] == {"file": "in.jsonl", "row": 5, "message": 0, "line": 8}
    for command, *flags in (["check"], ["stats"]):
        assert place in run_here(command, "in.jsonl", *flags, cwd=tmp_path).stdout.decode()
    (problem,) = (
        each
        for each in json.loads(run_here("check", "in.jsonl", "--json", cwd=tmp_path).stdout)["problems"]
        if each["code"] == "msg.role"
    )
    assert (problem["row"], problem["line"]) == (5, 8)
    preview = run_here("preview", "in.jsonl", "--row", "5", cwd=tmp_path).stdout.decode()
    assert preview.startswith("row 5 (line 8) ──")
    recipe = chatfmt.Recipe(source=tmp_path / "in.jsonl")
    with pytest.raises(RowError) as caught:
        chatfmt.convert(recipe, tmp_path / "again.jsonl")
    assert (caught.value.at.row, caught.value.at.line) == (5, 8)


def test_what_has_no_lines_names_none(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps({"data": [{"prompt": "q", "completion": 1}]}))
    run = run_here("convert", "in.json", "--field", "data", cwd=tmp_path)
    assert "line" not in run.stderr.decode().splitlines()[0], run.stderr
