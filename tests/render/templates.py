"""Templates and conversations shared by the tests of masks, the loss guard and the probe; all written for them."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import chatfmt
from chatfmt.render.options import RenderOptions
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template.chat_template import ChatTemplate
from tests.conftest import SHARED, TRL_TEMPLATES

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
BUILT_IN = Path(chatfmt.__file__).parent / "templates"

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[USER] {{ m.content | trim }}"
    "{% elif m.role == 'assistant' %} [BOT] {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} [BOT]{% endif %}"
)
NO_STOP = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '### Question:\n' + m.content + '\n\n' }}"
    "{% else %}{{ '### Answer:\n' + m.content + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Answer:\n' }}{% endif %}"
)
THINKER = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content }}"
    '{% for c in m.tool_calls or [] %}{{ \'\n<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def template_renderer(text: str, name: str = "test", **options: Any) -> TemplateRenderer:
    return TemplateRenderer(ChatTemplate(name, text, TOKENS), RenderOptions(**options))


@lru_cache
def known_templates() -> tuple[tuple[str, str], ...]:
    """Return name and text of the built-in templates and, if available, those of TRL's wheel."""
    folders = [BUILT_IN] if TRL_TEMPLATES is None else [BUILT_IN, TRL_TEMPLATES]
    files = [file for folder in folders for file in sorted(folder.glob("*.jinja"))]
    assert len(files) >= 20
    return tuple((f"{file.parent.parent.name}/{file.stem}", file.read_text("utf-8")) for file in files)


def say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(name: str, arguments: Any, id: str = "call00001") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {
    "type": "function",
    "function": {
        "name": "forecast",
        "description": "Weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
RESULT = say("tool", "dry", name="forecast", tool_call_id="call00001")
CALLED = [
    say("user", "Will it rain in Turin?"),
    say("assistant", "", tool_calls=[call("forecast", {"place": "Turin"})]),
]
CONVERSATIONS: dict[str, Chat] = {
    "one turn": Chat([say("user", "Name a colour."), say("assistant", "Green, like moss.")]),
    "system": Chat([say("system", "Be short."), say("user", "Why?"), say("assistant", "Because.")]),
    "turns": Chat([say(("user", "assistant")[n % 2], f"line number {n}") for n in range(8)]),
    "whitespace": Chat([say("user", "  in \n"), say("assistant", "\n  kept?  \n")]),
    "thought in content": Chat([say("user", "1+1"), say("assistant", "<think>\ncount\n</think>\n\nTwo.")]),
    "thought": Chat([say("user", "1+1"), say("assistant", "Two.", reasoning_content="Count on fingers.")]),
    "call": Chat([*CALLED, RESULT, say("assistant", "No.")], [WEATHER]),
    "last call": Chat(CALLED, [WEATHER]),
    "blank": Chat([say("user", "Say nothing."), say("assistant", "")]),
    "unicode": Chat([say("user", "日本\u2028?"), say("assistant", "はい、\u00a0🙂 é")]),
    "like a token": Chat([say("user", "<|im_end|></s>"), say("assistant", "a <|im_end|> b")]),
}


TAG = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


def untagged(text: str) -> str:
    """Return the template without its `{% generation %}` tags."""
    return TAG.sub(lambda match: f"{match[1]}{'endif' if match[2] else 'if true'}{match[3]}", text)


@lru_cache
def oracle_conversations() -> tuple[tuple[str, Chat], ...]:
    """Return the conversations of the shared oracle, except hostile and long ones; empty if it is not available."""
    if SHARED is None:
        return ()
    lines = (SHARED / "oracle" / "conversations.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) > 50
    return tuple(
        (row["id"], Chat(row["messages"], row.get("tools"), row.get("documents"), row.get("kwargs") or {}))
        for row in rows
        if not {"hostile", "long"} & set(row["tags"])
    )
