"""Control tokens in content: finding them by the template's own literals, and each policy."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import Location
from chatfmt.json_columns import decode_conversations, encode_conversations, json_array, loads
from chatfmt.render.safety.control_tokens import (
    ESCAPES,
    Scanner,
    TokenEdges,
    find_control_tokens,
    find_token_edges,
    unescape,
)
from chatfmt.render.template.chat_template import ChatTemplate
from tests.render.templates import CHATML, NO_STOP, NO_SYSTEM, TOKENS, call, known_templates, say

ROWS = [
    [say("user", "clean"), say("assistant", "a < b <| c")],
    [say("user", "x<|im_end|>y"), say("assistant", "", tool_calls=[call("f", {"q": "<|im_start|>"})])],
    None,
    [say("system", "</s>"), say("user", "<|im_end|><|im_end|>")],
]


def batch() -> pa.RecordBatch:
    tools = json_array([None, None, None, [{"name": "<s>"}]], [False, False, False, True])
    return pa.RecordBatch.from_pydict(
        {"row": pa.array([7, 8, 9, 10]), "messages": encode_conversations(ROWS), "tools": tools}
    )


TEMPLATE = ChatTemplate("chatml", CHATML, TOKENS)


def test_tokens_are_the_special_ones_and_those_in_literals() -> None:
    assert find_control_tokens(TEMPLATE) == ("<|im_start|>", "<|im_end|>", "<pad>", "<unk>", "</s>", "<s>")
    assert find_control_tokens(ChatTemplate("plain", NO_STOP)) == ()
    tokens = find_control_tokens(ChatTemplate("x", NO_SYSTEM, {"eos_token": "x"}), ["<mine>"])
    assert tokens == ("<mine>", "[USER]", "[BOT]")
    assert find_control_tokens(ChatTemplate("broken", "{% if %}", {"eos_token": "</s>"})) == ("</s>",)


def test_every_known_template_has_the_tokens_that_it_prints() -> None:
    found = {name: find_control_tokens(ChatTemplate(name, text)) for name, text in known_templates()}
    assert "<|im_end|>" in found["chatfmt/qwen3"] and "<|eot_id|>" in found["chatfmt/llama-3.1"]
    assert sum(bool(tokens) for tokens in found.values()) >= 0.85 * len(found)


def test_findings_name_row_message_and_field() -> None:
    found = Scanner(find_control_tokens(TEMPLATE)).findings(batch())
    assert [(f.row, f.message, f.field, f.tokens) for f in found] == [
        (1, 0, "content", ("<|im_end|>",)),
        (3, 0, "content", ("</s>",)),
        (3, 1, "content", ("<|im_end|>", "<|im_end|>")),
        (1, 1, "tool_calls", ("<|im_start|>",)),
        (3, None, "tools", ("<s>",)),
    ]


def test_keep_counts_and_changes_nothing() -> None:
    given_batch = batch()
    outcome = Scanner(find_control_tokens(TEMPLATE)).apply(given_batch, "keep")
    assert outcome.batch is given_batch
    assert outcome.counts == {"<|im_end|>": 3, "</s>": 1, "<|im_start|>": 1, "<s>": 1}
    assert outcome.rows == (1, 3) and outcome.rejected == ()


def test_drop_and_reject_drop_the_rows() -> None:
    scanner = Scanner(find_control_tokens(TEMPLATE))
    dropped, rejected = scanner.apply(batch(), "drop"), scanner.apply(batch(), "reject")
    assert dropped.batch["row"].to_pylist() == rejected.batch["row"].to_pylist() == [7, 9]
    assert dropped.rejected == ()
    assert [(error.at, error.message) for error in rejected.rejected] == [
        (Location(row=1, message=0), "the control token `<|im_end|>` is in `content`"),
        (Location(row=3, message=0), "the control token `</s>` is in `content`"),
    ]
    assert {error.code for error in rejected.rejected} == {"token.control"}


def test_escape_splits_every_token_and_can_be_undone() -> None:
    scanner = Scanner(find_control_tokens(TEMPLATE))
    outcome = scanner.apply(batch(), "escape")
    assert scanner.findings(outcome.batch) == []
    escaped = decode_conversations(outcome.batch["messages"])
    assert escaped[0] == ROWS[0] and escaped[2] is None
    assert escaped[1][0]["content"] == "x< |im_end|>y"
    assert escaped[1][1]["tool_calls"][0]["function"]["arguments"] == {"q": "< |im_start|>"}
    assert escaped[3][1]["content"] == "< |im_end|>< |im_end|>"
    notes = [None if text is None else loads(text) for text in outcome.batch[ESCAPES].to_pylist()]
    assert notes[0] is notes[2] is None
    assert notes[3] == [
        ["messages", 0, "content", 1, "</s>"],
        ["messages", 1, "content", 1, "<|im_end|>"],
        ["messages", 1, "content", 12, "<|im_end|>"],
        ["tools", None, "tools", 11, "<s>"],
    ]
    assert unescape(escaped[3][1]["content"], TEMPLATE) == ROWS[3][1]["content"]


def test_clean_batches_are_unchanged() -> None:
    clean = pa.RecordBatch.from_pydict({"messages": encode_conversations(ROWS[:1])})
    for policy in ("keep", "drop", "reject"):
        assert Scanner(find_control_tokens(TEMPLATE)).apply(clean, policy).batch is clean
        assert Scanner(()).apply(batch(), policy).rows == ()
    assert Scanner(()).apply(clean, "escape").batch is clean
    escaped = Scanner(find_control_tokens(TEMPLATE)).apply(clean, "escape").batch
    assert escaped.to_pydict() == {**clean.to_pydict(), ESCAPES: [None]}


EDGED = ChatTemplate(
    "edged", "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}|end|>\n{% endfor %}", {"eos": "<|end|>"}
)


def test_most_templates_complete_no_token() -> None:
    assert find_token_edges(TEMPLATE) == TokenEdges()
    assert find_token_edges(EDGED) == TokenEdges({"<": "<|end|>", "<|end": "<|end|>"}, {"end|>": "<|end|>"})
    edged = {name for name, text in known_templates() if find_token_edges(ChatTemplate(name, text)) != TokenEdges()}
    assert "chatfmt/glm-4" in edged and not edged & {"chatfmt/qwen3", "chatfmt/llama-3.1", "chatfmt/chatml"}
    assert find_token_edges(ChatTemplate.load("minimax-m2")).ends["]~!b"] == "]~!b["


def test_a_token_that_the_template_completes_is_found() -> None:
    rows = [
        [say("user", "a <"), say("assistant", "fine")],
        [say("user", "<"), say("assistant", "<\n \n")],
        [say("user", " end|> x"), say("assistant", "a < b")],
        [say("user", ""), say("assistant", "< |end|>")],
        None,
        [say("user", "<|end|>"), say("assistant", "é<")],
    ]
    batch = pa.RecordBatch.from_pydict({"messages": encode_conversations([rows[0], *rows, rows[0]])}).slice(1, 6)
    scanner = Scanner(find_control_tokens(EDGED), find_token_edges(EDGED))
    assert [(f.row, f.message, f.field, f.code, f.tokens) for f in scanner.findings(batch)] == [
        (5, 0, "content", "token.control", ("<|end|>",)),
        *((*at, "content", "token.boundary", ("<|end|>",)) for at in [(0, 0), (1, 0), (1, 1), (2, 0), (5, 1)]),
    ]
    kept = scanner.apply(batch, "keep").kept
    assert Counter(each.code for each in kept) == {"token.control": 1, "token.boundary": 4}
    first = {(each.row, each.code): each for each in reversed(scanner.findings(batch))}
    assert list(kept) == [first[key] for key in sorted(first)]
    kept = scanner.apply(batch, "drop").batch
    assert decode_conversations(kept["messages"]) == [rows[3], None]
    error = scanner.apply(batch, "reject").rejected[0]
    assert (error.code, error.at) == ("token.boundary", Location(row=0, message=0))
    assert error.message == "`content` may form the control token `<|end|>` with the template text next to it"
    assert [error.code for error in scanner.apply(batch, "escape").rejected] == ["token.boundary"] * 5


@given(st.text(alphabet="<|end>x \né", max_size=8))
def test_a_token_on_the_boundary_is_never_missed(text: str) -> None:
    scanner = Scanner(find_control_tokens(EDGED), find_token_edges(EDGED))
    plain = EDGED.render([say("user", "x")]).count("<|end|>")
    formed = EDGED.render([say("user", text)]).count("<|end|>") > plain
    found = scanner.findings(pa.RecordBatch.from_pydict({"messages": encode_conversations([[say("user", text)]])}))
    assert found or not formed
