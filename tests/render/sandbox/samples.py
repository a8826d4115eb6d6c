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
    "text": "{{ 'a' * 10**10 }}", "doubled": "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "added": "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "list": "{{ ([0] * 10**8) | length }}", "tuple": "{{ ((0, 1) * 10**9) | length }}", "power": "{{ 10 ** (10 ** 7) }}",
    "square": "{% set ns = namespace(n=3) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "if": "{% for i in range(9999) %}{% for j in range(9999) %}{% if i %}{% endif %}{% endfor %}{% endfor %}",
    "macro": "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 2) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "range": "{{ range(10**9) | list }}", "steps": "{{ range(0, 10**9, 2) | sum }}", "center": "{{ 'a'.center(10**10) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}", "zfill": "{{ '1'.zfill(width=10**10) if false else '1'.zfill(10**10) }}",
    "filter center": "{{ 'a' | center(10**10) }}", "filter indent": "{{ 'a\n' | indent(10**10, true) }}",
    "percent": "{{ '%10000000000s' % 'a' }}", "star": "{{ '%*s' % (10**10, 'a') }}", "format": "{{ '{:10000000000}'.format(1) }}",
    "nested format": "{{ '{:{}}'.format(1, 10**10) }}", "filter format": "{{ '%10000000000s' | format('a') }}",
    "format_map": "{{ '{a:10000000000}'.format_map({'a': 1}) }}", "precision": "{{ '%.10000000000f' % 1.0 }}",
    "replace": "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}", "filter replace": "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}",
    "join": "{{ ('a' * 10**6).join(['b'] * 10**5) }}", "expandtabs": "{{ ('\t' * 10**4).expandtabs(10**9) }}",
    "translate": "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}", "to_bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "batch": "{{ [1] | batch(10**9, 0) | list }}", "slice": "{{ [1] | slice(10**9) | list }}",
    "tojson": "{{ [[1]] | tojson(indent=10**10) }}", "output": "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
    "set block": "{% set x %}{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}{% endset %}",
    "filter join": "{{ (['a' * 10**5] * 10**6) | join }}", "lipsum": "{{ lipsum(n=10**9) }}", "random": "{{ [1, 2] | random }}",
    "words": "{{ ('a ' * 10**6) | wordwrap(1, wrapstring='b' * 10**6) }}", "lists": "{{ ([[0] * 999] * 10**6) | sum(start=[]) | length }}",
    "sort in loops": "{% set l = range(9999) | list %}{% for i in range(9999) %}{% for j in range(99) %}{% set x = l | sort %}{% endfor %}{% endfor %}",
    "filter upper": "{% set t = 'ab' * 450000 %}{% for i in range(9999) %}{% set x = t | upper %}{% endfor %}",
    "upper": "{% set t = 'ab' * 450000 %}{% for i in range(9999) %}{% set x = t.upper() %}{% endfor %}",
    "compare": "{% set t = 'ab' * 400000 %}{% for i in range(9999) %}{% if t[1:] in t %}{% endif %}{% endfor %}",
    "slice in loops": "{% set t = 'ab' * 400000 %}{% for i in range(9999) %}{% set x = t[1:] %}{% endfor %}",
    "is in": "{% set t = 'ab' * 400000 %}{% for i in range(9999) %}{% if 'c' is in t %}{% endif %}{% endfor %}",
    "map": "{% set l = range(9999)|list %}{% for i in range(9999) %}{% if l | map('string') | select('equalto', 'x') | first %}{% endif %}{% endfor %}",
}  # fmt: skip
CHEAP = SandboxLimits(seconds=2, steps=100_000)
ONE = ConversationBatch(json_columns.encode_conversations(CHAT[:1]))
PROCESS = ("lists", "filter join", "macro", "text")
"""A template that the counters alone do not stop, and some that they do: for the limits of the process."""
