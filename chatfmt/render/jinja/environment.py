"""The Jinja environment of chat templates: the sandbox, tags, filters and globals that transformers gives them.

Everything in this package equals transformers 5.23.0 with jinja2 3.1 (`utils/chat_template_utils.py` and
`tokenization_utils_base.py`) in text, spans, error classes and error messages; a parity suite compares the two. Two
things differ on purpose. The clock is fixed: `strftime_now` formats the date it is given. And errors leave this
package as Jinja or Python raised them; the callers wrap them in a `RenderError`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from ..types import UNDATED, Moment, Span


class _Tracked:
    """The blocks of output so far and the spans found in them, while `render_tracked` renders."""

    def __init__(self, blocks: list[str]) -> None:
        self.blocks, self.spans = blocks, list[Span]()
        self._counted = self._length = 0

    def length(self) -> int:
        """Return the length of the output; each block is counted once, whatever the number of spans."""
        self._length += sum(map(len, self.blocks[self._counted :]))
        self._counted = len(self.blocks)
        return self._length


_TRACKED: ContextVar[_Tracked | None] = ContextVar("chatfmt_spans", default=None)


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`: render the body as a call block does, and record its span.

    The start of a span is the length of all output yielded at top level so far. Inside a macro or a `{% set %}` block
    it is therefore relative to the text outside, as in transformers.
    """

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an attribute of the instance

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_generation_support"), [], [], body).set_lineno(lineno)

    def _generation_support(self, caller: Macro) -> str:
        body = caller()
        if tracked := _TRACKED.get():
            start = tracked.length()
            tracked.spans.append((start, start + len(body)))
        return body


class TemplateDict:
    """`dict` as templates see it: it can be called and has `fromkeys`; the type itself cannot be reached."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(Namespace):
    """`namespace` as templates see it: a name that begins with an underscore raises SecurityError."""

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


DOES_NOT_PARSE = (jinja2.TemplateSyntaxError, RecursionError, ValueError)
"""What parsing a template raises: ValueError for an integer of more digits than Python reads."""
_F = TypeVar("_F", bound=Callable[..., Any])


def _as_upstream(function: _F) -> _F:
    """Give the function the qualified name it has in transformers: Python prints it when a call is wrong."""
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
    """Return a `strftime_now` that always formats `now` (a date: its midnight)."""
    moment = now if isinstance(now, datetime.datetime) else datetime.datetime.combine(now, datetime.time())

    @_as_upstream
    def strftime_now(format: str) -> str:
        return moment.strftime(format)

    return strftime_now


def sandbox(kind: type[ImmutableSandboxedEnvironment] = ImmutableSandboxedEnvironment) -> ImmutableSandboxedEnvironment:
    """Return a new environment of class `kind`, as transformers makes one per template; its date is `UNDATED`."""
    environment = kind(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(
        raise_exception=raise_exception, strftime_now=clock(UNDATED), dict=TemplateDict(), namespace=TemplateNamespace
    )
    return environment


@lru_cache(maxsize=128)
def compile_template(text: str) -> jinja2.Template:
    """Compile `text` in an environment of its own; the last 128 templates are cached.

    Raises one of DOES_NOT_PARSE.
    """
    return sandbox().from_string(text)


@lru_cache(maxsize=64)
def literal_texts(text: str) -> tuple[str, ...]:
    """Return the text between a template's tags, and the strings inside them; none of text that does not compile."""
    try:
        tree = sandbox().parse(text)
    except DOES_NOT_PARSE:
        return ()
    found = tree.find_all((nodes.TemplateData, nodes.Const))
    values = (node.data if isinstance(node, nodes.TemplateData) else getattr(node, "value", None) for node in found)
    return tuple(value for value in values if isinstance(value, str))


def render_values(template: jinja2.Template, values: dict[str, Any]) -> str:
    """Render a template with `values`.

    Does what `template.render` does, without copying the values and rewriting tracebacks, which cost time per row.
    """
    return str(template.environment.concat(template.root_render_func(template.new_context(values))))


def render_tracked(template: jinja2.Template, values: Mapping[str, Any]) -> tuple[str, list[Span]]:
    """Render a template with `values`; return the text and the spans of its `{% generation %}` blocks.

    Spans are in the order in which the blocks ended.
    """
    blocks: list[str] = []
    with _tracking(blocks) as spans:
        for block in template.generate(values):
            blocks.append(block)
    return template.environment.concat(blocks), spans


@contextmanager
def _tracking(blocks: list[str]) -> Iterator[list[Span]]:
    tracked = _Tracked(blocks)
    token = _TRACKED.set(tracked)
    try:
        yield tracked.spans
    finally:
        _TRACKED.reset(token)
