"""The result of probing a template: one outcome per feature, and the transforms that data needs for the template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

Handling = Literal["kept", "dropped", "refused"]
"""`kept`: the text is in the output; `dropped`: it is not; `refused`: the template raised an error."""
SystemHandling = Literal["kept", "folded", "dropped", "refused"]
LaterSystemHandling = Literal["kept", "moved", "dropped", "refused"]
DeveloperHandling = Literal["kept", "as system", "dropped", "refused"]
ToolsHandling = Literal["printed", "ignored", "refused"]
ArgumentsForm = Literal["object", "text", "either", "none"]
CallIdHandling = Literal["printed", "ignored", "required", "nine characters", "for the name"]
PartsHandling = Literal["kept", "printed as code", "dropped", "refused"]
NullHandling = Literal["kept", "printed as None", "refused"]


class SuggestedTransform(Struct, frozen=True):
    """A transform that the template needs: its name and value (`--transform NAME=VALUE`), and why."""

    name: str
    value: str
    reason: str

    @property
    def shell_text(self) -> str:
        """`NAME=VALUE` as it is typed in a shell."""
        return f"{self.name}={_shell_value(self.value)}"


class ProbeCard(Struct, frozen=True):
    """The behaviour of one template. Every field is the outcome of a rendering."""

    template: str
    works: bool
    """Whether it renders a question and an answer at all; if not, no other field means anything."""
    needs_parts: bool
    """Whether only content that is a list of parts is printed, not text; then every other field is about parts."""
    system: SystemHandling
    """A system message at the start: `kept` as a turn of its own, or `folded` into the user's turn."""
    later_system: LaterSystemHandling
    """A system message later in the conversation: `moved` if it is printed before the turns that precede it."""
    developer: DeveloperHandling
    several_systems: Handling
    """Two system messages at the start, or a system and a developer message."""
    unknown_role: Handling
    consecutive_users: Handling
    consecutive_answers: Handling
    alternation: bool
    """Whether consecutive turns of the same role are refused."""
    leading_assistant: Handling
    tools: ToolsHandling
    empty_tools: bool
    """Whether an empty list of tools renders differently from no list."""
    tool_calls: Handling
    arguments: ArgumentsForm
    """The form of tool call arguments that is printed faithfully: a JSON object, JSON text, or either."""
    call_content: NullHandling
    """A tool call in a message without content."""
    double_encodes: bool
    """Whether arguments given as text are printed as a JSON string, with escaped quotes."""
    parallel_calls: Handling
    tool_ids: CallIdHandling
    """`required`: calls without an id are refused; `nine characters`: so are longer ids; `for the name`: no other."""
    tool_results: Handling
    orphan_results: Handling
    """A tool result without a call."""
    user_after_result: Handling
    """A user message right after a tool result."""
    empty_answer: Handling
    """A user message after an empty answer to a tool result: `kept` if it is printed."""
    reasoning: Handling
    """`reasoning_content` of the last answer."""
    earlier_reasoning: Handling
    """`reasoning_content` of an answer before another user turn."""
    inline_reasoning: Handling
    """`<think>…</think>` inside the content of the last answer."""
    earlier_inline_reasoning: Handling
    stacks_reasoning: bool
    """Whether reasoning inside the content is printed after a thinking tag that the template prints by itself."""
    reasoning_variable: str
    """The template variable that makes it print `reasoning_content`, if it prints none without; else empty."""
    empty_think: bool
    """Whether an answer without reasoning gets an empty thinking block."""
    trims_answers: bool
    trims_questions: bool
    trims_system: bool
    bos: str
    """The BOS token if the text begins with it; tokenise such text with `add_special_tokens=False`."""
    bos_opens_turns: bool
    """Whether the BOS token also opens or ends turns, so that a tokenizer must not add it."""
    begins_with: str
    """The first characters of a text, up to the first message's content."""
    ends_with: str
    """What follows the last answer, up to the end of the text; `--end` changes it."""
    stop_token: str
    """The stop token after the last answer; empty if there is none."""
    stop_token_within: str
    """The stop token after an answer before another turn."""
    default_system: str
    """The text, beyond control tokens, printed before the first message if there is no system message."""
    reads_date: bool
    prefix_stable: bool
    """Whether the text of two exchanges begins with the text of the first."""
    prompt_is_prefix: bool
    """Whether the text with an answer begins with the text with the generation prompt."""
    generation_prompt: str
    """The text that `add_generation_prompt` adds; empty if it has no effect."""
    generation_tags: bool
    text_parts: PartsHandling
    """Content that is a list of text parts, in the messages of the role that fare worst."""
    parts_joint: str
    """What is printed between two text parts of a user message."""
    null_content: NullHandling
    """An answer without content."""

    @property
    def transforms(self) -> tuple[SuggestedTransform, ...]:
        """The transforms that a conversation with every feature would need, in the order in which they apply."""
        return tuple(_suggested_transforms(self))

    @property
    def variables(self) -> dict[str, Any]:
        """The template variables with which it prints what it otherwise does not."""
        return {self.reasoning_variable: True} if self.reasoning_variable else {}

    @property
    def flags(self) -> tuple[str, ...]:
        """The command line options that adapt ordinary data to this template."""
        found = [f"--var {name}={json.dumps(value)}" for name, value in self.variables.items()]
        found += [f"--transform {transform.shell_text}" for transform in self.transforms]
        return (*found, *(["--bos strip"] if self.bos and not self.bos_opens_turns else ()))

    def as_json(self) -> dict[str, Any]:
        """Return the card as plain data, with `flags`."""
        return {**asdict(self), "flags": list(self.flags)}


def _shell_value(value: str) -> str:
    """Return a value as it is typed in a shell: quoted JSON unless it is a single word."""
    return value if value.isidentifier() else f"'{json.dumps(value)}'"


def _suggested_transforms(card: ProbeCard) -> Iterator[SuggestedTransform]:
    lost = ("dropped", "refused")
    if card.developer in lost:
        yield SuggestedTransform("developer", "system", f"the role `developer` is {card.developer}")
    if card.text_parts != "kept" and not card.needs_parts and not card.parts_joint:
        yield SuggestedTransform("parts", "flatten", f"content that is a list of parts is {card.text_parts}")
    inline = card.inline_reasoning == "kept" and not card.stacks_reasoning
    if card.reasoning in lost and inline and not card.reasoning_variable:
        yield SuggestedTransform("reasoning", "inline", f"`reasoning_content` is {card.reasoning}")
    if card.stacks_reasoning:
        yield SuggestedTransform("reasoning", "split", "reasoning inside the content is printed after a thinking tag")
    if card.call_content != "kept":
        yield SuggestedTransform("call_content", "empty", f"a tool call without content is {card.call_content}")
    if card.arguments == "object":
        problem = "escaped twice" if card.double_encodes else "not printed as the template intends"
        yield SuggestedTransform("arguments", "object", f"tool call arguments given as text are {problem}")
    if card.arguments == "text":
        yield SuggestedTransform("arguments", "text", "tool call arguments must be text")
    if card.tool_calls == "kept" and card.parallel_calls in lost:
        yield SuggestedTransform(
            "parallel_calls", "split", f"the second of several tool calls is {card.parallel_calls}"
        )
    if card.tool_ids == "nine characters":
        yield SuggestedTransform("call_ids", "nine", "tool call ids that are not nine characters long are refused")
    if card.tool_ids == "required":
        yield SuggestedTransform("call_ids", "fill", "tool calls without an id are refused")
    if card.tool_ids == "for the name":
        yield SuggestedTransform("call_ids", "named", "the id of a tool call is printed for its name")
    yield from _suggested_for_system(card, lost)
    if card.tool_results == card.empty_answer == "kept" and card.user_after_result in lost:
        problem = f"a user message after a tool result is {card.user_after_result}"
        yield SuggestedTransform("user_after_tool", "answer", problem)
    for handling in (card.consecutive_users, card.consecutive_answers):
        if handling in lost:
            yield SuggestedTransform("merge", "\n\n", f"consecutive turns of the same role are {handling}")
            return


def _suggested_for_system(card: ProbeCard, lost: tuple[str, ...]) -> Iterator[SuggestedTransform]:
    if card.system in lost:
        yield SuggestedTransform("system_turns", "fold", f"a system message is {card.system}")
        return
    if card.several_systems in lost:
        problem = f"the second of several system messages is {card.several_systems}"
        yield SuggestedTransform("leading_system", "join", problem)
    if card.later_system in lost:
        yield SuggestedTransform("later_system", "fold", f"a later system message is {card.later_system}")
