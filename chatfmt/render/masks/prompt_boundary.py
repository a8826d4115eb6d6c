"""Split rendered text into prompt and completion; prompt + completion == text.

The prompt is the text as the model will get it (the messages before the answer, with the generation prompt) if the
whole text begins with it. For one template in six it does not: then the completion begins where the answer's own text
begins. The boundary is never inside a control token, and nothing is trimmed.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ...errors import located
from ...rendering import ConversationBatch
from ..jinja.errors import render_error
from ..single import Chat, Turns
from .masker import Masker, mask_refused, to_chats


class SplitText(Struct, frozen=True):
    """A rendered text and the code point where its completion begins."""

    text: str
    boundary: int
    prefix: bool
    """Whether `prompt` is what the template prints for the messages before the answer, with generation prompt."""

    @property
    def prompt(self) -> str:
        return self.text[: self.boundary]

    @property
    def completion(self) -> str:
        return self.text[self.boundary :]


def split_text(masker: Masker, chat: Chat, first: int | None = None) -> SplitText:
    """Split a conversation's text before message `first` (default: the last assistant message).

    Raises RenderError: `template.…` if the template refuses the conversation; `mask.refused` if it has no assistant
    message, or if the start of the answer cannot be found.
    """
    renderer = masker.renderer
    first = last_assistant(chat.messages) if first is None else first
    try:
        text = renderer.text(chat, generation_prompt=False)
    except Exception as error:
        raise render_error(error, renderer.template.name) from error
    prompt = renderer.text_or_none(chat.with_messages(chat.messages[:first]), generation_prompt=True) if first else None
    boundaries = masker.boundaries(chat)
    if prompt is not None and text.startswith(prompt) and not boundaries.is_inside_token(text, len(prompt)):
        return SplitText(text, len(prompt), True)
    return SplitText(text, _answer_start(masker, chat, text, first), False)


def _answer_start(masker: Masker, chat: Chat, text: str, first: int) -> int:
    """Return where message `first` begins, found by markers."""
    turns = Masker(masker.renderer).turns(chat, text)
    starts = [turn.start for turn in turns or () if turn.message >= first]
    if not starts:
        raise mask_refused("the template prints the prompt differently when it is followed by the answer", first)
    return min(starts)


def last_assistant(messages: Turns) -> int:
    """Return the index of the last assistant message; raises RenderError if there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "assistant":
            return index
    raise mask_refused("there is no assistant message")


def split_texts(
    masker: Masker, chats: ConversationBatch, first: Sequence[int | None] | None = None
) -> list[SplitText | None]:
    """Split the text of each conversation of a column before message `first[row]`; None for null conversations."""
    found: list[SplitText | None] = []
    for row, chat in enumerate(to_chats(chats)):
        with located(row=row):
            found.append(None if chat is None else split_text(masker, chat, first[row] if first else None))
    return found
