"""The sandbox process: compiles an untrusted template, renders and traces conversations, and can do nothing else.

It reads and writes frames of JSON (see `chatfmt.child_process`) over stdin and stdout. First the set-up:

    {"texts", "named", "variables", "date", "continue_final", "bos", "limits", "isolation"}
        -> {"level", "errors": [error, …]}

Then requests. A render request is answered with one frame per row, so that no answer is larger than a row:

    {"do": "render", "rows": [[messages, index or null × 3], …], "shared": [tools, documents, template_kwargs],
     "prompt", "spans"} -> [text, spans] or null
    {"do": "trace", "text", "messages", "tools", "documents", "prompt", "variables", "deep"}
        -> {"program"} or {"reason", "every_row"}

An error is `{"error": [class, message, line]}`. Rows are rendered by `jinja.row`, as in `JinjaRenderer`.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import jinja2
from msgspec import Struct

from ...child_process import die_with_parent, read_frame, to_frame, write_to_stdout
from ..jinja.inputs import context, normalise_messages
from ..jinja.row import RowRenderer
from ..trace.program import Untraceable
from ..trace.tracer import Inputs, trace
from ..types import Moment
from .limits import FOR_SAMPLES, OverLimit, SandboxLimits, compile_limited, limited
from .seccomp import lock_process

FLUSH_SIZE = 1 << 16
"""Bytes of answers that are collected before they are written."""
Answer = Any


class Setup(Struct, frozen=True):
    """The compiled templates, the renderer of rows, and the date that templates see."""

    templates: _Templates
    render: RowRenderer
    now: Moment


def main() -> None:
    """Set up, lock the process, and answer requests until stdin ends."""
    die_with_parent()
    message = read_message()
    if message is None:
        return
    limits = SandboxLimits(**message["limits"])
    setup = _setup(message, limits)
    _load_lazy_imports()
    gc.enable()
    level = lock_process(limits.memory) if message["isolation"] else "process"
    named = setup.render.named
    text = named["tool_use"] if named.keys() == {"tool_use"} else setup.render.text
    error = _attempt(partial(setup.templates.check, text))
    write_to_stdout(to_answer({"level": level, "errors": [error] if error else []}))
    while (request := read_message()) is not None:
        waiting = bytearray()
        for answer in ANSWERS[request["do"]](setup, request):
            waiting += to_answer(answer)
            if len(waiting) > FLUSH_SIZE:
                write_to_stdout(waiting)
                waiting = bytearray()
        write_to_stdout(waiting)


def serve() -> None:
    """Fork a process that runs `main` for each request, until the run that sends them is gone; see `interpreters`."""
    die_with_parent()
    _load_lazy_imports()
    gc.freeze()  # never collect what exists now, so that forks share its pages
    requests = socket.socket(fileno=0)
    while (request := socket.recv_fds(requests, 1, 1))[0]:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        with socket.socket(fileno=request[1][0]) as connection, contextlib.suppress(OSError):
            if pid := os.fork():
                pidfd = os.pidfd_open(pid)
                socket.send_fds(connection, [b"\0"], [pidfd])
                os.close(pidfd)
            else:
                _run_fork(connection, requests)


def _run_fork(connection: socket.socket, requests: socket.socket) -> None:
    """Run `main` with the connection as the only open file, and leave the process."""
    try:
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), 1)
        requests.detach()
        connection.close()
        main()
    finally:
        os._exit(0)


class _Templates:
    """The compiled templates of the process; each text is compiled once."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits, self._compiled = limits, dict[str, jinja2.Template]()

    def check(self, text: str) -> None:
        """Raise if the text does not compile or exceeds a limit."""
        self._compile(text)

    def start_row(self, text: str) -> jinja2.Template:
        """Return the template with its counters reset."""
        template = self._compile(text)
        template.environment.start_row()  # type: ignore[attr-defined]
        return template

    def _compile(self, text: str) -> jinja2.Template:
        if text not in self._compiled:
            self._compiled[text] = compile_limited(text, self._limits)
        return self._compiled[text]


def _setup(message: Mapping[str, Any], limits: SandboxLimits) -> Setup:
    named, now = message["named"], datetime.datetime.fromisoformat(message["date"])
    text = named.get("default", message["text"]) if named else message["text"]
    templates, base = _Templates(limits), context(message["variables"], now)
    strip_bos = message["bos"] == "strip"
    render = RowRenderer(text, named, base, message["continue_final"], strip_bos, templates.start_row)
    return Setup(templates, render, now)


@cache
def _load_lazy_imports() -> None:
    """Run the imports that Python and Jinja do at first use: once locked, the process cannot open files."""
    import encodings.unicode_escape  # noqa: F401
    import linecache
    import pprint
    import textwrap
    import unicodedata  # noqa: F401

    import jinja2.debug  # noqa: F401

    pprint.pformat({}), textwrap.wrap("a"), linecache.getline("", 1)
    datetime.datetime.now().strftime("%c %Z")
    sandbox = limited(SandboxLimits())
    for text in ("{{ 'a\\u00e9' | pprint | title }}", "{{ 1 / 0 }}", "{% if %}", "{{ a.b.c }}", "{{ {}.__class__ }}"):
        try:
            sandbox.from_string(text).render()
        except Exception as error:
            str(error)


def render_rows(setup: Setup, request: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the text and spans of each row, or its error."""

    def render(messages: list[dict[str, Any]], values: list[Any]) -> Answer:
        prompt, spans = request["prompt"], request["spans"]
        return setup.render(normalise_messages(messages), *values, generation_prompt=prompt, spans=spans)

    for messages, *indices in request["rows"]:
        if messages is None:
            yield None
            continue
        columns = zip(indices, request["shared"], strict=True)
        values = [None if index is None else shared[index] for index, shared in columns]
        yield _attempt(partial(render, messages, values))


def trace_row(setup: Setup, request: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the program of one conversation, or the reason why there is none."""

    def answer() -> Answer:
        if count_steps(setup, request) > FOR_SAMPLES.steps:  # tracing takes many times as long as rendering
            return {"reason": f"it takes more than {FOR_SAMPLES.steps:,} steps", "every_row": False}
        inputs = Inputs(
            request["messages"],
            request["tools"],
            request["documents"],
            request["prompt"],
            request["variables"],
            setup.now,
        )
        found = trace(request["text"], inputs, deep=request["deep"])
        if isinstance(found, Untraceable):
            return {"reason": found.reason, "every_row": found.every_row}
        return {"program": found.to_json()}

    yield _attempt(answer)


def count_steps(setup: Setup, request: Mapping[str, Any]) -> int:
    """Return the steps that rendering the conversation takes, since tracing it counts none.

    Raises OverLimit, MemoryError, and what compiling raises.
    """
    template = setup.templates.start_row(request["text"])
    messages, others = normalise_messages(request["messages"]), (request["tools"], request["documents"])
    try:
        setup.render(messages, *others, request["variables"], generation_prompt=request["prompt"], spans=False)
    except (OverLimit, MemoryError):
        raise
    except Exception:
        pass  # the tracer meets the same error
    return int(template.environment.steps)  # type: ignore[attr-defined]


ANSWERS: dict[str, Callable[[Setup, Mapping[str, Any]], Iterator[Answer]]] = {
    "render": render_rows,
    "trace": trace_row,
}


def _attempt(action: Callable[[], Answer]) -> Answer:
    """Return what `action` returns, or its error as an answer; an untrusted template may raise anything."""
    try:
        return action()
    except MemoryError:
        return {"error": ["OverLimit", "the template needs more memory than it may have", None]}
    except Exception as error:
        line = error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None
        return {"error": [type(error).__name__, str(error), line]}


def read_message() -> Any:
    """Return the next message; None at the end of stdin."""
    body = read_frame(partial(os.read, 0))
    return json.loads(body) if body else None


def to_answer(message: Any) -> bytes:
    """Encode an answer as a frame; lone surrogates, which only error messages can hold, are escaped."""
    try:
        body = json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        body = json.dumps(message).encode()
    return to_frame(body)
