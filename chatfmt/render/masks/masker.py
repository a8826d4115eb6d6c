"""Which characters of a rendered text the model is trained on, for any chat template.

The ladder, first that holds:

1. **generation**: the template's own `{% generation %}` blocks, exactly as transformers tracks them.
2. **marks**: the conversation is rendered once more with private-use marks around each text; where that text without
   marks equals the real one, the marks show where each answer stands. The span of a turn runs from the assistant's
   first character (its text, or what opens its reasoning or tool call) to the end of its stop token.
3. **prefix**: the text of the conversation up to the turn, with the generation prompt, is how the text begins.
4. Refused: a RenderError with code `mask.refused` that says why.

A thinking block that the template adds to an answer without reasoning is not the assistant's, so it is not trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from msgspec import Struct

from ...errors import ChatfmtError, Location, RenderError
from ...json_columns import decode_conversations, json_values
from ...rendering import ConversationBatch
from ..jinja.errors import render_error
from ..single import Chat, TemplateRenderer, Turns
from ..types import Span
from .markers import CONTENT, REASONING, USUAL, Marked, Piece, Plan, Reading, mark, read
from .turn_boundaries import TurnBoundaries

Method = Literal["generation", "marks", "prefix"]
FLAGS = ("train", "weight", "loss", "loss_weight", "training", "trainable")
"""The keys of a message that say whether it is trained on: a boolean, or a number of which 0 means no."""
PLANS = (
    USUAL,
    Plan(others=False),
    Plan(others=False, calls=False),
    Plan(others=False, reasoning=False),
    Plan(others=False, calls=False, reasoning=False),
)
_WHOLE = Plan(blank=True)


class MaskOptions(Struct, frozen=True):
    """What belongs to the trained text."""

    stop_token: bool = True
    """What follows an answer, up to and including its stop token."""
    reasoning: bool = True
    last_turn: bool = False
    """Only the last message of the assistant."""
    flags: bool = True
    """Whether `FLAGS` of a message are heeded."""

    @property
    def plain(self) -> bool:
        """Whether the spans of a whole turn are wanted, as a template's own tags give them."""
        return self.stop_token and self.reasoning


WHOLE_TURNS = MaskOptions()
EVERY = MaskOptions(flags=False)


class Mask(Struct, frozen=True):
    """A rendered text, its trained spans in code points, the message that each belongs to, and how they were found."""

    text: str
    spans: tuple[Span, ...]
    turns: tuple[int, ...]
    method: Method


class Turn(Struct, frozen=True):
    """Where one turn of the assistant stands: its own text, and the end of the stop token after it."""

    message: int
    start: int
    text_end: int
    stop_end: int


def trained(message: Mapping[str, Any], key: str = "") -> bool:
    """Whether the data wants this message trained on: its first flag of `FLAGS` that is there, else yes.

    Raises RenderError (`mask.flag`) for a flag that is neither a boolean nor a number.
    """
    for name in (key,) if key else FLAGS:
        value = message.get(name)
        if isinstance(value, str):
            value = _SPELLED.get(value, value)
        if isinstance(value, (bool, int, float)):
            return bool(value)
        if value is not None:
            raise RenderError(f"`{name}` of a message is {value!r}, not a boolean or a number", code="mask.flag")
    return True


_SPELLED: Mapping[str, Any] = {"true": True, "false": False, "0": 0, "1": 1, "0.0": 0.0, "1.0": 1.0}


class Masker:
    """The trained spans of conversations under one template; what it learns of the template never depends on rows."""

    def __init__(self, voice: TemplateRenderer, options: MaskOptions = WHOLE_TURNS) -> None:
        self.voice, self.options = voice, options
        self._cuts: dict[tuple[str, str], TurnBoundaries] = {}

    def cuts(self, chat: Chat) -> TurnBoundaries:
        """What is known of the literals of the template, as the tools and variables of this row choose it."""
        key = (self.voice.template.choose(chat.tools), repr(chat.variables))
        if key not in self._cuts:
            self._cuts[key] = TurnBoundaries(self.voice.chosen(chat))
        return self._cuts[key]

    def mask(self, chat: Chat) -> Mask:
        """The text of a conversation and its trained spans.

        Raises RenderError: `template.raised`, `template.error`, or `mask.refused` where no way to tell them held.
        """
        try:
            tagged = self.voice.has_generation_tag(chat.tools)
            text, blocks = self.voice.tracked(chat) if tagged else (self.voice.text(chat), None)
        except ChatfmtError:
            raise
        except Exception as error:  # a template is a stranger's program: it may raise anything
            raise render_error(error, self.voice.template.name, fitted=self.voice.options.fitted) from error
        return self.complete(chat, text, blocks)

    def complete(
        self, chat: Chat, text: str, blocks: Sequence[Span] | None, first: tuple[Marked, str] | None = None
    ) -> Mask:
        """The mask of a conversation whose text and generation blocks (None: the template has no such tag) are known.

        `first` is the conversation as `first_plan` marks it, with its rendered text, where that is known too.
        """
        wanted = wanted_turns(chat.messages, self.options)
        if blocks is not None and (not wanted or self.is_plain(chat, blocks, wanted)):
            return _from_blocks(text, blocks, wanted_turns(chat.messages, EVERY), wanted)
        if not wanted:
            return Mask(text, (), (), "marks")
        turns = self.turns(chat, text, first)
        method: Method = "marks" if turns is not None else "prefix"
        found = turns if turns is not None else self._prefixed(chat, text, wanted)
        mask = self._chosen(text, found, method, wanted)
        return mask if blocks is None else _within(mask, blocks)

    def is_plain(self, chat: Chat, blocks: Sequence[Span], wanted: Sequence[int]) -> bool:
        """Whether the generation blocks alone give the mask: whole turns, and which is whose can be told by number."""
        spoken = wanted_turns(chat.messages, EVERY)
        return self.options.plain and (list(wanted) == spoken or len(blocks) == len(spoken))

    def _chosen(self, text: str, turns: Sequence[Turn], method: Method, wanted: Sequence[int]) -> Mask:
        kept = [turn for turn in turns if turn.message in wanted]
        spans = [(turn.start, turn.stop_end if self.options.stop_token else turn.text_end) for turn in kept]
        pairs = [(span, turn.message) for span, turn in zip(spans, kept, strict=True) if span[0] < span[1]]
        return Mask(text, tuple(span for span, _ in pairs), tuple(message for _, message in pairs), method)

    def turns(self, chat: Chat, text: str, first: tuple[Marked, str] | None = None) -> list[Turn] | None:
        """The assistant's turns in `text`, the rendered text of `chat`, by marks; None where they cannot be told."""
        reading = self.layout(chat, text, first)
        return None if reading is None else self._turns(reading, chat)

    def layout(self, chat: Chat, text: str, first: tuple[Marked, str] | None = None) -> Reading | None:
        """Where the assistant's texts stand in `text`, the rendered text of `chat`; None where marks disturb it."""
        if any(_is_spoken(chat.messages, n) and _is_no_text(message) for n, message in enumerate(chat.messages)):
            return None
        for place, plan in enumerate(self._plans(chat.messages)):
            if place or first is None:
                marked = mark(chat, plan)
                said = self.voice.text_or_none(marked.chat) if marked else None
            else:
                marked, said = first
            if marked is None or said is None:
                continue
            reading = read(said, marked)
            if reading.text == text and not any(_is_spoken(chat.messages, slot.message) for slot in reading.torn):
                return reading
        return None

    def first_plan(self, chat: Chat) -> Marked | None:
        """The conversation marked by the first plan that is tried; None where marks cannot be set."""
        return mark(chat, next(self._plans(chat.messages)))

    def _plans(self, messages: Turns) -> Iterator[Plan]:
        """The plans to try: one with blank texts first where an answer is blank; none that would leave calls out."""
        spoken = [message for message in messages if message.get("role") == "assistant"]
        if any(_is_blank(message) for message in spoken):
            yield _WHOLE
        called = any(message.get("tool_calls") for message in spoken)
        yield from (plan for plan in PLANS if plan.calls or not called)

    def _turns(self, reading: Reading, chat: Chat) -> list[Turn] | None:
        """The assistant's turns in a reading; None where a cut cannot be told."""
        cuts, pieces, turns = self.cuts(chat), reading.pieces, list[Turn]()
        place = 0
        for message, group in groupby(pieces, key=lambda piece: piece.slot.message):
            own = list(group)
            before = pieces[place - 1] if place else None
            place += len(own)
            after = pieces[place].start if place < len(pieces) else len(reading.text)
            if message is None or not _is_spoken(chat.messages, message):
                continue
            turn = self._turn(reading, chat.messages, cuts, own, before, after)
            if turn is None:
                return None
            turns += turn
        return turns

    def _turn(
        self,
        reading: Reading,
        messages: Turns,
        cuts: TurnBoundaries,
        own: list[Piece],
        before: Piece | None,
        after: int,
    ) -> list[Turn] | None:
        """The turn whose texts are `own`, between the text `before` and whatever begins at `after`."""
        message = own[0].slot.message
        assert message is not None
        kept = own if self.options.reasoning else [piece for piece in own if piece.slot.field != REASONING]
        if not kept:
            return []
        previous = own[own.index(kept[0]) - 1] if kept[0] is not own[0] else before
        start = self._start(reading.text, messages, cuts, kept[0], previous)
        final = message == len(messages) - 1 and not self.voice.options.generation_prompt
        cut = cuts.closing(reading.text[own[-1].end : after], own[-1].slot, final=final)
        if start is None or cut is None:
            return None
        return [Turn(message, start, own[-1].end + cut.text, own[-1].end + cut.stop)]

    def _start(
        self, text: str, messages: Turns, cuts: TurnBoundaries, first: Piece, previous: Piece | None
    ) -> int | None:
        """Where the assistant's part begins, of which `first` is the first text."""
        floor = previous.end if previous else 0
        inside = previous is not None and previous.slot.message == first.slot.message
        if first.slot.field == CONTENT and (not first.slot.lead or inside):
            return first.start
        if inside:
            return _after_tag(text, floor, first.start)
        index = first.slot.message or 0
        role = messages[index - 1].get("role") if index else None
        offset = cuts.opening(text[floor : first.start], previous.slot if previous else None, role)
        if offset is not None:
            return floor + offset
        return first.start if first.slot.field == CONTENT else None

    def _prefixed(self, chat: Chat, text: str, wanted: Sequence[int]) -> list[Turn]:
        """The turns by the difference of prefixes; raises RenderError where the text does not grow turn by turn."""
        if not self.options.plain:
            raise refused("the text of the answer cannot be told from what the template adds to it", wanted[0])
        turns = []
        for message in wanted:
            before = (
                self.voice.text_or_none(chat.with_messages(chat.messages[:message]), generation_prompt=True)
                if message
                else ""
            )
            upto = self.voice.text_or_none(chat.with_messages(chat.messages[: message + 1]))
            if before is None or upto is None or not text.startswith(before) or not text.startswith(upto.rstrip()):
                raise refused("the template changes what it printed before when a turn is added", message)
            end = len(upto.rstrip())
            turns.append(Turn(message, len(before), end, end))
        return turns


def to_chats(column: ConversationBatch) -> list[Chat | None]:
    """The conversations of a column with what belongs to each; None where the messages are null."""
    others = [[None] * len(column) if other is None else json_values(other) for other in column.others]
    rows = zip(decode_conversations(column.messages), *others, strict=True)
    return [None if said is None else Chat(said, tool, document, extra or {}) for said, tool, document, extra in rows]


def wanted_turns(messages: Turns, options: MaskOptions) -> list[int]:
    """The indices of the assistant's messages that are trained on."""
    spoken = [index for index, message in enumerate(messages) if message.get("role") == "assistant"]
    if options.last_turn:
        spoken = spoken[-1:]
    return [index for index in spoken if not options.flags or trained(messages[index])]


def _from_blocks(text: str, blocks: Sequence[Span], spoken: Sequence[int], wanted: Sequence[int]) -> Mask:
    """The mask that generation blocks give, without the blocks of turns that are not wanted."""
    if len(blocks) != len(spoken):
        kept = tuple(blocks) if list(wanted) == list(spoken) else ()
        return Mask(text, kept, (-1,) * len(kept), "generation")
    pairs = [(block, message) for block, message in zip(blocks, spoken, strict=True) if message in wanted]
    return Mask(text, tuple(block for block, _ in pairs), tuple(message for _, message in pairs), "generation")


def _within(mask: Mask, blocks: Sequence[Span]) -> Mask:
    """What of a mask lies inside generation blocks."""
    inside = [
        ((max(start, low), min(end, high)), owner)
        for (start, end), owner in zip(mask.spans, mask.turns, strict=True)
        for low, high in blocks
        if max(start, low) < min(end, high)
    ]
    return Mask(mask.text, tuple(span for span, _ in inside), tuple(owner for _, owner in inside), "generation")


def _is_spoken(messages: Turns, index: int | None) -> bool:
    return index is not None and messages[index].get("role") == "assistant"


def _is_blank(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, str) and not content.strip() and not message.get("tool_calls")


def _is_no_text(message: Mapping[str, Any]) -> bool:
    """Whether the content is a number or a boolean, which a template may print but nothing can mark."""
    return isinstance(message.get("content"), (bool, int, float))


def _after_tag(text: str, start: int, end: int) -> int:
    """Where a tool call opens after the reasoning before it: behind the last closing tag or token that ends it."""
    closing = list(_CLOSING.finditer(text, start, end))
    return closing[0].end() if closing else end


_CLOSING = re.compile(r"</[^<>]{1,40}>\s*|<\|[^<>|]{1,40}\|>\s*|<[a-z_]+\|>\s*")


def refused(reason: str, message: int | None = None) -> RenderError:
    """The RenderError of the last rung of the ladder."""
    return RenderError(
        f"it cannot be told which text is the assistant's: {reason}",
        hint="use a template with `{% generation %}` blocks, or leave `--mask` out",
        code="mask.refused",
        at=Location(message=message),
    )
