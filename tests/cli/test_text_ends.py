"""`--bos` and `--end`: where a text begins and ends, for trainers that add tokens of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatfmt import ChatTemplate
from chatfmt.cli import main

from ..conftest import from_lines, write_rows

USER, ANSWER = {"role": "user", "content": "Hi "}, {"role": "assistant", "content": "Hello"}
ROWS: list[Any] = [[USER, ANSWER], [USER, ANSWER, USER, {**ANSWER, "content": "a\n\n"}]]
Convert = Callable[..., list[dict[str, Any]]]
TAGGED = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|end|>\n\n{% endgeneration %}{% else %}{{ m.content }}<|end|>\n\n{% endif %}"
    "{% endfor %}"
)
PLAIN = "{user_message}|{assistant_message}"
STOPS_WITHIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if not loop.last %}<|end|>{% endif %}{% endfor %}"
)


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Convert:
    """A function that converts conversations with a template and flags; returns the rows written."""
    monkeypatch.chdir(tmp_path)
    Path("tagged.jinja").write_text(TAGGED)

    def run(
        template: str, *flags: str, rows: Any = ROWS, engines: Sequence[str] = ("auto", "jinja")
    ) -> list[dict[str, Any]]:
        write_rows(Path("in.jsonl"), [{"messages": turns} for turns in rows])
        command = ["convert", "in.jsonl", "-q", "--executor", "serial", "-t", template, "--engine"]
        outputs = []
        for engine in engines:
            assert main([*command, engine, *flags]) == 0
            outputs.append(capsys.readouterr().out)
        assert len(set(outputs)) == 1
        return from_lines(outputs[0])

    return run


def trained(row: dict[str, Any]) -> list[str]:
    return [row["text"][start:end] for start, end in row["assistant_spans"]]


@pytest.mark.parametrize("template", ["chatml", "llama-3", "gemma-3", "tagged.jinja", "glm-4", "phi-3"])
def test_strip_drops_what_follows_the_last_stop_token(convert: Convert, template: str) -> None:
    mask = ["--mask", *(["--no-mask-stop-token"] if template == "glm-4" else [])]
    before, after = (convert(template, *mask, "--end", end) for end in ("keep", "strip"))
    assert len(before) == len(after) == 2
    for kept, stripped in zip(before, after, strict=True):
        bare = kept["text"].rstrip()
        wanted = kept["text"] if template == "glm-4" else bare  # it has no stop token: the blanks are the answer's
        assert stripped["text"] == wanted
        spans = [[start, min(end, len(wanted))] for start, end in kept["assistant_spans"]]
        assert stripped["assistant_spans"] == spans


def test_strip_in_every_text_view(convert: Convert) -> None:
    prompt = "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\n"
    strip, rows = ("--end", "strip"), ROWS[:1]
    assert convert("chatml", *strip, "--to", "prompt-completion", rows=rows) == [
        {"prompt": prompt, "completion": "Hello<|im_end|>"}
    ]
    assert convert("chatml", *strip, "--to", "prompt", rows=rows) == [{"prompt": prompt}]
    assert convert("chatml", *strip, "--to", "segments", rows=rows) == [
        {"segments": [{"text": prompt, "label": False}, {"text": "Hello<|im_end|>", "label": True}]}
    ]
    assert convert("chatml", *strip, "--generation-prompt", rows=[[USER]]) == [{"text": prompt}]
    assert convert("chatml", *strip, "--continue-final", rows=rows) == [{"text": prompt + "Hello"}]
    assert convert("chatml", *strip, rows=[[USER]]) == [{"text": "<|im_start|>user\nHi <|im_end|>"}]


def test_eos_is_added_and_trained_where_the_template_prints_no_stop_token(convert: Convert) -> None:
    (one, two) = convert("glm-4", "--mask", "--end", "eos")
    assert one["text"] == "[gMASK]<sop><|user|>\nHi <|assistant|>\nHello<|endoftext|>"
    assert [text.lstrip() for text in trained(one)] == ["Hello<|endoftext|>"]
    assert two["text"].endswith("a\n\n<|endoftext|>") and trained(two)[-1].endswith("a\n\n<|endoftext|>")
    (one, _) = convert("glm-4", "--mask", "--end", "eos", "--no-mask-stop-token")
    assert trained(one) == ["Hello"]
    assert convert("glm-4", "--end", "eos", "--to", "prompt-completion", rows=ROWS[:1]) == [
        {"prompt": "[gMASK]<sop><|user|>\nHi <|assistant|>\n", "completion": "Hello<|endoftext|>"}
    ]
    for template in ("chatml", "llama-3", "gemma-3", "phi-3"):
        assert convert(template, "--end", "eos") == convert(template)
    assert trained(convert("glm-4", "--mask", "--end", "cut")[0]) == ["Hello"]  # for a trainer that adds one


@pytest.mark.parametrize(("template", "name"), [(PLAIN, PLAIN), (STOPS_WITHIN, "inline")])
def test_eos_needs_a_token(convert: Convert, capsys: pytest.CaptureFixture[str], template: str, name: str) -> None:
    assert convert("tagged.jinja", "--end", "eos") == convert("tagged.jinja")  # it has a stop token
    assert main(["convert", "in.jsonl", "-t", template, "--end", "eos"]) == 2
    assert capsys.readouterr().err == (
        f"error: in.jsonl: the template `{name}` names no EOS token for `--end eos` to add\n"
        "hint: --var eos_token=TOKEN, or --end keep\n"
    )
    made = convert(template, "--var", "eos_token=</s>", "--end", "eos", rows=ROWS[:1])
    assert [row["text"][-9:] for row in made] == ["Hello</s>"]


@pytest.mark.parametrize("template", ["chatml", "llama-3", "gemma-3", "tagged.jinja", "glm-4", "phi-3"])
def test_cut_leaves_out_the_last_stop_token(convert: Convert, template: str) -> None:
    mask = ["--mask", *(["--no-mask-stop-token"] if template == "glm-4" else [])]
    before, after = (convert(template, *mask, "--end", end) for end in ("strip", "cut"))
    assert len(before) == len(after) == 2
    stops = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end|>")
    for kept, cut in zip(before, after, strict=True):
        stop = next((stop for stop in stops if kept["text"].endswith(stop)), "")
        assert cut["text"] == kept["text"].removesuffix(stop) and bool(stop) == (template != "glm-4")
        spans = [[start, min(end, len(cut["text"]))] for start, end in kept["assistant_spans"]]
        assert cut["assistant_spans"] == spans


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--end strip", "`--end` applies to rendered text, and no template was given\nhint: -t chatml"),
        ("--bos strip", "`--bos` applies to rendered text, and no template was given\nhint: -t chatml"),
        (
            "-t chatml --to messages --end eos",
            "in.jsonl: `--end` applies to rendered text, and `--to messages` writes none\nhint: leave it out",
        ),
        (
            "-t chatml --for ms-swift --mask",
            "in.jsonl: `--mask` applies to rendered text, and `--to messages` writes none\nhint: leave it out",
        ),
        (
            "-t chatml --to prompt-completion --mask",
            "in.jsonl: `--mask` adds no spans to `--to prompt-completion`\nhint: leave it out, or --to text",
        ),
    ],
)  # fmt: skip
def test_options_about_text_need_a_template_and_a_view_of_text(
    flags: str, error: str, convert: Convert, capsys: pytest.CaptureFixture[str]
) -> None:
    convert("chatml")
    assert main(["convert", "in.jsonl", *flags.split()]) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def card(template: str, *flags: str) -> str:
    """What the card says on tokens."""
    assert main(["convert", "in.jsonl", "-t", template, "-o", "out", "-q", "--overwrite", *flags]) == 0
    section = Path("out/README.md").read_text().partition("## Train with it\n\n")[2]
    return section.partition("\n\n")[0].strip()


def test_the_card_says_which_tokens_a_text_has(convert: Convert) -> None:
    convert("chatml")
    has = "The text holds the special tokens of its chat template already. "
    no_more, ends = "Tokenize it with `add_special_tokens=False`.", "It ends with"
    assert card("llama-3") == f"{has}{no_more} {ends} `<|eot_id|>`."
    bos = "Only `<|begin_of_text|>` was left out of its start, for a tokenizer that adds it."
    assert card("llama-3", "--bos", "strip") == f"{has}{bos} {ends} `<|eot_id|>`."
    assert card("chatml") == f"{has}{no_more} {ends} `<|im_end|>\\n`."
    assert card("chatml", "--end", "strip") == f"{has}{no_more} {ends} `<|im_end|>`."
    assert card("glm-4") == f"{has}{no_more}"
    assert card("glm-4", "--end", "eos") == f"{has}{no_more} {ends} `<|endoftext|>`."
    assert card("chatml", "--to", "prompt") == f"{has}{no_more}"
    assert card("chatml", "--to", "messages") == ""
    spans = "Trainers do not read `assistant_spans`: convert with `--to tokens` to train on that text alone."
    assert card("chatml", "--mask") == f"{has}{no_more} {ends} `<|im_end|>\\n`. {spans}"


def test_a_bos_token_that_opens_turns_is_kept(convert: Convert, capsys: pytest.CaptureFixture[str]) -> None:
    for template in ("smollm2", "olmo-2"):
        assert convert(template, "--bos", "strip") == convert(template)
    for template in ("llama-2", "llama-3"):
        assert convert(template, "--bos", "strip") != convert(template)
    assert main(["convert", "in.jsonl", "-t", "smollm2", "--bos", "strip", "-o", "out.jsonl", "--system", "S"]) == 0
    note = "note: `--bos strip` keeps the BOS token of the template `smollm2`, which also opens or ends turns"
    assert capsys.readouterr().err.splitlines()[0] == note
    assert main(["templates", "probe", "smollm2", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["bos_opens_turns"] and "--bos strip" not in card["flags"]


def test_the_probe_shows_both_ends(capsys: pytest.CaptureFixture[str]) -> None:
    for name, start, end in (
        ("llama-3", "<|begin_of_text|><|start_header_id|>user", "<|eot_id|>"),
        ("chatml", "<|im_start|>user\n", "<|im_end|>\n"),
        ("glm-4", "[gMASK]<sop><|user|>\n", ""),
    ):
        assert main(["templates", "probe", name, "--json"]) == 0
        card = json.loads(capsys.readouterr().out)
        assert (card["begins_with"], card["ends_with"]) == (start, end)


WITH_BOS = (
    "command-r", "deepseek-v3", "falcon-h1", "gemma-3", "lfm2", "llama-2", "llama-3.1", "mistral-v7", "openchat",
    "vicuna",
)  # fmt: skip


@pytest.mark.parametrize("name", WITH_BOS)
def test_a_tokenizer_and_a_trainer_make_one_bos_and_one_eos(convert: Convert, name: str) -> None:
    """The one adds BOS to the text, the other appends EOS to a text that does not end with it."""
    tokens = ChatTemplate.load(name).special_tokens
    bos, eos = tokens["bos_token"], tokens["eos_token"]
    (row,) = convert(name, "--bos", "strip", "--end", "strip", rows=[[USER, ANSWER]], engines=["jinja"])
    text = bos + row["text"] + ("" if row["text"].endswith(eos) else eos)
    (kept,) = convert(name, rows=[[USER, ANSWER]], engines=["jinja"])
    whole = kept["text"] if kept["text"].startswith(bos) else bos + kept["text"]
    assert text == whole.rstrip() or (name == "gemma-3" and text == whole.rstrip() + eos)  # its stop token is another
    assert text.rpartition("Hello")[2].count(eos) == 1
