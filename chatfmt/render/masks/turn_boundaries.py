"""Where the assistant's part begins and ends in the literals that a template prints between two texts.

Between the user's text and the assistant's stands a literal such as `<|im_end|>⏎<|im_start|>assistant⏎<tool_call>…`;
only `<tool_call>…` of it is the assistant's. After its text stands `<|im_end|>⏎<|im_start|>user⏎`, where the stop token
`<|im_end|>` is still its own. Which is which is learnt from a few conversations that say nothing but `x`, so a cut is
a function of the template and the literal alone, whatever rows came before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ..single import Chat, TemplateRenderer, Turns
from .markers import CONTENT, Piece, Slot, mark, read

TOKEN = (
    r"<\|[^<>|\s]{1,60}\|>|\[\|[^|\[\]\s]{1,60}\|\]|<｜[^<>｜\s]{1,60}｜>|</?s>|<(?:eos|bos)>|<(?:start|end)_of_[a-z_]+>|<\|[a-z_]+>|<[a-z_]+\|>"
    r"|\[/?[A-Z][A-Z_]+\]|<\|[A-Z_]+_TOKEN\|>"
)
"""What control tokens look like; a template's own special tokens are added to it."""

_USER: Mapping[str, Any] = {"role": "user", "content": "x"}
_SAID: Mapping[str, Any] = {"role": "assistant", "content": "x"}
_RESULT: Mapping[str, Any] = {"role": "tool", "name": "x", "tool_call_id": "x12345678", "content": "x"}
_SYSTEM: Mapping[str, Any] = {"role": "system", "content": "x"}


def control_tokens(voice: TemplateRenderer) -> re.Pattern[str]:
    """What matches a control token that a template prints: its own special tokens, and what looks like one."""
    special = sorted(filter(None, voice.special_tokens.values()), key=len, reverse=True)
    return re.compile("|".join([*map(re.escape, special), TOKEN]))


def words(text: str, tokens: re.Pattern[str]) -> list[str]:
    """The words of a literal that are no control tokens."""
    return re.findall(r"\w+", re.sub(r"<[^<>\s]+>|\[[^\[\]\s]+\]", " ", tokens.sub(" ", text)))


def calling(arguments: object) -> dict[str, Any]:
    """An assistant message with one tool call and nothing else."""
    function = {"name": "x", "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [_call(function)]}


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "x12345678", "type": "function", "function": function}


def common_prefix(one: str, other: str) -> str:
    """The longest text that both begin with."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return one[:place]
    return min(one, other, key=len)


class Cut(Struct, frozen=True):
    """Offsets in a closing literal: where the assistant's own text ends, and where the stop token after it ends."""

    text: int
    stop: int


class TurnBoundaries:
    """What one template prints around the assistant's texts: learnt once, the same ever after."""

    def __init__(self, voice: TemplateRenderer) -> None:
        self.voice, self._parts = voice, False
        self._parts = self._literal([_USER, _SAID], 1) is None
        self._token = control_tokens(voice)
        self._openings = {role: self._before(role) for role in _LEADING}
        self._ending = self._literal([_USER], 0) or ""
        self._said = self._after([_USER, _SAID], _USER)
        self._calls = self._after_calls()
        self._repeats = bool(self._ending.strip()) and self._ending == self._openings["user"][0]
        self.stops = self._all_stops()

    def opening(self, literal: str, previous: Slot | None, role: object) -> int | None:
        """The offset in `literal` where the assistant's part begins, None where that cannot be told.

        `literal` stands between the text `previous`, of a message with that `role`, and the assistant's first text.
        """
        header, prompt = self._openings.get(role, self._openings["user"])
        trail = previous.trail if previous else ""
        rests = [literal.removeprefix(trail), literal] if trail else [literal]
        for known in (header, prompt):
            for rest in rests:
                if known.strip() and rest.startswith(known):
                    return len(literal) - len(rest) + len(known)
        return self._last_header(literal, header, prompt)

    def _last_header(self, literal: str, header: str, prompt: str) -> int | None:
        """After the last assistant header in the literal, where what stands before it is not what was learnt."""
        for known in (header, prompt):
            for match in self._token.finditer(known):
                own = known[match.start() :]
                if own in literal:
                    return literal.rindex(own) + len(own)
        common = self.whole_tokens(common_prefix(literal, header), literal)
        return len(common) if self._token.search(common) else None

    def closing(self, literal: str, slot: Slot, *, final: bool) -> Cut | None:
        """Where the text and its stop token end in the `literal` after the last text of an assistant's turn.

        `final` says that the conversation ends there. None where that cannot be told.
        """
        return self._after_text(literal, slot, final) if slot.field == CONTENT else self._after_other(literal, final)

    def _after_text(self, literal: str, slot: Slot, final: bool) -> Cut:
        other = self._said[1] if final else self._said[0]
        start = len(slot.trail) if self._prints(literal, slot.trail, other) else 0
        rest = literal[start:]
        if not self._follows(rest, other) and (stop := self._first_stop(rest)):
            return Cut(start, start + stop[1])
        return Cut(start, start + self._stop(rest, other))

    def _follows(self, literal: str, other: str) -> bool:
        """Whether the literal goes on as it was learnt, at least with a stop token that was learnt."""
        known = literal.lstrip().startswith(self.stops) if self.stops else True
        return known or bool(common_prefix(literal, other).strip() and self._run(common_prefix(literal, other)))

    def _first_stop(self, literal: str) -> tuple[int, int] | None:
        """Where the first known stop token in the literal begins and ends."""
        places = [(literal.find(stop), stop) for stop in self.stops if stop in literal]
        return (min(places)[0], min(places)[0] + len(min(places)[1])) if places else None

    def _prints(self, literal: str, trail: str, other: str) -> bool:
        """Whether the template printed the whitespace after a text, and did not trim it."""
        if not trail or not literal.startswith(trail):
            return False
        kept, cut = (len(common_prefix(rest, other)) for rest in (literal[len(trail) :], literal))
        return kept >= cut

    def _stop(self, literal: str, other: str) -> int:
        """The length of the stop token at the start of a literal; `other` is what follows in the other position."""
        common = self.whole_tokens(common_prefix(literal, other), literal)
        tokens = self._run(common)
        if tokens:
            return tokens[0] if self._repeats else tokens[-1]
        mine, theirs = self._run(literal), self._run(other)
        if mine and theirs:
            return mine[0]
        return len(common.rstrip())

    def _run(self, text: str) -> list[int]:
        """Where each of the control tokens ends that follow each other at the start of the text."""
        ends: list[int] = []
        place = len(text) - len(text.lstrip())
        while match := self._token.match(text, place):
            place = match.end()
            ends.append(place)
        return ends

    def _after_other(self, literal: str, final: bool) -> Cut | None:
        """After tool calls, and after reasoning that nothing follows."""
        if place := self._first_stop(literal):
            return Cut(len(literal[: place[0]].rstrip()), place[1])
        if final:
            return Cut(len(literal.rstrip()), len(literal.rstrip()))
        end, going = self._calls or self._said
        header = going[len(common_prefix(end, going)) :]
        if header and literal.endswith(header):
            length = len(literal.removesuffix(header).rstrip())
            return Cut(length, length)
        return None

    def _all_stops(self) -> tuple[str, ...]:
        """The stop tokens after an answer and after a tool call, as this template prints them."""
        end, going = self._said
        found = [literal[: self._stop(literal, other)].strip() for literal, other in ((end, going), (going, end))]
        if self._calls:
            common = common_prefix(*self._calls)
            matches = list(self._token.finditer(self.whole_tokens(common, self._calls[0])))
            found += [match[0] for match in matches[-1:] if not any(stop and stop in common for stop in found)]
        return tuple(dict.fromkeys(stop for stop in found if stop))

    def stop_after_answer(self, *, final: bool) -> str:
        """The stop token after an answer, at the end of a conversation or before another turn; empty if none."""
        end, going = self._said
        mine, other = (end, going) if final else (going, end)
        return mine[: self._stop(mine, other)].strip()

    def whole_tokens(self, prefix: str, literal: str) -> str:
        """The prefix of a literal without a control token that it cuts in two."""
        for match in self._token.finditer(literal):
            if match.start() < len(prefix) < match.end():
                return prefix[: match.start()]
        return prefix

    def inside_token(self, text: str, place: int) -> bool:
        """Whether a cut at `place` falls inside a control token."""
        window = max(0, place - 64)
        return any(
            match.start() + window < place < match.end() + window
            for match in self._token.finditer(text[window : place + 64])
        )

    def _after(self, turns: Turns, follower: Mapping[str, Any]) -> tuple[str, str]:
        """What follows the last text of `turns` at the end of the conversation, and before a `follower`."""
        end, going = self._literal(turns, len(turns) - 1), self._literal([*turns, follower], len(turns) - 1)
        return end if end is not None else going or "", going if going is not None else end or ""

    def _after_calls(self) -> tuple[str, str] | None:
        for arguments in ({"x": "x"}, '{"x": "x"}'):
            turns = [_USER, calling(arguments)]
            if self._literal(turns, 1) is not None:
                return self._after(turns, _RESULT)
        return None

    def _literal(self, turns: Turns, message: int, *, generation_prompt: bool = False) -> str | None:
        """The literal after the last text of a message, up to the next text or the end; None where it is not there."""
        pieces, text = self._pieces(turns, generation_prompt)
        place = max((n for n, piece in enumerate(pieces) if piece.slot.message == message), default=None)
        if place is None:
            return None
        following = pieces[place + 1].start if place + 1 < len(pieces) else len(text)
        return text[pieces[place].end : following]

    def _pieces(self, turns: Turns, generation_prompt: bool) -> tuple[tuple[Piece, ...], str]:
        marked = mark(Chat([as_parts(turn) for turn in turns] if self._parts else turns))
        said = self.voice.text_or_none(marked.chat, generation_prompt=generation_prompt) if marked else None
        if marked is None or said is None:
            return (), ""
        reading = read(said, marked)
        return reading.pieces, reading.text

    def _before(self, role: object) -> tuple[str, str]:
        """The literal between a text of that role and the assistant's, and the generation prompt in the same place."""
        for turns in _LEADING.get(role, ()):
            header = self._literal([*turns, _SAID], len(turns) - 1) if turns else self._first()
            if header is not None:
                return header, self._literal(turns, len(turns) - 1, generation_prompt=True) or "" if turns else ""
        return "", ""

    def _first(self) -> str | None:
        pieces, text = self._pieces([_SAID], False)
        return text[: pieces[0].start] if pieces else None


def as_parts(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message with its text as a list of one part, for templates that print nothing else."""
    text = turn.get("content")
    return {**turn, "content": [{"type": "text", "text": text}]} if text and isinstance(text, str) else turn


_LEADING: Mapping[object, tuple[Turns, ...]] = {
    None: ((),),
    "user": ([_USER],),
    "system": ([_SYSTEM],),
    "developer": ([{**_SYSTEM, "role": "developer"}],),
    "assistant": ([_USER, _SAID],),
    "tool": ([_USER, calling({"x": "x"}), _RESULT], [_USER, calling('{"x": "x"}'), _RESULT]),
}
