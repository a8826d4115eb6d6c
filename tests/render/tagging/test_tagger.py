"""Templates with tags: the same text, and spans that are those of the built-in templates, which people have tagged."""

from __future__ import annotations

import pytest

from chatfmt.errors import RenderError
from chatfmt.render.masks.masker import Masker
from chatfmt.render.masks.spans import together
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.tagging.examples import examples
from chatfmt.render.tagging.tagger import TaggedTemplate, Untaggable, tag
from chatfmt.render.template import builtin
from chatfmt.render.template.chat_template import ChatTemplate
from tests.render.templates import CHATML, NO_STOP, NO_SYSTEM, THINKER, TOKENS, say, template_renderer, untagged

LLAMA = (
    "{% for m in messages %}{% set content = '<|head|>' + m.role + '<|/head|>' + m.content|trim + '<|eot|>' %}"
    "{% if loop.first %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>' }}{% endif %}"
)
"""A turn that is put together before it is printed, as in the template of Llama 3."""
NEXT_HEADER = (
    "[gMASK]{% for m in messages if m.role != 'tool' %}{{ '<|' + m.role + '|>\n' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""An answer ends with the header of the next turn, as in the template of GLM-4."""
TWO_MESSAGES = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.reasoning_content %}"
    "{{ '<|start|>assistant to=self<|message|>' + m.reasoning_content + '<|eom|>' }}{% endif %}"
    "{{ '<|start|>assistant' }}{{ ' to=user<|message|>' + m.content + '<|eot|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|eot|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
"""After its reasoning the model writes a header of its own."""
RESULTS_IN_TURN = (
    "{% macro result(name, content) %}{{ '<|result|>' + name + '{' + content + '}<result|>' }}{% endmacro %}"
    "{% for m in messages if m.role != 'tool' %}{{ '<|turn>' + m.role + '\n' }}"
    "{% for c in m.tool_calls or [] %}{{ '<|call>' + c.function.name + (c.function.arguments | tojson) + '<call|>' }}"
    "{% endfor %}{% if m.tool_calls %}"
    "{% for n in range(messages.index(m) + 1, messages | length) if messages[n].role == 'tool' %}"
    "{{ result(messages[n].name, messages[n].content) }}{% endfor %}{% endif %}"
    "{% set text %}{{ m.content | trim }}{% endset %}{{ text }}{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>assistant\n' }}{% endif %}"
)
"""A turn with calls holds their results, after which its end is not trained, as in the template of Gemma 4."""
ESCAPED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '<|call|>\"call\": ' + c.function.arguments|tojson|safe + '<|/call|>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Text from `|safe` escapes the quotes of the text to which it is added, as in mistral-common's templates."""
JOINED_ANSWERS = (
    "{% set ns = namespace(parts=[]) %}{% for m in messages %}"
    "{% if m.role == 'assistant' and m.content is string %}{% set ns.parts = ns.parts + [m.content] %}"
    "{% if loop.last or loop.nextitem.role != 'assistant' %}{{ ns.parts|join('\n\n') + '</s>' }}"
    "{% set ns.parts = [] %}{% endif %}{% else %}{{ '[INST]' + m.content + '[/INST]' }}{% endif %}{% endfor %}"
)
"""Answers in a row are printed as one."""
RENDERED_BY_MACRO = (
    "{% macro text(m, first) %}{{ '<|text|>' + m.content + '<|sep|>\n' }}{% endmacro %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>' }}"
    "{% if m.reasoning_content %}{{ '<|why|>' + m.reasoning_content + '<|/why|>' }}{% endif %}{{ text(m) }}{% else %}"
    "{{ '<|' + m.role + '|>' + m.content + '<|sep|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><|text|>' }}{% endif %}"
)
"""A header inside a macro is the model's after reasoning, as in the template of Command A Reasoning."""
NOTHING_PRINTED = CHATML.replace("{{ '<|im_start|>'", "{{ '' if loop.first else '\n' }}{{ '<|im_start|>'")
BLANK_AFTER_HEADER = (
    "{% for m in messages if m.role in ('user', 'assistant') %}"
    "{{ '\n### ' + ('Question' if m.role == 'user' else 'Answer') + ': ' + m.content }}"
    "{{ '</s>' if m.role == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role == 'user' %}{{ '\n### Answer:' }}{% endif %}"
)
"""The blank after a header is the model's after every message, if it is no part of the generation prompt."""
PADDED = (
    "{% for m in messages if m.role in ('user', 'assistant') %}{{ '<|' + m.role + '|>' + m.content }}"
    "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}<|pad|>{% endif %}"
)
"""A token after the stop token of the last answer, and calls that are left out."""
BLANK_BEFORE_THINKING = (
    "{% for m in messages if m.role in ('user', 'assistant') %}{{ '\n' + m.role + ': ' + m.content + '</s>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\nassistant:' }}"
    "{% if enable_thinking is defined %}{{ ' <think>' }}{% if not enable_thinking %}{{ '</think>' }}{% endif %}"
    "{% endif %}{% endif %}"
)
"""The blank after a header is the model's, if no block of reasoning is asked for or refused, as in RWKV's template."""
DEFAULT_SYSTEM = (
    "{%- for m in messages if m.role == 'system' %}{% else %}<|system|>A chat.</s>\n{% endfor %}"
    "{%- for m in messages %}{{ '<|' + m.role + '|>' + m.content + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""What the `else` of a loop prints belongs to no message."""
LINES = "{%- for m in messages %}{{- m.content + '\n' -}}{%- endfor -%}"
"""Answers in a row are one with the line break between them, as in the template of Fuyu."""
UPPER = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content|upper + '</s>' }}{% endfor %}"
MORE_SHAPES = (
    BLANK_BEFORE_THINKING, DEFAULT_SYSTEM, LINES, UPPER, PADDED, ESCAPED, JOINED_ANSWERS, RENDERED_BY_MACRO,
    NOTHING_PRINTED, BLANK_AFTER_HEADER,
)  # fmt: skip
SHAPES = (*MORE_SHAPES, CHATML, NO_SYSTEM, NO_STOP, THINKER, LLAMA, NEXT_HEADER, TWO_MESSAGES, RESULTS_IN_TURN)
FILES = ("glm-4.5", "gpt-oss", "hermes", "llama-3.1", "mistral", "qwen2.5", "qwen3", "deepseek-v3.1", "phi-3")


def chats() -> list[Chat]:
    """Conversations of every ordinary kind."""
    return list(examples("enable_thinking", (), None))


def tagged(text: str, name: str = "test") -> TaggedTemplate:
    found = tag(template_renderer(text, name))
    assert isinstance(found, TaggedTemplate), found
    return found


@pytest.mark.parametrize("text", SHAPES)
def test_a_template_with_tags_prints_the_same_and_marks_what_markers_mark(text: str) -> None:
    found, masker, compared = tagged(text), Masker(template_renderer(text)), 0
    loose, strict = template_renderer(found.text), template_renderer(found.strict)
    for chat in chats():
        if (expected := masker.renderer.text_or_none(chat)) is None:
            continue
        printed, spans = loose.tracked(chat)
        assert printed == expected
        if "'type'" in expected:
            continue  # a list as Python code is no answer
        try:
            mask = masker.mask(chat)
        except RenderError:
            continue
        assert together(spans) == together(mask.spans), chat.messages
        compared += strict.text_or_none(chat) is not None
    assert compared > 40


@pytest.mark.parametrize("name", [name for name in FILES if builtin.find(name)])
def test_a_built_in_template_and_the_same_text_without_tags_have_the_same_spans(name: str) -> None:
    known = builtin.find(name)
    assert known is not None
    bare = TemplateRenderer(ChatTemplate(name, untagged(known.text), dict(known.special_tokens)))
    own = TemplateRenderer(ChatTemplate(name, known.text, dict(known.special_tokens)))
    found, compared = tag(bare), 0
    assert isinstance(found, TaggedTemplate), found
    strict = TemplateRenderer(ChatTemplate(name, found.strict, dict(known.special_tokens)))
    for chat in chats():
        if (text := own.text_or_none(chat)) is None or (spans := strict.text_or_none(chat)) is None or "'type'" in text:
            continue
        assert together(strict.tracked(chat)[1]) == together(own.tracked(chat)[1]), (chat.messages, spans)
        compared += 1
    assert compared > 20


def test_what_a_template_prints_of_tools_is_known() -> None:
    for tools in (
        "{{ tools }}",
        "{% for t in tools %}{{ ', ' if not loop.first }}{{ t.function.parameters.properties }}{% endfor %}",
    ):
        found = tagged(CHATML + "{% if tools %}" + tools + "{% endif %}")
        assert found.unknown == ()


@pytest.mark.parametrize("text", [CHATML, THINKER, LLAMA, NEXT_HEADER, TWO_MESSAGES, RESULTS_IN_TURN])
def test_transformers_finds_the_same_spans_by_the_tags(text: str) -> None:
    tools, compared = pytest.importorskip("transformers.utils.chat_template_utils"), 0
    found, masker = tagged(text).text, Masker(template_renderer(text))
    for chat in chats()[::3]:
        if masker.renderer.text_or_none(chat) is None or "'type'" in masker.renderer.text(chat):
            continue
        rendered, spans = tools.render_jinja_template(
            [chat.messages], tools=chat.tools, chat_template=found, return_assistant_tokens_mask=True,
            add_generation_prompt=False, **{**TOKENS, **chat.variables},
        )  # fmt: skip
        mask = masker.mask(chat)
        assert (rendered[0], together(spans[0])) == (mask.text, together(mask.spans))
        compared += 1
    assert compared > 15


@pytest.mark.parametrize(
    ("prompt", "answer", "trained"),
    [
        ("<think>\n", "<think>\nb", "b<|im_end|>"),
        ("<think>\n", "<think>\n\n</think>\n\nb", "\n</think>\n\nb<|im_end|>"),
        ("", "<think>\nb", "<think>\nb<|im_end|>"),
        ("", "<think>\n\n</think>\n\nb", "<think>\n\n</think>\n\nb<|im_end|>"),
    ],
)
def test_what_opens_reasoning_is_trained_unless_the_generation_prompt_has_it(prompt, answer, trained) -> None:
    text = CHATML.replace("<|im_start|>assistant\n", f"<|im_start|>assistant\n{prompt}")
    chat = Chat([say("user", "q"), say("assistant", answer)])
    rendered, spans = template_renderer(tagged(text).strict).tracked(chat)
    mask = Masker(template_renderer(text)).mask(chat)
    assert [rendered[slice(*span)] for span in together(spans)] == [rendered[slice(*span)] for span in mask.spans]
    assert [rendered[slice(*span)] for span in mask.spans] == [trained]


def test_a_strict_template_refuses_what_no_example_prints() -> None:
    text = CHATML.replace("{{ '<|im_start|>'", "{{ m.weather or '' }}{{ '<|im_start|>'")
    found = tagged(text)
    chat = Chat([say("user", "q", weather="rain"), say("assistant", "a")])
    assert template_renderer(found.strict).text_or_none(chat) is None
    assert template_renderer(found.text).text(chat) == template_renderer(text).text(chat)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (CHATML.replace("m.content + '<|im_end|>\n'", "(m.content + '<|im_end|>\n')|reverse"), "plain conversations"),
        ("{{ raise_exception('never') }}", "plain conversations"),
        (
            "{% set text %}" + CHATML + "{% endset %}{{ text }}",
            "only a part of what `{{ text }}` prints is trained",
        ),
    ],
)
def test_a_template_without_tags_says_why(template: str, reason: str) -> None:
    found = tag(template_renderer(template))
    assert isinstance(found, Untaggable) and reason in found.reason
