"""Trained spans by tags, markers or prefixes, checked against transformers and against templates with their tags."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from typing import Any

import pytest

from chatfmt.errors import Location, RenderError
from chatfmt.json_columns import encode_conversations
from chatfmt.render import RenderOptions, compile
from chatfmt.render.masks.masker import MaskedText, Masker, MaskOptions, is_trained
from chatfmt.render.masks.renderer import MaskedRenderer
from chatfmt.render.masks.spans import together
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.render.types import UNDATED
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.conftest import sampled
from tests.render.masks.samples import HELLO, SHOUT, mask_or_code
from tests.render.templates import (
    CALLED,
    CHATML,
    CONVERSATIONS,
    NO_STOP,
    NO_SYSTEM,
    RESULT,
    TAG,
    THINKER,
    TOKENS,
    call,
    known_templates,
    oracle_conversations,
    say,
    template_renderer,
    untagged,
)  # fmt: skip

CHATS = {**CONVERSATIONS, **dict(oracle_conversations())}


def some(number: int, share: slice) -> list[tuple[str, Chat]]:
    """Every other conversation; without `--full` one in ten, or one in three of the few without the shared datasets.

    They are other ones for each template, so that all are there.
    """
    step = min(2 * (share.step or 1), len(CHATS) // 3)
    return list(CHATS.items())[number % step :: step]


def texts(mask: MaskedText) -> list[str]:
    return [mask.text[start:end] for start, end in mask.spans]


def under(template: str, messages: list[dict[str, Any]], **options: Any) -> list[str]:
    return texts(Masker(template_renderer(template), MaskOptions(**options)).mask(Chat(messages)))


THOUGHT = [say("user", "1+1"), say("assistant", "Two.", reasoning_content="Count.")]


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (CHATML, HELLO, ["Hello<|im_end|>", " See you \n<|im_end|>"]),
        (NO_SYSTEM, HELLO, [" Hello</s>", " See you</s>"]),
        (NO_STOP, HELLO, ["Hello", " See you \n"]),
        (THINKER, HELLO, ["Hello<|im_end|>", " See you \n<|im_end|>"]),
        (THINKER, THOUGHT, ["<think>\nCount.\n</think>\n\nTwo.<|im_end|>"]),
        (
            THINKER,
            CALLED,
            ['\n<tool_call>\n{"name": "forecast", "arguments": {"place": "Turin"}}\n</tool_call><|im_end|>'],
        ),
        (
            THINKER,
            [say("user", "go"), say("assistant", "On it.", tool_calls=[call("f", {"n": 1}), call("g", {})])],
            [
                'On it.\n<tool_call>\n{"name": "f", "arguments": {"n": 1}}\n</tool_call>'
                '\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>'
            ],
        ),
        (CHATML, [say("user", "x"), say("assistant", "")], ["<|im_end|>"]),
        (CHATML, [say("user", "x")], []),
        (CHATML, [say("assistant", "a"), say("assistant", "b")], ["a<|im_end|>", "b<|im_end|>"]),
        (CHATML, [say("user", "x"), say("assistant", "<|im_end|>y")], ["<|im_end|>y<|im_end|>"]),
    ],
)
def test_a_span_is_the_assistants_text_with_its_stop_token(
    template: str, messages: list[dict[str, Any]], expected: list[str]
) -> None:
    assert under(template, messages) == expected


HEADERS = (
    "{% for m in messages %}{{ '<|head|>' + m.role + '<|/head|>' + m.content + '<|over|><|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>' }}{% endif %}"
)


def test_adjacent_control_tokens_are_separated() -> None:
    assert under(HEADERS, HELLO) == ["Hello<|over|><|eot|>", " See you \n<|over|><|eot|>"]
    prompting = Masker(template_renderer(HEADERS, generation_prompt=True)).mask(Chat(HELLO))
    assert texts(prompting) == ["Hello<|over|><|eot|>", " See you \n<|over|><|eot|>"]
    always = HEADERS.replace("<|over|>", "").replace("{% if add_generation_prompt %}", "{% if true %}")
    assert under(always, HELLO) == ["Hello<|eot|>", " See you \n<|eot|>"]


def test_the_name_of_a_tool_that_is_printed_with_its_result_is_not_trained() -> None:
    name = "(messages[1].tool_calls[0].function.name if m.role == 'tool')"
    echoing = THINKER.replace("{{ m.content }}", f"{{{{ m.content ~ {name} }}}}")
    mask = Masker(template_renderer(echoing)).mask(Chat([*CALLED, RESULT, say("assistant", "No.")]))
    assert (mask.method, mask.messages) == ("markers", (1, 3))
    assert mask.text.count("forecast") == 2
    assert "dry" not in "".join(texts(mask)) and texts(mask)[1] == "No.<|im_end|>"


def test_options_exclude_the_stop_token_the_reasoning_and_all_but_the_last_turn() -> None:
    assert under(CHATML, HELLO, stop_token=False) == ["Hello", " See you \n"]
    assert under(NO_SYSTEM, HELLO, stop_token=False) == [" Hello", " See you"]
    assert under(THINKER, THOUGHT, reasoning="none") == ["Two.<|im_end|>"]
    assert under(THINKER, THOUGHT, reasoning="none", stop_token=False) == ["Two."]
    assert under(CHATML, HELLO, last_turn=True) == [" See you \n<|im_end|>"]
    calls = '\n<tool_call>\n{"name": "forecast", "arguments": {"place": "Turin"}}\n</tool_call>'
    assert under(THINKER, CALLED, stop_token=False) == [calls]


@pytest.mark.parametrize("key", ["train", "weight", "loss", "loss_weight", "training", "trainable"])
@pytest.mark.parametrize(("off", "on"), [(False, True), (0, 1), (0.0, 0.5), ("false", "true"), ("0", "1")])
def test_flags_of_a_message_choose_the_turns(key: str, off: object, on: object) -> None:
    messages = [HELLO[0], {**HELLO[1], key: off}, HELLO[2], {**HELLO[3], key: on}]
    assert under(CHATML, messages) == [" See you \n<|im_end|>"]
    assert under(CHATML, messages, flags=False) == ["Hello<|im_end|>", " See you \n<|im_end|>"]


def test_an_invalid_flag_is_an_error() -> None:
    with pytest.raises(RenderError, match=r"^`weight` of a message is 'much', not a boolean or a number$") as caught:
        is_trained(say("assistant", "x", weight="much"))
    assert caught.value.code == "mask.flag"


def test_options_apply_to_tagged_templates_too() -> None:
    said = "{{ m.content + '<|im_end|>\n' }}"
    tagged = CHATML.replace(
        "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}",
        "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
        f"{said}{{% endgeneration %}}{{% else %}}{said}{{% endif %}}",
    )
    assert under(tagged, HELLO) == ["Hello<|im_end|>\n", " See you \n<|im_end|>\n"]
    assert under(tagged, HELLO, stop_token=False) == ["Hello", " See you \n"]
    assert under(tagged, HELLO, last_turn=True) == [" See you \n<|im_end|>\n"]
    source, options = ChatTemplate("tagged", tagged), RenderOptions()
    for mask, expected in ((MaskOptions(), 2), (MaskOptions(last_turn=True), 1), (MaskOptions(stop_token=False), 2)):
        renderer = MaskedRenderer(compile(source, options), TemplateRenderer(source, options), mask)
        found = renderer(ConversationBatch(encode_conversations([HELLO])), RenderRequest(spans=True))
        row = Masker(TemplateRenderer(source, options), mask).mask(Chat(HELLO))
        assert found.spans is not None and found.spans.to_pylist() == [[list(span) for span in row.spans]]
        assert len(row.spans) == expected and renderer.methods == {"generation": 1}
    assert under(tagged, [HELLO[0], {**HELLO[1], "train": False}, *HELLO[2:]]) == [" See you \n<|im_end|>\n"]


class StoppedClock(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> StoppedClock:
        return cls(UNDATED.year, UNDATED.month, UNDATED.day)


def test_spans_equal_those_of_transformers_where_a_template_has_tags(
    monkeypatch: pytest.MonkeyPatch, share: slice
) -> None:
    tools = pytest.importorskip("transformers.utils.chat_template_utils")
    monkeypatch.setattr(tools, "datetime", StoppedClock)
    compared = 0
    for number, (name, text) in enumerate(sampled(known_templates(), 3)):
        if not TAG.search(text):
            continue
        masker = Masker(template_renderer(text, name))
        for id, chat in some(number, share):
            said = [{key: value for key, value in message.items() if value is not None} for message in chat.messages]
            try:
                rendered, spans = tools.render_jinja_template(
                    [said], tools=chat.tools, documents=chat.documents, chat_template=text,
                    return_assistant_tokens_mask=True, add_generation_prompt=False, **{**TOKENS, **chat.variables},
                )  # fmt: skip
            except Exception:
                continue
            mask = masker.mask(chat)
            assert (mask.text, list(mask.spans), mask.method) == (rendered[0], together(spans[0]), "generation"), (
                name,
                id,
            )
            compared += 1
    assert compared > 100


def test_markers_find_what_tags_mark(share: slice) -> None:
    """Templates without their tags: every span lies in a tagged block and ends where the block ends, but for spaces."""
    outcome: Counter[str] = Counter()
    for number, (name, text) in enumerate(known_templates()[share]):
        if not TAG.search(text):
            continue
        tagged, bare = Masker(template_renderer(text, name)), Masker(template_renderer(untagged(text), name))
        for _, chat in some(number, share):
            try:
                block = tagged.mask(chat)
            except RenderError:
                continue
            outcome[_agreement(block, bare, chat)] += 1
    total = sum(outcome.values())
    print(dict(outcome))
    assert total > 20
    assert outcome["exact"] >= 0.985 * total, outcome
    assert outcome["refused"] <= 0.01 * total, outcome


def _agreement(block: MaskedText, bare: Masker, chat: Chat) -> str:
    try:
        mask = bare.mask(chat)
    except RenderError as error:
        assert error.code == "mask.refused" and error.message
        return "refused"
    assert mask.text == block.text
    text, inside = mask.text, set()
    for start, end in block.spans:
        inside.update(range(start, end))
    stray = [span for span in mask.spans if any(place not in inside for place in range(*span))]
    covered = {place for span in mask.spans for place in range(*span)}
    words = [text[place] for place in sorted(inside - covered)]
    said = re.sub(r"<[^<>]*>|\[[^\[\]]*\]|<\|?|\|?>|\s", "", "".join(words))
    return "exact" if not stray and len(said) <= 60 * len(block.spans) else "other"


def test_ordinary_tool_and_reasoning_conversations_are_exact_on_all_templates(share: slice) -> None:
    methods: Counter[str] = Counter()
    for number, (name, text) in enumerate(sampled(known_templates(), 3)):
        masker = Masker(template_renderer(untagged(text), name))
        for _, chat in some(number, share):
            try:
                mask = masker.mask(chat)
            except RenderError as error:
                if error.code == "mask.refused":
                    methods["refused"] += 1
                    assert error.message.startswith("cannot tell which text is the assistant's: ")
                continue
            methods[mask.method] += 1
            _check(name, masker.renderer, chat, mask)
    print(dict(methods))
    assert methods.total() > 100
    assert methods["markers"] + methods["prefix"] >= 0.99 * methods.total()


def _check(name: str, renderer: TemplateRenderer, chat: Chat, mask: MaskedText) -> None:
    assert mask.text == renderer.text(chat)
    assert list(mask.spans) == sorted(mask.spans), name
    for (start, end), owner in zip(mask.spans, mask.messages, strict=True):
        assert 0 <= start < end <= len(mask.text)
        message = chat.messages[owner]
        content = message.get("content")
        if isinstance(content, str) and content.strip() and "think" not in content and "calls" not in str(message):
            assert content.strip() in mask.text[start:end], (name, owner)
        others = [m.get("content") for m in chat.messages if m.get("role") in ("user", "system")]
        for other in others:
            if isinstance(other, str) and len(other.strip()) > 8:
                assert other.strip() not in mask.text[start:end], (name, owner)


def test_a_mask_does_not_depend_on_earlier_rows() -> None:
    for template in (CHATML, NO_SYSTEM, THINKER):
        fresh = [mask_or_code(Masker(template_renderer(template)), chat) for chat in CONVERSATIONS.values()]
        masker = Masker(template_renderer(template))
        used = [mask_or_code(masker, chat) for chat in reversed(CONVERSATIONS.values())]
        assert fresh == used[::-1]


def test_private_use_characters_of_the_data_are_left_alone() -> None:
    messages = [say("user", "\U000f0000\ue000"), say("assistant", "\U000f0001!\U000f0002")]
    assert under(CHATML, messages) == ["\U000f0001!\U000f0002<|im_end|>"]
    both = [say("user", "\U000f0000\U00100000"), say("assistant", "x\U000f0001")]
    assert under(CHATML, both) == ["x\U000f0001<|im_end|>"]  # no plane is free: prefixes
    assert Masker(template_renderer(CHATML)).mask(Chat(both)).method == "prefix"


def test_a_template_that_defeats_every_method_is_refused_with_a_reason() -> None:
    with pytest.raises(RenderError) as caught:
        Masker(template_renderer(SHOUT)).mask(Chat([say("user", "abc"), say("assistant", "def"), say("user", "ghi")]))
    assert caught.value.message == (
        "cannot tell which text is the assistant's: the template prints earlier turns differently when a turn is added"
    )
    assert caught.value.at == Location(message=1)
    assert caught.value.code == "mask.refused"
    assert caught.value.hint == "use a template with `{% generation %}` blocks, or drop such rows with --on-error skip"


def test_a_refusal_by_the_template_is_an_error_of_the_row() -> None:
    with pytest.raises(RenderError) as caught:
        Masker(template_renderer("{{ raise_exception('no system here') }}")).mask(
            Chat([say("user", "x"), say("assistant", "y")])
        )
    assert (caught.value.message, caught.value.code) == ("no system here", "template.raised")


TWO_BLOCKS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}A:{% endgeneration %}{{ m.content }}"
    "{% generation %}<e>{% endgeneration %}{% else %}{{ m.content }}<e>{% endif %}{% endfor %}"
)


def test_blocks_of_unwanted_turns_are_not_trained_on() -> None:
    chat = Chat([say("user", "q"), {**say("assistant", "a"), "train": False}])
    assert Masker(template_renderer(TWO_BLOCKS)).mask(Chat([say("user", "q"), say("assistant", "a")])).spans == (
        (4, 6),
        (7, 10),
    )
    assert Masker(template_renderer(TWO_BLOCKS)).mask(chat).spans == ()


def test_empty_spans_are_dropped() -> None:
    chat = Chat([say("user", "q"), say("assistant", "a")])
    assert Masker(template_renderer(TWO_BLOCKS), MaskOptions(stop_token=False)).mask(chat).spans == ()
    silent = Chat([say("user", "q"), say("assistant", "")])
    assert Masker(template_renderer(CHATML), MaskOptions(stop_token=False)).mask(silent).spans == ()
    assert len(Masker(template_renderer(CHATML)).mask(silent).spans) == 1


QUESTION, TWO_TURNS = HELLO[:2], [say("system", "S"), *HELLO]
STOP_LATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '\n' if not loop.last else '</s>' }}{% endfor %}"
STOP_WITHIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}"
)
SYSTEM_DEMANDED = (
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% endif %}{{ s + '' }}"
    "{% for m in messages %}{% if m.role == 'user' %} [INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
HEADER_LAST = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
NEXT_HEADER = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
BLANK_AFTER_HEADER = (
    "{% for m in messages %}{{ '\n### ' + m.role + ': ' + m.content }}{{ '</s>' if m.role == 'assistant' }}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role == 'user' %}{{ '\n### assistant:' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (STOP_LATE, QUESTION, ["Hello</s>"]),
        (STOP_WITHIN, TWO_TURNS, ["Hello<|im_end|>", " See you \n"]),
        (SYSTEM_DEMANDED, TWO_TURNS, ["Hello</s>", " See you \n</s>"]),
        (HEADER_LAST, TWO_TURNS, ["Hello<|end|>", " See you \n<|end|>"]),
        (NEXT_HEADER, TWO_TURNS, ["Hello<|user|>", " See you \n"]),
        (NEXT_HEADER + "<|assistant|>", TWO_TURNS, ["Hello<|user|>", " See you \n"]),
        (BLANK_AFTER_HEADER, [*QUESTION, say("assistant", "Bye")], [" Hello</s>", " Bye</s>"]),
        (BLANK_AFTER_HEADER, [QUESTION[1], *QUESTION], [" Hello</s>", " Hello</s>"]),
    ],
)
def test_an_answer_ends_with_what_the_model_generates_to_end_it(
    template: str, messages: list[dict[str, Any]], expected: list[str]
) -> None:
    assert under(template, messages) == expected


def test_an_earlier_answer_without_the_stop_token_of_the_last_is_refused() -> None:
    with pytest.raises(RenderError) as caught:
        under(STOP_LATE, TWO_TURNS)
    reason = "the template prints a stop token after the last answer only"
    assert caught.value.message == f"cannot tell which text is the assistant's: {reason}"
    assert (caught.value.code, caught.value.at) == ("mask.refused", Location(message=2))
    hint = "`--mask-last` trains the last answer, `--no-mask-stop-token` all of them without stop tokens"
    assert caught.value.hint == hint
    assert under(STOP_LATE, TWO_TURNS, stop_token=False) == ["Hello", " See you \n"]
    assert under(STOP_LATE, TWO_TURNS, last_turn=True) == [" See you \n</s>"]


THINKING_PROMPT = THINKER.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}")


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (THINKER, HELLO[:2], ["Hello<|im_end|>"]),
        (THINKER, THOUGHT, ["<think>\nCount.\n</think>\n\nTwo.<|im_end|>"]),
        (THINKING_PROMPT, HELLO[:2], ["Hello<|im_end|>"]),
        (THINKING_PROMPT, THOUGHT, ["Count.\n</think>\n\nTwo.<|im_end|>"]),
    ],
)
def test_what_the_generation_prompt_or_the_template_supplies_is_not_trained(
    template: str, messages: list[dict[str, Any]], expected: list[str]
) -> None:
    assert under(template, messages) == expected


def test_an_answer_that_the_template_does_not_print_is_its_stop_token() -> None:
    called = [*CALLED, RESULT, say("assistant", "No.")]
    assert under(CHATML, called) == ["<|im_end|>", "No.<|im_end|>"]
