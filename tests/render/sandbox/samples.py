# ruff: noqa: E501
"""Conversations, templates and helpers that the tests of the sandbox share."""

from __future__ import annotations

import re
from typing import Any

from chatfmt import json_columns
from chatfmt.errors import RenderError
from chatfmt.render import ChatTemplate
from chatfmt.render.sandbox.limits import SandboxLimits
from chatfmt.rendering import ConversationBatch, RenderRequest

ADDRESS = re.compile("0x[0-9a-f]+")
CHAT = [
    [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hé\u2028 <|im_end|>"}],
    [{"role": "user", "content": "2^70?"}, {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "pow", "arguments": {"x": 2**70, "y": 1.5, "z": None}}}]},
     {"role": "tool", "content": "1180591620717411303424"}],
    None,
    [],
    [{"role": "assistant", "content": "x", "reasoning_content": "because"}],
]  # fmt: skip
TOOLS = [None, [{"type": "function", "function": {"name": "pow", "parameters": {}}}], None, None, [{"name": "b"}]]
COLUMNS = ConversationBatch(
    json_columns.encode_conversations(CHAT), json_columns.json_array(TOOLS, [tools is not None for tools in TOOLS])
)


def template(text: str, **named: str) -> ChatTemplate:
    return ChatTemplate("untrusted", text, {"bos_token": "<s>", "eos_token": "</s>"}, named)


def outcomes(renderer: Any, chats: ConversationBatch, **request: Any) -> tuple[Any, Any, list[Any]]:
    """Texts, spans and errors, down to the cause."""
    failures: list[RenderError] = []
    rendered = renderer(chats, RenderRequest(**request), failures)
    errors = [
        (
            ADDRESS.sub("0x", e.message),
            e.hint,
            e.code,
            e.at,
            type(e.__cause__).__name__,
            ADDRESS.sub("0x", str(e.__cause__)),
        )
        for e in failures
    ]
    return rendered.text.to_pylist(), rendered.spans and rendered.spans.to_pylist(), errors


CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COSTLY = {
    "text": "{{ 'a' * 10**10 }}", "power": "{{ 10 ** (10 ** 7) }}",
    "if": "{% for i in range(9999) %}{% for j in range(9999) %}{% if i %}{% endif %}{% endfor %}{% endfor %}",
    "macro": "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 2) }}{% endif %}{% endmacro %}{{ f(60) }}", "star": "{{ '%*s' % (10**10, 'a') }}",
    "nested format": "{{ '{:{}}'.format(1, 10**10) }}", "filter format": "{{ '%10000000000s' | format('a') }}",
    "format_map": "{{ '{a:10000000000}'.format_map({'a': 1}) }}", "replace": "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}",
    "filter replace": "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}", "join": "{{ ('a' * 10**6).join(['b'] * 10**5) }}",
    "expandtabs": "{{ ('\t' * 10**4).expandtabs(10**9) }}", "filter join": "{{ (['a' * 10**5] * 10**6) | join }}",
    "lists": "{{ ([[0] * 999] * 10**6) | sum(start=[]) | length }}",
    "sort in loops": "{% set l = range(9999) | list %}{% for i in range(9999) %}{% for j in range(99) %}{% set x = l | sort %}{% endfor %}{% endfor %}",
    "filter upper": "{% set t = 'ab' * 450000 %}{% for i in range(9999) %}{% set x = t | upper %}{% endfor %}",
    "upper": "{% set t = 'ab' * 450000 %}{% for i in range(9999) %}{% set x = t.upper() %}{% endfor %}",
    "compare": "{% set t = 'ab' * 400000 %}{% for i in range(9999) %}{% if t[1:] in t %}{% endif %}{% endfor %}",
    "slice in loops": "{% set t = 'ab' * 400000 %}{% for i in range(9999) %}{% set x = t[1:] %}{% endfor %}",
    "is in": "{% set t = 'ab' * 400000 %}{% for i in range(9999) %}{% if 'c' is in t %}{% endif %}{% endfor %}",
    "map": "{% set l = range(9999)|list %}{% for i in range(9999) %}{% if l | map('string') | select('equalto', 'x') | first %}{% endif %}{% endfor %}",
    "width in a text": "{{ '{0:{1}}'.format(1, '9999999999') }}", "format again": "{{ ('{0}' * 10**4).format('a' * 8000000) }}",
    "percent again": "{{ '%(a)s' * 10**5 % {'a': 'a' * 10**5} }}", "percent again, a list": "{{ '%(a)s' * 10**5 % {'a': ['a' * 10**5]} }}",
    "tilde": "{% set t = 'a' * 8000000 %}{{ " + " ~ ".join(["t"] * 10**4) + " }}", "date": "{{ strftime_now('%250d' * 10**5) | length }}",
    "join an iterator": "{{ ('a' * 8000000).join(range(9999) | map('string')) }}", "join with a long text": "{{ range(9999) | join('a' * 8000000) }}",
    "sum of lists": "{{ ([[1]] * 10**5) | sum(start=[]) }}", "sort a text": "{{ ('ab' * 4000000) | sort }}", "group a text": "{{ ('ab' * 4000000) | groupby('a') }}",
    "indent": "{{ ([[[[1]]]] * 10**5) | tojson(indent=1000) }}", "indent by a text": "{{ [1] | tojson(indent='a' * 10**6) }}",
}  # fmt: skip
"""Templates that cost too much; `hostile/template_cases.py` has more."""
CHEAP = SandboxLimits(seconds=2, steps=100_000)
ONE = ConversationBatch(json_columns.encode_conversations(CHAT[:1]))
PROCESS = ("lists", "filter join", "macro", "text")
"""A template that the counters alone do not stop, and some that they do: for the limits of the process."""
