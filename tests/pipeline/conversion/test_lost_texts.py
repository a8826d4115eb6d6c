"""Texts that a template would lose or change: errors of their rows, and what `--fit` does about them."""

from __future__ import annotations

import json

import pytest

from ...conftest import read_rows, run_cli, said, succeed, write_rows


@pytest.mark.parametrize("flags", [["--strict"], ["--fail-on", "token.control"]])
def test_special_tokens_in_content_are_errors_with_strict_or_fail_on(flags, tmp_path):
    turns = [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "a"}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    run = run_cli("convert", "in.jsonl", "-t", "chatml", *flags, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (4, b"")
    assert said(run)[0] == "error: in.jsonl row 0: the control token `<|im_end|>` is in `content` (message 0, line 1)"


def test_rows_that_lose_a_text_are_left_out_like_any_bad_row(tmp_path):
    text = "{% for m in messages %}{% if m.role != 'system' %}{{ m.role }}: {{ m.content }};{% endif %}{% endfor %}"
    (tmp_path / "t.jinja").write_text(text)
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [[{"role": "system", "content": "s"}, *plain] if n % 3 == 0 else plain for n in range(300)]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns} for turns in rows])
    run = ["in.jsonl", "-t", "t.jinja"]
    done = run_cli("convert", *run, cwd=tmp_path)
    lost = "template `t.jinja` loses the text of role `system`"
    hint = "hint: `--fit` adapts the data where it can; `--allow-loss system` accepts the loss\n"
    assert (done.returncode, done.stderr.decode()) == (6, f"error: in.jsonl row 0: {lost} (message 0, line 1)\n{hint}")
    skip = ["--on-error", "skip", "--max-bad", "40%", "-o", "out.jsonl", "--rejects", "bad.jsonl"]
    succeed(run_cli("convert", *run, *skip, cwd=tmp_path))
    assert (tmp_path / "out.jsonl").read_text() == '{"text":"user: q;assistant: a;"}\n' * 200
    bad = read_rows(tmp_path / "bad.jsonl")
    assert [(each["source"]["row"], each["code"], each["detail"]) for each in bad] == [
        (n, "template.loss", lost) for n in range(0, 300, 3)
    ]
    found = run_cli("check", *run, "--json", cwd=tmp_path)
    assert found.returncode == 1 and found.stdout.decode().count('"template.loss"') >= 100


def test_rows_of_later_batches_that_lose_a_text_are_left_out_too(tmp_path):
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    lossy = [{"role": "system", "content": "s"}, *plain]
    (tmp_path / "in").mkdir()
    for file, turns in (("1", [plain, lossy] * 150), ("2", [plain] * 20), ("3", [lossy, plain] * 20)):
        write_rows(tmp_path / f"in/{file}.jsonl", [{"messages": each} for each in turns])
    text = "{% for m in messages if m.role != 'system' %}{{ m.content }};{% endfor %}"
    succeed(
        run_cli("convert", "in", "-t", text, "-o", "o.jsonl", "--on-error", "skip", "--max-bad", "50%", cwd=tmp_path)
    )
    assert (tmp_path / "o.jsonl").read_text() == '{"text":"q;a;"}\n' * 190
    assert (tmp_path / "o.rejects.jsonl").read_text().count('"template.loss"') == 170


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
    done = succeed(run_cli("convert", "in.jsonl", "-t", "t.jinja", cwd=tmp_path))
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
    write_rows(tmp_path / "in.jsonl", [{"messages": turns} for turns in rows])
    done = run_cli("convert", "in.jsonl", cwd=tmp_path)
    assert [json.loads(line)["messages"] for line in done.stdout.splitlines()] == [
        [rows[0][0], {"role": "assistant", "reasoning_content": "plan", "content": "x"}],
        [{"role": "user", "content": "t"}, rows[1][1]],
    ]


@pytest.mark.parametrize("template", ["llama-3.1", "mistral"])
def test_fit_leaves_out_lists_of_calls_and_tools_that_are_empty(tmp_path, template):
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": [plain[0], {**plain[1], "tool_calls": []}], "tools": []}, {"messages": plain}]
    write_rows(tmp_path / "in.jsonl", rows)
    done = succeed(run_cli("convert", "in.jsonl", "-t", template, "--fit", cwd=tmp_path))
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
        "error: the template `t.jinja` reads `eos_token`, which a .jinja file does not define\n"
        "hint: --var eos_token=TOKEN, or --tokens-from with the folder or Hub id of the model\n"
    )
    done = run_cli(*run, "--var", "eos_token=</s>", cwd=tmp_path)
    assert done.stdout == b'{"text":"user: q</s>assistant: a</s>"}\n'
    note = "note: the template reads `bos_token`, which a .jinja file does not define: "
    note += "--var bos_token=TOKEN or --tokens-from MODEL sets one\n"
    assert note in done.stderr.decode()
    done = run_cli(*run, "--tokens-from", "chatml", cwd=tmp_path)
    assert done.stdout == b'{"text":"user: q<|im_end|>assistant: a<|im_end|>"}\n'
    done = run_cli(*run, "--var", "eos_token=null", cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (
        2,
        "error: `eos_token` is `null`, which is not text\nhint: --var eos_token='\"TOKEN\"', or leave it out\n",
    )
    done = run_cli(*run, "--var", "eos_token=", "--var", "bos_token=<s>", cwd=tmp_path)
    assert done.stdout == b'{"text":"<s>user: qassistant: a"}\n' and b"bos_token" not in done.stderr
    (tmp_path / "model").mkdir()
    done = run_cli(*run, "--tokens-from", "model", cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (
        3,
        "error: `model` has no tokenizer_config.json, which says what its special tokens are\n"
        "hint: name the folder or Hub id of a model, or the tokens themselves: --var eos_token=TOKEN\n",
    )
    (tmp_path / "model" / "tokenizer_config.json").write_text('{"eos_token": null}')
    done = run_cli(*run, "--tokens-from", "model", cwd=tmp_path)
    assert b"reads `eos_token`, which a .jinja file does not define, nor does `model`\n" in done.stderr
    done = run_cli(*run, "--tokens-from", "model/tokenizer_config.json", cwd=tmp_path)
    assert done.stderr.endswith(b"is not the folder of a model\nhint: name its folder: `model`\n")
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
