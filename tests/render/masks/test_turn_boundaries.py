"""Turn boundaries: where the assistant's part begins and ends in literal text, learnt from the template."""

from __future__ import annotations

import pytest

from chatfmt.render.masks.markers import CALLS, CONTENT, TextSource
from chatfmt.render.masks.turn_boundaries import (
    AnswerEnd,
    TurnBoundaries,
    as_parts,
    common_prefix,
    control_token_pattern,
    words,
)
from tests.render.templates import CHATML, NO_STOP, NO_SYSTEM, THINKER, say, template_renderer

HEADER = "<|im_end|>\n<|im_start|>assistant\n"


STEPS = (
    "{% for m in messages %}Source: {{ m.role }}\n\n {{ m.content }} <step> {% endfor %}"
    "Source: assistant\nDestination: user\n\n "
)
"""The header of the next answer comes always, as in the template of Code Llama 70B."""

ALWAYS_STARTED = (
    "{% for m in messages %}<|START_OF_TURN|><|{{ m.role | upper }}|>{{ '<|TEXT|>' if m.role == 'assistant' }}"
    "{{ m.content }}"
    "{{ '<|END|>' if m.role == 'assistant' }}<|END_OF_TURN|>{% endfor %}<|START_OF_TURN|><|ASSISTANT|>"
    "{% if add_generation_prompt %}<|TEXT|>{% endif %}"
)
"""A turn is begun after the last answer, as in axolotl's template of Command A."""


def boundaries(template: str) -> TurnBoundaries:
    return TurnBoundaries(template_renderer(template))


@pytest.mark.parametrize(
    ("template", "final", "within", "stops"),
    [
        (CHATML, "<|im_end|>", "<|im_end|>", ("<|im_end|>",)),
        (NO_SYSTEM, "</s>", "</s>", ("</s>",)),
        (NO_STOP, "", "", ()),
        (THINKER, "<|im_end|>", "<|im_end|>", ("<|im_end|>",)),
        (STEPS, "<step>", "<step>", ("<step>",)),
        (ALWAYS_STARTED, "<|END|><|END_OF_TURN|>", "<|END|><|END_OF_TURN|>", ("<|END|><|END_OF_TURN|>",)),
    ],
)
def test_stop_tokens(template: str, final: str, within: str, stops: tuple[str, ...]) -> None:
    found = boundaries(template)
    assert (found.stop_after_answer(final=True), found.stop_after_answer(final=False)) == (final, within)
    assert found.stops == stops


@pytest.mark.parametrize(
    ("literal", "previous", "role", "offset"),
    [
        (HEADER, None, "user", len(HEADER)),
        (HEADER + "<tool_call>\n", None, "user", len(HEADER)),
        ("\n" + HEADER, TextSource(0, CONTENT, "", "\n"), "user", len(HEADER) + 1),
        ("unknown text" + HEADER, None, "user", len(HEADER) + 12),
        ("unknown text", None, "user", None),
    ],
)
def test_an_opening_ends_with_the_assistant_header(
    literal: str, previous: TextSource | None, role: str, offset: int | None
) -> None:
    assert boundaries(CHATML).opening(literal, previous, role) == offset


def test_a_closing_ends_with_the_stop_token_and_knows_printed_whitespace() -> None:
    found, stop = boundaries(CHATML), len("<|im_end|>")
    plain, padded = TextSource(1, CONTENT), TextSource(1, CONTENT, "", " \n")
    assert found.closing("<|im_end|>\n", plain, final=True) == AnswerEnd(0, stop)
    assert found.closing("<|im_end|>\n<|im_start|>user\n", plain, final=False) == AnswerEnd(0, stop)
    assert found.closing(" \n<|im_end|>\n", padded, final=True) == AnswerEnd(2, stop + 2)
    trimming = boundaries(NO_SYSTEM)
    assert trimming.closing("</s>", padded, final=True) == AnswerEnd(0, 4)


def test_a_closing_after_a_tool_call_includes_the_end_of_the_call() -> None:
    end = '"}}\n</tool_call>'
    found = boundaries(THINKER).closing(f"{end}<|im_end|>\n", TextSource(1, CALLS), final=True)
    assert found == AnswerEnd(len(end), len(end) + len("<|im_end|>"))


def test_no_prefix_or_offset_splits_a_control_token() -> None:
    found = boundaries(CHATML)
    assert found.whole_tokens("a<|im_", "a<|im_end|>") == "a"
    assert found.whole_tokens("a<|im_end|>", "a<|im_end|>b") == "a<|im_end|>"
    text = "x" * 100 + "<|im_end|>" + "y" * 100
    inside = [offset for offset in range(len(text) + 1) if found.is_inside_token(text, offset)]
    assert inside == list(range(101, 110))


def test_words_exclude_control_tokens_and_tags() -> None:
    tokens = control_token_pattern(template_renderer(CHATML))
    assert words("<|im_start|>system\nBe <b>short</b>. [INST]", tokens) == ["system", "Be", "short"]
    assert tokens.fullmatch("<pad>") and tokens.fullmatch("<|anything|>") and not tokens.fullmatch("plain")


def test_common_prefix_and_parts() -> None:
    assert [common_prefix(*pair) for pair in (("abc", "abd"), ("ab", "abc"), ("", "a"), ("x", "y"))] == [
        "ab",
        "ab",
        "",
        "",
    ]
    assert as_parts(say("user", "x")) == say("user", [{"type": "text", "text": "x"}])
    for unchanged in (say("user", ""), say("user", None), say("user", [{"type": "image"}])):
        assert as_parts(unchanged) == unchanged
