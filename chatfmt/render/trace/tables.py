"""Programs as tables of numbers, so that one pass of array operations runs all of them over a batch.

Each row has the number of its program. `accepts` evaluates the guards of all rows at once, question by question;
`assemble` writes the texts of all rows at once, in their order. Program 0 is for rows whose text is known already.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import count
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from ...rendering import NO_PATH
from .kernels import (
    Int64Array,
    StringViews,
    TextBuffer,
    TextSlices,
    answers,
    apply,
    buffer_of,
    distinct,
    from_views,
    leaf,
    to_slices,
    views_of,
)
from .program import Expression, Path, Piece, Program, Question, growth, leaves_of
from .shapes import TurnTable
from .slots import is_markable, prints_all, tells_what_is_printed

NO_TEXTS = pa.nulls(0, pa.string())
KNOWN = 0
"""The program of a row whose text is known; its only piece is that text."""
_PATHS = count(2)
"""Numbers of programs that are never used again, though tables may be; 1 is that of all rows of `KNOWN`."""


class Pieces(Struct, frozen=True):
    """The pieces of all rows of a batch, end to end: row `i` has those from `bounds[i]` to `bounds[i + 1]`."""

    texts: pa.StringArray
    bounds: Int64Array
    literals: Int64Array
    """The number of the literal that each piece is, negative for a text."""
    groups: Sequence[tuple[Int64Array, TextSlices]]
    """The texts among the pieces, with the indices of these pieces."""

    def spread(self, rows: Int64Array, count: int) -> Pieces:
        """Return the pieces of `count` rows, of which those of `rows` are these, and the others have none."""
        counts = np.zeros(count, np.int64)
        counts[rows] = np.diff(self.bounds)
        return replace(self, bounds=np.concatenate([[0], np.cumsum(counts)]))

    def rows(self) -> pa.StringArray:
        """Return the pieces of each row as one text, without copying."""
        _, offsets, data = self.texts.buffers()
        ends = (
            np.frombuffer(offsets, np.int32)[self.bounds] if len(self.texts) else np.zeros(len(self.bounds), np.int32)
        )
        buffers = [None, pa.py_buffer(np.ascontiguousarray(ends, np.int32)), data or pa.py_buffer(b"")]
        return pa.Array.from_buffers(pa.string(), len(self.bounds) - 1, buffers)


def ends_of(pieces: Pieces) -> Int64Array:
    """Return the end of each piece, in code points from the start of the first, after a leading 0."""
    lengths = pc.utf8_length(pieces.texts).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.concatenate([[0], np.cumsum(lengths)])


class Ragged:
    """Lists of different lengths, end to end; each entry has `columns` numbers."""

    def __init__(self, columns: int) -> None:
        self._columns, self._rows, self._ends = columns, list[tuple[int, ...]](), [0]
        self._built: tuple[Int64Array, Int64Array] | None = None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, entries: Sequence[tuple[int, ...]]) -> None:
        self._rows += entries
        self._ends.append(len(self._rows))
        self._built = None

    def expand(self, which: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Return the entries of the lists numbered `which`: the index in `which` and the columns of each."""
        if self._built is None:
            table = np.array(self._rows, np.int64).reshape(-1, self._columns).T.copy()
            self._built = table, np.array(self._ends, np.int64)
        table, ends = self._built
        starts = ends.take(which)
        counts = ends.take(which + 1) - starts
        owner = np.repeat(np.arange(len(which)), counts)
        indices = np.repeat(starts - np.cumsum(counts) + counts, counts)
        indices += np.arange(len(owner))
        return owner, table.take(indices, axis=1)


class _Numbered:
    """Distinct values and their numbers."""

    def __init__(self) -> None:
        self.values, self._numbers = list[Any](), dict[Hashable, int]()

    def number(self, value: Hashable) -> int:
        if value not in self._numbers:
            self._numbers[value] = len(self.values)
            self.values.append(value)
        return self._numbers[value]


class Tables:
    """All programs of a template, numbered from 1."""

    def __init__(self) -> None:
        self.programs: list[Program] = [Program(())]
        self._literals, self._expressions, self._questions = _Numbered(), _Numbered(), _Numbered()
        self._expressions.number(("leaf", ""))
        self._guards, self._pieces, self._spans = Ragged(3), Ragged(2), Ragged(2)
        self._guards.append([])
        self._pieces.append([(-1, 0)])
        self._spans.append([])
        self._all_printed, self._markable, self._refuses = [False], [False], [False]
        self._literal_bytes, self._growth, self._paths = [0], [1.0], [NO_PATH]
        self._pool: tuple[TextBuffer, StringViews] | None = None

    def __len__(self) -> int:
        return len(self.programs)

    def add(self, program: Program) -> int:
        """Add a program and return its number; each of its expressions must read one text of a message."""
        guards = []
        for question, answer in program.guards:
            bare, turn = _bare(question)
            guards.append((self._questions.number(bare), turn, int(answer)))
        self._guards.append(guards)
        self._pieces.append([self._piece(piece) for piece in program.pieces])
        self._spans.append(list(program.spans or ()))
        self.programs.append(program)
        self._all_printed.append(prints_all(program))
        self._markable.append(is_markable(program))
        self._refuses.append(bool(program.refusal))
        path = next(_PATHS)
        self._paths.append(path if tells_what_is_printed(program) else -path)
        self._literal_bytes.append(sum(len(piece) for piece in program.pieces if isinstance(piece, str)))
        self._growth.append(_growth(program))
        self._pool = None
        return len(self.programs) - 1

    def _piece(self, piece: Piece) -> tuple[int, int]:
        """Encode a literal as its number, an expression as -1 minus its number with the turn it reads."""
        if isinstance(piece, str):
            return self._literals.number(piece), 0
        bare, turn = _bare(piece)
        return -1 - self._expressions.number(bare), turn

    def accepts(self, rows: Int64Array, programs: Int64Array, turns: TurnTable) -> npt.NDArray[np.bool_]:
        """Return whether each row answers the guards of its program as the traced row did."""
        owner, (question, turn, expected) = self._guards.expand(programs)
        indices = turns.starts.take(rows).take(owner) + turn
        good = np.ones(len(rows), np.bool_)
        for number in np.flatnonzero(np.bincount(question, minlength=1)).tolist() if len(question) else ():
            mine = np.flatnonzero(question == number)
            bare = self._questions.values[number]
            found = answers(bare, turns.columns[leaf(bare)].at(indices[mine]))
            good[owner[mine[found != expected[mine]]]] = False
        return good

    def assemble(self, rows: Int64Array, programs: Int64Array, turns: TurnTable, known: pa.StringArray) -> Pieces:
        """Return the pieces of each row; `known` holds the texts of the rows of program `KNOWN`, in order."""
        owner, (kind, turn) = self._pieces.expand(programs)
        starts = turns.starts.take(rows)
        groups = []
        for number in distinct(kind[kind < 0]):
            mine = np.flatnonzero(kind == number)
            indices = starts.take(owner.take(mine)) + turn.take(mine)
            groups.append((mine, self._texts(-1 - number, indices, turns, known)))
        pool, literals = self._literal_pool()
        texts = put_together(pool, literals.take(np.maximum(kind, 0)), groups)
        counts = np.bincount(owner, minlength=len(rows))
        return Pieces(texts, np.concatenate([[0], np.cumsum(counts)]), kind, groups)

    @property
    def literals(self) -> Sequence[str]:
        """All literals, by number."""
        return self._literals.values

    def most_bytes(self, programs: Int64Array, size: int) -> float:
        """Return the most bytes that the texts of rows may have whose conversations have `size` bytes together."""
        literals = int(np.array(self._literal_bytes, np.int64)[programs].sum())
        return literals + size * max(self._growth[number] for number in distinct(programs))

    def _texts(self, number: int, indices: Int64Array, turns: TurnTable, known: pa.StringArray) -> TextSlices:
        if number == 0:
            source, offsets = buffer_of(known)
            return TextSlices(source, offsets[:-1], offsets[1:])
        bare = self._expressions.values[number]
        return apply(bare, turns.columns[leaf(bare)].at(indices))

    def _literal_pool(self) -> tuple[TextBuffer, StringViews]:
        if self._pool is None:
            texts = to_slices([str(value) for value in self._literals.values] or [""])
            self._pool = texts.source, views_of(texts, 0)
        return self._pool

    def all_printed(self, programs: Int64Array) -> npt.NDArray[np.bool_]:
        """Return whether the program of each row prints every text of it (see `slots.prints_all`)."""
        return np.array(self._all_printed, np.bool_)[programs]

    def groups(self, programs: Int64Array) -> Int64Array:
        """Return the number of each program that prints texts whole or not at all, and -1 for others."""
        return np.where(np.array(self._markable, np.bool_)[programs], programs, -1)

    def paths(self, programs: Int64Array) -> Int64Array:
        """Return the paths of rows by their programs (see `Rendered.paths`)."""
        return np.array(self._paths, np.int64)[programs]

    def refuses(self, programs: Int64Array) -> npt.NDArray[np.bool_]:
        """Return whether the template refuses each row."""
        return np.array(self._refuses, np.bool_)[programs]

    def spans(self, programs: Int64Array, pieces: Pieces) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return the generation spans of all rows as row, start and end, in code points of the text of the row."""
        owner, (first, last) = self._spans.expand(programs)
        ends = ends_of(pieces)
        origin = pieces.bounds[owner]
        return owner, ends[origin + first] - ends[origin], ends[origin + last] - ends[origin]


def put_together(
    pool: TextBuffer, views: StringViews, groups: Iterable[tuple[Int64Array, TextSlices]]
) -> pa.StringArray:
    """Return texts of which `views` are those in `pool`, and `groups` the others, with their indices."""
    sources = [pool]
    for indices, texts in groups:
        sources.append(texts.source)
        views[indices] = views_of(texts, len(sources) - 1)
    return from_views(views, sources)


def _growth(program: Program) -> float:
    """Return how many times longer the output may be than the texts, of which each may be printed several times."""
    times: dict[Path, float] = {}
    for piece in program.pieces:
        if not isinstance(piece, str):
            for path in set(leaves_of(piece)):
                times[path] = times.get(path, 0) + growth(piece)
    return max(times.values(), default=0)


def is_columnar(program: Program) -> bool:
    """Return whether each expression and question of a program reads one text of one message."""
    subjects = [*program.pieces, *(question for question, _ in program.guards)]
    paths = [set(leaves_of(subject)) for subject in subjects if not isinstance(subject, str)]
    return all(len(found) == 1 and len(next(iter(found))) == 3 for found in paths)


def _bare(subject: Expression | Question) -> tuple[Expression, int]:
    """Split an expression or question: with the field instead of the path of its text, and the turn of that text."""
    _, turn, _ = next(leaves_of(subject))
    return cast(Expression, _without_turn(subject)), int(turn)


def _without_turn(subject: Piece) -> Piece:
    if isinstance(subject, str):
        return subject
    name, below, *constants = subject
    if name == "leaf":
        return ("leaf", below[2])
    if name == "cat":
        return ("cat", tuple(map(_without_turn, below)))
    return (name, _without_turn(below), *constants)
