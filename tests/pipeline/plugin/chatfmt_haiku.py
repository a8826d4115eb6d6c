"""A plug-in for chatfmt, as another package would have it: a dialect, a view, a transform and a check."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from chatfmt.checks import Check, Finding, Limits
from chatfmt.checks.column_view import ColumnView
from chatfmt.dialects import Columns, Dialect
from chatfmt.dialects.kit.columns import SourceRow
from chatfmt.dialects.kit.output import convert_rows
from chatfmt.transforms import Transform
from chatfmt.views import View
from chatfmt.views.batch import Fields, RenderableBatch, whole_conversations


def convert(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    return convert_rows(batch, columns, read)


def read(record: SourceRow, columns: Columns) -> dict[str, Any]:
    lines = record[columns.path("haiku") or "haiku"]
    return {"messages": [{"role": "user", "content": "Haiku?"}, {"role": "assistant", "content": "\n".join(lines)}]}


def find_parts(record: SourceRow, columns: Columns) -> Mapping[str, str] | None:
    path = columns.path("haiku") or "haiku"
    return {"haiku": path} if isinstance(record.get(path), list) else None


def count_turns(batch: RenderableBatch) -> Fields:
    turns = whole_conversations(batch)
    return {"turns": turns, "count": turns.value_lengths()}


def nothing(batch: pa.RecordBatch, value: Any) -> tuple[pa.RecordBatch, Counter[str]]:
    return batch, Counter({"calm": len(batch)})


def short(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    for row in range(len(view.column)):
        yield Finding("haiku.short", row, None, "a haiku is short", view.name)


HAIKU = Dialect(convert, find_parts, "poems in lines", rank=395, parts=frozenset({"haiku"}))
COUNTED = View(count_turns, "turns and their number", ("turns", "count"))
CALM = Transform(nothing, "nothing", "flag")
SHORT = Check("warning", short, "short poems")
WRONG = "not a dialect"
