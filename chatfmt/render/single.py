"""Render single conversations with one chat template, for modules that study what a template does.

Masks, the loss guard, the probe and the diff render a conversation many times with different texts in it. They use a
`TemplateRenderer` and need not know about options, special tokens or named templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from ..errors import ChatfmtError
from .jinja.environment import render_spans, render_text
from .jinja.row import strip_bos
from .options import RenderOptions
from .types import Span

T = TypeVar("T")
Turns = Sequence[Mapping[str, Any]]
_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Source(Protocol):
    """The part of `ChatTemplate` that a `TemplateRenderer` uses."""

    @property
    def name(self) -> str: ...

    @property
    def special_tokens(self) -> Mapping[str, str]: ...

    def choose(self, tools: Any = None) -> str: ...


class Chat(Struct, frozen=True):
    """A conversation and everything else that a template sees of its row."""

    messages: Turns
    tools: Any = None
    documents: Any = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def with_messages(self, messages: Turns) -> Chat:
        """Return the same row with other messages."""
        return replace(self, messages=messages)


class OneText(Struct, frozen=True):
    """A `Source` with a single template text, whatever the tools."""

    name: str
    text: str
    special_tokens: Mapping[str, str]

    def choose(self, tools: Any = None) -> str:
        return self.text


class ConversationRenderer(Protocol):
    """Render with an untrusted template in a sandbox process (see `sandbox.sessions`), with spans if requested."""

    def __call__(
        self, text: str, chat: Chat, variables: Mapping[str, Any], options: RenderOptions, prompt: bool, spans: bool
    ) -> Any: ...


class TemplateRenderer(Struct, frozen=True):
    """A chat template with the options of a run; without `sessions`, the template runs in this process."""

    template: Source
    options: RenderOptions = field(default_factory=RenderOptions)
    sessions: ConversationRenderer | None = None

    def text(self, chat: Chat, *, generation_prompt: bool | None = None) -> str:
        """Return the rendered text; raises whatever Jinja, the template or Python raises."""
        return self.cut(self._render(render_text, chat, generation_prompt), chat)

    def tracked(self, chat: Chat) -> tuple[str, list[Span]]:
        """Return the rendered text and the spans of its `{% generation %}` blocks; raises as `text` does."""
        text, spans = self._render(render_spans, chat, None)
        text, moved = strip_bos(text, spans, self._bos(chat))
        return text, moved or []

    def _render(self, render: Callable[..., T], chat: Chat, generation_prompt: bool | None) -> T:
        prompt = self.options.generation_prompt if generation_prompt is None else generation_prompt
        text = self.template.choose(chat.tools)
        if self.sessions is not None:
            found: T = self.sessions(text, chat, self._variables(chat), self.options, prompt, render is render_spans)
            return found
        return render(
            text, chat.messages, chat.tools, chat.documents,
            add_generation_prompt=prompt, variables=self._variables(chat), now=self.options.date,
        )  # fmt: skip

    def cut(self, text: str, chat: Chat) -> str:
        """Return the text without `bos_token` at its start, if the options strip it."""
        return strip_bos(text, None, self._bos(chat))[0]

    def _bos(self, chat: Chat) -> str | None:
        return self._variables(chat).get("bos_token") if self.options.bos == "strip" else None

    def text_or_none(self, chat: Chat, *, generation_prompt: bool | None = None) -> str | None:
        """Return the rendered text, or None if the template rejects the conversation for any reason."""
        try:
            return self.text(chat, generation_prompt=generation_prompt)
        except (Exception, RecursionError):
            return None

    def chosen(self, chat: Chat) -> TemplateRenderer:
        """Return a renderer for the one text that the template selects for this row, with the row's variables."""
        one = OneText(self.template.name, self.template.choose(chat.tools), self.template.special_tokens)
        variables = {**self.options.variables, **chat.variables}
        return TemplateRenderer(one, replace(self.options, variables=variables), self.sessions)

    @property
    def special_tokens(self) -> dict[str, str]:
        """Return the special tokens by name, with overrides from the variables of the run."""
        given = {**self.template.special_tokens, **self.options.variables}
        return {name: value for name, value in given.items() if name.endswith("_token") and isinstance(value, str)}

    def has_generation_tag(self, tools: Any = None) -> bool:
        """Return whether the template has `{% generation %}` tags, found as transformers finds them."""
        try:
            return bool(_GENERATION_TAG.search(self.template.choose(tools)))
        except ChatfmtError:  # a model whose only template is for tools
            return False

    def _variables(self, chat: Chat) -> dict[str, Any]:
        return {**self.template.special_tokens, **self.options.variables, **chat.variables}
