"""Text that looks like a conversation written down: what marks its turns, for the hint of who could not read it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .columns import Record, quoted

_FEW = 50
_MARK = re.compile(r"^(?:#{1,4} ?)?[A-Z][A-Za-z]{0,15}:", re.MULTILINE)
_USERS = frozenset({"human", "user", "question", "q", "prompter", "customer", "patient", "student", "instruction"})
_SYSTEMS = frozenset({"system", "context"})


def transcript_hint(texts: Sequence[str], records: Sequence[Record]) -> str | None:
    """What to type for the first column of text whose lines begin with the same few marks, `Human:` and `Assistant:`
    say; None where there is none. The first mark is the user's, unless a name says who it is."""
    for name in texts:
        marks = _marks([str(record[name]) for record in records[:_FEW] if isinstance(record.get(name), str)])
        if len(marks) >= 2:
            flags = " ".join(f"--marker '{mark}={role}'" for mark, role in _roles(marks).items())
            return f"`{name}` looks like a transcript: --map transcript={quoted(name)} {flags}"
    return None


def _marks(texts: Sequence[str]) -> list[str]:
    """The marks that begin lines in more than half of the texts, where most texts begin with one, as first seen."""
    found = [_MARK.findall(text) for text in texts]
    opened = sum(_MARK.match(text.lstrip()) is not None for text in texts)
    if 2 * opened <= len(texts):
        return []
    rows = Counter(mark for marks in found for mark in set(marks))
    return [mark for mark in dict.fromkeys(mark for marks in found for mark in marks) if 2 * rows[mark] > len(texts)]


def _roles(marks: Sequence[str]) -> dict[str, str]:
    words = {mark: mark.strip("#: ").lower() for mark in marks}
    named = any(word in _USERS for word in words.values())
    roles = {}
    for place, (mark, word) in enumerate(words.items()):
        is_user = word in _USERS or (not named and place == 0)
        roles[mark] = "system" if word in _SYSTEMS else "user" if is_user else "assistant"
    return roles
