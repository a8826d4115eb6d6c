"""The order of `--order-by`: of numbers, times and text of one width; other text would not sort as it is counted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from ...errors import Location, UsageError

_NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d{1,300})?")
_NAMES = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|"
    "dec(ember)?|mon(day)?|tue(s(day)?)?|wed(nesday)?|thu(rs?(day)?)?|fri(day)?|sat(urday)?|sun(day)?"
)
_OTHER_TIME = re.compile(
    rf"^(?!\d{{4}}/\d\d/\d\d(?!\d)).*/|(?<![a-z\d])\d\d?\s*[ap]\.?m(?![a-z\d])|(?<!\d)\d\d?([.-])\d\d?\1\d{{4}}(?!\d)"
    rf"|(?<![a-z\d])(\d\d?)?({_NAMES})(\d\d|\d{{4}})?(?![a-z\d])",
    re.IGNORECASE,
)
"""What a time looks like that does not sort as text: `12/31/2023`, `09:00 PM`, `31.12.2023`, `02 Jan`."""
_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "a number": lambda value: value,
    "a number as text": Decimal,
    "a time with an offset": datetime.fromisoformat,
    "a time": datetime.fromisoformat,
}
"""The ways to read values of a column, the first that fits all of them wins, each with the key to sort by."""


class Order:
    """The values seen in the order column, and how all of them are read: `"9"` before `"10"`, a time by its instant."""

    def __init__(self, column: str) -> None:
        self.column = column
        self._kinds: list[str] | None = None
        self._first: tuple[Any, Location] = (None, Location())

    def see(self, value: Any, at: Location) -> None:
        """Take note of a value; raises UsageError if it has no order together with those before."""
        if self._kinds is None:
            self._kinds, self._first = kinds_of(value), (value, at)
        elif kinds_of(value) != self._kinds:
            mine = kinds_of(value)
            self._kinds = [kind for kind in self._kinds if kind in mine]
        if not self._kinds:
            first, place = self._first
            alone, both = f"{_named(first)} ({place}) has", f"{_named(first)} ({place}) and {_named(value)} ({at}) have"
            times = {kind for kind in (*kinds_of(first), *kinds_of(value)) if kind.startswith("a time")}
            why = ": one has a time zone, the other has none" if len(times) > 1 else ""
            raise UsageError(
                f"`--order-by {self.column}`: {alone if at == place else both} no order{why}",
                hint="name a column of numbers, of ISO 8601 times or of text of one width; without --order-by rows "
                "keep the order of the file",
            )

    def key(self, value: Any) -> Any:
        """Return what a value is sorted by."""
        kind = self._kinds[0] if self._kinds else ""
        return _KINDS[kind](value) if kind in _KINDS else value


def kinds_of(value: Any) -> list[str]:
    """Return the ways to read a value that have an order; none for a truth value, a list or an object."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return ["a number"] if math.isfinite(value) else []
    if not isinstance(value, str):
        return []
    found = ["a number as text"] if _NUMBER.fullmatch(value) else []
    if (time := _time(value)) is not None:
        found.append("a time" if time.tzinfo is None else "a time with an offset")
    if len(value) == 1 or (any(letter.isdigit() for letter in value) and not _OTHER_TIME.search(value)):
        found.append(f"text of {len(value)} characters")
    return found


def _time(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _named(value: Any) -> str:
    shown = str(value)
    return f"`{shown if len(shown) <= 40 else shown[:40] + '…'}`"
