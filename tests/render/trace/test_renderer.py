"""The traced engine equals the Jinja engine in texts, spans and errors, on all templates and shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt import json_columns
from chatfmt.errors import RenderError, TemplateError
from chatfmt.render.jinja_renderer import JinjaRenderer
from chatfmt.render.options import RenderOptions
from chatfmt.render.template import builtin
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.render.trace.kernels import answers, apply, buffer_of, to_slices
from chatfmt.render.trace.program import OPERATIONS, QUESTIONS
from chatfmt.render.trace.program_cache import TraceLimits
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.render.trace.tables import Tables
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.conftest import SHARED, TRL_TEMPLATES, needs_shared, needs_trl, sampled
from tests.render.engines import EAGER, assert_same, columns, outcome, template, traced
from tests.render.trace.test_tracer import TEXTS

NAMES = sorted(path.name for path in TRL_TEMPLATES.glob("*.jinja")) if TRL_TEMPLATES else []
CHATML = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<e>\n{% endfor %}"
THINK = (
    "{% for m in messages %}"
    "{{ m.content.split('</think>')[-1]|trim if '</think>' in m.content else m.content }}\n{% endfor %}"
    ""
)


def chat(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]}


def variants(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row, and the row with other texts of the same shape."""
    return [row, {**row, "messages": [changed(turn, " Ünd</think> x\n") for turn in row["messages"]]}]


def changed(turn: dict[str, Any], tail: str) -> dict[str, Any]:
    texts = ("content", "reasoning_content")
    return {key: value + tail if type(value) is str and key in texts else value for key, value in turn.items()}


@lru_cache(maxsize=1)
def oracle_rows() -> list[dict[str, Any]]:
    assert SHARED
    lines = (SHARED / "oracle" / "conversations.jsonl").read_text("utf-8").splitlines()
    usable = [row for row in map(json.loads, lines) if encodable(row)]
    assert len(usable) >= 80
    return [variant for row in usable for variant in variants(row)]


def encodable(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
        return all(type(turn) is dict for turn in row["messages"])
    except UnicodeEncodeError:
        return False


@lru_cache(maxsize=3)
def oracle_columns(start: int | None, step: int | None) -> ConversationBatch:
    return columns(oracle_rows()[start::step])


@needs_shared
@needs_trl
@pytest.mark.parametrize("name", sampled(NAMES, 3))
def test_every_conversation_of_the_oracle_renders_alike_on_both_engines(name: str, share: slice) -> None:
    assert TRL_TEMPLATES
    text, compared = (TRL_TEMPLATES / name).read_text("utf-8"), 0
    plain, replaying = JinjaRenderer(template(text), RenderOptions()), traced(text)
    by_row = traced(text, limits=TraceLimits(rows=1, free=10_000, different=-1))
    batch = oracle_columns(share.start, share.step)
    for prompt in (False, True):
        wanted = outcome(plain, batch, generation_prompt=prompt, spans=not prompt)
        for renderer in (replaying, replaying, by_row):
            assert outcome(renderer, batch, generation_prompt=prompt, spans=not prompt) == wanted
            compared += len(wanted[0])
    print(f"{name}: {compared} outcomes compared, {replaying.stats}, {by_row.stats}")
    assert compared == 6 * len(batch) >= 6 * 25 and not replaying.stopped and not by_row.stopped
    assert replaying.stats.replayed and by_row.stats.python


def ordinary_shares(templates: Mapping[str, ChatTemplate]) -> dict[str, float]:
    """The share of smoltalk-like rows that each template replays, of those that it renders at all."""
    assert SHARED
    messages = pq.read_table(SHARED / "data" / "smoltalk_like_2k.parquet")["messages"][:1000].combine_chunks()
    shares: dict[str, float] = {}
    for name, source in templates.items():
        renderer = TracedRenderer(source, RenderOptions(), JinjaRenderer(source, RenderOptions()))
        failures: list[RenderError] = []
        renderer(ConversationBatch(messages), failures=failures)
        renderable = renderer.stats.rows - sum(len(failure.rows) for failure in failures)
        shares[name] = renderer.stats.replayed / renderable if renderable else 1.0
    return shares


@needs_shared
@needs_trl
def test_ordinary_chats_replay_on_nearly_every_template() -> None:
    assert TRL_TEMPLATES
    names = sampled(NAMES, 4)
    shares = ordinary_shares({name: template((TRL_TEMPLATES / name).read_text("utf-8")) for name in names})
    low = {name: share for name, share in shares.items() if share < 0.95}
    print(f"{len(shares)} templates, below 95%: {low}")
    assert len(shares) == len(names) >= 17 and len(low) <= len(shares) // 17


@needs_shared
def test_ordinary_chats_replay_on_every_built_in_template() -> None:
    shares = ordinary_shares({name: ChatTemplate.load(name) for name in sampled(builtin.names(), 4)})
    assert len(shares) >= 25 and {name: share for name, share in shares.items() if share < 0.95} == {}


def test_rows_that_fail_raise_what_jinja_raises_for_the_first_of_them() -> None:
    text = (
        "{% for m in messages %}"
        "{{ raise_exception('bad ' + m.content) if 'x' in m.content else m.content }}{% endfor %}"
    )
    rows = [chat("a", "b"), chat("c", "d"), chat("e", "x1"), chat("f"), chat("x2", "g"), chat("h", "i")]
    for engine in (traced(text), JinjaRenderer(template(text), RenderOptions())):
        with pytest.raises(RenderError, match="bad x1") as caught:
            engine(columns(rows))
        assert (caught.value.at.row, caught.value.code) == (2, "template.raised")
    renderer = assert_same(text, rows)
    assert renderer.stats.jinja == 0 and renderer.stats.replayed == 12


def test_absent_conversations_have_no_text_and_empty_ones_are_jinjas_to_refuse() -> None:
    messages = json_columns.encode_conversations([chat("a")["messages"], None, [], chat("b")["messages"]])
    failures: list[RenderError] = []
    found = traced(CHATML)(ConversationBatch(messages), failures=failures)
    assert found.text.to_pylist() == ["<|user|>\na<e>\n", None, None, "<|user|>\nb<e>\n"]
    assert [(failure.at.row, failure.code) for failure in failures] == [(2, "template.error")]


def test_an_empty_batch_and_a_slice_of_a_batch() -> None:
    chats = columns([chat("a"), chat("b", "c"), chat("d"), chat("é", "f")])
    renderer = traced(CHATML)
    assert renderer(chats.slice(0, 0)).text.to_pylist() == []
    assert renderer(chats.slice(1, 3)).text.to_pylist() == renderer(chats).text.to_pylist()[1:]
    assert renderer(chats.slice(2, 1)).text.to_pylist() == ["<|user|>\nd<e>\n"]


def test_spans_of_replayed_rows_count_code_points_and_agree_with_jinja() -> None:
    text = (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}<e>{% endgeneration %}{% endif %}{% endfor %}"
    )
    rows = [chat("a", "é😀", "b", ""), chat("c", "dd", "e", "ff"), chat("g"), chat("h", "i", "j", "\u3000")]
    renderer = assert_same(text, rows, spans=True)
    assert renderer.stats.jinja == 0
    assert renderer(columns(rows), RenderRequest(spans=True)).spans.to_pylist()[0] == [[17, 22], [39, 42]]


def test_spans_inside_a_block_are_left_to_jinja() -> None:
    text = "{% set s %}pre{% generation %}{{ messages[0].content }}{% endgeneration %}{% endset %}A{{ s }}"
    renderer = assert_same(text, [chat("b"), chat("c"), chat("d")], spans=True)
    assert renderer.stats.replayed == 0
    assert renderer(columns([chat("b"), chat("c")])).text.to_pylist() == ["Apreb", "Aprec"]
    assert renderer.stats.replayed == 2


def test_engine_trace_never_falls_back() -> None:
    options = RenderOptions(engine="trace")
    assert traced(CHATML, options)(columns([chat("a")])).text.to_pylist() == ["<|user|>\na<e>\n"]
    with pytest.raises(TemplateError) as caught:
        traced("{{ messages[0].content|safe }}", options)(columns([chat("a")]))
    assert str(caught.value) == "`--engine trace` cannot render row 0: `|safe` with a text"
    with pytest.raises(RenderError, match="no"):
        traced("{{ raise_exception('no') }}", options)(columns([chat("a")]))


def test_one_bos_is_stripped_as_jinja_does() -> None:
    for text in (
        "{{ bos_token }}" + CHATML,
        "<s><s>" + CHATML,
        CHATML,
        "{{ bos_token + messages[0].content }}",
        "<{{ messages[0].content }}",
    ):
        options = RenderOptions(bos="strip")
        rows = columns([chat("a"), chat("s>b"), chat("<s>c"), chat("")])
        plain, replaying = JinjaRenderer(template(text), options), traced(text, options)
        assert outcome(replaying, rows) == outcome(plain, rows)
        assert not replaying.stopped


def test_a_program_that_disagrees_with_jinja_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Tables.assemble.__globals__, "apply", lambda bare, texts: texts)
    renderer = traced("{% for m in messages %}{{ m.content|trim }}{% endfor %}")
    assert renderer(columns([chat(" a "), chat("b "), chat("c")])).text.to_pylist() == ["a", "b", "c"]
    assert renderer.stopped == "a replayed text differed from plain Jinja's, so nothing is replayed any more"
    assert (renderer.stats.replayed, renderer.stats.jinja) == (0, 3)


def test_a_program_whose_spans_disagree_with_jinja_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    none = np.zeros(0, np.int64)
    monkeypatch.setattr(Tables, "spans", lambda self, programs, pieces: (none, none, none))
    renderer = traced(text)
    assert renderer(columns([chat("a"), chat("bb")]), RenderRequest(spans=True)).spans.to_pylist() == [
        [[0, 1]],
        [[0, 2]],
    ]
    assert renderer.stopped == "a replayed text differed from plain Jinja's, so nothing is replayed any more"


@pytest.mark.parametrize("by_row", [False, True])
def test_one_renderer_tells_what_its_calls_ask_for(by_row: bool) -> None:
    text = (
        "{% for m in messages %}{% generation %}{{ m.content }}{{ m.tool_calls|tojson if m.tool_calls }}"
        "{% endgeneration %}{% endfor %}{{ '<go>' if add_generation_prompt }}{{ tools|length if tools }}{{ extra }}"
    )
    rows = [{**row, "tools": tools, "kwargs": {"extra": extra}} for tools in ([], [{"a": 1}]) for extra in (1, 2)
            for row in ([calling(1, 1), calling(2, 1)] if by_row else [chat("a"), chat("b")])]  # fmt: skip
    plain = JinjaRenderer(template(text), RenderOptions())
    renderer = traced(text, limits=TraceLimits(rows=1, free=10_000, different=-1) if by_row else EAGER)
    for prompt, spans in ((True, True), (False, True), (True, False), (False, False), (True, True)):
        asked = {"generation_prompt": prompt, "spans": spans}
        assert outcome(renderer, columns(rows), **asked) == outcome(plain, columns(rows), **asked)
    assert not renderer.stopped and renderer.stats.jinja == 0


@pytest.mark.parametrize(
    "expression", ["(m.content.split('x')|join('-'))|upper", "'A' if '-a' in m.content.split('x')|join('-') else 'B'"]
)
def test_rows_with_fewer_parts_than_a_program_joins_are_left_to_another(expression: str) -> None:
    rows = [chat("axaxb"), chat("bxaxa"), chat("a"), chat(""), chat("x"), chat("xxxx"), chat("c")]
    assert assert_same("{% for m in messages %}{{ " + expression + " }}{% endfor %}", rows).stats.jinja == 0


ADDRESSES = (
    "<a at 0x7f0011>", "<b", " at 0x7f0011> c", "<a at 0X7F0011>", "0x7f0011> d", "7f0011>", "<d at 0x7f00", "11>",
)  # fmt: skip


@pytest.mark.parametrize(
    "printed",
    [
        "{{ m.content }}", "{{ m.content }}|", "{{ m.content|tojson }}", "{{ m.content|lower }}", "<{{ m.content }}>",
        "{{ m.content.replace('a', 'x') }}", "{{ m.content.replace('7', '8') }};", "<c at {{ m.content }}",
        "<c at 0x{{ m.content }}", "{{ m.content }}22>", "{{ m.content ~ 'at 0x' ~ m.content }}",
        "{{ m.content[3:] }};",
    ],
)  # fmt: skip
def test_addresses_in_texts_are_data_on_both_engines(printed: str) -> None:
    text = "{% for m in messages %}" + printed + "{% endfor %}"
    rows = [chat(first, second) for first in ADDRESSES for second in ADDRESSES]
    for warm in (rows, [chat("a", "b"), chat("c", "d"), *rows]):
        assert assert_same(text, warm).stats.replayed or printed == "<c at 0x{{ m.content }}"


def test_absent_null_and_empty_are_three_things() -> None:
    text = (
        "{% for m in messages %}"
        "{{ 'content' in m }}{{ m.content is defined }}{{ m.content is none }}"
        "[{{ m.content }}]{{ m.keys()|list }}{% endfor %}"
        ""
    )
    turns = [
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": ""},
        {"content": "", "role": "user"},
    ]
    renderer = assert_same(text, [{"messages": [turn]} for turn in turns * 2])
    assert len(set(renderer(columns([{"messages": [turn]} for turn in turns])).text.to_pylist())) == 3


def test_tools_and_variables_are_part_of_the_shape() -> None:
    text = "{{ tools|tojson if tools else 'none' }}{{ documents }}{{ extra|default('-') }}{{ messages[0].content }}"
    tool = {"type": "function", "function": {"name": "f"}}
    rows = [
        {**chat(words), "tools": tools, "kwargs": kwargs, "documents": documents}
        for words in ("a", "b", "c")
        for tools in (None, [], [tool])
        for kwargs in (None, {"extra": 1}, {"extra": "x"}, {"messages": []}, [1])
        for documents in (None, [{"title": "t"}], ["no"])
    ]  # fmt: skip
    renderer = assert_same(text, rows)
    assert renderer.stats.replayed == 2 * 3 * 3 * 3 * 2


def test_shapes_and_programs_are_bounded_and_rows_past_the_bounds_go_through_jinja() -> None:
    limits = TraceLimits(rows=1, programs=3, free=5)
    rows = [chat(*("x</think>y" if word & 1 << bit else "x" for bit in range(4))) for word in range(16)] * 2
    renderer = assert_same(THINK, rows, limits)
    assert len(renderer.programs) == 3
    assert renderer.stats.reasons == {"its shape has too many paths through the template": renderer.stats.jinja}
    rows = [chat(*["x"] * turns) for turns in range(1, 20)] * 3
    assert assert_same(CHATML, rows, limits).stats.traces == 5 + (7 * 3 + 5 * 3 + 3) // 16
    assert assert_same(CHATML, [chat(*["x"] * 65)] * 4).stats.jinja == 8


def test_a_shape_whose_programs_take_few_rows_gets_no_more_of_them() -> None:
    masks = np.random.default_rng(1).integers(0, 1 << 12, 300).tolist()
    rows = [chat(*("x</think>y" if mask & 1 << bit else "x" for bit in range(12))) for mask in masks]
    renderer = assert_same(THINK, rows, TraceLimits())
    assert (renderer.stats.traces, renderer.stats.replayed) == (1, 2)
    few = [chat(*("x</think>y" if place & 1 << bit else "x" for bit in range(3))) for place in range(300)]
    renderer = assert_same(THINK, few, TraceLimits())
    assert (renderer.stats.traces, renderer.stats.replayed) == (8, 600)


def in_order(number: int, turns: int) -> dict[str, Any]:
    """A row like no other in the order of its roles, with a call like no other where `turns` is even."""
    roles = [("user", "assistant")[number >> bit & 1] for bit in range(turns)]
    last = {"tool_calls": [{"a": number}]} if turns % 2 == 0 else {}
    return {
        "messages": [*({"role": role, "content": "x"} for role in roles), {"role": "assistant", "content": "y", **last}]
    }


def test_the_trial_of_calls_is_saved_where_the_order_of_turns_hardly_repeats() -> None:
    rows = [in_order(number, 12) for number in range(60)]
    renderer = assert_same(CHATML, rows, TraceLimits())
    assert renderer.stats.reasons == {"shapes that hardly repeat": 120}


def test_the_search_for_shapes_pauses_twice_as_long_each_time_it_finds_hardly_any() -> None:
    renderer, plain = traced(CHATML, limits=TraceLimits()), JinjaRenderer(template(CHATML), RenderOptions())
    odd = columns([in_order(number, 13) for number in range(500)])
    usual, replayed = columns([chat("a", "b")] * 500), []
    for chats in (odd, usual, odd, usual, usual, usual, usual):
        assert renderer(chats).text.equals(plain(chats).text)
        replayed.append(renderer.stats.replayed)
    assert replayed == [0, 0, 0, 0, 0, 500, 1000]
    assert renderer.stats.reasons == {"too few rows of its shape": 1000, "shapes that hardly repeat": 1500}


def test_a_shape_that_is_rare_is_traced_late() -> None:
    rare, usual = chat("a", "b", "c"), chat("a", "b")
    renderer = traced(CHATML, limits=TraceLimits(rows=2, rare=4))
    for rows, traces in (([usual] * 20, 1), ([rare] * 4, 1), ([rare] * 2, 2)):
        renderer(columns(rows))
        assert renderer.stats.traces == traces


def calling(place: int, size: int) -> dict[str, Any]:
    """A row whose call is like no other's, and has the shape of all of its size."""
    call = {"a": ["x"] * size, "b": str(place)}
    return {"messages": [{"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": [call]}]}


def test_shapes_that_hardly_repeat_are_given_up() -> None:
    rows = [calling(place, place) for place in range(700)]
    renderer = traced(CHATML, limits=TraceLimits())
    plain = JinjaRenderer(template(CHATML), RenderOptions())
    assert outcome(renderer, columns(rows)) == outcome(plain, columns(rows))
    assert renderer.stats.traces == 0
    assert renderer.stats.reasons["shapes that hardly repeat"] == 700 - 48
    some = [calling(place, place % 45) for place in range(700)]
    renderer = traced(CHATML, limits=TraceLimits())
    assert outcome(renderer, columns(some)) == outcome(plain, columns(some))
    assert renderer.stats.reasons["shapes that hardly repeat"] == 700 - 48
    some = [calling(place, place % 30) for place in range(700)]
    renderer = traced(CHATML, limits=TraceLimits())
    assert outcome(renderer, columns(some)) == outcome(plain, columns(some))
    assert renderer.stats.python == 700 - 7 * 30


def test_tool_calls_with_other_arguments_replay_row_by_row() -> None:
    text = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name }}{{ c.function.arguments|tojson }}{% endfor %}{% endfor %}"
    )
    rows = []
    for place in range(60):
        call = {
            "type": "function",
            "function": {"name": "weather", "arguments": {"city": f'c{place}"é', "days": place, "hot": 0.5 * place}},
        }
        rows.append(
            {"messages": [{"role": "user", "content": str(place)}, {"role": "assistant", "tool_calls": [call]}]}
        )
    renderer = traced(text, limits=TraceLimits())
    assert outcome(renderer, columns(rows)) == outcome(JinjaRenderer(template(text), RenderOptions()), columns(rows))
    assert (renderer.stats.python, renderer.stats.jinja) == (53, 7)


ARGUMENTS: list[Any] = [
    {"a": "x"}, {"a": "1"}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": None}, {"a": []}, {"a": ["x"]}, {"a": {}},
    {"b": "x"}, {"a": "x", "b": 2}, {"b": 2, "a": "x"}, {"type": "x"}, {"type": "y"}, {"a": 0}, {"a": 0.0},
    {"a": False}, "x", "", 1, None,
]  # fmt: skip


def test_rows_whose_calls_differ_in_more_than_texts_share_no_program() -> None:
    text = (
        "{% for m in messages %}{{ m.weight }}{% for c in m.tool_calls %}{{ c|tojson }}"
        "{% if c is mapping %}{% for k, v in c.items() %}{{ k }}={{ v }}{{ v is string }}{% endfor %}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    rows = [
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [call], "weight": weight}]}
        for call in ARGUMENTS
        for weight in (1, True, 1.0, 0.0, -0.0)
        for _ in range(2)
    ]
    renderer = assert_same(text, rows, TraceLimits(rows=1, free=10_000, different=-1))
    assert renderer.stats.python > renderer.stats.jinja


def test_a_role_that_is_a_number_has_another_shape_than_its_digits() -> None:
    text = "{% for m in messages %}{{ m.role }}{{ m.role is string }}{{ m.content }}{% endfor %}"
    renderer, plain = traced(text), JinjaRenderer(template(text), RenderOptions())
    for role in ("1", 1, "1", 1):
        chats = columns([{"messages": [{"role": role, "content": words}]} for words in ("a", "b")])
        assert outcome(renderer, chats) == outcome(plain, chats)
    assert not renderer.stopped


def test_a_row_that_disagrees_with_jinja_ends_the_replay_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.render.trace.row_replay.evaluate", lambda piece, leaves: "wrong")
    renderer = traced("{{ messages[1].tool_calls|tojson }}")
    many = [calling(place, 1) for place in range(40)]
    assert renderer(columns(many)).text[7].as_py() == '[{"a": ["x"], "b": "7"}]'
    assert renderer.stopped == "a replayed text differed from plain Jinja's, so nothing is replayed any more"


def test_shapes_are_learnt_anew_where_there_is_no_room_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.render.trace.shapes.MAX_STATES", 5)
    renderer = traced(CHATML)
    late = {"messages": [{"role": "late", "content": "b"}]}
    for rows, replayed, python in (([chat("a")] * 9 + [chat("a", "b", "c", "d")], 10, 0), ([late], 11, 0)):
        texts = renderer(columns(rows)).text.to_pylist()
        assert texts == JinjaRenderer(template(CHATML), RenderOptions())(columns(rows)).text.to_pylist()
        assert (renderer.stats.replayed, renderer.stats.python, renderer.stats.jinja) == (replayed, python, 0)


def test_a_shape_that_finds_no_room_is_replayed_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.render.trace.shapes.MAX_STATES", 5)
    renderer = traced(CHATML)
    renderer(columns([chat(*"abcdefgh"[:turns]) for turns in range(1, 9)]))
    assert (renderer.stats.replayed, renderer.stats.python, renderer.stats.jinja) == (4, 4, 0)


@pytest.mark.parametrize(
    ("printed", "all_printed"),
    [
        ("{{ m.content }}", True),
        ("{{ m.content|trim }}", True),
        ("{{ m.content.rstrip('\\n ') }}", True),
        ("{{ m.content.strip('<') }}", False),
        ("{{ m.content.split('x')[0] }}", False),
        ("{% if m.role == 'user' %}{{ m.content }}{% endif %}", False),
        ("{{ m.role }}", False),
    ],
)
def test_rows_are_known_to_print_what_is_said(printed: str, all_printed: bool) -> None:
    renderer = traced("{% for m in messages %}" + printed + "|{% endfor %}")
    found = renderer(columns([chat(" é ", "lost"), chat("b", "x")])).all_printed
    assert found is not None and found.tolist() == [all_printed, all_printed]


def test_rows_with_more_than_texts_are_not_known_to_print_it() -> None:
    renderer = traced("{% for m in messages %}{{ m.content }}|{% endfor %}")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert renderer(columns([{**chat("a", "b"), "tools": [tool]}] * 2)).all_printed is None
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    assert renderer(columns([parts] * 2)).all_printed is None


OPERATION_CASES = [
    *((name, characters) for name in ("strip", "lstrip", "rstrip") for characters in (None, "\n", "a ", "é", "")),
    *(("split", part, -1, place) for part in ("</think>", "\n", "aa", "a", "é") for place in (0, -1, 1, -2, 5)),
    *((name, "a", 1, place) for name in ("split", "rsplit") for place in (0, -1, 1)),
    ("split", None, -1, 0), ("replace", "a", "é", -1), ("replace", "zz", "", -1),
    ("removeprefix", "x"),
    ("removesuffix", "a"), ("lower",), ("slice", 1, None, None), ("json", False), ("json", True), ("title",),
    ("indent", 2, False, False),
]  # fmt: skip
QUESTION_CASES = [
    ("true",), ("length",), *(("length>", number) for number in (0, 1, 2, 5)),
    *(("has", part) for part in ("", "a", "</think>", "é", "aa", "\n\n")),
    *(("parts", part, -1) for part in ("a", "aa", "\n", "</think>")), ("startswith", "<think>"),
    ("startswith", ("a", "x")), ("startswith", ""),
    ("endswith", "a"), ("endswith", ("\n", "é")), ("is", ""), ("is", "aaa"), ("within", "aaa Hello"), ("count", "a"),
    ("count", "aa"), ("isspace",), ("parts", "a", 1), ("rparts", "a", 1),
]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATION_CASES)
def test_an_operation_on_a_column_is_pythons(operation: tuple[Any, ...]) -> None:
    name, *constants = operation
    texts = [
        *TEXTS,
        *(text + "\x85" for text in TEXTS),
        *("\u2003" + text for text in TEXTS),
        " " * 200 + "x" + "\x1f" * 99,
    ]
    expected = [attempt(OPERATIONS[name], text, constants) for text in texts]
    found = apply((name, ("leaf", "f"), *constants), to_slices(texts)).strings()
    assert len(texts) > 60
    assert [(got if want is not None else None) for got, want in zip(found, expected, strict=True)] == expected


def attempt(operation: Any, text: str, constants: list[Any]) -> str | None:
    try:
        return operation(text, *constants)
    except IndexError:
        return None


@pytest.mark.parametrize("question", QUESTION_CASES)
def test_a_question_on_a_column_is_pythons(question: tuple[Any, ...]) -> None:
    name, *constants = question
    texts = [*TEXTS, "😀😀", "banana", "a😀a"]
    found = answers((name, ("leaf", "f"), *constants), to_slices(texts))
    assert found.tolist() == [int(QUESTIONS[name](text, *constants)) for text in texts]


def test_a_pattern_across_two_texts_is_in_neither() -> None:
    texts = to_slices(["x</thi", "nk>y", "a</think>", "</think>b"])
    assert answers(("has", ("leaf", "f"), "</think>"), texts).tolist() == [0, 0, 1, 1]
    assert answers(("parts", ("leaf", "f"), "aa", -1), to_slices(["xa", "", "ax"])).tolist() == [1, 1, 1]


def test_patterns_are_found_in_slices_and_across_blocks() -> None:
    source, _ = buffer_of(pa.array(["é" * 70_000 + "</think>" + "ab" * 70_000, "</think>", "aaa</thin"]))
    assert source.find(b"</think>").tolist() == [140_000, 280_008]
    assert source.find(b"aa").tolist() == [280_016, 280_017] and source.find("é</t".encode()).tolist() == [139_998]
    assert source.find(b"").tolist() == source.find(b"</think>aaa</think>").tolist() == []
    array = pa.array(["</think>", "x", "a</think>"])[1:]
    source, offsets = buffer_of(array)
    assert source.find(b"</think>").tolist() == [10] and offsets.tolist() == [8, 9, 18]


def test_white_space_is_pythons_and_not_arrows() -> None:
    every = [chr(code) for code in range(0x3002) if not 0xD800 <= code < 0xE000]
    texts = to_slices([f"{character}x{character}" for character in every])
    found = apply(("strip", ("leaf", "f"), None), texts).strings()
    assert found == [f"{character}x{character}".strip() for character in every]


@needs_trl
def test_trajectories_with_a_new_shape_in_every_row_are_not_traced() -> None:
    assert TRL_TEMPLATES
    text = (TRL_TEMPLATES / "qwen3.jinja").read_text("utf-8")
    roles = ("system", "user", "assistant", "tool")
    rows = []
    for place in range(300):
        order = np.random.default_rng(place).integers(0, 4, 20)
        rows.append({"messages": [{"role": roles[number], "content": f"text {number}"} for number in order.tolist()]})
    renderer = traced(text, limits=TraceLimits())
    plain = JinjaRenderer(template(text), RenderOptions())
    assert outcome(renderer, columns(rows)) == outcome(plain, columns(rows))
    assert renderer.stats.traces == 0
