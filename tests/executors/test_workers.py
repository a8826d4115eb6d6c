"""Workers forked by the fork server, and generators in a worker."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import signal
import threading
from pathlib import Path

import pytest

from chatfmt import executors
from chatfmt.errors import DialectError, InputError, OutputError

from . import tasks as work
from .support import children, needs_linux, opened, run


@needs_linux
class TestForkServer:
    def test_workers_are_forked_from_a_process_that_has_imported_the_module(self) -> None:
        before = children()
        with opened():
            (server,) = children() - before
            found = set(run("processes", work.parent_id, list(range(8))))
            assert found == {(server, True)}
        assert children() == before

    def test_it_outlives_pools_that_are_closed_while_they_work(self) -> None:
        before = children()
        with opened():
            (server,) = children() - before
            for _ in range(5):
                with contextlib.closing(executors.processes(work.process_id, list(range(30)), 3)) as results:
                    next(results)
            assert run("processes", work.parent_id, [1]) == [(server, True)]

    @pytest.mark.usefixtures("impatient")
    def test_a_stopped_fork_server_is_not_needed(self) -> None:
        before = children()
        with opened():
            (server,) = children() - before
            os.kill(server, signal.SIGSTOP)
            assert set(run("processes", work.parent_id, [1, 2])) == {(os.getpid(), False)}
        assert children() == before

    def test_it_goes_on_where_the_system_refuses_a_fork(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fork, left = os.fork, 2

        def limited() -> int:
            nonlocal left
            left -= 1
            if left < 0:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return fork()

        before = children()
        monkeypatch.setattr(os, "fork", limited)
        with opened():
            (server,) = children() - before
            found = run("processes", work.parent_id, list(range(8)), 3)
            assert {(server, True), (os.getpid(), False)} >= set(found)
            assert os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

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
            allocators = run("processes", work.allocator_of_arrow, [0])
        assert faults < 300  # of 3,072 pages
        assert allocators == ["system"]

    def test_a_process_with_threads_does_not_fork(self) -> None:
        wait = threading.Event()
        thread = threading.Thread(target=wait.wait)
        thread.start()
        with executors.opened("chatfmt.manifest"):
            assert not executors.has_fork_server()
        wait.set()
        thread.join()
