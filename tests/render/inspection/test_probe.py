"""Probe cards: ten golden files, and each field confirmed by renderings with other words."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields, replace

from chatfmt.render.inspection.probe import probe
from chatfmt.render.inspection.probe_card import ProbeCard, SuggestedTransform
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template.chat_template import ChatTemplate
from tests.conftest import sampled
from tests.render.templates import (
    BUILT_IN,
    CHATML,
    NO_STOP,
    NO_SYSTEM,
    THINKER,
    TOKENS,
    WEATHER,
    call,
    known_templates,
    say,
    template_renderer,
)

GOLDENS = Path(__file__).parents[2] / "goldens" / "probe"
TEN = ("chatml", "llama-3.1", "llama-2", "gemma", "mistral", "qwen3", "gpt-oss", "deepseek-v3", "phi-4", "glm-4.5")
"""Built-in templates with golden cards; they differ in nearly every field."""

QUESTION, ANSWER, SECOND_QUESTION, SECOND_ANSWER = (
    say("user", "Wieviel?"),
    say("assistant", "Elf."),
    say("user", "Und?"),
    say("assistant", "Zwo."),
)
SYSTEM = say("system", "Bleib ernst")
ARGUMENTS = {"place": "Ulm"}
RESULT = say("tool", "Nebel", name="forecast", tool_call_id="call00001")


def golden(name: str) -> ProbeCard:
    data = json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))
    return ProbeCard(**{key: value for key, value in data.items() if key != "flags"})


@pytest.mark.parametrize("name", TEN)
def test_the_card_of_a_well_known_template(name: str) -> None:
    """CHATFMT_UPDATE_GOLDENS=1 rewrites the golden files."""
    card = probe(ChatTemplate(name, (BUILT_IN / f"{name}.jinja").read_text("utf-8"), TOKENS))
    text = json.dumps(card.as_json(), ensure_ascii=False, indent=1) + "\n"
    file = GOLDENS / f"{name}.json"
    if os.environ.get("CHATFMT_UPDATE_GOLDENS"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text


class KnownTemplate:
    """A built-in template, rendered with words that the probe does not use."""

    def __init__(self, name: str) -> None:
        self.renderer: TemplateRenderer = template_renderer((BUILT_IN / f"{name}.jinja").read_text("utf-8"), name)

    def render(self, *turns: dict[str, Any], tools: Any = None, prompt: bool = False) -> str | None:
        return self.renderer.text_or_none(Chat(turns, tools), generation_prompt=prompt)

    def handling(self, word: str, *turns: dict[str, Any], tools: Any = None) -> str:
        text = self.render(*turns, tools=tools)
        return "refused" if text is None else "kept" if word in text else "dropped"

    def call(self, arguments: Any, id: str = "call00001") -> str:
        calling = say("assistant", "", tool_calls=[call("forecast", arguments, id)])
        return self.render(QUESTION, calling, {**RESULT, "tool_call_id": id}, SECOND_ANSWER, tools=[WEATHER]) or ""

    def arguments(self, card: ProbeCard) -> Any:
        return json.dumps(ARGUMENTS) if card.arguments == "text" else ARGUMENTS


def _system(template: KnownTemplate, card: ProbeCard) -> bool:
    if card.system in ("dropped", "refused"):
        return template.handling("Bleib ernst", SYSTEM, QUESTION, ANSWER) == card.system
    opening = (
        (template.render(QUESTION, ANSWER, SECOND_QUESTION, SECOND_ANSWER) or "")
        .partition("Elf.")[2]
        .partition("Und?")[0]
    )
    between = (template.render(SYSTEM, QUESTION, ANSWER) or "").partition("Bleib ernst")[2].partition("Wieviel?")[0]
    return (card.system == "kept") == between.endswith(opening[-6:])


def _later(template: KnownTemplate, card: ProbeCard) -> bool:
    turns = (QUESTION, ANSWER, SYSTEM, SECOND_QUESTION, SECOND_ANSWER)
    text, handling = template.render(*turns) or "", template.handling("Bleib ernst", *turns)
    if card.later_system == "moved":
        return text.index("Bleib ernst") < text.index("Elf.")
    return handling == card.later_system and (handling != "kept" or text.index("Elf.") < text.index("Bleib ernst"))


def _several_systems(template: KnownTemplate, card: ProbeCard) -> bool:
    second = {**SYSTEM, "content": "Höflich!"}
    pairs = [(SYSTEM, second)]
    if card.developer in ("kept", "as system"):
        pairs += [(SYSTEM, {**second, "role": "developer"}), ({**SYSTEM, "role": "developer"}, second)]
    found = {template.handling(word, *pair, QUESTION, ANSWER) for pair in pairs for word in ("Bleib ernst", "Höflich!")}
    return card.several_systems == max(found, key=("kept", "dropped", "refused").index)


def _user_after_result(template: KnownTemplate, card: ProbeCard) -> bool:
    calling = say("assistant", "", tool_calls=[call("forecast", template.arguments(card), "call00001")])
    turns = (QUESTION, calling, RESULT, SECOND_QUESTION, SECOND_ANSWER)
    return template.handling("Und?", *turns, tools=[WEATHER]) == card.user_after_result


def _developer(template: KnownTemplate, card: ProbeCard) -> bool:
    developer = {**SYSTEM, "role": "developer"}
    if card.developer == "as system":
        return template.render(developer, QUESTION, ANSWER) == template.render(SYSTEM, QUESTION, ANSWER)
    return template.handling("Bleib ernst", developer, QUESTION, ANSWER) == card.developer


def _arguments(template: KnownTemplate, card: ProbeCard) -> bool:
    both = {"object": template.call(ARGUMENTS), "text": template.call(json.dumps(ARGUMENTS))}
    if card.arguments == "either":
        return both["object"] == both["text"] and "Ulm" in both["text"]
    if card.arguments == "none":
        return not any("Ulm" in text and str(ARGUMENTS) not in text for text in both.values())
    return "Ulm" in both[card.arguments] and both["object"] != both["text"]


def _ids(template: KnownTemplate, card: ProbeCard) -> bool:
    arguments = template.arguments(card)
    if card.tool_ids == "nine characters":
        return bool(template.call(arguments)) and not template.call(arguments, "call-that-is-longer")
    return (card.tool_ids == "printed") == ("call00001" in template.call(arguments))


def _parallel(template: KnownTemplate, card: ProbeCard) -> bool:
    calls = [call("forecast", template.arguments(card)), call("tides", template.arguments(card), "call00002")]
    results = (RESULT, {**RESULT, "name": "tides", "tool_call_id": "call00002"})
    return (
        template.handling(
            "tides", QUESTION, say("assistant", "", tool_calls=calls), *results, SECOND_ANSWER, tools=[WEATHER]
        )
        == card.parallel_calls
    )


def _trims(
    turn: dict[str, Any], front: tuple[dict[str, Any], ...], back: tuple[dict[str, Any], ...]
) -> Callable[[KnownTemplate], bool]:
    def check(template: KnownTemplate) -> bool:
        text = template.render(*front, {**turn, "content": f"  {turn['content']}  "}, *back) or ""
        return turn["content"] in text and f"  {turn['content']}  " not in text

    return check


def _stops(template: KnownTemplate, card: ProbeCard) -> bool:
    final, within = (
        (template.render(QUESTION, ANSWER) or "").partition("Elf.")[2],
        (template.render(QUESTION, ANSWER, SECOND_QUESTION, SECOND_ANSWER) or "").partition("Elf.")[2],
    )
    ends = final.strip().startswith(card.stop_token) and within.strip().startswith(card.stop_token_within)
    return ends and (bool(card.stop_token) or not final.strip())


def _default(template: KnownTemplate, card: ProbeCard) -> bool:
    text = template.render(QUESTION, ANSWER) or ""
    return text.startswith(card.default_system) and (
        bool(card.default_system) or len(text.partition("Wieviel?")[0]) < 60
    )


def _prompt(template: KnownTemplate, card: ProbeCard) -> bool:
    without, prompt = template.render(QUESTION) or "", template.render(QUESTION, prompt=True) or ""
    return prompt.endswith(card.generation_prompt) and (without == prompt) == (not card.generation_prompt)


def _dates(template: KnownTemplate, card: ProbeCard) -> bool:
    days = [datetime.date(2019, 1, 1), datetime.date(2020, 12, 31)]
    texts = {
        replace(template.renderer, options=replace(template.renderer.options, date=day)).text(Chat([QUESTION, ANSWER]))
        for day in days
    }
    return card.reads_date == (len(texts) == 2)


def _empty_think(template: KnownTemplate, card: ProbeCard) -> bool:
    answer = (template.render(QUESTION, ANSWER) or "").partition("Wieviel?")[2].partition("Elf.")[0]
    return card.empty_think == ("<think>" in answer and "</think>" in answer)


def _text_parts(template: KnownTemplate, card: ProbeCard) -> bool:
    calling = say("assistant", "", tool_calls=[call("forecast", template.arguments(card))])
    chats = [([SYSTEM, QUESTION, ANSWER], 0, None), ([QUESTION, ANSWER], 0, None), ([QUESTION, ANSWER], 1, None)]
    kept = True
    for turns, place, tools in [*chats, ([QUESTION, calling, RESULT, SECOND_ANSWER], 2, [WEATHER])]:
        content = turns[place]["content"]
        parts = [{"type": "text", "text": text} for text in (content[:2], content[2:])]
        inner = [*turns[:place], {**turns[place], "content": parts}, *turns[place + 1 :]]
        text = template.render(*turns, tools=tools)
        kept &= content not in (text or "") or template.render(*inner, tools=tools) == text
    return (card.text_parts == "kept") == kept


def _call_content(template: KnownTemplate, card: ProbeCard) -> bool:
    calls = [call("forecast", template.arguments(card))]
    text = template.render(QUESTION, {"role": "assistant", "tool_calls": calls}, RESULT, SECOND_ANSWER, tools=[WEATHER])
    return (card.call_content == "kept") == (card.tool_calls != "kept" or (text is not None and "None" not in text))


REASONING = {**ANSWER, "reasoning_content": "grob geschätzt"}
INLINE_REASONING = {**ANSWER, "content": "<think>\ngrob geschätzt\n</think>\n\nElf."}
CONFIRMED: dict[str, Callable[[KnownTemplate, ProbeCard], bool]] = {
    "works": lambda template, card: (
        card.works == all(word in (template.render(QUESTION, ANSWER) or "") for word in ("Wieviel?", "Elf."))
    ),
    "needs_parts": lambda template, card: card.needs_parts == ("Elf." not in (template.render(QUESTION, ANSWER) or "")),
    "system": _system,
    "later_system": _later,
    "developer": _developer,
    "unknown_role": lambda template, card: (
        template.handling("Aha", say("narrator", "Aha"), QUESTION, ANSWER) == card.unknown_role
    ),
    "consecutive_users": lambda template, card: (
        template.handling("Und?", QUESTION, SECOND_QUESTION, SECOND_ANSWER) == card.consecutive_users
    ),
    "consecutive_answers": lambda template, card: (
        template.handling("Zwo.", QUESTION, ANSWER, SECOND_ANSWER) == card.consecutive_answers
    ),
    "alternation": lambda template, card: (
        card.alternation
        == (
            template.render(QUESTION, SECOND_QUESTION, SECOND_ANSWER)
            is template.render(QUESTION, ANSWER, SECOND_ANSWER)
            is None
        )
    ),
    "leading_assistant": lambda template, card: (
        template.handling("Elf.", ANSWER, QUESTION, SECOND_ANSWER) == card.leading_assistant
    ),
    "tools": lambda template, card: (
        (card.tools == "printed") == ("forecast" in (template.render(QUESTION, ANSWER, tools=[WEATHER]) or ""))
    ),
    "empty_tools": lambda template, card: (
        card.empty_tools == (template.render(QUESTION, ANSWER, tools=[]) != template.render(QUESTION, ANSWER))
    ),
    "tool_calls": lambda template, card: (
        (card.tool_calls == "kept") == ("Ulm" in template.call(template.arguments(card)))
    ),
    "arguments": _arguments,
    "double_encodes": lambda template, card: (
        card.double_encodes == ('{\\"place' in template.call(json.dumps(ARGUMENTS)))
    ),
    "parallel_calls": _parallel,
    "tool_ids": _ids,
    "tool_results": lambda template, card: (
        (card.tool_results == "kept") == ("Nebel" in template.call(template.arguments(card)))
    ),
    "orphan_results": lambda template, card: (
        template.handling("Nebel", QUESTION, RESULT, SECOND_ANSWER) == card.orphan_results
    ),
    "reasoning": lambda template, card: template.handling("geschätzt", QUESTION, REASONING) == card.reasoning,
    "earlier_reasoning": lambda template, card: (
        template.handling("geschätzt", QUESTION, REASONING, SECOND_QUESTION, SECOND_ANSWER) == card.earlier_reasoning
    ),
    "inline_reasoning": lambda template, card: (
        template.handling("geschätzt", QUESTION, INLINE_REASONING) == card.inline_reasoning
    ),
    "earlier_inline_reasoning": lambda template, card: (
        template.handling("geschätzt", QUESTION, INLINE_REASONING, SECOND_QUESTION, SECOND_ANSWER)
        == card.earlier_inline_reasoning
    ),
    "empty_think": _empty_think,
    "trims_answers": lambda template, card: card.trims_answers == _trims(ANSWER, (QUESTION,), ())(template),
    "trims_questions": lambda template, card: card.trims_questions == _trims(QUESTION, (), (ANSWER,))(template),
    "trims_system": lambda template, card: card.trims_system == _trims(SYSTEM, (), (QUESTION, ANSWER))(template),
    "bos": lambda template, card: (card.bos == "<s>") == (template.render(QUESTION, ANSWER) or "").startswith("<s>"),
    "bos_opens_turns": lambda template, card: (
        card.bos_opens_turns == ("<s>" in (template.render(QUESTION, ANSWER) or "")[3:])
    ),
    "begins_with": lambda template, card: (template.render(QUESTION, ANSWER) or "").startswith(card.begins_with),
    "ends_with": lambda template, card: (
        not card.works or (template.render(QUESTION, ANSWER) or "").endswith(ANSWER["content"] + card.ends_with)
    ),
    "stop_token": _stops,
    "several_systems": _several_systems,
    "user_after_result": _user_after_result,
    "empty_answer": lambda template, card: (
        template.handling(
            "Und?",
            QUESTION,
            say("assistant", "", tool_calls=[call("forecast", template.arguments(card))]),
            RESULT,
            say("assistant", ""),
            SECOND_QUESTION,
            SECOND_ANSWER,
            tools=[WEATHER],
        )
        == card.empty_answer
    ),
    "stacks_reasoning": lambda template, card: not card.stacks_reasoning,
    "reasoning_variable": lambda template, card: not card.reasoning_variable,
    "stop_token_within": _stops,
    "default_system": _default,
    "reads_date": _dates,
    "prefix_stable": lambda template, card: (
        card.prefix_stable
        == (template.render(QUESTION, ANSWER, SECOND_QUESTION, SECOND_ANSWER) or "").startswith(
            template.render(QUESTION, ANSWER) or "?"
        )
    ),
    "prompt_is_prefix": lambda template, card: (
        card.prompt_is_prefix
        == (template.render(QUESTION, ANSWER) or "").startswith(template.render(QUESTION, prompt=True) or "?")
    ),
    "generation_prompt": _prompt,
    "generation_tags": lambda template, card: (
        card.generation_tags == bool(template.renderer.tracked(Chat([QUESTION, ANSWER]))[1])
    ),
    "text_parts": _text_parts,
    "parts_joint": lambda template, card: not card.parts_joint,
    "call_content": _call_content,
    "null_content": lambda template, card: (
        (card.null_content == "refused") == (template.render(QUESTION, {"role": "assistant", "content": None}) is None)
    ),
}


def test_every_line_of_a_card_has_a_confirmation() -> None:
    assert CONFIRMED.keys() | {"template"} == {field.name for field in fields(ProbeCard)}


@pytest.mark.parametrize("line", CONFIRMED)
@pytest.mark.parametrize("name", TEN)
def test_a_line_is_what_a_rendering_shows(name: str, line: str) -> None:
    assert CONFIRMED[line](KnownTemplate(name), golden(name)), getattr(golden(name), line)


def test_the_ten_cards_differ_in_most_lines() -> None:
    cards = [golden(name) for name in TEN]
    same = [line for line in CONFIRMED if len({getattr(card, line) for card in cards}) == 1]
    usual = {"bos_opens_turns", "earlier_reasoning", "generation_tags", "needs_parts", "parts_joint", "works"}
    assert set(same) <= {*usual, "stacks_reasoning", "reasoning_variable"}


def test_cards_of_small_templates() -> None:
    cards = {name: probe(ChatTemplate(name, text, TOKENS)) for name, text in (
        ("chatml", CHATML), ("no system", NO_SYSTEM), ("no stop", NO_STOP), ("thinker", THINKER))}  # fmt: skip
    assert [card.system for card in cards.values()] == ["kept", "dropped", "kept", "kept"]
    assert [card.stop_token for card in cards.values()] == ["<|im_end|>", "</s>", "", "<|im_end|>"]
    assert [card.bos for card in cards.values()] == ["", "<s>", "", ""]
    assert [card.trims_answers for card in cards.values()] == [False, True, False, False]
    assert [card.empty_think for card in cards.values()] == [False, False, False, True]
    assert [card.arguments for card in cards.values()] == ["none", "none", "none", "object"]
    assert cards["no system"].flags == (
        "--transform developer=system", "--transform parts=flatten", "--transform reasoning=inline",
        "--transform system_turns=fold", "--bos strip",
    )  # fmt: skip
    assert cards["no system"].transforms[-1] == SuggestedTransform(
        "system_turns", "fold", "a system message is dropped"
    )


def test_a_template_that_fails_has_a_card_that_says_so() -> None:
    card = probe(ChatTemplate("bad", "{{ raise_exception('never') }}", TOKENS))
    assert (card.works, card.system, card.tools, card.text_parts) == (False, "refused", "refused", "refused")
    assert probe(ChatTemplate("worse", "{% if %}", TOKENS)).works is False


def test_a_template_that_replaces_a_letter_loses_every_content_with_it() -> None:
    card = probe(ChatTemplate("replace", "{{ messages[0].content | replace('a', '') }}", TOKENS))
    assert (card.system, card.unknown_role, card.leading_assistant) == ("folded", "dropped", "dropped")


def test_the_card_is_json_and_every_known_template_has_one() -> None:
    count = 0
    for name, text in sampled(known_templates(), 3):
        card = probe(ChatTemplate(name, text, TOKENS))
        assert json.loads(json.dumps(card.as_json())) == {**card.as_json()}
        assert card.works, name
        count += 1
    assert count >= 20
