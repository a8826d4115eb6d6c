"""The meaning of a chat template: the sandbox, data and errors of `apply_chat_template(tokenize=False)`.

Everything here equals transformers 5.23.0 with jinja2 3.1 (`utils/chat_template_utils.py` and
`tokenization_utils_base.py`), in text, spans, error classes and error messages; a parity suite compares the two.
What differs on purpose: the clock stands still (`strftime_now` formats the moment it is given), and errors leave
this module as Jinja or Python raised them (the callers wrap them in a `RenderError`). The same sandbox evaluates the
expressions of `--where` and `--map`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NoReturn, TypeVar, cast

import jinja2
import numpy as np
from jinja2 import Environment, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from ...errors import RowError, UsageError
from ...schema import REASONING_FIELDS
from ..types import CONTEXT_NAMES, UNDATED, Moment, Span

SEMANTICS = "transformers 5.23.0"
"""The version whose `apply_chat_template` a rendered text equals."""
CONTINUE_TAG = "CONTINUE_FINAL_MESSAGE_TAG "


_SPANS: ContextVar[tuple[list[str], list[Span]] | None] = ContextVar("chatfmt_spans", default=None)


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`: renders its body as a call block does and notes where the text lies.

    A start is the length of everything yielded at top level so far, so inside a macro or a `{% set %}` block it is
    relative to the text outside, as it is in transformers.
    """

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an attribute of the instance

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_generation_support"), [], [], body).set_lineno(lineno)

    def _generation_support(self, caller: Macro) -> str:
        body = caller()
        if tracked := _SPANS.get():
            blocks, spans = tracked
            start = sum(map(len, blocks))
            spans.append((start, start + len(body)))
        return body


class TemplateDict:
    """`dict` as templates see it: it can be called and has `fromkeys`, and nothing of the type can be reached."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(Namespace):
    """`namespace` as templates see it: a name that begins with an underscore is a SecurityError."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no `self`, so that `namespace(self=1)` works as in jinja2
        self, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            _refuse_private(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(
            f"Chat templates cannot store underscore-prefixed attributes on a namespace, but got {name!r}. "
            "Please rename the attribute."
        )


_F = TypeVar("_F", bound=Callable[..., Any])


def _as_upstream(function: _F) -> _F:
    """The function under the name that transformers gives it, which Python prints when it is called wrongly."""
    function.__qualname__ = f"_cached_compile_jinja_template.<locals>.{function.__name__}"
    return function


@_as_upstream
def raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


@_as_upstream
def tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def clock(now: Moment) -> Callable[[str], str]:
    """`strftime_now` for a clock that stands still at `now` (a date: at midnight)."""
    moment = now if isinstance(now, datetime.datetime) else datetime.datetime.combine(now, datetime.time())

    @_as_upstream
    def strftime_now(format: str) -> str:
        return moment.strftime(format)

    return strftime_now


def sandbox(kind: type[ImmutableSandboxedEnvironment] = ImmutableSandboxedEnvironment) -> ImmutableSandboxedEnvironment:
    """A new environment as transformers makes one for each template, of class `kind`; its clock stands at `UNDATED`."""
    environment = kind(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(
        raise_exception=raise_exception, strftime_now=clock(UNDATED), dict=TemplateDict(), namespace=TemplateNamespace
    )
    return environment


@lru_cache(maxsize=128)
def compile_template(text: str) -> jinja2.Template:
    """The compiled template of `text`, in an environment of its own; the last 128 are kept.

    Raises jinja2.TemplateSyntaxError, and RecursionError for text that is nested too deeply.
    """
    return sandbox().from_string(text)


def plain_data(value: Any) -> Any:
    """A copy of `value` made of nothing but dict, list, tuple, str, int, float, bool and None.

    Subclasses become their base type, dataclasses and objects with `model_dump` become dicts; anything else, such as
    a date, a decimal or bytes, becomes the text `<TypeName>`.
    """
    kind = type(value)
    if value is None or kind in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_data(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain_data(item) for item in value)
    return _plain_object(value)


_SCALARS = frozenset((str, int, float, bool))


def _plain_object(value: Any) -> Any:
    for base in (str, int, float):
        if isinstance(value, base):
            return getattr(base, f"__{base.__name__}__")(value)
    if isinstance(value, np.generic):
        return plain_data(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):
        return plain_data(value.model_dump())
    return f"<{type(value).__name__}>"


def normalise_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as templates get them: plain data, no key of a message that is None, reasoning under its two names.

    Nested None stays. The caller's objects are not changed and not shared.
    """
    if len(messages) == 0:
        raise ValueError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    return [alias_reasoning(plain_data(message)) for message in map(drop_nulls, messages)]


def drop_nulls(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message without the keys whose value is None; nested None stays."""
    return {key: value for key, value in message.items() if value is not None}


def alias_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its reasoning under `thinking` (in front, an existing one is kept) and `reasoning_content`."""
    for name in REASONING_FIELDS:
        if (reasoning := message.get(name)) is not None:
            return {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


def check_tools(tools: Any) -> Any:
    """The tools as a list; None stays None and an empty list stays one. Raises ValueError where one is no dict."""
    if tools is None:
        return None
    for tool in tools:
        if not isinstance(tool, dict):
            raise ValueError(
                "Tools should either be a JSON schema, or a callable function with type hints "
                "and a docstring suitable for auto-conversion to a schema."
            )
    return list(tools)


def check_documents(documents: Any) -> Any:
    """The documents as they are. Raises TypeError where one is no dict."""
    for document in () if documents is None else documents:
        if not isinstance(document, dict):
            raise TypeError("Documents should be a list of dicts with 'title' and 'text' keys!")
    return documents


def context_values(tools: Any, documents: Any, variables: Mapping[str, Any] | None, now: Moment) -> dict[str, Any]:
    """All that a template sees besides the messages and `add_generation_prompt`, checked, as plain data."""
    tools, documents = plain_data(check_tools(tools)), plain_data(check_documents(documents))
    return {"tools": tools, "documents": documents, **context(variables or {}, now)}


def context(variables: Mapping[str, Any], now: Moment) -> dict[str, Any]:
    """What a template sees besides `CONTEXT_NAMES`: the clock, and the special tokens and variables as plain data.

    Raises TypeError for a variable with one of the names that every render sets.
    """
    for name in CONTEXT_NAMES:
        if name in variables:
            raise TypeError(f"a template variable may not be named `{name}`")
    return {"strftime_now": clock(now), **plain_data(variables)}


def render_text(
    text: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Any = None,
    documents: Any = None,
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    variables: Mapping[str, Any] | None = None,
    now: Moment = UNDATED,
) -> str:
    """The text that `apply_chat_template(tokenize=False)` returns for the template `text`.

    `variables` holds the special tokens too. Raises what Jinja, the template or Python raise.
    """
    chat = normalise_messages(messages)
    if continue_final_message and add_generation_prompt:
        raise ValueError(_NOT_COMPATIBLE)
    template = compile_template(text)
    values = context_values(tools, documents, variables, now)
    if continue_final_message:
        return render_continued(template, text, chat, continue_final_message, values)
    return render_values(template, {"messages": chat, "add_generation_prompt": add_generation_prompt, **values})


_NOT_COMPATIBLE = (
    "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you want "
    "the model to continue the final message, and add_generation_prompt when you want to add a header that will "
    "prompt it to start a new assistant message instead."
)


def render_spans(
    text: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Any = None,
    documents: Any = None,
    *,
    add_generation_prompt: bool = False,
    variables: Mapping[str, Any] | None = None,
    now: Moment = UNDATED,
) -> tuple[str, list[Span]]:
    """The rendered text and the spans of its `{% generation %}` blocks, in the order in which they ended."""
    chat = normalise_messages(messages)
    template = compile_template(text)
    values = context_values(tools, documents, variables, now)
    return render_tracked(template, {"messages": chat, "add_generation_prompt": add_generation_prompt, **values})


def render_values(template: jinja2.Template, values: dict[str, Any]) -> str:
    """The rendered text of a template over `values`, which Jinja keeps.

    As `template.render`, without its copy of the values and its rewriting of tracebacks, which costs some renders.
    """
    return "".join(template.root_render_func(template.new_context(values)))


def render_tracked(template: jinja2.Template, values: Mapping[str, Any]) -> tuple[str, list[Span]]:
    """The rendered text of a template over `values` and the spans of its `{% generation %}` blocks."""
    blocks: list[str] = []
    with _tracking(blocks) as spans:
        for block in template.generate(values):
            blocks.append(block)
    return "".join(blocks), spans


@contextmanager
def _tracking(blocks: list[str]) -> Iterator[list[Span]]:
    spans: list[Span] = []
    token = _SPANS.set((blocks, spans))
    try:
        yield spans
    finally:
        _SPANS.reset(token)


def render_continued(
    template: jinja2.Template, text: str, chat: list[dict[str, Any]], field: bool | str, values: Mapping[str, Any]
) -> str:
    """The rendered text up to the end of the last message's `field` (True: `content`), so that a model goes on with it.

    `text` is the source of `template`, `chat` normalised messages, of which the last is copied and not changed.
    Raises ValueError where that message has nothing to continue, or the template does not print it as it is.
    """
    name = field if isinstance(field, str) else "content"
    final, wanted = _tagged(plain_data(chat[-1]), name, text)
    rendered = render_values(template, {**values, "messages": [*chat[:-1], final], "add_generation_prompt": False})
    if wanted.strip() not in rendered or CONTINUE_TAG.strip() not in rendered:
        raise ValueError(
            "continue_final_message is set but the final message does not appear in the chat after applying the chat "
            "template! This can happen if the chat template deletes portions of the final message. Please verify the "
            "chat template and final message in your chat to ensure they are compatible."
            f"Final message to continue: {wanted.strip()}\nRendered chat:\n{rendered}"
        )
    place = rendered.rindex(CONTINUE_TAG.strip())
    kept = rendered[:place]
    return kept if rendered.startswith(CONTINUE_TAG, place) else kept.rstrip()


def _tagged(message: dict[str, Any], name: str, text: str) -> tuple[dict[str, Any], Any]:
    """The message with the tag after its field `name`, and the text that the tag follows; changes the message."""
    if (value := message.get(name)) is None:
        raise ValueError(f'continue_final_message is set but the final message has no "{name}" to continue!')
    names = [name]
    if name in REASONING_FIELDS:
        names = [other for other in REASONING_FIELDS if message.get(other) == value]
    if not any(other in text for other in names):
        raise ValueError(
            f'continue_final_message is set to "{name}" but this is not an accepted field in the chat_template'
        )
    if isinstance(value, (list, tuple)):
        return message, _tag_last_part(value)
    for other in names:
        message[other] = message[other] + CONTINUE_TAG
    return message, value


def _tag_last_part(parts: Sequence[Any]) -> Any:
    """The text of the last part that has one, before the tag is put after it."""
    for part in reversed(parts):
        if "text" in part:
            value = part["text"]
            part["text"] = part["text"] + CONTINUE_TAG
            return value
    raise ValueError("continue_final_message is set but we could not find any text to continue in the final message!")


Expression = Callable[[Mapping[str, Any]], Any]


def expression(source: str) -> Expression:
    """A function from a row (column name to value) to the value of a Jinja expression, as `--where` takes it.

    A name or key that the row lacks is None. Source with `{{` or `{%` is a `text_expression`.
    Raises UsageError where the source does not compile; the function raises RowError, code `expr.error`.
    """
    if "{{" in source or "{%" in source:
        return text_expression(source)
    return _guarded(source, _compile_value(source))


def text_expression(source: str) -> Expression:
    """A function from a row to the text that a small template makes of it, as `--map` takes it.

    Nothing is trimmed; None and what the row lacks are written as nothing. Raises as `expression` does.
    """
    environment = sandbox()
    environment.keep_trailing_newline, environment.trim_blocks, environment.lstrip_blocks = True, False, False
    environment.finalize = _nothing_for_none
    try:
        template = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error(source, error, None) from error
    return _guarded(source, lambda row: template.render(dict(row)))


def _nothing_for_none(value: Any) -> Any:
    return "" if value is None else value


def _guarded(source: str, evaluate: Expression) -> Expression:
    def value_of(row: Mapping[str, Any]) -> Any:
        try:
            return evaluate(row)
        except Exception as error:  # an expression is user code: it may raise anything
            raise RowError(f"the expression `{source}` fails: {error}", code="expr.error", hint=_HINT) from error

    return value_of


_HINT = "a column that may be missing or of another type needs a test, such as `x is string and …`"


def _compile_value(source: str) -> Expression:
    template = _template_of(source)

    def evaluate(row: Mapping[str, Any]) -> Any:
        context = template.new_context(dict(row))
        for _ in template.root_render_func(context):
            pass
        value = context.vars["result"]
        return None if isinstance(value, jinja2.Undefined) else value

    return evaluate


def _template_of(source: str) -> jinja2.Template:
    """A template that sets `result` to the value of the expression, and prints nothing."""
    environment, parser = sandbox(), None
    try:
        parser = Parser(environment, source, state="variable")
        value = parser.parse_expression()
        if not parser.stream.eos:
            parser.fail("something follows the expression")
        result = nodes.Assign(nodes.Name("result", "store"), value, lineno=1)
        tree = nodes.Template([result], lineno=1).set_environment(environment)
        return environment.from_string(cast(nodes.Template, tree))
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error(source, error, _column(environment, source, parser)) from error


def _syntax_error(source: str, error: jinja2.TemplateSyntaxError, column: int | None) -> UsageError:
    where = "" if column is None else f" at character {column}"
    return UsageError(f"the expression `{source}` does not parse{where}: {error.message}", hint=_SYNTAX)


_SYNTAX = "write it as inside the braces of a Jinja template: `score > 3 and lang == 'en'`"


def _column(environment: Environment, source: str, parser: Parser | None) -> int | None:
    """The place in `source` (characters from 0) of the token at which the parser stopped, None where it cannot say."""
    try:
        raw = list(environment.lexer.tokeniter(source, None, state="variable"))
        unread = sum(1 for _ in parser.stream) if parser else 0
    except jinja2.TemplateSyntaxError:  # the lexer's own message says where
        return None
    places, at = [], 0
    for _, kind, text in raw:
        places += [] if kind == "whitespace" else [at]
        at += len(text)
    return places[-unread] if 0 < unread <= len(places) else at
