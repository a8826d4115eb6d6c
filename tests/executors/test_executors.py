"""The contract of all executors, and the recovery of worker processes that die."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jinja2
import pytest

import chatfmt
from chatfmt import executors
from chatfmt.cli.app import main
from chatfmt.errors import DialectError, InputError, Location, MissingExtra, OutputError, RenderError, UnknownName
from chatfmt.executors.messages import call_data
from chatfmt.executors.position import position_listener
from chatfmt.executors.worker_died import WorkerDied
from chatfmt.executors.worker_handle import Worker

from . import tasks as work

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (chatfmt[ray])")
EXECUTORS = [
    *(pytest.param(name, marks=needs_ray if name == "ray" else ()) for name in executors.EXECUTORS),
    "threads",
]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def children(pid: int | None = None) -> set[int]:
    """Return the pids of all descendants of a process, except zombies."""
    found, todo = set[int](), [pid or os.getpid()]
    while todo:
        parent = todo.pop()
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                fresh = {int(child) for child in thread.read_text().split()} - found
                found |= fresh
                todo += fresh
    return found


@contextlib.contextmanager
def opened(*modules: str) -> Iterator[None]:
    """Open a fork server even if the test runner has a thread, which only waits for this one meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatfmt.executors.fork_server.can_fork", lambda: True)
        with executors.opened("chatfmt.manifest", *modules):
            yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped processes are found within a tenth of a second."""
    monkeypatch.setattr("chatfmt.executors.watchdog.CHECK_EVERY", 0.05)
    monkeypatch.setattr("chatfmt.executors.watchdog.CHECK_AGAIN_AFTER", 0.05)


def run(name: str, fn: Any, tasks: list[Any], workers: int = 2) -> list[Any]:
    return list(executors.executor(name).run(fn, tasks, workers))


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


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", EXECUTORS)
class TestContract:
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
class TestOneLineInTheRegistry:
    """An entry of EXECUTORS is all that a new executor needs."""

    def test_the_help_names_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["convert", "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert (
            "--executor serial|processes|ray|threads "
            "Run tasks in this process, in worker processes, on a Ray cluster or in threads. --on-error"
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
    assert caught.value.hint == 'pip install "chatfmt[ray]"'


def test_workers_are_started_once_and_share_the_tasks() -> None:
    found = run("processes", work.process_id, list(range(20)), 2)
    assert len(set(found)) == 2
    assert os.getpid() not in found


def test_a_bug_in_a_worker_shows_its_traceback() -> None:
    with pytest.raises(KeyError) as caught:
        run("processes", work.bug, [1])
    (note,) = caught.value.__notes__
    assert note.startswith("in a worker:\nTraceback")
    assert 'raise KeyError("missing")' in note


def test_an_error_that_does_not_pickle_is_described() -> None:
    with pytest.raises(RuntimeError, match="Unpicklable in a worker, which does not pickle"):
        run("processes", work.fail_unpicklable, [1])


def test_a_function_that_a_worker_cannot_import() -> None:
    with pytest.raises(Exception, match="pickle|lambda"):
        run("processes", lambda number: number, [1])


def test_out_of_memory_in_a_worker() -> None:
    with pytest.raises(OutputError) as caught:
        run("processes", work.no_memory, [1])
    assert (caught.value.message, caught.value.code) == ("a task ran out of memory", "worker.memory")


def test_workers_have_one_thread_and_no_pandas() -> None:
    assert run("processes", work.environment, [1]) == [("1", False, False)]


def test_output_printed_by_workers_is_not_an_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("processes", work.chatter, [1, 2]) == [1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("noise on stdout") == err.count("more noise") == 2


def test_workers_do_not_read_our_stdin() -> None:
    assert run("processes", work.read_stdin, [1]) == [""]


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
class TestDeath:
    def test_a_killed_worker_is_named_and_its_task_run_again(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        tasks = [work.Named(f"data/{place}", tmp_path / ("flag" if place == 3 else ".")) for place in range(8)]
        with caplog.at_level(logging.WARNING):
            assert run("processes", work.die_once, tasks) == [task.name for task in tasks]
        pid = (tmp_path / "flag").read_text()
        assert caplog.messages == [
            f"worker {pid} was killed by SIGKILL (out of memory?) while running task 3 (`data/3`); retrying"
        ]

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            (
                "SIGKILL",
                OutputError,
                r"two workers died at task 0 \(`data/x`\): worker \d+ was killed by SIGKILL \(out of m.*",
            ),
            (
                "SIGSEGV",
                InputError,
                r"native code crashed twice on task 0 \(`data/x`\): worker \d+ was killed by SIGSEGV",
            ),
        ],
    )
    def test_a_second_death_is_an_error(self, tmp_path: Path, name: str, error: type, message: str) -> None:
        with pytest.raises(error, match=message) as caught:
            run("processes", work.die, [work.Named("data/x", tmp_path / name)])
        assert caught.value.code == "worker.lost"
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("SIGKILL", OutputError, r"two workers died at task 1 \(`b`\): worker \d+ was killed by SIGKILL \(out .*"),
            ("SIGSEGV", InputError, r"native code crashed twice on task 1 \(`b`\): worker \d+ was killed by SIGSEGV"),
        ],
    )  # fmt: skip
    def test_the_task_is_searched_for_the_row_that_kills_workers(self, name: str, error: type, message: str) -> None:
        with pytest.raises(error, match=message + r", at range\(67, 68\)") as caught:
            run("processes", work.step, [work.Steps("a", -1, name), work.Steps("b", 67, name)])
        assert caught.value.code == "worker.lost"

    def test_a_worker_that_exits(self) -> None:
        with pytest.raises(OutputError, match=r"two workers died at task 0: worker \d+ ended with exit code 3"):
            run("processes", work.leave, [1])

    @needs_linux
    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("stop", [work.stop_once, work.stop_midway])
    def test_a_stopped_worker_is_replaced(self, stop: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert run("processes", stop, [work.Named("data/x", tmp_path / "flag")], 1) == ["data/x"]
        assert "was killed by SIGKILL" in caplog.text

    @needs_linux
    @pytest.mark.usefixtures("impatient")
    def test_a_worker_that_is_stopped_before_it_reads_its_task(self) -> None:
        before = children()
        worker = Worker()
        (pid,) = children() - before
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerDied, match=f"worker {pid} was killed by SIGKILL"):
            list(worker.call(call_data(work.chatter, "x" * 1_000_000)))
        worker.end()


@needs_linux
class TestForkServer:
    def test_workers_are_forked_from_a_process_that_has_imported_the_module(self) -> None:
        before = children()
        with opened():
            (server,) = children() - before
            found = set(run("processes", work.parent_id, list(range(8))))
            assert found == {(server, True)}
        assert children() == before

    @pytest.mark.usefixtures("impatient")
    def test_a_stopped_fork_server_is_not_needed(self) -> None:
        before = children()
        with opened():
            (server,) = children() - before
            os.kill(server, signal.SIGSTOP)
            assert set(run("processes", work.parent_id, [1, 2])) == {(os.getpid(), False)}
        assert children() == before

    def test_generators_run_in_a_worker(self) -> None:
        with opened():
            got: list[int] = []
            with pytest.raises(DialectError, match="that was the last") as caught:
                got.extend(executors.in_worker(work.count, 3))
        assert got == [0, 1, 2] and caught.value.code == "msg.role"
        with opened():
            items = executors.in_worker(work.count, 3)
            assert [next(items), next(items)] == [0, 1]
            items.close()

    def test_generators_run_here_without_a_fork_server(self) -> None:
        assert not executors.has_fork_server()
        with contextlib.closing(executors.in_worker(work.yield_process_id, 1)) as items:
            assert next(items) == os.getpid()

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("SIGKILL", OutputError, r"two workers died: worker \d+ was killed by SIGKILL .*, at range\(67, 68\)"),
            ("SIGSEGV", InputError, r"native code crashed twice: worker \d+ was killed by SIGSEGV, at range\(67, 68\)"),
        ],
    )  # fmt: skip
    def test_a_generator_that_dies_twice_is_an_error_after_its_items(
        self, name: str, error: type, message: str
    ) -> None:
        got: list[int] = []
        with opened(), pytest.raises(error, match=message) as caught:
            for item in executors.in_worker(work.items, work.Items(67, name)):
                got.append(item)
        assert got == [0, 10, 20, 30, 40, 50, *range(60, 67)] and caught.value.code == "worker.lost"

    def test_a_generator_that_dies_once_continues_where_it_was(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = children()
        with opened():
            got = list(executors.in_worker(work.items, work.Items(67, "SIGKILL", tmp_path / "died")))
        assert got == [0, 10, 20, 30, 40, 50, *range(60, 70), 70, 80, 90]
        (message,) = caplog.messages
        assert re.fullmatch(r"worker \d+ was killed by SIGKILL .*, at range\(60, 70\); retrying", message)
        assert children() == before

    def test_after_it_is_killed_workers_are_fresh_interpreters(self) -> None:
        before = children()
        with opened():
            (server,) = children() - before
            os.kill(server, signal.SIGKILL)
            assert run("processes", work.square, [1, 2, 3]) == [1, 4, 9]
        assert children() == before

    def test_its_workers_die_with_it(self) -> None:
        before = children()
        with opened():
            (server,) = children() - before
            results = executors.processes(work.process_id, list(range(30)), 2)
            next(results)
            os.kill(server, signal.SIGKILL)
            assert len(list(results)) == 29
        assert children() == before

    def test_workers_have_imported_the_named_modules(self) -> None:
        with opened("zipapp"):
            assert run("processes", work.has_imported, ["zipapp", "chatfmt.manifest", "antigravity"]) == [
                True,
                True,
                False,
            ]
        assert not work.has_imported("zipapp")

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is part of glibc")
    @pytest.mark.parametrize("kind", ["forked", "fresh"])
    def test_workers_keep_the_memory_of_a_batch_for_the_next(self, kind: str) -> None:
        with opened() if kind == "forked" else contextlib.nullcontext():
            (faults,) = run("processes", work.faults_of_more_arrays, [12])
        assert faults < 300  # of 3,072 pages

    def test_a_process_with_threads_does_not_fork(self) -> None:
        wait = threading.Event()
        thread = threading.Thread(target=wait.wait)
        thread.start()
        with executors.opened("chatfmt.manifest"):
            assert not executors.has_fork_server()
        wait.set()
        thread.join()


def wait_for(condition: Any, seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)
    return found


@needs_linux
class TestNoOrphans:
    def test_when_it_ends_fails_or_is_closed(self) -> None:
        before = children()
        run("processes", work.square, [1, 2])
        with pytest.raises(DialectError):
            run("processes", work.fail, list(range(20)))
        results = executors.processes(work.process_id, list(range(100)), 2)
        next(results)
        assert len(children() - before) == 2
        results.close()
        assert children() == before

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
    def test_when_the_parent_is_ended(self, tmp_path: Path, name: str) -> None:
        program = (
            "import signal, sys; from pathlib import Path; from chatfmt import executors\n"
            "from tests.executors import tasks as work\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
            "try: list(executors.processes(work.mark_and_wait, [Path(sys.argv[1])] * 4, 2))\n"
            "except KeyboardInterrupt: sys.exit(130)"
        )
        command = [sys.executable, "-c", program, str(tmp_path)]
        root = Path(__file__).parents[2]
        parent = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, start_new_session=True)
        pids = wait_for(lambda: len(list(tmp_path.iterdir())) == 2 and [int(path.name) for path in tmp_path.iterdir()])
        if name == "SIGINT":
            os.killpg(parent.pid, signal.SIGINT)  # as Ctrl-C does: to all of them
        else:
            os.kill(parent.pid, getattr(signal, name))
        _, err = parent.communicate(timeout=20)
        assert parent.returncode == (130 if name == "SIGINT" else -getattr(signal, name))
        assert err == b""
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@needs_linux
def test_it_is_an_error_if_no_worker_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(server: object) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("chatfmt.executors.worker_handle.start", refuse)
    with pytest.raises(OSError, match="too many open files"):
        run("processes", work.square, [1, 2, 3])


@needs_linux
def test_the_workers_that_start_do_all_tasks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from chatfmt.executors import worker_handle

    started, start = [], worker_handle.start

    def once(server: Any) -> Any:
        started.append(1)
        if len(started) > 1:
            raise OSError(errno.EMFILE, "too many open files")
        return start(server)

    monkeypatch.setattr(worker_handle, "start", once)
    assert run("processes", work.square, list(range(20)), 2) == [number * number for number in range(20)]
    assert caplog.messages == ["continuing with one worker fewer: [Errno 24] too many open files"]
