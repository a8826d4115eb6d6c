"""The prompt that two texts share has the same length as in TRL, except where TRL is wrong."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatfmt.dialects import DIALECTS, Columns
from chatfmt.dialects.preference.chosen_rejected import shared_length
from chatfmt.errors import DialectError

from ..conftest import TRL_TEMPLATES
from .batches import convert, to_batch

TEXT = st.text(st.sampled_from("ab \u00e9"), max_size=6)


def trl_extract_prompt() -> Callable[[dict[str, str]], dict[str, str]]:
    """Return the function from TRL's source without importing TRL."""
    source = TRL_TEMPLATES.parent / "data_utils.py" if TRL_TEMPLATES is not None else None
    if source is None or not source.exists():
        pytest.skip("TRL's source is not here")
    found = [node for node in ast.parse(source.read_text()).body if getattr(node, "name", "") == "extract_prompt"]
    space: dict[str, Any] = {}
    exec(compile(ast.Module(found, []), "trl", "exec"), {"Sequence": list}, space)  # noqa: S102
    return space["extract_prompt"]  # type: ignore[no-any-return]


@given(TEXT, TEXT, TEXT)
@example("", "a ", "b")
@example("same", "", "")
@example("x ", "a", "b")
def test_texts_are_split_as_in_trl(prompt: str, chosen: str, rejected: str) -> None:
    chosen, rejected = prompt + chosen, prompt + rejected
    cut = shared_length(chosen, rejected)
    assert chosen[:cut] == rejected[:cut]
    extract = trl_extract_prompt()
    if not chosen or not rejected or chosen[0] != rejected[0]:  # TRL raises, or uses the end of `chosen` as the prompt
        assert cut == 0
        return
    want = extract({"chosen": chosen, "rejected": rejected})
    assert {"prompt": chosen[:cut], "chosen": chosen[cut:], "rejected": rejected[cut:]} == want


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_prompt_and_answer_are_the_original_text(pairs: list[tuple[str, str]]) -> None:
    made, _ = convert([{"chosen": chosen, "rejected": rejected} for chosen, rejected in pairs], dialect="preference")
    for row, (chosen, rejected) in zip(made, pairs, strict=True):
        assert [turn["role"] for part in ("prompt", "chosen") for turn in row[part]] in (
            ["user", "assistant"], ["assistant"],
        )  # fmt: skip
        before = "".join(turn["content"] for turn in row["prompt"])
        assert before + row["chosen"][0]["content"] == chosen
        assert before + row["rejected"][0]["content"] == rejected


def test_texts_without_the_prompt_that_other_batches_have_are_refused() -> None:
    columns = Columns(fields={name: name for name in ("prompt", "chosen", "rejected")})
    with pytest.raises(DialectError) as caught:
        DIALECTS["preference"].convert(to_batch([{"chosen": "Blue.", "rejected": "Green."}]), columns)
    assert (caught.value.code, caught.value.message) == ("col.missing", "column `prompt` is missing")
