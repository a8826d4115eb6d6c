"""The parent's side of a sandbox process: how long it lives, its environment, and a prestarted one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from chatfmt import render
from chatfmt.render import ChatTemplate, RenderOptions
from chatfmt.render.sandbox import process as process_module
from chatfmt.render.sandbox.renderer import SandboxRenderer
from tests.render.sandbox.samples import COLUMNS, template


def test_the_process_ends_with_its_owner() -> None:
    renderer = SandboxRenderer(template("x"), RenderOptions())
    pid = renderer._process._process.pid
    assert Path(f"/proc/{pid}").exists() or sys.platform != "linux"
    renderer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_template_cannot_read_the_environment_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    renderer = SandboxRenderer(template("x"), RenderOptions())
    pid = renderer._process._process.pid
    if sys.platform == "linux":
        assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    renderer.close()


def test_a_prestarted_process_serves_the_first_renderer_or_ends_with_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class RecordedPopen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            started.append(self)

    monkeypatch.setattr(process_module.subprocess, "Popen", RecordedPopen)
    untrusted = template("{% for m in messages %}{{ m.content }}{% endfor %}")
    with render.prestarted_sandbox(untrusted, "auto"):
        assert len(started) == 1
        renderer = SandboxRenderer(untrusted, RenderOptions())
        assert len(started) == 1 and started[0].poll() is None
        assert renderer(COLUMNS.slice(0, 1)).text.to_pylist() == ["Be terse.Hé\u2028 <|im_end|>"]
        second = SandboxRenderer(untrusted, RenderOptions())
        assert len(started) == 2
    assert started[0].poll() is None, "a process in use does not end with the block"
    renderer.close()
    second.close()
    with pytest.raises(ZeroDivisionError), render.prestarted_sandbox(untrusted, "auto"):
        assert len(started) == 3 and started[2].poll() is None
        raise ZeroDivisionError
    assert started[2].returncode is not None
    SandboxRenderer(untrusted, RenderOptions()).close()
    assert len(started) == 4, "an ended process is not used"
    for trusted, isolation in ((untrusted, "off"), (ChatTemplate.load("chatml"), "auto")):
        with render.prestarted_sandbox(trusted, isolation):
            assert len(started) == 4


def test_a_prestarted_process_is_not_taken_by_another_thread() -> None:
    untrusted = template("{{ messages[0].content }}")
    renderers: dict[str, SandboxRenderer] = {}

    def start(name: str) -> None:
        renderers[name] = SandboxRenderer(untrusted, RenderOptions())

    with process_module.prestarted_process():
        spare = process_module._spare.get()
        assert spare is not None and spare._process is not None
        pid = spare._process.pid
        other = threading.Thread(target=start, args=("other",))
        other.start()
        other.join(60)
        start("own")
    assert renderers["own"]._process._process.pid == pid != renderers["other"]._process._process.pid
    for renderer in renderers.values():
        renderer.close()
