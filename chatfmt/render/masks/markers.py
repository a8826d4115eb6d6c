"""Private-use characters around each text of a conversation, and what becomes of them in the rendered text.

A **mark** is a pair of characters from a private-use plane, one before and one after a text, each used once in a
conversation. Because they are letters to a template, most templates print them where they print the text. Taking them
out again must give the text of the unmarked conversation: that proves that they changed nothing.

Whitespace around a text stays outside its marks (`" ⟦hello⟧\n"`), so that a template that trims, trims the same. Text
around `<think>` tags is marked piece by piece, because many templates cut it there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ...schema import REASONING_FIELDS
from ..single import Chat

PLANES = (0xF0000, 0x100000)
"""Where the two private-use planes begin; each has room for `ROOM` marks."""
ROOM = 32_766
_MARK = re.compile("[\U000f0000-\U0010ffff]")
TAG = r"</?think(?:ing)?>"
_THINK = re.compile(f"({TAG})")

CONTENT, REASONING, CALLS, TOOLS, DOCUMENTS = "content", "reasoning", "tool_calls", "tools", "documents"


class Slot(Struct, frozen=True):
    """A text that was marked: of which message (None: of the tools or documents), and of which part of it."""

    message: int | None
    field: str
    lead: str = ""
    trail: str = ""
    """The whitespace before and after it, which a template may print or trim."""
    inline: bool = False
    """Whether it is reasoning inside the content, between `<think>` tags."""


ECHO = Slot(None, CALLS)


class Piece(Struct, frozen=True):
    """Where a marked text stands in the rendered text, `[start, end)` in code points."""

    start: int
    end: int
    slot: Slot


class Plan(Struct, frozen=True):
    """What to mark. A template that reads a text (and not only prints it) may need a plan that leaves it alone."""

    others: bool = True
    """Messages of roles other than assistant as well."""
    calls: bool = True
    """The strings in tool calls."""
    blank: bool = False
    """Texts of nothing but whitespace."""
    reasoning: bool = True
    tools: bool = False
    """The names of the tools, and the documents."""
    values: bool = False
    """The numbers and truth values in content that is an object, which become text."""


USUAL = Plan()


class Marked(Struct, frozen=True):
    """A conversation with marks; the mark of `slots[k]` is the characters `base + 2k` and `base + 2k + 1`."""

    chat: Chat
    slots: tuple[Slot, ...]
    base: int


class Reading(Struct, frozen=True):
    """A rendered text without its marks: where each marked text stands, and which were lost or torn.

    `torn` are slots whose text was cut in two, or printed more than once. A name of a tool that is printed again
    with the result is no tear but an **echo**: a piece that belongs to no message.
    """

    text: str
    pieces: tuple[Piece, ...]
    lost: tuple[Slot, ...]
    torn: tuple[Slot, ...]


class Marker:
    """Marks texts one after the other; remembers what each mark stands for."""

    def __init__(self, base: int, plan: Plan) -> None:
        self.base, self.plan, self.slots = base, plan, list[Slot]()

    def wrap(self, text: str, message: int | None, field: str, *, inline: bool = False) -> str:
        """The text with marks inside its outer whitespace."""
        core = text.strip()
        if not core and not self.plan.blank:
            return text
        lead = text[: len(text) - len(text.lstrip())] if core else text
        trail = text[len(lead) + len(core) :]
        place = self.base + 2 * len(self.slots)
        self.slots.append(Slot(message, field, lead, trail, inline))
        return f"{lead}{chr(place)}{core}{chr(place + 1)}{trail}"

    def content(self, text: str, message: int, role: object) -> str:
        """The content with its marks, cut at `<think>` tags where an assistant says it."""
        if role != "assistant" or not _THINK.search(text) or not _THINK.sub("", text).strip():
            return self.wrap(text, message, CONTENT)
        pieces, inside = _THINK.split(text), "</think" in text and not text.lstrip().startswith("<think")
        for place, piece in enumerate(pieces):
            if place % 2:
                inside = not piece.startswith("</")
            elif piece.strip():
                pieces[place] = self.wrap(piece, message, REASONING if inside else CONTENT, inline=inside)
        return "".join(pieces)

    def deep(self, value: Any, message: int | None, field: str) -> Any:
        """The value with every string in it marked; keys are left alone."""
        if isinstance(value, str):
            return self.wrap(value, message, field)
        if isinstance(value, Mapping):
            return {key: self.deep(item, message, field) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.deep(item, message, field) for item in value]
        marked = self.plan.values and field == CONTENT and value is not None
        return self.wrap(json.dumps(value), message, field) if marked else value

    def call(self, call: Any, message: int) -> Any:
        """A tool call with its name and arguments marked, whether it is nested under `function` or flat."""
        if not isinstance(call, Mapping):
            return call
        if isinstance(call.get("function"), Mapping):
            return {**call, "function": self.call(call["function"], message)}
        return {key: self.deep(call[key], message, CALLS) if key in _CALL_KEYS else call[key] for key in call}

    def part(self, part: Any, message: int) -> Any:
        """A part of list-shaped content with its text marked; an object that names no type is data, and all text."""
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            return {**part, "text": self.wrap(part["text"], message, CONTENT)}
        if isinstance(part, Mapping) and "type" not in part:
            return self.deep(part, message, CONTENT)
        return self.wrap(part, message, CONTENT) if isinstance(part, str) else part

    def message(self, message: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        """The message with marks on its texts, as the plan wants them."""
        role = message.get("role")
        if role != "assistant" and not self.plan.others:
            return message
        reasoning = {name: message[name] for name in REASONING_FIELDS if isinstance(message.get(name), str)}
        said = {name: self._field(name, value, index, role) for name, value in message.items() if name not in reasoning}
        if not reasoning or not self.plan.reasoning:
            return {name: said.get(name, value) for name, value in message.items()}
        text = next(iter(reasoning.values()))
        marked = self.wrap(text, index, REASONING)
        return {name: said.get(name, marked if value == text else value) for name, value in message.items()}

    def _field(self, name: str, value: Any, index: int, role: object) -> Any:
        if name == "content" and isinstance(value, str):
            return self.content(value, index, role)
        if name == "content" and isinstance(value, (list, tuple)):
            return [self.part(part, index) for part in value]
        if name == "content" and isinstance(value, Mapping):
            return self.deep(value, index, CONTENT)
        if name == "tool_calls" and self.plan.calls and isinstance(value, (list, tuple)):
            return [self.call(call, index) for call in value]
        return value

    def tool(self, tool: Any) -> Any:
        """A tool with its name marked."""
        if not isinstance(tool, Mapping):
            return tool
        if isinstance(tool.get("function"), Mapping):
            return {**tool, "function": self.tool(tool["function"])}
        return {key: self.deep(tool[key], None, TOOLS) if key == "name" else tool[key] for key in tool}


_CALL_KEYS = frozenset(("name", "arguments", "parameters"))


def mark(chat: Chat, plan: Plan = USUAL) -> Marked | None:
    """The conversation with marks, or None where its own text leaves no private-use plane free, or no room in one."""
    base = _free_plane(chat)
    if base is None:
        return None
    marker = Marker(base, plan)
    messages = [marker.message(message, index) for index, message in enumerate(chat.messages)]
    tools, documents = chat.tools, chat.documents
    if plan.tools:
        tools = [marker.tool(tool) for tool in tools] if tools else tools
        documents = marker.deep(documents, None, DOCUMENTS)
    marked = replace(chat, messages=messages, tools=tools, documents=documents)
    return Marked(marked, tuple(marker.slots), base) if len(marker.slots) <= ROOM else None


def only(marked: Marked, number: int) -> Chat:
    """The marked conversation with no other marks than those of slot `number`."""
    kept = {chr(marked.base + 2 * number), chr(marked.base + 2 * number + 1)}
    last = marked.base + 2 * len(marked.slots)

    def bare(value: Any) -> Any:
        if isinstance(value, str):
            return _MARK.sub(lambda m: m[0] if m[0] in kept or not marked.base <= ord(m[0]) < last else "", value)
        if isinstance(value, Mapping):
            return {key: bare(item) for key, item in value.items()}
        return [bare(item) for item in value] if isinstance(value, (list, tuple)) else value

    chat = marked.chat
    return replace(chat, messages=bare(chat.messages), tools=bare(chat.tools), documents=bare(chat.documents))


def _free_plane(chat: Chat) -> int | None:
    values = [chat.messages, chat.tools, chat.documents, dict(chat.variables)]
    own = set(_MARK.findall(json.dumps(values, ensure_ascii=False, default=repr)))
    free = (base for base in PLANES if not any(base <= ord(character) < base + 0x10000 for character in own))
    return next(free, None)


def read(text: str, marked: Marked) -> Reading:
    """The rendered `text` of a marked conversation without its marks, and where the marked texts stand in it.

    Characters are left alone that are no marks of this conversation.
    """
    plain: list[str] = []
    opened: dict[int, int] = {}
    found: list[tuple[int, int, int]] = []
    torn: set[int] = set()
    last = length = 0
    for match in _MARK.finditer(text):
        number, closing = divmod(ord(match[0]) - marked.base, 2)
        if not 0 <= number < len(marked.slots):
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
    return _reading("".join(plain), sorted(found), torn | opened.keys(), marked.slots)


def _reading(text: str, found: list[tuple[int, int, int]], torn: set[int], slots: tuple[Slot, ...]) -> Reading:
    pieces: list[Piece] = []
    seen: set[int] = set()
    for start, end, number in found:
        slot = slots[number]
        if number in seen and slot.field == CALLS:
            slot = ECHO
        elif number in seen:
            torn.add(number)
        seen.add(number)
        pieces.append(Piece(start, end, slot))
    lost = tuple(slot for number, slot in enumerate(slots) if number not in seen and number not in torn)
    return Reading(text, tuple(pieces), lost, tuple(slots[number] for number in sorted(torn)))
