"""Find the condition under which a piece of a template is trained, among those that a Jinja template can check."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

from msgspec import Struct

from ..masks.turn_boundaries import THINKING
from .pieces import Piece

Effort = Literal["plain", "branches", "state"]
"""Which conditions are tried: of messages; also the branches taken before; also what was printed before."""
LAST_TRAINED = "chatfmt_last.trained"
"""An attribute of a namespace: whether what was printed last is trained."""
BRANCH = "chatfmt_branch_"
_BRANCH = re.compile(f"{BRANCH}[0-9]+")
_HAS_ROLE = re.compile(r"\b([A-Za-z_]\w*)(?:\.role|\[['\"]role['\"]\])")
_IS_ROLE = re.compile(r"\b([A-Za-z_]\w*) == ['\"]assistant['\"]")
SIBLINGS = 8
BRANCHES: Mapping[Effort, int] = {"plain": 0, "branches": 12, "state": 40}


def conditions(place: int, pieces: Sequence[Piece], source: str, effort: Effort) -> tuple[str, ...]:
    """Return Jinja conditions that may explain when the piece at a place is trained, the likely ones first.

    With `state`, the last of them is LAST_TRAINED.
    """
    piece = pieces[place]
    if not piece.prints or piece.captured:
        return ()
    messages = dict.fromkeys((*reversed(piece.messages), *_HAS_ROLE.findall(source)))
    if piece.messages:
        messages |= {"loop.previtem": None}
    roles = [f"{name} is mapping and {name}.role == 'assistant'" for name in messages]
    positions = (
        ["not loop.first", *(f"{name} is mapping and {name}.content" for name in messages)] if piece.messages else []
    )
    names = [f"{name} is defined and {name} == 'assistant'" for name in dict.fromkeys(_IS_ROLE.findall(source))]
    filled = [f"({other}) ~ ''" for other in _beside(place, pieces)]
    branches = _branches(place, pieces, effort)
    more = _of_state(piece, source) if effort == "state" else ()
    return (*roles, *names, *filled, *positions, *branches, *more)


def plain_conditions(conditions: Sequence[str]) -> Sequence[str]:
    """Return the conditions of messages, which stand before those of branches."""
    return [condition for condition in conditions if not _BRANCH.match(condition)]


def _of_state(piece: Piece, source: str) -> Iterator[str]:
    for name in filter(source.__contains__, THINKING):
        yield f"{name} is defined and {name}"
        yield f"{name} is defined"
    if "tools" in source:
        yield "tools is defined and tools"
    if piece.messages:
        yield "loop.last"
        yield "loop.nextitem is mapping and loop.nextitem.role == 'assistant'"
        yield "loop.previtem is mapping and loop.previtem.role == 'tool'"
    yield LAST_TRAINED


def _branches(place: int, pieces: Sequence[Piece], effort: Effort) -> list[str]:
    """Return the conditions that a branch before the piece was taken, for the last branches in the loop around it.

    With `state`, in any loop around it.
    """
    loops = _loops_around(place, pieces) or [0]
    first = loops[-1] if effort == "state" else loops[0]
    found = [f"{BRANCH}{n} is defined" for n in range(first, place) if _is_branch(pieces[n])]
    return found[::-1][: BRANCHES[effort]]


def _loops_around(place: int, pieces: Sequence[Piece]) -> list[int]:
    """Return the places of the tags that open the loops around a piece, the innermost first."""
    found, closed = list[int](), 0
    for number in range(place, -1, -1):
        word = pieces[number].word
        if word == "for" and not closed:
            found.append(number)
        else:
            closed += (word == "endfor") - (word == "for")
    return found


def _is_branch(piece: Piece) -> bool:
    return piece.word in ("if", "elif", "else")


def branches_of(texts: Iterable[str]) -> set[str]:
    """Return the variables of branches that conditions read."""
    return {name for text in texts for name in _BRANCH.findall(text)}


def with_branches(number: int, piece: Piece, wanted: Container[str]) -> list[Piece]:
    """Return a piece, with a variable that says that its branch was taken, if a condition reads it."""
    name = f"{BRANCH}{number}"
    return [piece, Piece("tag", f"set {name} = true")] if _is_branch(piece) and name in wanted else [piece]


def _beside(place: int, pieces: Sequence[Piece]) -> list[str]:
    """Return the expressions printed in one go with a piece, without a tag between."""
    first = max((n for n in range(place) if not pieces[n].prints), default=-1) + 1
    last = next((n for n in range(place, len(pieces)) if not pieces[n].prints), len(pieces))
    beside = (*pieces[first:place], *pieces[place + 1 : last])
    found = [other.source for other in beside if other.kind == "expression"]
    return list(dict.fromkeys(found))[:SIBLINGS]


class Explanation(Struct, frozen=True):
    """Groups of conditions, each as its place among those of a piece and what it must be.

    One of each group must hold; if not `every`, all of any group.
    """

    groups: tuple[tuple[tuple[int, bool], ...], ...]
    every: bool

    def __call__(self, answers: str) -> bool:
        """Return whether it holds for these answers to the conditions of the piece."""
        outer, inner = (all, any) if self.every else (any, all)
        return outer(inner((answers[place] == "1") is wanted for place, wanted in group) for group in self.groups)

    def written(self, conditions: Sequence[str]) -> str:
        """Return it as a Jinja condition."""
        outer, inner = (" and ", " or ") if self.every else (" or ", " and ")
        parts = [
            _joined(inner, [conditions[place] if wanted else f"not ({conditions[place]})" for place, wanted in group])
            for group in self.groups
        ]
        return _joined(outer, parts)


def _joined(word: str, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else word.join(f"({part})" for part in parts)


def explain(seen: Iterable[tuple[str, bool]], effort: Effort) -> Explanation | None:
    """Return the simplest explanation that held whenever a piece was trained and never else; None without one.

    `seen` has the answers to its conditions, as 0 and 1, and whether it was trained with them.
    """
    distinct = sorted(set(seen))
    every = (1 << len(distinct)) - 1
    trained = sum(was << row for row, (_, was) in enumerate(distinct))
    held = [sum((answers[place] == "1") << row for row, (answers, _) in enumerate(distinct))
            for place in range(len(distinct[0][0]))]  # fmt: skip
    literals = [((place, True), mask) for place, mask in enumerate(held)]
    negated = [((place, False), every ^ mask) for place, mask in enumerate(held)]
    for known, shapes in ((literals, SHAPES[:2]), ([*literals, *negated], SHAPES if effort == "state" else ())):
        opposite = [(literal, every ^ mask) for literal, mask in known]
        for shape in shapes:
            if groups := _groups(known, trained, shape):
                return Explanation(groups, every=True)
            if groups := _groups(opposite, every ^ trained, shape):
                return Explanation(groups, every=False)
    return None


def _groups(
    literals: Sequence[tuple[tuple[int, bool], int]], trained: int, shape: tuple[int, int]
) -> tuple[tuple[tuple[int, bool], ...], ...]:
    """Return conditions that all hold in the rows `trained` only; empty if there are none.

    Each mask has a bit for each row in which its condition holds. `shape` is the number of single conditions, and the
    size of a group of which one must hold.
    """
    singles, size = shape
    necessary = [(literal, mask) for literal, mask in literals if mask & trained == trained]
    for chosen in combinations(necessary, singles):
        rows = -1
        for _, mask in chosen:
            rows &= mask
        found = tuple((literal,) for literal, _ in chosen)
        if rows == trained and not size:
            return found
        fitting = [(literal, mask) for literal, mask in literals if mask & rows & ~trained == 0] if size else []
        for group in combinations(fitting, size) if size else ():
            if (group[0][1] | group[1][1]) & rows == trained:
                return (*found, tuple(literal for literal, _ in group))
    return ()


SHAPES = ((1, 0), (2, 0), (3, 0), (1, 2))
