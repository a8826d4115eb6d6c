"""What a stranger's template could do: a report to read before it is trusted. Nothing is run but traces of it.

A template alone can plant text under a condition on what people say; so the conditions that it asks about texts are
listed, with all the literal text that it may print and whatever else makes its output hard to foresee.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from msgspec import Struct
from msgspec.structs import asdict

from ..jinja.determinism import chance
from ..jinja.environment import sandbox
from ..template import builtin
from ..template.chat_template import ChatTemplate
from ..trace.program import Program, Untraceable, spell
from ..trace.tracer import Inputs, trace
from .diff import usual_conversations

_HIDDEN = {"Cf", "Co", "Cn", "Cs"}
Tracer = Callable[..., "Program | Untraceable"]


class Audit(Struct, frozen=True):
    """The findings, each a list of texts, empty where there is nothing to say."""

    template: str
    sha256: str
    origin: str
    equals: str
    """The built-in template with the same text, if there is one."""
    literals: tuple[str, ...]
    """The text between its tags and the strings inside them, longest first."""
    conditions: tuple[str, ...]
    """What it asks about the texts of ordinary conversations."""
    untraceable: tuple[str, ...]
    """Why some ordinary conversations cannot be followed, so that more conditions may lie there."""
    unrendered: tuple[str, ...]
    """Texts of ordinary conversations that it never prints."""
    unreproducible: tuple[str, ...]
    """Functions whose outcome differs from run to run, and the date."""
    hidden: tuple[str, ...]
    """Characters of its source that a screen does not show, as `U+202E at 17`."""

    def as_json(self) -> dict[str, Any]:
        """Plain data, keys in order."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def audit(template: ChatTemplate, tracer: Tracer = trace) -> Audit:
    """The audit of a template; `tracer` traces it, behind the locked door where it is a stranger's."""
    programs = [_traced(template, chat, tracer) for chat in usual_conversations()]
    found = [program for program in programs if isinstance(program, Program)]
    asked = dict.fromkeys(f"{spell(question)} is {answer!r}" for made in found for question, answer in made.guards)
    lost = dict.fromkeys(".".join(map(str, path)) for program in found for path in program.unrendered())
    drawn = [name for text in template.texts for name in chance(text)]
    return Audit(
        template=template.name,
        sha256=template.sha256,
        origin=template.origin,
        equals=_known(template),
        literals=tuple(sorted({text for source in template.texts for text in _literals(source)}, key=_longest)),
        conditions=tuple(asked),
        untraceable=tuple(dict.fromkeys(made.reason for made in programs if isinstance(made, Untraceable))),
        unrendered=tuple(lost),
        unreproducible=tuple(dict.fromkeys([*drawn, *(["strftime_now"] if template.reads_date else [])])),
        hidden=tuple(_hidden("".join(template.texts))),
    )


def _longest(text: str) -> tuple[int, str]:
    return -len(text), text


def _traced(template: ChatTemplate, chat: Any, tracer: Tracer) -> Program | Untraceable:
    inputs = Inputs(chat.messages, chat.tools, variables=template.special_tokens)
    return tracer(template.choose(chat.tools), inputs, deep=True)


def _literals(source: str) -> list[str]:
    try:
        tree = sandbox().parse(source)
    except (TemplateSyntaxError, RecursionError):
        return []
    texts = [node.data for node in tree.find_all(nodes.TemplateData)]
    texts += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return [text for text in texts if text.strip()]


def _known(template: ChatTemplate) -> str:
    builtins = (builtin.find(name) for name in builtin.names())
    return next((one.name for one in builtins if one is not None and one.text == template.text), "")


def _hidden(source: str) -> list[str]:
    places = [(place, sign) for place, sign in enumerate(source) if unicodedata.category(sign) in _HIDDEN]
    return [f"U+{ord(sign):04X} at {place}" for place, sign in places]
