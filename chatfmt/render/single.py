"""Render one conversation with one template, for modules that render variants of it.

Masks, the loss guard, the probe and the comparison of templates render a conversation many times, each time with other
texts in it. A `TemplateRenderer` keeps options, special tokens and named templates out of their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from msgspec import Struct, field
from msgspec.structs import replace

from ..errors import ChatfmtError
from ..schema import Turns as Turns
from .jinja.rendering import render_spans, render_text
from .jinja.row import strip_bos
from .options import RenderOptions
from .template.chat_template import GENERATION, ChatTemplate
from .types import Span

T = TypeVar("T")


class Chat(Struct, frozen=True):
    """A conversation with everything else that a template sees of its row."""

    messages: Turns
    tools: Any = None
    documents: Any = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def with_messages(self, messages: Turns) -> Chat:
        return replace(self, messages=messages)


class ConversationRenderer(Protocol):
    """Render the text of an untrusted template in another process (see `sandbox.sessions`)."""

    def __call__(
        self,
        text: str,
        chats: Sequence[Chat],
        variables: Sequence[Mapping[str, Any]],
        options: RenderOptions,
        prompt: bool,
        spans: bool,
    ) -> list[Any]: ...


class TemplateRenderer(Struct, frozen=True):
    """A chat template with the options of a run. Without `sessions` the template runs in this process."""

    template: ChatTemplate
    options: RenderOptions = field(default_factory=RenderOptions)
    sessions: ConversationRenderer | None = None

    def text(self, chat: Chat, *, generation_prompt: bool | None = None) -> str:
        """Return the rendered text; `generation_prompt` overrides the options.

        Raises what Jinja, the template or Python raise.
        """
        text, _ = self._strip_bos(self._render(render_text, chat, generation_prompt), [], chat)
        return text

    def tracked(self, chat: Chat) -> tuple[str, list[Span]]:
        """Return the rendered text and the spans of its `{% generation %}` blocks; raises as `text` does."""
        text, spans = self._render(render_spans, chat, None)
        return self._strip_bos(text, spans, chat)

    def _render(self, render: Callable[..., T], chat: Chat, generation_prompt: bool | None) -> T:
        prompt = self.options.generation_prompt if generation_prompt is None else generation_prompt
        text = self.template.choose(chat.tools)
        if self.sessions is not None:
            variables = [self._variables(chat)]
            (found,) = self.sessions(text, [chat], variables, self.options, prompt, render is render_spans)
            if isinstance(found, BaseException):
                raise found
            return cast(T, found)
        return render(
            text, chat.messages, chat.tools, chat.documents,
            add_generation_prompt=prompt, variables=self._variables(chat), now=self.options.date,
        )  # fmt: skip

    def outcomes(self, chats: Sequence[Chat], *, spans: bool = False) -> Iterator[Any]:
        """Yield for each conversation what `text` or, with `spans`, `tracked` returns, or the exception it raises.

        The template has one text. In a sandbox, all conversations are rendered with one request.
        """
        if self.sessions is None:
            yield from (_attempt(self.tracked if spans else self.text, chat) for chat in chats)
            return
        text, variables = self.template.choose(), [self._variables(chat) for chat in chats]
        prompt = self.options.generation_prompt
        try:
            found = self.sessions(text, chats, variables, self.options, prompt, spans)
        except Exception as error:
            found = [error] * len(chats)
        for chat, each in zip(chats, found, strict=True):
            if isinstance(each, BaseException):
                yield each
                continue
            stripped = self._strip_bos(each[0], each[1], chat) if spans else self._strip_bos(each, [], chat)
            yield stripped if spans else stripped[0]

    def _strip_bos(self, text: str, spans: list[Span], chat: Chat) -> tuple[str, list[Span]]:
        if self.options.bos != "strip":
            return text, spans
        text, moved = strip_bos(text, spans, self._variables(chat).get("bos_token"))
        return text, moved or []

    def text_or_none(self, chat: Chat, *, generation_prompt: bool | None = None) -> str | None:
        """Return the rendered text; None if the template fails on the conversation for any reason."""
        try:
            return self.text(chat, generation_prompt=generation_prompt)
        except (Exception, RecursionError):
            return None

    def chosen(self, chat: Chat) -> TemplateRenderer:
        """Return a renderer of the one text that the template chooses for this row, with the row's variables."""
        name, text = self.template.name, self.template.choose(chat.tools)
        variables = {**self.options.variables, **chat.variables}
        one = ChatTemplate(name, text, self.template.special_tokens)
        return TemplateRenderer(one, replace(self.options, variables=variables), self.sessions)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens by name, after overrides by the variables of the run."""
        values = {**self.template.special_tokens, **self.options.variables}
        return {name: value for name, value in values.items() if name.endswith("_token") and isinstance(value, str)}

    def has_generation_tag(self, tools: Any = None) -> bool:
        """Return whether the template marks assistant text, by the pattern that transformers looks for."""
        try:
            return bool(GENERATION.search(self.template.choose(tools)))
        except ChatfmtError:  # a model whose only template is for tools
            return False

    def _variables(self, chat: Chat) -> dict[str, Any]:
        return {**self.template.special_tokens, **self.options.variables, **chat.variables}


def _attempt(render: Callable[[Chat], T], chat: Chat) -> T | Exception:
    """Return what `render` returns, or the exception it raises; a template may raise anything."""
    try:
        return render(chat)
    except Exception as error:
        return error
