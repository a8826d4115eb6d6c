"""Where a rendered conversation is cut into prompt and completion, so that the two joined are the whole text again.

The cut is the end of the prompt as the model will get it (the messages before the answer, with the generation prompt)
where the whole text begins with that. For one template in six it does not: then the cut is where the answer's own text
begins. It never falls inside a control token, and nothing is trimmed.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ...errors import Location, RenderError
from ...rendering import ConversationBatch
from ..jinja.errors import render_error
from ..single import Chat, Turns
from .masker import Masker, refused, to_chats


class Boundary(Struct, frozen=True):
    """A rendered text and the code point where its completion begins."""

    text: str
    cut: int
    prefix: bool
    """Whether `prompt` is what the template prints for the messages before the answer, generation prompt included."""

    @property
    def prompt(self) -> str:
        return self.text[: self.cut]

    @property
    def completion(self) -> str:
        return self.text[self.cut :]


def boundary(masker: Masker, chat: Chat, first: int | None = None) -> Boundary:
    """The cut of a conversation before message `first` (default: the last message of the assistant).

    Raises RenderError: `template.…` where the template refuses the conversation, `mask.refused` where it has no
    assistant's message, or where it cannot be told where its text begins.
    """
    first = last_spoken(chat.messages) if first is None else first
    try:
        text = masker.voice.text(chat, generation_prompt=False)
    except Exception as error:
        voice = masker.voice
        raise render_error(error, voice.template.name, fitted=voice.options.fitted) from error
    prompt = (
        masker.voice.text_or_none(chat.with_messages(chat.messages[:first]), generation_prompt=True) if first else None
    )
    cuts = masker.cuts(chat)
    if prompt is not None and text.startswith(prompt) and not cuts.inside_token(text, len(prompt)):
        return Boundary(text, len(prompt), True)
    return Boundary(text, _text_start(masker, chat, text, first), False)


def _text_start(masker: Masker, chat: Chat, text: str, first: int) -> int:
    """Where the part of message `first` begins, by the marks of its texts."""
    found = Masker(masker.voice).turns(chat, text)
    starts = [turn.start for turn in found or () if turn.message >= first]
    if not starts:
        raise refused("the template prints the prompt otherwise once the answer is there", first)
    return min(starts)


def last_spoken(messages: Turns) -> int:
    """The index of the last message of the assistant; raises RenderError where there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "assistant":
            return index
    raise refused("no message of the assistant")


def boundaries(
    masker: Masker, chats: ConversationBatch, first: Sequence[int | None] | None = None
) -> list[Boundary | None]:
    """The cut of each conversation of a column, before message `first[row]`; None where it is null."""
    found: list[Boundary | None] = []
    for row, chat in enumerate(to_chats(chats)):
        try:
            found.append(None if chat is None else boundary(masker, chat, first[row] if first else None))
        except RenderError as error:
            error.at = Location(row=row, message=error.at.message)
            raise
    return found
