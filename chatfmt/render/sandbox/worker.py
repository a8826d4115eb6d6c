"""The render process: compiles a stranger's template, renders and traces conversations, and can do nothing else.

It speaks length-prefixed JSON (8 bytes, little endian, then UTF-8) over stdin and stdout. First the set-up:

    {"texts", "named", "variables", "date", "continue_final", "bos", "limits", "isolation"}
        -> {"level", "errors": [error, …]}

then requests, each answered by one message a row, so that no answer is larger than a row:

    {"do": "render", "rows": [[messages, number or null × 3], …], "shared": [tools, documents, template_kwargs],
     "prompt", "spans"} -> [text, spans] or null
    {"do": "trace", "text", "messages", "tools", "documents", "prompt", "variables", "deep"}
        -> {"program"} or {"reason", "whole"}

An error is `{"error": [class, message, code]}`. The order of checks is that of `plain.JinjaRenderer`, which cannot be
imported here: pyarrow would take ten times as long to start and half of the memory.
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

from ..jinja.determinism import address
from ..jinja.environment import (
    check_documents,
    check_tools,
    context,
    normalise_messages,
    plain_data,
    render_continued,
    render_tracked,
)
from ..jinja.errors import NotReproducible
from ..trace import tracer as tracing
from ..trace.program import Untraceable
from ..types import CONTEXT_NAMES, Moment, Span
from .framing import read_frame, to_frame
from .limits import LimitedSandbox, OverLimit, SandboxLimits, compile_limited
from .seccomp import die_with_parent, lock_process

FLUSH = 1 << 16
"""Bytes of answers that are worth a system call."""
Answer = Any


class Setup(Struct, frozen=True):
    """What every render has in common; see `options.RenderOptions` and `template.ChatTemplate` for the fields."""

    text: str
    named: Mapping[str, str]
    variables: Mapping[str, Any]
    now: Moment
    continue_final: bool | str
    bos: str
    limits: SandboxLimits


def main() -> None:
    """Set up, close the door, and answer until stdin ends."""
    die_with_parent()
    data = receive()
    if data is None:
        return
    setup = _setup(data)
    _load_what_is_lazy()
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
    """The compiled templates, each compiled once."""

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


def _load_what_is_lazy() -> None:
    """Import and run what Python and Jinja import at first use: behind the door nothing can be opened."""
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
    """The text and the spans of each row, or its error."""
    base = context(setup.variables, setup.now)
    for messages, *numbers in request["rows"]:
        if messages is None:
            yield None
            continue
        values = [None if at is None else shared[at] for at, shared in zip(numbers, request["shared"], strict=True)]
        yield _attempt(partial(_render, setup, compiled, base, request, messages, *values))


def _render(
    setup: Setup,
    compiled: _Templates,
    base: Mapping[str, Any],
    request: Mapping[str, Any],
    messages: list[dict[str, Any]],
    tools: Any,
    documents: Any,
    overrides: Any,
) -> Answer:
    chat = normalise_messages(messages)
    source = _select(setup, tools)
    template = compiled(source)
    template.environment.start_row()  # type: ignore[attr-defined]
    inputs = {"tools": check_tools(tools), "documents": check_documents(documents)}
    values = {**base, **_overrides(overrides), **inputs}
    if setup.continue_final:
        return _finished(
            setup, render_continued(template, source, chat, setup.continue_final, values), None, chat, values
        )
    values |= {"messages": chat, "add_generation_prompt": request["prompt"]}
    text, spans = render_tracked(template, values) if request["spans"] else (template.render(values), None)
    return _finished(setup, text, spans, chat, values)


def _select(setup: Setup, tools: Any) -> str:
    """The text for a conversation, as `ChatTemplate.select` chooses it."""
    if not setup.named:
        return setup.text
    if tools is not None and "tool_use" in setup.named:
        return setup.named["tool_use"]
    if "default" in setup.named:
        return setup.named["default"]
    raise ValueError(
        "This model has multiple chat templates with no default specified! Please either pass a chat template or "
        "the name of the template you wish to use to the `chat_template` argument. Available template names are "
        f"{sorted(setup.named)}."
    )


def _overrides(variables: Any) -> dict[str, Any]:
    if variables is None:
        return {}
    if not isinstance(variables, dict):
        raise TypeError("`template_kwargs` is not an object")
    for name in CONTEXT_NAMES:
        if name in variables:
            raise TypeError(f"`template_kwargs` may not set `{name}`")
    return dict(plain_data(variables))


def _finished(setup: Setup, text: str, spans: list[Span] | None, chat: Any, values: Mapping[str, Any]) -> Answer:
    text.encode()  # a lone surrogate, which no file can hold
    setup_output(setup, text)
    if printed := address(text, (chat, dict(values))):
        raise NotReproducible(f"the template prints {printed}, a memory address that differs from run to run")
    bos = values.get("bos_token") if setup.bos == "strip" else None
    if not bos or not text.startswith(bos):
        return [text, spans]
    cut = len(bos)
    shifted = None if spans is None else [(max(start - cut, 0), max(end - cut, 0)) for start, end in spans]
    return [text[cut:], shifted]


def setup_output(setup: Setup, text: str) -> None:
    if len(text) > setup.limits.output:
        raise OverLimit(f"the template makes more than {setup.limits.output:,} characters of output")


def trace_row(setup: Setup, compiled: _Templates, request: Mapping[str, Any]) -> Iterator[Answer]:
    """The program of one conversation, or the reason why there is none."""

    def answer() -> Answer:
        compiled(request["text"])  # its limits hold for the tracer too, which compiles in its own way
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
    """What `action` returns, or its error as an answer; whatever a stranger's template raises."""
    try:
        return action()
    except MemoryError:
        return {"error": ["OverLimit", "the template needs more memory than it may have", ""]}
    except Exception as error:
        return {"error": [type(error).__name__, str(error), _lines(error)]}


def _lines(error: Exception) -> int | None:
    return error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None


def receive() -> Any:
    """The next message, None at the end of stdin."""
    body = read_frame(partial(os.read, 0))
    return json.loads(body) if body else None


def packed(message: Any) -> bytes:
    """An answer with its length; lone surrogates, which only error messages can hold, go as escapes."""
    try:
        body = json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        body = json.dumps(message).encode()
    return to_frame(body)


def write(data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
