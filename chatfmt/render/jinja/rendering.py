"""`apply_chat_template(tokenize=False)` for one conversation: the text, its generation spans, a continued message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from ...schema import REASONING_FIELDS
from ..types import UNDATED, Moment, Span
from .environment import compile_template, render_tracked, render_values
from .inputs import context_values, normalise_messages, plain_data

CONTINUE_TAG = "CONTINUE_FINAL_MESSAGE_TAG "


def render_text(
    text: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Any = None,
    documents: Any = None,
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    variables: Mapping[str, Any] | None = None,
    now: Moment = UNDATED,
) -> str:
    """Return the text that `apply_chat_template(tokenize=False)` returns for the template `text`.

    `variables` include the special tokens. Raises what Jinja, the template or Python raise.
    """
    chat = normalise_messages(messages)
    if continue_final_message and add_generation_prompt:
        raise ValueError(_NOT_COMPATIBLE)
    template = compile_template(text)
    values = context_values(tools, documents, variables, now)
    if continue_final_message:
        return render_continued(template, text, chat, continue_final_message, values)
    return render_values(template, {"messages": chat, "add_generation_prompt": add_generation_prompt, **values})


_NOT_COMPATIBLE = (
    "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you want "
    "the model to continue the final message, and add_generation_prompt when you want to add a header that will "
    "prompt it to start a new assistant message instead."
)


def render_spans(
    text: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Any = None,
    documents: Any = None,
    *,
    add_generation_prompt: bool = False,
    variables: Mapping[str, Any] | None = None,
    now: Moment = UNDATED,
) -> tuple[str, list[Span]]:
    """Return the rendered text and the spans of its `{% generation %}` blocks, in the order in which they ended."""
    chat = normalise_messages(messages)
    template = compile_template(text)
    values = context_values(tools, documents, variables, now)
    return render_tracked(template, {"messages": chat, "add_generation_prompt": add_generation_prompt, **values})


def render_continued(
    template: jinja2.Template, text: str, chat: list[dict[str, Any]], field: bool | str, values: Mapping[str, Any]
) -> str:
    """Return the text up to the end of the last message's `field` (True: `content`), for a model to continue.

    `text` is the source of `template`, `chat` holds normalised messages and is not changed.
    Raises ValueError if that message has nothing to continue, or the template does not print it unchanged.
    """
    name = field if isinstance(field, str) else "content"
    final, wanted = _tagged(plain_data(chat[-1]), name, text)
    rendered = render_values(template, {**values, "messages": [*chat[:-1], final], "add_generation_prompt": False})
    if wanted.strip() not in rendered or CONTINUE_TAG.strip() not in rendered:
        raise ValueError(
            "continue_final_message is set but the final message does not appear in the chat after applying the chat "
            "template! This can happen if the chat template deletes portions of the final message. Please verify the "
            "chat template and final message in your chat to ensure they are compatible."
            f"Final message to continue: {wanted.strip()}\nRendered chat:\n{rendered}"
        )
    end = rendered.rindex(CONTINUE_TAG.strip())
    kept = rendered[:end]
    return kept if rendered.startswith(CONTINUE_TAG, end) else kept.rstrip()


def _tagged(message: dict[str, Any], name: str, text: str) -> tuple[dict[str, Any], Any]:
    """Put the tag after the field `name` of the message; return the message and the text before the tag."""
    if (value := message.get(name)) is None:
        raise ValueError(f'continue_final_message is set but the final message has no "{name}" to continue!')
    names = [name]
    if name in REASONING_FIELDS:
        names = [other for other in REASONING_FIELDS if message.get(other) == value]
    if not any(other in text for other in names):
        raise ValueError(
            f'continue_final_message is set to "{name}" but this is not an accepted field in the chat_template'
        )
    if isinstance(value, (list, tuple)):
        return message, _tag_last_part(value)
    for other in names:
        message[other] = message[other] + CONTINUE_TAG
    return message, value


def _tag_last_part(parts: Sequence[Any]) -> Any:
    """Put the tag after the last part with text; return the text before the tag."""
    for part in reversed(parts):
        if "text" in part:
            value = part["text"]
            part["text"] = part["text"] + CONTINUE_TAG
            return value
    raise ValueError("continue_final_message is set but we could not find any text to continue in the final message!")
