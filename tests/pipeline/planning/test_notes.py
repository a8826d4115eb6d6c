"""Notes before the first row on what data and templates would otherwise lose silently."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ...conftest import from_lines, run_cli, run_here, write_rows

PAIR = {
    "prompt": [{"role": "user", "content": "say a"}],
    "chosen": [{"role": "assistant", "content": "a"}],
    "rejected": [{"role": "assistant", "content": "b"}],
}
JUDGED = {**{key: PAIR[key] for key in ("prompt",)}, "completion": PAIR["chosen"], "label": True}
TURNS = {"messages": [*PAIR["prompt"], *PAIR["chosen"]]}


def said(tmp_path, row, *options):
    """The notes that a conversion of one row begins with, from a file and from stdin alike."""
    source = tmp_path / "in.jsonl"
    write_rows(source, [row])
    run = run_cli("convert", source, *options)
    piped = run_cli("convert", "-", *options, stdin=source.read_bytes())
    assert (run.returncode, run.stdout, run.stderr) == (piped.returncode, piped.stdout, piped.stderr)
    assert run.returncode == 0
    return [line.removeprefix("note: ") for line in run.stderr.decode().splitlines() if line.startswith("note: ")]


@pytest.mark.parametrize(("name", "noted"), [("humna", True), ("User", False), ("*", False)])
def test_a_role_that_no_turn_has_is_noted(name, noted, tmp_path):
    expected = [f"no sampled turn has the role `{name}`, which --role names"] if noted else []
    noted = said(tmp_path, TURNS, "--role", f"{name}=user")
    assert [note for note in noted if "--role" in note] == expected


@pytest.mark.parametrize("path", ["my log", "data.log"])
def test_markers_inside_lines_are_noted(path, tmp_path):
    text = "Human: hi Bot: hello Human: bye Bot: see you"
    row = {path: text} if path == "my log" else {"data": {"log": text}}
    flags = ["--marker", "Human:=user", "--marker", "Bot:=assistant"]
    note, how = said(tmp_path, row, "--map", f"transcript={path}", *flags)[0].split(": --map ")
    assert note == "the markers `Human:`, `Bot:` often stand inside lines, where they do not cut"
    cut = run_cli("convert", "in.jsonl", "--map", *shlex.split(how)[:1], *flags, cwd=tmp_path)
    assert [turn["content"] for turn in from_lines(cut.stdout)[0]["messages"]] == ["hi ", "hello ", "bye ", "see you"]
    assert (
        said(tmp_path, {"log": "Human: who is Bot: ?\nBot: I\nHuman: oh\nBot: yes"}, "--map", "transcript=log", *flags)
        == []
    )


@pytest.mark.parametrize("flag", ["--map system", "--dedup-by", "--split-by"])
def test_a_path_that_leads_nowhere_is_noted(flag, tmp_path):
    write_rows(tmp_path / "in.jsonl", [{**TURNS, "meta": {"a": "x"}, "b": None, "c.d": None}])
    join = "=" if " " in flag else " "
    for path in ("meta.a", "meta.b", "b", "c.d"):
        asked = ["--test-fraction", "0.1", *f"{flag}{join}{path}".split()]
        run = run_cli("convert", "in.jsonl", "-o", "out", "--overwrite", *asked, cwd=tmp_path)
        noted = [line for line in run.stderr.decode().splitlines() if line.startswith("note: no sampled")]
        expected = f"note: no sampled row has a value at `meta.b`, which {flag} names"
        assert (run.returncode, noted) == (0, [expected] if path == "meta.b" else []), run.stderr


@pytest.mark.parametrize(
    ("row", "view", "expected"),
    [
        (PAIR, "text", ["the rows are of type preference, and `--to text` leaves out their `rejected`"]),
        (PAIR, "messages", ["the rows are of type preference, and `--to messages` leaves out their `rejected`",
                            "`--to messages` holds conversations, which the template `chatml` does not render"]),
        (PAIR, "preference", []),
        (PAIR, "unpaired-preference", []),
        (JUDGED, "text", ["the rows are of type unpaired-preference, and `--to text` leaves out their `label`"]),
        (JUDGED, "unpaired-preference", []),
        (TURNS, "text", []),
        (TURNS, "openai", ["`--to openai` holds conversations, which the template `chatml` does not render"]),
    ],
)  # fmt: skip
def test_a_view_that_leaves_a_side_out(tmp_path, row, view, expected):
    assert said(tmp_path, row, "-t", "chatml", "--to", view) == expected


def test_reasoning_that_a_template_leaves_open(tmp_path):
    row, template = {"messages": [*TURNS["messages"]]}, ("-t", "nemotron-nano-v2")
    remedy = "`/no_think` in the system text closes it"
    note = f"the template `nemotron-nano-v2` leaves `<think>` open before answers without reasoning: {remedy}"
    assert said(tmp_path, row, *template) == [note]
    assert said(tmp_path, row, *template, "--mask") == [note]
    assert said(tmp_path, row, *template, "--system", "/no_think") == []
    assert note not in said(tmp_path, row, *template, "--to", "prompt")
    assert said(tmp_path, row, "-t", "qwen3") == []


def test_reasoning_that_a_trainer_renders_turn_by_turn(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"}]
    note = "openrlhf trains other tokens if the model's template leaves out earlier reasoning: "
    how = "--transform reasoning=last leaves it out here too"
    assert said(tmp_path, {"messages": turns * 2}, "--for", "openrlhf") == [note + how]
    assert said(tmp_path, {"messages": turns * 2}, "--for", "openrlhf", *how.split()[:2]) == []
    assert said(tmp_path, {"messages": turns}, "--for", "openrlhf") == []
    assert said(tmp_path, {"messages": turns * 2}, "--for", "trl-sft") == []


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ("-t chatml --mask", "--mask-last trains on the last one alone"), ("-t chatml --mask --mask-last", ""),
        ("--for axolotl", "--for trl-sft keeps them apart"), ("--for mlx-lm", ""), ("--for trl-sft", ""),
        ("--for trl-sft --to messages", "--to prompt-completion keeps them apart"), ("--to messages", ""),
    ],
)  # fmt: skip
def test_answers_in_prompts_that_are_trained_on(options, remedy, tmp_path):
    row = {"prompt": [*TURNS["messages"], *PAIR["prompt"]], "completion": PAIR["rejected"]}
    options = options.replace("--mask", "--to text --mask", 1).split()
    noted = [f"the answers in prompts are trained on too, like completions: {remedy}"] if remedy else []
    assert said(tmp_path, row, *options) == noted
    assert said(tmp_path, {**row, "prompt": PAIR["prompt"]}, *options) == []
    texts = {"prompt": "a", "completion": "b"}
    assert said(tmp_path, texts, *options) == []
    assert said(tmp_path, {"history": [["c", "d"]], **texts}, *options) == noted


def test_a_sample_in_which_no_row_can_be_read(tmp_path):
    source = write_rows(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}] * 2)
    run = run_here("convert", source, "--for", "axolotl", "--where", "completion > 0", "--on-error", "skip")
    told = ["error: all 2 rows were rejected: 2 expr.error", "hint: `chatfmt check` lists them"]
    assert run.stderr.decode().splitlines() == told


def test_texts_that_begin_with_a_bos_token(tmp_path):
    note = "texts begin with `<s>`, which many tokenizers add again: --map '{}' leaves it out"
    flag = 'text={{ row["a.b"].removeprefix("<s>") }}'
    assert said(tmp_path, {"a.b": "<s>Once."}, "--map", "text=a.b") == [note.format(flag)]
    assert said(tmp_path, {"a.b": "<s>Once."}, "--map", flag) == []
    nested = said(tmp_path, {"a": {"b": "<s>Once."}}, "--map", "text=a.b")
    assert nested == [note.format('text={{ a.b.removeprefix("<s>") }}')]
    assert said(tmp_path, {"a.b": "Once <s>."}, "--map", "text=a.b") == []


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ("--for trl-sft", "--to prompt-completion keeps them apart"), ("--for trl-sft --to prompt-completion", ""),
        ("--for ms-swift", "--for trl-sft --to prompt-completion keeps them apart"), ("--for mlx-lm", ""),
        ("-t chatml --mask", "--mask-last trains on the last one alone"), ("-t chatml --mask --mask-last", ""),
    ],
)  # fmt: skip
def test_answers_that_rows_of_a_split_train_again(options, remedy, tmp_path):
    noted = [f"the rows that `split_turns` writes train earlier answers again: {remedy}"] if remedy else []
    row = {"messages": TURNS["messages"] * 2}
    assert said(tmp_path, row, "--transform", "split_turns=true", *options.split()) == noted
    assert said(tmp_path, TURNS, "--transform", "split_turns=true", *options.split()) == []


def test_a_variable_that_the_template_does_not_read(tmp_path):
    assert said(tmp_path, TURNS, "-t", "qwen3", "--var", "enable_thinking=false") == []
    assert said(tmp_path, TURNS, "-t", "qwen3", "--var", "enable_thinkin=false") == [
        "the template has no variable `enable_thinkin`: did you mean `enable_thinking`?"
    ]
    assert said(tmp_path, TURNS, "-t", "chatml", "--var", "x=1") == ["the template has no variable `x`"]
    many = [flag for number in range(1208) for flag in ("--var", f"odd_{number}=1")]
    assert said(tmp_path, TURNS, "-t", "chatml", *many) == [
        "the template has no variable `odd_0`, `odd_1`, `odd_2`, `odd_3`, `odd_4`, `odd_5` and 1,202 more"
    ]


def test_a_system_message_that_the_template_brings(tmp_path):
    brought = "rows without a system message get the one of the template, `{}`: --system TEXT sets another"
    qwen = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    assert said(tmp_path, TURNS, "-t", "qwen2.5") == [brought.format(qwen)]
    assert said(tmp_path, TURNS, "-t", "qwen2.5", "--system", "Be brief.") == []
    assert said(tmp_path, TURNS) == said(tmp_path, TURNS, "-t", "llama-3.1") == []
    (tmp_path / "t.jinja").write_text(
        "{% if messages[0].role != 'system' %}{{ 'be kind ' * 20 }}{% endif %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    short = ("be kind " * 20)[:70] + "…"
    assert said(tmp_path, TURNS, "-t", str(tmp_path / "t.jinja")) == [brought.format(short)]
    assert "qwen2.5" not in "".join(said(tmp_path, {"text": "Once."}, "-t", "qwen2.5")[1:])


def test_a_template_for_text_that_is_complete(tmp_path):
    note = "the rows are rendered text already: the template `chatml` does not change them"
    parts = {"segments": [{"label": True, "text": "a"}]}
    assert said(tmp_path, {"text": "Once."}, "-t", "chatml") == said(tmp_path, parts, "-t", "chatml") == [note]
    assert said(tmp_path, {"text": "Once."}) == []


def test_text_that_could_be_read(tmp_path):
    called = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    row = {"messages": [*PAIR["prompt"], {"role": "assistant", "content": called}]}
    (note,) = said(tmp_path, row, "-t", "chatml")
    assert "--dialect hermes" in note


ASKED = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": ASKED}, "hi"),
        ({"prompt": [{"role": "user", "content": ASKED}]}, "hi"),
        ({"prompt": ASKED, "completion": "yo<|im_end|>"}, "hi yo"),
    ],
)
def test_questions_that_are_rendered_text(row, turns, tmp_path):
    (note,) = said(tmp_path, row)
    assert "` has rendered text, special tokens and all" in note
    inspected = run_here("inspect", "in.jsonl", cwd=tmp_path).stdout.decode()
    assert note in inspected
    flags = shlex.split(note.partition("left as one text, ")[2].removesuffix(" reads its turns"))
    read = run_here("convert", tmp_path / "in.jsonl", *flags, "--to", "messages")
    assert b"note" not in read.stderr
    command = shlex.split(inspected.splitlines()[-1])
    assert command[2 : 3 + len(flags)] == ["in.jsonl", *flags] and (command[-1] == "prompt") == (turns == "hi")
    assert run_here(*command[1:], "--overwrite", cwd=tmp_path).returncode == 0
    (made,) = from_lines(read.stdout)
    assert " ".join(turn["content"] for turn in made["messages"]) == turns


@pytest.mark.parametrize(
    ("header", "part", "flag", "rows"),
    [
        ("prompt,completion", "completion", """--where 'completion != "nan"' leaves them out""", 1),
        ("prompt,my answer", "my answer", """--where 'row["my answer"] != "nan"' leaves them out""", 1),
        ("prompt,system,completion", "system",
         """--map 'system={{ "" if system == "nan" else system }}' reads no system there""", 2),
    ],
)  # fmt: skip
def test_words_for_a_missing_value_are_noted(header, part, flag, rows, tmp_path):
    cells = [["nan" if name == part else name for name in header.split(",")], header.split(",")]
    (tmp_path / "in.csv").write_text("\n".join([header, *map(",".join, cells)]) + "\n")
    flags = ["--map", "completion=my answer"] if part == "my answer" else []
    note = f'note: `{part}` is "nan" in some rows: if that means that it has no value, {flag}'
    assert note in run_cli("convert", tmp_path / "in.csv", *flags).stderr.decode().splitlines()
    done = run_cli("convert", tmp_path / "in.csv", *flags, *shlex.split(flag.rpartition("' ")[0] + "'"))
    assert (len(done.stdout.splitlines()), b"nan" in done.stdout + done.stderr) == (rows, False)


def test_splits_that_are_not_read_are_noted(tmp_path):
    (tmp_path / "in").mkdir()
    for split in ("train", "test"):
        write_rows(tmp_path / "in" / f"{split}.jsonl", [TURNS])
    note = b"note: only the split `train` is read, not `test`: see --split\n"
    for flags, expected in (((), note), (("--split", "train"), b""), (("--split", "all"), b"")):
        run = run_cli("convert", "in", *flags, "-o", f"out-{len(flags)}{flags[-1:]}", cwd=tmp_path)
        assert (run.returncode, run.stderr.partition(b"wrote")[0]) == (0, expected)
    note = (
        b"note: the splits `train`, `test` follow one another in one file: a folder, as in -o DIR/, keeps them apart\n"
    )
    run = run_cli("convert", "in", "--split", "all", cwd=tmp_path)
    assert (run.returncode, run.stderr.partition(b"wrote")[0]) == (0, note)


@pytest.mark.parametrize("flags", [("--for", "trl-grpo"), ("--to", "rlvr-text")])
def test_answers_with_their_working_are_noted_where_they_are_rewarded(flags, tmp_path):
    row = {"question": "48 and 24?", "answer": "48+24 = 72\n#### 72"}
    note = "`answer` has the working of each answer: --final-answer column writes the result alone, for rewards"
    assert said(tmp_path, row, *flags) == [note]
    assert said(tmp_path, row, *flags, "--final-answer", "column") == said(tmp_path, row) == []
    assert said(tmp_path, {**row, "answer": "72"}, *flags) == []


@pytest.mark.parametrize("part", [{"type": "text", "text": "a"}, {"text": "a"}])
def test_text_parts_that_a_template_does_not_join_are_noted(part, tmp_path):
    """Llama 3's prints them as Python does, as transformers would."""
    row = {"messages": [{"role": "user", "content": [part, part]}, *PAIR["chosen"]]}
    assert said(tmp_path, row, "-t", "llama-3") == [
        "the template `llama-3` does not join the text parts of a message: --fit does"
    ]
    for flags in (("-t", "llama-3", "--fit"), ("-t", "llama-3", "--transform", "parts=flatten"), ("-t", "gemma-3"), ()):
        assert said(tmp_path, row, *flags) == []
    assert said(tmp_path, TURNS, "-t", "llama-3") == []
    call = {"id": "abcdefgh1", "type": "function", "function": {"name": "f", "arguments": {}}}
    turns = [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "tool_call_id": call["id"]}]
    turns[1]["content"] = [{"type": "text", "text": "a"}]
    result = {"messages": [{"role": "user", "content": "a"}, *turns, *PAIR["chosen"]]}
    note = "the template `mistral` does not join the text parts of a message: --fit does"
    assert said(tmp_path, result, "-t", "mistral") == [note]
    joined = {
        "messages": [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in TURNS["messages"]]
    }
    bedrock = {"schemaVersion": "bedrock-conversation-2024", **joined}
    assert said(tmp_path, bedrock, "-t", "llama-3") == []


def test_files_named_after_other_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("qa_test.jsonl", "qa_train.jsonl"):
        write_rows(tmp_path / name, [{"question": name, "answer": "a"}])
    note = (
        "note: `qa_test.jsonl` is read as `train` like the other files: `. --data-files test=qa_test.jsonl "
        "--data-files train=qa_train.jsonl --split all` keeps the splits apart\n"
    )
    for sources in (["*.jsonl"], ["qa_test.jsonl", "qa_train.jsonl"]):
        done = run_here("convert", *sources)
        assert (done.stderr.decode(), len(done.stdout.splitlines())) == (f"{note}wrote 2 rows to stdout, 185 B\n", 2)
    inspected = run_here("inspect", "*.jsonl").stdout.decode()
    assert note in inspected and inspected.endswith("\n  chatfmt convert '*.jsonl' -t chatml -o data-chatml/\n")
    flags = shlex.split(note.split("`")[5])
    parted = run_here("convert", *flags, "-o", "out/")
    assert parted.stderr.decode().startswith("wrote 2 rows (test 1, train 1) to `out`")
    for alone in (["qa_test.jsonl"], ["*_test.jsonl"], ["*.jsonl", "--split", "train"]):
        assert b"note" not in run_here("convert", *alone).stderr


def test_csv_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("What is 1?,one\nWhat is 2?,two\n")
    mapped = "map question and answer: --map user=COLUMN --map assistant=COLUMN; or plain text: --map text='What is 1?'"
    hint = f"hint: --no-header if `What is 1?` is not the name of a column but begins a row; or {mapped}"
    for command in ("convert", "inspect"):
        assert run_here(command, tmp_path / "in.csv").stderr.decode().splitlines()[1:] == [hint]
    named = ["--map", "user=column1", "--map", "assistant=column2"]
    assert len(run_here("convert", tmp_path / "in.csv", "--no-header", *named).stdout.splitlines()) == 2
    write_rows(tmp_path / "in.jsonl", [{"What is 1?": "a", "one": "b"}])
    assert b"--no-header" not in run_here("convert", tmp_path / "in.jsonl").stderr


def test_notes_come_before_the_error_of_a_row_that_the_plan_reads(tmp_path):
    answer = {"role": "assistant", "content": "<think>b</think>a", "reasoning_content": "b"}
    write_rows(tmp_path / "in.jsonl", [{"messages": [*PAIR["prompt"], answer]}] * 2)
    run = run_cli("convert", tmp_path / "in.jsonl", "-t", "chatml", "-o", tmp_path / "out")
    assert run.stderr.decode().splitlines()[:2] == [
        "note: reasoning between tags: left as text, --dialect reasoning-tags parses it",
        f"error: {tmp_path}/in.jsonl row 0: template `chatml` loses the reasoning of role `assistant`"
        " (message 1, line 1)",
    ]
