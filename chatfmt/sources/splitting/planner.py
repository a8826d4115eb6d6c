"""Group the records of a source into shards, from the input and the shard options alone.

A shard is a run of consecutive records of one split. Small files share a shard; Parquet is split at row groups, plain
text at records. A file that cannot be read from the middle (compressed text, a JSON document) is one piece, or is read
from its beginning for every shard; see `unpack`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, groupby

from msgspec import Struct
from msgspec.structs import replace

from ...errors import ChatfmtError, RowError
from ..bytes.text import is_seekable
from ..discovery.split_slices import Slice, select_slices
from ..formats.columnar import open_parquet
from ..formats.jsonl import TextPosition
from ..formats.schemas import check_schemas
from ..model import ByteRange, InputSplit, RecordRange, RowGroups, Source, SourceFile, whole_file
from ..read import read
from ..sample import no_records_error
from .index import RecordIndex, find_record, index_file

SHARD_BYTES = 128 << 20
_MULTIPLE = 4
"""If there are several shards, their number is a multiple of this, to share evenly among two or four workers."""
_NEAR = 8
"""A file whose size differs from that of a shard by less than 1/8 is one shard, and need not be counted."""
_COUNTED = 8 << 20
"""Plain text of at most so many bytes is counted, so that the number of rows can be shown."""
_UNPACKED = 4
"""The assumed ratio of text to its compressed size."""


class FileSegment(Struct, frozen=True):
    """Records [first, stop) of a file that stay together; `stop` is None for all the rest, uncounted."""

    file: SourceFile
    first: int
    stop: int | None
    size: int


def plan_splits(
    source: Source, split: str | None = None, *, rows_per_shard: int | None = None, shard_bytes: int | None = None
) -> list[tuple[InputSplit, ...]]:
    """Plan the shards of `split` in the order of the input; each shard is a tuple of input splits.

    With `rows_per_shard` every shard but the last of a split has so many records, otherwise about `shard_bytes` of
    uncompressed input (by default at most 128 MiB, and a multiple of four shards if there are several). Raises
    UsageError or UnknownName for the split, InputError for files whose columns differ, or without any records.
    """
    planner = Planner(source)
    shards: list[tuple[InputSplit, ...]] = []
    for part in select_slices(split, list(source.splits)):
        check_schemas(source.splits[part.split])
        size = shard_bytes or planner.default_shard_bytes(part)
        units = planner.units(part, every_row=rows_per_shard is not None, shard_bytes=size)
        cut = _by_rows(units, rows_per_shard) if rows_per_shard else _by_bytes(units, size)
        shards += [tuple(planner.pieces(group, part.split)) for group in cut]
    if not source.options.allow_empty and not any(planner.has_rows(piece) for shard in shards for piece in shard):
        raise no_records_error(source.shown, split)
    return shards


def _by_rows(units: Iterable[FileSegment], rows: int) -> Iterator[list[FileSegment]]:
    """Group into exactly `rows` records, perhaps fewer in the last group."""
    group: list[FileSegment] = []
    room = rows
    for unit in units:
        assert unit.stop is not None
        first = unit.first
        while first < unit.stop:
            stop = min(unit.stop, first + room)
            group.append(replace(unit, first=first, stop=stop))
            room, first = room - (stop - first), stop
            if not room:
                yield group
                group, room = [], rows
    if group:
        yield group


def _by_bytes(units: Sequence[FileSegment], size: int) -> Iterator[list[FileSegment]]:
    """Group into as few groups as possible of about the same size, at most about `size` each."""
    total = sum(unit.size for unit in units)
    target = total / max(1, -(-total // size))
    middles = [end - unit.size / 2 for end, unit in zip(accumulate(unit.size for unit in units), units, strict=True)]
    for _, group in groupby(zip(units, middles, strict=True), lambda pair: int(pair[1] / target) if target else 0):
        yield [unit for unit, _ in group]


class Planner:
    """Splits the files of one source, and keeps their indexes."""

    def __init__(self, source: Source) -> None:
        self.options, self.splits = source.options, source.splits
        self.known: dict[tuple[str, int | None], RecordIndex] = {}
        self.groups: dict[str, list[FileSegment]] = {}

    def index(self, file: SourceFile, limit: int | None = None) -> RecordIndex:
        for key in ((file.uri, None), (file.uri, limit)):
            if key in self.known:
                return self.known[key]
        found = self.known[file.uri, limit] = index_file(file, self.options, limit)
        return found

    def default_shard_bytes(self, part: Slice) -> int:
        """The default number of bytes per shard."""
        total = sum(map(self._size, self.splits[part.split]))
        if total <= SHARD_BYTES:
            return SHARD_BYTES
        return -(-total // (_MULTIPLE * -(-total // (_MULTIPLE * SHARD_BYTES))))

    def units(self, part: Slice, *, every_row: bool, shard_bytes: int) -> list[FileSegment]:
        """The segments of the slice from which shards are grouped."""
        files = self.splits[part.split]
        if part.is_all and not every_row:
            total = sum(map(self._size, files))
            units = [unit for file in files for unit in self._fine(file, total > shard_bytes, shard_bytes)]
            return [self._counted(unit, total) for unit in units]
        needed = _rows_needed(part)
        counts: list[int] = []
        for file in files:
            left = None if needed is None else needed - sum(counts)
            counts.append(self.index(file, left).rows if left is None or left > 0 else 0)
        first, stop = part.bounds(sum(counts))
        units = []
        for file, count, before in zip(files, counts, accumulate(counts, initial=0), strict=False):
            begin, end = max(first - before, 0), min(stop - before, count)
            if begin < end:
                units.append(FileSegment(file, begin, end, self._size(file) * (end - begin) // max(count, 1)))
        return units

    def _size(self, file: SourceFile) -> int:
        if file.format == "parquet":
            return sum(unit.size for unit in self._row_groups(file))
        return file.size * (_UNPACKED if file.compression else 1)

    def _fine(self, file: SourceFile, cut: bool, shard_bytes: int) -> list[FileSegment]:
        if cut and file.format == "parquet":
            return self._row_groups(file)
        alone = abs(file.size - shard_bytes) * _NEAR < shard_bytes
        large = file.size > shard_bytes // 4 and not alone
        if cut and file.format != "arrow" and large and is_seekable(file, self.options):
            return self._between_marks(file)
        return [FileSegment(file, 0, None, self._size(file))]

    def _counted(self, unit: FileSegment, total: int) -> FileSegment:
        """The unit with its end, if that is cheap to find; errors are left to the reader."""
        cheap = total <= _COUNTED and unit.file.compression is None and self.options.field is None
        if unit.stop is None and (cheap or unit.file.format == "parquet"):
            with suppress(ChatfmtError):
                return replace(unit, stop=self.index(unit.file).rows)
        return unit

    def _row_groups(self, file: SourceFile) -> list[FileSegment]:
        """The row groups of a Parquet file; the footer is read once."""
        if file.uri not in self.groups:
            self.groups[file.uri] = found = _row_groups(file)
            self.known[file.uri, None] = RecordIndex((), (found[-1].stop or 0) if found else 0)
        return self.groups[file.uri]

    def _between_marks(self, file: SourceFile) -> list[FileSegment]:
        found = self.index(file)
        if not found.marks:
            return [FileSegment(file, 0, 0, file.size)]
        ends = [*found.marks[1:], TextPosition(found.rows, 0, file.size)]
        pairs = zip(found.marks, ends, strict=True)
        return [FileSegment(file, start.row, end.row, end.byte - start.byte) for start, end in pairs]

    def pieces(self, group: Sequence[FileSegment], split: str) -> Iterator[InputSplit]:
        """Yield the input splits of one shard; adjacent segments of a file become one."""
        for _, units in groupby(group, lambda unit: unit.file.uri):
            first, *rest = units
            last = rest[-1] if rest else first
            yield self._piece(first.file, first.first, last.stop, whole_file(first.file, split, self.options))

    def _piece(self, file: SourceFile, first: int, stop: int | None, plain: InputSplit) -> InputSplit:
        if stop is None:
            return plain
        rows = stop - first
        counted = replace(plain, first_row=first, rows=rows)
        found = self.known.get((file.uri, None))
        if first == 0 and found and stop == found.rows:
            return counted
        if file.format == "parquet":
            return replace(counted, piece=_row_groups_covering(self._row_groups(file), first, stop))
        if file.format == "arrow" or not is_seekable(file, self.options):
            return replace(counted, piece=RecordRange(first, rows))
        found = found or self.index(file)
        start = find_record(file, self.options, found, first) if first else TextPosition()
        end = find_record(file, self.options, found, stop).byte if stop < found.rows else file.size
        names = found.columns if first else None
        return replace(counted, piece=ByteRange(start.byte, end, start.line), columns=names)

    def has_rows(self, piece: InputSplit) -> bool:
        """Return whether a piece has any record, good or bad."""
        if piece.rows is not None:
            return piece.rows > 0
        bad: list[RowError] = []
        batches = read(piece, on_bad=lambda error, raw: bad.append(error), batch_rows=1)
        return next(batches, None) is not None or bool(bad)


def _rows_needed(part: Slice) -> int | None:
    """The number of rows to count to know the bounds of a slice; None for all."""
    fixed = not part.percent and part.stop is not None and part.stop >= 0 and (part.first or 0) >= 0
    return part.stop if fixed else None


def _row_groups(file: SourceFile) -> list[FileSegment]:
    with open_parquet(file.uri, file.shown) as opened:
        groups = [opened.metadata.row_group(number) for number in range(opened.num_row_groups)]
    starts = accumulate((group.num_rows for group in groups), initial=0)
    return [
        FileSegment(file, start, start + group.num_rows, group.total_byte_size)
        for start, group in zip(starts, groups, strict=False)
    ]


def _row_groups_covering(units: Sequence[FileSegment], first: int, stop: int) -> RowGroups:
    """The row groups that hold rows [first, stop) of a file, and how many of their rows to skip and take."""
    inside = [number for number, unit in enumerate(units) if unit.stop and unit.first < stop and unit.stop > first]
    if not inside:
        return RowGroups(0, 0)
    return RowGroups(inside[0], inside[-1] + 1, first - units[inside[0]].first, stop - first)
