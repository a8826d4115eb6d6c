"""Probe cards: ten in goldens, and each line of them confirmed by renderings with other words."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields, replace

from chatfmt.render.inspection.probe import Change, ProbeCard, probe
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template.chat_template import ChatTemplate
from tests.render.voices import (
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
    voice,
)

GOLDENS = Path(__file__).parents[2] / "goldens" / "probe"
TEN = ("chatml", "llama-3.1", "llama-2", "gemma", "mistral", "qwen3", "gpt-oss", "deepseek-v3", "phi-4", "glm-4.5")
"""Built-in templates whose cards are goldens; they differ in nearly every line."""

ASK, TELL, MORE, END = say("user", "Wieviel?"), say("assistant", "Elf."), say("user", "Und?"), say("assistant", "Zwo.")
RULE = say("system", "Bleib ernst")
GIVEN = {"place": "Ulm"}
FOUND = say("tool", "Nebel", name="forecast", tool_call_id="call00001")


def golden(name: str) -> ProbeCard:
    data = json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))
    return ProbeCard(**{key: value for key, value in data.items() if key != "flags"})


@pytest.mark.parametrize("name", TEN)
def test_the_card_of_a_well_known_template(name: str) -> None:
    """CHATFMT_UPDATE_GOLDENS=1 writes them anew."""
    card = probe(ChatTemplate(name, (BUILT_IN / f"{name}.jinja").read_text("utf-8"), TOKENS))
    text = json.dumps(card.as_json(), ensure_ascii=False, indent=1) + "\n"
    file = GOLDENS / f"{name}.json"
    if os.environ.get("CHATFMT_UPDATE_GOLDENS"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text


class RenderRequest:
    """A template, to be asked with words that the probe does not use."""

    def __init__(self, name: str) -> None:
        self.voice: TemplateRenderer = voice((BUILT_IN / f"{name}.jinja").read_text("utf-8"), name)

    def say(self, *turns: dict[str, Any], tools: Any = None, prompt: bool = False) -> str | None:
        return self.voice.text_or_none(Chat(turns, tools), generation_prompt=prompt)

    def fate(self, word: str, *turns: dict[str, Any], tools: Any = None) -> str:
        text = self.say(*turns, tools=tools)
        return "refused" if text is None else "kept" if word in text else "dropped"

    def call(self, arguments: Any, id: str = "call00001") -> str:
        asking = say("assistant", "", tool_calls=[call("forecast", arguments, id)])
        return self.say(ASK, asking, {**FOUND, "tool_call_id": id}, END, tools=[WEATHER]) or ""

    def shape(self, card: ProbeCard) -> Any:
        return json.dumps(GIVEN) if card.arguments == "text" else GIVEN


def _system(at: RenderRequest, card: ProbeCard) -> bool:
    if card.system in ("dropped", "refused"):
        return at.fate("Bleib ernst", RULE, ASK, TELL) == card.system
    opening = (at.say(ASK, TELL, MORE, END) or "").partition("Elf.")[2].partition("Und?")[0]
    between = (at.say(RULE, ASK, TELL) or "").partition("Bleib ernst")[2].partition("Wieviel?")[0]
    return (card.system == "kept") == between.endswith(opening[-6:])


def _later(at: RenderRequest, card: ProbeCard) -> bool:
    turns = (ASK, TELL, RULE, MORE, END)
    text, fate = at.say(*turns) or "", at.fate("Bleib ernst", *turns)
    if card.later_system == "moved":
        return text.index("Bleib ernst") < text.index("Elf.")
    return fate == card.later_system and (fate != "kept" or text.index("Elf.") < text.index("Bleib ernst"))


def _developer(at: RenderRequest, card: ProbeCard) -> bool:
    told = {**RULE, "role": "developer"}
    if card.developer == "as system":
        return at.say(told, ASK, TELL) == at.say(RULE, ASK, TELL)
    return at.fate("Bleib ernst", told, ASK, TELL) == card.developer


def _arguments(at: RenderRequest, card: ProbeCard) -> bool:
    both = {"object": at.call(GIVEN), "text": at.call(json.dumps(GIVEN))}
    if card.arguments == "either":
        return both["object"] == both["text"] and "Ulm" in both["text"]
    if card.arguments == "none":
        return not any("Ulm" in text and str(GIVEN) not in text for text in both.values())
    return "Ulm" in both[card.arguments] and both["object"] != both["text"]


def _ids(at: RenderRequest, card: ProbeCard) -> bool:
    shape = at.shape(card)
    if card.tool_ids == "nine characters":
        return bool(at.call(shape)) and not at.call(shape, "call-that-is-longer")
    return (card.tool_ids == "printed") == ("call00001" in at.call(shape))


def _parallel(at: RenderRequest, card: ProbeCard) -> bool:
    calls = [call("forecast", at.shape(card)), call("tides", at.shape(card), "call00002")]
    results = (FOUND, {**FOUND, "name": "tides", "tool_call_id": "call00002"})
    return (
        at.fate("tides", ASK, say("assistant", "", tool_calls=calls), *results, END, tools=[WEATHER])
        == card.parallel_calls
    )


def _trims(
    turn: dict[str, Any], front: tuple[dict[str, Any], ...], back: tuple[dict[str, Any], ...]
) -> Callable[[RenderRequest], bool]:
    def check(at: RenderRequest) -> bool:
        text = at.say(*front, {**turn, "content": f"  {turn['content']}  "}, *back) or ""
        return turn["content"] in text and f"  {turn['content']}  " not in text

    return check


def _stops(at: RenderRequest, card: ProbeCard) -> bool:
    final, within = (
        (at.say(ASK, TELL) or "").partition("Elf.")[2],
        (at.say(ASK, TELL, MORE, END) or "").partition("Elf.")[2],
    )
    ends = final.strip().startswith(card.stop_token) and within.strip().startswith(card.stop_token_within)
    return ends and (bool(card.stop_token) or not final.strip())


def _default(at: RenderRequest, card: ProbeCard) -> bool:
    text = at.say(ASK, TELL) or ""
    return text.startswith(card.default_system) and (
        bool(card.default_system) or len(text.partition("Wieviel?")[0]) < 60
    )


def _prompt(at: RenderRequest, card: ProbeCard) -> bool:
    without, prompt = at.say(ASK) or "", at.say(ASK, prompt=True) or ""
    return prompt.endswith(card.generation_prompt) and (without == prompt) == (not card.generation_prompt)


def _dates(at: RenderRequest, card: ProbeCard) -> bool:
    days = [datetime.date(2019, 1, 1), datetime.date(2020, 12, 31)]
    texts = {replace(at.voice, options=replace(at.voice.options, date=day)).text(Chat([ASK, TELL])) for day in days}
    return card.reads_date == (len(texts) == 2)


def _empty_think(at: RenderRequest, card: ProbeCard) -> bool:
    answer = (at.say(ASK, TELL) or "").partition("Wieviel?")[2].partition("Elf.")[0]
    return card.empty_think == ("<think>" in answer and "</think>" in answer)


THOUGHT = {**TELL, "reasoning_content": "grob geschätzt"}
INLINE = {**TELL, "content": "<think>\ngrob geschätzt\n</think>\n\nElf."}
CONFIRMED: dict[str, Callable[[RenderRequest, ProbeCard], bool]] = {
    "works": lambda at, card: card.works == all(word in (at.say(ASK, TELL) or "") for word in ("Wieviel?", "Elf.")),
    "needs_parts": lambda at, card: card.needs_parts == ("Elf." not in (at.say(ASK, TELL) or "")),
    "system": _system,
    "later_system": _later,
    "developer": _developer,
    "unknown_role": lambda at, card: at.fate("Aha", say("narrator", "Aha"), ASK, TELL) == card.unknown_role,
    "consecutive_users": lambda at, card: at.fate("Und?", ASK, MORE, END) == card.consecutive_users,
    "consecutive_answers": lambda at, card: at.fate("Zwo.", ASK, TELL, END) == card.consecutive_answers,
    "alternation": lambda at, card: card.alternation == (at.say(ASK, MORE, END) is at.say(ASK, TELL, END) is None),
    "leading_assistant": lambda at, card: at.fate("Elf.", TELL, ASK, END) == card.leading_assistant,
    "tools": lambda at, card: (card.tools == "printed") == ("forecast" in (at.say(ASK, TELL, tools=[WEATHER]) or "")),
    "empty_tools": lambda at, card: card.empty_tools == (at.say(ASK, TELL, tools=[]) != at.say(ASK, TELL)),
    "tool_calls": lambda at, card: (card.tool_calls == "kept") == ("Ulm" in at.call(at.shape(card))),
    "arguments": _arguments,
    "double_encodes": lambda at, card: card.double_encodes == ('{\\"place' in at.call(json.dumps(GIVEN))),
    "parallel_calls": _parallel,
    "tool_ids": _ids,
    "tool_results": lambda at, card: (card.tool_results == "kept") == ("Nebel" in at.call(at.shape(card))),
    "orphan_results": lambda at, card: at.fate("Nebel", ASK, FOUND, END) == card.orphan_results,
    "reasoning": lambda at, card: at.fate("geschätzt", ASK, THOUGHT) == card.reasoning,
    "earlier_reasoning": lambda at, card: at.fate("geschätzt", ASK, THOUGHT, MORE, END) == card.earlier_reasoning,
    "inline_reasoning": lambda at, card: at.fate("geschätzt", ASK, INLINE) == card.inline_reasoning,
    "earlier_inline_reasoning": lambda at, card: (
        at.fate("geschätzt", ASK, INLINE, MORE, END) == card.earlier_inline_reasoning
    ),
    "empty_think": _empty_think,
    "trims_answers": lambda at, card: card.trims_answers == _trims(TELL, (ASK,), ())(at),
    "trims_questions": lambda at, card: card.trims_questions == _trims(ASK, (), (TELL,))(at),
    "trims_system": lambda at, card: card.trims_system == _trims(RULE, (), (ASK, TELL))(at),
    "bos": lambda at, card: (card.bos == "<s>") == (at.say(ASK, TELL) or "").startswith("<s>"),
    "stop_token": _stops,
    "stop_token_within": _stops,
    "default_system": _default,
    "reads_date": _dates,
    "prefix_stable": lambda at, card: (
        card.prefix_stable == (at.say(ASK, TELL, MORE, END) or "").startswith(at.say(ASK, TELL) or "?")
    ),
    "prompt_is_prefix": lambda at, card: (
        card.prompt_is_prefix == (at.say(ASK, TELL) or "").startswith(at.say(ASK, prompt=True) or "?")
    ),
    "generation_prompt": _prompt,
    "generation_tags": lambda at, card: card.generation_tags == bool(at.voice.tracked(Chat([ASK, TELL]))[1]),
    "text_parts": lambda at, card: (
        (card.text_parts == "kept")
        == (at.say({**ASK, "content": [{"type": "text", "text": "Wieviel?"}]}, TELL) == at.say(ASK, TELL))
    ),
    "null_content": lambda at, card: (
        (card.null_content == "refused") == (at.say(ASK, {"role": "assistant", "content": None}) is None)
    ),
}


def test_every_line_of_a_card_has_a_confirmation() -> None:
    assert CONFIRMED.keys() | {"template"} == {field.name for field in fields(ProbeCard)}


@pytest.mark.parametrize("line", CONFIRMED)
@pytest.mark.parametrize("name", TEN)
def test_a_line_is_what_a_rendering_shows(name: str, line: str) -> None:
    assert CONFIRMED[line](RenderRequest(name), golden(name)), getattr(golden(name), line)


def test_the_ten_cards_differ_in_most_lines() -> None:
    cards = [golden(name) for name in TEN]
    same = [line for line in CONFIRMED if len({getattr(card, line) for card in cards}) == 1]
    assert set(same) <= {"earlier_reasoning", "generation_tags", "needs_parts", "works"}


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
    assert cards["no system"].changes[-1] == Change("system_turns", "fold", "a system message is dropped")


def test_a_template_that_fails_has_a_card_that_says_so() -> None:
    card = probe(ChatTemplate("bad", "{{ raise_exception('never') }}", TOKENS))
    assert (card.works, card.system, card.tools, card.text_parts) == (False, "refused", "refused", "refused")
    assert probe(ChatTemplate("worse", "{% if %}", TOKENS)).works is False


def test_the_card_is_json_and_every_known_template_has_one() -> None:
    count = 0
    for name, text in known_templates():
        card = probe(ChatTemplate(name, text, TOKENS))
        assert json.loads(json.dumps(card.as_json())) == {**card.as_json()}
        assert card.works, name
        count += 1
    assert count >= 20
