"""Prompts whose rendered text the rendered conversation does not start with, and pairs that differ in type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import chatfmt
from chatfmt.errors import Location, RowError
from chatfmt.json_columns import encode_conversations
from chatfmt.recipe import Recipe
from chatfmt.rendering import ConversationBatch, Rendered, RenderRequest
from chatfmt.views.batch import RenderableBatch
from chatfmt.views.boundary import cut_texts
from chatfmt.views.split import preference

from ..conftest import read_rows, write_rows

U, A = ({"role": role, "content": role[0]} for role in ("user", "assistant"))
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
GENERATION = TURNS + "{% if add_generation_prompt %}<go>{% endif %}"
LENGTH = "{{ messages | length }}" + TURNS


def convert(folder: Path, template: str | None, row: dict[str, Any], **recipe: Any) -> list[dict[str, Any]]:
    (folder / "own.jinja").write_text(template or "")
    write_rows(folder / "in.jsonl", [row])
    named = str(folder / "own.jinja") if template else None
    made = Recipe(source=str(folder / "in.jsonl"), template=named, **recipe)
    chatfmt.convert(made, out=folder / "out.jsonl", overwrite=True)
    return read_rows(folder / "out.jsonl")


@pytest.mark.parametrize(("template", "prompt"), [(GENERATION, "[user]u[assistant]"), (LENGTH, "2[user]u[assistant]")])
def test_a_prompt_that_differs_before_its_answer_ends_where_the_answer_begins(
    template: str, prompt: str, tmp_path: Path
) -> None:
    row = {"prompt": [U], "completion": [A]}
    assert convert(tmp_path, template, row) == [{"prompt": prompt, "completion": "a"}]
    pair = {"prompt": [U], "chosen": [A], "rejected": [{**A, "content": "b"}]}
    assert convert(tmp_path, template, pair) == [{"prompt": prompt, "chosen": "a", "rejected": "b"}]


def test_answers_that_change_the_prompt_cannot_be_cut(tmp_path: Path) -> None:
    pair = {"prompt": [U], "chosen": [A], "rejected": [A, U, A]}
    with pytest.raises(RowError, match="renders the prompt differently for each answer") as caught:
        convert(tmp_path, LENGTH, pair)
    assert (caught.value.code, caught.value.at.row) == ("view.boundary", 0)


def renders(chats: ConversationBatch, request: RenderRequest, failures: Any = None) -> Rendered:
    """Each conversation as its contents; a prompt of one row as text that no conversation starts with."""
    texts = ["".join(turn["content"] for turn in turns) for turns in chats.messages.to_pylist()]
    is_odd = [bool(request.generation_prompt) and "x" in text for text in texts]
    return Rendered(pa.array([f"prompt {text}" if odd else text for text, odd in zip(texts, is_odd, strict=True)]))


def test_the_error_names_the_row_in_the_batch() -> None:
    prompts = encode_conversations([[U], [{**U, "content": "x"}]])
    answers = encode_conversations([[A], [A]])
    rows = RenderableBatch(pa.RecordBatch.from_pydict({"row": [0, 1]}), renders)
    with pytest.raises(RowError) as caught:
        cut_texts(rows, prompts, [answers])
    assert (caught.value.code, caught.value.at.row) == ("view.boundary", 1)


def test_an_error_of_the_finder_names_the_row_in_the_batch() -> None:
    def fails(chats: ConversationBatch, first: Any) -> list[int]:
        assert (len(chats), list(first)) == (1, [1])
        raise RowError("no answer", at=Location(row=0))

    prompts = encode_conversations([[U], [{**U, "content": "x"}]])
    rows = RenderableBatch(pa.RecordBatch.from_pydict({"row": [0, 1]}), renders, find_answer=fails)
    with pytest.raises(RowError) as caught:
        cut_texts(rows, prompts, [encode_conversations([[A], [A]])])
    assert caught.value.at.row == 1


def test_answers_of_two_types_become_one_column(tmp_path: Path) -> None:
    parts = {"role": "assistant", "content": [{"type": "image"}, {"type": "text", "text": "b"}]}
    pair = {"prompt": [U], "chosen": [A], "rejected": [parts], "images": ["b.png"]}
    made = convert(tmp_path, None, pair, to="unpaired-preference")
    assert [(row["completion"], row["label"]) for row in made] == [([A], True), ([parts], False)]


def test_one_side_of_a_pair_may_not_be_missing(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_arrays(
        [encode_conversations([[U, A], [U, A]]), encode_conversations([[U, A], None])], names=["chosen", "rejected"]
    )
    with pytest.raises(RowError, match="one side of the pair is missing") as caught:
        preference(RenderableBatch(batch, None))
    assert (caught.value.code, caught.value.at.row) == ("view.pair", 1)
