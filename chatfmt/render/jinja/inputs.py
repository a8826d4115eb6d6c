"""The inputs of a chat template, checked and brought into the form that transformers gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...schema import REASONING_FIELDS
from ..types import CONTEXT_NAMES, Moment
from .environment import clock


def plain_data(value: Any) -> Any:
    """Return a copy of `value` made only of dict, list, tuple, str, int, float, bool and None.

    Subclasses become their base type; dataclasses and objects with `model_dump` become dicts. Anything else, such as
    a date, a decimal or bytes, becomes the text `<TypeName>`.
    """
    kind = type(value)
    if value is None or kind in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_data(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain_data(item) for item in value)
    return _plain_object(value)


_SCALARS = frozenset((str, int, float, bool))


def _plain_object(value: Any) -> Any:
    import dataclasses  # which the sandbox process does without: all its values are JSON

    import numpy as np

    for base in (str, int, float):
        if isinstance(value, base):
            return getattr(base, f"__{base.__name__}__")(value)
    if isinstance(value, np.generic):
        return plain_data(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):
        return plain_data(value.model_dump())
    return f"<{type(value).__name__}>"


def normalise_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages as templates get them: plain data without null keys, reasoning under both names.

    Nested None is kept. The objects of the caller are neither changed nor shared.
    """
    if len(messages) == 0:
        raise ValueError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    return [alias_reasoning(plain_data(message)) for message in map(drop_nulls, messages)]


def drop_nulls(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message without the keys whose value is None; nested None is kept."""
    return {key: value for key, value in message.items() if value is not None}


def alias_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message with its reasoning under `thinking` (first; kept if set) and `reasoning_content`."""
    for name in REASONING_FIELDS:
        if (reasoning := message.get(name)) is not None:
            return {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


def check_tools(tools: Any) -> Any:
    """Return the tools as a list; None and an empty list are kept. Raises ValueError for a tool that is not a dict."""
    if tools is None:
        return None
    for tool in tools:
        if not isinstance(tool, dict):
            raise ValueError(
                "Tools should either be a JSON schema, or a callable function with type hints "
                "and a docstring suitable for auto-conversion to a schema."
            )
    return list(tools)


def check_documents(documents: Any) -> Any:
    """Return the documents unchanged. Raises TypeError for a document that is not a dict."""
    for document in () if documents is None else documents:
        if not isinstance(document, dict):
            raise TypeError("Documents should be a list of dicts with 'title' and 'text' keys!")
    return documents


def context_values(tools: Any, documents: Any, variables: Mapping[str, Any] | None, now: Moment) -> dict[str, Any]:
    """Return all that a template sees besides the messages and `add_generation_prompt`, checked, as plain data."""
    tools, documents = plain_data(check_tools(tools)), plain_data(check_documents(documents))
    return {"tools": tools, "documents": documents, **context(variables or {}, now)}


def context(variables: Mapping[str, Any], now: Moment) -> dict[str, Any]:
    """Return what a template sees besides `CONTEXT_NAMES`: the clock, and special tokens and variables as plain data.

    Raises TypeError for a variable named like one of `CONTEXT_NAMES`.
    """
    for name in CONTEXT_NAMES:
        if name in variables:
            raise TypeError(f"a template variable may not be named `{name}`")
    return {"strftime_now": clock(now), **plain_data(variables)}
