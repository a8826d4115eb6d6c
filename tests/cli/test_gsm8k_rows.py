"""Every row of gsm8k through the command line, against transformers and the models' own templates."""

from __future__ import annotations

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from chatfmt import ChatTemplate

from ..conftest import SHARED, TRL_TEMPLATES, needs_shared, needs_trl, read_rows, run_cli, succeed

OWN = {"chatml": None, "llama-3.1": "llama3_1.jinja", "qwen3": "qwen3.jinja"}
TOKENS = {"llama-3.1": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}}


@needs_shared
@needs_trl
@pytest.mark.parametrize("template", OWN)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_row_equals_transformers(template, split, tmp_path):
    source = SHARED / "data" / f"gsm8k_{split}.jsonl"
    succeed(run_cli("convert", source, "-t", template, "-o", tmp_path / "out.jsonl"))
    rows = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        for row in read_rows(source)
    ]
    own = OWN[template]
    text = (TRL_TEMPLATES / own).read_text(encoding="utf-8") if own else ChatTemplate.load(template).text
    variables = {**TOKENS.get(template, {}), **({"date_string": "26 Jul 2024"} if template == "llama-3.1" else {})}
    expected, _ = render_jinja_template(rows, chat_template=text, tools=None, documents=None, **variables)
    assert len(expected) == {"train": 7473, "test": 1319}[split]
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == expected
