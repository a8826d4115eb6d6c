"""Render an untrusted template in a sandbox process, which can compute and answer and do nothing else.

The isolation has levels (`seccomp.LEVELS`); `SandboxRenderer.level` is the one in force. Answers are JSON, never
pickle. The cost of a template is counted (`limits.SandboxLimits`), so that it is refused on every machine alike. The
time limit is a last resort: a render that exceeds it is an error of its row (`template.limit`), never a shorter text.
"""

from __future__ import annotations

import builtins
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import jinja2
import orjson
import pyarrow as pa

from ... import json_columns
from ...errors import Location, RenderError, TemplateError, UnknownName
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, RenderRequest, check_text_size
from ..jinja.errors import NotReproducible, render_error, syntax_error
from ..jinja.inputs import plain_data
from ..options import SPANS, RenderOptions
from ..template.chat_template import ChatTemplate
from ..trace.program import QUESTIONS, Program, Untraceable, growth
from ..trace.tracer import Inputs
from .limits import FOR_ROWS, SandboxLimits
from .process import SandboxDied, SandboxProcess, is_error, take_process

Isolation = Literal["auto", "required", "off"]
ISOLATIONS: tuple[Isolation, ...] = ("auto", "required", "off")
ROWS = 64
"""The most rows per request: enough to make the round trip cheap, few enough to find a failing row soon."""
GROWTH = 1000
"""The most times a traced expression may be longer than its input; beyond that, the sandbox process computes it."""
REFUSED_ROWS = 20
"""The rows that may cost too much, besides 1% of all, before the template is refused; each takes about a second."""
_DIED = ["OverLimit", "the template takes too long or too much memory", None]


class SandboxRenderer:
    """Render in a sandbox process, with the same texts and errors as `JinjaRenderer`; `trace` traces there.

    Raises TemplateError for a template that does not compile (`template.syntax`) or costs too much to compile
    (`template.limit`), and if `isolation="required"` is not available on this machine (`template.isolation`).
    """

    def __init__(
        self,
        template: ChatTemplate,
        options: RenderOptions,
        *,
        limits: SandboxLimits = FOR_ROWS,
        isolation: Isolation = "auto",
    ) -> None:
        if isolation not in ISOLATIONS:
            raise UnknownName.of("isolation", isolation, ISOLATIONS)
        self.template, self.options = template, options
        self.limits, self.isolation = limits, isolation
        self.count_rows: Callable[[], int] = int
        """Returns the rows of the run so far, those that are replayed without this renderer included."""
        self._rows, self._refused, self._rows_at_once = 0, 0, 1
        self._spent: TemplateError | None = None
        self._endless: dict[str, Untraceable] = {}
        self._process = self._start()
        self.level = str(self._process.state["level"])
        if isolation == "required" and not self.level.startswith("seccomp"):
            self.close()
            raise TemplateError(
                f"this machine cannot isolate the template (level in force: `{self.level}`)",
                hint="if you trust the template: --template-isolation auto",
                code="template.isolation",
            )

    def _start(self) -> SandboxProcess:
        setup = _setup(self.template, self.options, self.limits, self.isolation)
        try:
            process = self._take_process(setup)
        except SandboxDied:
            raise _template_error(self.template.name, ["OverLimit", "it takes too long to compile", None]) from None
        for error in process.state["errors"]:
            process.close()
            raise _template_error(self.template.name, error["error"])
        return process

    def _take_process(self, setup: dict[str, Any]) -> SandboxProcess:
        """Return a process with the set-up; try again if something else than the time limit killed it."""
        try:
            return take_process(setup, self.limits.seconds)
        except SandboxDied as died:
            if died.out_of_time:
                raise
            return take_process(setup, self.limits.seconds)

    def _restart(self) -> None:
        self._process.close()
        self._process = self._start()

    def close(self) -> None:
        """Give the process up. It ends with this process in any case."""
        if process := self.__dict__.pop("_process", None):
            process.release()

    def __del__(self) -> None:
        self.close()

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        request = self.options.resolved(request)
        answers: list[Any] = []
        for start in range(0, len(chats), ROWS):
            rows = _to_rows(chats.slice(start, ROWS))
            answers += self.answers(*rows, request, is_json=_is_json(chats.messages.type))
            check_text_size(sum(len(each[0] or "") for each in answers if isinstance(each, list)), len(chats))
        outcomes = [self._outcome(row, answer, failures) for row, answer in enumerate(answers)]
        found = pa.array([pairs for _, pairs in outcomes], SPANS) if request.spans else None
        return Rendered(pa.array([text for text, _ in outcomes], json_columns.TEXT), found)

    def answers(
        self, rows: list[Any], shared: list[list[Any]], request: RenderRequest, *, is_json: bool = False
    ) -> list[Any]:
        """Return one answer per row, as `worker.render_rows` yields them for these rows and shared values.

        `is_json` says that all values are known to be JSON. If the process dies, restart it and send the rows one by
        one. Raises TemplateError if so many rows cost too much that they would take up the run.
        """
        if self._spent is not None:
            raise self._spent
        self._rows += len(rows)
        message = {"do": "render", "prompt": request.generation_prompt, "spans": request.spans, "shared": shared}
        found: list[Any] = []
        alone_until = 0
        while (start := len(found)) < len(rows):
            some = rows[start : start + (1 if start < alone_until else self._rows_at_once)]
            try:
                answers = self._process.request(_to_json({**message, "rows": some}, is_json), len(some), _is_outcome)
            except SandboxDied as died:
                self._restart()
                tried_alone, alone_until = start < alone_until, max(alone_until, start + len(some))
                if not tried_alone and (len(some) > 1 or not died.out_of_time):
                    continue
                answers = [{"error": _DIED}]
            self._rows_at_once = 1 if self._count_refused(answers) else min(8 * self._rows_at_once, ROWS)
            found += answers
            check_text_size(sum(len(each[0] or "") for each in found if isinstance(each, list)), len(rows))
        return found

    def _count_refused(self, answers: Sequence[Any]) -> int:
        """Return how many of some rows cost too much; raises TemplateError if these are too many in all."""
        failed = (each["error"] for each in answers if isinstance(each, dict) and "error" in each)
        errors = [error for error in failed if error[0] == "OverLimit"]
        self._refused += sum(REFUSED_ROWS // 2 if error is _DIED else 1 for error in errors)
        rows = max(self._rows, self.count_rows())
        if self._refused > REFUSED_ROWS + rows // 100:
            message = f"{errors[-1][1]}, and does so in too many rows"
            self._spent = _template_error(self.template.name, ["OverLimit", message, None])
            raise self._spent
        return len(errors)

    def _outcome(self, row: int, answer: Any, failures: Failures) -> tuple[str | None, Any]:
        if answer is None:
            return None, None
        if not isinstance(answer, dict):
            return answer[0], answer[1]
        failure, cause = _render_error(self.template.name, answer["error"], row)
        if failures is None:
            raise failure from cause
        failure.__cause__ = cause
        failures.append(failure)
        return None, None

    def trace(self, source: str, inputs: Inputs, *, deep: bool = False) -> Program | Untraceable:
        """Run `tracer.trace` in the sandbox process; programs that could cost much to replay count as untraceable.

        A text whose tracing ended the process is not traced again. Raises TemplateError as a call does.
        """
        if source in self._endless:
            return self._endless[source]
        message = {
            "do": "trace", "text": source, "messages": inputs.messages, "tools": inputs.tools, "deep": deep,
            "documents": inputs.documents, "prompt": inputs.add_generation_prompt, "variables": inputs.variables,
        }  # fmt: skip
        try:
            (answer,) = self._process.request(_to_json(message, False), 1, _is_trace)
        except SandboxDied:
            self._restart()
            self._endless[source] = Untraceable("it takes too long or too much memory to trace", every_row=True)
            return self._endless[source]
        if "program" in answer:
            return _to_program(answer["program"])
        if self._count_refused([answer]):
            return Untraceable(answer["error"][1].replace("the template", "it", 1))
        if "error" in answer:
            return Untraceable(f"it raises {answer['error'][0]}")
        return Untraceable(answer["reason"], bool(answer.get("every_row")))


def _setup(
    template: ChatTemplate, options: RenderOptions, limits: SandboxLimits, isolation: Isolation
) -> dict[str, Any]:
    return {
        "text": template.text, "named": dict(template.named), "date": options.date.isoformat(),
        "variables": plain_data({**template.special_tokens, **options.variables}), "bos": options.bos,
        "continue_final": options.continue_final, "limits": limits.to_json(), "isolation": isolation != "off",
    }  # fmt: skip


def _to_rows(chats: ConversationBatch) -> tuple[list[Any], list[list[Any]]]:
    """Return the rows of a request; repeated values (tools, documents, variables) are sent once, as `shared`."""
    shared, numbers = zip(*(_shared(column, len(chats)) for column in chats.others), strict=True)
    rows = zip(json_columns.decode_conversations(chats.messages), *numbers, strict=True)
    return [list(row) for row in rows], list(shared)


def _to_json(message: dict[str, Any], is_json: bool) -> bytes:
    if is_json:
        with contextlib.suppress(TypeError):  # an integer beyond 64 bits
            return orjson.dumps(message)
    return json.dumps(plain_data(message)).encode()


def _is_json(column: pa.DataType) -> bool:
    return all(field.type in (json_columns.TEXT, json_columns.JSON) for field in column.value_type)


def _shared(column: pa.Array | None, size: int) -> tuple[list[Any], list[int | None]]:
    """Return the distinct values of a column, and for each row the index of its value."""
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
    return syntax_error(name, message, line)


_LIMIT_HINT = "inspect it with `chatfmt templates show`; if you trust it, convert with --template-isolation off"


def _render_error(name: str, error: Sequence[Any], row: int) -> tuple[RenderError, Exception | None]:
    """Return the error of a row and its cause, as `JinjaRenderer` would raise them."""
    kind, message, _ = error
    if kind == "OverLimit":
        return RenderError(message, hint=_LIMIT_HINT, at=Location(row=row), code="template.limit"), None
    cause = _rebuilt(kind, message)
    return render_error(cause, name, row), cause


def template_exception(name: str, error: Sequence[Any]) -> BaseException:
    """Return what the template raised, or the RenderError of a limit."""
    failure, cause = _render_error(name, error, 0)
    return cause or failure


def _rebuilt(kind: str, message: str) -> Exception:
    """Return an exception of the Jinja or Python class named `kind` whose text is `message`."""
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


def _is_outcome(answer: Any) -> bool:
    """Return whether an answer is what `render_rows` yields: nothing, an error, or a text with its spans."""
    if not isinstance(answer, list):
        return answer is None or is_error(answer)
    text, spans = answer if len(answer) == 2 else (0, 0)
    pairs = spans if isinstance(spans, list) else [] if spans is None else [0]
    places = [place for pair in pairs for place in (pair if isinstance(pair, list) and len(pair) == 2 else [""])]
    return (text is None or isinstance(text, str)) and all(type(place) is int for place in places)


def _is_trace(answer: Any) -> bool:
    """Return whether an answer is what `trace_row` yields: a program, the reason why there is none, or an error."""
    if not isinstance(answer, dict) or is_error(answer):
        return isinstance(answer, dict)
    return isinstance(answer.get("program", answer.get("reason")), str)


def _to_program(text: str) -> Program | Untraceable:
    try:
        return _checked(Program.from_json(text))
    except (ValueError, TypeError, RecursionError):
        return Untraceable("the answer is not a program")


def _checked(program: Program) -> Program | Untraceable:
    """Return the program, unless it holds a malformed expression or one whose value could be very long."""
    expressions = [piece for piece in program.pieces if not isinstance(piece, str)]
    questions = [question for question, _ in program.guards]
    try:
        known = all(question[0] in QUESTIONS for question in questions)
        longest = max(map(growth, (*expressions, *(question[1] for question in questions))), default=0)
    except (IndexError, TypeError, KeyError, ValueError, AttributeError):
        known, longest = False, 0
    if not known or longest > GROWTH:
        return Untraceable("an operation on a text could make it very long")
    return program
