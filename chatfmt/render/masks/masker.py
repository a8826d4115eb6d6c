"""Find the spans of a rendered text that the model is trained on, for any chat template.

The first of these methods that works is used:

1. **generation**: the template's own `{% generation %}` blocks, exactly as transformers tracks them.
2. **markers**: the conversation is rendered again with private-use markers around each text; if that text without its
   markers equals the real one, they show where each answer is. The span of a turn begins with the assistant's first
   character (its text, or the opening of its reasoning or tool call) and ends with its stop token.
3. **prefix**: the rendered text begins with that of the messages before the turn, with the generation prompt.

If none works, RenderError `mask.refused` says why. A thinking block that the template adds to an answer without
reasoning is not the assistant's, so it is not trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from ...errors import ChatfmtError, Location, RenderError
from ...json_columns import decode_conversations, json_values
from ...rendering import ConversationBatch
from ...schema import TRAIN_KEYS, train_flag
from ..jinja.errors import render_error
from ..single import Chat, TemplateRenderer, Turns
from ..types import Span
from .blocks import AssistantTurn, MaskedText, Method, from_blocks, intersect, of_turns
from .markers import (
    CONTENT,
    DEFAULT_PLAN,
    MAX_MARKERS,
    REASONING,
    MarkedChat,
    MarkerPlan,
    TextSpan,
    UnmarkedText,
    add_markers,
    remove_markers,
)
from .spans import together, turns_of, with_repetitions
from .train_detail import content_place, train_detail, trained_parts
from .turn_boundaries import AnswerEnd, TurnBoundaries, empty_thinking

Reasoning = Literal["all", "generated", "none"]
PLANS = (
    DEFAULT_PLAN,
    MarkerPlan(others=False),
    MarkerPlan(others=False, calls=False),
    MarkerPlan(others=False, reasoning=False),
    MarkerPlan(others=False, calls=False, reasoning=False),
)
_PLAN_WITH_BLANKS = MarkerPlan(blank=True)


class MaskOptions(Struct, frozen=True):
    """A selection of the text to train on."""

    stop_token: bool = True
    """Include what follows an answer, up to and including its stop token."""
    reasoning: Reasoning = "generated"
    """Which reasoning is trained: also what the template supplies (`all`), what the model generates, or `none`."""
    last_turn: bool = False
    """Only the last message of these roles."""
    roles: tuple[str, ...] = ("assistant",)
    """The roles whose messages are trained: of others than the assistant, the text and the stop token after it."""
    flags: bool = True
    """Respect the `schema.TRAIN_FLAGS` of messages."""

    @property
    def whole_turns(self) -> bool:
        """Whether spans cover whole turns, as a template's own tags do."""
        return self.stop_token and self.reasoning != "none"

    @property
    def is_every_turn(self) -> bool:
        """Whether spans cover all turns as a whole, unless flags of messages say otherwise."""
        return self.whole_turns and not self.last_turn and self.roles == ("assistant",)


WHOLE_TURNS = MaskOptions()
ALL_TURNS = MaskOptions(flags=False)


def is_trained(message: Mapping[str, Any]) -> bool:
    """Return whether the message is trained on, by its first key of `TRAIN_FLAGS`; without one, it is.

    A list of parts to train that is empty says that it is not.

    Raises RenderError (`mask.flag`) if the value is neither a boolean nor a number.
    """
    name, value = train_flag(message)
    if not isinstance(value, (bool, int, float, type(None))):
        raise RenderError(f"`{name}` of a message is {value!r}, not a boolean or a number", code="mask.flag")
    return bool(value) if value is not None else train_detail(message) != []


class Masker:
    """Finds the trained spans of conversations under one template. What it learns does not depend on the rows."""

    def __init__(self, renderer: TemplateRenderer, options: MaskOptions = WHOLE_TURNS) -> None:
        self.renderer, self.options = renderer, options
        self._boundaries: dict[tuple[str, str, bool], TurnBoundaries] = {}

    def boundaries(self, chat: Chat) -> TurnBoundaries:
        """Return the turn boundaries of the template that the tools and variables of the row select."""
        text, with_tools = self.renderer.template.choose(chat.tools), bool(chat.tools)
        key = (text, repr(chat.variables), with_tools and "tools" in text)
        if key not in self._boundaries:
            self._boundaries[key] = TurnBoundaries(self.renderer.chosen(chat), with_tools=with_tools)
        return self._boundaries[key]

    def mask(self, chat: Chat) -> MaskedText:
        """Render a conversation and find its trained spans.

        Raises RenderError: `template.raised`, `template.error`, or `mask.refused` if no method works.
        """
        try:
            tagged = self.renderer.has_generation_tag(chat.tools)
            text, blocks = self.renderer.tracked(chat) if tagged else (self.renderer.text(chat), None)
        except ChatfmtError:
            raise
        except Exception as error:  # a template is an untrusted program: it may raise anything
            raise render_error(error, self.renderer.template.name) from error
        return self.mask_rendered(chat, text, blocks)

    def mask_rendered(
        self, chat: Chat, text: str, blocks: Sequence[Span] | None, marked: tuple[MarkedChat, str] | None = None
    ) -> MaskedText:
        """Find the trained spans of a conversation whose text is known.

        `blocks` are its generation blocks (None: the template has no such tag). `marked` is the conversation with
        markers by `first_plan` and its rendered text, if already known.
        """
        trained = trained_turns(chat.messages, self.options)
        wanted = [message for message in trained if _is_assistant(chat.messages, message)]
        masked = self._mask_answers(chat, text, blocks, marked, wanted)
        others = [message for message in trained if message not in wanted]
        masked = self._with_others(chat, masked, others) if others else masked
        detailed = [message for message in trained if self.options.flags and train_detail(chat.messages[message])]
        return self._with_details(chat, masked, detailed) if detailed else masked

    def _mask_answers(
        self,
        chat: Chat,
        text: str,
        blocks: Sequence[Span] | None,
        marked: tuple[MarkedChat, str] | None,
        wanted: Sequence[int],
    ) -> MaskedText:
        """Find the spans of the answers that are `wanted`."""
        answers = trained_turns(chat.messages, ALL_TURNS)
        blocks = blocks if blocks is None else together(blocks)
        if blocks is not None and (not wanted or self.blocks_suffice(chat, wanted)):
            return from_blocks(text, blocks, answers, wanted)
        if not wanted:
            return MaskedText(text, (), (), "markers")
        if self.options.stop_token and not self.boundaries(chat).are_learnt:
            raise mask_refused("the template prints no plain exchange, so its stop token is not known", wanted[0])
        if self.options.stop_token and wanted[0] < len(chat.messages) - 1 and self.boundaries(chat).stops_late:
            raise mask_refused("the template prints a stop token after the last answer only", wanted[0], STOP_LATE)
        if len(chat.messages) > MAX_MARKERS:
            raise mask_refused(f"the conversation has more than {MAX_MARKERS:,} messages", wanted[0])
        turns = self.turns(chat, text, marked)
        found = [self._after_media(chat, text, turn) for turn in turns or ()]
        if blocks is not None and self.options.whole_turns and (found or len(blocks) == len(answers)):
            return of_turns(text, blocks, found, answers, wanted)
        missing = [message for message in wanted if message not in {turn.message for turn in found}]
        if turns is None:
            masked = self._select(text, self._turns_by_prefix(chat, text, wanted), "prefix", wanted)
        elif any(_has_media(chat.messages[message].get("content")) for message in missing):
            raise mask_refused("the answer has no text, and the place of its images is not known", missing[0])
        else:
            masked = self._select(text, found, "markers", wanted)
        return masked if blocks is None else intersect(masked, blocks)

    def _with_details(self, chat: Chat, masked: MaskedText, detailed: Sequence[int]) -> MaskedText:
        """Return the spans, those of some messages cut to the parts of their content that are trained."""
        places = self._contents(chat, masked.text)
        pairs: list[tuple[Span, int]] = []
        for (start, end), message in zip(masked.spans, masked.messages, strict=True):
            if message not in detailed and message >= 0:
                pairs.append(((start, end), message))
                continue
            parts = trained_parts(chat.messages[message])
            place = content_place(masked.text, places.get(message, []), chat.messages[message]["content"])
            if place is None:
                raise mask_refused("the template changes the content of which parts are trained", message)
            begin, (first, after) = place
            low, high = max(first, start), min(after, end)
            inside = [(max(begin + part, low), min(begin + stop, high)) for part, stop in parts]
            pairs += [(span, message) for span in together([*inside, (max(after, start), end)])]
        return MaskedText.of(masked.text, pairs, masked.method)

    def _contents(self, chat: Chat, text: str) -> dict[int, list[Span]]:
        """Return where the content of each message is in a rendered text; nothing if it cannot be found."""
        unmarked = render_marked(self.renderer, add_markers(chat))
        found: dict[int, list[Span]] = {}
        for span in unmarked.spans if unmarked is not None and unmarked.text == text else ():
            if span.source.message is not None and span.source.field == CONTENT:
                found.setdefault(span.source.message, []).append((span.start, span.end))
        return found

    def _with_others(self, chat: Chat, masked: MaskedText, others: Sequence[int]) -> MaskedText:
        """Return the spans with those of messages that are not answers: their texts and the stop token after each."""
        unmarked = render_marked(self.renderer, add_markers(chat))
        pairs = [*zip(masked.spans, masked.messages, strict=True)]
        for message in others:
            own = [span for span in unmarked.spans if span.source.message == message] if unmarked else []
            if unmarked is None or unmarked.text != masked.text or not (own or _is_blank(chat.messages[message])):
                raise mask_refused("the place of its text is not known", message)
            if own:
                after = min((span.start for span in unmarked.spans if span.start >= own[-1].end), default=None)
                stop = self.boundaries(chat).stop_length(masked.text[own[-1].end : after])
                pairs.append(((own[0].start, own[-1].end + (stop if self.options.stop_token else 0)), message))
        return MaskedText.of(masked.text, sorted(pairs), masked.method)

    def blocks_suffice(self, chat: Chat, wanted: Sequence[int]) -> bool:
        """Return whether the spans are the generation blocks: whole turns, all of them and without weights or parts."""
        turns = trained_turns(chat.messages, ALL_TURNS)
        flagged = self.options.flags and not all(TRAIN_KEYS.isdisjoint(chat.messages[turn]) for turn in turns)
        return self.options.whole_turns and not flagged and turns == [n for n in wanted if n in turns]

    def _select(self, text: str, turns: Sequence[AssistantTurn], method: Method, wanted: Sequence[int]) -> MaskedText:
        kept = [turn for turn in turns if turn.message in wanted]
        spans = [(turn.start, turn.stop_end if self.options.stop_token else turn.text_end) for turn in kept]
        for number, (turn, following) in enumerate(pairwise(kept)):  # answers printed as one, joined by blanks
            if turn.text_end == turn.stop_end and not text[turn.text_end : following.start].strip():
                spans[number] = turn.start, following.start
        pairs = [(span, turn.message) for span, turn in zip(spans, kept, strict=True) if span[0] < span[1]]
        return MaskedText.of(text, pairs, method)

    def turns(self, chat: Chat, text: str, marked: tuple[MarkedChat, str] | None = None) -> list[AssistantTurn] | None:
        """Find the assistant turns in `text`, the rendered text of `chat`, by markers; None if they cannot be found."""
        unmarked = self._locate_texts(chat, text, marked)
        return None if unmarked is None else self._assistant_turns(unmarked, chat)

    def _after_media(self, chat: Chat, text: str, turn: AssistantTurn) -> AssistantTurn:
        """Return the turn without images of the message before it, which a template may print after its text."""
        before = chat.messages[: turn.message]
        if not before or not _has_media(before[-1].get("content")):
            return turn
        prompt = self.renderer.text_or_none(chat.with_messages(before), generation_prompt=True) or ""
        inside = text.startswith(prompt) and turn.start < len(prompt) <= turn.text_end
        return replace(turn, start=len(prompt)) if inside else turn

    def _locate_texts(self, chat: Chat, text: str, first: tuple[MarkedChat, str] | None) -> UnmarkedText | None:
        """Find the assistant's texts in `text`, the rendered text of `chat`; None if every plan changes the output."""
        if any(_is_assistant(chat.messages, n) and _is_scalar(message) for n, message in enumerate(chat.messages)):
            return None
        found: UnmarkedText | None = None
        for number, plan in enumerate(self._plans(chat.messages)):
            known = None if number or first is None else remove_markers(first[1], first[0])
            unmarked = known or render_marked(self.renderer, add_markers(chat, plan))
            if unmarked is None:
                continue
            torn = any(_is_assistant(chat.messages, source.message) for source in unmarked.torn)
            if unmarked.text != text or torn:
                continue
            if plan.blank or _has_all_answers(unmarked, chat.messages):
                return unmarked
            found = found or unmarked
        return found

    def first_plan(self, chat: Chat) -> MarkedChat | None:
        """Return the conversation marked by the first plan to try; None if it cannot be marked."""
        return add_markers(chat, next(self._plans(chat.messages)))

    def _plans(self, messages: Turns) -> Iterator[MarkerPlan]:
        """Yield the plans to try: first one with blank texts if an answer is blank, and none that leaves out calls."""
        answers = [message for message in messages if message.get("role") == "assistant"]
        if any(_is_blank(message) or _only_reasons(message) for message in answers):
            yield _PLAN_WITH_BLANKS
        has_calls = any(message.get("tool_calls") for message in answers)
        yield from (plan for plan in PLANS if plan.calls or not has_calls)
        if has_calls:
            yield _PLAN_WITH_BLANKS

    def _assistant_turns(self, unmarked: UnmarkedText, chat: Chat) -> list[AssistantTurn] | None:
        """Return the assistant turns in a rendered text; None if a boundary cannot be found."""
        boundaries, turns = self.boundaries(chat), list[AssistantTurn]()
        spans = list(with_repetitions(unmarked, boundaries))
        done = 0
        for own in turns_of(spans, unmarked.text, boundaries):
            message = own[0].source.message
            before = spans[done - 1] if done else None
            done += len(own)
            after = spans[done].start if done < len(spans) else len(unmarked.text)
            if message is None or not _is_assistant(chat.messages, message):
                continue
            if self.options.reasoning == "none" and all(span.source.field == REASONING for span in own):
                continue
            turn = self._turn(unmarked.text, chat.messages, boundaries, own, before, after)
            if turn is None:
                return None
            turns.append(turn)
        return turns

    def _turn(
        self,
        text: str,
        messages: Turns,
        boundaries: TurnBoundaries,
        own: list[TextSpan],
        before: TextSpan | None,
        after: int,
    ) -> AssistantTurn | None:
        """Return the turn of the texts `own`, which are between the text `before` and the offset `after`."""
        message = own[0].source.message
        assert message is not None
        kept = own if self.options.reasoning != "none" else [span for span in own if span.source.field != REASONING]
        previous = own[own.index(kept[0]) - 1] if kept[0] is not own[0] else before
        start = self._start(text, messages, boundaries, kept[0], previous)
        final = message == len(messages) - 1 and not self.renderer.options.generation_prompt
        end = boundaries.closing(text[own[-1].end : after], own[-1].source, final=final)
        if start is None or end is None:
            return None
        if final and boundaries.ends_bare and isinstance(messages[message].get("content"), list):
            length = len(text[own[-1].end : after].rstrip())  # with its images
            end = AnswerEnd(length, length)
        return AssistantTurn(message, start, own[-1].end + end.text, own[-1].end + end.stop)

    def _start(
        self, text: str, messages: Turns, boundaries: TurnBoundaries, first: TextSpan, previous: TextSpan | None
    ) -> int | None:
        """Return where the assistant's part begins whose first text is `first`; None if it cannot be found."""
        floor = previous.end if previous else 0
        if (
            previous is not None
            and previous.source.message == first.source.message
            and not boundaries.is_split(text[floor : first.start], previous.source, first.source)
        ):
            return first.start if first.source.field == CONTENT else _after_tag(text, floor, first.start)
        index = first.source.message or 0
        printed = previous.source.message if previous else None
        before = index - 1 if printed is None else printed
        role = messages[before].get("role") if before >= 0 else None
        block = empty_thinking(messages[index].get("content")) if self.options.reasoning != "none" else ""
        offset = boundaries.opening(text[floor : first.start], previous.source if previous else None, role, block)
        if offset is not None:
            return floor + offset
        return first.start if first.source.field == CONTENT else None

    def _turns_by_prefix(self, chat: Chat, text: str, wanted: Sequence[int]) -> list[AssistantTurn]:
        """Return the turns as differences of prefixes; raises RenderError if the text does not grow turn by turn."""
        if not self.options.whole_turns:
            raise mask_refused("the answer cannot be separated from what the template adds to it", wanted[0])
        turns = []
        for message in wanted:
            before: str | None = ""
            if message:
                before = self.renderer.text_or_none(chat.with_messages(chat.messages[:message]), generation_prompt=True)
            through = self.renderer.text_or_none(chat.with_messages(chat.messages[: message + 1]))
            if (
                before is None
                or through is None
                or not text.startswith(before)
                or not text.startswith(through.rstrip())
            ):
                raise mask_refused("the template prints earlier turns differently when a turn is added", message)
            end = len(through.rstrip())
            turns.append(AssistantTurn(message, len(before), end, end))
        return turns


def render_marked(renderer: TemplateRenderer, marked: MarkedChat | None) -> UnmarkedText | None:
    """Render a conversation with markers and remove them; None if it has none, or if the template refuses it."""
    rendered = renderer.text_or_none(marked.chat) if marked else None
    return remove_markers(rendered, marked) if marked and rendered is not None else None


def to_chats(column: ConversationBatch) -> list[Chat | None]:
    """Return the conversation of each row with its tools, documents and variables; None for null messages."""
    others = [[None] * len(column) if other is None else json_values(other) for other in column.others]
    rows = zip(decode_conversations(column.messages), *others, strict=True)
    return [
        None if messages is None else Chat(messages, tools, documents, variables or {})
        for messages, tools, documents, variables in rows
    ]


def trained_turns(messages: Turns, options: MaskOptions) -> list[int]:
    """Return the indices of the messages that are trained on."""
    turns = [index for index, message in enumerate(messages) if message.get("role") in options.roles]
    if options.last_turn:
        turns = turns[-1:]
    return [index for index in turns if not options.flags or is_trained(messages[index])]


def _is_assistant(messages: Turns, index: int | None) -> bool:
    return index is not None and messages[index].get("role") == "assistant"


def _has_all_answers(unmarked: UnmarkedText, messages: Turns) -> bool:
    """Return whether a text of each assistant message is found."""
    found = {span.source.message for span in unmarked.spans}
    return all(message in found for message in range(len(messages)) if _is_assistant(messages, message))


def _is_blank(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, str) and not content.strip() and not message.get("tool_calls")


def _only_reasons(message: Mapping[str, Any]) -> bool:
    """Return whether an answer has no text after the reasoning in its content, and no calls."""
    content = message.get("content")
    return isinstance(content, str) and bool(_REASONED.search(content)) and not message.get("tool_calls")


_REASONED = re.compile(r"</think(?:ing)?>\s*\Z")


def _has_media(content: object) -> bool:
    """Return whether a content is a list with parts that are not text."""
    return isinstance(content, list) and any(isinstance(part, Mapping) and "text" not in part for part in content)


def _is_scalar(message: Mapping[str, Any]) -> bool:
    """Return whether the content is a number or a boolean, which a template may print but cannot be marked."""
    return isinstance(message.get("content"), (bool, int, float))


def _after_tag(text: str, start: int, end: int) -> int:
    """Return where a tool call opens after reasoning: after the first closing tag or token between them."""
    closing = _CLOSING_TAG.search(text, start, end)
    return closing.end() if closing else end


_CLOSING_TAG = re.compile(r"</[^<>]{1,40}>\s*|<\|[^<>|]{1,40}\|>\s*|<[a-z_]+\|>\s*")


GENERATION_BLOCKS = "use a template with `{% generation %}` blocks, or drop such rows with --on-error skip"
STOP_LATE = "`--mask-last` trains the last answer, `--no-mask-stop-token` all of them without stop tokens"
"""The hint for several answers of which the last one alone has a stop token."""


def mask_refused(reason: str, message: int | None = None, hint: str = GENERATION_BLOCKS) -> RenderError:
    """Return the RenderError for a conversation whose spans cannot be found."""
    return RenderError(
        f"cannot tell which text is the assistant's: {reason}",
        hint=hint,
        code="mask.refused",
        at=Location(message=message),
    )
