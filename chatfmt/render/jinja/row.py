"""Render one row, in this process (`JinjaRenderer`) or in a sandbox process (`sandbox.worker`).

Does not import Arrow: with it, a sandbox process would take ten times as long to start and use half of its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from msgspec import Struct

from ..types import CONTEXT_NAMES, Span
from .determinism import find_address
from .environment import compile_template, render_tracked, render_values
from .errors import NotReproducible
from .inputs import check_documents, check_tools, plain_data
from .rendering import render_continued

RenderedRow = tuple[str, list[Span] | None]
"""The text of a row, and its generation spans if they are requested."""


class RowRenderer(Struct, frozen=True):
    """A template with everything that all rows of a run share; call it once per row."""

    text: str
    named: Mapping[str, str]
    """The texts of a model with several templates, empty for a model with one."""
    base: Mapping[str, Any]
    """Template variables, special tokens and the clock; see `inputs.context`."""
    continue_final: bool | str = False
    strip_bos: bool = False
    compile: Callable[[str], jinja2.Template] = compile_template

    def __call__(
        self,
        chat: list[dict[str, Any]],
        tools: Any,
        documents: Any,
        variables: Any,
        *,
        generation_prompt: bool | None,
        spans: bool,
    ) -> RenderedRow:
        """Return the text of one conversation, and the spans of its `{% generation %}` blocks if `spans` is set.

        `chat` holds normalised messages, `variables` the template variables of the row.
        Raises what Jinja, the template or Python raise, UnicodeEncodeError for a text that UTF-8 cannot encode, and
        NotReproducible for one that prints a memory address.
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
        _check_text(text, (chat, values))
        return strip_bos(text, found, values.get("bos_token")) if self.strip_bos else (text, found)


def _check_text(text: str, inputs: Any) -> None:
    if not text.isascii():
        text.encode()  # a lone surrogate, which no file can hold
    if printed := find_address(text, inputs):
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


def strip_bos(text: str, spans: list[Span] | None, bos: str | None) -> RenderedRow:
    """Return the text without `bos` at its start, and the spans moved to match."""
    if not bos or not text.startswith(bos):
        return text, spans
    cut = len(bos)
    return text[cut:], None if spans is None else [(max(start - cut, 0), max(end - cut, 0)) for start, end in spans]
