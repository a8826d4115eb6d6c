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
import math
from bisect import bisect_left
from collections.abc import Collection, Iterator

from ..masks.markers import MarkedChat, TextSource, replace_text
from ..single import TemplateRenderer

CHANGED_TEXTS = 200
"""How many texts that are not in the output as they are a finder examines, up to six renders each, before the first
that is cut."""


class CutTextFinder:
    """Finds the cut texts of conversations under one template."""

    def __init__(self, renderer: TemplateRenderer) -> None:
        self._renderer, self._left = renderer, float(CHANGED_TEXTS)

    def find(self, marked: MarkedChat, text: str, known: Collection[TextSource]) -> Iterator[tuple[TextSource, bool]]:
        """Yield the sources of texts that are not printed, and whether they are in part; those that are known are not.

        `text` is the rendered text of the conversation without markers.
        """
        position = 0
        for number, core in enumerate(marked.texts):
            if marked.sources[number] in known:
                continue
            found = text.find(core, position)  # the texts of a long conversation are found in one pass
            if found >= 0:
                position = found + len(core)
            elif core not in text and not is_escaped_in(core, text) and self._left:
                self._left -= 1
                if (is_cut := self._is_cut(marked, number, text)) or self._is_dropped(marked, number, text):
                    self._left = math.inf
                    yield marked.sources[number], is_cut

    def _is_dropped(self, marked: MarkedChat, number: int, text: str) -> bool:
        others, message = [replace_text(marked, number, "")], marked.sources[number].message
        if message is not None:
            turns = others[0].messages
            others.append(others[0].with_messages([*turns[:message], *turns[message + 1 :]]))
        return any(self._renderer.text_or_none(chat) == text for chat in others)

    def _is_cut(self, marked: MarkedChat, number: int, text: str) -> bool:
        core = marked.texts[number]
        for place in _differences(core, text):
            other = "z" if core[place].casefold() != "z" else "x"
            for character in ("", other):
                changed = f"{core[:place]}{character}{core[place + 1 :]}"
                if self._renderer.text_or_none(replace_text(marked, number, changed)) == text:
                    return True
        return False


def is_escaped_in(core: str, text: str) -> bool:
    """Return whether a text stands in another one with the escapes of JSON."""
    return any(json.dumps(core, ensure_ascii=ascii)[1:-1] in text for ascii in (False, True))


def _differences(core: str, text: str) -> Iterator[int]:
    """Yield the index of the character after the longest start of `core` in `text`, and of that before its longest end.

    Of white space, that of the next other character.
    """
    size = len(core)
    start = bisect_left(range(1, size + 1), True, key=lambda length: core[:length] not in text)
    end = bisect_left(range(1, size + 1), True, key=lambda length: core[size - length :] not in text)
    start += len(core[start:]) - len(core[start:].lstrip())
    yield min(start, size - 1)
    yield max(len(core[: size - end].rstrip()) - 1, 0)
