"""Render single conversations in sandbox processes, for masks, the loss guard and the probe.

One process is kept per template text and date; variables are sent with each request. The process of the engine is
shared if its output is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import TemplateError
from ...rendering import RenderRequest
from ..options import RenderOptions
from ..single import Chat
from ..template.chat_template import ChatTemplate
from ..types import Moment
from .limits import FOR_ROWS, SandboxLimits
from .renderer import Isolation, SandboxRenderer, template_exception

PROCESSES = 4
"""The number of processes that are kept; the oldest is ended when another is needed."""


class SandboxSessions:
    """Render for a `TemplateRenderer` in sandbox processes."""

    def __init__(
        self,
        template: ChatTemplate,
        isolation: Isolation,
        shared: SandboxRenderer | None = None,
        limits: SandboxLimits = FOR_ROWS,
    ) -> None:
        self._template, self._isolation, self._shared, self._limits = template, isolation, shared, limits
        self._open: dict[tuple[str, Moment], SandboxRenderer] = {}
        self._refused: dict[tuple[str, Moment], TemplateError] = {}

    def __call__(
        self,
        text: str,
        chats: Sequence[Chat],
        variables: Sequence[Mapping[str, Any]],
        options: RenderOptions,
        prompt: bool,
        spans: bool,
    ) -> list[Any]:
        """Return the text of each conversation, with `spans` a pair of it and its spans, or what the template raised.

        Raises TemplateError as `SandboxRenderer` does.
        """
        shared = [[chat.tools for chat in chats], [chat.documents for chat in chats], list(map(dict, variables))]
        rows = [
            [list(chat.messages), *(None if column[row] is None else row for column in shared)]
            for row, chat in enumerate(chats)
        ]
        renderer = self._renderer(text, options.date)
        answers = renderer.answers(rows, shared, RenderRequest(prompt, spans))
        return [_outcome(renderer.template.name, answer, spans) for answer in answers]

    def level(self, date: Moment) -> str:
        """Return the isolation in force, one of `seccomp.LEVELS`."""
        return self._renderer(self._template.main_text, date).level

    def _renderer(self, text: str, date: Moment) -> SandboxRenderer:
        if self._shared is not None and _is_equivalent(self._shared, text, date):
            return self._shared
        if (text, date) in self._refused:
            raise self._refused[text, date]
        if (text, date) not in self._open:
            if len(self._open) == PROCESSES:
                self._open.pop(next(iter(self._open))).close()
            self._open[text, date] = self._start(text, date)
        return self._open[text, date]

    def _start(self, text: str, date: Moment) -> SandboxRenderer:
        """Start a process; a text that does not compile is remembered and not tried again."""
        template = ChatTemplate(self._template.name, text, self._template.special_tokens, origin=self._template.origin)
        try:
            return SandboxRenderer(template, RenderOptions(date=date), limits=self._limits, isolation=self._isolation)
        except TemplateError as error:
            self._refused[text, date] = error
            raise

    def close(self) -> None:
        """End the processes of this object; the shared one belongs to the engine."""
        for renderer in self._open.values():
            with contextlib.suppress(OSError):
                renderer.close()
        self._open.clear()


def _outcome(name: str, answer: Any, spans: bool) -> Any:
    if isinstance(answer, dict):
        return template_exception(name, answer["error"])
    text, pairs = answer
    return (text, [tuple(span) for span in pairs]) if spans else text


def _is_equivalent(renderer: SandboxRenderer, text: str, date: Moment) -> bool:
    """Return whether the renderer's output is that of this text alone; variables are part of each request."""
    template, options = renderer.template, renderer.options
    same_text = template.text == text and not template.named
    return same_text and options.date == date and options.bos == "keep" and not options.continue_final
