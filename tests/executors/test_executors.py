"""The contract of all executors and of their registry."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jinja2
import pytest

import chatfmt
from chatfmt import executors
from chatfmt.cli.app import main
from chatfmt.errors import DialectError, Location, MissingExtra, RenderError, UnknownName
from chatfmt.executors.position import position_listener

from . import tasks as work
from .support import run

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (chatfmt[ray])")
EXECUTORS = [
    *(pytest.param(name, marks=needs_ray if name == "ray" else ()) for name in executors.EXECUTORS),
    "threads",
]


def run_in_threads(
    fn: Any, tasks: Sequence[Any], workers: int, on_position: executors.OnPosition[Any] = executors.ignore_position
) -> Iterator[Any]:
    """An executor of another package: the tasks of each worker in a thread, the positions kept for the caller."""

    def call(task: Any) -> tuple[list[object], Any]:
        positions: list[object] = []
        with position_listener(positions.append):
            return positions, fn(task)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for task, future in [(task, pool.submit(call, task)) for task in tasks]:
            positions, result = future.result()
            for position in positions:
                on_position(task, position)
            yield result


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(executors.EXECUTORS, "threads", executors.Executor(run_in_threads, "in threads"))


class Contract:
    """What holds for every executor."""

    def test_results_come_in_task_order(self, name: str) -> None:
        assert run(name, work.square, list(range(50)), 3) == [number * number for number in range(50)]
        assert run(name, work.slow_first, list(range(12))) == list(range(12))

    def test_no_tasks(self, name: str) -> None:
        assert run(name, work.square, []) == []

    def test_more_workers_than_tasks_and_none(self, name: str) -> None:
        assert run(name, work.square, [3], 8) == [9]
        assert run(name, work.square, [3, 4], 0) == [9, 16]

    def test_large_results(self, name: str) -> None:
        assert run(name, work.large, list(range(6))) == [bytes([number]) * 3_000_000 for number in range(6)]

    def test_an_error_arrives_as_it_was_and_the_first_in_order_wins(self, name: str) -> None:
        got: list[int] = []
        with pytest.raises(DialectError) as caught:
            for number in executors.executor(name).run(work.fail, list(range(20)), 3):
                got.append(number)
        error = caught.value
        assert got == [0, 1, 2, 3, 4]
        assert (error.message, error.hint, error.code) == ("row 5 is bad", "look", "msg.role")
        assert error.at == Location("a.jsonl", 5, 2)

    def test_its_cause_arrives_too(self, name: str) -> None:
        with pytest.raises(RenderError) as caught:
            run(name, work.fail_with_cause, [1])
        assert type(caught.value.__cause__) is jinja2.TemplateError
        assert str(caught.value.__cause__) == "no such thing"

    def test_a_bug_keeps_its_class(self, name: str) -> None:
        with pytest.raises(KeyError, match="missing"):
            run(name, work.bug, [1, 2])

    def test_positions_are_reported_with_their_task_before_its_result(self, name: str) -> None:
        reported: list[tuple[int, object, int]] = []

        def on_position(task: int, position: object) -> None:
            reported.append((task, position, threading.get_ident()))

        for number in executors.executor(name).run(work.report_steps, [2, 0, 3], 2, on_position):
            steps = [] if name == "ray" else [f"step {step}" for step in range(number)]
            assert [position for task, position, _ in reported if task == number] == steps
        assert {thread for _, _, thread in reported} <= {threading.get_ident()}
        executors.report_position("nowhere")
        assert len(reported) == (0 if name == "ray" else 5)

    def test_closing_early_ends_it(self, name: str) -> None:
        results = executors.executor(name).run(work.square, list(range(100)), 2)
        assert [next(results), next(results)] == [0, 1]
        results.close()
        assert list(results) == []


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", EXECUTORS)
class TestContract(Contract):
    """It holds for those of the registry, and for one of another package."""


@pytest.mark.usefixtures("threads")
class TestOneLineInTheRegistry:
    """An entry of EXECUTORS is all that a new executor needs."""

    def test_the_help_names_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["convert", "--help-all"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert (
            "--executor serial|processes|ray|threads "
            "Run tasks in this process, in worker processes, on a Ray cluster or in threads. [default: "
            "processes] --on-error"
        ) in text

    def test_a_conversion_runs_in_it(self, tmp_path: Path) -> None:
        source = tmp_path / "in.jsonl"
        source.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n' * 40)
        recipe = chatfmt.Recipe(source=str(source), template="chatml", rows_per_shard=10)
        for name in ("serial", "threads"):
            summary = chatfmt.convert(recipe, out=tmp_path / name, executor=name, workers=2)
            assert (summary.rows, summary.shards) == (40, 4)
        first, second = (
            {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
            for name in ("serial", "threads")
        )
        assert first == second

    def test_the_command_line_takes_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = tmp_path / "in.jsonl"
        source.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
        assert main(["convert", str(source), "-o", str(tmp_path / "out"), "--executor", "threads"]) == 0
        assert "wrote 1 row" in capsys.readouterr().err


def test_unknown_executors() -> None:
    with pytest.raises(UnknownName) as caught:
        executors.executor("proceses")
    assert str(caught.value) == "unknown executor `proceses`"
    assert caught.value.hint == "did you mean `processes`?"


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_ray_is_an_extra() -> None:
    with pytest.raises(MissingExtra) as caught:
        run("ray", work.square, [1])
    assert caught.value.hint == 'pip install "chatfmt[ray]"; in a checkout: pip install ".[ray]"'
