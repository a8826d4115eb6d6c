"""`--group-by`: rows that are turns become conversations, whatever order, file or format they come in."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt.errors import ChatfmtError, Location, RowError, UnknownName, UsageError
from chatfmt.pipeline.grouping.order import Order

from ...conftest import read_rows, run_cli, to_lines, write_rows

A = [
    {"c": "x", "n": "10", "role": "assistant", "content": "x10"},
    {"c": "y", "n": "1", "role": "user", "content": "y1"},
    {"c": "x", "n": "9", "role": "user", "content": "x9"},
]
B = [
    {"c": "y", "n": "2", "role": "assistant", "content": "y2"},
    {"n": "3", "role": "user", "content": "no key"},
    {"c": 7, "n": "1", "role": "user", "content": "z1"},
    {"c": "7", "role": "assistant", "content": "no order"},
]


TURN = {"role": "user", "content": "q"}


def write(path: Path, rows: list[dict[str, Any]], more: str = "") -> Path:
    path.write_text(to_lines(rows) + more)
    return path


def convert(source: object, out: Path, **keys: Any) -> list[list[str]]:
    """Return the contents of each conversation."""
    run = {key: keys.pop(key) for key in ("rejects", "executor", "workers", "resume") if key in keys}
    chatfmt.convert(chatfmt.Recipe(source=source, **keys), out=out, **{"executor": "serial", **run})
    return contents(out)


def contents(out: Path) -> list[list[str]]:
    rows = pq.read_table(out / "data").to_pylist() if out.is_dir() else read_rows(out)
    return [[turn["content"] for turn in row["messages"]] for row in rows]


def refusal(error: type[ChatfmtError], source: object, out: Path, **keys: Any) -> tuple[str, str]:
    with pytest.raises(error) as raised:
        convert(source, out, **keys)
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(out.name)] == []
    return str(raised.value).replace(f"{out.parent}/", ""), raised.value.hint


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_an_expression_that_fails_in_every_row_is_named(on_error: str, tmp_path: Path) -> None:
    source = str(write(tmp_path / "in.jsonl", [{"k": "a", "n": "x", **TURN}, {"k": "b", "n": "y", **TURN}]))
    keys = {"group_by": "k", "where": "n > 0", "on_error": on_error}
    assert refusal(RowError, source, tmp_path / "out.jsonl", **keys) == (
        "in.jsonl row 0: the expression `n > 0` fails: '>' not supported between instances of 'str' and 'int' (line 1)",
        "the column is text, as all cells of a CSV are: `NAME|float` reads it as a number",
    )


@pytest.mark.parametrize(("by", "line"), [({"group_by": "k"}, ""), ({}, " (line 1)")])
def test_a_label_that_can_judge_no_row_is_named_also_if_such_rows_are_skipped(
    by: dict[str, str], line: str, tmp_path: Path
) -> None:
    source = str(write(tmp_path / "in.jsonl", [{"k": key, "n": "x", **TURN} for key in "ab"]))
    keys = {**by, "map": {"label": "{{ n > 1 }}"}, "on_error": "skip"}
    assert refusal(RowError, source, tmp_path / "out.jsonl", **keys) == (
        "in.jsonl row 0: the expression `{{ n > 1 }}` fails: '>' not supported between instances of 'str' and 'int'"
        + line,
        "the column is text, as all cells of a CSV are: `NAME|float` reads it as a number",
    )


def test_rows_of_several_files_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    sources = [str(write(tmp_path / "a.jsonl", A)), str(write(tmp_path / "b.jsonl", B[:1]))]
    both = str(tmp_path / "[ab].jsonl")
    assert convert(both, tmp_path / "o.jsonl", group_by="c") == [["x10", "x9"], ["y1", "y2"]]
    assert convert(both, tmp_path / "n.jsonl", group_by="c", order_by="n") == [
        ["x9", "x10"],
        ["y1", "y2"],
    ]
    assert convert(sources, tmp_path / "p.jsonl", group_by="c") == [["x10", "x9"], ["y1", "y2"]]
    assert convert(both, tmp_path / "q.jsonl", group_by="@file") == [["x10", "y1", "x9"], ["y2"]]
    assert convert(both, tmp_path / "r.jsonl", group_by="c", limit=1) == [["x10", "x9"]]
    assert convert(both, tmp_path / "s.jsonl", group_by="c", where="role == 'user'") == [["y1"], ["x9"]]


def test_bad_rows_are_named_by_their_own_place(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", A, "{bad\n")
    write(tmp_path / "b.jsonl", B)
    both, keys = str(tmp_path / "[ab].jsonl"), {"group_by": "c", "order_by": "n"}
    said, _ = refusal(RowError, both, tmp_path / "o.jsonl", **keys)
    assert said == "a.jsonl row 3: not JSON: a key without double quotes (line 4, byte 170)"
    rejects = tmp_path / "rejects"
    skipping = {"on_error": "skip", "max_bad": "100%", "rejects": rejects}
    assert convert(both, tmp_path / "o.jsonl", **keys, **skipping) == [["x9", "x10"], ["y1", "y2"]]
    found = read_rows(rejects)
    sources = [reject["source"] for reject in found]
    assert [(Path(source["file"]).name, source["row"], source.get("line")) for source in sources] == [
        ("a.jsonl", 3, 4), ("b.jsonl", 1, 2), ("b.jsonl", 3, None),
    ]  # fmt: skip
    assert [reject["code"] for reject in found] == ["json.syntax", "group.key", "group.order"]
    assert json.loads(found[2]["raw"]["data"])["messages"] == B[2:]
    said, hint = refusal(UsageError, str(rejects), tmp_path / "p.jsonl", **keys, from_rejects=True)
    assert (said, hint) == (
        "`from_rejects` and `group_by` cannot be combined: "
        "a conversation needs its other rows, which were not rejected",
        "fix the rows in their source files, and convert those again",
    )


@pytest.mark.parametrize(
    ("keys", "said", "hint"),
    [
        (
            {"group_by": "d"},
            "a.jsonl: no sampled row has the column `d`, which says to which conversation a row belongs",
            "one of: c, content, n, role; or --group-by @file makes one conversation of each file",
        ),
        ({"group_by": "c", "order_by": "m"}, "a.jsonl: unknown column `m`", "one of: c, content, n, role"),
        ({"group_by": "c", "where": "rolle == 1"},
         "a.jsonl: `rolle == 1` reads the column `rolle`, which is not in any sampled row",
         "did you mean `role`? (or, if only some rows have it, test for it first: `rolle is defined`)"),
        ({"group_by": "c", "order_by": "content"},
         "`--order-by content`: `x10` (a.jsonl row 0) and `y1` (a.jsonl row 1) have no order",
         "name a column of numbers, of ISO 8601 times or of text of one width; without --order-by rows keep the order "
         "of the file"),
        ({"group_by": "c", "map": {"user": "content"}},
         "a.jsonl row 2: `content` differs from its value in earlier rows of the conversation",
         "--map 'user=messages[].content' reads it from every row"),
    ],
)  # fmt: skip
def test_what_cannot_be_grouped(keys: dict[str, Any], said: str, hint: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", A)
    error = RowError if "row 2" in said else UsageError
    assert refusal(error, str(source), tmp_path / "o.jsonl", **keys) == (said, hint)


def test_an_order_without_a_group(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="orders the rows that `group_by` joins"):
        chatfmt.Recipe(source="x", order_by="n")


@pytest.mark.parametrize(
    ("values", "ordered"),
    [
        ([10, 9.5, -1], [-1, 9.5, 10]),
        (["10", "9", "9.25", "-1"], ["-1", "9", "9.25", "10"]),
        (["1700000000.000200", "1700000000.000100"], ["1700000000.000100", "1700000000.000200"]),
        (["2024-01-01T00:00:00.5Z", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00+02:00"],
         ["2024-01-01T01:00:00+02:00", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5Z"]),
        (["2024-02-01", "2024-01-31 10:00:00"], ["2024-01-31 10:00:00", "2024-02-01"]),
        (["m010", "m009"], ["m009", "m010"]),
        (["b", "a"], ["a", "b"]),
        (["turn 10", "turn 9"], None),
        (["third", "first"], None),
        (["01JAN5KX3PM0", "01JAN5KX2PM0"], ["01JAN5KX2PM0", "01JAN5KX3PM0"]),
        (["2024/01/02", "2023/12/31"], ["2023/12/31", "2024/01/02"]),
        (["12/31/2023", "01/01/2024"], None),
        (["09:00 PM", "10:00 AM"], None),
        (["31.12.2023", "01.01.2024"], None),
        (["02 Jan 2024", "31 Dec 2023"], None),
        ([1, "2"], None),
        ([1, True], None),
        (["2024-01-01T00:00:00", "2024-01-01T00:00:00Z"], None),
        ([float("nan")], None),
    ],
)  # fmt: skip
def test_an_order_is_right_or_refused(values: list[Any], ordered: list[Any] | None) -> None:
    order = Order("n")
    if ordered is None:
        with pytest.raises(UsageError, match="ha(ve|s) no order"):
            for row, value in enumerate(values):
                order.see(value, Location("f", row))
        return
    for row, value in enumerate(values):
        order.see(value, Location("f", row))
    assert sorted(values, key=order.key) == ordered


def test_columns_of_the_conversation_stand_beside_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,question,answer,sys\n1,q1,a1,Be brief\n2,q3,a3,\n1,q2,a2,Be brief\n")
    lists = {"user": "messages[].question", "assistant": "messages[].answer", "system": "sys"}
    assert convert(str(path), tmp_path / "o.jsonl", group_by="id", map=lists, keep="id") == [
        ["Be brief", "q1", "a1", "q2", "a2"], ["q3", "a3"],
    ]  # fmt: skip
    assert [json.loads(line)["id"] for line in (tmp_path / "o.jsonl").read_text().splitlines()] == ["1", "2"]
    _, hint = refusal(UsageError, str(path), tmp_path / "r.jsonl", group_by="id")
    assert hint.startswith("--map system=sys reads it, the same in all rows of a conversation; ")


def test_joined_files_of_requests_and_results(tmp_path: Path) -> None:
    requests = [{"k": f"r{n}", "body": {"messages": [{"role": "user", "content": f"q{n}"}]}} for n in (1, 2)]
    results = [{"k": f"r{n}", "response": {"text": f"a{n}"}} for n in (2, 1)]
    write(tmp_path / "1.jsonl", requests)
    write(tmp_path / "2.jsonl", results)
    fields = {"messages": "body.messages", "assistant": "response.text"}
    found = convert(str(tmp_path / "[12].jsonl"), tmp_path / "o.jsonl", group_by="k", map=fields)
    assert found == [["q1", "a1"], ["q2", "a2"]]


def test_columnar_rows_of_nested_keys_and_times(tmp_path: Path) -> None:
    noon = datetime.datetime(2024, 1, 1, 12)
    rows = [
        {"s": {"id": 1.0}, "at": noon + datetime.timedelta(hours=1), "from": "gpt", "value": "a"},
        {"s": {"id": 1.0}, "at": noon, "from": "human", "value": "q"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    source = str(tmp_path / "p.parquet")
    assert convert(source, tmp_path / "o.jsonl", group_by="s.id", order_by="at") == [["q", "a"]]
    said, _ = refusal(UsageError, source, tmp_path / "p.parquet.jsonl", group_by="s", order_by="nothing")
    assert said == "p.parquet: unknown column `nothing`"
    with pytest.raises(UsageError, match="its own input"):
        convert(source, tmp_path / "p.parquet", group_by="s.id")


def test_every_executor_job_arrays_and_stdin_write_the_same(tmp_path: Path) -> None:
    rows = [
        {"c": number % 20, "t": number, "role": ("user", "assistant")[number // 20 % 2], "content": f"{number}"}
        for number in reversed(range(80))
    ]
    path = write(tmp_path / "a.jsonl", rows)
    flags = ["--group-by", "c", "--order-by", "t", "-q"]
    keys = {"group_by": "c", "order_by": "t", "rows_per_shard": 7}
    serial = convert(str(path), tmp_path / "serial", **keys)
    assert serial[0] == ["19", "39", "59", "79"] and len(serial) == 20
    assert convert(str(path), tmp_path / "two", **keys, executor="processes", workers=2) == serial
    assert run_cli("plan", path, *flags, "--rows-per-shard", "7", "-o", tmp_path / "array").returncode == 0
    path.unlink()
    for part in ("1/2", "2/2"):
        assert run_cli("run", tmp_path / "array", "--task", part).returncode == 0
    assert run_cli("commit", tmp_path / "array").returncode == 0
    assert contents(tmp_path / "array") == serial
    assert [file.read_bytes() for file in sorted((tmp_path / "array/data").iterdir())] == [
        file.read_bytes() for file in sorted((tmp_path / "serial/data").iterdir())
    ]
    piped = run_cli("convert", "-", *flags, stdin=to_lines(rows).encode())
    assert [[turn["content"] for turn in json.loads(line)["messages"]] for line in piped.stdout.splitlines()] == serial


def test_a_conversation_longer_than_a_row_may_be_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chatfmt.pipeline.planning import inputs

    monkeypatch.setattr(inputs, "parse_options", lambda recipe: chatfmt.sources.ParseOptions(max_row_bytes=200))
    source = write(tmp_path / "a.jsonl", [{"c": 1, "role": "user", "content": "long " * 10}] * 9)
    said, _ = refusal(RowError, str(source), tmp_path / "o.jsonl", group_by="c")
    assert said == "a.jsonl row 0: the record is longer than 200 bytes"


def test_inspect_recommends_the_flags_that_it_was_given(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", A)
    shown = run_cli("inspect", source, "--group-by", "c", "--order-by", "n").stdout.decode()
    assert "note: --group-by c: rows 3, conversations 2\n" in shown
    assert shown.splitlines()[-1].endswith("a.jsonl --group-by c --order-by n -t chatml -o a-chatml/")


def test_turns_inside_rows_that_were_selected(tmp_path: Path) -> None:
    rows = [{"k": 1, "type": "note"}, *({"k": 1, "type": "turn", "payload": {"role": role, "content": role}} for role in
            ("user", "robot"))]  # fmt: skip
    keys = {"group_by": "k", "where": "type == 'turn'", "map": {"messages": "messages[].payload"}}
    source = write(tmp_path / "a.jsonl", rows)
    assert convert(str(source), tmp_path / "o.jsonl", **keys, role={"robot": "assistant"}) == [["user", "robot"]]
    with pytest.raises(ChatfmtError, match="unknown role `robot`"):
        convert(str(source), tmp_path / "p.jsonl", **keys)


def test_conversations_and_bad_turns_that_begin_in_one_row(tmp_path: Path) -> None:
    turns = [
        {"sid": sid, "role": role, "content": f"{sid} {role}"}
        for role in ("user", "assistant")
        for sid in ("s2", "s1", None)
    ]
    source, rejects = write(tmp_path / "a.jsonl", [{"chat": "x", "turns": turns}]), tmp_path / "rejects"
    keys = {"group_by": "sid", "explode": "turns", "on_error": "skip", "max_bad": "100%", "rejects": rejects}
    assert convert(str(source), tmp_path / "o.jsonl", **keys) == [
        ["s2 user", "s2 assistant"],
        ["s1 user", "s1 assistant"],
    ]
    found = read_rows(rejects)
    assert [(one["code"], json.loads(one["raw"]["data"])["content"]) for one in found] == [
        ("group.key", "None user"), ("group.key", "None assistant"),
    ]  # fmt: skip


def test_files_of_one_name_in_two_sources(tmp_path: Path) -> None:
    for name in "AB":
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "r.jsonl", [{"role": "user", "content": f"{name}1"}])
        write(folder / "s.jsonl", [{"role": "user", "content": f"{name}2"}])
        shutil.make_archive(str(folder), "zip", folder)
    for number, sources in enumerate(([f"{tmp_path}/A", f"{tmp_path}/B"], [f"{tmp_path}/A.zip", f"{tmp_path}/B.zip"])):
        by_file = convert(sources, tmp_path / f"o{number}.jsonl", group_by="@file")
        assert by_file == [["A1"], ["A2"], ["B1"], ["B2"]]
        by_folder = convert(sources, tmp_path / f"p{number}.jsonl", group_by="@folder")
        assert by_folder == [["A1", "A2"], ["B1", "B2"]]


def test_binary_columns(tmp_path: Path) -> None:
    columns = {"c": [b"x", b"x"], "role": ["user", "assistant"], "content": [b"q", b"a"], "hash": [b"\xff", b"ok"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    source = str(tmp_path / "a.parquet")
    assert refusal(RowError, source, tmp_path / "o.jsonl", group_by="c") == (
        "a.parquet row 0: `hash` is not JSON data: it holds binary data",
        "--drop hash",
    )
    assert convert(source, tmp_path / "p.jsonl", group_by="c", drop=["hash"]) == [["q", "a"]]


def test_media_and_conversations_in_several_rows(tmp_path: Path) -> None:
    rows = [
        {"c": 1, "role": "user", "content": "<image>q", "images": ["x.png"]},
        {"c": 1, "role": "assistant", "content": "a"},
    ]
    source, keys = write(tmp_path / "a.jsonl", rows), {"group_by": "c", "template": "qwen2.5-vl"}
    _, hint = refusal(UsageError, str(source), tmp_path / "o.jsonl", **keys)
    assert hint == (
        "--map 'images=messages[].images[]' reads those of all rows; --drop messages.images leaves it behind"
    )
    recipe = chatfmt.Recipe(source=str(source), map={"images": "messages[].images[]"}, **keys)
    chatfmt.convert(recipe, out=tmp_path / "p.jsonl", executor="serial")
    row = json.loads((tmp_path / "p.jsonl").read_text())
    assert row["images"] == ["x.png"] and "<|image_pad|>" in row["text"]
    parts = [
        {"c": 1, "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "a"}]} for q in "pq"
    ]
    _, hint = refusal(UsageError, str(write(tmp_path / "b.jsonl", parts)), tmp_path / "q.jsonl", group_by="c")
    assert hint.startswith("`messages` holds several conversations: --explode messages ")
    assert convert(str(tmp_path / "b.jsonl"), tmp_path / "r.jsonl", group_by="c", explode="messages") == [
        ["p", "a", "q", "a"],
    ]  # fmt: skip


def test_rows_of_several_keys(tmp_path: Path) -> None:
    rows = [
        {"channel": channel, "thread": thread, "role": role, "text": text}
        for role, texts in (("user", "abc"), ("assistant", "xyz"))
        for (channel, thread), text in zip((("g", 1), ("h", 1), ("g", 2)), texts, strict=True)
    ]
    source = str(write(tmp_path / "in.jsonl", rows))
    apart = [["a", "x"], ["b", "y"], ["c", "z"]]
    assert convert(source, tmp_path / "o.jsonl", group_by=["channel", "thread"]) == apart
    run = run_cli("convert", source, "--group-by", "channel,thread", "-o", tmp_path / "p.jsonl")
    assert contents(tmp_path / "p.jsonl") == apart
    assert b"note: --group-by channel,thread: rows 6, conversations 3\n" in run.stderr
    run_cli("convert", source, "--group-by", "thread", "--group-by", "channel", "-o", tmp_path / "q.jsonl")
    assert contents(tmp_path / "q.jsonl") == apart
    assert refusal(UnknownName, source, tmp_path / "r.jsonl", group_by="channel,thred")[1] == "did you mean `thread`?"
    named = [{**{key: row[key] for key in ("role", "text")}, "a,b": row["thread"]} for row in rows]
    found = convert(str(write(tmp_path / "n.jsonl", named)), tmp_path / "s.jsonl", group_by="a,b")
    assert found == [["a", "b", "x", "y"], ["c", "z"]]


def test_keys_whose_texts_join_alike_are_apart(tmp_path: Path) -> None:
    keys = [("a", "b,c"), ("a,b", "c"), ("a", '", "key b')]
    rows = [{"k": k, "l": l, "role": role, "text": f"{role}{k}{l}"} for k, l in keys for role in ("user", "assistant")]
    found = convert(str(write(tmp_path / "in.jsonl", rows)), tmp_path / "o.jsonl", group_by=["k", "l"])
    assert [len(turns) for turns in found] == [2, 2, 2]


def test_a_log_without_any_session_is_refused_in_words(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [{"type": "summary", "summary": "Fix it", "leafUuid": "x"}])
    run = run_cli("convert", "claude-code", log, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.decode().splitlines() == [
        f"error: {log}: no sampled row has the column `sessionId`, which says to which conversation a row belongs",
        "hint: one of: leafUuid, summary, type; or --group-by @file makes one conversation of each file",
    ]


def test_binary_values_inside_others(tmp_path: Path) -> None:
    inside = pa.array([{"b": b"ok", "c": [b"x"]}, {"b": b"ok", "c": [b"y"]}])
    columns = {"c": ["x", "x"], "role": ["user", "assistant"], "text": ["q", "a"], "m": inside}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert convert(str(tmp_path / "a.parquet"), tmp_path / "o.jsonl", group_by="c") == [["q", "a"]]
    odd = pa.array([{"b": b"\xff"}, {"b": b"x"}])
    pq.write_table(pa.table({**columns, "m n": odd, "o": odd}), tmp_path / "b.parquet")
    assert refusal(RowError, str(tmp_path / "b.parquet"), tmp_path / "p.jsonl", group_by="c") == (
        "b.parquet row 0: `m n` is not JSON data: it holds binary data, and 1 more",
        "--drop 'm n' --drop o",
    )


def test_a_number_is_one_key_however_it_is_written(tmp_path: Path) -> None:
    keys = [1, 1.0, "1", True, "true", 1.5]
    rows = [{"c": key, "role": "user" if n % 2 == 0 else "assistant", "content": f"t{n}"} for n, key in enumerate(keys)]
    write_rows(tmp_path / "in.jsonl", rows)
    recipe = chatfmt.Recipe(source=str(tmp_path / "in.jsonl"), group_by="c")
    chatfmt.convert(recipe, tmp_path / "out.jsonl")
    made = [json.loads(line)["messages"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [[turn["content"] for turn in turns] for turns in made] == [["t0", "t1", "t2"], ["t3", "t4"], ["t5"]]


SEVERAL = (
    "`messages` holds several conversations: --explode messages --map messages=messages joins their turns, "
    "without --group-by each is a row"
)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, SEVERAL),
        ({"conversations": [{"from": "human", "value": "a"}]}, "each row holds a conversation, in `conversations`: "),
        (
            {"turn": {"messages": [{"role": "user", "content": "a"}]}},
            "each row holds a conversation, in `turn.messages`: ",
        ),
    ],
)
def test_the_hint_for_rows_that_are_conversations_leads_to_them(tmp_path: Path, row: dict[str, Any], hint: str) -> None:
    for ids in ("aab", "ab"):
        write_rows(tmp_path / "in.jsonl", [{"id": each, **row} for each in ids])
        done = run_cli("convert", "in.jsonl", "--group-by", "id", "-o", "out.jsonl", cwd=tmp_path)
        assert (done.returncode, done.stderr.decode()) == (
            2,
            "error: in.jsonl: no dialect fits: the columns are `id`, `messages`\n"
            f"hint: {hint}{'' if hint is SEVERAL else 'leave out --group-by'}\n",
        )
