"""How two templates differ on real conversations: how many rows, where first, and what it looks like there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from ..masks.turn_boundaries import shared
from ..options import RenderOptions
from ..single import Chat, Source, TemplateRenderer
from .probe import AGAIN, ANSWER, ARGUMENTS, INLINE, LAST, RESULT, SYSTEM, THOUGHT, TOOL, USER, calling

EXAMPLES = 3
_AROUND = 40


class Example(Struct, frozen=True):
    """One conversation that two templates render differently."""

    row: int
    character: int | None
    """The first code point at which the texts differ; None where one of the templates refuses the row."""
    first: str
    second: str
    """What each prints around that place, or the error that it raised."""


class Difference(Struct, frozen=True):
    """What a comparison found; `as_json` gives it by name."""

    rows: int
    differing: int
    first_row: int | None = None
    first_character: int | None = None
    """The first code point of the first row that differs."""
    examples: tuple[Example, ...] = field(default=())

    @property
    def same(self) -> bool:
        return not self.differing

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "differing": self.differing,
            "first_row": self.first_row,
            "first_character": self.first_character,
            "examples": [asdict(example) for example in self.examples],
        }


def compare(
    first: Source,
    second: Source,
    conversations: Iterable[Chat],
    options: RenderOptions | None = None,
    *,
    examples: int = EXAMPLES,
) -> Difference:
    """How the texts of two templates differ; rows count from 0. Two templates that both refuse a row agree on it."""
    voices = [TemplateRenderer(template, options or RenderOptions()) for template in (first, second)]
    rows = differing = 0
    shown: list[Example] = []
    for row, chat in enumerate(conversations):
        rows += 1
        (one, one_failed), (two, two_failed) = (_outcome(voice, chat) for voice in voices)
        if (one_failed and two_failed) or (one == two and not (one_failed or two_failed)):
            continue
        differing += 1
        if len(shown) < max(examples, 1):
            shown.append(_example(row, one, two, failed=one_failed or two_failed))
    start = shown[0] if shown else Example(0, None, "", "")
    return Difference(rows, differing, start.row if shown else None, start.character, tuple(shown[:examples]))


def _outcome(voice: TemplateRenderer, chat: Chat) -> tuple[str, bool]:
    """The text, or the error in words, and whether it is one."""
    try:
        return voice.text(chat), False
    except Exception as error:  # a template is a stranger's program: it may raise anything
        return f"{type(error).__name__}: {error}", True


def _example(row: int, one: str, two: str, *, failed: bool) -> Example:
    if failed:
        return Example(row, None, one[: 4 * _AROUND], two[: 4 * _AROUND])
    place = len(shared(one, two))
    window = slice(max(0, place - _AROUND), place + _AROUND)
    return Example(row, place, one[window], two[window])


def usual_conversations() -> list[Chat]:
    """Conversations of every ordinary kind, for a comparison without data of one's own."""
    called = (USER, calling(ARGUMENTS), RESULT, LAST)
    plain = [(USER, ANSWER), (SYSTEM, USER, ANSWER), (USER, ANSWER, AGAIN, LAST), (SYSTEM, USER, ANSWER, AGAIN, LAST)]
    thought = [(USER, THOUGHT), (USER, INLINE), (USER, THOUGHT, AGAIN, LAST)]
    return [*(Chat(turns) for turns in (*plain, *thought)), Chat((USER, ANSWER), [TOOL]), Chat(called, [TOOL])]
