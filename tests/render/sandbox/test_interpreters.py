"""The process that forks sandbox processes: what its forks hold, who shares it, and what happens without it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chatfmt.cli.app import main
from chatfmt.render import RenderOptions, prestart
from chatfmt.render.sandbox import interpreters
from chatfmt.render.sandbox.process import close_idle
from chatfmt.render.sandbox.renderer import SandboxRenderer
from tests.conftest import run_fresh
from tests.render.sandbox.samples import COLUMNS, ONE, template

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs descriptors of processes")
TURNS = '{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}\n'


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The arguments of the interpreters that a test starts; it begins without a server."""
    found: list[list[str]] = []

    class RecordedPopen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **more: Any) -> None:
            super().__init__(command, **more)
            found.append(command)

    close_idle()
    monkeypatch.setattr(interpreters, "server", server := cache(interpreters.server.__wrapped__))
    monkeypatch.setattr(interpreters.subprocess, "Popen", RecordedPopen)
    yield found
    close_idle()
    if started := server():
        started.close()


def open_renderer(text: str = "{{ messages[0].content }}") -> SandboxRenderer:
    return SandboxRenderer(template(text), RenderOptions())


def pid_of(renderer: SandboxRenderer) -> int:
    """The process behind the descriptor (proc_pid_fdinfo(5))."""
    info = Path(f"/proc/self/fdinfo/{renderer._process._process._pidfd}").read_text()
    return int(info.split("Pid:")[1].split()[0])


def until(condition: Callable[[], bool]) -> bool:
    """Return whether the condition holds within ten seconds."""
    return any(condition() or time.sleep(0.01) for _ in range(1000))


def test_one_interpreter_serves_all_templates(started: list[list[str]]) -> None:
    renderers = [open_renderer(f"{number}") for number in range(3)]
    assert [renderer(ONE).text.to_pylist() for renderer in renderers] == [["0"], ["1"], ["2"]]
    assert len({pid_of(renderer) for renderer in renderers}) == 3
    assert [command[-3].rpartition("\n")[2] for command in started] == ["serve()"]


def test_a_fork_has_what_a_fresh_interpreter_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with open(os.devnull) as kept:  # noqa: PTH123
        os.set_inheritable(kept.fileno(), True)
        forked, other = open_renderer(), open_renderer("other")
        monkeypatch.setattr(interpreters, "server", lambda: None)
        fresh = open_renderer("fresh")
        pids = pid_of(forked), fresh._process._process.pid
        files = [[path.readlink() for path in sorted(Path(f"/proc/{pid}/fd").iterdir())] for pid in pids]
        environments, statuses, limits = (
            [Path(f"/proc/{pid}/{name}").read_text() for pid in pids] for name in ("environ", "status", "limits")
        )
    assert [str(path).partition(":")[0] for path in files[0][:2]] == ["socket"] * 2
    assert files[0][0] == files[0][1] and files[0][2:] == files[1][2:] and files[0][2] == Path(os.devnull)
    assert environments[0] == environments[1] and "secret" not in environments[0]
    assert limits[0] == limits[1] and forked.level == fresh.level == other.level
    for status in statuses:
        assert "Threads:\t1\n" in status and "Seccomp:\t2\n" in status and "NoNewPrivs:\t1\n" in status


def test_processes_that_are_forked_later_share_it(started: list[list[str]]) -> None:
    prestart("a.jinja", "auto")
    assert len(started) == 1
    if not (child := os.fork()):
        found = open_renderer()(ONE).text.to_pylist()
        os._exit(len(started) if len(found) == 1 else 99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert open_renderer("x")(ONE).text.to_pylist() == ["x"], "the exit of a process that shares it does not end it"
    assert len(started) == 1


def test_without_it_each_process_is_an_interpreter(started: list[list[str]]) -> None:
    server = interpreters.server()
    assert server is not None
    first = open_renderer("first")
    server._process.kill()
    server._process.wait()
    assert until(lambda: first._process._process.poll() is not None), "its forks end with it"
    assert open_renderer("second")(ONE).text.to_pylist() == ["second"]
    assert first(COLUMNS.slice(0, 2)).text.to_pylist() == ["first"] * 2, "a renderer whose process died starts another"
    assert [command[-3].rpartition("\n")[2] for command in started] == ["serve()", "main()", "main()"]


def test_a_system_without_descriptors_of_processes_needs_none(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert open_renderer("x")(ONE).text.to_pylist() == ["x"]
    assert [command[-3].rpartition("\n")[2] for command in started] == ["main()"]


@pytest.mark.parametrize(
    ("reference", "isolation"), [("chatml", "auto"), ("openhermes", "auto"), ("{user}{assistant}", "auto"),
                                 ("a.jinja", "off"), ("none", "auto"), (None, "auto")],
)  # fmt: skip
def test_trusted_templates_need_none(started: list[list[str]], reference: str | None, isolation: Any) -> None:
    prestart(reference, isolation)
    assert started == []


def test_a_template_file_starts_one_interpreter_a_run(tmp_path: Path) -> None:
    """Counted in the command and its workers, which inherit the counter."""
    (tmp_path / "a.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    for number in range(2):
        (tmp_path / f"{number}.jsonl").write_text(TURNS)
    source = (
        "import subprocess, sys, os\n"
        "start = subprocess.Popen.__init__\n"
        "def counted(self, *a, **k): os.write(2, b'started\\n'); start(self, *a, **k)\n"
        "subprocess.Popen.__init__ = counted\n"
        "from chatfmt.__main__ import main\n"
        "sys.argv = 'chatfmt convert 0.jsonl 1.jsonl -t a.jinja -o out -q --workers 2'.split()\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"started\n")
    assert run_fresh("verify", "out", stdin=None, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("command", ["probe", "audit", "show --program", "diff chatml"])
def test_commands_on_templates_run_untrusted_ones_in_a_sandbox(
    command: str, tmp_path: Path, started: list[list[str]]
) -> None:
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    name, *more = command.split()
    assert main(["templates", name, str(tmp_path / "t.jinja"), *more]) in (0, 1)
    assert len(started) == 1
