"""Find where the assistant's part begins and ends in the literal text that a template prints between two texts.

Between the user's text and the assistant's is a literal such as `<|im_end|>⏎<|im_start|>assistant⏎<tool_call>…`, of
which only `<tool_call>…` is the assistant's. After its text is `<|im_end|>⏎<|im_start|>user⏎`, where the stop token
`<|im_end|>` is still the assistant's. The boundaries are learnt from a few conversations whose texts are all `x`, so
they depend on the template and the literal only, never on earlier rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..single import Chat, TemplateRenderer, Turns
from .markers import CALLS, CONTENT, TextSource, TextSpan, add_markers, remove_markers

TOKEN = (
    r"<\|[^<>|\s]{1,60}\|>|\[\|[^|\[\]\s]{1,60}\|\]|<｜[^<>｜\s]{1,60}｜>|</?s>|<(?:eos|bos)>|<(?:start|end)_of_[a-z_]+>|<\|[a-z_]+>|<[a-z_]+\|>"
    r"|\[/?[A-Z][A-Z_]+\]|<\|[A-Z_]+_TOKEN\|>|<SPECIAL_\d+>"
)
"""A pattern for text that looks like a control token; the special tokens of a template are added to it."""

LONGEST_STOP = 60
"""Characters of a stop that is not a control token, such as `### End`."""
_USER: Mapping[str, Any] = {"role": "user", "content": "x"}
_ANSWER: Mapping[str, Any] = {"role": "assistant", "content": "x"}
_RESULT: Mapping[str, Any] = {"role": "tool", "name": "x", "tool_call_id": "x12345678", "content": "x"}
_SYSTEM: Mapping[str, Any] = {"role": "system", "content": "x"}
_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": "x", "description": "x", "parameters": {"type": "object", "properties": {}}},
}
_NO_VARIABLES: Mapping[str, bool] = {}
THINKING = ("enable_thinking", "thinking")
"""Template variables that switch reasoning on and off, and often change the generation prompt."""
_EMPTY_THINKING = re.compile(r"\s*(?:<[\w:]*think[\w:]*>\s*)?</[\w:]*think[\w:]*>")
_OPEN_THINKING = re.compile(r"<[\w:]*think[\w:]*>\s*\Z")
_TAG = re.compile(r"\s*<[^<>\s]+>")
_STARTS = re.compile("start|begin", re.IGNORECASE)
_PART_OF_WORD, _PART_OF_TAG = re.compile(r"\w+\Z"), re.compile(r"</?[\w:]*\Z")


def control_token_pattern(renderer: TemplateRenderer) -> re.Pattern[str]:
    """Return a pattern for the control tokens of a template: its special tokens, and what looks like one."""
    special = sorted(filter(None, renderer.special_tokens.values()), key=len, reverse=True)
    return re.compile("|".join([*map(re.escape, special), TOKEN]))


def words(text: str, tokens: re.Pattern[str]) -> list[str]:
    """Return the words of a literal that are not part of control tokens."""
    return re.findall(r"\w+", re.sub(r"<[^<>\s]+>|\[[^\[\]\s]+\]", " ", tokens.sub(" ", text)))


def _tool_call(arguments: object) -> dict[str, Any]:
    call = {"id": "x12345678", "type": "function", "function": {"name": "x", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def common_prefix(one: str, other: str) -> str:
    """Return the longest text that both texts begin with."""
    for offset, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return one[:offset]
    return min(one, other, key=len)


class Opening(Struct, frozen=True):
    """The literal between a text of a role and a plain answer, and the generation prompts there."""

    header: str = ""
    prompts: tuple[str, ...] = ()
    usual: str = ""
    """The prompt without variables that switch thinking off, if it is one of them."""


class AnswerEnd(Struct, frozen=True):
    """Offsets in the literal after an answer: where the answer itself ends, and where its stop token ends."""

    text: int
    stop: int


class TurnBoundaries:
    """The literals that one template prints around the assistant's texts, learnt once.

    `with_tools` learns them from conversations with a list of tools, if the template accepts one.
    """

    def __init__(self, renderer: TemplateRenderer, *, with_tools: bool = False) -> None:
        self._renderer, self._in_parts = renderer, False
        self.are_learnt = True
        """Whether the template prints a plain exchange, from which they can be learnt."""
        self.lead, self.tools = self._demanded(([_TOOL], None) if with_tools else (None, [_TOOL]))
        self._token = control_token_pattern(renderer)
        self._openings: dict[object, Opening] = {}
        self._after_user = self._literal([_USER], 0) or ""
        self._after_answer = self._learn_ending([_USER, _ANSWER], _USER)
        self._after_call = self._learn_call_ending()
        printed = self._after_user.strip()
        self._always_prompts = bool(printed) and printed == self._opening("user").header.strip()
        self.stops = self._all_stops()

    def opening(self, literal: str, previous: TextSource | None, role: object, block: str = "") -> int | None:
        """Return the offset in `literal` where the assistant's part begins; None if it cannot be found.

        `literal` is the text between `previous`, a text of a message with that `role`, and the assistant's first text.
        `block` is the block of reasoning without text with which the message itself begins.
        """
        opening = self._opening(role)
        if _EMPTY_THINKING.search(opening.header) and opening.header in literal:
            if literal.endswith(opening.header + block):  # printed after that of the template
                literal = literal.removesuffix(block)
            block = ""  # the template prints it for messages without one as well
        prompts = [text for text in opening.prompts if not block or text == opening.usual]
        known = [text for text in (*prompts, opening.header or " ") if text.strip() or not text]
        trail = previous.trail if previous else ""
        rests = [literal.removeprefix(trail), literal] if trail else [literal]
        starts = (len(literal) - len(rest) + len(text) for text in known for rest in rests if rest.startswith(text))
        start = next(
            (start for start in starts if self.whole_tokens(literal[:start], literal) == literal[:start]), None
        )
        if start is None:
            ends = ((rest, self._last_header(rest, known)) for rest in rests)
            start = next((len(literal) - len(rest) + end for rest, end in ends if end is not None), None)
        return None if start is None else self._after_empty_thinking(literal, start, opening.header, block)

    def _after_empty_thinking(self, literal: str, start: int, header: str, block: str) -> int:
        """Return the end of a block of reasoning without text at `start`, and of the blanks after it in `header`.

        The `block` of the message is its text.
        """
        known = _EMPTY_THINKING.search(header)
        if block:
            literal = literal[: max(start, len(literal) - len(block) if literal.endswith(block) else 0)]
        empty = _EMPTY_THINKING.match(literal, start)
        if not empty:
            return start
        blanks = len(literal) - len(literal[empty.end() :].lstrip()) - empty.end()
        return empty.end() + (len(common_prefix(literal[empty.end() :], header[known.end() :])) if known else blanks)

    def _last_header(self, literal: str, known: Sequence[str]) -> int | None:
        """Return the end of the last assistant header, for a literal that does not begin as any learnt one."""
        for text in known:
            if end := self._header_end(literal, text):
                return end
        common = max((self._common_words(literal, text) for text in known), key=len, default="")
        return len(common) if self._token.search(common) else None

    def _header_end(self, literal: str, known: str) -> int | None:
        """Return where a header ends in the literal that is a known one, or its end from a control token on."""
        tokens = list(self._token.finditer(known))
        own = [known.lstrip(), *(known[match.start() :] for match in tokens)]
        own += [words for match in tokens[-1:] if (words := known[match.end() :].lstrip())]
        return next((literal.rindex(each) + len(each) for each in own if each and each in literal), None)

    def _common_words(self, literal: str, other: str) -> str:
        """Return what both literals begin with, shortened so that it does not end inside a token, tag or word."""
        common = common_prefix(literal, other)
        rests = literal[len(common) :], other[len(common) :]
        if any(rest[:1].isalnum() for rest in rests):
            common = _PART_OF_WORD.sub("", common)
        return self.whole_tokens(self.whole_tokens(_PART_OF_TAG.sub("", common), literal), other)

    def closing(self, literal: str, source: TextSource, *, final: bool) -> AnswerEnd | None:
        """Return where an answer and its stop token end in the `literal` after its last text; None if not found.

        `final` means that the conversation ends there.
        """
        if source.field == CONTENT:
            return self._content_end(literal, source, final)
        return self._call_end(literal, final)

    def _content_end(self, literal: str, source: TextSource, final: bool) -> AnswerEnd:
        other = self._after_answer[1 if final or literal == self._after_answer[0] else 0]
        start = len(source.trail) if self._prints(literal, source.trail, other) else 0
        rest = literal[start:]
        if not self._follows(rest, other):
            if stop := self._first_stop(rest):
                return AnswerEnd(start, start + stop[1])
            if other.strip():  # the header of the next turn is not a stop token where there are others
                return AnswerEnd(start, start)
        return AnswerEnd(start, start + self._stop(rest, other))

    def _follows(self, literal: str, other: str) -> bool:
        """Return whether the literal begins as a learnt one, or at least with a learnt stop token."""
        known = literal.lstrip().startswith(self.stops) if self.stops else True
        return known or bool(common_prefix(literal, other).strip() and self._token_ends(common_prefix(literal, other)))

    def _first_stop(self, literal: str) -> tuple[int, int] | None:
        """Return the start and end of the first known stop token in the literal."""
        found = [(literal.find(stop), stop) for stop in self.stops if stop in literal]
        if not found:
            return None
        start, stop = min(found)
        return start, start + len(stop)

    def stops_in(self, literal: str) -> bool:
        """Return whether a known stop token is in the literal."""
        return self._first_stop(literal) is not None

    def is_split(self, literal: str, before: TextSource, after: TextSource) -> bool:
        """Return whether a content and the calls of its message are printed as two turns, with `literal` between."""
        header = _OPEN_THINKING.sub("", self._opening("assistant").header)
        is_ended = bool(header) and self.stops_in(header) and literal.startswith(header)
        return (before.field, after.field) == (CONTENT, CALLS) and is_ended

    def stop_length(self, literal: str) -> int:
        """Return the length of the stop token at the start of a literal, with the blanks before it; 0 without one."""
        blanks = len(literal) - len(literal.lstrip())
        return next((blanks + len(stop) for stop in self.stops if literal.startswith(stop, blanks)), 0)

    def _prints(self, literal: str, trail: str, other: str) -> bool:
        """Return whether the template printed the whitespace after a text rather than trimming it."""
        if not trail or not literal.startswith(trail):
            return False
        printed, trimmed = (len(common_prefix(rest, other)) for rest in (literal[len(trail) :], literal))
        return printed >= trimmed

    def _stop(self, literal: str, other: str) -> int:
        """Return the length of the stop token at the start of a literal.

        `other` is the literal in the other position: before another turn, or at the end of the conversation.
        """
        common = self.whole_tokens(common_prefix(literal, other), literal)
        common = self._without_next_turn(common)
        tokens, eos = self._token_ends(common), self._renderer.special_tokens.get("eos_token")
        if tokens:
            own = [end for end in tokens if eos and common[:end].endswith(eos)]
            return own[0] if own else tokens[0] if self._always_prompts else tokens[-1]
        mine, theirs = self._token_ends(literal), self._token_ends(other)
        last = literal == self._after_answer[0]
        if mine and (theirs or last or self._ends_by_next_header(literal[: mine[0]], other)):
            return 0 if last and self._always_prompts else mine[0]
        tag = _TAG.match(common)  # `<step>` ends an answer, and ` Source:` begins the next header
        return tag.end() if tag else len(common.rstrip()) if len(common.strip()) <= LONGEST_STOP else 0

    def _without_next_turn(self, literal: str) -> str:
        """Return a literal up to a token that starts a turn, right after another token."""
        last = -1
        for match in self._token.finditer(literal):
            if match.start() == last and _STARTS.search(match[0]):
                return literal[:last]
            last = match.end()
        return literal

    def _ends_by_next_header(self, token: str, other: str) -> bool:
        """Return whether an answer ends with the header of the next turn, since nothing is printed after the last."""
        return not other.strip() and token.strip() != self._renderer.special_tokens.get("bos_token")

    @property
    def ends_bare(self) -> bool:
        """Whether nothing but blanks is printed after the last answer."""
        return not self._after_answer[0].strip()

    @property
    def stops_late(self) -> bool:
        """Whether the template prints a stop token after the last answer, and none after earlier ones."""
        return bool(self.stop_after_answer(final=True)) and not self.stop_after_answer(final=False)

    def _token_ends(self, text: str) -> list[int]:
        """Return the end of each control token in the run of them that the text begins with."""
        ends: list[int] = []
        offset = len(text) - len(text.lstrip())
        while match := self._token.match(text, offset):
            offset = match.end()
            ends.append(offset)
        return ends

    def _call_end(self, literal: str, final: bool) -> AnswerEnd | None:
        """Return the end after tool calls, or after reasoning without a content."""
        if stop := self._first_stop(literal):
            return AnswerEnd(len(literal[: stop[0]].rstrip()), stop[1])
        if final:
            length = len(self._without_next_turn(literal).rstrip())
            return AnswerEnd(length, length)
        at_end, before_turn = self._after_call or self._after_answer
        header = before_turn[len(common_prefix(at_end, before_turn)) :]
        if header and header in literal:  # an image may follow it, which is not text
            length, tokens = literal.index(header), self._token_ends(header)
            if tokens and self._ends_by_next_header(header[: tokens[0]], ""):
                return AnswerEnd(length, length + tokens[0])
            length = len(literal[:length].rstrip())
            return AnswerEnd(length, length)
        return None

    def _all_stops(self) -> tuple[str, ...]:
        """Return the stop tokens that this template prints after an answer and after a tool call."""
        at_end, before_turn = self._after_answer
        found = [
            literal[: self._stop(literal, other)].strip()
            for literal, other in ((at_end, before_turn), (before_turn, at_end))
        ]
        if self._after_call:
            common = self._without_next_turn(common_prefix(*self._after_call))
            matches = list(self._token.finditer(self.whole_tokens(common, self._after_call[0])))
            found += [match[0] for match in matches[-1:] if not any(stop and stop in common for stop in found)]
        return tuple(dict.fromkeys(stop for stop in found if stop))

    def stop_after_answer(self, *, final: bool) -> str:
        """Return the stop token after the final answer or an earlier one; empty if there is none."""
        at_end, before_turn = self._after_answer
        mine, other = (at_end, before_turn) if final else (before_turn, at_end)
        return mine[: self._stop(mine, other)].strip()

    def whole_tokens(self, prefix: str, literal: str) -> str:
        """Return the prefix of a literal, shortened so that it does not end inside a control token."""
        for match in self._token.finditer(literal):
            if match.start() < len(prefix) < match.end():
                return prefix[: match.start()]
        return prefix

    def is_inside_token(self, text: str, offset: int) -> bool:
        """Return whether `offset` is inside a control token of the text."""
        start = max(0, offset - 64)
        matches = self._token.finditer(text[start : offset + 64])
        return any(match.start() < offset - start < match.end() for match in matches)

    def _learn_ending(self, turns: Turns, follower: Mapping[str, Any]) -> tuple[str, str]:
        """Return the literals after the last text of `turns`: at the end of the conversation, and before `follower`."""
        at_end, before_turn = self._literal(turns, len(turns) - 1), self._literal([*turns, follower], len(turns) - 1)
        if at_end is None or before_turn is None:
            return (at_end or before_turn or "",) * 2
        return at_end, before_turn

    def _learn_call_ending(self) -> tuple[str, str] | None:
        for arguments in ({"x": "x"}, '{"x": "x"}'):
            turns = [_USER, _tool_call(arguments)]
            if self._literal(turns, 1) is not None:
                return self._learn_ending(turns, _RESULT)
        return None

    def _demanded(self, tools: Sequence[Any]) -> tuple[Turns, Any]:
        """Return the turns and the first of the `tools` without which the template refuses a plain exchange."""
        for self._in_parts in (False, True):
            for self.lead in ((), (_SYSTEM,)):
                for self.tools in tools:
                    if self._literal([_USER, _ANSWER], 1) is not None:
                        return self.lead, self.tools
        self.are_learnt = False
        return (), None

    def _literal(self, turns: Turns, message: int, *, generation_prompt: bool = False, **variables: bool) -> str | None:
        """Return the literal after the last text of a message, up to the next text or the end; None if not printed."""
        spans, text = self._spans(turns, generation_prompt, variables)
        last = max((n for n, span in enumerate(spans) if span.source.message == message), default=None)
        if last is None:
            return None
        following = spans[last + 1].start if last + 1 < len(spans) else len(text)
        return text[spans[last].end : following]

    def _spans(
        self, turns: Turns, generation_prompt: bool, variables: Mapping[str, bool] = _NO_VARIABLES
    ) -> tuple[tuple[TextSpan, ...], str]:
        """Return where the texts of `turns` are in the rendered text, and the text; the turns demanded come before."""
        lead = () if turns and turns[0].get("role") == "system" else self.lead
        every = [*lead, *turns]
        chat = Chat([as_parts(turn) for turn in every] if self._in_parts else every, self.tools, variables=variables)
        marked = add_markers(chat)
        text = self._renderer.text_or_none(marked.chat, generation_prompt=generation_prompt) if marked else None
        if marked is None or text is None:
            return (), ""
        unmarked = remove_markers(text, marked)
        moved = [(span, (span.source.message or 0) - len(lead)) for span in unmarked.spans]
        own = [replace(span, source=replace(span.source, message=message)) for span, message in moved if message >= 0]
        return tuple(own), unmarked.text

    def _opening(self, role: object) -> Opening:
        """Return the opening after a text of a role (None: of an answer that comes first), learnt when it is needed.

        After a role that is not known it is the one after a user.
        """
        role = role if role is None or role in _LEADING else "user"
        if role not in self._openings:
            learnt = self._learn_first_opening() if role is None else self._learn_opening(role)
            self._openings[role] = learnt if role == "user" else self._with_prompts(learnt, self._opening("user"))
        return self._openings[role]

    def _learn_opening(self, role: object) -> Opening:
        for turns in _LEADING.get(role, ()):
            header = self._literal([*turns, _ANSWER], len(turns) - 1)
            if header is not None:
                return Opening(header, *self._prompts(turns, header))
        return Opening()

    def _prompts(self, turns: Turns, header: str) -> tuple[tuple[str, ...], str]:
        """Return the generation prompts after `turns`, as they are and without thinking, the longest first.

        Also the first of these alone, which is the usual one.
        For a template that takes no generation prompt, that is what it prints at the end if it is printed before all
        answers too, and either only blanks follow there or it is not what a user's turn ends with.
        """
        last, source = len(turns) - 1, self._renderer.template.choose(self.tools)
        ways = [{}, *({name: False} for name in THINKING if name in source)]
        found = [self._literal(turns, last, generation_prompt=True, **way) for way in ways]
        bare = [self._literal(turns, last, **way) for way in ways]
        if found[0] == bare[0] and (found[0] is None or not header.startswith(found[0])):
            return (), ""
        if found[0] == bare[0] and header.removeprefix(found[0] or "").strip():
            following = self._literal([*turns, _USER], last)
            if following is None or following.startswith(found[0] or ""):
                return (), ""
        usual = found[0] or ""
        prompts = [text for text, without in zip(found[1:], bare[1:], strict=True) if text and text != without]
        own = {text[max(text.find(usual), 0) :] for text in (usual, *prompts) if text}  # not what the turn before gets
        return tuple(sorted(own, key=len, reverse=True)), usual

    def _learn_first_opening(self) -> Opening:
        """Return the literal before an answer that comes first."""
        spans, text = self._spans([_ANSWER], False)
        return Opening(text[: spans[0].start] if spans else "")

    def _with_prompts(self, opening: Opening, after_user: Opening) -> Opening:
        """Return an opening; one without generation prompts gets those that end as the ones after a user do."""
        if opening.prompts or not opening.header:
            return opening if opening.prompts else after_user
        ends = {self._header_end(opening.header, prompt) for prompt in after_user.prompts}
        blanks = {after_user.header.removeprefix(prompt) for prompt in after_user.prompts}
        if not any(ends):
            ends = {len(opening.header.removesuffix(each)) for each in blanks if each.isspace()}
        known = {opening.header[:end] for end in ends if end is not None}
        return Opening(opening.header, tuple(sorted(known, key=len, reverse=True)))


def missing_stop(renderer: TemplateRenderer) -> str:
    """Say that a template prints no stop token after the last answer, whatever follows earlier ones.

    Empty if it prints one, or if it prints no plain exchange.
    """
    boundaries = TurnBoundaries(renderer)
    if boundaries.stop_after_answer(final=True) or not boundaries.are_learnt:
        return ""
    where = " after the last answer" if boundaries.stops else ""
    name = renderer.template.name
    return f"the template `{name}` prints no stop token{where}, so a model trained on its answers never ends one"


def stop_tokens(renderer: TemplateRenderer) -> tuple[str, ...]:
    """Return each control token with which a template ends an answer or a call, EOS aside."""
    token, eos = control_token_pattern(renderer), renderer.special_tokens.get("eos_token")
    found = [match[0] for stop in TurnBoundaries(renderer).stops for match in token.finditer(stop)]
    return tuple(dict.fromkeys(token for token in found if token != eos))


def empty_thinking(content: object) -> str:
    """Return the block of reasoning without text with which a content begins, and the blanks after it."""
    empty = _EMPTY_THINKING.match(content) if isinstance(content, str) else None
    return content[: len(content) - len(content[empty.end() :].lstrip())] if empty and isinstance(content, str) else ""


def as_parts(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the message with its text as a list of one part, for templates that print only parts."""
    text = turn.get("content")
    return {**turn, "content": [{"type": "text", "text": text}]} if text and isinstance(text, str) else turn


_LEADING: Mapping[object, tuple[Turns, ...]] = {
    "user": ([_USER],),
    "system": ([_SYSTEM],),
    "developer": ([{**_SYSTEM, "role": "developer"}],),
    "assistant": ([_USER, _ANSWER],),
    "tool": ([_USER, _tool_call({"x": "x"}), _RESULT], [_USER, _tool_call('{"x": "x"}'), _RESULT]),
}
