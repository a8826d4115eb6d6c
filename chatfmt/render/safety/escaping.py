"""Split control tokens so that no tokenizer recognises them, and join them again.

`<|im_end|>` becomes `< |im_end|>`, with a space after the first character. This way of splitting a token survives NFKC,
BERT's clean-up and every other normaliser that was tried. A text that already looks split, `< |im_end|>`, gets another
space: so every text has its own escaped form, and unescaping needs the text alone.

If tokens contain spaces, one more space is added than any token has in a row, so that escaped text holds no token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

from msgspec import Struct


class Escaper(Struct, frozen=True, dict=True):
    """Escapes a set of tokens, whatever characters they have; tokens of one character are not escaped."""

    tokens: tuple[str, ...]

    @cached_property
    def spaces(self) -> str:
        """The spaces that are inserted after the first character of a token."""
        runs = [len(run) for token in self.tokens for run in re.findall(" +", token)]
        return " " * (1 + max(runs, default=0))

    @cached_property
    def _heads(self) -> dict[str, list[str]]:
        """The rests of the tokens by first character; spaces before and after the first character are removed."""
        heads: dict[str, list[str]] = {}
        for token in sorted({token.strip(" ") for token in self.tokens}, key=lambda token: (-len(token), token)):
            if len(token) > 1:
                heads.setdefault(token[0], []).append(token[1:].lstrip(" "))
        return heads

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """One pattern per first character, for its tokens and whatever looks like an escaped one."""
        return tuple(f"{re.escape(head)} *(?:{any_of(rests)})" for head, rests in self._heads.items())

    @cached_property
    def _starts(self) -> re.Pattern[str]:
        """A pattern for the first character of a match of `patterns`, with the rest as a lookahead."""
        choices = [f"{re.escape(head)}(?= *({any_of(rests)}))" for head, rests in self._heads.items()]
        return re.compile("|".join(choices) or r"(?!)")

    def escape(self, text: str) -> tuple[str, list[tuple[int, str]]]:
        """Return the text with its tokens split, and for each insertion its offset in the new text and the token."""
        pieces, insertions, done, added = [], [], 0, 0
        for match in self._starts.finditer(text):
            pieces += [text[done : match.end()], self.spaces]
            insertions.append((match.end() + added, match[0] + str(match[match.lastindex or 0])))
            done, added = match.end(), added + len(self.spaces)
        return "".join([*pieces, text[done:]]), insertions

    def unescape(self, text: str) -> str:
        """Return the text that `escape` turned into this one. Other texts lose spaces or are returned as they are.

        Insertions are removed from the last to the first, since one may be inside the token of another: `near` is the
        beginning of the restored text, which continues at `end`.
        """
        pieces, end, near = [], len(text), ""
        for match in reversed(list(self._split.finditer(text))):
            rest = (text[match.end() : min(end, match.end() + self._longest)] + near)[: self._longest]
            if self._starts.match(match[1] + rest):
                start = match.end(1) + len(self.spaces)
                pieces.append(text[start:end])
                near = (text[start : min(end, start + self._longest)] + near)[: self._longest]
                end = match.end(1)
        return "".join([text[:end], *reversed(pieces)])

    @cached_property
    def _split(self) -> re.Pattern[str]:
        """A pattern for a first character with at least as many spaces as `escape` inserts."""
        heads = "".join(map(re.escape, self._heads))
        return re.compile(f"([{heads}]){self.spaces} *" if heads else r"((?!))")

    @cached_property
    def _longest(self) -> int:
        return max((len(rest) for rests in self._heads.values() for rest in rests), default=0)


def any_of(texts: Sequence[str]) -> str:
    """Return a pattern for any of the texts, literally."""
    return "|".join(map(re.escape, texts))


@lru_cache(maxsize=64)
def escaper(tokens: tuple[str, ...]) -> Escaper:
    """Return the cached escaper of a set of tokens."""
    return Escaper(tokens)
