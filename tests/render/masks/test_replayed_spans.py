"""Spans computed from programs equal those found by markers, for texts of all kinds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chatfmt.errors import RenderError
from chatfmt.json_columns import encode_conversations, json_array
from chatfmt.render import JinjaRenderer, RenderOptions
from chatfmt.render.masks.masker import MaskOptions
from chatfmt.render.masks.renderer import MaskedRenderer
from chatfmt.render.masks.replayed_spans import is_markable
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.render.trace.program import Program
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.render.trace.tracer import Inputs, trace
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.conftest import sampled
from tests.render.engines import EAGER
from tests.render.templates import CHATML, CONVERSATIONS, TOKENS, known_templates, oracle_conversations, say, untagged

SPANS = RenderRequest(spans=True)
MASKS = (
    MaskOptions(),
    MaskOptions(stop_token=False),
    MaskOptions(reasoning="none"),
    MaskOptions(last_turn=True),
    MaskOptions(roles=("user", "assistant")),
)
TEXTS = (
    "Hello", "Green is a colour.", "  indented", "ends\n", "\n\nboth \u00a0", "é ü 漢字 😀", "a < b", "<tool_call> x",
    "multi\n\nline", "", " ", "<think>\nx\n</think>\n\ny", "plain </think> only", "private \U000f0001 use", "x",
    "<|im_end|>", "assistant\n", "0x12", "user",
)  # fmt: skip
PLAIN = 9
"""How many of the texts, from the first, are ordinary."""


def varied(chat: Chat, chance: random.Random) -> Chat:
    """Return the conversation with random texts, mostly plain ones."""

    def other(value: Any) -> Any:
        return chance.choice(TEXTS[:PLAIN] if chance.random() < 0.8 else TEXTS) if isinstance(value, str) else value

    said = ("content", "reasoning_content", "thinking", "reasoning")
    return chat.with_messages([{k: other(v) if k in said else v for k, v in turn.items()} for turn in chat.messages])


def flagged(chat: Chat, chance: random.Random) -> Chat:
    """Return the conversation with flags that train some messages and not others, or without any."""
    if chance.random() < 0.5:
        return chat
    return chat.with_messages([{**turn, "weight": chance.choice([0, 1])} for turn in chat.messages])


def columns(chats: list[Chat]) -> ConversationBatch:
    messages = encode_conversations([chat.messages for chat in chats])
    others = zip(*((c.tools, c.documents, dict(c.variables) or None) for c in chats), strict=True)
    return ConversationBatch(messages, *map(json_array, others))


def masked(source: ChatTemplate, mask: MaskOptions, *, traced: bool, **given: Any) -> MaskedRenderer:
    options = RenderOptions(**given)
    plain = JinjaRenderer(source, options)
    return MaskedRenderer(
        TracedRenderer(source, options, plain, limits=EAGER) if traced else plain,
        TemplateRenderer(source, options),
        mask,
    )


def outcome(renderer: MaskedRenderer, given: ConversationBatch) -> tuple[Any, ...]:
    failures: list[RenderError] = []
    found = renderer(given, SPANS, failures)
    assert found.spans is not None
    errors = [(row, error.at.message, error.code, error.message) for error in failures for row in error.rows]
    return found.text.to_pylist(), found.spans.to_pylist(), sorted(errors, key=lambda error: error[0] or 0)


def test_spans_equal_those_of_markers_or_tags_on_all_templates() -> None:
    chance, templates = random.Random(5), sampled(known_templates(), 6)
    chats = [*CONVERSATIONS.values(), *(chat for _, chat in oracle_conversations())]
    looked_up = 0
    for number, (name, text) in enumerate(templates):
        source = ChatTemplate(name, text if number % 3 else untagged(text), TOKENS)
        mask = MASKS[number % len(MASKS)]
        sample = [flagged(chat, chance) for chat in chance.sample(chats, 2)]
        rows = [varied(chat, chance) for chat in sample for _ in range(30)]
        given = {"generation_prompt": number % 3 == 0, "bos": "strip" if number % 2 else "keep"}
        replayed, plain = (masked(source, mask, traced=traced, **given) for traced in (True, False))
        for part in (rows[:45], rows[45:]):
            assert outcome(replayed, columns(part)) == outcome(plain, columns(part)), (name, mask, given)
        looked_up += len(rows) - replayed.masked_singly
    assert looked_up > 5 * len(templates) > 5


def test_only_two_rows_of_a_group_are_masked_by_markers() -> None:
    renderer = masked(ChatTemplate("chatml", CHATML, TOKENS), MaskOptions(), traced=True)
    rows = [Chat([say("user", f"q{n}"), say("assistant", f"a{n}" if n % 2 else f"a{n}\n")]) for n in range(100)]
    found = renderer(columns(rows), SPANS)
    assert found.spans is not None and renderer.methods == {"markers": 100} and renderer.masked_singly == 4
    starts = [text.index("assistant\n") + len("assistant\n") for text in found.text.to_pylist()]
    ends = [text.rindex("<|im_end|>") + len("<|im_end|>") for text in found.text.to_pylist()]
    assert found.spans.to_pylist() == [[[start, end]] for start, end in zip(starts, ends, strict=True)]
    assert renderer(columns(rows[:10]), SPANS).spans == found.spans[:10] and renderer.masked_singly == 4


@pytest.mark.parametrize(
    "text",
    ["<think>\nx\n</think>\n\ny", "\U000f0001", "a\U00100001b", "", " \n"],
)
def test_texts_that_markers_split_are_masked_by_markers(text: str) -> None:
    renderer = masked(ChatTemplate("chatml", CHATML, TOKENS), MaskOptions(), traced=True)
    renderer(columns([Chat([say("user", "q"), say("assistant", text)])] * 9), SPANS)
    assert renderer.masked_singly == 9


@pytest.mark.parametrize("texts", [(" ", "Hello "), ("Hello ", " "), ("\n", "\nHello"), ("", "Hello"), (" ", "  ")])
def test_a_blank_turn_and_one_with_the_same_blanks_have_spans_of_their_own(texts: tuple[str, str]) -> None:
    mask, chatml = MaskOptions(roles=("user", "assistant")), ChatTemplate("chatml", CHATML, TOKENS)
    rows = [Chat([say("user", text), say("assistant", f"a{n}")]) for text in texts for n in range(9)]
    replayed, plain = (outcome(masked(chatml, mask, traced=traced), columns(rows)) for traced in (True, False))
    assert replayed == plain and [len(spans) for spans in plain[1][8:10]] == [1 + bool(text.strip()) for text in texts]


def test_a_part_of_an_answer_is_that_of_its_own_text() -> None:
    whole = [{"begin_offset": 0, "end_offset": 4, "train": True}]
    rows = [
        Chat([say("user", "q"), {**say("assistant", text), "train_detail": whole}])
        for text in ("Hello", "World", "Hello you", "Hi")
    ]
    replayed, plain = (
        outcome(masked(ChatTemplate("chatml", CHATML, TOKENS), MaskOptions(), traced=traced), columns(rows))
        for traced in (True, False)
    )
    assert replayed == plain and [len(spans or ()) for spans in plain[1]] == [1, 1, 2, 0] and len(plain[2]) == 1


@pytest.mark.parametrize(
    ("template", "markable"),
    [
        ("{{ m.content }}", True),
        ("{% if m.content %}{{ m.content|trim }}{% endif %}", True),
        ("{% if '</think>' in m.content %}x{% endif %}{{ m.content }}", True),
        ("{% if m.content.startswith('H') %}x{% endif %}{{ m.content }}", False),
        ("{% if m.content|length > 2 %}x{% endif %}{{ m.content }}", False),
        ("{{ m.content.split('e')[0] }}", False),
        ("{{ m.content|tojson }}", False),
        ("{{ m.content }}{{ m.name }}", False),
    ],
)
def test_a_program_is_markable_if_markers_change_no_answer(template: str, markable: bool) -> None:
    messages = [{**say("user", "Hello"), "name": "n"}]
    program = trace("{% for m in messages %}" + template + "{% endfor %}", Inputs(messages))
    assert isinstance(program, Program) and is_markable(program) is markable


def test_the_first_row_that_is_refused_is_raised() -> None:
    twice = "{% for m in messages %}{{ m.role }}: {{ m.content }}/{{ m.content }};{% endfor %}"
    rows = [Chat([say("user", text), say("assistant", "b"), say("user", text)]) for text in ("<think>", "ab", "cd")]
    source = ChatTemplate("twice", twice, TOKENS)
    replayed, plain = (outcome(masked(source, MASKS[1], traced=traced), columns(rows)) for traced in (True, False))
    assert replayed == plain and len(replayed[2]) == 3
    with pytest.raises(RenderError) as caught:
        masked(source, MASKS[1], traced=True)(columns(rows), SPANS)
    assert caught.value.at.row == 0
