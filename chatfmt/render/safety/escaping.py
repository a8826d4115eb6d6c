"""Control tokens broken up so that no tokenizer takes them for tokens, and put together again.

`<|im_end|>` becomes `< |im_end|>`: a blank after the first character. Of the ways to break a token this is the one that
survives NFKC, Bert's clean-up and every other normaliser that was tried. A text that looks broken up already,
`< |im_end|>`, gets one blank more, so that each text has its own escaped form and the way back needs the text alone.

Where a token has blanks itself, as many are added as no token has in a row: what comes out holds no token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

from msgspec import Struct


class Escaper(Struct, frozen=True, dict=True):
    """Escapes the tokens of one set, whatever they hold; tokens of fewer than two characters are left alone."""

    tokens: tuple[str, ...]

    @cached_property
    def blanks(self) -> str:
        """What is put after the first character of a token."""
        runs = [len(run) for token in self.tokens for run in re.findall(" +", token)]
        return " " * (1 + max(runs, default=0))

    @cached_property
    def _heads(self) -> dict[str, list[str]]:
        """The first character of the tokens, blanks before it left out, and all that may follow it and its blanks."""
        heads: dict[str, list[str]] = {}
        for token in sorted({token.strip(" ") for token in self.tokens}, key=lambda token: (-len(token), token)):
            if len(token) > 1:
                heads.setdefault(token[0], []).append(token[1:].lstrip(" "))
        return heads

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """For each first character a pattern of its tokens, also of those that look escaped."""
        return tuple(f"{re.escape(head)} *(?:{either(rests)})" for head, rests in self._heads.items())

    @cached_property
    def _starts(self) -> re.Pattern[str]:
        """The first character of what one of `patterns` matches; the rest is looked at and not taken."""
        choices = [f"{re.escape(head)}(?= *({either(rests)}))" for head, rests in self._heads.items()]
        return re.compile("|".join(choices) or r"(?!)")

    def escape(self, text: str) -> tuple[str, list[tuple[int, str]]]:
        """The text with its tokens broken up, and each addition: where in the new text, and in which token."""
        pieces, places, at, added = [], [], 0, 0
        for match in self._starts.finditer(text):
            pieces += [text[at : match.end()], self.blanks]
            places.append((match.end() + added, match[0] + str(match[match.lastindex or 0])))
            at, added = match.end(), added + len(self.blanks)
        return "".join([*pieces, text[at:]]), places

    def unescape(self, text: str) -> str:
        """The text that `escape` made this one of; what it never made comes back with fewer blanks, or as it is.

        Additions are taken out from the last to the first, since one may lie inside of another's token: `near` is the
        beginning of what has been put right, which goes on from `end`.
        """
        pieces, end, near = [], len(text), ""
        for match in reversed(list(self._broken.finditer(text))):
            rest = (text[match.end() : min(end, match.end() + self._longest)] + near)[: self._longest]
            if self._starts.match(match[1] + rest):
                start = match.end(1) + len(self.blanks)
                pieces.append(text[start:end])
                near = (text[start : min(end, start + self._longest)] + near)[: self._longest]
                end = match.end(1)
        return "".join([text[:end], *reversed(pieces)])

    @cached_property
    def _broken(self) -> re.Pattern[str]:
        """A first character with at least as many blanks as `escape` adds."""
        heads = "".join(map(re.escape, self._heads))
        return re.compile(f"([{heads}]){self.blanks} *" if heads else r"((?!))")

    @cached_property
    def _longest(self) -> int:
        return max((len(rest) for rests in self._heads.values() for rest in rests), default=0)


def either(texts: Sequence[str]) -> str:
    """A pattern for any of the texts as they are."""
    return "|".join(map(re.escape, texts))


@lru_cache(maxsize=64)
def escaper(tokens: tuple[str, ...]) -> Escaper:
    """The escaper of a set of tokens, made once."""
    return Escaper(tokens)
