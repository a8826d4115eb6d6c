"""Put spans in order, and the texts of a conversation into turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from msgspec.structs import replace

from ..types import Span
from .markers import CALLS, ECHO, TextSource, TextSpan, UnmarkedText
from .turn_boundaries import TurnBoundaries


def together(spans: Sequence[Span]) -> list[Span]:
    """Return the spans without empty ones, those that touch joined."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def turns_of(spans: Sequence[TextSpan], text: str, boundaries: TurnBoundaries) -> Iterator[list[TextSpan]]:
    """Yield the texts of each message; those of one that is printed as two turns by turn."""
    for _, group in groupby(spans, key=lambda span: span.source.message):
        own = list(group)
        cuts = [
            number
            for number, (one, other) in enumerate(pairwise(own), start=1)
            if boundaries.is_split(text[one.end : other.start], one.source, other.source)
        ]
        yield from (own[start:end] for start, end in pairwise([0, *cuts, len(own)]))


def with_repetitions(unmarked: UnmarkedText, boundaries: TurnBoundaries) -> Iterator[TextSpan]:
    """Yield the spans, with parts of a call that are printed again in the same turn as texts of its message."""
    spans, last = unmarked.spans, TextSpan(0, 0, ECHO)
    for number, span in enumerate(spans):
        if span.source is ECHO and last.source.field == CALLS and last.source.message is not None:
            following = next((other for other in spans[number:] if other.source is not ECHO), None)
            limit = spans[number + 1].start if number + 1 < len(spans) else len(unmarked.text)
            ended = boundaries.stops_in(unmarked.text[last.end : span.start])
            goes_on = following is not None and following.source.message == last.source.message
            if goes_on or (not ended and boundaries.stops_in(unmarked.text[span.end : limit])):
                span = replace(span, source=TextSource(last.source.message, CALLS))
        last = span
        yield span
