"""Report what an untrusted template could do, before you trust it. The template is traced, not rendered.

A template can plant text under a condition on the content of messages. So the audit lists the conditions that it tests
on texts, all literal text that it may print, and whatever else makes its output hard to predict.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from ..jinja.determinism import random_names
from ..jinja.environment import literal_texts
from ..single import Chat
from ..template import builtin
from ..template.chat_template import ChatTemplate
from ..template.special_tokens import NAMED
from ..trace.program import Program, Untraceable, spell
from ..trace.renderer import Tracer
from ..trace.tracer import Inputs, trace
from .sample_conversations import usual_conversations

_INVISIBLE = {"Cf", "Co", "Cn", "Cs"}
"""Unicode categories: format, private use, unassigned, surrogate."""


class Audit(Struct, frozen=True):
    """The findings of an audit; each list is empty if there is nothing to report."""

    template: str
    sha256: str
    origin: str
    equals: str
    """The built-in template with the same text, if any."""
    literals: tuple[str, ...]
    """The text between its tags and the strings inside them, longest first."""
    conditions: tuple[str, ...]
    """The conditions that it tests on the texts of ordinary conversations."""
    untraceable: tuple[str, ...]
    """Why some ordinary conversations cannot be traced; these may hide more conditions."""
    unrendered: tuple[str, ...]
    """Texts of ordinary conversations that it never prints."""
    special_tokens: tuple[str, ...]
    """The special tokens that it reads, as `bos_token: "<s>"`, or `bos_token: none` without a value."""
    unreproducible: tuple[str, ...]
    """Functions whose result differs between runs, and the date."""
    hidden: tuple[str, ...]
    """Invisible characters in its source, as `U+202E at 17`."""

    def as_json(self) -> dict[str, Any]:
        """Return the findings as plain data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def audit(template: ChatTemplate, tracer: Tracer = trace) -> Audit:
    """Audit a template. Pass the sandbox's `tracer` for an untrusted one."""
    traced = [_traced(template, chat, tracer) for chat in usual_conversations()]
    programs = [program for program in traced if isinstance(program, Program)]
    conditions = (f"{spell(question)} is {answer!r}" for program in programs for question, answer in program.guards)
    unrendered = (".".join(map(str, path)) for program in programs for path in program.unrendered())
    printed = {text for source in template.texts for text in literal_texts(source) if text.strip()}
    random = [name for text in template.texts for name in random_names(text)]
    return Audit(
        template=template.name,
        sha256=template.sha256,
        origin=template.origin,
        equals=_same_builtin(template),
        literals=tuple(sorted(printed, key=lambda text: (-len(text), text))),
        conditions=_distinct(conditions),
        untraceable=_distinct(result.reason for result in traced if isinstance(result, Untraceable)),
        unrendered=_distinct(unrendered),
        special_tokens=tuple(_special_tokens(template)),
        unreproducible=_distinct([*random, *(["strftime_now"] if template.reads_date else [])]),
        hidden=tuple(_invisible_characters("".join(template.texts))),
    )


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _traced(template: ChatTemplate, chat: Chat, tracer: Tracer) -> Program | Untraceable:
    inputs = Inputs(chat.messages, chat.tools, variables=template.special_tokens)
    return tracer(template.choose(chat.tools), inputs, deep=True)


def _special_tokens(template: ChatTemplate) -> Iterator[str]:
    for name in NAMED:
        if any(name in text for text in template.texts):
            value = template.special_tokens.get(name)
            yield f"{name}: {'none' if value is None else json.dumps(value, ensure_ascii=False)}"


def _same_builtin(template: ChatTemplate) -> str:
    builtins = (builtin.find(name) for name in builtin.names())
    return next((one.name for one in builtins if one is not None and one.text == template.text), "")


def _invisible_characters(source: str) -> list[str]:
    return [
        f"U+{ord(character):04X} at {offset}"
        for offset, character in enumerate(source)
        if unicodedata.category(character) in _INVISIBLE
    ]
