"""`preview`: which rows, side by side or one after the other, folded, explained, compared, as a page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chatfmt.cli import main, terminal

from ...conftest import from_lines, run_cli, succeed, write_rows

ROWS = [
    {"conversations": [{"from": "human", "value": f"question {number}"}, {"from": "gpt", "value": "a\tb  c\n"}]}
    for number in range(50)
]
SPECS = [{"type": "function", "function": {"name": name, "description": "d" * 300, "parameters": {}}} for name in "fg"]
TOOLS = [
    {"from": "human", "value": "q" * 2000},
    {"from": "function_call", "value": '{"name": "f", "arguments": {"x": "Rome"}}'},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    write_rows(path, ROWS)
    return path


def lines(*arguments: Any) -> list[str]:
    run = succeed(run_cli("preview", *arguments))
    return [line.rstrip() for line in run.stdout.decode().splitlines()]


def test_rows_are_chosen_by_number_or_by_chance(source: Path) -> None:
    def numbers(*flags: str) -> list[int]:
        return [json.loads(line)["row"] for line in lines(source, "--json", *flags)]

    assert numbers("--row", "7", "--row", "0") == [7, 0]
    some = numbers("--sample", "4")
    assert len(some) == 4 and some == sorted(some) == numbers("--sample", "4")
    assert numbers("--sample", "4", "--seed", "1") != some
    for flags, said in [
        (["--row", "50"], f"error: `{source}` has no row 50\nhint: rows count from 0\n"),
        (["--row", "1", "-n", "2"], "error: `--rows`, `--row` and `--sample` cannot be combined\nhint: --sample 5\n"),
        (["-n", "0"], "error: `--rows` must be a positive integer, not `0`\nhint: --rows 2\n"),
        (["--row", "-1"], "error: `--row` must be a number of a row, not `-1`\nhint: --row 2\n"),
        (["--diff-template", "llama3"], "error: `--diff-template` compares two templates\nhint: -t chatml\n"),
        (["--html", "x.txt"], "error: a report is an HTML page, and `x.txt` has another suffix\nhint: x.html\n"),
    ]:
        run = run_cli("preview", source, *flags)
        assert (run.returncode, run.stderr.decode()) == (2, said)


def test_conversations_of_several_rows_are_numbered_by_their_first_one(tmp_path: Path) -> None:
    turn = {"thread": 1, "message_id": "a", "parent_id": None, "role": "user", "text": "q"}
    answer = {**turn, "message_id": "b", "parent_id": "a", "role": "assistant"}
    path = tmp_path / "in.jsonl"
    path.write_text(f"{json.dumps(turn)}\n{json.dumps(answer)}\n")
    said = f"error: no conversation of `{path}` begins at row 1\n"
    said += "hint: a conversation has the number of its first row, as shown without --row\n"
    for flags in (["--group-by", "thread", "--drop", "messages.*"], []):
        assert json.loads(lines(path, "--row", "0", "--json", *flags)[0])["row"] == 0
        run = run_cli("preview", path, "--row", "1", *flags)
        assert (run.returncode, run.stderr.decode()) == (2, said)
    said = "error: `--explain` shows how one row is read: these conversations span several\nhint: omit it\n"
    assert run_cli("preview", path, "--explain").stderr.decode() == said


def test_white_space_is_shown_where_asked_for(source: Path) -> None:
    shown = lines(source, "-t", "chatml", "-n", "1", "--show-whitespace")
    assert shown[2:] == [
        "text:", "<|im_start|>user↵", "question·0<|im_end|>↵", "<|im_start|>assistant↵", "a→      b··c↵", "<|im_end|>↵",
        "", "trained: characters 60 to 77",
    ]  # fmt: skip


def test_messages_are_explained(source: Path) -> None:
    changes = ["--system", "Be kind.", "--transform", "split_turns=true"]
    shown = lines(source, "-t", "chatml", "-n", "1", "--explain", *changes)
    assert shown[2:9] == ["messages:", "system", "Be kind.", "user", "question 0", "assistant", "a       b  c"]
    assert [line for line in shown if line.startswith(("read", " messages"))] == [
        "read as sharegpt: turns with `from` and `value`",
        " messages 0   system      no text of the row                           system",
        " messages 1   user        conversations[0].value   role from `human`",
        " messages 2   assistant   conversations[1].value   role from `gpt`",
    ]


def test_templates_are_compared_as_a_diff(source: Path) -> None:
    shown = lines(source, "-t", "chatml", "-n", "1", "--diff-template", "zephyr")
    assert shown[2:] == [
        "--- chatml", "+++ zephyr", "@@ -1,6 +1,6 @@", "-<|im_start|>user", "-question 0<|im_end|>",
        "-<|im_start|>assistant", "+<|user|>", "+question 0</s>", "+<|assistant|>", " a      b  c", "-<|im_end|>",
        "+</s>", "",
    ]  # fmt: skip


def test_long_values_and_tools_are_folded(tmp_path: Path) -> None:
    path = tmp_path / "tools.jsonl"
    write_rows(path, [{"conversations": TOOLS, "tools": SPECS}])
    shown = lines(path, "-t", "qwen3", "--fit")
    assert shown[1].count("q") < 900 and "… 1,200 characters" in shown[1]
    assert '"tools": "… 2 tools: f, g"' in shown[1]
    assert any(line.count("q") > 700 and "… 1,205 characters" in line for line in shown[2:])
    assert any("q" * 2000 in line for line in lines(path, "-t", "qwen3", "--fit", "--full")[2:])
    assert [line for line in lines(path) if line.startswith("tools:")] == ["tools: … 2 tools: f, g"]


def test_token_ids_are_a_line_each_and_not_converted_again(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"w": 0}, unk_token="w"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    turns = [{"role": "user", "content": "w " * 120}, {"role": "assistant", "content": "w"}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    made_of = (tmp_path / "in.jsonl", "-t", "{user_message} {assistant_message}", "--tokenizer", tmp_path,
               "--no-mask-stop-token")  # fmt: skip
    shown = lines(*made_of, "--to", "tokens")
    ids = f'[{"0, " * 50}"… 71 more"]'
    assert shown[shown.index("input_ids:") + 1] == ids
    assert run_cli("convert", *made_of, "--to", "tokens", "-o", tmp_path / "out").returncode == 0
    written = lines(tmp_path / "out")
    assert written[written.index("input_ids:") + 1] == ids
    run = run_cli("preview", tmp_path / "out", "--to", "messages")
    hint = "hint: the rows are token ids, which only trainers read: name the source they were made of"
    assert (run.returncode, run.stderr.decode().splitlines()[-1]) == (2, hint)


def test_a_row_whose_mask_is_not_known_is_shown_unless_a_mask_is_asked_for(tmp_path: Path) -> None:
    late = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '\\n' if not loop.last else '</s>' }}{% endfor %}"
    turns = [{"role": role, "content": role[0]} for role in ("user", "assistant") * 2]
    write_rows(tmp_path / "a.jsonl", [{"messages": turns}])
    shown, refused = (
        run_cli("preview", "a.jsonl", "-t", late, *flags, cwd=tmp_path).stdout.decode() for flags in ([], ["--mask"])
    )
    why = "cannot tell which text is the assistant's: the template prints a stop token after the last answer only"
    assert shown.endswith(f"text:\nuser: u\nassistant: a\nuser: u\nassistant: a</s>\ntrained: {why}\n")
    assert f"cannot be converted: a.jsonl row 0: {why} (message 1)" in refused and "text:" not in refused


def test_the_spans_are_those_of_the_mask_that_is_asked_for(tmp_path: Path) -> None:
    turns = [{"role": role, "content": f"{role} {n}"} for n in range(2) for role in ("user", "assistant")]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": turns}))

    def trained(*flags: str) -> list[str]:
        (row,) = lines(tmp_path / "in.jsonl", "-t", "chatml", "--json", *flags)
        shown = json.loads(row)
        return [shown["output"][0]["text"][start:stop] for start, stop in shown["spans"]]

    assert trained() == trained("--mask") == ["assistant 0<|im_end|>", "assistant 1<|im_end|>"]
    assert trained("--mask-last") == trained("--mask", "--mask-last") == ["assistant 1<|im_end|>"]
    assert trained("--no-mask-stop-token") == ["assistant 0", "assistant 1"]
    assert trained("--train-roles", "user") == ["user 0<|im_end|>", "user 1<|im_end|>"]


def test_a_narrow_terminal_says_what_a_wide_one_shows(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = "a terminal of 110 columns shows messages and text side by side"
    for width, shown in ((80, True), (110, False)):
        screen = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
        monkeypatch.setattr(terminal, "console", lambda *, stderr=False, screen=screen: screen)
        assert main(["preview", str(source), "-t", "chatml", "-n", "1"]) == 0
        assert (note in screen.file.getvalue()) is shown
    assert note not in "".join(lines(source, "-t", "chatml", "-n", "1"))


def test_a_wide_terminal_shows_messages_beside_the_text(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard", highlight=False)
    monkeypatch.setattr(terminal, "console", lambda *, stderr=False: screen)
    assert main(["preview", str(source), "-t", "chatml", "-n", "1"]) == 0
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1;34muser\x1b[0m" in shown and "\x1b[1;35m<|im_start|>\x1b[0m" in shown
    assert "\x1b[32ma" in shown and "\x1b[1;4;35m<|im_end|>\x1b[0m" in shown and "legend: " in shown
    [beside] = [line for line in shown.splitlines() if line.count("question 0") == 2]
    assert beside.index("│") < beside.rindex("question 0")


def test_pairs_have_a_pane_with_each_of_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pairs.jsonl"
    write_rows(path, [{"prompt": "question", "chosen": "good answer", "rejected": "bad answer"}])
    screen = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(terminal, "console", lambda *, stderr=False: screen)
    assert main(["preview", str(path), "-t", "chatml"]) == 0
    sides = [line.split("│") for line in screen.file.getvalue().splitlines() if "│" in line]  # type: ignore[attr-defined]
    left, right = ([side[place].strip() for side in sides if side[place].strip()] for place in (0, 1))
    assert left == [
        "messages", "prompt:", "user", "question", "chosen:", "assistant", "good answer", "rejected:", "assistant",
        "bad answer",
    ]  # fmt: skip
    assert right == [
        "text", "prompt:", "<|im_start|>user", "question<|im_end|>", "<|im_start|>assistant", "chosen:",
        "good answer<|im_end|>", "rejected:", "bad answer<|im_end|>",
    ]  # fmt: skip


def test_the_page_holds_the_rows(source: Path, tmp_path: Path) -> None:
    run = run_cli("preview", source, "-t", "chatml", "--row", "3", "--html", "rows.html", cwd=tmp_path)
    assert run.returncode == 0 and sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "rows.html"]
    data = (tmp_path / "rows.html").read_text().split('id="data">')[1].split("</script>")[0]
    [row] = json.loads(data)
    assert (row["row"], row["text"][0][1][0]) == (3, [2, "<|im_start|>"])
    assert row["messages"] == [
        ["messages", [["user", [["content", [[0, "question 3"]]]]], ["assistant", [["content", [[0, "a\tb  c\n"]]]]]]]
    ]
    again = ["preview", source, "-t", "chatml", "--row", "2", "--html", "rows.html"]
    kept, run = (tmp_path / "rows.html").read_bytes(), run_cli(*again, cwd=tmp_path)
    message = "error: `rows.html` already exists\nhint: replace it with `--overwrite`, or name another page\n"
    assert (run.returncode, run.stderr.decode(), (tmp_path / "rows.html").read_bytes()) == (5, message, kept)
    run = run_cli(*again, "--overwrite", cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "rows.html").read_bytes() != kept


def test_a_page_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    run = run_cli("preview", source, "-t", "chatml", "--html", "none/rows.html", cwd=tmp_path)
    message = "error: the folder `none` does not exist\nhint: mkdir -p none\n"
    assert (run.returncode, run.stderr.decode()) == (5, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_prompt_stands_before_kept_texts(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"question": "6 * 7?", "answer": "#### 42", "topic": "sums"}\n')
    for flags, names in [
        (["--for", "trl-grpo"], ["prompt:", "user", "6 * 7?", "answer:", "#### 42", "topic:", "sums"]),
        (["--to", "messages", "--keep", "topic"],
         ["messages:", "user", "6 * 7?", "assistant", "#### 42", "topic:", "sums"]),
    ]:  # fmt: skip
        assert lines(path, *flags)[2:] == names
    assert lines(path, "-t", "chatml", "--to", "prompt", "--keep", "topic")[2:] == [
        "prompt:", "<|im_start|>user", "6 * 7?<|im_end|>", "<|im_start|>assistant", "", "topic:", "sums",
    ]  # fmt: skip


def test_an_output_is_shown_with_the_columns_that_were_written(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f'{{"question": "q{n}", "answer": "a{n}"}}\n' for n in range(40)))

    def written(*flags: str) -> list[dict[str, Any]]:
        run_cli("convert", "in.jsonl", *flags, "-o", "out/", "--overwrite", cwd=tmp_path)
        run = run_cli("preview", "out/", "--row", "7", "--json", cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, b"")
        return from_lines(run.stdout)

    text = "<|im_start|>user\nq7<|im_end|>\n<|im_start|>assistant\na7<|im_end|>\n"
    (row,) = written("-t", "chatml", "--mask", "--rename", "text=t")
    assert (row["row"], row["output"], row["spans"], row["text"]) == (7, [{"t": text}], [[52, 64]], "t")
    assert text[52:64] == "a7<|im_end|>" and set(row["tokens"]) == {"<|im_start|>", "<|im_end|>"}
    (row,) = written("--for", "trl-grpo", "--format", "jsonl")
    assert row["output"] == [row["record"]] == [{"prompt": [{"role": "user", "content": "q7"}], "answer": "a7"}]
    assert row["line"] == 8
    shown = run_cli("preview", "out/", "-n", "1", cwd=tmp_path).stdout.decode().splitlines()
    assert shown[2:] == ["prompt:", "user", "q0", "answer:", "a0"]
    some = run_cli("preview", "out/", "--sample", "3", "--json", cwd=tmp_path).stdout.splitlines()
    assert len(some) == 3
    kept = run_cli("preview", "out/", "--where", "answer == 'a9'", "--json", cwd=tmp_path).stdout.splitlines()
    assert [json.loads(line)["row"] for line in kept] == [9]
    again = run_cli("preview", "out/", "-t", "chatml", "--row", "7", "--json", cwd=tmp_path)  # as data of its own
    assert json.loads(again.stdout)["output"] == [{"text": text}]
    missing = run_cli("preview", "out/", "--row", "40", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (2, b"error: `out/` has no row 40\nhint: rows count from 0\n")
