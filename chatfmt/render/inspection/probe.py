"""What a chat template does with a conversation, found by rendering conversations made of words of our own.

Nothing here is guessed from names in the template's text: each line of a card is what happened to a word such as
`qzsystem` in the rendered text. A word that is there was **kept**, one that is not was **dropped**, and where the
template raised an error the conversation was **refused**.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

from ..masks.turn_boundaries import TurnBoundaries, control_tokens, in_parts, shared, words
from ..options import RenderOptions
from ..single import Chat, ConversationRenderer, Source, TemplateRenderer

Fate = Literal["kept", "dropped", "refused"]
DAYS = (datetime.date(2021, 2, 3), datetime.date(2022, 11, 25))


class Change(Struct, frozen=True):
    """One transform that a template needs: its name and value (`--transform NAME=VALUE`), and why."""

    name: str
    value: str
    reason: str


class ProbeCard(Struct, frozen=True):
    """What one template does. Every field is the outcome of a rendering; `as_json` gives them by name."""

    template: str
    works: bool
    """Whether it renders one question and one answer at all; if not, nothing else on the card means anything."""
    needs_parts: bool
    """Whether only content that is a list of parts is printed, and text is not; then the card is about parts."""
    system: Literal["kept", "folded", "dropped", "refused"]
    """A system message in front: `folded` into the user's turn, or kept as a turn of its own."""
    later_system: Literal["kept", "moved", "dropped", "refused"]
    """A system message amid the conversation: `moved` is printed before the turns that came before it."""
    developer: Literal["kept", "as system", "dropped", "refused"]
    unknown_role: Fate
    consecutive_users: Fate
    consecutive_answers: Fate
    alternation: bool
    """Whether turns of one role in a row are refused."""
    leading_assistant: Fate
    tools: Literal["printed", "ignored", "refused"]
    empty_tools: bool
    """Whether an empty list of tools prints something that no list does not."""
    tool_calls: Fate
    arguments: Literal["object", "text", "either", "none"]
    """The shape of a call's arguments that reaches the text as JSON or as what the template makes of it."""
    double_encodes: bool
    """Whether arguments given as text are printed as a JSON string, quotes escaped."""
    parallel_calls: Fate
    tool_ids: Literal["printed", "ignored", "required", "nine characters"]
    """`required`: calls without an id are refused. `nine characters`: so are longer ids."""
    tool_results: Fate
    orphan_results: Fate
    """A tool result that no call asked for."""
    reasoning: Fate
    """`reasoning_content` of the last answer."""
    earlier_reasoning: Fate
    """`reasoning_content` of an answer that a question follows."""
    inline_reasoning: Fate
    """`<think>…</think>` inside the content of the last answer."""
    earlier_inline_reasoning: Fate
    empty_think: bool
    """Whether an answer without reasoning gets an empty thinking block."""
    trims_answers: bool
    trims_questions: bool
    trims_system: bool
    bos: str
    """The BOS token, if the text begins with it: then tokenise with `add_special_tokens=False`."""
    stop_token: str
    """What follows the last answer, and tells a model to stop; empty where nothing does."""
    stop_token_within: str
    """The same for an answer that another turn follows."""
    default_system: str
    """What is printed before the first message of a conversation that has no system message, beyond tokens."""
    reads_date: bool
    prefix_stable: bool
    """Whether the text of two turns begins with the text of one."""
    prompt_is_prefix: bool
    """Whether the text with the generation prompt is how the text with the answer begins."""
    generation_prompt: str
    """What `add_generation_prompt` adds; empty where it has no effect."""
    generation_tags: bool
    text_parts: Literal["kept", "printed as code", "dropped", "refused"]
    """Content that is a list of text parts."""
    null_content: Literal["kept", "printed as None", "refused"]
    """An answer without content."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """The transforms that a conversation with everything in it would need, in the order in which they apply."""
        return tuple(change for change in _changes(self) if change.value)

    @property
    def flags(self) -> tuple[str, ...]:
        """What to add to a command so that ordinary data survives this template, one option each."""
        found = [f"--transform {change.name}={_typed(change.value)}" for change in self.changes]
        return (*found, *(["--bos strip"] if self.bos else ()))

    def as_json(self) -> dict[str, Any]:
        """The card as plain data, `flags` included."""
        return {**asdict(self), "flags": list(self.flags)}


def _typed(value: str) -> str:
    """A value as it is typed in a shell: as JSON, in quotes, where it is more than a word."""
    return value if value.isidentifier() else f"'{json.dumps(value)}'"


def _changes(card: ProbeCard) -> tuple[Change, ...]:
    """Every change there is, with an empty value where the template does not need it."""
    bad = ("dropped", "refused")
    parts, inline = card.text_parts != "kept" and not card.needs_parts, card.inline_reasoning == "kept"
    twice = "would be escaped twice" if card.double_encodes else "do not come out as the template means them"
    asked = {"object": f"arguments given as text {twice}", "text": "arguments of calls must be text"}.get(
        card.arguments, ""
    )
    folded = card.system in bad
    worst = next((fate for fate in (card.consecutive_users, card.consecutive_answers) if fate in bad), "")
    split = card.tool_calls == "kept" and card.parallel_calls in bad
    later = not folded and card.later_system in bad
    ids, why = _ids_wanted(card)
    return (
        Change("developer", "system" * (card.developer in bad), f"the role `developer` is {card.developer}"),
        Change("parts", "flatten" * parts, f"content that is a list of parts is {card.text_parts}"),
        Change("reasoning", "inline" * (card.reasoning in bad and inline), f"`reasoning_content` is {card.reasoning}"),
        Change("arguments", card.arguments if asked else "", asked),
        Change("parallel_calls", "split" * split, f"the second of several calls is {card.parallel_calls}"),
        Change("call_ids", ids, why),
        Change("system_turns", "fold" * folded, f"a system message is {card.system}"),
        Change("later_system", "fold" * later, f"a system message amid the conversation is {card.later_system}"),
        Change("merge", "\n\n" * bool(worst), f"turns of one role in a row are {worst}"),
    )


def _ids_wanted(card: ProbeCard) -> tuple[str, str]:
    return {
        "nine characters": ("nine", "ids of calls that are not nine characters long are refused"),
        "required": ("fill", "calls without an id are refused"),
    }.get(card.tool_ids, ("", ""))


def probe(
    template: Source, variables: Mapping[str, Any] | None = None, sessions: ConversationRenderer | None = None
) -> ProbeCard:
    """The card of a template, rendered with its special tokens and `variables`; a template that fails gets one too."""
    return _Probe(TemplateRenderer(template, RenderOptions(variables=variables or {}), sessions)).card()


def stand_in_system(voice: TemplateRenderer) -> str:
    """The system message that a template puts where a conversation has none; empty for none of its own."""
    return _Probe(voice).stand_in_system()


def encodes_twice(voice: TemplateRenderer) -> bool:
    """Whether the template prints arguments of calls that are text as a JSON string, quotes escaped."""
    return _Probe(voice).encodes_twice()


USER: Mapping[str, Any] = {"role": "user", "content": "qzuser"}
ANSWER: Mapping[str, Any] = {"role": "assistant", "content": "qzanswer"}
AGAIN: Mapping[str, Any] = {"role": "user", "content": "qzagain"}
LAST: Mapping[str, Any] = {"role": "assistant", "content": "qzlast"}
SYSTEM: Mapping[str, Any] = {"role": "system", "content": "qzsystem"}
ARGUMENTS = {"qzkey": "qzvalue"}
ARGUMENTS_TEXT = json.dumps(ARGUMENTS)
CALL_ID = "qzidqzid1"
TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "qztool",
        "description": "qzdescription",
        "parameters": {"type": "object", "properties": {"qzkey": {"type": "string"}}, "required": ["qzkey"]},
    },
}
RESULT: Mapping[str, Any] = {"role": "tool", "name": "qztool", "tool_call_id": CALL_ID, "content": "qzresult"}
THOUGHT: Mapping[str, Any] = {**ANSWER, "reasoning_content": "qzthought"}
INLINE: Mapping[str, Any] = {**ANSWER, "content": "<think>\nqzthought\n</think>\n\nqzanswer"}


def calling(arguments: Any, *, id: str | None = CALL_ID, name: str = "qztool") -> dict[str, Any]:
    """An assistant's message with one call and no content."""
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": id, **call} if id else call]}


class _Probe:
    """One template under questions; each method answers one line of the card."""

    def __init__(self, voice: TemplateRenderer) -> None:
        self.voice, self.tokens = voice, control_tokens(voice)
        self.in_parts = False
        self.plain = self.say(USER, ANSWER) or ""
        if not _works(self.plain) and _works(parts := self.say(in_parts(USER), in_parts(ANSWER)) or ""):
            self.in_parts, self.plain = True, parts

    @cached_property
    def cuts(self) -> TurnBoundaries:
        return TurnBoundaries(self.voice)

    def say(self, *turns: Mapping[str, Any], tools: Any = None, prompt: bool = False) -> str | None:
        if self.in_parts:
            turns = tuple(in_parts(turn) for turn in turns)
        return self.voice.text_or_none(Chat(turns, tools), generation_prompt=prompt)

    def fate(self, word: str, *turns: Mapping[str, Any], tools: Any = None) -> Fate:
        text = self.say(*turns, tools=tools)
        return "refused" if text is None else "kept" if word in text else "dropped"

    def card(self) -> ProbeCard:
        return ProbeCard(
            template=self.voice.template.name,
            works=_works(self.plain),
            needs_parts=self.in_parts,
            **self.roles(),
            **self.calls(),
            **self.thoughts(),
            **self.spaces(),
            **self.frame(),
            **self.shapes(),
        )

    def roles(self) -> dict[str, Any]:
        users, answers = self.fate("qzagain", USER, AGAIN, LAST), self.fate("qzlast", USER, ANSWER, LAST)
        return {
            "system": self.system(),
            "later_system": self.later_system(),
            "developer": self.developer(),
            "unknown_role": self.fate("qzstranger", {"role": "narrator", "content": "qzstranger"}, USER, ANSWER),
            "consecutive_users": users,
            "consecutive_answers": answers,
            "alternation": users == answers == "refused",
            "leading_assistant": self.fate("qzanswer", ANSWER, USER, LAST),
        }

    def system(self) -> Literal["kept", "folded", "dropped", "refused"]:
        text = self.say(SYSTEM, USER, ANSWER)
        if text is None:
            return "refused"
        if "qzsystem" not in text:
            return "dropped"
        before, _, rest = text.partition("qzsystem")
        between, opening = rest.partition("qzuser")[0], self.plain.partition("qzuser")[0]
        if "qzuser" not in rest or before.startswith(opening):
            return "folded"
        return "folded" if _ending(before, opening) > _ending(between, opening) else "kept"

    def later_system(self) -> Literal["kept", "moved", "dropped", "refused"]:
        turns = (USER, ANSWER, SYSTEM, AGAIN, LAST)
        fate, text = self.fate("qzsystem", *turns), self.say(*turns) or ""
        if fate == "kept" and "qzanswer" in text.partition("qzsystem")[2]:
            return "moved"
        return fate

    def developer(self) -> Literal["kept", "as system", "dropped", "refused"]:
        told: dict[str, Any] = {"role": "developer", "content": "qzsystem"}
        fate = self.fate("qzsystem", told, USER, ANSWER)
        same = self.say(told, USER, ANSWER) == self.say(SYSTEM, USER, ANSWER)
        return "as system" if fate == "kept" and same else fate

    def calls(self) -> dict[str, Any]:
        arguments = self.arguments()
        shape: Any = ARGUMENTS_TEXT if arguments == "text" else ARGUMENTS
        result = {**RESULT}
        tools = self.say(USER, ANSWER, tools=[TOOL])
        none = self.say(USER, ANSWER, tools=None)
        return {
            "tools": "refused" if tools is None else "printed" if "qztool" in tools else "ignored",
            "empty_tools": none is not None and self.say(USER, ANSWER, tools=[]) != none,
            "tool_calls": self.called(USER, calling(shape), result, LAST),
            "arguments": arguments,
            "double_encodes": self.encodes_twice(),
            "parallel_calls": self.parallel(shape),
            "tool_ids": self.ids(shape),
            "tool_results": self.fate("qzresult", USER, calling(shape), result, LAST, tools=[TOOL]),
            "orphan_results": self.fate("qzresult", USER, result, LAST),
        }

    def encodes_twice(self) -> bool:
        text = self.say(USER, calling(ARGUMENTS_TEXT), RESULT, LAST, tools=[TOOL])
        return text is not None and json.dumps(ARGUMENTS_TEXT)[1:-1] in text

    def called(self, *turns: Mapping[str, Any]) -> Fate:
        """What becomes of a call, by its arguments: the tool's name is printed with the tools as well."""
        return self.fate("qzvalue", *turns, tools=[TOOL])

    def arguments(self) -> Literal["object", "text", "either", "none"]:
        """The shape that survives the round trip; an object printed as Python code does not."""
        as_object = self.say(USER, calling(ARGUMENTS), RESULT, LAST, tools=[TOOL])
        as_text = self.say(USER, calling(ARGUMENTS_TEXT), RESULT, LAST, tools=[TOOL])
        good = as_object is not None and "qzvalue" in as_object and repr(ARGUMENTS) not in as_object
        exact = as_text is not None and ARGUMENTS_TEXT in as_text
        if good:
            return "either" if as_object == as_text else "object"
        return "text" if exact else "none"

    def parallel(self, shape: Any) -> Fate:
        second = calling(shape, id="qzidqzid2", name="qzsecond")["tool_calls"]
        both = calling(shape)
        both["tool_calls"] = [*both["tool_calls"], *second]
        answers = (RESULT, {**RESULT, "name": "qzsecond", "tool_call_id": "qzidqzid2", "content": "qzother"})
        return self.fate("qzsecond", USER, both, *answers, LAST, tools=[TOOL])

    def ids(self, shape: Any) -> Literal["printed", "ignored", "required", "nine characters"]:
        bare = {key: value for key, value in RESULT.items() if key != "tool_call_id"}
        long = "qzidqzid1-and-more"
        with_id = self.say(USER, calling(shape), RESULT, LAST, tools=[TOOL])
        if with_id is None:
            return "ignored"
        if self.say(USER, calling(shape, id=long), {**RESULT, "tool_call_id": long}, LAST, tools=[TOOL]) is None:
            return "nine characters"
        if self.say(USER, calling(shape, id=None), bare, LAST, tools=[TOOL]) is None:
            return "required"
        return "printed" if CALL_ID in with_id else "ignored"

    def thoughts(self) -> dict[str, Any]:
        return {
            "reasoning": self.fate("qzthought", USER, THOUGHT),
            "earlier_reasoning": self.fate("qzthought", USER, THOUGHT, AGAIN, LAST),
            "inline_reasoning": self.fate("qzthought", USER, INLINE),
            "earlier_inline_reasoning": self.fate("qzthought", USER, INLINE, AGAIN, LAST),
            "empty_think": self.empty_think(),
        }

    def empty_think(self) -> bool:
        """Whether an answer without reasoning has both what opens reasoning and what closes it in front of it."""
        before = self.plain.partition("qzuser")[2].partition("qzanswer")[0]
        for turn in (THOUGHT, INLINE):
            opening, _, rest = (self.say(USER, turn) or "").partition("qzuser")[2].partition("qzthought")
            closing = rest.partition("qzanswer")[0].strip()
            if closing and before[len(shared(opening, before)) :].strip().endswith(closing):
                return True
        return False

    def spaces(self) -> dict[str, Any]:
        return {
            "trims_answers": self.trims(ANSWER, USER, None),
            "trims_questions": self.trims(USER, None, ANSWER),
            "trims_system": self.trims(SYSTEM, None, USER, ANSWER),
        }

    def trims(self, turn: Mapping[str, Any], *around: Mapping[str, Any] | None) -> bool:
        """Whether blanks around a text are gone; `around` is the conversation, None where the turn belongs."""
        word = turn["content"]
        padded = {**turn, "content": f" \t{word} \t"}
        front = around[0] is None
        others = [other for other in around if other is not None]
        text = self.say(padded, *others) if front else self.say(*others, padded)
        return text is not None and word in text and f" \t{word} \t" not in text

    def frame(self) -> dict[str, Any]:
        prompt, longer = self.say(USER, prompt=True), self.say(USER, ANSWER, AGAIN, LAST)
        return {
            "bos": self.bos(),
            "stop_token": self.stop(within=False),
            "stop_token_within": self.stop(within=True),
            "default_system": self.default_system(),
            "reads_date": self.reads_date(),
            "prefix_stable": longer is not None and bool(self.plain) and longer.startswith(self.plain),
            "prompt_is_prefix": prompt is not None and self.plain.startswith(prompt),
            "generation_prompt": self.added(prompt or "", self.say(USER) or ""),
            "generation_tags": self.voice.has_generation_tag(),
        }

    def added(self, prompt: str, question: str) -> str:
        """What the generation prompt adds after the question."""
        tail, plain = prompt.partition("qzuser")[2], question.partition("qzuser")[2]
        return tail[len(self.cuts.whole_tokens(shared(tail, plain), tail)) :]

    def bos(self) -> str:
        """The BOS token, if it begins the text: the one that is configured, or one that is written in the template."""
        bos = self.voice.special_tokens.get("bos_token", "")
        return bos if bos and self.plain.startswith(bos) else ""

    def stop(self, *, within: bool) -> str:
        return self.cuts.stop_after_answer(final=not within)

    def default_system(self) -> str:
        """The literal before the first user's text, without its header, if it says more than tokens."""
        opening, later = self.plain.partition("qzuser")[0], self.say(USER, ANSWER, AGAIN, LAST) or ""
        header = later.partition("qzanswer")[2].partition("qzagain")[0]
        preamble = opening[: len(opening) - _ending(opening, header)] if header else opening
        return preamble if len(words(preamble, self.tokens)) > 1 else ""

    def stand_in_system(self) -> str:
        """What of the default stands in the place of a system message, and not beside one."""
        if not self.plain:
            return ""
        default, told = self.default_system(), (self.say(SYSTEM, USER, ANSWER) or "").partition("qzsystem")[0]
        stand_in = default[len(shared(default, told)) :]
        return stand_in.strip() if words(stand_in, self.tokens) else ""

    def reads_date(self) -> bool:
        options = [replace(self.voice.options, date=day) for day in DAYS]
        voices = [TemplateRenderer(self.voice.template, each, self.voice.sessions) for each in options]
        turns = [in_parts(turn) if self.in_parts else turn for turn in (USER, ANSWER)]
        texts = [voice.text_or_none(Chat(turns)) for voice in voices]
        return texts[0] != texts[1]

    def shapes(self) -> dict[str, Any]:
        parts = [{"type": "text", "text": "qzuser"}]
        text = self.say({**USER, "content": parts}, ANSWER)
        silent = self.say(USER, {"role": "assistant", "content": None})
        return {
            "text_parts": self.parts(text),
            "null_content": "refused" if silent is None else "printed as None" if "None" in silent else "kept",
        }

    def parts(self, text: str | None) -> Literal["kept", "printed as code", "dropped", "refused"]:
        if text is None:
            return "refused"
        if "qzuser" not in text:
            return "dropped"
        return "printed as code" if "'qzuser'" in text or '"qzuser"' in text else "kept"


def _works(text: str) -> bool:
    """Whether a question and an answer are both printed."""
    return "qzuser" in text and "qzanswer" in text


def _ending(one: str, other: str) -> int:
    """How many characters two texts end with alike."""
    return len(shared(one[::-1], other[::-1]))
