# ruff: noqa: E501
"""Small templates and conversations, each for one feature or edge case of chat templates."""

from __future__ import annotations

from typing import Any

TEMPLATES: dict[str, str] = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}\n",
    "alternates": "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns, not ' ~ m['role']) }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] | trim }}{{ eos_token if m.role == 'assistant' }}{% endfor %}",
    "generation": "{{ bos_token }}{%- for m in messages %}{%- if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{%- else %}<{{ m.content }}>{% endif %}{% endfor %}",
    "generation-first": "{% generation %}{{ messages[0].content }}{% endgeneration %}|"
    "{%- set s %}pre{% generation %}{{ messages[-1]['content'] }}{% endgeneration %}{% endset %}{{ s }}",
    "generation-macro": "{% macro turn(m) %}{{ m.role }}:{%- generation -%} {{ m.content }}"
    "{% generation %}!{% endgeneration %}{%- endgeneration %};{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
    "generation-scope": "{% set x = 'outer' %}{% for m in messages %}{% generation %}{% set x = m.content %}{{ x }}"
    "{% endgeneration %}{{ x }}{% endfor %}",
    "namespace": "{% set ns = namespace(system='', n=0) %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.system = m.content %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}{% if ns.n > 4 %}{% break %}"
    "{% endif %}{{ ns.n }}. {{ ns.system }} {{ m.content }}\n{% endfor %}{{ dict(a=1)|tojson }}{{ dict.fromkeys(['k']) }}",
    "private-namespace": "{{ messages[0].content }}{% set ns = namespace(_a=1) %}{{ ns._a }}",
    "private-attribute": "{{ messages[0].content }}{{ ''.__class__ }}{{ messages.__class__.__mro__ }}",
    "mutates": "{{ messages[0].role }}{% set _ = messages.append(1) %}",
    "tools": "{% if tools %}{% for t in tools %}{{ t | tojson(indent=2) }}\n{% endfor %}{% endif %}"
    "{% if tools is none %}no tools{% elif not tools %}empty tools{% endif %}"
    "{% for m in messages %}{{ m | tojson }}{% if m.tool_calls is defined %}{% for c in m.tool_calls %}"
    "{{ c.function.name }}({{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }})"
    "{% for k, v in c.function.arguments | items %}{{ k }}={{ v }};{% endfor %}{% endfor %}{% endif %}{% endfor %}",
    "documents": "{{ documents }}{% for d in documents or [] %}{{ d.title }}: {{ d['text'] }}\n{% endfor %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "reasoning": "{% for m in messages %}{{ m.keys() | list }}{{ m.thinking }}|{{ m.reasoning_content }}|{{ m.reasoning }}|"
    "{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}",
    "clock": "{{ strftime_now('%d %b %Y %H:%M:%S') }} {{ strftime_now is defined }} {{ messages[-1].content }}"
    "{{ enable_thinking }}{{ enable_thinking is defined }}",
    "markup": "{% for m in messages %}{{ ('<'|safe) + m.content }}{{ m.content|e }}{{ m.content|tojson|safe }}{% endfor %}",
    "python-text": "{% for m in messages %}{{ m }}{{ m.content ~ 1.0 ~ none ~ true }}{% endfor %}{{ 1e22 }}",
    "calls-wrongly": "{{ messages[0].content }}{{ tojson }}{{ raise_exception() }}",
    "tojson-wrongly": "{{ messages[0] | tojson(indents=2) }}",
    "undefined": "{{ nothing }}{{ messages[0].content }}{{ nothing.more }}",
    "no-bos": "{{ bos_token + messages[0]['content'] + sep_token }}",
    "parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{% if p.type == 'text' %}{{ p.text }}{% else %}<{{ p.type }}>{% endif %}{% endfor %}{% endif %}{% endfor %}",
    "trims-final": "{% for m in messages %}{{ m.content.strip() }}\n\n  \n{% endfor %}",
    "drops-final": "{% for m in messages[:-1] %}{{ m.content }}{% endfor %}",
    "no-such-tag": "{% do x %}",
    "unclosed": "{% for m in messages %}{% generation %}{{ m.content }}",
    "unknown-filter": "{% if messages|length > 1 %}{{ messages|nofilter }}{% endif %}",
    "includes": "{% include 'x' %}",
    "crlf": "a\r\nb\rc{{ 'd\r\ne' }}{{ messages[0].content }}\n\n",
    "recursion": "{% macro r(x) %}{{ r(x) }}{% endmacro %}{{ r(messages) }}",
}

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"b": 2, "a": [1, None, {"x": "é"}]}}}


def turns(*contents: Any, first: str = "user") -> list[dict[str, Any]]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]


CONVERSATIONS: list[dict[str, Any]] = [
    {"id": "one", "messages": turns("hi")},
    {"id": "two", "messages": turns("hi", "  yo \n")},
    {"id": "system", "messages": [{"role": "system", "content": "Be brief."}, *turns("a", "b", "c", "d", "e")]},
    {"id": "unicode", "messages": turns("\x1cé\u2028\u0085", "\ufeff\xa0x\u3000\x1f", "<b>&\"'", "{{ 1 }}{% x %}")},
    {"id": "markers", "messages": turns("<|im_end|>", "CONTINUE_FINAL_MESSAGE_TAG")},
    {"id": "empty", "messages": []},
    {"id": "blank", "messages": turns("", "")},
    {
        "id": "null",
        "messages": [{"role": "user", "content": "q", "name": None}, {"role": "assistant", "content": None}],
    },
    {"id": "no content", "messages": [{"role": "user"}, {"role": "assistant", "tool_calls": [CALL]}], "tools": [TOOL]},
    {"id": "no role", "messages": [{"content": "x"}]},
    {"id": "numbers", "messages": turns(1, 2.5, True)},
    {
        "id": "calls",
        "messages": [*turns("q", "")[:1], {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}],
        "tools": [TOOL, TOOL],
    },
    {"id": "text arguments", "messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]},
    {"id": "no tools", "messages": turns("q", "a"), "tools": []},
    {"id": "tool is text", "messages": turns("q", "a"), "tools": ["add"]},
    {"id": "documents", "messages": turns("q", "a"), "documents": [{"title": "T", "text": "é"}]},
    {"id": "document is text", "messages": turns("q", "a"), "documents": ["d"]},
    {"id": "reasoning", "messages": [*turns("q"), {"role": "assistant", "content": "a", "reasoning": "why"}]},
    {
        "id": "empty reasoning",
        "messages": [*turns("q"), {"role": "assistant", "content": "a", "reasoning_content": ""}],
    },
    {
        "id": "both reasonings",
        "messages": [*turns("q"), {"role": "assistant", "content": "a", "thinking": "t", "reasoning_content": "r"}],
    },
    {"id": "think", "messages": turns("q", "<think>\nhm\n</think>\n\na", "q2")},
    {
        "id": "parts",
        "messages": turns([{"type": "text", "text": "a "}, {"type": "image"}], [{"type": "text", "text": "b"}]),
    },
    {"id": "no text part", "messages": turns("a", [{"type": "image"}])},
    {"id": "part is text", "messages": turns("a", ["some text"])},
    {"id": "no parts", "messages": turns("a", [])},
    {"id": "variables", "messages": turns("q", "a"), "kwargs": {"enable_thinking": False, "bos_token": "<B>"}},
    {"id": "own clock", "messages": turns("q"), "kwargs": {"strftime_now": "late"}},
    {
        "id": "continue reasoning",
        "field": "thinking",
        "messages": [{"role": "assistant", "content": "a", "thinking": "t"}],
    },
    {"id": "continue nothing", "field": "extra", "messages": turns("q")},
    {"id": "continue unknown", "field": "extra", "messages": [{"role": "user", "content": "q", "extra": "x"}]},
]
