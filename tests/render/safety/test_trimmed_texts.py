"""White space that a template trims from texts is reported by role, whichever row has it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chatfmt.json_columns import JSON, encode_conversations
from chatfmt.render.safety.content_loss import LossGuard
from chatfmt.render.safety.trimmed_texts import has_blank_edges
from chatfmt.rendering import ConversationBatch, Rendered
from tests.cli.test_summary_counts import write
from tests.conftest import run_cli
from tests.render.templates import CHATML, NO_SYSTEM, THINKER, say, template_renderer

PLAIN = [say("user", "Why?"), say("assistant", "Because.")]


def left_out(template: str, *rows: list[dict[str, Any]]) -> list[str]:
    guard, texts = LossGuard(template_renderer(template)), pa.array([""] * len(rows))
    known = Rendered(texts, all_printed=np.ones(len(rows), np.bool_))
    assert guard.check(ConversationBatch(encode_conversations(rows)), known) is None
    return [*guard.accepted]


@pytest.mark.parametrize(
    "text", [" yes", "yes\n", "\tyes", "\u3000yes", "yes\u00a0", [{"type": "text", "text": " yes"}]]
)
def test_the_role_of_a_trimmed_text_is_named(text: Any) -> None:
    template = NO_SYSTEM.replace("m.content | trim", "(m.content if m.content is string else m.content[0].text) | trim")
    row = [PLAIN[0], say("assistant", text)]
    assert left_out(template, *[PLAIN] * 300, row, row) == ["white space around assistant texts"]
    assert left_out(template.replace("| trim", ""), *[PLAIN] * 300, row) == []


def test_white_space_at_one_end_may_be_kept() -> None:
    assert left_out(CHATML.replace("m.content", "m.content.lstrip()"), [say("user", " x ")]) == [
        "white space around user texts"
    ]
    assert left_out(CHATML.replace("m.content", "m.content.lstrip()"), [say("user", "x ")]) == []


def test_texts_that_are_not_printed_are_not_trimmed() -> None:
    earlier = say("assistant", "Two.", reasoning_content="\nCount.\n")
    assert left_out(THINKER, [PLAIN[0], earlier, *PLAIN]) == []
    trimming = THINKER.replace("(m.reasoning_content or '')", "(m.reasoning_content or '').strip()")
    assert left_out(trimming, [PLAIN[0], earlier]) == ["white space around assistant reasoning"]


def test_edges_are_found_in_slices_and_between_nulls() -> None:
    texts = pa.array(["x", None, "", " a", "b", "c\n", "\u3000d", "\u300cd", "é", "e\u00a0", " "])
    wanted = [False, False, False, True, False, True, True, False, False, True, True]
    assert has_blank_edges(texts).tolist() == wanted
    assert has_blank_edges(texts.slice(3, 4)).tolist() == wanted[3:7]
    values = ['" x"', '"x\\n"', '"x y"', '[{"type":"text","text":"x "}]', '{"a": 1}', None]
    assert has_blank_edges(pa.array(values, JSON)).tolist() == [True, True, False, True, False, False]


def test_the_summary_and_check_report_it(tmp_path) -> None:
    write(tmp_path / "in.jsonl", PLAIN, [PLAIN[0], say("assistant", " Yes.")])
    line = "left out by the template: white space around assistant texts"
    run = run_cli("convert", "in.jsonl", "-t", "llama-3", "-o", "out.jsonl", cwd=tmp_path)
    assert run.stderr.decode().splitlines()[-1] == line
    assert "Yes." in (tmp_path / "out.jsonl").read_text() and " Yes." not in (tmp_path / "out.jsonl").read_text()
    assert run_cli("check", "in.jsonl", "-t", "llama-3", cwd=tmp_path).stdout.decode().splitlines() == [
        "2 rows, no problems",
        line,
    ]
    checked = run_cli("check", "in.jsonl", "-t", "llama-3", "--json", cwd=tmp_path)
    assert json.loads(checked.stdout)["left_out"] == ["white space around assistant texts"]
    assert line not in run_cli("convert", "in.jsonl", "-t", "chatml", "-o", "b.jsonl", cwd=tmp_path).stderr.decode()
