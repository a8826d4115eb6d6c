"""Single conversations behind the locked door: for guard, masks, cuts and probe, which ask a stranger's template a lot.

A process is kept for each text and day that is asked for; the variables travel with each question. The process in which
the engine renders serves too, if it was given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ...errors import RenderError, TemplateError
from ...json_columns import encode_conversations, json_array
from ...rendering import ConversationBatch, RenderRequest
from ..options import RenderOptions
from ..single import Chat
from ..template.chat_template import ChatTemplate
from ..types import Moment
from .renderer import Isolation, SandboxRenderer

PROCESSES = 4
"""Processes kept at a time; the oldest ends when one more is needed."""


class SandboxSessions:
    """Answers a `TemplateRenderer` from locked processes; raises what the template raised there."""

    def __init__(self, template: ChatTemplate, isolation: Isolation, shared: SandboxRenderer | None = None) -> None:
        self._template, self._isolation, self._shared = template, isolation, shared
        self._open: dict[tuple[str, Moment], SandboxRenderer] = {}
        self._refused: dict[tuple[str, Moment], TemplateError] = {}

    def __call__(
        self, text: str, chat: Chat, variables: Mapping[str, Any], options: RenderOptions, prompt: bool, spans: bool
    ) -> Any:
        """The rendered text, with `spans` together with its generation spans."""
        tools, documents = (None if value is None else json_array([value]) for value in (chat.tools, chat.documents))
        try:
            one = ConversationBatch(
                encode_conversations([chat.messages]), tools, documents, json_array([dict(variables)])
            )
            rendered = self._renderer(text, options.date)(one, RenderRequest(prompt, spans))
        except RenderError as error:
            raise error.__cause__ or error from None
        said = rendered.text[0].as_py()
        return said if rendered.spans is None else (said, [tuple(span) for span in rendered.spans[0].as_py()])

    def _renderer(self, text: str, date: Moment) -> SandboxRenderer:
        if self._shared is not None and _speaks(self._shared, text, date):
            return self._shared
        if (text, date) in self._refused:
            raise self._refused[text, date]
        if (text, date) not in self._open:
            if len(self._open) == PROCESSES:
                self._open.pop(next(iter(self._open))).close()
            self._open[text, date] = self._started(text, date)
        return self._open[text, date]

    def _started(self, text: str, date: Moment) -> SandboxRenderer:
        """A new process; a text that does not compile is not tried again."""
        one = ChatTemplate(self._template.name, text, self._template.special_tokens, origin=self._template.origin)
        try:
            return SandboxRenderer(one, RenderOptions(date=date), isolation=self._isolation)
        except TemplateError as error:
            self._refused[text, date] = error
            raise

    def close(self) -> None:
        """End the processes that were started here."""
        for renderer in self._open.values():
            with contextlib.suppress(OSError):
                renderer.close()
        self._open.clear()


def _speaks(renderer: SandboxRenderer, text: str, date: Moment) -> bool:
    """Whether a renderer gives what this text and nothing else gives; variables are part of each question."""
    template, options = renderer.template, renderer.options
    alone = template.text == text and not template.named
    return alone and options.date == date and options.bos == "keep" and not options.continue_final
