"""What `--map`, `--marker`, `--explode` and `--where` make of rows."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt import mapping
from chatfmt.errors import DialectError, Location, RecipeError, RowError, UnknownName

from .sources import expression, from_arrow, from_json, run, template, values

both = pytest.mark.parametrize("source", [from_arrow, from_json])


@both
def test_columns_paths_templates_and_constants(source: Any) -> None:
    rows = [{"q": "é  ?\n", "meta": {"k": "v"}, "n": ["1"]}, {"q": "", "meta": {"k": "w"}, "n": []}]
    fields = {
        "user": "q",
        "assistant": "meta.k",
        "prompt": r"{{ q }}\n\n{{ meta.k }}\\n{{ '\n' }}",
        "system": '"be \\"kind\\""',
        "label": "true",
        "tools": '[{"name": "f"}]',
        "messages.role": "who",
    }
    after = run(source(rows), fields).batch
    assert after.schema.names == ["#row", "q", "meta", "n", "user", "assistant", "prompt", "system", "label", "tools"]
    assert values(after, "user") == ["é  ?\n", ""]
    assert values(after, "assistant") == ["v", "w"]
    assert values(after, "prompt") == ["é  ?\n\n\nv\\n\n", "\n\nw\\n\n"]
    assert values(after, "system") == ['be "kind"'] * 2
    assert after.column("label").to_pylist() == [True, True]
    assert values(after, "tools") == [[{"name": "f"}]] * 2


def test_templates_print_nothing_for_null_and_absent() -> None:
    rows = [{"a": None, "d": {"x": None}}, {"d": {}}, {"a": "x", "d": {"x": "y"}}]
    for source in (from_json, from_arrow):
        assert values(run(source(rows), {"user": "[{{ a }}|{{ d.x }}]"}).batch, "user") == ["[|]", "[|]", "[x|y]"]


def test_a_mapped_column_replaces_one_of_its_name_and_joins_the_keys() -> None:
    batch = from_json([{"b": "1", "a": None}, {"a": "2", "b": "3"}])
    assert "#keys" in batch.schema.names
    after = run(batch, {"a": "b", "new": "b"}).batch
    assert after.schema.names == ["#row", "b", "a", "new", "#keys"]
    assert after.column("#keys").to_pylist() == ['["b","a","new"]', '["a","b","new"]']
    assert values(after, "a") == ["1", "3"]


@both
def test_parallel_lists_become_turns(source: Any) -> None:
    rows = [{"i": ["q1", "q2"], "o": ["a1", "a2"]}, {"i": ["q"], "o": []}, {"i": [], "o": []}]
    after = run(source(rows), {"user": "i[]", "assistant": "o[]"}).batch
    assert after.schema.names == ["#row", "i", "o", "messages"]
    turns = [[(turn["role"], turn["content"]) for turn in row] for row in values(after, "messages")]
    assert turns == [
        [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")],
        [("user", "q")],
        [],
    ]


@both
def test_lists_that_do_not_pair_up_are_refused(source: Any) -> None:
    rows = [{"i": ["q"], "o": ["a"]}, {"i": ["q"], "o": ["a", "b"]}]
    with pytest.raises(DialectError) as caught:
        run(source(rows), {"user": "i[]", "assistant": "o[]"})
    error = caught.value
    assert (error.message, error.code, error.at) == (
        "the lists of turns do not pair up: 1 for `user`, 2 for `assistant`", "msg.order", Location(row=1),
    )  # fmt: skip


@given(st.lists(st.tuples(st.lists(st.text("ab"), max_size=4), st.booleans()), min_size=1))
def test_zipped_lists_can_be_told_apart_again(drawn: list[tuple[list[str], bool]]) -> None:
    rows = [{"i": texts, "o": texts[: len(texts) - last] if texts else []} for texts, last in drawn]
    schema = pa.schema([("i", pa.list_(pa.string())), ("o", pa.list_(pa.string()))])
    batch = pa.RecordBatch.from_pylist(rows, schema)
    made = values(run(batch, {"user": "i[]", "assistant": "o[]"}).batch, "messages")
    for row, turns in zip(rows, made, strict=True):
        assert [t["content"] for t in turns if t["role"] == "user"] == row["i"]
        assert [t["content"] for t in turns if t["role"] == "assistant"] == row["o"]
        assert [t["role"] for t in turns] == (["user", "assistant"] * len(row["i"]))[: len(turns)]


MARKERS = {"Human:": "user", "Assistant:": "assistant"}
TRANSCRIPTS: dict[str | tuple[str, ...], list[str]] = {
    "Human: hi\n\nAssistant: hello": ["user:hi", "assistant:hello"],
    "\n\nHuman: hi\n\nAssistant: a\nb\n": ["user:hi", "assistant:a\nb\n"],
    "Human:hi\nAssistant:\nhello": ["user:hi", "assistant:hello"],
    "Human:  two  \n\n\nAssistant: x Human: y": ["user: two  \n", "assistant:x Human: y"],
    "Human:\nAssistant: x": ["user:", "assistant:x"],
    "Human: a\r\n\r\nAssistant:\r\nb": ["user:a", "assistant:b"],
    "Human: é\u2028Assistant: no line": ["user:é\u2028Assistant: no line"],
    "Assistant: ": ["assistant:"],
    ("Human: a\nHuman: b", "\n\nAssistant: c"): ["user:a\nHuman: b", "assistant:c"],
}


@pytest.mark.parametrize(("text", "expected"), TRANSCRIPTS.items())
def test_transcripts_are_cut_at_markers(text: str | tuple[str, ...], expected: list[str]) -> None:
    after = run(from_json([{"t": text}]), {"transcript": "t"}, markers=MARKERS).batch
    assert after.schema.names == ["#row", "t", "messages"]
    assert [f"{turn['role']}:{turn['content']}" for turn in values(after, "messages")[0]] == expected


def test_markers_with_white_space_take_what_they_spell() -> None:
    markers = {r"\n\nHuman: ": "user", r"\n\nAssistant:": "assistant"}
    batch = from_json([{"t": "\n\nHuman:  hi\n\n\nAssistant: a\nHuman: b"}])
    assert values(run(batch, {"transcript": "t"}, markers=markers).batch, "messages") == [
        [{"role": "user", "content": " hi\n"}, {"role": "assistant", "content": "a\nHuman: b"}]
    ]


def test_the_longest_marker_wins_and_a_start_can_have_a_role() -> None:
    markers = {"^": "system", "A:": "assistant", "A: (tool)": "tool"}
    batch = from_json([{"t": "be kind\nA: (tool) r\nA: x"}, {"t": "all of it"}, {"t": None}])
    assert values(run(batch, {"transcript": "t"}, markers=markers).batch, "messages") == [
        [
            {"role": "system", "content": "be kind"},
            {"role": "tool", "content": "r"},
            {"role": "assistant", "content": "x"},
        ],
        [{"role": "system", "content": "all of it"}],
        None,
    ]


@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("hi", "no marker starts a line of the transcript", "msg.role"),
        ("hi\nHuman: x", "the transcript has text before its first marker", "msg.role"),
        (["Human: x", "hi\nHuman: x"], "the transcript has text before its first marker", "msg.role"),
    ],
)
def test_text_without_a_role_is_refused(text: str, message: str, code: str) -> None:
    with pytest.raises(DialectError) as caught:
        run(from_json([{"t": "Human: x"}, {"t": text}]), {"transcript": "t"}, markers=MARKERS)
    assert (caught.value.message, caught.value.code, caught.value.at.row) == (message, code, 1)


def test_a_transcript_that_is_no_text_is_refused() -> None:
    with pytest.raises(DialectError) as caught:
        run(from_json([{"t": "Human: x"}, {"t": 3}]), {"transcript": "t"}, markers=MARKERS)
    assert (caught.value.message, caught.value.code, caught.value.at.row) == (
        "the transcript is not text",
        "col.type",
        1,
    )


TURN = st.tuples(st.sampled_from(["Human", "Assistant"]), st.text("ab \n", max_size=6).map(lambda t: f"x{t}x"))


@given(st.lists(TURN, min_size=1, max_size=5))
def test_cutting_undoes_writing(turns: list[tuple[str, str]]) -> None:
    for joint in ("\n", "\n\n"):
        text = joint.join(f"{who}: {said}" for who, said in turns)
        made = values(run(from_json([{"t": text}]), {"transcript": "t"}, markers=MARKERS).batch, "messages")[0]
        assert made == [{"role": MARKERS[f"{who}:"], "content": said} for who, said in turns]


@both
def test_exploded_rows_stand_beside_their_row(source: Any) -> None:
    rows = [
        {"id": "r0", "topic": "tea", "faqs": [{"id": "f0", "q": "q0"}, {"id": "f1", "q": "q1"}]},
        {"id": "r1", "topic": "milk", "faqs": []},
        {"id": "r2", "topic": "rum", "faqs": [{"id": "f2", "q": "q2"}, {"q": "q3"}]},
    ]
    made = run(source(rows, 7), {"user": "q"}, explode="faqs", where="q != 'q1'")
    assert made.counts == {"exploded": 4, "unfilled": 1, "filtered": 1}
    assert made.batch.schema.names == ["#row", "id", "topic", "q", "user"]
    assert made.batch.to_pydict() == {
        "#row": [7, 9, 9], "id": ["f0", "f2", "r2"], "topic": ["tea", "rum", "rum"], "q": ["q0", "q2", "q3"],
        "user": ["q0", "q2", "q3"],
    }  # fmt: skip


@both
def test_elements_that_are_no_objects_take_the_place_of_their_list(source: Any) -> None:
    made = run(source([{"a": "x", "l": ["1", "2"]}, {"a": "y", "l": []}]), {}, explode="l")
    assert made.batch.to_pydict() == {"#row": [0, 0], "a": ["x", "x"], "l": ["1", "2"]}


def test_keys_that_are_null_stay_null_when_exploded() -> None:
    made = run(
        from_json([{"a": None, "l": [{"q": None, "z": "1"}, {"z": "2", "q": "3"}]}, {"a": "b", "l": []}]),
        {},
        explode="l",
    )
    assert made.batch.column("#keys").to_pylist() == ['["a","q","z"]', '["a","z","q"]']


def test_where_keeps_rows_and_counts_the_others() -> None:
    rows = [{"n": 3, "s": "a"}, {"n": 1, "s": None}, {"s": "c"}]
    made = run(from_json(rows, 5), {}, where="n is defined and n > 2")
    assert (made.batch.column("#row").to_pylist(), made.counts) == ([5], {"filtered": 2})
    assert run(from_json(rows), {}, where="s is none").batch.column("#row").to_pylist() == [1]
    assert run(from_json(rows), {}, where="missing is defined").batch.column("#row").to_pylist() == []


def test_nulls_of_parquet_are_none_where_said() -> None:
    plan = mapping.plan({}, where="s is none")
    batch = from_arrow([{"s": "a"}, {"s": None}])
    assert len(mapping.mapper(plan, template, expression, nulls=True)(batch).batch) == 1
    assert len(mapping.mapper(plan, template, expression)(batch).batch) == 0


def test_errors_carry_the_row_that_was_given() -> None:
    def failing(source: str) -> Any:
        def call(row: Any) -> str:
            if row["q"] == "bad":
                raise RowError("no", code="expr.error")
            return "fine"

        return call

    batch = from_json([{"l": []}, {"l": [{"q": "x"}]}, {"l": [{"q": "x"}, {"q": "bad"}]}])
    plan = mapping.plan({"user": "{{ q }}"}, explode="l")
    with pytest.raises(RowError) as caught:
        mapping.mapper(plan, failing, expression)(batch)
    assert caught.value.at == Location(row=2)
    with pytest.raises(RowError) as caught:
        mapping.mapper(mapping.plan({}, explode="l", where="q"), template, failing)(batch)
    assert caught.value.at == Location(row=2)


def test_a_plan_tells_what_it_makes_and_pickles() -> None:
    plan = mapping.plan({"user": "i[]", "assistant": "o[]", "system": "s", "messages.role": "who"}, where="x")
    assert (plan.columns, plan.roots, plan.keys) == (
        ("messages", "system"),
        ("i", "o", "s"),
        (("messages.role", "who"),),
    )
    assert not plan.is_empty and mapping.plan({"messages.role": "who"}).is_empty
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_all_problems_of_a_plan_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        mapping.plan({"a": "x[", "b": '{"', "transcript": "t"})
    assert str(caught.value) == (
        '`x[` is not a path from `[` on @ map.a; `{"` is not JSON @ map.b; '
        "a transcript needs a marker for each role @ marker"
    )
    with pytest.raises(RecipeError) as caught:
        mapping.plan({}, markers={"Human:": "user"})
    assert str(caught.value) == "markers cut a transcript, and no column is mapped to it @ map.transcript"
    assert caught.value.hint == "--map transcript=COLUMN --marker 'Human:=user'"


def test_columns_that_are_not_there_are_named() -> None:
    plan = mapping.plan({"user": "qestion.x", "system": '"s"', "prompt": "{{ answer }}"})
    with pytest.raises(UnknownName) as caught:
        mapping.check_columns(plan, ["#row", "question", "answer"])
    assert (str(caught.value), caught.value.hint) == ("unknown column `qestion`", "did you mean `question`?")
    mapping.check_columns(mapping.plan({"user": "question.x[]"}), ["question"])
    mapping.check_columns(mapping.plan({"user": "a.b"}), ["a.b"])
    with pytest.raises(UnknownName, match="unknown column `rows`"):
        mapping.check_columns(mapping.plan({"user": "q"}, explode="rows"), ["data"])
    mapping.check_columns(mapping.plan({"user": "q"}, explode="data"), ["data"])


HALF = " (or, if only some rows have it, test for it first: `{} is defined`)"


@pytest.mark.parametrize(
    ("fields", "where", "missing", "hint"),
    [
        ({"user": "{{ qestion }}"}, None, "{{ qestion }}|qestion", "did you mean `question`?"),
        ({"user": "{% for x in lines %}{{ x }}{% endfor %}"}, None, None, "one of: answer, question"),
        ({}, "scor > 3", "scor > 3|scor", "one of: answer, question"),
        ({}, "answer == '1' and qestion", "answer == '1' and qestion|qestion", "did you mean `question`?"),
    ],
)
def test_names_that_no_column_has(fields: Any, where: str | None, missing: str | None, hint: str) -> None:
    with pytest.raises(UnknownName) as caught:
        mapping.check_columns(mapping.plan(fields, where=where), ["#row", "question", "answer"])
    text, name = (missing or f"{fields.get('user')}|lines").split("|")
    assert str(caught.value) == f"`{text}` reads the column `{name}`, which is not in any sampled row"
    assert caught.value.hint == hint + HALF.format(name)


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ("{{ question }}{% if late %}{{ late }}{% endif %}", "late is defined and late > 3"),
        ("{{ late | default('') }}", "late is none or question"),
        ("{{ late if late else question }}", "row['late'] == 1"),
        ("{% for i in range(2) %}{{ loop.index }}{% endfor %}", "(question, {'a': 1})"),
        ("{{ question", "question ="),
    ],
)
def test_names_that_are_asked_for_first_may_be_missing(template: str, where: str) -> None:
    plan = mapping.plan({"user": template}, where=where) if template != "{{ question" else mapping.plan({}, where=where)
    mapping.check_columns(plan, ["#row", "question"])


@both
def test_a_column_whose_name_is_no_word(source: Any) -> None:
    batch = source([{"first name": "Ada", "n": "1"}, {"first name": "Bob", "n": "2"}])
    found = run(batch, {"user": "{{ row['first name'] }} {{ n }}"}, where="row['first name'] != 'Bob'")
    assert values(found.batch, "user") == ["Ada 1"]


@both
@given(cut=st.integers(0, 3))
def test_slices_of_a_batch_are_a_batch_of_slices(source: Any, cut: int) -> None:
    rows = [{"q": f"q{i}", "l": [{"a": "1"}] * i, "i": ["x"] * i, "o": ["y"] * i} for i in range(1, 4)]
    batch = source(rows)
    for fields, plan in (
        ({"user": "i[]", "assistant": "o[]"}, {}),
        ({"user": "{{ q }}!", "prompt": "a"}, {"explode": "l"}),
    ):
        whole = run(batch, fields, **plan).batch
        parts = [run(part, fields, **plan).batch for part in (batch.slice(0, cut), batch.slice(cut)) if len(part)]
        assert [row for part in parts for row in part.to_pylist()] == whole.to_pylist()


def test_a_plan_tells_which_columns_it_reads() -> None:
    plan = mapping.plan(
        {"user": "a.b[0]", "assistant": "Said: {{ c | upper }}{% if d %}!{% endif %}", "system": '"e"'},
        where="f > 1",
    )
    names = ("a", "a.b[0]", "b", "c", "d", "e", "f", "Said", "upper")
    assert plan.reads(names) == ("a", "a.b[0]", "c", "d", "f", "upper")
    assert mapping.plan({}, explode="turns[].x").reads(("turns", "x")) == ("turns",)
