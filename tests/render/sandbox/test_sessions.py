"""Single conversations in sandbox processes: which process serves them, and what is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatfmt import json_columns, render
from chatfmt.errors import TemplateError
from chatfmt.render import ChatTemplate, RenderOptions
from chatfmt.render.sandbox import renderer as renderer_module
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.rendering import ConversationBatch
from tests.conftest import run_here, write_rows
from tests.render.sandbox.samples import template


@pytest.mark.parametrize(
    ("options", "shares"), [({}, True), ({"bos": "strip"}, False), ({"variables": {"v": "w"}}, True)]
)
def test_sessions_share_the_process_of_the_engine(options: dict[str, Any], shares: bool) -> None:
    text = "{{ bos_token }}{{ v }}{% for m in messages %}{{ m.content }}|{% endfor %}"
    source, given = ChatTemplate("x", text, {"bos_token": "<s>"}, origin="file"), RenderOptions(**options)
    engine = render.compile(source, given, "auto")
    sessions = render.sandbox_sessions(source, "auto", engine)
    assert isinstance(engine, TracedRenderer) and sessions is not None
    chat = Chat([{"role": "user", "content": "a"}], variables={"v": "u"} if "variables" in options else {})
    assert TemplateRenderer(source, given, sessions).text(chat) == TemplateRenderer(source, given).text(chat)
    assert (sessions._renderer(text, given.date) is engine.fallback) is shares
    assert sessions._renderer("other", given.date) is not engine.fallback
    sessions.close()
    assert (
        engine.fallback(ConversationBatch(json_columns.encode_conversations([chat.messages])))
        .text.to_pylist()[0]
        .endswith("a|")
    )


def test_a_template_that_does_not_compile_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    setups, take = [], renderer_module.take_process
    monkeypatch.setattr(renderer_module, "take_process", lambda *setup: setups.append(setup) or take(*setup))
    broken = template("{% break %}")
    renderer = TemplateRenderer(broken, RenderOptions(), render.sandbox_sessions(broken, "auto"))
    for _ in range(3):
        with pytest.raises(TemplateError, match="does not compile"):
            renderer.text(Chat([{"role": "user", "content": "hi"}]))
    assert len(setups) == 1


def test_samples_may_take_fewer_steps_than_rows(tmp_path: Path) -> None:
    """A template that takes as long as it may is rendered for each row, but not for each look at what it does."""
    loops = "{% for i in range(6) %}{% for j in range(9000) %}{% endfor %}x{% endfor %}"
    body = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (tmp_path / "t.jinja").write_text(loops + body)
    write_rows(tmp_path / "in.jsonl", [{"prompt": "hi", "completion": "yo"}])
    run = run_here("convert", "in.jsonl", "-t", "t.jinja", "-o", "-", "-q", cwd=tmp_path)
    assert (run.returncode, run.stdout.count(b"x")) == (0, 6), run.stderr
    run = run_here("convert", "in.jsonl", "-t", "t.jinja", "--mask", "--to", "text", "-o", "-", "-q", cwd=tmp_path)
    assert run.stderr.decode() == (
        "error: in.jsonl: the template `t.jinja` is refused: the template takes more than 50,000 steps, and does so in "
        "too many rows\nhint: inspect it with `chatfmt templates show`; if you trust it, "
        "convert with --template-isolation off\n"
    )
