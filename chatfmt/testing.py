"""Tests for authors of plug-ins (see `pipeline.plugins`): call them with rows as your users have them.

```python
def test_haiku():
    assert check_dialect("haiku", [{"haiku": ["x", "y", "z"]}]) == [{"messages": [...]}]
```

Each raises AssertionError with what is broken, and returns what the rows become, for the test to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from .dialects import DIALECTS, Columns, detect
from .json_columns import columns_of, decode_objects, encode_objects
from .pipeline.plugins import load_plugins
from .schema import CONVERSATION_COLUMNS, CONVERSATIONS, ROLES, ROW
from .views import VIEWS
from .views.batch import RenderableBatch

Rows = Sequence[Mapping[str, Any]]


def check_dialect(name: str, rows: Rows, *, detected: bool = True) -> list[dict[str, Any]]:
    """Return the conversations that a dialect makes of source rows.

    The dialect is found without `--dialect` if `detected`; each column has the name and each role the meaning that
    chatfmt knows; rows do not depend on those beside them; and it names the columns it reads.
    """
    load_plugins()
    dialect, batch = DIALECTS[name], _source(rows)
    found = detect([batch], Columns(), "auto" if detected else name)
    assert found.dialect == name, f"the rows are read by `{found.dialect}`: {found.reason}"
    columns = found.columns
    unread = [number for number, row in enumerate(rows) if not dialect.find_parts(row, columns)]
    assert not unread, f"`find_parts` finds nothing in rows {unread}"
    made = dialect.convert(batch, columns)
    unknown = {*made.schema.names} - {*CONVERSATIONS}
    assert not unknown, f"a CONVERSATIONS batch has no column {sorted(unknown)}"
    assert made.column("row").type == pa.int64(), "the column `row` has the numbers of the source rows, as int64"
    numbers, conversations = made.column("row").to_pylist(), _values(made)
    assert numbers == sorted(numbers), "conversations come in the order of their rows"
    for turn in (turn for row in conversations for key in CONVERSATION_COLUMNS for turn in row.get(key) or ()):
        assert turn.get("role") in ROLES, f"the role of a turn is one of {ROLES}, not {turn.get('role')!r}"
    if not dialect.whole_file:
        _check_slices(batch, lambda part: _values(dialect.convert(part, columns)), conversations)
    return conversations


def check_view(name: str, rows: Rows, source: str = "auto") -> list[dict[str, Any]]:
    """Return the rows that a view without a template makes of source rows in the dialect `source`.

    Each column has one value per conversation, or the same number of values; the names are those that it declares; and
    rows do not depend on those beside them.
    """
    load_plugins()
    batch, view = _source(rows), VIEWS[name]
    found = detect([batch], Columns(), source)

    def convert(part: pa.RecordBatch) -> list[dict[str, Any]]:
        made = view.fields(RenderableBatch(DIALECTS[found.dialect].convert(part, found.columns), None))
        undeclared = made.keys() - {*view.columns}
        assert not undeclared, f"the view declares the columns {view.columns}, and makes {sorted(undeclared)}"
        lengths = {column: len(values) for column, values in made.items()}
        assert len({*lengths.values()}) == 1, f"the columns differ in length: {lengths}"
        return _values(pa.RecordBatch.from_pydict(made))

    whole = convert(batch)
    assert not len(whole) % len(batch), f"{len(batch)} conversations become {len(whole)} rows"
    _check_slices(batch, convert, whole)
    return whole


def _source(rows: Rows) -> pa.RecordBatch:
    assert rows, "give at least one row"
    return pa.RecordBatch.from_pydict({ROW: pa.array(range(len(rows)), pa.int64()), **encode_objects(rows)})


def _values(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    rows = decode_objects(columns_of(batch))
    return [{key: value for key, value in row.items() if key != "row" and value is not None} for row in rows]


def _check_slices(
    batch: pa.RecordBatch, convert: Callable[[pa.RecordBatch], list[dict[str, Any]]], whole: list[dict[str, Any]]
) -> None:
    parts = [row for start in range(len(batch)) for row in convert(batch.slice(start, 1))]
    assert parts == whole, "a row becomes something else if it is alone in its batch"
