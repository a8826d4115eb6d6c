"""Columns of Parquet and Arrow files that cannot be read, and that nobody asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import from_lines, run_here, succeed

MESSAGES = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]] * 3
ENDS = pa.array([0, 2, 4, 6], pa.int32()).buffers()[1]
BAD = pa.Array.from_buffers(pa.string(), 3, [None, ENDS, pa.py_buffer(b"ab\xff\xfecd")])
DAMAGE = "damaged: Invalid UTF8 sequence at string index 1"
ERROR = f"error: in.{{}}: {DAMAGE}\nhint: download or write the file again\n"
NOTE = f"note: `extra` cannot be read and is left behind: {DAMAGE}\n"


@pytest.fixture(params=["parquet", "arrow"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(tmp_path / f"in.{request.param}", {"messages": MESSAGES, "extra": BAD})


def written(path: Path, columns: dict[str, object]) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as sink:
            sink.write_table(table)
    return path


@pytest.mark.parametrize("flags", [[], ["--drop", "extra"], ["--where", "messages"], ["--on-error", "skip"]])
def test_it_is_left_behind_with_a_note(file: Path, flags: list[str]) -> None:
    run = succeed(run_here("convert", file.name, *flags, "-o", "-", cwd=file.parent))
    assert [row["messages"] for row in from_lines(run.stdout)] == MESSAGES
    assert run.stderr.decode().startswith(NOTE)


def nested(keys: list[str]) -> pa.Array:
    """A list a row of an object, whose values are damaged."""
    return pa.ListArray.from_arrays(pa.array(range(4), pa.int32()), pa.StructArray.from_arrays([BAD] * len(keys), keys))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_list_or_an_object_is_left_behind_too(suffix: str, tmp_path: Path) -> None:
    texts = pa.ListArray.from_arrays(pa.array(range(4), pa.int32()), BAD)
    columns = {"texts": texts, "object": pa.StructArray.from_arrays([BAD], ["a"]), "objects": nested(["a", "b"])}
    path = written(tmp_path / f"in.{suffix}", {"messages": MESSAGES, **columns})
    run = run_here("convert", path.name, "-o", "-", cwd=tmp_path)
    assert [row["messages"] for row in from_lines(run.stdout)] == MESSAGES
    notes = run.stderr.decode().splitlines()
    assert [note.partition(": damaged")[0] for note in notes] == [
        *(f"note: `{name}` cannot be read and is left behind" for name in columns), "wrote 3 rows to stdout, 246 B",
    ]  # fmt: skip


@pytest.mark.parametrize("keys", [["from", "text"], ["name", "arguments"], ["tools"]])
def test_a_list_that_may_hold_turns_tools_or_calls_stops_the_run(keys: list[str], tmp_path: Path) -> None:
    written(tmp_path / "in.parquet", {"messages": MESSAGES, "extra": nested(keys)})
    run = run_here("convert", "in.parquet", "-o", "-", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (3, b"")
    assert run.stderr.startswith(b"error: in.parquet: damaged: List child array invalid")


def test_inspect_names_it(file: Path) -> None:
    run = run_here("inspect", file.name, "--json", cwd=file.parent)
    assert json.loads(run.stdout)["notes"] == [NOTE.removeprefix("note: ").rstrip()]


@pytest.mark.parametrize("flags", [["--keep", "extra"], ["--keep", "all"], ["--map", "system=extra"]])
def test_it_stops_the_run_if_it_is_asked_for(file: Path, flags: list[str]) -> None:
    run = run_here("convert", file.name, *flags, "-o", "out", cwd=file.parent)
    assert (run.returncode, run.stderr.decode()) == (3, ERROR.format(file.suffix[1:]))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("name", ["answer", "system_prompt", "reasoning"])
def test_it_stops_the_run_if_it_may_belong_to_the_conversation(name: str, tmp_path: Path) -> None:
    written(tmp_path / "in.parquet", {"messages": MESSAGES, name: BAD})
    run = run_here("convert", "in.parquet", "-o", "-", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr.decode()) == (3, b"", ERROR.format("parquet"))


def test_it_is_named_where_nothing_else_fits(tmp_path: Path) -> None:
    written(tmp_path / "in.parquet", {"foo": ["a", "b", "c"], "extra": BAD})
    run = run_here("convert", "in.parquet", "-o", "-", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (
        2,
        "error: in.parquet: no dialect fits: the columns are `foo`\n"
        f"hint: {NOTE.removeprefix('note: ').rstrip()}; map a column of turns with --map messages=COLUMN\n",
    )
