"""Find texts of which a template prints only a part, as `content[:50]` does, or nothing for what they say.

A text that is in the output, as it is or with the escapes of JSON, is whole. Of another one, the template may have
changed the letters, or left some out. That shows where the text and the output begin to differ, and where they cease
to: if the output stays the same without the character there, or with another in its place, then the template does not
print it. White space is not looked for.

A template that asks whether a text is one word asks in vain if the text has markers. Of such a text it prints nothing
if the output stays the same with an empty text, or without the message.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product

from ..masks.markers import MarkedChat, TextSource, replace_texts
from ..single import TemplateRenderer

CHANGED_TEXTS, CHANGED_OF_ROLE = 200, 16
"""How many whole texts that are not in the output as they are a finder examines, up to six renders each, before the
first that is cut, and then of each role in a conversation."""
Places = Mapping[int, Sequence[int]]
"""Numbers of texts, and the places where they differ from the output."""


class CutTextFinder:
    """Finds the cut texts of conversations under one template."""

    def __init__(self, renderer: TemplateRenderer) -> None:
        self._renderer, self._left, self._cuts = renderer, CHANGED_TEXTS, False

    def find(self, marked: MarkedChat, text: str, known: Collection[TextSource]) -> Iterator[tuple[TextSource, bool]]:
        """Yield the sources of texts that are not printed, and whether they are in part; those that are known are not.

        `text` is the rendered text of the conversation without markers.
        """
        changed, found = _changed(marked, text, known), list[tuple[int, bool]]()
        while not self._cuts and self._left and (first := next(changed, None)):
            found += self._lost(marked, dict([first]), text)
        for alike in _by_role(marked, changed) if self._cuts else ():
            self._left = CHANGED_OF_ROLE
            found += self._lost(marked, alike, text)
        yield from ((marked.sources[number], is_cut) for number, is_cut in sorted(found))

    def _lost(self, marked: MarkedChat, places: Places, text: str) -> Iterator[tuple[int, bool]]:
        """Yield the numbers of texts that are not printed: all, if the output stays the same, or those of each half."""
        is_cut = self._are_cut(marked, places, text)
        if is_cut or self._are_dropped(marked, places, text):
            self._cuts = True
            yield from ((number, is_cut) for number in places)
        elif len(places) == 1:
            self._left -= 1
        else:
            numbers, half = [*places], len(places) // 2
            for some in (numbers[:half], numbers[half:]):
                yield from self._lost(marked, {number: places[number] for number in some}, text) if self._left else ()

    def _are_dropped(self, marked: MarkedChat, places: Places, text: str) -> bool:
        empty = replace_texts(marked, dict.fromkeys(places, ""))
        messages = {marked.sources[number].message for number in places}
        shorter = [message for index, message in enumerate(empty.messages) if index not in messages]
        others = [empty, *([empty.with_messages(shorter)] if len(shorter) < len(empty.messages) else [])]
        return any(self._renderer.text_or_none(chat) == text for chat in others)

    def _are_cut(self, marked: MarkedChat, places: Places, text: str) -> bool:
        for end, other in product((0, 1), (False, True)):
            changed = {number: _change(marked.texts[number], found[end], other) for number, found in places.items()}
            if self._renderer.text_or_none(replace_texts(marked, changed)) == text:
                return True
        return False


def _change(core: str, place: int, other: bool) -> str:
    """Return a text without the character at a place, or with another one there."""
    character = ("z" if core[place].casefold() != "z" else "x") if other else ""
    return f"{core[:place]}{character}{core[place + 1 :]}"


def _changed(marked: MarkedChat, text: str, known: Collection[TextSource]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the numbers of the texts that are not known, and not in the output as they are, with their places."""
    position = 0
    for number, core in enumerate(marked.texts):
        if marked.sources[number] in known:
            continue
        found = text.find(core, position)  # the texts of a long conversation are found in one pass
        if found >= 0:
            position = found + len(core)
        elif core not in text and not is_escaped_in(core, text):
            yield number, _differences(core, text)


def _by_role(marked: MarkedChat, changed: Iterable[tuple[int, Sequence[int]]]) -> Iterable[Places]:
    """Return texts that a template may well treat alike: of one field of messages of one role."""
    found = defaultdict[tuple[object, str], dict[int, Sequence[int]]](dict)
    for number, places in changed:
        source = marked.sources[number]
        role = None if source.message is None else marked.chat.messages[source.message].get("role")
        found[role, source.field][number] = places
    return found.values()


def is_escaped_in(core: str, text: str) -> bool:
    """Return whether a text stands in another one with the escapes of JSON."""
    return any(json.dumps(core, ensure_ascii=ascii)[1:-1] in text for ascii in (False, True))


def _differences(core: str, text: str) -> tuple[int, int]:
    """Return the index of the character after the longest start of `core` in `text`, and before its longest end.

    Of white space, that of the next other character.
    """
    size = len(core)
    start = bisect_left(range(1, size + 1), True, key=lambda length: core[:length] not in text)
    end = bisect_left(range(1, size + 1), True, key=lambda length: core[size - length :] not in text)
    start += len(core[start:]) - len(core[start:].lstrip())
    return min(start, size - 1), max(len(core[: size - end].rstrip()) - 1, 0)
