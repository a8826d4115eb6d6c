"""One conversation and one chat template together: the plain Jinja text, for modules that ask a template questions.

Masks, the content-loss guard, the probe and the comparison render a conversation many times over, each time with other
texts in it. They do it through a `TemplateRenderer`, so that they need not know options, special tokens or named templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from ..errors import ChatfmtError
from .jinja.environment import render_spans, render_text
from .options import RenderOptions
from .types import Span

T = TypeVar("T")
Turns = Sequence[Mapping[str, Any]]
_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Source(Protocol):
    """What a `TemplateRenderer` needs of a `ChatTemplate`."""

    @property
    def name(self) -> str: ...

    @property
    def special_tokens(self) -> Mapping[str, str]: ...

    def choose(self, tools: Any = None) -> str: ...


class Chat(Struct, frozen=True):
    """A conversation and all else that a template sees of its row."""

    messages: Turns
    tools: Any = None
    documents: Any = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def saying(self, messages: Turns) -> Chat:
        """The same row with other messages."""
        return replace(self, messages=messages)


class OneText(Struct, frozen=True):
    """A `Source` with a single template text, whatever the tools."""

    name: str
    text: str
    special_tokens: Mapping[str, str]

    def choose(self, tools: Any = None) -> str:
        return self.text


class ConversationRenderer(Protocol):
    """Renders a text of a stranger's template somewhere else (see `sessions`), with its spans if they are wanted."""

    def __call__(
        self, text: str, chat: Chat, variables: Mapping[str, Any], options: RenderOptions, prompt: bool, spans: bool
    ) -> Any: ...


class TemplateRenderer(Struct, frozen=True):
    """A chat template with the options of a run; without `sessions` the template runs in this process."""

    template: Source
    options: RenderOptions = field(default_factory=RenderOptions)
    sessions: ConversationRenderer | None = None

    def text(self, chat: Chat, *, generation_prompt: bool | None = None) -> str:
        """The rendered text; raises what Jinja, the template or Python raise. The options say the rest."""
        return self.cut(self._render(render_text, chat, generation_prompt), chat)

    def tracked(self, chat: Chat) -> tuple[str, list[Span]]:
        """The rendered text and the spans of its `{% generation %}` blocks; raises as `text` does."""
        text, spans = self._render(render_spans, chat, None)
        short = self.cut(text, chat)
        gone = len(text) - len(short)
        return short, [(max(start - gone, 0), max(end - gone, 0)) for start, end in spans]

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
        """The text without its first `bos_token`, if the options want it stripped."""
        bos = self._variables(chat).get("bos_token") if self.options.bos == "strip" else None
        return text.removeprefix(bos) if bos else text

    def text_or_none(self, chat: Chat, *, generation_prompt: bool | None = None) -> str | None:
        """The rendered text, or None where the template refuses the conversation for whatever reason."""
        try:
            return self.text(chat, generation_prompt=generation_prompt)
        except (Exception, RecursionError):
            return None

    def chosen(self, chat: Chat) -> TemplateRenderer:
        """The voice of the one text that the template chooses for this row, with the row's variables."""
        one = OneText(self.template.name, self.template.choose(chat.tools), self.template.special_tokens)
        variables = {**self.options.variables, **chat.variables}
        return TemplateRenderer(one, replace(self.options, variables=variables), self.sessions)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens by name, as the variables of the run may override them."""
        given = {**self.template.special_tokens, **self.options.variables}
        return {name: value for name, value in given.items() if name.endswith("_token") and isinstance(value, str)}

    def has_generation_tag(self, tools: Any = None) -> bool:
        """Whether the template marks what the assistant says, as transformers looks for it."""
        try:
            return bool(_GENERATION_TAG.search(self.template.choose(tools)))
        except ChatfmtError:  # a model whose only template is for tools
            return False

    def _variables(self, chat: Chat) -> dict[str, Any]:
        return {**self.template.special_tokens, **self.options.variables, **chat.variables}
