"""Role names of datasets, and the roles that they stand for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import DialectError
from ...turn_columns import refuse_turns

ROLE_NAMES: dict[str, str] = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("developer",), "developer"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "bot", "chatbot", "model", "ai"), "assistant"),
    **dict.fromkeys(
        ("tool", "function", "function_response", "tool_response", "observation", "observations", "ipython",
         "tool_result", "tool_results", "function_result", "tool_output", "function_output"), "tool",
    ),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
}  # fmt: skip
"""Role names of public datasets (ShareGPT and similar, OpenAI, ms-swift), in lower case, `_` for `-`."""
ANY = "*"
"""The name that stands for all others in `--role '*=user'`."""
CALL_ROLES = frozenset({"function_call", "tool_call"})
"""Roles whose content is a tool call as text, `{"name": …, "arguments": …}` or a list of them."""


def role_of(name: str, roles: Mapping[str, str]) -> str | None:
    """Return the role that `name` stands for, None if it is unknown.

    `roles` (`--role`) take precedence; the role of `*` is that of all names that they lack.
    """
    if name in roles:
        return roles[name]
    lower = name.lower()
    mapped = next((to for given, to in roles.items() if given.lower() == lower), None)
    return mapped or roles.get(ANY) or ROLE_NAMES.get(lower.replace("-", "_"))


def is_call_role(name: str, roles: Mapping[str, str]) -> bool:
    """Return whether turns of this role hold a call as text; not if the user maps the role."""
    lower = name.lower()
    return lower.replace("-", "_") in CALL_ROLES and not any(given in (lower, ANY) for given in map(str.lower, roles))


def to_role(name: Any, roles: Mapping[str, str]) -> str:
    """Return the role that `name` stands for; raises DialectError `msg.role` if it is unknown or no text."""
    if not isinstance(name, str):
        raise DialectError("the turn has no role", code="msg.role")
    role = role_of(name, roles)
    if role is None:
        raise unknown_role(name)
    return role


_OBSERVERS = frozenset({"environment", "env", "computer", "interpreter", "terminal", "execution", "executor", "result"})
"""Names of what answers the assistant's actions."""


_LONGEST = 200
"""Characters of a name that an error quotes."""
_MOST = 8
"""Roles that a hint maps."""


def unknown_role(name: str, unknown: Sequence[str] = ()) -> DialectError:
    """Return the error for an unknown role; its hint maps all `unknown` ones. Only who answers an action is clear."""
    names = [each for each in dict.fromkeys((*unknown[:_MOST], name)) if len(each) <= _LONGEST]
    mapped = {each: "tool" if each.lower() in _OBSERVERS else "ROLE" for each in names}
    which = ": system, user, assistant or tool" if "ROLE" in mapped.values() else ""
    which += "" if all(map(str.islower, names)) else "; or --me NAME, for people who chat, to train on one of them"
    flags = " ".join(f"--role {shlex.quote(each)}={role}" for each, role in mapped.items())
    hint = f"map {'them' if len(names) > 1 else 'it'} with {flags}{' …' if len(unknown) > _MOST else ''}{which}"
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}…"
        hint = "that is not a name: map the key that has the roles with --map messages.role=KEY"
    return DialectError(f"unknown role `{name}`", hint=hint, code="msg.role")


def map_roles(names: pa.StringArray, roles: Mapping[str, str], lists: pa.ListArray) -> tuple[pa.StringArray, pa.Array]:
    """Return the role of each turn from its name, and whether its content is a call as text.

    Raises DialectError `msg.role` for a turn whose role is null or unknown.
    """
    encoded = names.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    found = pa.array([role_of(value, roles) for value in values], pa.string())
    calls = pa.array([is_call_role(value, roles) for value in values], pa.bool_())
    mapped = found.take(encoded.indices)
    if mapped.null_count:
        some = names.null_count < len(names)
        unknown = [value for value, role in zip(values, found.to_pylist(), strict=True) if value and role is None]
        hint = "--on-error skip drops such rows" if some else "--roles user,assistant if the turns alternate"

        def error(name: str | None) -> DialectError:
            no_role = DialectError("the turn has no role", hint=hint, code="msg.role")
            return no_role if name is None else unknown_role(name, unknown)

        refuse_turns(lists, mapped.is_null(), error, names)
    return mapped, calls.take(encoded.indices)
