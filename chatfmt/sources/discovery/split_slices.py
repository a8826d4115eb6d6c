"""Parse `--split`: names and slices of splits, with the grammar and rounding of `datasets`.

train   all   train[:100]   train[10%:20%]   train[-5%:](pct1_dropremainder)   train[:10%]+test[5:]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ...errors import UnknownName, UsageError

_SLICE = re.compile(
    r"(?P<split>\w+(?:\.\w+)*)"
    r"(?P<range>\[(?:(?P<first>-?[\d_]+)(?P<first_percent>%)?)?:(?:(?P<stop>-?[\d_]+)(?P<stop_percent>%)?)?\])?"
    r"(?:\((?P<rounding>[^)]*)\))?"
)
_FULL = 100


class Slice(Struct, frozen=True):
    """A split and the requested part of it; bounds in rows or, with `percent`, in hundredths of its rows."""

    split: str
    first: int | None = None
    stop: int | None = None
    percent: bool = False
    rounding: str = "closest"

    @property
    def is_all(self) -> bool:
        return self.first is None and self.stop is None

    def bounds(self, rows: int) -> tuple[int, int]:
        """[first, stop) in a split of `rows` rows. Raises UsageError if there are too few rows for this rounding."""
        first = 0 if self.first is None else self._in_rows(self.first, rows)
        stop = rows if self.stop is None else self._in_rows(self.stop, rows)
        first, stop = (max(rows + bound, 0) if bound < 0 else min(bound, rows) for bound in (first, stop))
        return first, max(first, stop)

    def _in_rows(self, bound: int, rows: int) -> int:
        if not self.percent:
            return bound
        if self.rounding == "closest":
            return round(bound * rows / 100.0)
        if rows < _FULL:
            raise UsageError(f"`pct1_dropremainder` of `{self.split}` is empty: the split has fewer than 100 rows")
        return bound * (rows // _FULL)


def parse_slices(text: str) -> list[Slice]:
    """Parse slices joined by `+`. Raises UsageError."""
    return [_parse_slice(part.strip(), text) for part in text.split("+")]


def _parse_slice(part: str, text: str) -> Slice:
    found = _SLICE.fullmatch(part)
    if not found:
        raise UsageError(f"invalid `--split {text}`", hint="such as `train`, `train[:100]` or `train[10%:20%]`")
    percents = {bool(found[f"{end}_percent"]) for end in ("first", "stop") if found[end]}
    first, stop = (int(found[end]) if found[end] else None for end in ("first", "stop"))
    rounding = found["rounding"] or "closest"
    if rounding not in ("closest", "pct1_dropremainder"):
        raise UsageError(
            f"`--split {text}`: unknown rounding `{rounding}`", hint="use `closest` or `pct1_dropremainder`"
        )
    percent = True in percents
    if percent and any(bound is not None and abs(bound) > _FULL for bound in (first, stop)):
        raise UsageError(f"`--split {text}`: a percentage must be between -100 and 100")
    return Slice(found["split"], first, stop, percent, rounding)


def select_slices(split: str | None, names: Sequence[str]) -> list[Slice]:
    """The slices in `split` for a source with splits of these names; by default all of `train`, or the only split.

    Raises UnknownName for an unknown split, UsageError if there is no default.
    """
    if split is None:
        return [Slice(default_split(names))]
    if split == "all" and "all" not in names:
        return [Slice(name) for name in names]
    slices = parse_slices(split)
    for part in slices:
        if part.split not in names:
            raise unknown("split", part.split, names)
    return slices


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for an unknown split or subset; the hint has the nearest name and all names."""
    names = list(known)
    error = UnknownName.of(kind, name, names)
    if error.hint.startswith("did you mean"):
        error.hint += f" There are: {', '.join(names)}"
    return error


def default_split(names: Sequence[str]) -> str:
    """`train`, or else the only split. Raises UsageError."""
    if "train" in names:
        return "train"
    if len(names) == 1:
        return names[0]
    raise UsageError(
        f"there is no split `train`, but {', '.join(f'`{name}`' for name in names)}",
        hint="name one with `--split`, or `--split all`",
    )
