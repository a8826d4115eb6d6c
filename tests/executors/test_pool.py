"""Pools of worker processes: one start for all tasks, no streams, recovery from deaths, no orphans."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chatfmt import executors
from chatfmt.errors import DialectError, InputError, OutputError
from chatfmt.executors.messages import call_data
from chatfmt.executors.worker_died import WorkerDied
from chatfmt.executors.worker_handle import Worker

from . import tasks as work
from .support import children, needs_linux, run


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
