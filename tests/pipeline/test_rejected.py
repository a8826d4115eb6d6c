"""Rows that were left out: kept with their reasons where the user wants them, and converted once they are put right."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

import chatfmt
from chatfmt import manifest
from chatfmt.errors import DataProblem, InputError, RowError, UsageError
from chatfmt.recipe import Recipe

from ..conftest import read_rows, run_cli, succeed, write_rows
from .test_convert import ROWS, chatml, read, write_jsonl

GOOD = [json.dumps(row) for row in ROWS[:40]]
ROBOT = '{"id":5,"messages":[{"role":"robot","content":"x\\n"}]}'
TWICE = '{"id":9,"id":9,"messages":[{"role":"user","content":"é"}]}'
LINES = [*GOOD[:5], ROBOT, *GOOD[6:9], TWICE, *GOOD[10:]]


def first_run(tmp_path: Path, out: str = "out", **keys: object) -> Path:
    """A run that leaves out two rows, and where their rejects are."""
    (tmp_path / "in.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    recipe = Recipe(
        **{"source": str(tmp_path / "in.jsonl"), "template": "chatml", "on_error": "skip", "keep": "id", **keys}
    )
    chatfmt.convert(recipe, out=tmp_path / out, rejects=tmp_path / "bad.jsonl", workers=1)
    return tmp_path / "bad.jsonl"


def again(rejects: Path, **keys: object) -> Recipe:
    return Recipe(**{"source": str(rejects), "from_rejects": True, "template": "chatml", "keep": "id", **keys})


@pytest.mark.parametrize("out", ["out", "out.jsonl", "out.parquet"])
def test_rejects_are_kept_where_the_user_wants_them(tmp_path, out):
    rejects = first_run(tmp_path, out)
    found = read_rows(rejects)
    assert [(line["code"], line["source"]["row"], line["raw"]["data"]) for line in found] == [
        ("msg.role", 5, ROBOT), ("json.duplicate_key", 9, TWICE),
    ]  # fmt: skip
    assert [line["source"]["file"] for line in found] == [str(tmp_path / "in.jsonl")] * 2
    if out == "out":
        assert rejects.read_bytes() == (tmp_path / "out/.chatfmt/rejects.jsonl").read_bytes()
        rejects.unlink()
        recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="chatml", on_error="skip", keep="id")
        assert chatfmt.convert(recipe, out=tmp_path / "out", resume=True, rejects=rejects).already_complete
        assert rejects.read_bytes() == (tmp_path / "out/.chatfmt/rejects.jsonl").read_bytes()


def test_no_rejects_are_an_empty_file_and_never_those_of_an_earlier_run(tmp_path):
    rejects = first_run(tmp_path)
    source = write_jsonl(tmp_path / "good.jsonl", ROWS[:3])
    chatfmt.convert(Recipe(source=source, on_error="skip"), out=tmp_path / "good", rejects=rejects)
    assert rejects.read_bytes() == b""


def test_outputs_whose_names_have_a_dot_keep_their_rejects_apart(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"messages":[{"role":"user","content":"a"}]}\n{"messages":[{"role":"robot","content":"a"}]}\n')
    for out in ("x.train.jsonl", "x.test.jsonl.zst", "gpt-4.1.parquet"):
        chatfmt.convert(Recipe(source=str(source), on_error="skip", max_bad="50%"), out=tmp_path / out, workers=1)
    assert sorted(path.name for path in tmp_path.glob("*.rejects.jsonl")) == [
        "gpt-4.1.rejects.jsonl", "x.test.rejects.jsonl", "x.train.rejects.jsonl"
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [{"chosen": 1.5}, {"rejected": [1]}, {"chosen": None}])
def test_the_others_are_read_as_if_bad_rows_had_never_been_there(tmp_path, bad):
    good = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    source = write_jsonl(tmp_path / "in.jsonl", [good] * 4 + [{**good, **bad}] + [good])
    recipe = Recipe(source=source, dialect="preference", on_error="skip", max_bad="50%")
    assert chatfmt.convert(recipe, out=tmp_path / "out.jsonl").rejected == 1
    split = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    expected = {
        part: [{"role": "user" if part == "prompt" else "assistant", "content": text}] for part, text in split.items()
    }
    assert read_rows(tmp_path / "out.jsonl") == [expected] * 5


@pytest.mark.parametrize(("budget", "kept"), [("1", 2), ("1%", 2), ("0", 1)])
@pytest.mark.parametrize("out", ["out", "out.jsonl"])
def test_a_run_over_its_budget_still_keeps_the_rejects(tmp_path, out, budget, kept):
    with pytest.raises(DataProblem):
        first_run(tmp_path, out, max_bad=budget, rows_per_shard=8)
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == kept


def test_rows_that_were_put_right_are_converted(tmp_path):
    rejects = first_run(tmp_path)
    rejects.write_text(rejects.read_text().replace('\\"id\\":9,\\"id\\":9', '\\"id\\":9'), encoding="utf-8")
    summary = chatfmt.convert(again(rejects, role={"robot": "assistant"}), out=tmp_path / "more.jsonl")
    assert (summary.rows_in, summary.rows) == (2, 2)
    assert read(tmp_path / "more.jsonl") == [
        {"text": chatml([{"role": "assistant", "content": "x\n"}]), "id": 5},
        {"text": chatml([{"role": "user", "content": "é"}]), "id": 9},
    ]


def test_rows_that_are_still_wrong_are_named_or_left_out_again(tmp_path):
    rejects = first_run(tmp_path)
    with pytest.raises(RowError) as caught:
        chatfmt.convert(again(rejects, role={"robot": "assistant"}), out=tmp_path / "more.jsonl")
    assert str(caught.value).startswith(f"{rejects} row 1: ")
    recipe = again(rejects, role={"robot": "assistant"}, on_error="skip", max_bad="1")
    chatfmt.convert(recipe, out=tmp_path / "more.jsonl", rejects=tmp_path / "still.jsonl")
    (left,) = read_rows(tmp_path / "still.jsonl")
    assert (left["code"], left["source"]["row"], left["raw"]["data"]) == ("json.duplicate_key", 1, TWICE)


def reject(raw: object, **more: object) -> str:
    source = {"file": "in.jsonl", "row": 7}
    return json.dumps({"v": 1, "code": "x", "detail": "y", "source": source, "id": None, "raw": raw, **more})


ROW = '{"messages":[{"role":"user","content":"é"}]}'


@pytest.mark.parametrize(
    "raw",
    [
        {"enc": "base64", "data": base64.b64encode(ROW.encode()).decode(), "truncated": False},
        {"enc": "utf-8", "data": ROW},
        {"enc": "utf-8", "data": json.dumps(json.loads(ROW), indent=2, ensure_ascii=False) + "\r\n"},
    ],
)
def test_raw_rows_are_read_as_they_were_written(tmp_path, raw):
    (tmp_path / "bad.jsonl").write_text(reject(raw) + "\n")
    chatfmt.convert(again(tmp_path / "bad.jsonl", template=None, keep=()), out=tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == ROW + "\n"


AS_CSV = {"columns": ["user", "assistant"], "delimiter": ",", "quote": True}
BAD_CSV = [
    {}, [], "csv", {**AS_CSV, "columns": None}, {**AS_CSV, "columns": ["a", "a"]}, {**AS_CSV, "columns": ["#row", "a"]},
    {**AS_CSV, "columns": [1, "a"]}, {**AS_CSV, "delimiter": ",,"}, {**AS_CSV, "delimiter": "\n"},
    {**AS_CSV, "delimiter": 5}, {**AS_CSV, "quote": 1}, {**AS_CSV, "more": 1},
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        (
            reject({"enc": "utf-8", "data": ROW, "truncated": True}),
            "the text of `in.jsonl` row 7 was truncated in the rejects file",
            "convert it from its own file, or put the whole row into `raw.data` and set `raw.truncated` to false",
        ),
        (reject(None), "the text of `in.jsonl` row 7 was not kept", "convert it from its own file"),
        (
            reject({"enc": "base64", "data": "é"}),
            "`raw.data` is not base64",
            "write text and `utf-8` into `raw.enc`",
        ),
        *(
            (
                reject({"enc": "utf-8", "data": "a,b", "csv": csv}),
                "this is not a line of a rejects file",
                "omit --from-rejects",
            )
            for csv in BAD_CSV
        ),
        (
            reject({"enc": "utf-8", "data": " \n"}),
            "the row is blank",
            "put the row into `raw.data`, or remove the line",
        ),
        (
            reject({"enc": "utf-8", "data": ROW}, v=2),
            "this is not a line of a rejects file",
            "omit --from-rejects",
        ),
        (ROW, "this is not a line of a rejects file", "omit --from-rejects"),
    ],
)
def test_rejects_that_hold_no_row_are_refused_in_words(tmp_path, line, message, hint):
    good = reject({"enc": "utf-8", "data": ROW})
    (tmp_path / "bad.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        chatfmt.convert(again(tmp_path / "bad.jsonl"), out=tmp_path / "out")
    assert (str(caught.value), caught.value.hint) == (f"{tmp_path}/bad.jsonl row 1: {message}", hint)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_the_output_is_not_where_the_rejects_are(tmp_path):
    rejects = first_run(tmp_path)
    inside = tmp_path / "out/.chatfmt/rejects.jsonl"
    recipe = again(inside, role={"robot": "assistant"}, on_error="skip", max_bad="1")
    for source, out in ((inside, "out"), (rejects, "bad.jsonl")):
        with pytest.raises(UsageError, match="is its own input"):
            chatfmt.convert(replace(recipe, source=again(source).source), tmp_path / out, overwrite=True)
    with pytest.raises(UsageError, match="bad.jsonl` is an input"):
        update = {"source": again(rejects).source}
        chatfmt.convert(replace(recipe, **update), tmp_path / "more", rejects=rejects)
    assert manifest.verify(tmp_path / "out") == []


def test_the_command_line(tmp_path):
    rejects = first_run(tmp_path)
    run = run_cli(
        "convert", rejects, "--from-rejects", "--role", "robot=assistant", "--on-error", "skip", "--max-bad", "1"
    )
    assert run.stdout.decode() == '{"messages":[{"role":"assistant","content":"x\\n"}]}\n'
    assert (
        run.stderr.decode().splitlines()[1]
        == "rejected: 1 of 2 rows (json.duplicate_key 1), not kept without --rejects FILE"
    )
    piped = run_cli(
        "convert", "-", "--from-rejects", "--role", "robot=assistant", "--on-error", "skip", "--max-bad", "1", "-q",
        stdin=rejects.read_bytes(),
    )  # fmt: skip
    assert piped.stdout == run.stdout
    shown = json.loads(run_cli("inspect", rejects, "--from-rejects", "--role", "robot=assistant", "--json").stdout)
    assert shown["detection"]["dialect"] == "messages" and shown["source"] == str(rejects)


CSV = 'user,assistant\nhi,yo\nonly\n"two\nlines",ok,more\n,empty\n"q ""x""" y,"fine, no"\nlast,one\n'
CSV_TEXTS = [("csv.fields", "only"), ("csv.fields", '"two\nlines",ok,more'), ("csv.quote", '"q ""x""" y,"fine, no"')]


def rejects_of(tmp_path: Path, name: str, content: str, *flags: str) -> Path:
    """The rejects of a run over a file of delimited text."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    run = run_cli(
        "convert", tmp_path / name, *flags, "--on-error", "skip", "--max-bad", "90%", "--strict", "--rejects",
        tmp_path / "bad.jsonl", "-o", tmp_path / "first.jsonl",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return tmp_path / "bad.jsonl"


def mend(rejects: Path, mended: dict[str, str]) -> None:
    """Write other text into `raw.data` where it is a key of `mended`, as a user does."""
    lines = read_rows(rejects)
    for line in lines:
        line["raw"]["data"] = mended.get(line["raw"]["data"], line["raw"]["data"])
    write_rows(rejects, lines)


def said(user: str, assistant: str) -> str:
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return json.dumps({"messages": turns}, separators=(",", ":"), ensure_ascii=False) + "\n"


def test_rejects_of_delimited_text_record_how_to_read_them(tmp_path):
    rejects = rejects_of(tmp_path, "in.csv", CSV)
    found = read_rows(rejects)
    assert [(line["code"], line["raw"]["data"]) for line in found if "csv" in line["raw"]] == CSV_TEXTS
    assert [line["raw"]["csv"] for line in found if "csv" in line["raw"]] == [AS_CSV] * 3
    assert [(line["code"], line["raw"]["data"]) for line in found if "csv" not in line["raw"]] == [
        ("msg.empty", '{"user":"","assistant":"empty"}')
    ]


def test_mended_rows_of_delimited_text_are_converted(tmp_path):
    rejects = rejects_of(tmp_path, "in.csv", CSV)
    mend(rejects, {
        "only": "only,now", CSV_TEXTS[1][1]: '"two\nlines",ok\n', CSV_TEXTS[2][1]: '"q ""x"" y","fine, no"',
        '{"user":"","assistant":"empty"}': '{"user":"é","assistant":"empty"}',
    })  # fmt: skip
    run = run_cli("convert", rejects, "--from-rejects", "-q")
    assert (run.returncode, run.stderr) == (0, b"")
    expected = said("only", "now") + said("two\nlines", "ok") + said("é", "empty") + said('q "x" y', "fine, no")
    assert run.stdout.decode() == expected
    assert run_cli("convert", "-", "--from-rejects", "-q", stdin=rejects.read_bytes()).stdout == run.stdout
    for command in (("plan", rejects, "--from-rejects"), ("run", "--task", "1/1"), ("commit",)):
        out = ("-o", tmp_path / "out.jsonl") if command[0] == "plan" else ()
        succeed(run_cli(command[0], *(out or (tmp_path / "out.jsonl",)), *command[1:]))
    assert (tmp_path / "out.jsonl").read_bytes() == run.stdout


def test_rows_of_delimited_text_that_are_still_wrong_are_left_out_again(tmp_path):
    rejects = rejects_of(tmp_path, "in.csv", CSV)
    mend(rejects, {"only": "only,now", CSV_TEXTS[1][1]: "two,rows\nin,one"})
    stopped = run_cli("convert", rejects, "--from-rejects", "-q")
    assert (stopped.returncode, stopped.stderr.decode()) == (
        4, f"error: {rejects} row 1: the text is 2 records (line 2)\nhint: keep one row in `raw.data`; "
        "`--on-error skip` leaves out such rows, and --rejects FILE keeps them\n",
    )  # fmt: skip
    skip = ("--on-error", "skip", "--max-bad", "90%", "-q", "--rejects")
    run = run_cli("convert", rejects, "--from-rejects", *skip, tmp_path / "still.jsonl")
    assert run.stdout.decode() == said("only", "now") + said("", "empty")
    still = read_rows(tmp_path / "still.jsonl")
    assert [(line["source"]["row"], line["code"], line["raw"]["csv"]) for line in still] == [
        (1, "csv.fields", AS_CSV), (3, "csv.quote", AS_CSV)
    ]  # fmt: skip
    mend(tmp_path / "still.jsonl", {"two,rows\nin,one": "two,rows", CSV_TEXTS[2][1]: "q,x"})
    again = run_cli("convert", tmp_path / "still.jsonl", "--from-rejects", "-q")
    assert again.stdout.decode() == said("two", "rows") + said("q", "x")


@pytest.mark.parametrize(
    ("name", "content", "flags", "row", "mended"),
    [
        ("in.tsv", "user\tassistant\na\tb\nc\n", (), "c", "c\td,e"),
        ("in.csv", "user;assistant\na;b\nc\n", ("--delimiter", ";"), "c", "c;d,e"),
        ("in.csv", "user|assistant\na|b\n\"c\n", ("--delimiter", "|", "--no-quote"), '"c', "c|d,e"),
        (
            "in.csv", "a,b\nc\n", ("--no-header", "--map", "user=column1", "--map", "assistant=column2"),
            "c", 'c,"d,e"',
        ),
        (
            "in.csv", '"a"b,c\na,b\n', ("--no-header", "--map", "user=column1", "--map", "assistant=column2"),
            '"a"b,c', 'c,"d,e"',
        ),
    ],
)  # fmt: skip
def test_delimiter_quotes_and_columns_are_those_of_the_file(tmp_path, name, content, flags, row, mended):
    rejects = rejects_of(tmp_path, name, content, *flags)
    mend(rejects, {row: mended})
    kept = flags[flags.index("--map") :] if "--map" in flags else ()
    assert run_cli("convert", rejects, "--from-rejects", "-q", *kept).stdout.decode() == said("c", "d,e")


def test_a_row_that_is_broken_over_lines_inside_of_text_is_a_bad_one(tmp_path):
    (tmp_path / "bad.jsonl").write_text(reject({"enc": "utf-8", "data": '{"a":"x\ny"}'}))
    run = run_cli("convert", tmp_path / "bad.jsonl", "--from-rejects")
    assert (run.returncode, run.stderr.decode()) == (
        4, f"error: {tmp_path}/bad.jsonl row 0: a control character inside a string\n"
        "hint: mend this row: none of the first rows can be read\n",
    )  # fmt: skip


def test_rows_that_a_template_refuses_are_left_out_as_if_they_had_never_been_there(tmp_path):
    """Every second row is refused, and one that is no conversation."""
    text = (
        "{% for m in messages %}{% if m.role == 'user' and loop.index0 % 2 %}{{ raise_exception('two: ' + m.content) }}"
        "{% endif %}{{ m.role }}: {{ m.content }};{% endfor %}"
    )
    (tmp_path / "t.jinja").write_text(text)
    answer = {"role": "assistant", "content": "a"}
    rows = [
        [{"role": "user", "content": f"q{n}"}, *([{"role": "user", "content": f"r{n}"}] if n % 2 else []), answer]
        for n in range(40)
    ]
    rows[6] = [{"role": "user"}, answer]
    refusals = {n: ("template.raised", f"two: r{n}") for n in range(1, 40, 2)}
    bad = dict(sorted({**refusals, 6: ("msg.content", "the turn has no content")}.items()))
    for isolation in ("auto", "off"):
        source, out = write_jsonl(tmp_path / "in.jsonl", [{"messages": turns} for turns in rows]), tmp_path / isolation
        options = ["-o", f"{out}.jsonl", "--on-error", "skip", "--max-bad", "60%", "--rejects", f"{out}.rejects"]
        succeed(run_cli("convert", source, "-t", tmp_path / "t.jinja", "--template-isolation", isolation, *options))
        found = read_rows(Path(f"{out}.rejects"))
        assert [(each["source"]["row"], each["code"], each["detail"]) for each in found] == [
            (n, *reason) for n, reason in bad.items()
        ]
        assert [json.loads(each["raw"]["data"]) for each in found] == [{"messages": rows[n]} for n in bad]
        good = [turns for n, turns in enumerate(rows) if n not in bad]
        texts = ["".join(f"{turn['role']}: {turn.get('content', '')};" for turn in turns) for turns in good]
        assert [row["text"] for row in read(Path(f"{out}.jsonl"))] == texts
    found = run_cli("check", source, "-t", tmp_path / "t.jinja").stdout.decode().split()
    assert [found[found.index(code) + 2] for code in ("msg.order", "template.raised", "msg.content")] == [
        "20",
        "20",
        "1",
    ]


@pytest.mark.parametrize(
    ("line", "keys", "said", "hint"),
    [
        ('{"a": 1\n', {}, "row 0: not JSON: unexpected end (line 1, byte 6)",
         "mend this row: none of the first rows can be read"),
        ('{"a": "xxxx"}\n', {"max_row_bytes": 5}, "row 0: the record is longer than 5 bytes (line 1, byte 0)",
         "--max-row-bytes 1MiB reads longer ones"),
        ('{"id": null}\n', {"group_by": "id"}, "row 0: the row has no value in `id` (line 1)",
         "mend this row: none of the first rows can be read"),
    ],
)  # fmt: skip
def test_no_hint_names_a_flag_that_is_set(tmp_path, line, keys, said, hint):
    (tmp_path / "in.jsonl").write_text(line * 2)
    with pytest.raises(RowError) as caught:
        chatfmt.convert(Recipe(source=str(tmp_path / "in.jsonl"), on_error="skip", **keys), out=tmp_path / "out")
    assert (str(caught.value), caught.value.hint) == (f"{tmp_path}/in.jsonl {said}", hint)


@pytest.mark.parametrize("out", ["out", "out.jsonl", "-"])
def test_a_run_that_rejects_all_rows_leaves_only_its_rejects_and_names_what_helps(tmp_path, out):
    turns = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    options = ("-t", "gemma", "--on-error", "skip", "-o", out)
    where = "they are in `out.rejects.jsonl`; " if out == "out.jsonl" else ""
    for again in ((), ("--overwrite",) if where else ()):
        run = run_cli("convert", "in.jsonl", *options, *again, cwd=tmp_path)
        assert (run.returncode, run.stderr.decode()) == (
            1, "error: the only row was rejected: 1 template.raised\n"
            f"hint: `--fit` adapts the data where it can; {where}`chatfmt check` lists them\n"
        )  # fmt: skip
        left = {"in.jsonl", "out.rejects.jsonl"} if where else {"in.jsonl"}
        assert {path.name for path in tmp_path.iterdir()} == left
    fitted = run_cli("convert", "in.jsonl", *options, "--fit", "--overwrite", cwd=tmp_path)
    assert fitted.stderr.decode().splitlines()[1:] == ["changed: system_turns 1"]
