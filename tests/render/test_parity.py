"""The sandbox, the library call and the Jinja engine equal transformers in text, errors and spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt import json_columns
from chatfmt.errors import RenderError, TemplateError
from chatfmt.render import ChatTemplate, RenderOptions, compile
from chatfmt.render.jinja.rendering import render_spans
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.conftest import sampled
from tests.render.oracle import NOW, TAG, TOKENS, Outcome, conversations, expected, outcome, templates, to_outcome
from tests.render.samples import TEMPLATES

MODES = ("plain", "prompt", "continue")


def modes(text: str) -> tuple[str, ...]:
    return (*MODES, "spans") if TAG.search(text) else MODES


def chat_template(text: str) -> ChatTemplate:
    return ChatTemplate("t", text, TOKENS, date=NOW)


def ours(text: str, case: Mapping[str, Any], mode: str) -> Outcome:
    if mode == "spans":
        variables = {**TOKENS, **(case.get("kwargs") or {})}
        inputs = (case["messages"], case.get("tools"), case.get("documents"))
        return outcome(lambda: ("spans", render_spans(text, *inputs, variables=variables, now=NOW)))
    try:
        rendered = chat_template(text).render(
            case["messages"],
            tools=case.get("tools"),
            documents=case.get("documents"),
            add_generation_prompt=mode == "prompt",
            continue_final_message=case.get("field", True) if mode == "continue" else False,
            **case.get("kwargs") or {},
        )
        return "text", rendered
    except RenderError as error:
        cause = error.__cause__
        assert str(cause) in (error.message, "")
        return to_outcome(cause)


def json_column(cases: list[Mapping[str, Any]], key: str) -> Any:
    return json_columns.json_array([case.get(key) for case in cases], [case.get(key) is not None for case in cases])


def columns(cases: list[Mapping[str, Any]], text: str, mode: str) -> list[Outcome]:
    """Return the outcomes of the Jinja engine for the cases as one batch of Arrow columns."""
    field = cases[0].get("field", True) if mode == "continue" else False
    options = RenderOptions(generation_prompt=mode == "prompt", continue_final=field, date=NOW, engine="jinja")
    failures: list[RenderError] = []
    messages = json_columns.encode_conversations([case["messages"] for case in cases])
    rest = [json_column(cases, key) for key in ("tools", "documents", "kwargs")]
    try:
        rendered = compile(chat_template(text), options)(
            ConversationBatch(messages, *rest), RenderRequest(spans=mode == "spans"), failures
        )
    except TemplateError as error:  # at once and for every row
        wanted = [expected(text, case, mode) for case in cases]
        assert to_outcome(error.__cause__) in wanted
        assert all(kind != "text" for kind, _ in wanted)
        return wanted
    found: list[Outcome] = [("text", value) for value in rendered.text.to_pylist()]
    if rendered.spans is not None:
        pairs = [[tuple(span) for span in spans] if spans is not None else [] for spans in rendered.spans.to_pylist()]
        found = [("spans", (text, spans)) for (_, text), spans in zip(found, pairs, strict=True)]
    for failure in failures:
        for row in failure.rows:
            assert row is not None
            found[row] = to_outcome(failure.__cause__)
    return found


def is_text(case: Mapping[str, Any]) -> bool:
    try:
        json_columns.encode_conversations([case["messages"]])
    except UnicodeEncodeError:  # a lone surrogate: no Arrow column holds it
        return False
    return True


OWN = [name for name in templates() if name.startswith("own/")]


@pytest.mark.parametrize("name", [*OWN, *sampled([name for name in templates() if name not in OWN], 3)])
def test_every_conversation_renders_as_in_transformers(name: str, share: slice):
    text, compared, differences = templates()[name], 0, []
    taken = conversations()[share]
    for mode in modes(text):
        wanted = {case["id"]: expected(text, case, mode) for case in taken}
        for case in taken:
            compared += 1
            if (got := ours(text, case, mode)) != wanted[case["id"]]:
                differences.append((mode, case["id"], wanted[case["id"]], got))
        for field in {case.get("field", True) for case in taken}:
            cases = [case for case in taken if case.get("field", True) == field and is_text(case)]
            for case, got in zip(cases, columns(cases, text, mode), strict=True):
                compared += 1
                if got != wanted[case["id"]]:
                    differences.append((f"{mode} in columns", case["id"], wanted[case["id"]], got))
    print(f"{name}: {compared} outcomes compared with transformers")
    assert differences == []
    assert compared >= 2 * len(modes(text)) * 6 and len(conversations()) >= 30


def test_what_is_compared():
    outcomes = sum(len(modes(text)) * len(conversations()) for text in templates().values())
    print(f"{len(templates())} templates, {len(conversations())} conversations: {outcomes} outcomes of transformers")
    assert len(TEMPLATES) >= 25
    assert outcomes >= 2500


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "critic"])
TEXTS = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from(list(" \n\t<>&\x1c\x85\u2028")), max_size=12
)
TEXTS |= st.sampled_from(["", " ", "<think>\na\n</think>\n\nb", "CONTINUE_FINAL_MESSAGE_TAG ", "<|im_end|>"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(st.fixed_dictionaries({"function": st.fixed_dictionaries({"arguments": VALUES})}), max_size=2)
MESSAGES = st.fixed_dictionaries(
    {"role": ROLES, "content": TEXTS | VALUES},
    optional={
        "reasoning_content": TEXTS | st.none(),
        "thinking": TEXTS,
        "reasoning": VALUES,
        "name": TEXTS,
        "tool_calls": st.lists(
            st.fixed_dictionaries({"function": st.fixed_dictionaries({"arguments": VALUES})}), max_size=2
        ),
    },
)
CASES = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES, max_size=5)},
    optional={
        "tools": st.none() | st.lists(st.dictionaries(TEXTS, VALUES, max_size=2), max_size=2),
        "documents": st.lists(st.dictionaries(TEXTS, VALUES, max_size=2), max_size=2),
        "kwargs": st.dictionaries(st.sampled_from(["enable_thinking", "bos_token", "date_string"]), VALUES, max_size=2),
        "field": st.sampled_from(["content", "reasoning", "thinking", "reasoning_content", "name"]),
    },
)
CHOSEN = [
    name
    for name in templates()
    if name.removeprefix("own/") in ("chatml", "tools", "reasoning", "parts", "generation", "markup", "python-text")
    or name.rpartition("/")[2] in ("qwen3.jinja", "gptoss.jinja", "llama3_1.jinja", "deepseekv3.jinja")
]


@given(name=st.sampled_from(CHOSEN), case=CASES)
def test_any_conversation_renders_as_in_transformers(name: str, case: dict[str, Any]):
    text = templates()[name]
    for mode in modes(text):
        wanted = expected(text, case, mode)
        assert ours(text, case, mode) == wanted
        assert columns([case], text, mode) == [wanted]
