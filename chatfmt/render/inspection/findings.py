"""The important facts of a probe card in words, each with the flag that deals with it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from msgspec import Struct

from .probe_card import ProbeCard

LOST = {"dropped": "drops", "refused": "refuses"}
NO_CONTENT = {"refused": "refuses", "printed as None": "prints `None` for"}
CALL_IDS = {
    "required": "refuses calls without an id",
    "nine characters": "accepts only nine-character call ids",
    "for the name": "prints the id of a call and not its name",
}
LEADING = "--transform leading_assistant=drop"


class ProbeFinding(Struct, frozen=True):
    """Something that a template does to data, such as `drops system messages`."""

    words: str
    flag: str = ""
    """What to type; empty if nothing helps, or nothing needs to be done."""
    fits: bool = False
    """Whether `--fit` does the same."""


def findings(card: ProbeCard) -> list[ProbeFinding]:
    """Return what matters of a card, what loses text first."""
    if not card.works:
        return [ProbeFinding("does not print a question and an answer")]
    fitted = {each.name: f"--transform {each.shell_text}" for each in card.transforms}
    fitted |= {name: f"--var {name}={json.dumps(value)}" for name, value in card.variables.items()}
    found = [*_of_messages(card), *_of_tools(card), *_of_reasoning(card), *_of_text(card)]
    return [
        ProbeFinding(words, fitted.get(remedy, remedy if remedy.startswith("--") else ""), remedy in fitted)
        for words, remedy in found
    ]


def _of_messages(card: ProbeCard) -> Iterator[tuple[str, str]]:
    """Yield what happens to messages, each with the name of a transform or a flag."""
    if card.system in LOST:
        yield f"{LOST[card.system]} system messages", "system_turns"
    elif card.system == "folded":
        yield "puts the system message into the first user turn", ""
    if card.system not in LOST and card.several_systems in LOST:
        yield f"{LOST[card.several_systems]} the second system message", "leading_system"
    if card.system not in LOST and card.later_system in LOST:
        yield f"{LOST[card.later_system]} later system messages", "later_system"
    if card.later_system == "moved":
        yield "moves later system messages to the start", ""
    if card.developer in LOST:
        yield f"{LOST[card.developer]} developer messages", "developer"
    for handling in dict.fromkeys((card.consecutive_users, card.consecutive_answers)):
        if handling in LOST:
            yield f"{LOST[handling]} two messages of a role in a row", "merge"
    if card.leading_assistant in LOST:
        yield f"{LOST[card.leading_assistant]} an answer at the start", LEADING
    if card.needs_parts:
        yield "prints content only if it is a list of parts", ""
    elif card.text_parts != "kept":
        words = "prints content parts as code"
        yield f"{LOST[card.text_parts]} content parts" if card.text_parts in LOST else words, "parts"
    if card.null_content != "kept":
        yield f"{NO_CONTENT[card.null_content]} answers without content", ""


def _of_tools(card: ProbeCard) -> Iterator[tuple[str, str]]:
    if card.tools != "printed":
        yield f"{'refuses' if card.tools == 'refused' else 'drops'} the list of tools", "--fit tools=system"
    if card.tool_calls in LOST:
        yield f"{LOST[card.tool_calls]} tool calls", ""
        return
    if card.tool_results in LOST:
        yield f"{LOST[card.tool_results]} the results of tools", ""
    if card.call_content != "kept":
        yield f"{NO_CONTENT[card.call_content]} calls without content", "call_content"
    if card.parallel_calls in LOST:
        yield f"{LOST[card.parallel_calls]} the second call of a message", "parallel_calls"
    if card.arguments in ("object", "text"):
        yield f"prints call arguments only as {card.arguments}", "arguments"
    if card.tool_ids in CALL_IDS:
        yield CALL_IDS[card.tool_ids], "call_ids"
    if card.tool_results not in LOST and card.user_after_result in LOST:
        yield f"{LOST[card.user_after_result]} a question right after a result", "user_after_tool"


def _of_reasoning(card: ProbeCard) -> Iterator[tuple[str, str]]:
    if card.reasoning in LOST:
        inline = "" if card.stacks_reasoning else "reasoning"
        yield f"{LOST[card.reasoning]} reasoning", card.reasoning_variable or inline
    elif card.earlier_reasoning in LOST:
        yield f"{LOST[card.earlier_reasoning]} reasoning of earlier answers", ""
    if card.inline_reasoning in LOST:
        yield f"{LOST[card.inline_reasoning]} reasoning inside the content", ""
    elif card.earlier_inline_reasoning in LOST:
        yield f"{LOST[card.earlier_inline_reasoning]} reasoning inside earlier answers", ""
    if card.stacks_reasoning:
        yield "adds a tag before `<think>` in content", "reasoning"
    if card.empty_think:
        yield "puts an empty thinking block before answers without reasoning", ""


def _of_text(card: ProbeCard) -> Iterator[tuple[str, str]]:
    if card.default_system:
        yield "adds a system text of its own", "--system TEXT"
    if card.bos and not card.bos_opens_turns:
        yield "begins with BOS, as tokenizers do", "--bos strip"
    if not card.stop_token:
        yield "prints no stop token at the end", "--end eos"
    if card.stop_token and not card.stop_token_within:
        yield "prints no stop token after earlier answers", ""
    trimmed = {"answers": card.trims_answers, "questions": card.trims_questions, "system messages": card.trims_system}
    if names := [name for name, is_trimmed in trimmed.items() if is_trimmed]:
        yield f"trims white space around {' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))}", ""
    if card.reads_date:
        yield "prints the date", "--date YYYY-MM-DD"
    if not card.prompt_is_prefix:
        yield "prints a prompt differently once an answer follows", ""
