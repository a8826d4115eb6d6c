"""How far a conversion is, as a caller and a terminal see it."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt import Recipe
from chatfmt.cli import main
from chatfmt.cli.terminal import Stopwatch, progress_line
from chatfmt.manifest import Shard
from chatfmt.pipeline.conversion.job import RowRange
from chatfmt.pipeline.inspection.check import check_rows
from chatfmt.pipeline.inspection.figures.gather import gather
from chatfmt.pipeline.planning.plan import plan
from chatfmt.pipeline.planning.scratch import Scratch
from chatfmt.pipeline.planning.target import target_of
from chatfmt.pipeline.running.progress import Progress, Reached
from chatfmt.pipeline.running.run import run_plan
from chatfmt.recipe import Run
from chatfmt.sources import InputSplit
from chatfmt.sources.model import RecordRange

from ..test_crashes import broken, write

LINE = '{"messages":[{"role":"user","content":"%d?"},{"role":"assistant","content":"%d"}]}\n'


def lines(first: int, stop: int) -> bytes:
    return "".join(LINE % (number, number) for number in range(first, stop)).encode()


def told(source: str, out: Path, executor: str = "processes", workers: int = 2, **given: Any) -> list[int]:
    """What `on_progress` is called with."""
    found: list[int] = []
    recipe = Recipe(source=source, template="chatml", **given)
    summary = chatfmt.convert(recipe, out=out, executor=executor, workers=workers, on_progress=found.append)
    assert found == sorted(set(found)) and found[-1] == summary.rows_in
    return found


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_rows_are_reported_while_their_shard_is_written(executor: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(0, 10_000))
    source = str(tmp_path / "in.jsonl")
    assert told(source, tmp_path / "out", executor) == [4096, 8192, 10_000]
    assert told(source, tmp_path / "few", executor, split="train[1000:7000]") == [4096, 6000]
    assert set(told(source, tmp_path / "many", executor, rows_per_shard=5000)) > {4096, 10_000}


def test_pieces_of_one_shard_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.jsonl.gz").write_bytes(gzip.compress(lines(0, 5000)))
    expected = [4096, 5000, 9096, 10_000, 14_096, 15_000]
    assert told(str(tmp_path / "in"), tmp_path / "out") == expected


def test_row_groups(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": str(n)}] for n in range(3000)]
    pq.write_table(pa.table({"messages": turns}), tmp_path / "in.parquet", row_group_size=1000)
    assert told(str(tmp_path / "in.parquet"), tmp_path / "out", rows_per_shard=1500)[-1] == 3000


def test_a_finished_shard_is_reported_on_resume(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(0, 6000) + b"x\n")
    recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="chatml", rows_per_shard=3000)
    found: list[int] = []
    for _ in range(2):
        with pytest.raises(chatfmt.ChatfmtError):
            chatfmt.convert(recipe, tmp_path / "out", workers=1, resume=True, on_progress=found.append)
    assert found == [3000, 6000, 3000, 6000]


def test_a_task_that_is_done_again_takes_nothing_back() -> None:
    found: list[Reached] = []
    progress = Progress(found.append)
    first = InputSplit("a", "a", "jsonl", None, RecordRange())
    splits = (first, InputSplit("b", "b", "jsonl", None, RecordRange(), first_row=10))
    task: Any = SimpleNamespace(name="one", inputs=splits)
    for _ in range(2):
        for place in (
            RowRange("a", 0),
            RowRange("a", 0, 5),
            RowRange("a", 5, None, 50, 1),
            "elsewhere",
            RowRange("b", 10, None, 50, 1),
            RowRange("b", 14, None, 90, 1),
        ):
            progress.on_position(task, place)
    progress.on_position(SimpleNamespace(name="two", inputs=splits), RowRange("a", 2, None, 20))
    progress.on_shard(Shard("one", rows_in=12, rejected=2))
    assert found == [Reached(5, 50, 1), Reached(9, 90, 1), Reached(11, 110, 1), Reached(14, 110, 2)]


def test_bytes_rejects_and_stages_are_reported(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(0, 5000) + b"oops\n" + lines(0, 5000))
    recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="chatml", shuffle=True, on_error="skip")
    found: list[Reached] = []
    run = Run(executor="serial")
    with Scratch() as scratch:
        made = plan(recipe, target_of(tmp_path / "out", None, None), scratch, run)
        run_plan(made, run, found.append)
    converting = [each for each in found if each.stage == "converting"]
    assert [(each.rows, each.rejected) for each in converting][-2:] == [(8192, 1), (10_001, 1)]
    assert converting[-1].bytes > 10_000 * 20 and converting == sorted(converting, key=lambda each: each.bytes)
    assert [(each.stage, each.rows, each.total) for each in found[len(converting) :]] == [
        ("selecting", 0, 10_000), ("gathering", 0, 10_000), ("gathering", 10_000, 10_000)
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_shows_it_and_no_trace_of_it_stays(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(0, 10_000))
    seen = on_terminal("convert", "in.jsonl", "-t", "chatml", "-o", "out", cwd=tmp_path)
    assert b"reading the source" in seen and b"10,000 of 10,000 rows" in seen and b" MB/s, 0:00 left" in seen
    left = seen.rpartition(b"\x1b[2K")[2].decode()
    wrote, following, end = left.split("\r\n")
    assert wrote.startswith("wrote 10,000 rows to `out`, ") and end == ""
    loader = "chatfmt loader out --for TRAINER --model MODEL"
    assert following == f"next: chatfmt preview out · {loader} · chatfmt push out OWNER/NAME"
    assert on_terminal("convert", "in.jsonl", "-t", "chatml", "-o", "more", "--quiet", cwd=tmp_path) == b""
    for command in ("inspect", "preview", "check"):
        looked = on_terminal(command, "in.jsonl", cwd=tmp_path)
        assert b"reading the source" in looked and looked.rpartition(b"\x1b[2K")[2] == b""
    assert b"10,000 of 10,000 rows" in looked


def test_rows_that_are_only_read_are_reported(tmp_path: Path) -> None:
    found: list[Reached] = []
    recipe = Recipe(source=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], rows_per_shard=5000)
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(lines(0, 10_000))
    with Scratch() as scratch:
        check_rows(recipe, scratch, 2, found.append)
        gather(recipe, scratch, 1, on_progress=found.append)
    assert [each.rows for each in found].count(10_000) >= 4
    assert {(each.stage, each.total) for each in found} == {("reading the source", 10_000)}


def test_the_time_left_is_that_of_the_source_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 10.0, 20.0, 25.0))
    monkeypatch.setattr("chatfmt.cli.terminal.time.monotonic", lambda: next(clock))
    watch = Stopwatch(None)
    assert watch.line(Reached(50, total=100)) == "50 of 100 rows, 5 rows/s, 0:10 left"
    assert watch.line(Reached(5, total=100)) == "5 of 100 rows, 1 rows/s, 1:35 left"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_a_warning_stands_above_what_is_drawn(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", 2517)
    env = broken(tmp_path / "site", "chatfmt.checks", "run")
    command = ("convert", "x.parquet", "-t", "chatml", "-o", "out", "--rows-per-shard", "2500", "--workers", "2")
    seen = on_terminal(*command, cwd=tmp_path, env=env, code=3)
    warning = re.compile(rb"\x1b\[2Kworker \d+ was killed by SIGSEGV while running task 1 .*; retrying\r\n")
    (found,) = warning.finditer(seen)
    assert b"converting" in seen[: found.start()] and b"converting" in seen[found.end() :]
    assert seen.rpartition(b"\x1b[2K")[2].startswith(b"error: native code crashed twice on task 1 (")


def test_the_line_is_not_cut_on_a_narrow_terminal(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(0, 10_000))
    seen = on_terminal("convert", "in.jsonl", "-t", "chatml", "-o", "out", cwd=tmp_path, env={"COLUMNS": "50"}).decode()
    assert re.search(r"converting .*10,000 of 10,000 rows, .*0:00 left", seen) and "…" not in seen


def on_terminal(
    *command: str, cwd: Path, env: Mapping[str, str] | None = None, code: int = 0, stdin: Path = Path(os.devnull)
) -> bytes:
    """What the command draws on stderr where that is a terminal; it ends with `code`."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **(env or {})}
    command = (sys.executable, "-m", "chatfmt", *command)
    with (
        stdin.open("rb") as rows,
        subprocess.Popen(
            command, stdin=rows, stdout=subprocess.DEVNULL, stderr=theirs, cwd=cwd, env=environment
        ) as run,
    ):
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 1 << 16):
                seen += piece
        except OSError:  # how Linux says that nobody holds the other end any more
            pass
    os.close(ours)
    assert run.returncode == code, seen
    return seen


def test_without_a_terminal_there_is_a_line_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(0, 10_000))
    monkeypatch.setattr("chatfmt.cli.terminal.LOG_EVERY", 0.0)
    command = ["convert", str(tmp_path / "in.jsonl"), "-t", "chatml", "--executor", "serial", "-o"]
    assert main([*command, str(tmp_path / "out")]) == 0
    said = [re.sub(r"[\d,.]+ (rows|MB)/s", r"N \1/s", line) for line in capsys.readouterr().err.splitlines()]
    assert [line.rpartition(", ")[0] for line in said[:3]] == [
        f"converting: {rows} of 10,000 rows, N rows/s, N MB/s" for rows in ("4,096", "8,192", "10,000")
    ]
    assert said[3].startswith("wrote 10,000 rows to") and len(said) == 4
    assert main([*command, str(tmp_path / "quiet"), "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("reached", "total", "seconds", "line"),
    [
        (Reached(2000), 8000, 20.0, "2,000 of 8,000 rows, 100 rows/s, 1:00 left"),
        (Reached(2000, 60_000_000), 8000, 20.0, "2,000 of 8,000 rows, 100 rows/s, 3.0 MB/s, 1:00 left"),
        (Reached(100, 0, 1200), 1_000_000, 10.0, "100 of 1,000,000 rows, 10 rows/s, 27:46:30 left, 1,200 rejected"),
        (Reached(9000), 8000, 10.0, "9,000 of 8,000 rows, 900 rows/s, 0:00 left"),
        (Reached(5), None, 2.0, "5 rows, 2 rows/s"),
        (Reached(0), 8000, 2.0, "0 of 8,000 rows"),
    ],
)
def test_the_line(reached: Reached, total: int | None, seconds: float, line: str) -> None:
    assert progress_line(reached, total, seconds) == line


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_pipe_shows_it_too(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(0, 5000))
    seen = on_terminal("convert", "-", "-t", "chatml", cwd=tmp_path, stdin=tmp_path / "in.jsonl")
    assert b"converting" in seen and b"5,000 rows, " in seen and b" MB/s" in seen
