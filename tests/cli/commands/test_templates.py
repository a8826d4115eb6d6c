"""`templates`: the programs of a template, and where two templates diverge on a dataset."""

from __future__ import annotations

import json
from pathlib import Path

from ...conftest import run_cli, succeed, write_rows

ROW = {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]}


def test_show_prints_the_program_of_each_kind_of_conversation() -> None:
    shown = run_cli("templates", "show", "chatml", "--program").stdout.decode()
    assert shown.startswith("user assistant:\n  ")
    assert "<|im_start|>" in shown and shown.count("\n  ") > 5


def test_diff_compares_templates_on_the_rows_of_a_dataset(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [ROW])
    same = run_cli("templates", "diff", "chatml", "chatml", "in.jsonl", cwd=tmp_path)
    assert (same.returncode, same.stdout) == (0, b"1 conversation, the same text from both\n")
    other = run_cli("templates", "diff", "chatml", "llama-3", "in.jsonl", cwd=tmp_path)
    assert (other.returncode, other.stderr) == (1, b"")
    first, *_, last = other.stdout.decode().splitlines()
    assert (first, last) == ("row 0, character 2", "1 of 1 conversation differs")
    as_json = json.loads(run_cli("templates", "diff", "chatml", "llama-3", "in.jsonl", "--json", cwd=tmp_path).stdout)
    assert (as_json["schema"], as_json["rows"], as_json["differing"]) == (1, 1, 1)


def test_probe_knows_where_a_file_prints_the_eos_token_that_it_does_not_define(tmp_path):
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}")
    card = json.loads(run_cli("templates", "probe", "t.jinja", "--json", cwd=tmp_path).stdout)
    assert (card["stop_token"], card["stop_token_within"]) == ("<|eos_token|>", "<|eos_token|>")
    assert b"prints no stop token" not in run_cli("templates", "probe", "t.jinja", cwd=tmp_path).stdout


def test_every_command_says_why_a_template_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages }}\n{{ messages[0].content } }")
    write_rows(tmp_path / "in.jsonl", [ROW])
    error = b"error: the template `t.jinja` does not compile, line 2: unexpected '}'\n"
    for command in (
        "templates probe t.jinja", "templates probe t.jinja --json", "templates audit t.jinja",
        "templates train t.jinja", "templates show t.jinja --program", "templates diff chatml t.jinja",
        "templates diff t.jinja chatml in.jsonl", "convert in.jsonl -t t.jinja",
    ):  # fmt: skip
        done = run_cli(*command.split(), cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (6, b"", error), command
    shown = run_cli("templates", "show", "t.jinja", cwd=tmp_path)  # to mend it
    assert (shown.returncode, shown.stdout) == (0, b"{{ messages }}\n{{ messages[0].content } }\n")


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
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}")
    done = run_cli("templates", "train", "t.jinja", cwd=tmp_path)
    assert done.stderr.decode().splitlines() == [
        "error: the template `t.jinja` gets no `{% generation %}` tags: the masks of plain conversations are not known",
        "hint: `chatfmt templates probe t.jinja` shows what it prints of an answer",
    ]
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}</s>")
    assert run_cli("templates", "train", tmp_path / "t.jinja").stderr.decode().splitlines()[1] == (
        "hint: `--mask-last` trains the last answer, `--no-mask-stop-token` all of them without stop tokens"
    )
    assert run_cli("templates", "train", "chatml").stdout == run_cli("templates", "show", "chatml").stdout


def test_templates_train_needs_no_value_of_eos(tmp_path):
    (tmp_path / "t.jinja").write_text(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + eos_token }}"
        "{% elif m.role == 'system' %}{{ raise_exception('no system') }}{% else %}[INST]{{ m.content }}[/INST]"
        "{{ m.weather }}{% endif %}{% endfor %}"
    )
    done = succeed(run_cli("templates", "train", tmp_path / "t.jinja"))
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
