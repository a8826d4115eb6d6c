"""An entry of VIEWS is all that a new view needs: help, masks, tokens, notes and the conversion read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatfmt.cli import main
from chatfmt.views import VIEWS, View
from chatfmt.views.batch import Fields, RenderableBatch, whole_conversations

from ..conftest import read_rows, write_rows

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ROW = {"messages": TURNS}
SPANS = {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n", "assistant_spans": [[51, 62]]}


def turns(batch: RenderableBatch) -> Fields:
    return {"turns": whole_conversations(batch)}


def trained(batch: RenderableBatch) -> Fields:
    rendered = batch.render(whole_conversations(batch), spans=True)
    assert rendered.spans is not None
    return {"text": rendered.text, "assistant_spans": rendered.spans}


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that registers a view as `dummy` and converts rows with flags: exit code, output rows, stderr."""

    def run(view: View, *flags: str, row: dict[str, Any] = ROW) -> tuple[int, list[Any], str]:
        monkeypatch.setitem(VIEWS, "dummy", view)
        source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        write_rows(source, [row])
        command = ["convert", str(source), "-o", str(out), "--overwrite", "--executor", "serial", *flags]
        code = main(command)
        rows = read_rows(out) if code == 0 else []
        return code, rows, capsys.readouterr().err

    return run


def test_help_and_errors_name_it(convert: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, said = convert(View(turns, "turns"), "--to", "dumy")
    assert "did you mean `dummy`?" in said
    assert main(["convert", "--help-all"]) == 0
    assert "stepwise, tokens, dummy." in " ".join(capsys.readouterr().out.split())


def test_a_view_without_needs(convert: Any) -> None:
    assert convert(View(turns, "turns"), "--to", "dummy")[:2] == (0, [{"turns": TURNS}])


def test_a_view_of_spans_has_them_without_mask(convert: Any) -> None:
    flags = ("--to", "dummy", "-t", "chatml")
    assert convert(View(trained, "spans", needs_spans=True), *flags)[:2] == (0, [SPANS])


def test_a_view_that_takes_the_mask_leaves_out_a_kept_column_of_its_name(convert: Any) -> None:
    flags = ("--to", "dummy", "-t", "chatml", "--mask", "--keep", "all")
    _, rows, said = convert(View(trained, "spans", takes_mask=True), *flags, row={**ROW, "assistant_spans": "own"})
    assert rows == [SPANS] and "`--keep all` leaves out `assistant_spans`" in said


def test_a_view_of_tokens_needs_a_tokenizer(convert: Any) -> None:
    code, _, said = convert(View(trained, "ids", needs_spans=True, is_tokenized=True), "--to", "dummy", "-t", "chatml")
    assert code == 2 and "`--to dummy` needs a tokenizer" in said


@pytest.mark.parametrize(("beside", "noted"), [("", True), ("scores", False)])
def test_a_view_of_one_conversation_notes_what_it_leaves_out(convert: Any, beside: str, noted: bool) -> None:
    row = {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS[1:]}
    _, _, said = convert(View(turns, "turns", beside=beside), "--to", "dummy", row=row)
    assert ("`--to dummy` leaves out their `rejected`" in said) is noted


def test_auto_takes_the_view_of_the_type(convert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"prompt": TURNS[:1], "completion": TURNS[1:]}
    monkeypatch.delitem(VIEWS, "prompt-completion")
    assert convert(View(turns, "turns", own_type="prompt-completion"), row=row)[:2] == (0, [{"turns": TURNS}])
