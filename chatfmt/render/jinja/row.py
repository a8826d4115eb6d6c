"""Render one row: the page that every engine answers to.

The in-process renderer and the sandbox process both render through `RowRenderer`, and the traced engine must equal it.
It imports neither Arrow nor numpy, so that a sandbox process starts quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from msgspec import Struct

from ..types import CONTEXT_NAMES, Span
from .determinism import address
from .environment import (
    check_documents,
    check_tools,
    compile_template,
    plain_data,
    render_continued,
    render_tracked,
    render_values,
)
from .errors import NotReproducible


class RowRenderer(Struct, frozen=True):
    """A template and everything that all rows of a run share."""

    text: str
    named: Mapping[str, str]
    """The texts of a model with several templates, empty for a model with one."""
    base: Mapping[str, Any]
    """Template variables, special tokens and the clock; see `environment.context`."""
    continue_final: bool | str = False
    strip_bos: bool = False
    compile: Callable[[str], jinja2.Template] = compile_template
    check: Callable[[str], object] = str
    """Called with each rendered text; the sandbox checks its length."""

    def __call__(
        self,
        chat: list[dict[str, Any]],
        tools: Any,
        documents: Any,
        variables: Any,
        *,
        generation_prompt: bool | None,
        spans: bool,
    ) -> tuple[str, list[Span] | None]:
        """Return the text of one conversation, and the spans of its `{% generation %}` blocks if `spans` is set.

        `chat` holds normalised messages, `variables` the template variables of the row.
        Raises whatever Jinja, the template or Python raises.
        """
        source = select_text(self.text, self.named, tools)
        template = self.compile(source)
        inputs = {"tools": check_tools(tools), "documents": check_documents(documents)}
        values = {**self.base, **row_variables(variables), **inputs}
        found: list[Span] | None = None
        if self.continue_final:
            text = render_continued(template, source, chat, self.continue_final, values)
        else:
            values |= {"messages": chat, "add_generation_prompt": generation_prompt}
            if spans:
                text, found = render_tracked(template, values)
            else:
                text = render_values(template, values)
        self._check(text, chat, values)
        return strip_bos(text, found, values.get("bos_token")) if self.strip_bos else (text, found)

    def _check(self, text: str, chat: list[dict[str, Any]], values: dict[str, Any]) -> None:
        if not text.isascii():
            text.encode()  # raises UnicodeEncodeError for a lone surrogate, which no file can hold
        self.check(text)
        if printed := address(text, (chat, values)):
            raise NotReproducible(f"the template prints {printed}, a memory address that differs from run to run")


def select_text(text: str, named: Mapping[str, str], tools: Any) -> str:
    """Return the template text for a conversation: `tool_use` if tools are given, even an empty list, else `default`.

    Raises ValueError, with the message of transformers, if the model has named templates but neither of these.
    """
    if not named:
        return text
    if tools is not None and "tool_use" in named:
        return named["tool_use"]
    if "default" in named:
        return named["default"]
    raise ValueError(
        "This model has multiple chat templates with no default specified! Please either pass a chat template or "
        "the name of the template you wish to use to the `chat_template` argument. Available template names are "
        f"{sorted(named)}."
    )


def row_variables(variables: Any) -> dict[str, Any]:
    """Return the template variables of one row as plain data.

    Raises TypeError if they are not an object or set a name that every render sets.
    """
    if variables is None:
        return {}
    if not isinstance(variables, dict):
        raise TypeError("`template_kwargs` is not an object")
    for name in CONTEXT_NAMES:
        if name in variables:
            raise TypeError(f"`template_kwargs` may not set `{name}`")
    return dict(plain_data(variables))


def strip_bos(text: str, spans: list[Span] | None, bos: str | None) -> tuple[str, list[Span] | None]:
    """Return the text without `bos` at its start, and the spans moved to match."""
    if not bos or not text.startswith(bos):
        return text, spans
    cut = len(bos)
    return text[cut:], None if spans is None else [(max(start - cut, 0), max(end - cut, 0)) for start, end in spans]
