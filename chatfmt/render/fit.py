"""Which changes make conversations fit a template: only those that the data needs and the probe found necessary.

A plan is data: names and values of transforms (`--transform NAME=VALUE`) with the reason for each in words. Nothing is
changed here; the pipeline applies the plan, and counts what each change did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from .environment import REASONING_FIELDS
from .probe import Change, ProbeCard
from .voice import Turns


@dataclass(frozen=True)
class Features:
    """What conversations have that templates treat differently."""

    system: bool = False
    later_system: bool = False
    developer: bool = False
    consecutive: bool = False
    """Turns of one role in a row, of users or of the assistant."""
    reasoning: bool = False
    """Reasoning in a field of its own."""
    parts: bool = False
    """Content that is a list of nothing but text parts."""
    object_arguments: bool = False
    text_arguments: bool = False
    parallel_calls: bool = False

    def __or__(self, other: Features) -> Features:
        """What either has."""
        return Features(*(getattr(self, field.name) or getattr(other, field.name) for field in fields(self)))


def features(conversations: Iterable[Turns | None]) -> Features:
    """What is in any of the conversations; null ones are passed over."""
    found = Features()
    for messages in conversations:
        if messages:
            found = found | _features(messages)
    return found


def _features(messages: Turns) -> Features:
    roles = [message.get("role") for message in messages]
    contents = [message.get("content") for message in messages]
    calls = [message.get("tool_calls") or () for message in messages]
    arguments = [value for message in calls if isinstance(message, Sequence) for value in map(_arguments, message)]
    return Features(
        system=roles[0] == "system",
        later_system="system" in roles[1:],
        developer="developer" in roles,
        consecutive=any(one == two and one in ("user", "assistant") for one, two in pairwise(roles)),
        reasoning=any(message.get(name) is not None for message in messages for name in REASONING_FIELDS),
        parts=any(map(_is_text_parts, contents)),
        object_arguments=any(isinstance(value, Mapping) for value in arguments),
        text_arguments=any(isinstance(value, str) for value in arguments),
        parallel_calls=any(isinstance(message, Sequence) and len(message) > 1 for message in calls),
    )


def _arguments(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return None
    function = call.get("function")
    return function.get("arguments") if isinstance(function, Mapping) else call.get("arguments")


def _is_text_parts(content: Any) -> bool:
    if not isinstance(content, (list, tuple)) or not content:
        return False
    return all(isinstance(part, str) or (isinstance(part, Mapping) and "text" in part) for part in content)


def fit_plan(card: ProbeCard, found: Features) -> list[Change]:
    """The changes that data with these features needs under this template, in the order in which they are applied."""
    return [change for change in card.changes if _concerned(change, card, found)]


def _concerned(change: Change, card: ProbeCard, found: Features) -> bool:
    """Whether the data has what a change is for."""
    told = found.developer and any(other.name == "developer" for other in card.changes)
    return {
        "developer": found.developer,
        "parts": found.parts,
        "reasoning": found.reasoning,
        "arguments": found.text_arguments if change.value == "object" else found.object_arguments,
        "parallel_calls": found.parallel_calls,
        "call_ids": found.object_arguments or found.text_arguments,
        "system_turns": found.system or found.later_system or told,
        "later_system": found.later_system,
        "merge": found.consecutive,
    }[change.name]
