"""Settings are checked before a row is touched."""

from __future__ import annotations

import pyarrow as pa
import pytest

from chatfmt import transforms
from chatfmt.errors import UnknownName, UsageError

from .conversations import to_batch


def test_an_unknown_transform_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        transforms.check_settings({"sistem": "x"})
    assert (str(caught.value), caught.value.hint) == ("unknown transform `sistem`", "did you mean `system`?")


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("reasoning", "all", "reasoning=keep|last|drop|inline|split"),
        ("system", 3, "system=TEXT"),
        ("split_turns", "yes", "split_turns=true|false"),
        ("roles", {"a": 1}, 'roles={"OLD": "NEW"}'),
    ],
)
def test_a_value_it_does_not_take_is_refused(name: str, value: object, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        transforms.check_settings({name: value})
    assert str(caught.value) == f"`{value}` is not a valid value for the transform `{name}`"
    assert caught.value.hint == hint


def test_a_column_of_the_data_is_not_overwritten() -> None:
    batch = to_batch([{"messages": [{"role": "assistant", "content": "\n#### 1"}], "final_answer": "2"}])
    with pytest.raises(UsageError, match="there is a column `final_answer` already"):
        transforms.apply(batch, {"final_answer": "column"})


def test_the_new_column_stands_in_the_keys_of_rows_that_have_their_own() -> None:
    batch = to_batch([{"messages": [{"role": "assistant", "content": "a\n#### 1"}]}] * 2)
    batch = batch.append_column("a", pa.array(["x", None])).append_column("#keys", pa.array([None, '["a"]']))
    after, _ = transforms.apply(batch, {"final_answer": "column"})
    assert after.column("#keys").to_pylist() == [None, '["a","final_answer"]']
    assert after.column("final_answer").to_pylist() == ["1", "1"]
