"""Split rendered text into prompt and answer; prompt + answer == text of the whole conversation."""

from __future__ import annotations

import pyarrow as pa

from ..errors import RowError, located, refuse_rows
from ..turn_columns import last_roles, lengths_of
from .batch import RenderableBatch, join


def cut_texts(
    batch: RenderableBatch, prompts: pa.ListArray, answers: list[pa.ListArray]
) -> tuple[pa.Array, list[pa.Array]]:
    """Render each prompt, and with each of `answers` the text that follows it.

    The prompt ends after the generation prompt, or, where the rendered conversation does not start with the rendered
    prompt, where the answer's own text begins. Raises RowError `view.boundary` if two answers do not share the text
    before them.
    """
    joined = [join(prompts, answer) for answer in answers]
    wholes = [batch.render(turns).text.to_pylist() for turns in joined]
    opened = open_texts(batch, prompts)
    differing = [row for row, text in enumerate(opened) if not all(whole[row].startswith(text) for whole in wholes)]
    for row, text in zip(differing, _prompts_before_answer(batch, prompts, joined, wholes, differing), strict=True):
        opened[row] = text
    after = [
        pa.array([text[len(start) :] for text, start in zip(whole, opened, strict=True)], pa.string())
        for whole in wholes
    ]
    return pa.array(opened, pa.string()), after


def _prompts_before_answer(
    batch: RenderableBatch,
    prompts: pa.ListArray,
    joined: list[pa.ListArray],
    wholes: list[list[str]],
    differing: list[int],
) -> list[str]:
    """Return the text before the answer in rows `differing`, whose conversation does not start with the prompt."""
    if not differing:
        return []
    rows = pa.array(differing)
    some, first = batch.take(rows), lengths_of(prompts)[differing].tolist()
    if some.find_answer is None:
        refuse_rows(differing, _no_boundary)
        return []
    with located(rows=differing):
        cuts = [some.find_answer(some.with_messages(turns.take(rows)), first) for turns in joined]
    texts = [
        [whole[row][:cut] for row, cut in zip(differing, found, strict=True)]
        for whole, found in zip(wholes, cuts, strict=True)
    ]
    unlike = [row for index, row in enumerate(differing) if len({column[index] for column in texts}) > 1]
    refuse_rows(unlike, _no_boundary)
    return texts[0]


def _no_boundary(row: int) -> RowError:
    return RowError(
        "the template renders the prompt differently for each answer, so the text cannot be cut there",
        code="view.boundary",
        hint="--to segments or --to text --mask marks the answer in the whole text",
    )


def open_texts(batch: RenderableBatch, prompts: pa.ListArray) -> list[str]:
    """Render each prompt for the model to continue: with the generation prompt unless it ends with an assistant turn.

    A prompt without turns is the empty text. TRL renders prompts in the same way (`data_utils.apply_chat_template`),
    except that it trims a final assistant turn, which stays closed here.
    """
    roles = last_roles(prompts)
    texts: list[str] = [""] * len(roles)
    for asks in (True, False):
        rows = [row for row, role in enumerate(roles) if role is not None and (role != "assistant") is asks]
        if rows:
            chosen = pa.array(rows)
            with located(rows=rows):
                part = batch.take(chosen).render(prompts.take(chosen), generation_prompt=asks, is_prompt=True)
            for row, text in zip(rows, part.text.to_pylist(), strict=True):
                texts[row] = text
    return texts
