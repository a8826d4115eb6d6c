"""Masked texts, and the spans of answers from the generation blocks of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Self

from msgspec import Struct

from ..types import Span

Method = Literal["generation", "markers", "prefix"]


class MaskedText(Struct, frozen=True):
    """A rendered text and its trained spans in code points."""

    text: str
    spans: tuple[Span, ...]
    messages: tuple[int, ...]
    """The index of the message of each span; -1 if unknown."""
    method: Method

    @classmethod
    def of(cls, text: str, pairs: Sequence[tuple[Span, int]], method: Method) -> Self:
        """Return a text with spans, each given with its message."""
        return cls(text, tuple(span for span, _ in pairs), tuple(message for _, message in pairs), method)


class AssistantTurn(Struct, frozen=True):
    """The position of an assistant turn in the rendered text: its own text, and the end of the stop token after it."""

    message: int
    start: int
    text_end: int
    stop_end: int


def from_blocks(text: str, blocks: Sequence[Span], answers: Sequence[int], wanted: Sequence[int]) -> MaskedText:
    """Return the generation blocks of the wanted turns as spans."""
    if len(blocks) != len(answers):
        kept = tuple(blocks) if list(wanted) == list(answers) else ()
        return MaskedText(text, kept, (-1,) * len(kept), "generation")
    pairs = [(block, message) for block, message in zip(blocks, answers, strict=True) if message in wanted]
    return MaskedText.of(text, pairs, "generation")


def of_turns(
    text: str, blocks: Sequence[Span], turns: Sequence[AssistantTurn], answers: Sequence[int], wanted: Sequence[int]
) -> MaskedText:
    """Return the generation blocks of the wanted answers as spans; a block of several turns is cut where each begins.

    Blocks outside of all turns belong to the answers without a turn, if there are as many.
    """
    found: list[tuple[Span, int]] = []
    rest, others = [answer for answer in answers if answer not in {turn.message for turn in turns}], []
    for low, high in blocks:
        inside = [turn for turn in turns if max(turn.start, low) < min(turn.stop_end, high)]
        cuts = [low, *(turn.start for turn in inside[1:]), high]
        found += [(span, turn.message) for span, turn in zip(pairwise(cuts), inside, strict=False)]
        others += [] if inside else [(low, high)]
    found += zip(others, rest, strict=True) if len(others) == len(rest) else []
    return MaskedText.of(text, sorted(pair for pair in found if pair[1] in wanted), "generation")


def intersect(masked: MaskedText, blocks: Sequence[Span]) -> MaskedText:
    """Return the parts of the spans inside generation blocks."""
    inside = [
        ((max(start, low), min(end, high)), message)
        for (start, end), message in zip(masked.spans, masked.messages, strict=True)
        for low, high in blocks
        if max(start, low) < min(end, high)
    ]
    return MaskedText.of(masked.text, inside, "prefix" if masked.method == "prefix" else "generation")
