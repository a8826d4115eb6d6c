"""The commands as users run them: complete output, complete errors, exit codes, and only data on stdout."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT, run_cli, run_process

EVERYDAY = ROOT / "tests" / "data" / "everyday.jsonl"
BAD = (
    '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}\n'
    '{"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": ""}]}\n'
    '{"messages": [{"role": "robot", "content": "x"}]}\n'
)


def said(run: subprocess.CompletedProcess[bytes]) -> list[str]:
    return run.stderr.decode().splitlines()


def test_version():
    for arguments in (["--version"], ["templates", "--help"]):
        assert run_process(*arguments).returncode == 0
    assert run_process("--version").stdout == b"chatfmt 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        (["convert", str(EVERYDAY), "--split", "test"], 2, [
            f"error: {EVERYDAY}: unknown split `test`", "hint: one of: train",
        ]),
        (["convert", str(EVERYDAY), "--map", "messages"], 2, [
            "error: `--map messages` is not of the form NAME=VALUE", "hint: --map NAME=VALUE",
        ]),
        (["convert", str(EVERYDAY), "--transform", "mrge=x"], 2, [
            "error: unknown transform `mrge`", "hint: did you mean `merge`?",
        ]),
        (["convert", str(EVERYDAY), "-o", "out.csv"], 2, [
            "error: unsupported output format: `out.csv`", "hint: name a .jsonl or .parquet file, or a folder",
        ]),
        (["convert", str(EVERYDAY), "-o", "out.jsonl.br"], 2, [
            "error: unsupported output format: `out.jsonl.br`", "hint: name a .jsonl or .parquet file, or a folder",
        ]),
        (["convert", str(EVERYDAY), "--fail-on", "msg.odrer"], 2, [
            f"error: {EVERYDAY}: unknown check `msg.odrer`", "hint: did you mean `msg.order`?",
        ]),
        (["convert", str(EVERYDAY), "--mask"], 2, [
            "error: `--mask` applies to rendered text, and no template was given", "hint: -t chatml",
        ]),
        (["convert", str(EVERYDAY), "--generation-prompt"], 2, [
            "error: `--generation-prompt` applies to rendered text, and no template was given", "hint: -t chatml",
        ]),
        (["convert", str(EVERYDAY), "-t", "chatml", "--generation-prompt", "--continue-final"], 2, [
            "error: `--generation-prompt` and `--continue-final` cannot be combined",
        ]),
        (["convert", str(EVERYDAY), "--zzz"], 2, ["error: no such option: --zzz", "hint: chatfmt convert --help-all"]),
        (["convert", str(EVERYDAY), "--templte", "x"], 2, [
            "error: no such option: --templte", "hint: did you mean `--template`?",
        ]),
        (["convert", str(EVERYDAY), "--weight", "other=2"], 2, ["error: unknown source `other`"]),
        (["convert", "gsm8k", "--weight", "gsm8k=2"], 2, [
            "error: `--weight` is for sources named on the command line",
            "hint: a recipe has the weight beside the source",
        ]),
        (["convert", str(EVERYDAY), "out/"], 3, ["error: no such file `out/`", "hint: to write there: -o out/"]),
        ([str(EVERYDAY)], 2, [f"error: no such command '{EVERYDAY}'", f"hint: chatfmt inspect {EVERYDAY}"]),
        (["convrt"], 2, ["error: no such command 'convrt'. Did you mean 'convert'?", "hint: chatfmt --help"]),
        (["recipes", "show", "gsm9k"], 2, ["error: unknown recipe `gsm9k`", "hint: did you mean `gsm8k`?"]),
        (["templates", "diff", "chatml", "smollm2"], 1, []),
    ],
)  # fmt: skip
def test_errors_are_a_line_and_a_hint(arguments, code, lines, tmp_path):
    run = run_cli(*arguments, cwd=tmp_path)
    found = said(run)
    assert run.returncode == code, found
    assert found[: len(lines)] == lines
    assert len(found) <= 2 and found[0].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_data_alone_goes_to_stdout():
    run = run_cli("convert", EVERYDAY, "-t", "chatml", "--limit", "2")
    rows = [json.loads(line) for line in run.stdout.decode().split("\n") if line]
    assert [list(row) for row in rows] == [["text"], ["text"]]
    wrote = f"wrote 2 rows to stdout, {len(run.stdout)} B"
    assert said(run) == [wrote, "left behind: topic (text); --keep all carries it"]
    assert said(run_cli("convert", EVERYDAY, "-t", "chatml", "-q")) == []


def test_stdin_gives_the_same_output_as_a_file():
    expected = run_cli("convert", EVERYDAY, "-t", "qwen3").stdout
    assert expected and run_cli("convert", "-", "-t", "qwen3", stdin=EVERYDAY.read_bytes()).stdout == expected


@pytest.mark.parametrize(
    "flags",
    ["--max-tokens 5", "--split-by topic", "--tokens-from x", "--pack 5", "--shard-name x", "--mask", "--tokenizer x"],
)
def test_stdin_refuses_the_options_that_a_file_refuses(flags):
    file = run_cli("convert", EVERYDAY, *flags.split())
    stdin = run_cli("convert", "-", *flags.split(), stdin=EVERYDAY.read_bytes())
    assert (stdin.returncode, stdin.stdout, stdin.stderr) == (2, b"", file.stderr)


def test_a_pipe_ends_quietly_and_streams():
    feed = f'{sys.executable} -c "import sys\nd = open(sys.argv[1]).read()\nwhile True: sys.stdout.write(d)" {EVERYDAY}'
    command = f"{feed} 2>/dev/null | {sys.executable} -m chatfmt convert - -t chatml | head -5; echo ${{PIPESTATUS[1]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    lines = run.stdout.decode().splitlines()
    assert (len(lines), lines[-1], run.stderr) == (6, "141", b"")


def test_a_summary_as_json(tmp_path):
    run = run_cli("convert", EVERYDAY, "-t", "chatml", "--system", "Hi.", "-o", tmp_path / "out.jsonl", "--json")
    summary = json.loads(run.stdout)
    assert {key: summary[key] for key in ("schema", "rows_in", "rows", "changes", "splits", "shards")} == {
        "schema": 1, "rows_in": 12, "rows": 12, "changes": {"system": 8}, "splits": {"train": 12}, "shards": 1,
    }  # fmt: skip
    assert run.stderr == b""


def test_dry_run_shows_the_recipe_with_the_origin_of_each_value(tmp_path):
    (tmp_path / "r.yaml").write_text(f"source: {EVERYDAY}\ntemplate: chatml\nrows_per_shard: 5\n")
    run = run_process("convert", tmp_path / "r.yaml", "-t", "qwen3", "-o", tmp_path / "out", "--dry-run", "--json")
    plan = json.loads(run.stdout)
    assert (plan["recipe"]["template"], plan["recipe"]["rows_per_shard"]) == ("qwen3", 5)
    said = {"source": "recipe r", "template": "flag", "rows_per_shard": "recipe r"}
    assert plan["origins"] == {**said, "out": "flag", "dry_run": "flag", "json": "flag"}
    assert (plan["dialects"], plan["view"], plan["rows"]) == (["messages"], "text", 12)
    assert plan["shards"] == [f"data/train-{index:05d}-of-00003.parquet" for index in range(3)]
    assert plan["engine"]["name"] == "trace" and sorted(path.name for path in tmp_path.iterdir()) == ["r.yaml"]


def test_a_recipe_reports_all_its_problems(tmp_path):
    (tmp_path / "r.yaml").write_text("sorce: x\nengine: fast\nlimit: -1\n")
    run = run_cli("convert", tmp_path / "r.yaml")
    assert run.returncode == 2
    for problem in ("missing key `source`", "unknown key `sorce`", "`engine` must be", "`limit` must be"):
        assert problem in said(run)[0]
    assert said(run)[1] == "hint: did you mean `source`?"


def test_check_lists_every_problem_with_its_row(tmp_path):
    (tmp_path / "in.jsonl").write_text(BAD)
    run = run_cli("check", "in.jsonl", "--json", cwd=tmp_path)
    report = json.loads(run.stdout)
    assert (run.returncode, report["rows"]) == (1, 3)
    assert [(p["code"], p["kind"], p["row"], p["message"]) for p in report["problems"]] == [
        ("msg.empty", "warning", 1, 1), ("msg.order", "warning", 1, 1), ("msg.ends_user", "warning", 1, 1),
        ("msg.role", "error", 2, 0),
    ]  # fmt: skip
    table = run_cli("check", "in.jsonl", cwd=tmp_path)
    assert "in in.jsonl:" in table.stdout.decode() and "row 2 message 0" in table.stdout.decode()
    assert table.returncode == 1
    clean = run_cli("check", EVERYDAY)
    assert (clean.returncode, clean.stdout) == (
        0,
        b"12 rows, no problems\nleft behind: topic (text); --keep all carries it\n",
    )


def test_inspect_as_json():
    report = json.loads(run_cli("inspect", EVERYDAY, "--json").stdout)
    assert report["detection"]["dialect"] == "messages" and report["detection"]["used"] == ["messages"]
    assert report["roles"] == {"user": 16, "assistant": 16, "system": 4}
    assert report["turns"] == {"smallest": 2, "median": 3, "largest": 6}
    assert report["command"].endswith("-t chatml -o everyday-chatml/")


def test_inspect_suggests_what_to_map(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"a": "x", "b": "y"}\n' * 3)
    run = run_cli("inspect", "in.jsonl", cwd=tmp_path)
    assert run.returncode == 2 and "`a`" in said(run)[0] and "--map" in said(run)[1]
    assert " a " in run.stdout.decode()


def test_untrusted_text_cannot_reach_the_terminal(tmp_path):
    row = {
        "messages": [
            {"role": "user", "content": "a\x1b]0;pwned\x07\u202eb[bold]c[/bold]"},
            {"role": "r\x1b[31m", "content": "x"},
        ]
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    for command in (["preview", "-t", "chatml"], ["check"], ["inspect"], ["convert", "-o", str(tmp_path / "o.jsonl")]):
        run = run_cli(command[0], "in.jsonl", *command[1:], cwd=tmp_path)
        assert b"\x1b" not in run.stdout + run.stderr and "\u202e" not in (run.stdout + run.stderr).decode(), command
    assert "[bold]c[/bold]" in run_cli("preview", "in.jsonl", cwd=tmp_path).stdout.decode()


def test_progress_on_a_terminal_leaves_the_data_alone(tmp_path):
    """Rich's own progress would swallow stdout; here stderr is a terminal and stdout a file."""
    expected = run_cli("convert", EVERYDAY, "-t", "chatml").stdout
    parent, child = pty.openpty()
    with (tmp_path / "out").open("wb") as out:
        run = subprocess.Popen(
            [sys.executable, "-m", "chatfmt", "convert", str(EVERYDAY), "-t", "chatml", "-o", "-"],
            stdout=out, stderr=child, cwd=ROOT,
        )  # fmt: skip
        os.close(child)
        shown = b""
        try:
            while chunk := os.read(parent, 4096):
                shown += chunk
        except OSError:
            pass
        assert run.wait(60) == 0
    assert (tmp_path / "out").read_bytes() == expected and b"wrote 12 rows" in shown


def test_every_recipe_key_has_its_flag_and_every_flag_its_place():
    from chatfmt.cli import options
    from chatfmt.recipe import KEYS

    flags = {*options.CONVERSION, "on_error", "max_bad"}
    joined = {"system", "calculator", "final_answer", "socratic", "transform", "dialect_option", "label", "weight"}
    assert flags - joined | {"source", "about", "transforms", "dialect_options"} == set(KEYS)


def test_verify_and_resume_say_what_became_of_the_card(tmp_path: Path):
    out = tmp_path / "out"
    resume = ("convert", EVERYDAY, "-o", out, "--resume")
    assert run_cli(*resume, "-q").returncode == 0
    same = f"{out}: 12 rows in 1 shard, all checksums match"
    assert run_cli("verify", out).stdout.decode() == same + "\n"
    with (out / "README.md").open("a") as card:
        card.write("Made by hand.\n")
    edited = "the card `README.md` has been edited since"
    assert run_cli("verify", out).stdout.decode() == f"{same}; {edited}\n"
    assert json.loads(run_cli("verify", out, "--json").stdout) == {"schema": 1, "problems": [], "card": edited}
    assert f"note: {edited}" in said(run_cli(*resume))
    (out / "README.md").unlink()
    assert run_cli("verify", out).stdout.decode() == f"{same}; the card `README.md` is missing\n"


def test_verify_finds_a_changed_byte(tmp_path: Path):
    run_cli("convert", EVERYDAY, "-t", "chatml", "-o", tmp_path / "out")
    assert run_cli("verify", tmp_path / "out").returncode == 0
    shard = next((tmp_path / "out" / "data").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    run = run_cli("verify", tmp_path / "out")
    assert run.returncode == 1 and shard.name in said(run)[0]


@pytest.mark.parametrize("flags", [["--strict"], ["--fail-on", "token.control"]])
def test_special_tokens_in_content_are_errors_with_strict_or_fail_on(flags, tmp_path):
    turns = [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    run = run_cli("convert", "in.jsonl", "-t", "chatml", *flags, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (4, b"")
    assert said(run)[0] == "error: in.jsonl row 0: the control token `<|im_end|>` is in `content` (message 0, line 1)"


def test_templates_train_writes_a_template_with_generation_tags(tmp_path):
    text = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    (tmp_path / "t.jinja").write_text(text)
    done = run_cli("templates", "train", tmp_path / "t.jinja")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (
        done.stdout.decode()
        == """\
{%- for m in messages %}
    {{- '<|' }}
    {{- m.role }}
    {{- '|>' }}
    {%- if m is mapping and m.role == 'assistant' %}
        {%- generation %}
            {{- m.content }}
            {{- '<|end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- m.content }}
        {{- '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""
    )
    (tmp_path / "t.jinja").write_text("{% set all %}" + text + "{% endset %}{{ all }}")
    done = run_cli("templates", "train", tmp_path / "t.jinja")
    assert (done.returncode, done.stdout) == (6, b"")
    assert done.stderr.decode() == (
        f"error: the template `{tmp_path / 't.jinja'}` gets no `{{% generation %}}` tags: "
        "only a part of what `{{ all }}` prints is trained\n"
        "hint: `chatfmt convert --mask` finds the spans row by row\n"
    )
    assert run_cli("templates", "train", "chatml").stdout == run_cli("templates", "show", "chatml").stdout


def test_templates_train_needs_no_value_of_eos(tmp_path):
    (tmp_path / "t.jinja").write_text(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + eos_token }}"
        "{% elif m.role == 'system' %}{{ raise_exception('no system') }}{% else %}[INST]{{ m.content }}[/INST]"
        "{{ m.weather }}{% endif %}{% endfor %}"
    )
    done = run_cli("templates", "train", tmp_path / "t.jinja")
    assert done.returncode == 0
    assert "{%- generation %}\n            {{- m.content }}\n            {{- eos_token }}" in done.stdout.decode()
    assert done.stderr.decode() == "note: no test conversation prints these, so they got no tags: {{- m.weather }}\n"


def test_templates_train_names_a_missing_stop_token(tmp_path):
    text = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    for name in ("glm-4", tmp_path / "t.jinja"):
        (tmp_path / "t.jinja").write_text(text)
        done = run_cli("templates", "train", name)
        assert (done.returncode, "{%- generation %}" in done.stdout.decode()) == (0, True)
        assert done.stderr.decode() == (
            f"note: the template `{name}` prints no stop token after the last answer, so a model trained on its "
            "answers never ends one: `chatfmt convert --mask --end eos` appends EOS\n"
        )


def test_rows_that_lose_a_text_are_left_out_like_any_bad_row(tmp_path):
    text = "{% for m in messages %}{% if m.role != 'system' %}{{ m.role }}: {{ m.content }};{% endif %}{% endfor %}"
    (tmp_path / "t.jinja").write_text(text)
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [[{"role": "system", "content": "s"}, *plain] if n % 3 == 0 else plain for n in range(300)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in rows))
    run = ["in.jsonl", "-t", "t.jinja"]
    done = run_cli("convert", *run, cwd=tmp_path)
    lost = "template `t.jinja` loses the text of role `system`"
    hint = "hint: `--fit` adapts the data where it can; `--allow-loss system` accepts the loss\n"
    assert (done.returncode, done.stderr.decode()) == (6, f"error: in.jsonl row 0: {lost} (message 0, line 1)\n{hint}")
    skip = ["--on-error", "skip", "--max-bad", "40%", "-o", "out.jsonl", "--rejects", "bad.jsonl"]
    done = run_cli("convert", *run, *skip, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.jsonl").read_text() == '{"text":"user: q;assistant: a;"}\n' * 200
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(each["source"]["row"], each["code"], each["detail"]) for each in bad] == [
        (n, "template.loss", lost) for n in range(0, 300, 3)
    ]
    found = run_cli("check", *run, "--json", cwd=tmp_path)
    assert found.returncode == 1 and found.stdout.decode().count('"template.loss"') >= 100


@pytest.mark.parametrize(
    "printed", ["c", "c | string", "c | tojson", "c | tojson(ensure_ascii=True)", "c | tojson | upper"]
)
def test_a_call_that_is_printed_as_json_or_code_is_not_lost(tmp_path, printed):
    text = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ PRINTED }}{% endfor %};{% endfor %}"
    )
    (tmp_path / "t.jinja").write_text(text.replace("PRINTED", printed))
    call = {"type": "function", "function": {"name": "look", "arguments": {"q": "x"}}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": turns}))
    done = run_cli("convert", "in.jsonl", "-t", "t.jinja", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "look" in json.loads(done.stdout)["text"].lower()


def test_what_a_template_leaves_out_of_the_schemas_of_tools_is_named(tmp_path):
    tools = "{% for t in tools or [] %}{{ t.function.name }};{% endfor %}"
    text = tools + "{% for m in messages %}{{ m.content }};{% endfor %}"
    (tmp_path / "t.jinja").write_text(text)
    unit = {"type": "string", "enum": ["celsius", "kelvin"]}
    schema = {"type": "object", "properties": {"unit": {"anyOf": [unit, {"type": "null", "description": "none"}]}}}
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": turns, "tools": [tool]}))
    done = run_cli("convert", "in.jsonl", "-t", "t.jinja", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b'{"text":"look;q;a;"}\n')
    assert "left out by the template: anyOf of tools, description of tools, enum of tools\n" in done.stderr.decode()
    (tmp_path / "t.jinja").write_text(
        text.replace("name }}", "name }}{{ t.function.parameters.properties.unit.anyOf[0] }}")
    )
    done = run_cli("convert", "in.jsonl", "-t", "t.jinja", cwd=tmp_path)
    assert "left out by the template: description of tools\n" in done.stderr.decode()


def test_a_block_whose_text_is_its_content_is_text_beside_one_with_reasoning(tmp_path):
    blocks = [{"type": "thinking", "thinking": "plan"}, {"type": "text", "text": "x"}]
    rows = [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": blocks}],
        [{"role": "user", "content": [{"type": "text", "content": "t"}]}, {"role": "assistant", "content": "c"}],
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in rows))
    done = run_cli("convert", "in.jsonl", cwd=tmp_path)
    assert [json.loads(line)["messages"] for line in done.stdout.splitlines()] == [
        [rows[0][0], {"role": "assistant", "reasoning_content": "plan", "content": "x"}],
        [{"role": "user", "content": "t"}, rows[1][1]],
    ]


@pytest.mark.parametrize("template", ["llama-3.1", "mistral"])
def test_fit_leaves_out_lists_of_calls_and_tools_that_are_empty(tmp_path, template):
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": [plain[0], {**plain[1], "tool_calls": []}], "tools": []}, {"messages": plain}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run_cli("convert", "in.jsonl", "-t", template, "--fit", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second and "changed: empty_calls 1" in done.stderr.decode()


def test_a_template_file_needs_a_value_for_the_eos_token_that_it_prints(tmp_path):
    text = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    (tmp_path / "t.jinja").write_text(text)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": turns}))
    run = ["convert", "in.jsonl", "-t", "t.jinja"]
    done = run_cli(*run, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        "error: the template `t.jinja` prints `eos_token`, which a .jinja file does not define\n"
        "hint: --var eos_token=TOKEN, or --tokens-from with the folder or Hub id of the model\n"
    )
    done = run_cli(*run, "--var", "eos_token=</s>", cwd=tmp_path)
    assert done.stdout == b'{"text":"user: q</s>assistant: a</s>"}\n'
    note = "note: the template prints `bos_token`, which a .jinja file does not define: "
    note += "--var bos_token=TOKEN or --tokens-from MODEL sets one\n"
    assert note in done.stderr.decode()
    done = run_cli(*run, "--var", "eos_token=", "--var", "bos_token=<s>", cwd=tmp_path)
    assert done.stdout == b'{"text":"<s>user: qassistant: a"}\n' and b"bos_token" not in done.stderr
    (tmp_path / "model").mkdir()
    done = run_cli(*run, "--tokens-from", "model", cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (
        3,
        "error: `model` has no tokenizer_config.json, which says what its special tokens are\n"
        "hint: name the folder or Hub id of a model, or the tokens themselves: --var eos_token=TOKEN\n",
    )
    tokens = {"bos_token": {"__type": "AddedToken", "content": "<b>"}, "eos_token": "<e>"}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(tokens))
    run += ["--tokens-from", "model", "--var", "eos_token=</s>"]
    done = run_cli(*run, "-o", "out", cwd=tmp_path)
    manifest = json.loads((tmp_path / "out/.chatfmt/manifest.json").read_text())
    assert manifest["template"]["special_tokens"] == {
        "bos_token": {"value": "<b>", "from": "model"},
        "eos_token": {"value": "</s>", "from": "--var"},
    }
    assert run_cli(*run, cwd=tmp_path).stdout == b'{"text":"<b>user: q</s>assistant: a</s>"}\n'
    shown = run_cli(*run, "--dry-run", cwd=tmp_path).stdout.decode()
    assert 'special tokens: bos_token "<b>" from model, eos_token "</s>" from --var\n' in shown
    shown = run_cli("templates", "audit", "t.jinja", cwd=tmp_path).stdout.decode()
    assert "special_tokens: \n  bos_token: none\n  eos_token: none\n" in shown


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"prompt": "p", "completion": "c"}, [{"prompt": "p", "completion": "c"}]),
        ({"question": ["p", "q"], "answer": ["c", "d"]}, [{"messages": "pc"}, {"messages": "qd"}]),
    ],
)
def test_one_json_object_through_a_pipe(document, rows):
    done = run_cli("convert", "-", stdin=json.dumps(document, indent=1) + "\n")
    made = [{key: "".join(turn["content"] for turn in value) for key, value in json.loads(line).items()}
            for line in done.stdout.splitlines()]  # fmt: skip
    assert (done.returncode, made) == (0, rows)
    assert done.stderr.startswith(b"note: the JSON object is read as ")


def test_an_object_of_columns_and_one_record_are_read_with_a_template_as_without(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "columns.json").write_text(json.dumps({"question": ["q", "q"], "answer": ["a", "a"]}, indent=1))
    (tmp_path / "record.json").write_text(json.dumps({"messages": turns}, indent=1))
    text = {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"}
    for name, rows in (("columns", 2), ("record", 1)):
        run = run_cli("convert", f"{name}.json", "-t", "chatml", "-q", cwd=tmp_path)
        assert (run.returncode, [json.loads(line) for line in run.stdout.splitlines()]) == (0, [text] * rows)


def test_a_dry_run_says_which_rows_it_counts(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"messages": [{"role": "user", "content": "q"}], "s": 1}\n' * 3)
    run = run_cli("convert", "in.jsonl", "--where", "s == 1", "-o", "out.jsonl", "--dry-run", cwd=tmp_path)
    assert "reads 3 rows, writes `messages` to out.jsonl" in run.stdout.decode()
