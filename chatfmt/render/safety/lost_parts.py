"""Find content parts without text, such as images, that a template prints nothing for.

A part has no text that a marker could follow. It is printed if the rendered text changes when the part is taken away.
A template that refuses content parts or loses their text, but prints the same conversation without the part as plain
text, has no place for it; nor has one that prints an image as data (`{'type': 'image'}`), with every key it may have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ...schema import MEDIA
from ..single import Chat, TemplateRenderer


class PartPlace(Struct, frozen=True):
    """The index of a message, that of a part in its content, and the type of the part."""

    message: int
    index: int
    type: str
    refused: bool = False
    """Whether the template accepts no such message at all, or does not print its text either."""


def textless_parts(chat: Chat) -> Iterator[PartPlace]:
    """Yield the parts of a conversation that have a type and no text."""
    for number, message in enumerate(chat.messages):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, (list, tuple)) else ()):
            if (
                isinstance(part, Mapping)
                and isinstance(part.get("type"), str)
                and not isinstance(part.get("text"), str)
            ):
                yield PartPlace(number, index, part["type"])


def lost_parts(
    renderer: TemplateRenderer,
    chat: Chat,
    losing: Collection[int],
    prints_text: Callable[[Chat, Collection[int]], bool],
) -> list[PartPlace]:
    """Return the parts without text that are not printed.

    `losing` are the messages whose text is lost, and `prints_text` tells whether the text of messages is printed.
    """
    places = list(textless_parts(chat))
    if not places:
        return []
    text = renderer.text_or_none(chat)
    media = [place for place in places if place.type in MEDIA.values()]
    if media and text is not None and renderer.text_or_none(_with_key(chat, media)) != text:
        return [replace(place, refused=True) for place in media]
    messages = {place.message for place in places}
    if text is None or messages & {*losing}:
        is_plain = prints_text(_as_text(chat, messages), messages)
        return [replace(place, refused=True) for place in places] if is_plain else []
    return [place for place in places if renderer.text_or_none(_without(chat, place)) == text]


def _with_key(chat: Chat, places: Sequence[PartPlace]) -> Chat:
    """Return the conversation with an extra key in some of its parts, which no template knows."""
    messages = [dict(message) for message in chat.messages]
    for place in places:
        content = list(messages[place.message]["content"])
        content[place.index] = {**content[place.index], "chatfmt": "chatfmt"}
        messages[place.message]["content"] = content
    return chat.with_messages(messages)


def _without(chat: Chat, place: PartPlace) -> Chat:
    messages = list(chat.messages)
    content = list(messages[place.message]["content"])
    del content[place.index]
    messages[place.message] = {**messages[place.message], "content": content}
    return chat.with_messages(messages)


def _as_text(chat: Chat, messages: Collection[int]) -> Chat:
    """Return the conversation with the text parts of some messages joined to text, and without their other parts."""

    def flat(content: Any) -> str:
        return "".join(
            part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )

    turns = enumerate(chat.messages)
    return chat.with_messages(
        [{**turn, "content": flat(turn["content"])} if index in messages else turn for index, turn in turns]
    )
