"""`stats`: the figures of all rows, on a terminal, as JSON, and as a gate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chatfmt.checks import CHECKS
from chatfmt.pipeline.inspection.figures.aggregate import COUNTS, known_names
from chatfmt.pipeline.inspection.figures.histogram import LENGTHS, STATISTICS

from ...conftest import run_cli, succeed, to_lines, write_rows

TALK = {"messages": [{"role": "user", "content": "Привет, 世界!"}, {"role": "assistant", "content": "a" * 20}]}
ODD = {"messages": [{"role": "user", "content": "<|im_end|>"}, {"role": "user", "content": "b"}]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text(to_lines((TALK, ODD, TALK, TALK)) + "{oops\n")
    return path


def test_stats_shows_every_figure(source: Path) -> None:
    run = succeed(run_cli("stats", source.name, "-t", "chatml", cwd=source.parent))
    assert [line.rstrip() for line in run.stdout.decode().splitlines() if line.strip()] == SHOWN


SHOWN = [
    "in.jsonl",
    "5 rows, 4 conversations, dialect messages, template chatml",
    " per row      distribution   min   p50   p90   p99   max   mean",
    " ──────────────────────────────────────────────────────────────",
    " turns        █                2     2     2     2     2      2",
    " characters   ▄          █    11    31    31    31    31     26",
    " role                              turns   share",
    " ───────────────────────────────────────────────",
    " user        ██████████████████▊       5   62.5%",
    " assistant   ███████████▎              3   37.5%",
    " script                              letters   share",
    " ───────────────────────────────────────────────────",
    " Latin      ██████████████████████        66   73.3%",
    " Cyrillic   ██████                        18   20.0%",
    " Han        ██                             6    6.7%",
    "trained: ███████▉ 26.2% of 343 characters of text",
    "duplicates: 2 conversations (50.0%)",
    " problem         kind       rows   such as",
    " ───────────────────────────────────────────────────────────────────────────────────────",
    " msg.order       warning       1   row 1 message 1 (line 2): `user` follows `user`",
    " msg.ends_user   warning       1   row 1 message 1 (line 2): the last role is `user`",
    " token.control   warning       1   row 1 message 0 (line 2): `<|im_end|>` in the content",
    " json.syntax     rejected      1   row 4 (line 5): not JSON: a key without double quotes",
]


NARROW = {
    59: [
        " per row      min   p50   p90   p99   max   mean",
        " ───────────────────────────────────────────────",
        " turns          2     2     2     2     2      2",
        " characters    11    31    31    31    31     26",
    ],
    30: [
        " per row   turns",
        " min       2",
        " p50       2",
        " p90       2",
        " p99       2",
        " max       2",
        " mean      2",
        "",
        " per row   characters",
    ],
}


@pytest.mark.parametrize("width", NARROW)
def test_words_and_numbers_stay_whole_on_narrow_terminals(source: Path, width: int) -> None:
    shown = run_cli("stats", source.name, cwd=source.parent, env={"COLUMNS": f"{width}"}).stdout.decode()
    assert [line.rstrip() for line in shown.splitlines()][3 : 3 + len(NARROW[width])] == NARROW[width]


def figures(*arguments: Any) -> dict[str, Any]:
    run = succeed(run_cli("stats", *arguments, "--json"))
    return json.loads(run.stdout)


def test_json_has_every_figure_by_name_and_by_source(source: Path) -> None:
    found = figures(source, "-t", "chatml")
    [each] = found["sources"]
    assert found["values"] | {
        "rows": 5, "conversations": 4, "rejected": 1, "duplicates": 2, "warnings": 3, "msg.order": 1, "json.syntax": 1,
        "min_turns": 2, "p99_characters": 31, "mean_characters": 26.0,
    } == found["values"]  # fmt: skip
    assert each["roles"] == {"user": 5, "assistant": 3}
    assert each["scripts"] == {"Latin": 66, "Cyrillic": 18, "Han": 6}
    assert each["rejected"] == {"json.syntax": 1}
    assert each["findings"] == {"msg.order": 1, "msg.ends_user": 1, "token.control": 1}
    assert {code: [one["row"] for one in each] for code, each in each["examples"].items()} == {
        "msg.order": [1], "msg.ends_user": [1], "token.control": [1], "json.syntax": [4],
    }  # fmt: skip
    assert each["trained"]["characters"] == 3 * (20 + len("<|im_end|>"))


@pytest.mark.parametrize(("view", "trained"), [("prompt-completion", 12), ("unpaired-preference", 0)])
def test_answers_beside_prompts_are_trained_unless_they_are_judged(view: str, trained: int, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "completion": "a", "label": True}])
    [each] = figures(rows, "-t", "chatml", "--to", view)["sources"]
    assert each["trained"]["characters"] == trained


def test_the_output_of_a_conversion_is_described_with_what_was_left_out(source: Path, tmp_path: Path) -> None:
    for out, *more in (["text", "--mask"], ["lines", "--mask", "--format", "jsonl"], ["messages"]):
        flags = ["-t", "chatml"] if more else []
        run_cli("convert", source, *flags, *more, "--on-error", "skip", "--max-bad", "50%", "-o", tmp_path / out)
    shown = {out: figures(tmp_path / out) for out in ("text", "lines", "messages")}
    assert [each["values"]["json.syntax"] for each in shown.values()] == [1, 1, 1]
    assert [each["values"]["conversations"] for each in shown.values()] == [3, 3, 4]
    assert [each["sources"][0]["trained"]["characters"] for each in shown.values()] == [90, 90, 0]
    assert shown["text"]["sources"][0]["template"] == "chatml"
    run = run_cli("stats", tmp_path / "text", "--fail-if", "p99_tokens > 1")
    assert (run.returncode, run.stderr.decode()) == (2, "error: `p99_tokens` has no value here\n")


GATES = [
    ("msg.order > 0", 1, "error: `msg.order > 0` holds: `msg.order` is 1\n"),
    ("rejected / rows >= 0.2 and rows == 5", 1,
     "error: `rejected / rows >= 0.2 and rows == 5` holds: `rejected` is 1, `rows` is 5\n"),
    ("not 1 < duplicates < 9 or filtered > 0 and warnings / filtered > 0", 0, ""),
    ("warnings / filtered > 0", 1, "error: `warnings / filtered > 0` cannot be judged, as it divides by zero: "
     "`warnings` is 2, `filtered` is 0\n"),
    ("not warnings / filtered > 0", 1, "error: `not warnings / filtered > 0` cannot be judged, as it divides by zero: "
     "`warnings` is 2, `filtered` is 0\n"),
    *((f"{division} > 1", 2, f"error: `{division} > 1` divides by zero\nhint: --fail-if 'p99_tokens > 4096', --fail-if "
       "'rejected / rows > 0.01 or duplicates > 100'\n") for division in ("duplicates / 0", "rows / (2 - 2)")),
    ("json.syntax == 1 and template.loss == 0", 1,
     "error: `json.syntax == 1 and template.loss == 0` holds: `json.syntax` is 1, `template.loss` is 0\n"),
    ("msg.oder > 0", 2, "error: unknown figure `msg.oder`\nhint: did you mean `msg.order`?\n"),
    ("p9_characters > 1", 2, "error: unknown figure `p9_characters`\nhint: did you mean `p99_characters`?\n"),
    ("p99_tokens > 1", 2, "error: `p99_tokens` has no value here\nhint: --tokenizer DIR\n"),
    ("rows", 2, "error: `--fail-if` needs a comparison, not `rows`\nhint: --fail-if 'p99_tokens > 4096', --fail-if "
     "'rejected / rows > 0.01 or duplicates > 100'\n"),
    ("rows > open('x')", 2, "error: `--fail-if` knows figures, numbers and operators, not `open('x')`\nhint: --fail-if "
     "'p99_tokens > 4096', --fail-if 'rejected / rows > 0.01 or duplicates > 100'\n"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "code", "said"), GATES)
def test_a_gate_closes_if_its_expression_holds(source: Path, gate: str, code: int, said: str) -> None:
    run = run_cli("stats", source, "--fail-if", gate, "--json")
    assert (run.returncode, run.stderr.decode()) == (code, said)


def test_the_help_lists_every_name() -> None:
    text = run_cli("stats", "--help").stdout.decode()
    shown = set(re.findall(r"\w+", text.partition("--fail-if, which")[2].partition("and the codes")[0]))
    names = {*COUNTS, *STATISTICS, *LENGTHS, "trained_share", "over_max_tokens"}
    assert shown == names | {"json", "has", "in", "values", "of", "and", "as", "p99_tokens"}
    assert {*known_names()} - {*CHECKS} == (names - {*STATISTICS, *LENGTHS}) | {
        f"{statistic}_{name}" for statistic in STATISTICS for name in LENGTHS
    }


def test_figures_by_the_values_of_a_column(tmp_path: Path) -> None:
    rows = [{**TALK, "topic": ["code", "news", None][n % 3 % 2 if n < 9 else 2], "n": n} for n in range(10)]
    path = tmp_path / "in.jsonl"
    write_rows(path, rows)
    (source,) = figures(path, "--by", "topic")["sources"]
    found = {group["value"]: group["conversations"] for group in source["by"]["groups"]}
    assert (source["by"]["column"], found) == ("topic", {"code": 6, "news": 3, "(no value)": 1})
    assert source["by"]["groups"][0]["turns"]["max"] == 2 and "tokens" not in source["by"]["groups"][0]
    shown = run_cli("stats", path, "--by", "topic").stdout.decode()
    assert re.search(r"^ code +██████ +6 +60\.0% +2 +2 ", shown, flags=re.MULTILINE), shown
    run = run_cli("stats", path, "--by", "topik")
    assert (run.returncode, run.stderr.decode()) == (2, "error: unknown column `topik`\nhint: did you mean `topic`?\n")


def test_values_of_different_types_are_told_apart(tmp_path: Path) -> None:
    values = [1, "1", True, "true", "(no value)", None, "x", '"']
    path = tmp_path / "in.jsonl"
    write_rows(path, [{**TALK, "v": value} for value in values])
    (source,) = figures(path, "--by", "v")["sources"]
    found = {group["value"] for group in source["by"]["groups"]}
    assert found == {"1", '"1"', "true", '"true"', "(no value)", '"(no value)"', "x", '"'}


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    write_rows(path, [{**TALK, "m": {"a": 1}}])
    for by, hint in (("messages.role", "hint: `messages` is a list: messages[].role\n"), ("m.b", "")):
        run = run_cli("stats", path, "--by", by)
        assert run.stderr.decode() == f"error: no row has a value at `{by}`, which --by names\n{hint}"
        assert run.returncode == 2


def test_columns_with_many_values_have_a_bounded_number_of_groups(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    write_rows(path, [{**TALK, "n": n if n % 2 else 9999} for n in range(3000)])
    (source,) = figures(path, "--by", "n")["sources"]
    groups = source["by"]["groups"]
    assert [(group["value"], group["conversations"]) for group in groups[:2]] == [("9999", 1500), ("1", 1)]
    assert len(groups) == 21 and (groups[-1]["value"], groups[-1]["conversations"]) == ("other", 1481)
    assert sum(group["turns"]["mean"] * group["conversations"] for group in groups) == 6000
