"""Probe what a chat template does with a conversation, by rendering conversations of made-up words.

Nothing is guessed from the template's source: each field of the card is what happened to a word such as `qzsystem`. A
word in the output was **kept**, one that is missing was **dropped**, and where the template raised an error the
conversation was **refused**.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, get_args

from msgspec.structs import replace

from ..jinja.environment import sandbox
from ..masks.turn_boundaries import THINKING, TurnBoundaries, as_parts, common_prefix, control_token_pattern, words
from ..options import RenderOptions
from ..single import Chat, ConversationRenderer, TemplateRenderer
from ..template.chat_template import ChatTemplate
from .probe_card import (
    ArgumentsForm,
    CallIdHandling,
    DeveloperHandling,
    Handling,
    LaterSystemHandling,
    NullHandling,
    PartsHandling,
    ProbeCard,
    SystemHandling,
    ToolsHandling,
)
from .sample_conversations import (
    ANSWER,
    ARGUMENTS,
    ARGUMENTS_TEXT,
    CALL_ID,
    DEVELOPER,
    INLINE_REASONING,
    NARRATOR,
    REASONING,
    RESULT,
    SECOND_ANSWER,
    SECOND_SYSTEM,
    SECOND_USER,
    SYSTEM,
    TOOL,
    USER,
    tool_call,
    usual_conversations,
)

SHOWN = 40
"""Characters of the start of a text that the card shows."""
_THINK_TAG = re.compile(r"</?[\w:]*think[\w:]*>")
DAYS = (datetime.date(2021, 2, 3), datetime.date(2022, 11, 25))


def probe(
    template: ChatTemplate, variables: Mapping[str, Any] | None = None, sessions: ConversationRenderer | None = None
) -> ProbeCard:
    """Return the card of a template, rendered with its special tokens and `variables`.

    A template that fails gets a card too (`works` is False).
    """
    return Probe(TemplateRenderer(template, RenderOptions(variables=variables or {}), sessions)).card()


def lacks_token(renderer: TemplateRenderer, name: str) -> bool:
    """Return whether usual conversations lack something, or raise, because the special token `name` has no value.

    A template that prints something else in its place, as by `default('</s>')`, lacks nothing.
    """
    options = replace(renderer.options, variables={**renderer.options.variables, name: "qztoken"})
    found = [each.outcomes(usual_conversations()) for each in (renderer, replace(renderer, options=options))]
    return any(
        isinstance(wanted, str) and text != wanted
        and (not isinstance(text, str) or len(text) <= len(wanted.replace("qztoken", "")))
        for text, wanted in zip(*found, strict=True)
    )  # fmt: skip


_BLANKS = re.compile(r"(?:\A|\n)(?: {2,}|[ \t]*\t)")


def indented_line(renderer: TemplateRenderer) -> int | None:
    """Return the number of the first line whose indentation is part of the text of an exchange; None without one."""
    if not re.search(r" {2,}|\t", Probe(renderer)._plain):
        return None
    for source in renderer.template.texts:
        lines = source.split("\n")
        for first, kind, text in sandbox().lex(source):
            for found in _BLANKS.finditer(text) if kind == "data" else ():
                line = first + text[: found.end()].count("\n")
                if lines[line - 1].startswith((" ", "\t")):
                    return line
    return None


def text_ends(renderer: TemplateRenderer) -> tuple[str, str]:
    """Return the BOS token that texts begin with and a tokenizer may add again, and what follows the last answer."""
    found = Probe(renderer)
    return "" if found.bos_opens_turns() else found.bos(), found.ends_with()


def encodes_twice(renderer: TemplateRenderer) -> bool:
    """Return whether the template prints tool call arguments given as text as a JSON string, with escaped quotes."""
    return Probe(renderer).double_encodes()


def reprints_answers(renderer: TemplateRenderer, *, if_followed: bool) -> bool:
    """Return whether the text of a question with its generation prompt is not where an answered question begins.

    With `if_followed` also whether the text of an answer is not where a conversation begins that goes on.
    """
    found = Probe(renderer)
    pairs = [(found._render(USER, prompt=True), found._plain)]
    pairs += [(found._plain.rstrip(), found._two_exchanges)] if if_followed else []
    return any(start and text and not text.startswith(start) for start, text in pairs)


def open_thinking(renderer: TemplateRenderer, system: str) -> str:
    """Say that the template opens a block of reasoning before an answer without any and leaves it open; empty if not.

    `system` is the system message of the conversation, if it is not empty.
    """
    if not any("think" in text for text in renderer.template.texts):
        return ""
    found = Probe(renderer)
    tag = _open_tag(found._render({**SYSTEM, "content": system}, USER, ANSWER) if system else found._plain)
    if not tag:
        return ""
    is_closed = not _open_tag(found._render({**SYSTEM, "content": "/no_think"}, USER, ANSWER))
    remedy = ": `/no_think` in the system text closes it" if is_closed else ""
    return f"the template `{renderer.template.name}` leaves `{tag}` open before answers without reasoning{remedy}"


def _open_tag(text: str | None) -> str:
    """Return the tag of reasoning between a question and its answer that nothing closes; empty without one."""
    *_, last = "", *_THINK_TAG.findall((text or "").partition("qzanswer")[0].rpartition("qzuser")[2])
    return "" if last.startswith("</") else last


def calls_change_results(renderer: TemplateRenderer) -> bool:
    """Return whether the template prints what follows a call otherwise if an answer is in place of the call."""
    found = Probe(renderer)
    user, call, *rest = found._exchange()
    chats = (user, call, *rest), (user, ANSWER, *rest), (user, call), (user, call, SECOND_USER)
    called, answered, *alone = (found._render(*turns, tools=[TOOL]) or "" for turns in chats)
    end = len(called) - _common_suffix_length(called, answered)
    return bool(answered) and end > max(len(common_prefix(called, text)) for text in alone)


class Probe:
    """One template under test. Each public method finds the value of the card's field of its name."""

    def __init__(self, renderer: TemplateRenderer) -> None:
        self._renderer, self._tokens = renderer, control_token_pattern(renderer)
        self._in_parts = False
        self._plain = self._render(USER, ANSWER) or ""
        if not _has_both(self._plain) and _has_both(parts := self._render(as_parts(USER), as_parts(ANSWER)) or ""):
            self._in_parts, self._plain = True, parts

    @cached_property
    def _boundaries(self) -> TurnBoundaries:
        return TurnBoundaries(self._renderer)

    def _render(self, *turns: Mapping[str, Any], tools: Any = None, prompt: bool = False) -> str | None:
        if self._in_parts:
            turns = tuple(map(as_parts, turns))
        return self._renderer.text_or_none(Chat(turns, tools), generation_prompt=prompt)

    def _handling(self, word: str, *turns: Mapping[str, Any], tools: Any = None) -> Handling:
        text = self._render(*turns, tools=tools)
        return "refused" if text is None else "kept" if word in text else "dropped"

    def card(self) -> ProbeCard:
        lines = {**self._messages(), **self._tool_use(), **self._reasoning(), **self._text(), **self._boundary_lines()}
        return ProbeCard(template=self._renderer.template.name, **lines)

    def _messages(self) -> dict[str, Any]:
        """Return the lines of the card on messages and their roles."""
        users = self._handling("qzagain", USER, SECOND_USER, SECOND_ANSWER)
        answers = self._handling("qzlast", USER, ANSWER, SECOND_ANSWER)
        return {
            "works": _has_both(self._plain),
            "needs_parts": self._in_parts,
            "system": self.system(),
            "later_system": self.later_system(),
            "developer": self.developer(),
            "several_systems": self.several_systems(),
            "unknown_role": self._handling("qznarrator", NARRATOR, USER, ANSWER),
            "consecutive_users": users,
            "consecutive_answers": answers,
            "alternation": users == answers == "refused",
            "leading_assistant": self._handling("qzanswer", ANSWER, USER, SECOND_ANSWER),
            "text_parts": self.text_parts(),
            "parts_joint": self.parts_joint(),
            "null_content": self.null_content(),
        }

    def _tool_use(self) -> dict[str, Any]:
        """Return the lines on tools, calls and results."""
        called, asked = self._exchange()[:-1], (SECOND_USER, SECOND_ANSWER)
        return {
            "tools": self.tools(),
            "empty_tools": self.empty_tools(),
            "tool_calls": self._handling("qzvalue", *self._exchange(), tools=[TOOL]),
            "arguments": self.arguments,
            "call_content": self.call_content(),
            "double_encodes": self.double_encodes(),
            "parallel_calls": self.parallel_calls(),
            "tool_ids": self.tool_ids(),
            "tool_results": self._handling("qzresult", *self._exchange(), tools=[TOOL]),
            "orphan_results": self._handling("qzresult", USER, RESULT, SECOND_ANSWER),
            "user_after_result": self._handling("qzagain", *called, *asked, tools=[TOOL]),
            "empty_answer": self._handling("qzagain", *called, {**ANSWER, "content": ""}, *asked, tools=[TOOL]),
        }

    def _reasoning(self) -> dict[str, Any]:
        later = (SECOND_USER, SECOND_ANSWER)
        return {
            "reasoning": self._handling("qzthought", USER, REASONING),
            "earlier_reasoning": self._handling("qzthought", USER, REASONING, *later),
            "inline_reasoning": self._handling("qzthought", USER, INLINE_REASONING),
            "earlier_inline_reasoning": self._handling("qzthought", USER, INLINE_REASONING, *later),
            "stacks_reasoning": self.stacks_reasoning(),
            "reasoning_variable": self.reasoning_variable(),
            "empty_think": self.empty_think(),
        }

    def _text(self) -> dict[str, Any]:
        """Return the lines on what is trimmed and what is added."""
        return {
            "trims_answers": self._trims("qzanswer", USER, ANSWER),
            "trims_questions": self._trims("qzuser", USER, ANSWER),
            "trims_system": self._trims("qzsystem", SYSTEM, USER, ANSWER),
            "default_system": self.default_system(),
            "reads_date": self.reads_date(),
        }

    def _boundary_lines(self) -> dict[str, Any]:
        """Return the lines on where text, turns and answers begin and end."""
        return {
            "bos": self.bos(),
            "bos_opens_turns": self.bos_opens_turns(),
            "begins_with": self._plain.partition("qzuser")[0][:SHOWN],
            "ends_with": self.ends_with(),
            "stop_token": self._boundaries.stop_after_answer(final=True),
            "stop_token_within": self._boundaries.stop_after_answer(final=False),
            "prefix_stable": bool(self._plain) and self._two_exchanges.startswith(self._plain),
            "prompt_is_prefix": self.prompt_is_prefix(),
            "generation_prompt": self.generation_prompt(),
            "generation_tags": self._renderer.has_generation_tag(),
        }

    @cached_property
    def _two_exchanges(self) -> str:
        return self._render(USER, ANSWER, SECOND_USER, SECOND_ANSWER) or ""

    def system(self) -> SystemHandling:
        text = self._render(SYSTEM, USER, ANSWER)
        if text is None:
            return "refused"
        if "qzsystem" not in text:
            return "dropped"
        before, _, rest = text.partition("qzsystem")
        between, opening = rest.partition("qzuser")[0], self._plain.partition("qzuser")[0]
        if "qzuser" not in rest or before.startswith(opening):
            return "folded"
        return "folded" if _common_suffix_length(before, opening) > _common_suffix_length(between, opening) else "kept"

    def later_system(self) -> LaterSystemHandling:
        text = self._render(USER, ANSWER, SYSTEM, SECOND_USER, SECOND_ANSWER)
        if text is None:
            return "refused"
        if "qzsystem" not in text:
            return "dropped"
        second = self._handling("qzsystem", SECOND_SYSTEM, USER, ANSWER, SYSTEM, SECOND_USER, SECOND_ANSWER)
        first = self._handling("qzother", SECOND_SYSTEM, USER, ANSWER, SYSTEM, SECOND_USER, SECOND_ANSWER)
        if self.system() in ("kept", "folded") and {first, second} != {"kept"}:
            return second if first == "kept" else first
        return "moved" if "qzanswer" in text.partition("qzsystem")[2] else "kept"

    def several_systems(self) -> Handling:
        """Return what becomes of two system messages at the start, and of one beside a developer message it takes."""
        pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [(SYSTEM, SECOND_SYSTEM)]
        if self.developer() in ("kept", "as system"):
            pairs += [(DEVELOPER, SECOND_SYSTEM), (SECOND_SYSTEM, DEVELOPER)]
        found = [self._handling(word, *pair, USER, ANSWER) for pair in pairs for word in ("qzsystem", "qzother")]
        return "refused" if "refused" in found else "dropped" if "dropped" in found else "kept"

    def developer(self) -> DeveloperHandling:
        handling = self._handling("qzsystem", DEVELOPER, USER, ANSWER)
        same = self._render(DEVELOPER, USER, ANSWER) == self._render(SYSTEM, USER, ANSWER)
        return "as system" if handling == "kept" and same else handling

    def tools(self) -> ToolsHandling:
        text = self._render(USER, ANSWER, tools=[TOOL])
        return "refused" if text is None else "printed" if "qztool" in text else "ignored"

    def empty_tools(self) -> bool:
        without = self._render(USER, ANSWER, tools=None)
        return without is not None and self._render(USER, ANSWER, tools=[]) != without

    @cached_property
    def arguments(self) -> ArgumentsForm:
        """The form that survives the round trip; an object printed as Python code does not."""
        as_object = self._render(USER, tool_call(ARGUMENTS), RESULT, SECOND_ANSWER, tools=[TOOL])
        as_text = self._render(USER, tool_call(ARGUMENTS_TEXT), RESULT, SECOND_ANSWER, tools=[TOOL])
        if as_object is not None and "qzvalue" in as_object and repr(ARGUMENTS) not in as_object:
            return "either" if as_object == as_text else "object"
        return "text" if as_text is not None and ARGUMENTS_TEXT in as_text else "none"

    def double_encodes(self) -> bool:
        text = self._render(USER, tool_call(ARGUMENTS_TEXT), RESULT, SECOND_ANSWER, tools=[TOOL])
        return text is not None and json.dumps(ARGUMENTS_TEXT)[1:-1] in text

    def _tool_call(self, id: str | None = CALL_ID, name: str = "qztool") -> dict[str, Any]:
        """Return a tool call with arguments in the form that the template prints."""
        return tool_call(ARGUMENTS_TEXT if self.arguments == "text" else ARGUMENTS, id=id, name=name)

    def _exchange(self, id: str | None = CALL_ID) -> tuple[Mapping[str, Any], ...]:
        """Return a question, a tool call, its result and an answer; call and result have the `id`, if any."""
        result = {key: id if key == "tool_call_id" else value for key, value in RESULT.items()}
        return USER, self._tool_call(id), {key: value for key, value in result.items() if value}, SECOND_ANSWER

    def parallel_calls(self) -> Handling:
        both = self._tool_call()
        id = "functions.qzsecond:1" if self.tool_ids() == "for the name" else "qzidqzid2"
        both["tool_calls"] += self._tool_call(id, "qzsecond")["tool_calls"]
        second = {**RESULT, "name": "qzsecond", "tool_call_id": id, "content": "qzother"}
        return self._handling("qzsecond", USER, both, RESULT, second, SECOND_ANSWER, tools=[TOOL])

    def tool_ids(self) -> CallIdHandling:
        text = self._render(*self._exchange(), tools=[TOOL])
        if text is None:
            return "ignored"
        if self._render(*self._exchange("qzidqzid1-and-more"), tools=[TOOL]) is None:
            return "nine characters"
        if self._render(*self._exchange(None), tools=[TOOL]) is None:
            return "required"
        named = "functions.qzsecond:0"
        if "qzsecond" not in (self._render(USER, self._tool_call(name="qzsecond")) or "qzsecond") and named in (
            self._render(USER, self._tool_call(named, "qzsecond")) or ""
        ):
            return "for the name"
        return "printed" if CALL_ID in text else "ignored"

    def empty_think(self) -> bool:
        """Return whether an answer without reasoning is preceded by both the opening and the closing of reasoning."""
        before = self._plain.partition("qzuser")[2].partition("qzanswer")[0]
        for turn in (REASONING, INLINE_REASONING):
            opening, _, rest = (self._render(USER, turn) or "").partition("qzuser")[2].partition("qzthought")
            closing = rest.partition("qzanswer")[0].strip()
            if closing and before[len(common_prefix(opening, before)) :].strip().endswith(closing):
                return True
        return False

    def stacks_reasoning(self) -> bool:
        text = self._render(USER, INLINE_REASONING) or ""
        return len(_THINK_TAG.findall(text.partition("qzuser")[2].partition("qzthought")[0])) > 1

    def reasoning_variable(self) -> str:
        if self._handling("qzthought", USER, REASONING) == "kept":
            return ""
        options, texts = self._renderer.options, self._renderer.template.texts
        for name in THINKING:
            if name not in options.variables and any(name in text for text in texts):
                variables = {**options.variables, name: True}
                given = Probe(replace(self._renderer, options=replace(options, variables=variables)))
                if given._handling("qzthought", USER, REASONING) == "kept":
                    return name
        return ""

    def _trims(self, word: str, *turns: Mapping[str, Any]) -> bool:
        """Return whether whitespace around the content `word` is removed from the conversation `turns`."""
        padded = f" \t{word} \t"
        text = self._render(*({**turn, "content": padded} if turn["content"] == word else turn for turn in turns))
        return text is not None and word in text and padded not in text

    def bos(self) -> str:
        """Return the configured BOS token if the text begins with it, whether printed or literal in the template."""
        bos = self._renderer.special_tokens.get("bos_token", "")
        return bos if bos and self._plain.startswith(bos) else ""

    def bos_opens_turns(self) -> bool:
        """Return whether the template uses its BOS token within an exchange too, to open or to end turns.

        SmolLM2's `<|im_start|>` and OLMo 2's `<|endoftext|>` are such tokens, and the tokenizers of these models add
        none. The `<s>` of Llama 2, which opens each exchange, is not.
        """
        bos = self._renderer.special_tokens.get("bos_token", "")
        return bool(bos) and bos in self._plain.partition("qzuser")[2]

    def ends_with(self) -> str:
        return self._plain.rpartition("qzanswer")[2]

    def default_system(self) -> str:
        """Return the text before the first user turn, without the turn's header, if it holds more than tokens."""
        opening = self._plain.partition("qzuser")[0]
        header = self._two_exchanges.partition("qzanswer")[2].partition("qzagain")[0]
        preamble = opening[: len(opening) - _common_suffix_length(opening, header)] if header else opening
        return preamble if len(words(preamble, self._tokens)) > 1 else ""

    def stand_in_system(self) -> str:
        """Return the part of the default system text that a system message replaces; empty if there is none."""
        if not _has_both(self._plain):
            return ""
        default = self.default_system()
        replaced = (self._render(SYSTEM, USER, ANSWER) or "").partition("qzsystem")[0]
        stand_in = default[len(common_prefix(default, replaced)) :]
        return stand_in.strip() if words(stand_in, self._tokens) else ""

    def reads_date(self) -> bool:
        turns = [as_parts(turn) if self._in_parts else turn for turn in (USER, ANSWER)]
        options = [replace(self._renderer.options, date=day) for day in DAYS]
        first, second = (replace(self._renderer, options=each).text_or_none(Chat(turns)) for each in options)
        return first != second

    def prompt_is_prefix(self) -> bool:
        prompt = self._render(USER, prompt=True)
        return prompt is not None and self._plain.startswith(prompt)

    def generation_prompt(self) -> str:
        with_prompt = (self._render(USER, prompt=True) or "").partition("qzuser")[2]
        without = (self._render(USER) or "").partition("qzuser")[2]
        return with_prompt[len(self._boundaries.whole_tokens(common_prefix(with_prompt, without), with_prompt)) :]

    def text_parts(self) -> PartsHandling:
        if (plain := self._handling("qzuser", USER, ANSWER)) != "kept":
            return plain
        found = [self._parts(SYSTEM, USER, ANSWER), self._parts(USER, ANSWER), self._parts(ANSWER, before=(USER,))]
        *called, result, answer = self._exchange()
        found.append(self._parts(result, answer, before=called, tools=[TOOL]))
        return min(found, key=get_args(PartsHandling)[::-1].index)

    def _parts(
        self,
        turn: Mapping[str, Any],
        *after: Mapping[str, Any],
        before: Sequence[Mapping[str, Any]] = (),
        tools: Any = None,
    ) -> PartsHandling:
        """Return what becomes of two text parts in a message whose text is printed; `kept` if it is not."""
        if self._handling(turn["content"], *before, turn, *after, tools=tools) != "kept":
            return "kept"
        text = self._render(*before, _two_parts(turn), *after, tools=tools)
        if text is None:
            return "refused"
        if turn["content"] not in text or "qzother" not in text:
            return "dropped"
        return "printed as code" if "'qzother'" in text or '"qzother"' in text else "kept"

    def parts_joint(self) -> str:
        text = self._render(_two_parts(USER), ANSWER) or ""
        return text.partition("qzuser")[2].partition("qzother")[0] if self._parts(USER, ANSWER) == "kept" else ""

    def null_content(self) -> NullHandling:
        return _null_handling(self._render(USER, {"role": "assistant", "content": None}))

    def call_content(self) -> NullHandling:
        question, call, *rest = self._exchange()
        if self._handling("qzvalue", question, call, *rest, tools=[TOOL]) != "kept":
            return "kept"
        return _null_handling(self._render(question, {**call, "content": None}, *rest, tools=[TOOL]))


def _null_handling(text: str | None) -> NullHandling:
    return "refused" if text is None else "printed as None" if "None" in text else "kept"


def _two_parts(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**turn, "content": [{"type": "text", "text": text} for text in (turn["content"], "qzother")]}


def _has_both(text: str) -> bool:
    """Return whether both the question and the answer are in the text."""
    return "qzuser" in text and "qzanswer" in text


def _common_suffix_length(one: str, other: str) -> int:
    return len(common_prefix(one[::-1], other[::-1]))
