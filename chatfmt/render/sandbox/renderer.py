"""Renders a stranger's template behind a locked door: in a process that can compute and answer, and nothing else.

The door has levels (`cage.LEVELS`); `SandboxRenderer.level` says which is in force. Answers come back as JSON, never as
pickle. What a template may cost is counted (`limits.Limits`), so the verdict is the same on every machine; the clock is
only the last resort, and a render that it ends is an error of its row (`template.limit`), never a shorter text.
"""

from __future__ import annotations

import builtins
import contextlib
import datetime
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import jinja2
import orjson
import pyarrow as pa

from ... import json_columns
from ...errors import Location, RenderError, TemplateError, UnknownName, UsageError
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, RenderRequest
from ..jinja.environment import plain_data
from ..jinja.errors import NotReproducible, render_error
from ..options import SPANS, RenderOptions
from ..template.chat_template import ChatTemplate
from ..trace.program import OPERATIONS, QUESTIONS, Program, Untraceable
from ..trace.tracer import Inputs
from .limits import Limits
from .worker import LENGTH

Isolation = Literal["auto", "required", "off"]
ISOLATIONS: tuple[Isolation, ...] = ("auto", "required", "off")
ROWS = 64
"""Rows in a request: enough that the way there and back costs nothing, few enough to find a bad one soon."""
GROWTH = 1000
"""How many times longer than its text a traced expression may be; beyond it, the locked process computes it."""
NEEDED = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What an interpreter may need of the environment to start; tokens and keys stay outside."""
BOOT = """
import json, sys, types
path, package = json.loads(sys.argv[1])
sys.path[:] = path
for name in ("chatfmt", "chatfmt.render"):
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = [package + name.removeprefix("chatfmt").replace(".", "/")]  # without the packages' own imports: pyarrow costs more than all the rest
sys.modules["numpy"] = numpy = types.ModuleType("numpy")
numpy.generic = type("generic", (), {})  # no numpy value comes through JSON
from chatfmt.render.sandbox.worker import main
main()
"""


DEFAULTS = Limits()


class Gone(Exception):
    """The render process died, or was ended by the clock, before it answered."""


class RenderProcess:
    """One locked process. `request` raises Gone when it dies; after that it is of no use."""

    def __init__(self, setup: dict[str, Any], seconds: float) -> None:
        self._seconds = seconds
        self._process = _next_interpreter()
        try:
            (self.state,) = self.request(json.dumps(setup).encode(), 1)
        except Gone:
            self.close()
            raise

    def request(self, body: bytes, answers: int) -> list[Any]:
        """The answers to a request."""
        clock = threading.Timer(self._seconds, self._process.kill)
        clock.daemon = True
        clock.start()
        try:
            _send(cast(BinaryIO, self._process.stdin), body)
            return [self._receive() for _ in range(answers)]
        except (OSError, ValueError):
            raise Gone from None
        finally:
            clock.cancel()

    def _receive(self) -> Any:
        (size,) = LENGTH.unpack(self._exactly(LENGTH.size))
        return json.loads(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = cast(BinaryIO, self._process.stdout).read(min(size, 1 << 20))
            if not piece:
                raise Gone
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        _end(self._process)


_started_ahead: list[subprocess.Popen[bytes]] = []


@contextlib.contextmanager
def started_ahead() -> Iterator[None]:
    """A block whose first locked process starts now and imports what it needs while this one does other things."""
    process = _interpreter()
    _started_ahead.append(process)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a renderer has taken it
            _started_ahead.remove(process)
            _end(process)


def _next_interpreter() -> subprocess.Popen[bytes]:
    try:
        return _started_ahead.pop()  # one step, so that two threads never take the same
    except IndexError:
        return _interpreter()


def _interpreter() -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])
    argument = json.dumps([[str(Path(entry).resolve()) for entry in sys.path], package])
    command = [sys.executable, "-I", "-S", "-B", "-c", BOOT, argument]
    env = {name: os.environ[name] for name in NEEDED if name in os.environ}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=env)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            cast(BinaryIO, pipe).close()


def _send(pipe: BinaryIO, body: bytes) -> None:
    pipe.write(LENGTH.pack(len(body)) + body)
    pipe.flush()


class SandboxRenderer:
    """Renders as `JinjaRenderer` does, texts and errors alike, in a locked process; `trace` traces there.

    Raises TemplateError for a template that does not compile or costs too much to compile (`template.limit`), and where
    `isolation="required"` and this machine cannot lock (`template.isolation`).
    """

    engine = "jinja"

    def __init__(
        self,
        template: ChatTemplate,
        options: RenderOptions,
        *,
        limits: Limits = DEFAULTS,
        isolation: Isolation = "auto",
        reason: str = "",
    ) -> None:
        if isolation not in ISOLATIONS:
            raise UnknownName.of("isolation", isolation, ISOLATIONS)
        self.template, self.options, self.reason = template, options, reason
        self.limits, self.isolation = limits, isolation
        self._process = self._start()
        self.level = str(self._process.state["level"])
        if isolation == "required" and not self.level.startswith("seccomp"):
            self.close()
            raise TemplateError(
                f"this machine cannot lock a template in (level in force: `{self.level}`)",
                hint="--template-isolation auto, if you trust the template",
                code="template.isolation",
            )

    def _start(self) -> RenderProcess:
        try:
            process = RenderProcess(
                _setup(self.template, self.options, self.limits, self.isolation), self.limits.seconds
            )
        except Gone:
            raise _template_error(self.template.name, ["OverLimit", "it takes too long to compile", None]) from None
        for error in process.state["errors"]:
            process.close()
            raise _template_error(self.template.name, error["error"])
        return process

    def close(self) -> None:
        """End the process; it ends with this one in any case."""
        self._process.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self._process.close()

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        """As `Renderer` says."""
        if request.spans and self.options.continue_final:
            raise UsageError("spans of trained text and `--continue-final` do not go together", hint="leave one out")
        ask = {"do": "render", "prompt": self.options.resolved(request).generation_prompt, "spans": request.spans}
        answers: list[Any] = []
        for start in range(0, len(chats), ROWS):
            answers += self._answers(ask, chats.slice(start, ROWS))
        outcomes = [self._outcome(row, answer, failures) for row, answer in enumerate(answers)]
        found = pa.array([pairs for _, pairs in outcomes], SPANS) if request.spans else None
        return Rendered(pa.array([text for text, _ in outcomes], json_columns.TEXT), found)

    def _answers(self, ask: dict[str, Any], chats: ConversationBatch) -> list[Any]:
        """An answer a row; where the process dies, it is started anew and asked row by row."""
        try:
            return self._process.request(_rows_request(ask, chats), len(chats))
        except Gone:
            self._process.close()
            self._process = self._start()
        if len(chats) == 1:
            return [{"error": ["OverLimit", "the template takes too long or too much memory", None]}]
        return [answer for row in range(len(chats)) for answer in self._answers(ask, chats.slice(row, 1))]

    def _outcome(self, row: int, answer: Any, failures: Failures) -> tuple[str | None, Any]:
        if answer is None:
            return None, None
        if not isinstance(answer, dict):
            return answer[0], answer[1]
        failure, cause = _render_error(self.template.name, answer["error"], row, fitted=self.options.fitted)
        if failures is None:
            raise failure from cause
        failure.__cause__ = cause
        failures.append(failure)
        return None, None

    def trace(self, source: str, inputs: Inputs, *, deep: bool = False) -> Program | Untraceable:
        """As `trace.trace`, behind the door; refuses programs that could cost much to replay."""
        ask = {
            "do": "trace", "text": source, "messages": inputs.messages, "tools": inputs.tools, "deep": deep,
            "documents": inputs.documents, "prompt": inputs.add_generation_prompt, "variables": inputs.variables,
        }  # fmt: skip
        try:
            (answer,) = self._process.request(json.dumps(plain_data(ask)).encode(), 1)
        except Gone:
            self._process.close()
            self._process = self._start()
            return Untraceable("it takes too long or too much memory to trace", whole=True)
        if "program" in answer:
            return _vetted(Program.from_json(answer["program"]))
        if "error" in answer:
            return Untraceable(f"it raises {answer['error'][0]}")
        return Untraceable(answer["reason"], answer["whole"])


def _setup(template: ChatTemplate, options: RenderOptions, limits: Limits, isolation: Isolation) -> dict[str, Any]:
    date = options.date
    moment = date if isinstance(date, datetime.datetime) else datetime.datetime.combine(date, datetime.time())
    return {
        "text": template.text, "named": dict(template.named), "date": moment.isoformat(),
        "variables": plain_data({**template.special_tokens, **options.variables}), "bos": options.bos,
        "continue_final": options.continue_final, "limits": limits.to_json(), "isolation": isolation != "off",
    }  # fmt: skip


def _rows_request(ask: dict[str, Any], chats: ConversationBatch) -> bytes:
    """The request for some rows; tools and the like, which repeat, are sent once each and named by their number."""
    shared, numbers = zip(*(_shared(column, len(chats)) for column in chats.others), strict=True)
    rows = [list(row) for row in zip(json_columns.decode_conversations(chats.messages), *numbers, strict=True)]
    if _is_json(chats.messages.type):
        with contextlib.suppress(TypeError):  # an integer beyond 64 bits
            return orjson.dumps({**ask, "rows": rows, "shared": shared})
    return json.dumps(plain_data({**ask, "rows": rows, "shared": shared})).encode()


def _is_json(column: pa.DataType) -> bool:
    return all(field.type in (json_columns.TEXT, json_columns.JSON) for field in column.value_type)


def _shared(column: pa.Array | None, size: int) -> tuple[list[Any], list[int | None]]:
    """The distinct values of a column, and for each row the number of its value."""
    if column is None:
        return [], [None] * size
    if column.type != json_columns.JSON:
        column = json_columns.to_json(column)
    encoded = column.dictionary_encode()
    return [json_columns.loads(text) for text in encoded.dictionary.to_pylist()], encoded.indices.to_pylist()


def _template_error(name: str, error: Sequence[Any]) -> TemplateError:
    kind, message, line = error
    if kind == "OverLimit":
        return TemplateError(f"the template `{name}` is refused: {message}", hint=_LIMIT_HINT, code="template.limit")
    where = f", line {line}" if line else ""
    return TemplateError(f"the template `{name}` does not compile{where}: {message}", code="template.syntax")


_LIMIT_HINT = "look at it with `chatfmt templates show`; one you trust runs with `--template-isolation off`"


def _render_error(name: str, error: Sequence[Any], row: int, *, fitted: bool) -> tuple[RenderError, Exception | None]:
    """The error of a row and its cause, as the plain engine would have raised them."""
    kind, message, _ = error
    if kind == "OverLimit":
        return RenderError(message, hint=_LIMIT_HINT, at=Location(row=row), code="template.limit"), None
    cause = _rebuilt(kind, message)
    return render_error(cause, name, row, fitted=fitted), cause


def _rebuilt(kind: str, message: str) -> Exception:
    """An exception of the class `kind` of Jinja or Python that prints `message`."""
    if kind == "NotReproducible":
        return NotReproducible(message)
    found = getattr(jinja2.exceptions, kind, None) or getattr(builtins, kind, None)
    if not isinstance(found, type) or not issubclass(found, Exception):
        found = RuntimeError
    with contextlib.suppress(Exception):
        error = found(message)
        if str(error) == message:
            return error
    named = type(kind, (found,), {"__str__": lambda self: message, "__init__": lambda self: None})
    return cast(Exception, named())


def _vetted(program: Program) -> Program | Untraceable:
    """The program, unless an expression in it is not one, or could make much of little."""
    expressions = [piece for piece in program.pieces if not isinstance(piece, str)]
    questions = [question for question, _ in program.guards]
    try:
        known = all(question[0] in QUESTIONS for question in questions)
        growth = [_growth(item) for item in (*expressions, *(question[1] for question in questions))]
    except (IndexError, TypeError, KeyError, ValueError):
        known, growth = False, []
    if not known or max(growth, default=0) > GROWTH:
        return Untraceable("an operation on a text could make it very long")
    return program


def _growth(expression: Sequence[Any]) -> int:
    """How many times longer than the conversation's texts the value of an expression may be."""
    operation, *rest = expression
    if operation == "leaf":
        return 1
    if operation == "cat":
        return sum(1 + len(part) // 1000 if isinstance(part, str) else _growth(part) for part in rest[0])
    OPERATIONS[operation]
    constants = rest[1:]
    sizes = [len(item) if isinstance(item, str) else abs(item) for item in constants if isinstance(item, (str, int))]
    grows = operation in ("replace", "indent")
    return _growth(rest[0]) * (max(1, *sizes) if grows and sizes else 1)
