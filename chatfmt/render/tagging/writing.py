"""Write pieces with `{% generation %}` tags around those that are trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from .conditions import LAST_TRAINED
from .pieces import Piece, joined

UNKNOWN = "chatfmt does not know whether this is trained"
_SCOPED = re.compile(r"(?:set (?!\w+\.)|break|continue|macro|call|filter|with)\b")

Trained = Literal["yes", "no", "unknown"] | str
"""Whether a piece is trained; any other text is the condition under which it is."""
Decided = tuple[Piece, Trained]


def written(decided: Sequence[Decided], *, strict: bool) -> str:
    """Return the template with tags around what is trained; a strict one raises where that is not known."""
    lines: list[Piece] = []
    noting = any(LAST_TRAINED in trained for _, trained in decided)
    if noting:
        name, attribute = LAST_TRAINED.split(".")
        lines.append(Piece("tag", f"set {name} = namespace({attribute}=false)"))
        decided = _with_last_trained(decided)
    for trained, run in groupby(_widened(decided), key=lambda each: each[1]):
        own = [piece for piece, _ in run]
        if trained == "unknown" and strict:
            lines += [_refusal(piece) for piece in own]
        elif trained == "yes":
            lines += _generation(own)
        elif trained in ("no", "unknown"):
            lines += own
        else:
            lines += _chosen(trained, own, noting)
    return joined(lines)


def refusing() -> str:
    """Return a template that raises for every conversation."""
    return joined([_refusal(Piece("text", "x"))])


def _chosen(condition: str, pieces: Sequence[Piece], noting: bool) -> list[Piece]:
    """Return the pieces with tags if the condition holds, and without them if not."""
    yes, no = ([_last_trained(trained)] if noting else [] for trained in ("true", "false"))
    return [
        *(Piece("tag", f"if {condition}"), *_generation(pieces), *yes),
        *(Piece("tag", "else"), *pieces, *no, Piece("tag", "endif")),
    ]


def _generation(pieces: Sequence[Piece]) -> list[Piece]:
    return [Piece("tag", "generation"), *pieces, Piece("tag", "endgeneration")]


def _refusal(piece: Piece) -> Piece:
    """Return an expression that raises if the piece would print anything."""
    condition = f" if ({piece.source}) ~ ''" if piece.kind == "expression" else ""
    return Piece("expression", f"raise_exception('{UNKNOWN}'){condition}")


def _with_last_trained(decided: Sequence[Decided]) -> list[Decided]:
    """Return the pieces with tags that note whether what was printed last is trained."""
    found: list[Decided] = []
    for place, (piece, trained) in enumerate(decided):
        found.append((piece, trained))
        if trained in ("yes", "no") and piece.prints and not piece.captured:
            following = decided[place + 1 : place + 2]
            if not following or not following[0][0].prints or following[0][1] != trained:
                found.append((_last_trained("true" if trained == "yes" else "false"), trained))
    return found


def _last_trained(value: str) -> Piece:
    return Piece("tag", f"set {LAST_TRAINED} = {value}")


def _widened(decided: Sequence[Decided]) -> list[Decided]:
    """Return the pieces, with tags marked as trained whose block prints trained pieces only, between trained pieces.

    A block with `set` stays outside: what is set inside `{% generation %}` is unknown after it.
    """
    found = list(decided)
    ends = _block_ends([piece for piece, _ in found])
    for start in sorted(ends, reverse=True):
        block = found[start : ends[start] + 1]
        inner = [trained for piece, trained in block if piece.prints]
        sound = not any(_SCOPED.match(piece.source) for piece, _ in block if not piece.prints)
        before = found[start - 1][1] if start else "no"
        if sound and "yes" in inner and set(inner) <= {"yes"} and before in ("yes", "no"):
            found[start : ends[start] + 1] = [(piece, "yes") for piece, _ in block]
    return found


def _block_ends(pieces: Sequence[Piece]) -> dict[int, int]:
    """Return the places of the tags that open a loop or a choice, each with the place of the tag that closes it."""
    found: dict[int, int] = {}
    waiting: list[int] = []
    for place, piece in enumerate(pieces):
        if piece.word in ("for", "if"):
            waiting.append(place)
        elif piece.word in ("endfor", "endif") and waiting:
            found[waiting.pop()] = place
    return found
