"""What is said of a template before the first row: a fallback, indentation, tokens without a value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatfmt import ChatTemplate
from chatfmt.cli import main
from chatfmt.render.inspection.probe import indented_line
from chatfmt.render.single import TemplateRenderer
from chatfmt.render.template import builtin

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n")
    Path("base").mkdir()
    Path("base/tokenizer_config.json").write_text('{"eos_token": "</s>"}')


def convert(*flags: str) -> int:
    return main(["convert", "in.jsonl", *flags, "--executor", "serial"])


@pytest.mark.parametrize(("known", "template", "named"), [
    (["</s>"], "chatml", "`<|im_end|>` and `<|im_start|>`"),
    (["<|im_start|>", "</s>"], "chatml", "`<|im_end|>`"),
    (["</s>"], "llama-3", "`<|eot_id|>` and `<|start_header_id|>` and 2 more"),
    (["<|im_end|>", "<|im_start|>"], "chatml", ""),
    (["</s>"], "zephyr", ""),
])  # fmt: skip
def test_a_tokenizer_of_another_model_is_named(known: list[str], template: str, named: str, capsys: Output) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], tokenizers.trainers.BpeTrainer(special_tokens=known, initial_alphabet=alphabet))
    tokenizer.save("base/tokenizer.json")
    assert convert("-t", template, "--tokenizer", "base", "--max-tokens", "5000", "-o", "out.jsonl") == 0
    note = (
        f"note: the tokenizer `base` splits {named}, special tokens of the template `{template}`, into several tokens"
    )
    notes = [line for line in capsys.readouterr().err.splitlines() if "into several" in line]
    assert notes == ([f"{note}: use the tokenizer of the model"] if named else [])


@pytest.mark.parametrize("mask", [[], ["--mask"]])
@pytest.mark.parametrize(("text", "error", "hint"), [
    ("{% for m in messages %}{{ m.role ~ msg.content }}{% endfor %}", "in.jsonl row 0: 'msg' is undefined (line 1)",
     "`chatfmt templates probe bad.jinja` shows what the template accepts"),
    ("{% for m in messages %}{{ m.role }}{% endfor %}",
     "in.jsonl row 0: template `bad.jinja` loses the text of role `user` (message 0, line 1)",
     "`--allow-loss user` accepts the loss"),
    ("{% for m in messages %}{{ m.content }}{% endfor %}{{ messages[7].content[0] }}",
     "in.jsonl row 0: list object has no element 7 (line 1)",
     "`chatfmt templates probe bad.jinja` shows what the template accepts"),
])  # fmt: skip
def test_the_error_of_a_bad_template_is_the_same_with_a_mask(
    text: str, error: str, hint: str, mask: list[str], capsys: Output
) -> None:
    Path("bad.jinja").write_text(text)
    assert convert("-t", "bad.jinja", *mask, "-o", "out.jsonl") > 0
    assert capsys.readouterr().err == f"error: {error}\nhint: {hint}\n" and not Path("out.jsonl").exists()


def test_a_misspelt_variable_is_named_before_the_first_row(capsys: Output) -> None:
    Path("bad.jinja").write_text("{% for m in messages %}{{ m.content }}{{ eos_tokn }}{% endfor %}")
    said = "the template reads `eos_tokn`, which nothing defines: did you mean `eos_token`?"
    assert convert("-t", "bad.jinja", "-o", "out.jsonl") == 0
    assert capsys.readouterr().err.splitlines()[0] == f"note: {said}"
    assert convert("-t", "bad.jinja", "--var", "eos_tokn=x", "-o", "again.jsonl") == 0
    assert "eos_tokn" not in capsys.readouterr().err
    assert convert("-t", "bad.jinja", "--mask") == 6
    assert capsys.readouterr().err == (
        "error: the template `bad.jinja` prints no stop token, so a model trained on its answers never ends one\n"
        f"hint: {said}\n"
    )


@pytest.mark.parametrize("isolation", ["auto", "off"])
def test_the_tag_that_closes_an_open_block_is_named(isolation: str, capsys: Output) -> None:
    Path("bad.jinja").write_text("{% for m in messages %}{% if m.role %}{{ m.content }}{% endfor %}")
    assert convert("-t", "bad.jinja", "--template-isolation", isolation) == 6
    assert capsys.readouterr().err.splitlines()[-1] == "hint: close it with `{% endif %}`"


def test_a_model_without_a_template_gets_the_fallback(capsys: Output) -> None:
    assert convert("-t", "./base", "--fallback-template", "chatml", "-o", "out") == 0
    note = "note: `./base` has no chat template: `chatml` is used instead"
    assert capsys.readouterr().err.splitlines()[0] == note
    manifest = json.loads(Path("out/.chatfmt/manifest.json").read_text())
    assert {key: manifest["template"][key] for key in ("name", "instead_of")} == {
        "name": "chatml", "instead_of": "./base",
    }  # fmt: skip
    assert convert("-t", "./base", "--fallback-template", "chatml", "-o", "out", "--resume") == 0
    assert capsys.readouterr().err.splitlines()[-1] == "`out` is already complete: 1 row"


def test_a_model_with_a_template_needs_no_fallback(capsys: Output) -> None:
    Path("base/chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert convert("-t", "./base", "--fallback-template", "chatml") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"text": "qa"} and "note:" not in shown.err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["-t", "./base"], 3, "`base` has no chat template"),
        (["-t", "./none", "--fallback-template", "chatml"], 3,
         "there is no template file or model folder `./none`"),
        (["-t", "./base", "--fallback-template", "chatmll"], 2, "unknown template `chatmll`"),
        (["--fallback-template", "chatml"], 2, "`--fallback-template` is for a model without a chat template"),
        (["-t", "{{ messages[0].content ~ eos_token }}"], 2,
         "the template `inline` reads `eos_token`, which an inline template does not define"),
    ],
)  # fmt: skip
def test_what_no_template_can_stand_for_is_an_error(flags: list[str], code: int, message: str, capsys: Output) -> None:
    assert convert(*flags) == code
    assert capsys.readouterr().err.splitlines()[0] == f"error: {message}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("    <|{{ m.role }}|>{{ m.content }}", 2),
        ("<|{{ m.role }}|>\n\t{{ m.content }}", 3),
        ("  {% if true %}\n    {{ m.content }}\n  {% endif %}", 3),
        ("  {%- if true %}\n    {{- m.content }}\n  {%- endif %}", None),
        ("{{ m.role }}:  {{ m.content }}", None),
        ("  {% if m.never %}\n    {{ m.content }}\n  {% endif %}{{ m.content }}", None),
    ],
)
def test_indentation_that_is_part_of_the_text_is_named(text: str, line: int | None, capsys: Output) -> None:
    Path("t.jinja").write_text("{% for m in messages %}\n" + text + "\n{% endfor %}\n")
    assert convert("-t", "t.jinja", "-q", "--allow-loss", "all") == 0
    note = (
        f"note: line {line} of the template is indented, and the indentation is part of the text: "
        "`{{-` and `{%-` strip what precedes them\n"
    )
    assert capsys.readouterr().err == ("" if line is None else note)


def test_no_built_in_template_is_indented() -> None:
    names = builtin.names()
    assert names and not [name for name in names if indented_line(TemplateRenderer(ChatTemplate.load(name)))]


@pytest.mark.parametrize(("within", "stderr"), [
    ("", "error: the template `t.jinja` prints no stop token, so a model trained on its answers never ends one\n"
         "hint: --end eos appends EOS; --no-mask-stop-token trains answers without an end\n"),
    ("{% if not loop.last %}<|end|>{% endif %}",
     "error: the template `t.jinja` prints no stop token after the last answer, "
     "so a model trained on its answers never ends one\n"
     "hint: --end eos appends EOS; --no-mask-stop-token trains answers without an end\n"),
    ("<|end|>", ""),
])  # fmt: skip
def test_masks_without_a_stop_token_are_refused(within: str, stderr: str, capsys: Output) -> None:
    Path("t.jinja").write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}" + within + "\n{% endfor %}")
    for view in ("text", "segments"):
        mask = ["--mask"] if view == "text" else []
        assert convert("-t", "t.jinja", "--to", view, *mask, "-q") == (6 if "error" in stderr else 0)
        assert capsys.readouterr().err == stderr
    for flags in (["--mask", "--end", "eos", "--var", "eos_token=</s>"], ["--mask", "--no-mask-stop-token"], []):
        assert convert("-t", "t.jinja", "-q", *flags) == 0 and capsys.readouterr().err == ""


def test_what_a_template_refuses_of_all_rows_comes_before_a_missing_stop_token(capsys: Output) -> None:
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    Path("bad.jinja").write_text(no_system + "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    with_system = json.dumps({"messages": [{"role": "system", "content": "s"}, *TURNS]})
    for rows, error in (
        ([with_system], "error: in.jsonl row 0: no system (line 1)"),
        ([with_system, json.dumps({"messages": TURNS})], "error: the template `bad.jinja` prints no stop token, "
         "so a model trained on its answers never ends one"),
    ):  # fmt: skip
        Path("in.jsonl").write_text("".join(f"{row}\n" for row in rows))
        assert convert("-t", "bad.jinja", "--mask", "--on-error", "skip", "-q") == (4 if " row 0" in error else 6)
        assert capsys.readouterr().err.splitlines()[0] == error


def test_the_stop_token_of_a_template_that_refuses_plain_exchanges_is_not_said_to_be_missing(capsys: Output) -> None:
    Path("t.jinja").write_text(
        "{%- for m in messages %}{{ user.upper() if m.role == 'user' }}{{ m.content }}</s>{% endfor %}"
    )
    assert convert("-t", "t.jinja", "--mask", "-q") == 4
    assert capsys.readouterr().err.splitlines()[0] == "error: in.jsonl row 0: 'user' is undefined (line 1)"
    assert convert("-t", "t.jinja", "--mask", "-q", "--var", "user=tom") == 0
    assert json.loads(capsys.readouterr().out) == {"text": "TOMq</s>a</s>", "assistant_spans": [[8, 13]]}
    Path("t.jinja").write_text("{%- for m in messages %}{{ m.name.upper() }}{{ m.content }}</s>{% endfor %}")
    Path("in.jsonl").write_text(json.dumps({"messages": [{**turn, "name": "x"} for turn in TURNS]}) + "\n")
    assert convert("-t", "t.jinja", "--mask", "-q", "--allow-loss", "all") == 4
    assert capsys.readouterr().err.splitlines()[0] == (
        "error: in.jsonl row 0: cannot tell which text is the assistant's: "
        "the template prints no plain exchange, so its stop token is not known (message 1, line 1)"
    )


@pytest.mark.parametrize(
    ("reading", "code"),
    [
        ("{% set end = eos_token %}{{ end }}", 2), ("{% for token in [eos_token] %}{{ token }}{% endfor %}", 2),
        ("{{ eos_token | upper }}", 2), ("{% if m.content.endswith(eos_token) %}{% endif %}", 2),
        ("{% if m.role == 'system' %}{{ eos_token }}{% endif %}", 2),
        ("{{ eos_token | default('</s>') }}", 0), ("{{ eos_token or '</s>' }}", 0), ("{# eos_token #}", 0),
    ],
)  # fmt: skip
def test_an_eos_token_without_a_value_is_an_error_however_it_is_read(reading: str, code: int) -> None:
    Path("t.jinja").write_text("{% for m in messages %}{{ m.content }}" + reading + "{% endfor %}")
    assert convert("-t", "t.jinja") == code
