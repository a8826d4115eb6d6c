"""RecordReader skips most dialects for most rows, and still reads each row as if it were the first."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from chatfmt.dialects import DIALECTS, Columns
from chatfmt.dialects.detection.detect import detectable
from chatfmt.dialects.detection.record_reader import RecordReader
from chatfmt.errors import NoDialect

from ..test_goldens import GOLDENS, read_golden


def records() -> Iterator[dict[str, Any]]:
    """Yield every golden row as it is, and with values removed, nulled, emptied or swapped with another row."""
    chance = random.Random(7)
    rows = [row for path in GOLDENS for row in read_golden(path)[1] if isinstance(row, dict) and row]
    for row in rows:
        yield row
        for _ in range(4):
            other = dict(row)
            key = chance.choice(list(other))
            change = chance.randrange(4)
            if change == 0:
                del other[key]
            else:
                other[key] = (None, "", chance.choice(list(chance.choice(rows).values())))[change - 1]
            yield other


def read_plainly(record: Mapping[str, Any], columns: Columns) -> Any:
    for name, dialect in detectable(DIALECTS, columns).items():
        parts = dialect.find_parts(record, columns)
        if parts is not None:
            return name, parts
    return None


def outcome(read: Any, *given: Any) -> Any:
    try:
        return read(*given)
    except NoDialect as error:
        return error.message


def test_earlier_rows_do_not_change_a_reading():
    many = list(records())
    random.Random(3).shuffle(many)
    found: Counter[str] = Counter()
    for columns in (Columns(), Columns(fields={"messages": "turns"}), Columns(turn_roles=("user", "assistant"))):
        reader = RecordReader(detectable(DIALECTS, columns), columns)
        for record in [*many, *many]:
            expected = outcome(read_plainly, record, columns)
            assert outcome(reader, record) == expected, record
            found[expected[0] if isinstance(expected, tuple) else str(expected)] += 1
    assert len(found) > 30
    assert sum(found.values()) > 5000


def test_a_dialect_that_read_a_value_is_tried_again():
    reader = RecordReader(detectable(DIALECTS, Columns()), Columns())
    assert reader({"text": "a", "label": True}) == outcome(read_plainly, {"text": "a", "label": True}, Columns())
    for record in ({"messages": 1}, {"messages": []}, {"messages": [{"role": "user", "content": "a"}]}):
        assert reader(record) == read_plainly(record, Columns())
