"""Find the texts that a template drops from one conversation, by markers around each of them (see `markers`).

Reasoning is special: a template that prints the reasoning of the last answer but not that of earlier ones does so by
design. A template that prints no reasoning at all loses it.

Content parts without text (images) are checked by rendering the conversation without them; see `lost_parts`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from ...errors import SKIP, Location, RenderError, TemplateError
from ...schema import MEDIA
from ..masks.markers import (
    CALLS,
    CONTENT,
    REASONING,
    TOOLS,
    MarkedChat,
    MarkerPlan,
    TextSource,
    add_markers,
    keep_markers,
)
from ..masks.masker import render_marked
from ..single import Chat, TemplateRenderer, Turns
from .cut_texts import CutTextFinder
from .lost_parts import PartPlace, lost_parts
from .schema_keywords import schema_keywords, without_keyword

PLAN = MarkerPlan(tools=True, values=True)


SCHEMA_PLAN = MarkerPlan(others=False, calls=False, reasoning=False, schemas=True)


_REASONING_CHATS: tuple[Turns, ...] = (
    [{"role": "user", "content": "x"}, {"role": "assistant", "reasoning_content": "x", "content": "x"}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<think>\nx\n</think>\n\nx"}],
)


SUPPORTED = {**{name: name for name in MEDIA}, CALLS: "calls", TOOLS: "tools", REASONING: "reasoning"}
"""The fields that not every template prints, with their words in `templates list --supports`."""


_FIELD_WORDS = {CONTENT: "the text", REASONING: "the reasoning", CALLS: "a tool call"}


class Loss(Struct, frozen=True):
    """A text of a conversation that is missing from its rendered text."""

    message: int | None
    """The index of the message; None for the tools and the documents."""
    role: str
    field: str
    """`content`, `reasoning`, `tool_calls`, `tools`, `documents`; for a part, a column of MEDIA or its own type."""
    by_design: bool = False
    """Whether it is the reasoning of an earlier answer, and the template prints that of the last answer."""
    row: int | None = None
    """The index of the row in its batch, if it is known."""
    part: str = ""
    """The type of the part of content that is lost."""
    refused: bool = False
    """Whether the template cannot print a message that has such a part."""
    cut: bool = False
    """Whether only a part of the text is missing."""
    structured: bool = False
    """Whether the text is in parts or in an object, which many templates do not read."""

    @property
    def name(self) -> str:
        """The value for `--allow-loss`: the role of a lost message, or the field."""
        return self.role if self.field == CONTENT else self.field

    def is_allowed(self, allow: Collection[str]) -> bool:
        """Return whether `allow` names the loss: its field, the role of a lost message, or `all`."""
        return not {self.field, self.name, "all"}.isdisjoint(allow)

    def error(self, template: str) -> TemplateError:
        """Return the error that ends the run; its location is the row in the batch and the message."""
        row = self.row_error(template)
        return TemplateError(row.message, hint=row.hint or SKIP, at=row.at, code=row.code)

    def row_error(self, template: str) -> RenderError:
        """Return the error of a row that is left out for the loss."""
        if self.part:
            what = f"the {self.part} part of role `{self.role}`"
        elif self.message is None:
            what = f"the {self.field} of the row"
        else:
            what = f"{_FIELD_WORDS[self.field]} of role `{self.role}`"
        accepts = f"`--allow-loss {self.name}` accepts the loss"
        if self.field == CALLS:
            accepts = f"leaving turns without text empty, {accepts}"
        if self.structured:
            accepts = f"the content is not plain text: write it as text in the source; {accepts} of all of it"
        hints = [accepts] if not self.refused else []
        if supported := SUPPORTED.get(self.field):
            hints = [
                f"`chatfmt templates list --supports {supported}` shows the templates that support {supported}",
                *hints,
            ]
        hint = "; ".join(hints)
        at = Location(row=self.row, message=self.message)
        what = f"a part of {what}" if self.cut else what
        return RenderError(f"template `{template}` loses {what}", hint=hint, at=at, code="template.loss")


class LossFinder:
    """Finds losses; tests once what the template does with reasoning."""

    def __init__(self, renderer: TemplateRenderer) -> None:
        self._renderer, self._cut_texts = renderer, CutTextFinder(renderer)

    @cached_property
    def _prints_last_only(self) -> frozenset[bool]:
        """The kinds of reasoning that are printed of the last answer and not of earlier ones.

        In a field of its own is False, inside the content is True.
        """
        return frozenset(
            bool(inline)
            for inline, turns in enumerate(_REASONING_CHATS)
            if self._missing(Chat(turns)) == [] and self._missing(Chat([*turns, *turns])) != []
        )

    def find(self, chat: Chat) -> list[Loss]:
        """Return the texts of a conversation that the template drops, in order; none if it refuses the conversation."""
        marked = self._marked(chat)
        missing = self._unprinted(*marked) if marked else []
        losing = {source.message for source in missing if source.message is not None}
        parts = lost_parts(self._renderer, chat, losing, self._prints_text)
        losses = [_lost_part(chat.messages, place) for place in parts]
        losses += [self._loss(chat.messages, source) for source in missing]
        for source, is_cut in self._cut_texts.find(*marked, frozenset(missing)) if marked else ():
            losses.append(replace(self._loss(chat.messages, source), cut=is_cut, by_design=False))
        return list(dict.fromkeys(losses))

    def _prints_text(self, chat: Chat, messages: Collection[int]) -> bool:
        """Return whether the template accepts a conversation and prints all the text of some of its messages."""
        missing = self._missing(chat)
        return missing is not None and not any(source.message in messages for source in missing)

    def _missing(self, chat: Chat) -> list[TextSource] | None:
        """Return the texts that are not printed; None if the template refuses the conversation."""
        marked = self._marked(chat)
        return None if marked is None else self._unprinted(*marked)

    def _marked(self, chat: Chat) -> tuple[MarkedChat, str] | None:
        """Return the conversation with markers, and its text without; None if the template refuses it."""
        text = self._renderer.text_or_none(chat)
        marked = add_markers(chat, PLAN, partly=True)
        return None if text is None or marked is None else (marked, text)

    def _unprinted(self, marked: MarkedChat, text: str, numbers: Sequence[int] = ()) -> list[TextSource]:
        """Return the texts that are not printed, of all or of those with these `numbers`.

        Where markers change the rest of the output, those that it lacks are looked for again, each half by itself.
        """
        chat = keep_markers(marked, numbers) if numbers else marked.chat
        unmarked = render_marked(self._renderer, replace(marked, chat=chat))
        if unmarked is None and len(numbers) == 1:
            return []
        lost = {*marked.sources} if unmarked is None else {*unmarked.lost}
        missing = [number for number in numbers or range(len(marked.sources)) if marked.sources[number] in lost]
        if len(numbers) == 1 or (unmarked is not None and unmarked.text == text):
            return [marked.sources[number] for number in missing]
        half = len(missing) // 2
        halves = [some for some in (missing[:half], missing[half:]) if some]
        return [source for some in halves for source in self._unprinted(marked, text, some)]

    def lost_of_schemas(self, chat: Chat) -> list[str]:
        """Return which parts of the tools' schemas the template does not print, as in `enum of tools`."""
        text = self._renderer.text_or_none(chat)
        unmarked = render_marked(self._renderer, add_markers(chat, SCHEMA_PLAN))
        same = unmarked is not None and unmarked.text == text
        found = [source.field for source in unmarked.lost if source.message is None] if unmarked and same else []
        for keyword in schema_keywords(chat.tools) if text is not None else ():
            if self._renderer.text_or_none(replace(chat, tools=without_keyword(chat.tools, keyword))) == text:
                found.append(f"{keyword} of tools")
        return list(dict.fromkeys(found))

    def _loss(self, messages: Turns, source: TextSource) -> Loss:
        if source.message is None:
            return Loss(None, source.field, source.field)
        role = str(messages[source.message].get("role", ""))
        earlier = any(message.get("role") in ("user", "assistant") for message in messages[source.message + 1 :])
        by_design = source.field == REASONING and earlier and source.inline in self._prints_last_only
        content = messages[source.message].get("content") if source.field == CONTENT else None
        return Loss(source.message, role, source.field, by_design, structured=isinstance(content, (list, dict)))


_COLUMNS = {kind: name for name, kind in MEDIA.items()}


def _lost_part(messages: Turns, place: PartPlace) -> Loss:
    role = str(messages[place.message].get("role", ""))
    return Loss(place.message, role, _COLUMNS.get(place.type, place.type), part=place.type, refused=place.refused)
