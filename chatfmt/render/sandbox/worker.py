"""The sandbox process: compile an untrusted template, render and trace conversations, and nothing else.

It speaks length-prefixed JSON (8 bytes, little endian, then UTF-8) over stdin and stdout. First the setup:

    {"texts", "named", "variables", "date", "continue_final", "bos", "limits", "isolation"}
        -> {"level", "errors": [error, …]}

then requests, each answered with one message per row, so that no answer is larger than a row:

    {"do": "render", "rows": [[messages, number or null × 3], …], "shared": [tools, documents, template_kwargs],
     "prompt", "spans"} -> [text, spans] or null
    {"do": "trace", "text", "messages", "tools", "documents", "prompt", "variables", "deep"}
        -> {"program"} or {"reason", "whole"}

An error is `{"error": [class, message, line]}`. Rows are rendered by `jinja.row.RowRenderer`, as in the process of the
conversion. Nothing here imports Arrow, which would take ten times as long to start and half of the memory.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jinja2
from msgspec import Struct

from ..jinja.environment import context, normalise_messages
from ..jinja.row import RowRenderer
from ..trace import tracer as tracing
from ..trace.program import Untraceable
from ..types import Moment
from .framing import read_frame, to_frame
from .limits import LimitedSandbox, OverLimit, SandboxLimits, compile_limited
from .seccomp import die_with_parent, lock_process

FLUSH = 1 << 16
"""Bytes of answers to collect per system call."""
Answer = Any


class Setup(Struct, frozen=True):
    """Everything that all renders share; `options.RenderOptions` and `ChatTemplate` explain the fields."""

    text: str
    named: Mapping[str, str]
    variables: Mapping[str, Any]
    now: Moment
    continue_final: bool | str
    bos: str
    limits: SandboxLimits


def main() -> None:
    """Set up, lock the process, and answer requests until stdin ends."""
    die_with_parent()
    data = receive()
    if data is None:
        return
    setup = _setup(data)
    _import_lazy_modules()
    level = lock_process(setup.limits.memory) if data["isolation"] else "process"
    compiled = _Templates(setup.limits)
    texts = [setup.named["tool_use"]] if setup.named.keys() == {"tool_use"} else [setup.text]
    errors = [error for text in texts if (error := _attempt(partial(_compile, compiled, text)))]
    write(packed({"level": level, "errors": errors}))
    while (request := receive()) is not None:
        waiting = bytearray()
        for answer in ANSWERS[request["do"]](setup, compiled, request):
            waiting += packed(answer)
            if len(waiting) > FLUSH:
                write(waiting)
                waiting = bytearray()
        write(waiting)


def _compile(compiled: _Templates, text: str) -> None:
    compiled(text)


class _Templates:
    """Templates by their text, each compiled once."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits, self._known = limits, dict[str, jinja2.Template]()

    def __call__(self, text: str) -> jinja2.Template:
        if text not in self._known:
            self._known[text] = compile_limited(text, self._limits)
        return self._known[text]


def _setup(data: Mapping[str, Any]) -> Setup:
    named = data["named"]
    now = datetime.datetime.fromisoformat(data["date"])
    text = named.get("default", data["text"]) if named else data["text"]
    limits = SandboxLimits(**data["limits"])
    return Setup(text, named, data["variables"], now, data["continue_final"], data["bos"], limits)


def _import_lazy_modules() -> None:
    """Import what Python and Jinja import on first use: a locked process cannot open files."""
    import encodings.unicode_escape  # noqa: F401
    import linecache
    import pprint
    import textwrap
    import unicodedata  # noqa: F401

    import jinja2.debug  # noqa: F401

    pprint.pformat({}), textwrap.wrap("a"), linecache.getline("", 1)
    datetime.datetime.now().strftime("%c %Z")
    sandbox = LimitedSandbox()
    for text in ("{{ 'a\\u00e9' | pprint | title }}", "{{ 1 / 0 }}", "{% if %}", "{{ a.b.c }}", "{{ {}.__class__ }}"):
        try:
            sandbox.from_string(text).render()
        except Exception as error:
            str(error)


def render_rows(setup: Setup, compiled: _Templates, request: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the text and spans of each row, or its error."""

    def fresh(text: str) -> jinja2.Template:
        template = compiled(text)
        template.environment.start_row()  # type: ignore[attr-defined]
        return template

    base = context(setup.variables, setup.now)
    check = partial(_check_length, setup.limits.output)
    render = RowRenderer(setup.text, setup.named, base, setup.continue_final, setup.bos == "strip", fresh, check)
    how = {"generation_prompt": request["prompt"], "spans": request["spans"]}
    for messages, *numbers in request["rows"]:
        if messages is None:
            yield None
            continue
        values = [None if at is None else shared[at] for at, shared in zip(numbers, request["shared"], strict=True)]
        yield _attempt(partial(_render, render, messages, *values, **how))


def _render(render: RowRenderer, messages: list[dict[str, Any]], *values: Any, **how: Any) -> Answer:
    return render(normalise_messages(messages), *values, **how)


def _check_length(most: int, text: str) -> None:
    if len(text) > most:
        raise OverLimit(f"the template makes more than {most:,} characters of output")


def trace_row(setup: Setup, compiled: _Templates, request: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the program of one conversation, or the reason why there is none."""

    def answer() -> Answer:
        compiled(request["text"])  # checks the limits for the tracer too, which compiles on its own
        inputs = tracing.Inputs(
            request["messages"],
            request["tools"],
            request["documents"],
            request["prompt"],
            request["variables"],
            setup.now,
        )
        found = tracing.trace(request["text"], inputs, deep=request["deep"])
        if isinstance(found, Untraceable):
            return {"reason": found.reason, "whole": found.whole}
        return {"program": found.to_json()}

    yield _attempt(answer)


ANSWERS: dict[str, Callable[[Setup, _Templates, Mapping[str, Any]], Iterator[Answer]]] = {
    "render": render_rows,
    "trace": trace_row,
}


def _attempt(action: Callable[[], Answer]) -> Answer:
    """Return the result of `action`, or any error that an untrusted template raises as an answer."""
    try:
        return action()
    except MemoryError:
        return {"error": ["OverLimit", "the template needs more memory than it may have", ""]}
    except Exception as error:
        return {"error": [type(error).__name__, str(error), _lines(error)]}


def _lines(error: Exception) -> int | None:
    return error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None


def receive() -> Any:
    """Return the next message, or None at the end of stdin."""
    body = read_frame(partial(os.read, 0))
    return json.loads(body) if body else None


def packed(message: Any) -> bytes:
    """Return the frame of a message; lone surrogates, which only error messages can contain, are escaped."""
    try:
        body = json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        body = json.dumps(message).encode()
    return to_frame(body)


def write(data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
