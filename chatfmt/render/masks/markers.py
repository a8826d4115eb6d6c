"""Mark the texts of a conversation with private-use characters, and find them again in the rendered text.

A **marker** is a pair of characters from a private-use plane, one before and one after a text, each used once in a
conversation. Most templates treat them as letters and print them with the text. Removing them must give the text of
the unmarked conversation: that proves that they changed nothing.

Whitespace around a text stays outside its markers (`" ⟦hello⟧\n"`), so that a template that trims still trims it. Text
around `<think>` tags is marked piece by piece, because many templates split it there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ...schema import REASONING_FIELDS
from ..single import Chat

PLANES = (0xF0000, 0x100000)
"""The first code point of each private-use plane."""
MAX_MARKERS = 32_766
"""The number of markers that fit into a plane."""
_MARKER_CHARACTER = re.compile("[\U000f0000-\U0010ffff]")
THINK_TAG = r"</?think(?:ing)?>"
_THINK = re.compile(f"({THINK_TAG})")

CONTENT, REASONING, CALLS, TOOLS, DOCUMENTS = "content", "reasoning", "tool_calls", "tools", "documents"


class TextSource(Struct, frozen=True):
    """The source of a marked text: the message (None: the tools or documents) and the field."""

    message: int | None
    field: str
    lead: str = ""
    trail: str = ""
    """The whitespace before and after it, which a template may print or trim."""
    inline: bool = False
    """Whether it is reasoning inside the content, between `<think>` tags."""


ECHO = TextSource(None, CALLS)
"""The source of a part of a tool call that is printed again, with the result."""


class TextSpan(Struct, frozen=True):
    """The position of a marked text in the rendered text: `[start, end)` in code points."""

    start: int
    end: int
    source: TextSource


class MarkerPlan(Struct, frozen=True):
    """A choice of texts to mark. A template that tests a text, rather than just printing it, may need it unmarked."""

    others: bool = True
    """Messages of roles other than assistant."""
    calls: bool = True
    """The strings in tool calls."""
    blank: bool = False
    """Texts that are empty or whitespace."""
    reasoning: bool = True
    tools: bool = False
    """The names of the tools, and the documents."""
    schemas: bool = False
    """The texts in the schemas of the tools, such as choices: their source is `enum of tools` and so on."""
    values: bool = False
    """Numbers and booleans in content that is an object; they become text."""


DEFAULT_PLAN = MarkerPlan()


class MarkedChat(Struct, frozen=True):
    """A conversation with markers; the marker of `sources[k]` is the characters `base + 2k` and `base + 2k + 1`."""

    chat: Chat
    sources: tuple[TextSource, ...]
    base: int
    texts: tuple[str, ...]
    """The text between the characters of each marker."""


class UnmarkedText(Struct, frozen=True):
    """A rendered text without its markers, and where the marked texts are in it."""

    text: str
    spans: tuple[TextSpan, ...]
    lost: tuple[TextSource, ...]
    """Texts that were not printed."""
    torn: tuple[TextSource, ...]
    """Texts that were split, or printed more than once. Not parts of tool calls: their repetitions are an `ECHO`."""


class _ChatMarker:
    """Marks the texts of one conversation in order, and records the source of each."""

    def __init__(self, base: int, plan: MarkerPlan) -> None:
        self.base, self.plan, self.sources, self.texts = base, plan, list[TextSource](), list[str]()
        self.full = False
        """Whether there are more texts than markers."""

    def text(self, text: str, message: int | None, field: str, *, inline: bool = False) -> str:
        """Return the text with a marker inside its outer whitespace."""
        core = text.strip()
        if not core and not self.plan.blank:
            return text
        if len(self.sources) == MAX_MARKERS:
            self.full = True
            return text
        lead = text[: len(text) - len(text.lstrip())] if core else text
        trail = text[len(lead) + len(core) :]
        opening = self.base + 2 * len(self.sources)
        self.sources.append(TextSource(message, field, lead, trail, inline))
        self.texts.append(core)
        return f"{lead}{chr(opening)}{core}{chr(opening + 1)}{trail}"

    def content(self, text: str, message: int, role: object) -> str:
        """Return the content with markers; an assistant's content is split at `<think>` tags."""
        if role != "assistant" or not _THINK.search(text) or not _THINK.sub("", text).strip():
            return self.text(text, message, CONTENT)
        pieces, inside = _THINK.split(text), "</think" in text and not text.lstrip().startswith("<think")
        for number, piece in enumerate(pieces):
            if number % 2:
                inside = not piece.startswith("</")
            elif piece.strip() or (self.plan.blank and not inside and number == len(pieces) - 1):
                pieces[number] = self.text(piece, message, REASONING if inside else CONTENT, inline=inside)
        return "".join(pieces)

    def nested(self, value: Any, message: int | None, field: str) -> Any:
        """Return the value with every string in it marked, except keys."""
        if isinstance(value, str):
            return self.text(value, message, field)
        if isinstance(value, Mapping):
            return {key: self.nested(item, message, field) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.nested(item, message, field) for item in value]
        marked = self.plan.values and field == CONTENT and value is not None
        return self.text(json.dumps(value), message, field) if marked else value

    def call(self, call: Any, message: int) -> Any:
        """Return a tool call, flat or nested under `function`, with its name and arguments marked."""
        if not isinstance(call, Mapping):
            return call
        if isinstance(call.get("function"), Mapping):
            function = self.call(call["function"], message)
            return {**call, **_named_id(call.get("id"), call["function"], function), "function": function}
        return {key: self.nested(call[key], message, CALLS) if key in _CALL_KEYS else call[key] for key in call}

    def part(self, part: Any, message: int) -> Any:
        """Return a part of list content with its text marked; an object without `type` is data, and all of it text."""
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            return {**part, "text": self.text(part["text"], message, CONTENT)}
        if isinstance(part, Mapping) and "type" not in part:
            return self.nested(part, message, CONTENT)
        return self.text(part, message, CONTENT) if isinstance(part, str) else part

    def message(self, message: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        """Return the message with the texts marked that the plan names."""
        role = message.get("role")
        if role != "assistant" and not self.plan.others:
            return message
        reasoning = {name: message[name] for name in REASONING_FIELDS if isinstance(message.get(name), str)}
        others = {
            name: self._field(name, value, index, role) for name, value in message.items() if name not in reasoning
        }
        if not reasoning or not self.plan.reasoning:
            return {name: others.get(name, value) for name, value in message.items()}
        text = next(iter(reasoning.values()))
        marked = self.text(text, index, REASONING)
        return {name: others.get(name, marked if value == text else value) for name, value in message.items()}

    def _field(self, name: str, value: Any, index: int, role: object) -> Any:
        if name in REASONING_FIELDS and self.plan.reasoning and isinstance(value, (Mapping, list)):
            return self.nested(value, index, REASONING)
        if name == "content" and isinstance(value, str):
            return self.content(value, index, role)
        if name == "content" and isinstance(value, (list, tuple)):
            return [self.part(part, index) for part in value]
        if name == "content" and isinstance(value, Mapping):
            return self.nested(value, index, CONTENT)
        if name == "tool_calls" and self.plan.calls and isinstance(value, (list, tuple)):
            return [self.call(call, index) for call in value]
        return value

    def tool(self, tool: Any) -> Any:
        """Return a tool with its name marked."""
        if not isinstance(tool, Mapping):
            return tool
        if isinstance(tool.get("function"), Mapping):
            return {**tool, "function": self.tool(tool["function"])}
        marked = {"name": self.nested(tool["name"], None, TOOLS)} if self.plan.tools and "name" in tool else {}
        return {**tool, **marked, **(self.schema(tool) if self.plan.schemas else {})}

    def schema(self, value: Any) -> Any:
        """Return a JSON schema, or an object of them, with descriptions, constants and choices marked."""
        if isinstance(value, Mapping):
            return {
                key: self.nested(item, None, f"{key} of tools")
                if key in _SCHEMA_TEXTS and _is_text(item)
                else self.schema(item)
                for key, item in value.items()
            }
        return [self.schema(item) for item in value] if isinstance(value, (list, tuple)) else value


def _named_id(id: Any, function: Mapping[str, Any], marked: Mapping[str, Any]) -> dict[str, str]:
    """Return the id of a call with its name marked in it, as in `functions.NAME:0`, which Kimi prints alone."""
    start = f"functions.{function.get('name')}:"
    named = isinstance(id, str) and id.startswith(start)
    return {"id": f"functions.{marked['name']}:{id.removeprefix(start)}"} if named else {}


def _is_text(value: Any) -> bool:
    """Return whether a value is a text or a list of texts, and not a property of that name."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


_SCHEMA_TEXTS = frozenset(("description", "enum", "const", "pattern", "default", "examples"))
_CALL_KEYS = frozenset(("name", "arguments", "parameters"))


def add_markers(chat: Chat, plan: MarkerPlan = DEFAULT_PLAN, *, partly: bool = False) -> MarkedChat | None:
    """Return the conversation with markers.

    None if its own text uses both private-use planes, or if it has too many texts; `partly` marks the first of these.
    """
    base = _free_plane(chat)
    if base is None:
        return None
    marker = _ChatMarker(base, plan)
    messages = [marker.message(message, index) for index, message in enumerate(chat.messages)]
    tools, documents = chat.tools, chat.documents
    if plan.tools or plan.schemas:
        tools = [marker.tool(tool) for tool in tools] if tools else tools
        documents = marker.nested(documents, None, DOCUMENTS) if plan.tools else documents
    marked = replace(chat, messages=messages, tools=tools, documents=documents)
    return MarkedChat(marked, tuple(marker.sources), base, tuple(marker.texts)) if partly or not marker.full else None


def keep_markers(marked: MarkedChat, numbers: Collection[int]) -> Chat:
    """Return the marked conversation without any markers but those of the sources with these `numbers`."""
    kept = {chr(marked.base + 2 * number + end) for number in numbers for end in (0, 1)}
    end = marked.base + 2 * len(marked.sources)

    def strip(text: str) -> str:
        return _MARKER_CHARACTER.sub(
            lambda found: found[0] if found[0] in kept or not marked.base <= ord(found[0]) < end else "", text
        )

    return _with_each_text(marked.chat, strip)


def replace_texts(marked: MarkedChat, texts: Mapping[int, str]) -> Chat:
    """Return the conversation without markers, and with other `texts` in place of those of sources, by number."""

    def change(value: str) -> str:
        for opening in _MARKER_CHARACTER.findall(value):
            number = (ord(opening) - marked.base) // 2
            if number in texts:
                value = value.replace(f"{opening}{marked.texts[number]}{chr(ord(opening) + 1)}", texts[number])
        return value

    return _with_each_text(keep_markers(marked, texts), change)


def _with_each_text(chat: Chat, change: Callable[[str], str]) -> Chat:
    def changed(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, Mapping):
            return {key: changed(item) for key, item in value.items()}
        return [changed(item) for item in value] if isinstance(value, (list, tuple)) else value

    return replace(chat, messages=changed(chat.messages), tools=changed(chat.tools), documents=changed(chat.documents))


def _free_plane(chat: Chat) -> int | None:
    values = [chat.messages, chat.tools, chat.documents, dict(chat.variables)]
    used = set(_MARKER_CHARACTER.findall(json.dumps(values, ensure_ascii=False, default=repr)))
    free = (base for base in PLANES if not any(base <= ord(character) < base + 0x10000 for character in used))
    return next(free, None)


def unescape_markers(text: str, base: int) -> str:
    """Return the text with markers as themselves where they were escaped, as in JSON or Python code."""
    if "\\" not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        if match[1] is not None:
            code = int(match[1], 16)
        else:
            code = 0x10000 + ((int(match[2], 16) & 0x3FF) << 10) + (int(match[3], 16) & 0x3FF)
        return chr(code) if base <= code < base + 0x10000 else match[0]

    return _ESCAPED_MARKER.sub(plain, text)


_ESCAPED_MARKER = re.compile(
    r"\\+(?:U00((?:0f|10)[0-9a-f]{4})|u(db[89a-f][0-9a-f])\\+u(d[c-f][0-9a-f]{2}))", re.IGNORECASE
)


def remove_markers(text: str, marked: MarkedChat) -> UnmarkedText:
    """Remove the markers of a conversation from its rendered `text` and find where the marked texts are.

    Private-use characters that are not markers of this conversation stay.
    """
    text = unescape_markers(text, marked.base)
    plain: list[str] = []
    opened: dict[int, int] = {}
    found: list[tuple[int, int, int]] = []
    torn: set[int] = set()
    last = length = 0
    for match in _MARKER_CHARACTER.finditer(text):
        number, closing = divmod(ord(match[0]) - marked.base, 2)
        if not 0 <= number < len(marked.sources):
            continue
        plain.append(text[last : match.start()])
        length += match.start() - last
        last = match.end()
        if closing and number in opened:
            found.append((opened.pop(number), length, number))
        elif closing or number in opened:
            torn.add(number)
        if not closing:
            opened[number] = length
    plain.append(text[last:])
    return _unmarked("".join(plain), sorted(found), torn | opened.keys(), marked.sources)


def _unmarked(
    text: str, found: list[tuple[int, int, int]], torn: set[int], sources: tuple[TextSource, ...]
) -> UnmarkedText:
    spans: list[TextSpan] = []
    seen: set[int] = set()
    for start, end, number in found:
        source = sources[number]
        if number in seen and source.field == CALLS:
            source = ECHO
        elif number in seen:
            torn.add(number)
        seen.add(number)
        spans.append(TextSpan(start, end, source))
    lost = tuple(source for number, source in enumerate(sources) if number not in seen and number not in torn)
    return UnmarkedText(text, tuple(spans), lost, tuple(sources[number] for number in sorted(torn)))
