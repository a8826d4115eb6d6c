"""Built-in templates: their headers, and that each equals the model's own published template.

Three oracles, none of them ours. TRL's wheel carries published templates: transformers renders them in the test. For
every other model, `tests/goldens/templates/NAME.jsonl` holds what transformers 5.23 made of its published template
(texts only; `conversations.jsonl` beside them was written for this test); for DeepSeek-V3.2 and V4 with an error in the
place of llama.cpp's filter `from_json`. Vicuna and Alpaca were published as Python, so their specification is written
again below.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import meta, nodes

from chatfmt.errors import TemplateError
from chatfmt.render.jinja.environment import compile_template
from chatfmt.render.jinja.rendering import render_spans, render_text
from chatfmt.render.masks.spans import together
from chatfmt.render.template import builtin
from tests.conftest import SHARED, TRL_TEMPLATES, needs_trl, sampled
from tests.render.engines import assert_same
from tests.render.oracle import NOW, TOKENS, Outcome, expected, outcome

from ...conftest import read_rows

GOLDENS = Path(__file__).parents[2] / "goldens" / "templates"
OWN = read_rows(GOLDENS / "conversations.jsonl")
BY_ID = {case["id"]: case for case in OWN}
MODES = ("plain", "prompt", "continue")
MANDATORY = [
    "chatml", "llama-2", "llama-3", "llama-3.1", "mistral", "gemma", "phi-3", "phi-4", "zephyr", "vicuna", "alpaca",
    "qwen2.5", "qwen3", "smollm2", "smollm3", "deepseek-v3", "gpt-oss", "command-r",
]  # fmt: skip
PUBLISHED_BY_TRL = {
    "command-r": "cohere", "deepseek-r1-distill": "deepseek_r1_distill", "deepseek-v3": "deepseekv3",
    "gemma": "gemma", "gemma-3": "gemma3", "gemma-4": "gemma4_v5", "glm-4.5": "glm4moe", "gpt-oss": "gptoss",
    "idefics3": "idefics3", "lfm2": "lfm2_v2", "lfm2.5": "lfm2_2_5_v2", "llama-3": "llama3", "llama-3.1": "llama3_1",
    "llama-3.2": "llama3_2", "llava-next": "llava_next", "nemotron-3-nano": "nemotron_3_nano", "phi-3": "phi3",
    "phi-3.5": "phi3_5", "qwen2.5": "qwen2_5", "qwen2.5-vl": "qwen2_5_vl", "qwen3": "qwen3",
    "qwen3-instruct-2507": "qwen3_instruct_2507", "qwen3-vl": "qwen3_vl", "qwen3.5": "qwen3_5_think",
    "qwen3.5-small": "qwen3_5_nothink", "qwen3.6": "qwen3_6", "qwen3.8": "qwen3_8", "smolvlm": "smolvlm",
    "tiny-aya": "cohere2",
}  # fmt: skip
PYTHON_SPECIFICATIONS = ("vicuna", "alpaca")
PARTS_ONLY = ("smolvlm", "idefics3", "llava-next")


def rendered(name: str, case: Mapping[str, Any], mode: str) -> Outcome:
    """What chatfmt makes of a case with a built-in template, as `oracle.expected` reports transformers."""
    found = builtin.find(name)
    assert found is not None
    return outcome(
        lambda: (
            "text",
            render_text(
                found.text,
                case["messages"],
                case.get("tools"),
                case.get("documents"),
                add_generation_prompt=mode == "prompt",
                continue_final_message=mode == "continue",
                variables={**TOKENS, **(case.get("kwargs") or {})},
                now=NOW,
            ),
        )
    )


def published(name: str, case: Mapping[str, Any], mode: str) -> Outcome:
    """What transformers makes of a case with the template that TRL's wheel carries for the model."""
    assert TRL_TEMPLATES is not None
    text = (TRL_TEMPLATES / f"{PUBLISHED_BY_TRL[name]}.jinja").read_text(encoding="utf-8")
    return expected(text, as_parts(case) if name in PARTS_ONLY else case, mode)


def comparable(result: Outcome) -> Outcome:
    """Texts and what a template raised are compared whole; of what Jinja or Python raised, only the class."""
    kind, value = result
    return result if kind in ("text", "TemplateError") else (kind, None)


def cases() -> Iterator[Mapping[str, Any]]:
    yield from OWN
    if SHARED is not None:
        with (SHARED / "oracle" / "conversations.jsonl").open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def as_parts(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """The case with every text as one text part: how the published template must be asked where it reads only parts."""
    messages = [
        {**turn, "content": [{"type": "text", "text": turn["content"]}]}
        if isinstance(turn.get("content"), str)
        else turn
        for turn in case["messages"]
    ]
    return {**case, "messages": messages}


# Headers


DAY = r"\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December) 20\d\d"
REVISION = re.compile(
    rf"TRL [\d.]+ of {DAY} \(\S+\)|commit [0-9a-f]{{8,9}}(?: of {DAY})? in \S+/\S+ \(\S+\)(?:, read on {DAY})?"
    rf"|no revision known; read on {DAY}"
)


def test_there_are_at_least_forty_and_all_that_the_issue_names() -> None:
    assert len(builtin.names()) >= 40
    assert [name for name in MANDATORY if builtin.find(name) is None] == []


@pytest.mark.parametrize("name", builtin.names())
def test_a_header_is_complete_and_renders_to_nothing(name: str) -> None:
    found = builtin.find(name)
    assert found is not None and found.name == name
    assert re.fullmatch(r"[a-z0-9.-]+", name)
    assert found.family and found.source and "://" not in found.source
    assert REVISION.fullmatch(found.revision), found.revision
    assert found.supports[0] == "turns" and set(found.supports) <= set(builtin.SUPPORTS)
    assert "eos_token" in found.special_tokens
    header, _ = found.text.split("-#}\n", 1)
    assert compile_template(header + "-#}\n").render() == ""


@pytest.mark.parametrize("name", builtin.names())
def test_every_variable_a_template_reads_is_named_in_its_header(name: str) -> None:
    found = builtin.find(name)
    assert found is not None
    given = {"messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception", "namespace"}
    tree = compile_template("x").environment.parse(found.text)
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"} - set(found.variables)
    assert meta.find_undeclared_variables(tree) - own - given - set(found.special_tokens) == set(found.variables)


def test_aliases_are_unique_and_no_names() -> None:
    builtins = [found for name in builtin.names() if (found := builtin.find(name))]
    counted = Counter(alias for found in builtins for alias in found.aliases)
    assert counted and [alias for alias, times in counted.items() if times > 1] == []
    assert set(counted).isdisjoint(builtin.names())
    assert all(re.fullmatch(r"[a-z0-9.-]+", alias) for alias in counted)
    assert dict(builtin.aliases()) == {alias: found.name for found in builtins for alias in found.aliases}


def test_names_and_aliases_are_found_in_any_case() -> None:
    for asked, name in {
        "chatml": "chatml",
        "Llama-3.3": "llama-3.1",
        "MIXTRAL": "mistral-v1",
        "nemo": "mistral-nemo",
    }.items():
        found = builtin.find(asked)
        assert found is not None and found.name == name
    assert builtin.find("no-such-template") is None
    assert builtin.find("../errors") is None
    assert builtin.close_to("lama-3")[0] == "llama-3"


def test_listing_names_reads_no_template() -> None:
    code = (
        "from chatfmt.render.template import builtin; names = builtin.names(); "
        "assert len(names) > 40 and builtin._read.cache_info().currsize == 0; "
        "builtin.find(names[0]); assert builtin._read.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ 1 }}", "the built-in template `x` does not begin with a header comment"),
        ("{#-\nfamily: a\nsource: b\n-#}\n", "the header of the built-in template `x` has no `revision`"),
        ("{#-\nfamily: a\nfamily: b\n-#}\n", "the header of the built-in template `x` cannot be read: `family: b`"),
        ("{#-\nwhat: a\n-#}\n", "the header of the built-in template `x` cannot be read: `what: a`"),
        ("{#-\nfamily\n-#}\n", "the header of the built-in template `x` cannot be read: `family`"),
        (
            "{#-\nfamily: a\nsource: b\nrevision: c\nsupports: turns\neos_token: 1\n-#}\n",
            "the header of the built-in template `x` has a special token that is not text",
        ),
    ],
)
def test_a_bad_header_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        builtin.parse("x", text)
    assert str(caught.value) == message


# Equal to what the models publish


@needs_trl
@pytest.mark.parametrize("name", sampled(sorted(PUBLISHED_BY_TRL), 2))
def test_a_template_equals_the_published_one(name: str) -> None:
    compared = 0
    for case in cases():
        for mode in MODES:
            ours, theirs = rendered(name, case, mode), published(name, case, mode)
            assert comparable(ours) == comparable(theirs), (name, case["id"], mode)
            compared += 1
    assert compared >= len(OWN) * len(MODES)
    print(f"{name}: {compared} outcomes equal those of the published template")


TEXTS = st.lists(
    st.sampled_from(
        ["a", " ", "\n", "<think>", "</think>", "é", "<|im_end|>", "/no_think", "<|channel>", "<channel|>", "0"]
    ),
    max_size=6,
).map("".join)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["call00001", "c2"]),
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["ping", "look_up"]),
                    "arguments": st.dictionaries(
                        st.sampled_from("abB"),
                        TEXTS | st.booleans() | st.none() | st.integers() | st.lists(TEXTS, max_size=2),
                    ),
                }
            ),
        }
    ),
    max_size=2,
)
TURNS = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": TEXTS}),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": TEXTS}, optional={"reasoning_content": TEXTS, "tool_calls": CALLS}
    ),
    st.fixed_dictionaries(
        {"role": st.just("tool"), "content": TEXTS}, optional={"tool_call_id": st.sampled_from(["call00001", "c2"])}
    ),
)
TOOLS = [case["tools"] for case in OWN if case.get("tools")]


@needs_trl
@given(
    name=st.sampled_from(sorted(PUBLISHED_BY_TRL)),
    messages=st.lists(TURNS, min_size=1, max_size=6),
    tools=st.none() | st.sampled_from(TOOLS),
    kwargs=st.fixed_dictionaries({}, optional={"enable_thinking": st.booleans(), "preserve_thinking": st.booleans()}),
    mode=st.sampled_from(MODES),
)
def test_a_template_equals_the_published_one_on_any_conversation(
    name: str, messages: list[dict[str, Any]], tools: Any, kwargs: dict[str, Any], mode: str
) -> None:
    case = {"messages": messages, "tools": tools, "kwargs": kwargs}
    assert comparable(rendered(name, case, mode)) == comparable(published(name, case, mode))


@pytest.mark.parametrize("name", [name for name in builtin.names() if name not in PYTHON_SPECIFICATIONS])
def test_a_template_renders_its_goldens(name: str) -> None:
    lines = (GOLDENS / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    goldens = [json.loads(line) for line in lines if line]
    for golden in goldens:
        kind, value = comparable(rendered(name, BY_ID[golden["conversation"]], golden["mode"]))
        wanted = ("text", golden["text"]) if "text" in golden else (golden["error"], golden.get("message"))
        assert (kind, value) == wanted, (name, golden["conversation"], golden["mode"])
    assert len(goldens) >= 30
    print(f"{name}: {len(goldens)} goldens")


def vicuna(system: str | None, turns: list[tuple[str, str]], prompt: bool) -> str:
    """FastChat's `Conversation.get_prompt` for `vicuna_v1.1`: `ADD_COLON_TWO`, `sep=" "`, `sep2="</s>"`."""
    default = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    names, separators = {"user": "USER", "assistant": "ASSISTANT"}, (" ", "</s>")
    told = "".join(f"{names[role]}: {text}{separators[index % 2]}" for index, (role, text) in enumerate(turns))
    return (default if system is None else system) + " " + told + ("ASSISTANT:" if prompt else "")


def alpaca(system: str | None, turns: list[tuple[str, str]], prompt: bool) -> str:
    """Stanford Alpaca's prompt without input, repeated a turn: the answer stands below `### Response:`, then `</s>`."""
    default = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    pieces = [default if system is None else system]
    for role, text in turns:
        pieces.append(f"### Instruction:\n{text}" if role == "user" else f"### Response:\n{text}</s>")
    ends_open = bool(turns) and turns[-1][0] == "user"
    if prompt:
        return "\n\n".join([*pieces, "### Response:\n"])
    return "\n\n".join([*pieces, ""]) if ends_open else "\n\n".join(pieces)


@pytest.mark.parametrize(("name", "specification"), [("vicuna", vicuna), ("alpaca", alpaca)])
def test_a_template_equals_its_specification_in_python(name: str, specification: Callable[..., str]) -> None:
    compared = 0
    for case in cases():
        told = case["messages"]
        if not all(isinstance(turn.get("content"), str) and "role" in turn for turn in told) or case.get("kwargs"):
            continue
        system = told[0]["content"] if told[0]["role"] == "system" else None
        turns = [(turn["role"], turn["content"]) for turn in told[0 if system is None else 1 :]]
        modes = ("plain", "prompt") if turns and turns[-1][0] == "user" else ("plain",)
        for mode in modes:
            compared += 1
            if all(role == ("user", "assistant")[index % 2] for index, (role, _) in enumerate(turns)) and turns:
                assert rendered(name, case, mode) == ("text", specification(system, turns, mode == "prompt")), case[
                    "id"
                ]
            elif turns:
                raised = ("TemplateError", "Conversation roles must alternate user/assistant/user/assistant/...")
                assert rendered(name, case, mode) == raised, case["id"]
    assert compared >= 20


# The engines


@pytest.mark.parametrize("name", sampled(builtin.names(), 3))
def test_both_engines_agree_and_fall_back_only_where_it_is_known(name: str, share: slice) -> None:
    found = builtin.find(name)
    assert found is not None
    replaying = assert_same(found.text, OWN[share], spans=True)
    reasons = {reason for reason in replaying.stats.reasons if not reason.startswith("it raises ")}
    assert reasons <= set(FALL_BACKS.get(name, ())), name
    assert share.step or reasons == set(FALL_BACKS.get(name, ())), name
    print(f"{name}: {replaying.stats.replayed + replaying.stats.python} of {replaying.stats.rows} rows replayed")


FALL_BACKS = {
    "glm-4": ("`__iter__` of a text or number is not traced",),
    "mistral": ("two texts are compared",),
    "mistral-nemo": ("two texts are compared",),
    "mistral-small-3.2": ("two texts are compared",),
    "tiny-aya": ("two texts are compared",),
}
"""Why conversations of `conversations.jsonl` go through plain Jinja, beside those that raise: pinned here."""


# The trained characters


@pytest.mark.parametrize("name", builtin.names())
def test_spans_hold_the_answers_and_their_stop_token(name: str) -> None:
    found = builtin.find(name)
    assert found is not None
    case = BY_ID["four-turns" if "system" in found.supports else "answered"]
    values = {"variables": {**TOKENS, **found.special_tokens}, "now": NOW}
    text, spans = render_spans(found.text, case["messages"], **values)
    answers = [turn["content"] for turn in case["messages"] if turn["role"] == "assistant"]
    held = [text[start:end] for start, end in together(spans)]
    if name in ENDLESS:  # the marker of the next turn ends a turn; it is a block of its own
        assert [span.endswith(">") for span in held] == [True] * (len(held) - 1) + [False]
        return
    assert len(held) == len(answers)
    assert all(answer in span for answer, span in zip(answers, held, strict=True))
    assert not any(turn["content"] in span for turn in case["messages"] if turn["role"] == "user" for span in held)
    assert text == render_text(found.text, case["messages"], **values)
    assert all(span.endswith((">", "]", "[e~[")) for span in held) or name == "llava"  # which has no stop token


ENDLESS = {"apertus", "hy3", "glm-4", "glm-4.5", "glm-4.7", "glm-5.1", "glm-5.2"}
"""Templates whose turns end with the mark of the next one, so that the last turn has no stop token."""
