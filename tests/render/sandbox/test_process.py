"""The parent's side of a sandbox process: how long it lives, and its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatfmt.child_process import to_frame
from chatfmt.errors import RenderError
from chatfmt.render import RenderOptions
from chatfmt.render.sandbox import process as process_module
from chatfmt.render.sandbox.renderer import SandboxRenderer
from chatfmt.render.trace.program import Untraceable
from chatfmt.render.trace.tracer import Inputs
from tests.render.sandbox.samples import COLUMNS, template


@pytest.fixture(autouse=True)
def no_idle_processes(fresh_sandboxes: None) -> Iterator[None]:
    process_module.close_idle()
    yield
    process_module.close_idle()


def test_a_released_process_serves_the_next_renderer_of_the_same_template_and_no_other() -> None:
    first = SandboxRenderer(template("{{ messages[0].content }}"), RenderOptions())
    pid = first._process._process.pid
    first.close()
    other = SandboxRenderer(template("{{ messages[-1].content }}"), RenderOptions())
    dated = SandboxRenderer(template("{{ messages[0].content }}"), RenderOptions(variables={"a": 1}))
    again = SandboxRenderer(template("{{ messages[0].content }}"), RenderOptions())
    assert again._process._process.pid == pid
    assert pid not in (other._process._process.pid, dated._process._process.pid)
    assert again(COLUMNS.slice(0, 1)).text.to_pylist() == ["Be terse."]
    del again
    process_module.close_idle()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_more_than_two_processes_are_kept_and_none_that_did_not_answer_in_time() -> None:
    renderers = [SandboxRenderer(template(f"{number}"), RenderOptions()) for number in range(3)]
    pids = [renderer._process._process.pid for renderer in renderers]
    dead = renderers[2]
    with pytest.raises(process_module.SandboxDied):
        dead._process._process.kill()
        dead._process.request(b"{}", 1)
    for renderer in renderers:
        renderer.close()
    assert [process._process.pid for process in process_module._idle.values()] == pids[:2]
    twin = SandboxRenderer(template("3"), RenderOptions())
    twin.close()
    assert len(process_module._idle) == process_module.IDLE_PROCESSES == 2
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_forked_child_does_not_use_the_processes_of_its_parent() -> None:
    SandboxRenderer(template("x"), RenderOptions()).close()
    assert len(process_module._idle) == 1
    if not (child := os.fork()):
        os._exit(len(process_module._idle))
    assert os.waitpid(child, 0)[1] == 0


def test_a_template_cannot_read_the_environment_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    renderer = SandboxRenderer(template("x"), RenderOptions())
    pid = renderer._process._process.pid
    if sys.platform == "linux":
        assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    renderer.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_whose_pipes_were_closed_is_not_used_again(when: str) -> None:
    """The collector closes the pipes of a process in a cycle of garbage, before or after its renderer releases it."""
    renderer = SandboxRenderer(template("{{ messages[0].content }}"), RenderOptions())
    process = renderer._process._process
    if when == "before":
        process.stdin.close()
    renderer.close()
    process.stdin.close()
    again = SandboxRenderer(template("{{ messages[0].content }}"), RenderOptions())
    assert again(COLUMNS.slice(0, 1)).text.to_pylist() == ["Be terse."]
    assert again._process._process.pid != process.pid and process.wait() is not None


ANSWERS = {
    "a frame that ends early": b"\x20" + bytes(7) + b"[",
    "a frame that claims an exabyte": (1 << 60).to_bytes(8, "little"),
    "half a length": b"\x01\0\0",
    "no JSON": to_frame(b"\xff{"),
    "deep nesting": to_frame(b"[" * 100_000 + b"]" * 100_000),
    "a number": to_frame(b"7"),
    "a text": to_frame(b'"text"'),
    "a list of one": to_frame(b'["text"]'),
    "a text that is a number": to_frame(b"[1,null]"),
    "spans that are text": to_frame(b'["text",[["a","b"]]]'),
    "spans of one place": to_frame(b'["text",[[1]]]'),
    "an error that is a number": to_frame(b'{"error":5}'),
    "an error without a line": to_frame(b'{"error":["ValueError","text"]}'),
    "another object": to_frame(b'{"text":"a"}'),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_process_that_answers_anything_else_is_a_bad_row(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would if the template had taken the process over."""
    renderer = SandboxRenderer(template("{{ messages[0].content }}"), RenderOptions())
    (tmp_path / "answer").write_bytes(ANSWERS[name])

    def start(self: process_module.SandboxProcess, setup: bytes, seconds: float) -> None:
        self.setup, self.state, self._seconds, self._alive = setup, {"level": "seccomp", "errors": []}, seconds, True
        command = ["sh", "-c", "head -c 20 >/dev/null; cat answer"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)

    monkeypatch.setattr(process_module.SandboxProcess, "__init__", start)
    renderer._restart()
    failures: list[RenderError] = []
    assert renderer(COLUMNS.slice(0, 1), failures=failures).text.to_pylist() == [None]
    assert [failure.code for failure in failures] == ["template.limit"]
    assert isinstance(renderer.trace("", Inputs([], None, None, False, {})), Untraceable)
    renderer.close()


PROGRAMS = ["[", "5", "[[5]]", '[["a"],[["nonsense"]]]', "[" * 100_000 + "]" * 100_000, '[[["cat"]]]', '[[["leaf"]],5]']


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_that_is_none_is_not_run(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = SandboxRenderer(template("x"), RenderOptions())
    monkeypatch.setattr(renderer._process, "request", lambda body, answers, is_valid: [{"program": PROGRAMS[number]}])
    assert isinstance(renderer.trace("x", Inputs([], None, None, False, {})), Untraceable)
    renderer.close()
