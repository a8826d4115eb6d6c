"""Find the structure of JSON text (quotes, brackets and commas outside of strings), whole chunks at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Positions = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1
_STRUCTURE = np.zeros(256, np.bool_)
_STRUCTURE[list(b"[]{},")] = True


class ScanState(Struct, frozen=True):
    """The nesting at the end of a chunk: an open string, an escape (of the next byte), and `depth` brackets."""

    in_string: bool = False
    escaped: bool = False
    depth: int = 0


def quotes(octets: Octets, escaped: bool) -> tuple[Positions, bool]:
    """Positions of unescaped quotes, and whether the byte after the chunk is escaped."""
    found = np.flatnonzero(octets == _QUOTE)
    slashes = np.flatnonzero(octets == _BACKSLASH)
    if not len(slashes):
        return (found[1:] if escaped and len(found) and not found[0] else found), escaped and not len(octets)
    starts, ends = _runs(slashes)
    odd = (ends - starts) % 2 == 1
    if escaped:
        odd[starts == 0] ^= True  # a run at the very start begins with an escaped backslash
    behind = ends[odd]
    if escaped and slashes[0] != 0:
        behind = np.append(behind, 0)
    is_escaped = np.zeros(len(octets) + 1, np.bool_)
    is_escaped[behind] = True
    return found[~is_escaped[found]], bool(is_escaped[-1])


def _runs(positions: Positions) -> tuple[Positions, Positions]:
    """[start, end) of runs of adjacent positions."""
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    starts = positions[np.concatenate([[0], breaks])]
    ends = positions[np.concatenate([breaks - 1, [len(positions) - 1]])] + 1
    return starts, ends


def structure(octets: Octets, state: ScanState) -> tuple[Positions, Positions, ScanState]:
    """Positions of brackets and commas outside of strings, the depth after each, and the state at the end."""
    marks, escaped = quotes(octets, state.escaped)
    found = np.flatnonzero(_STRUCTURE[octets])
    inside = (np.searchsorted(marks, found) + state.in_string) % 2 == 1
    found = found[~inside]
    depths = state.depth + np.cumsum(_STEP[octets[found]], dtype=np.int64)
    depth = int(depths[-1]) if len(depths) else state.depth
    return found, depths, ScanState(bool((len(marks) + state.in_string) % 2), escaped, depth)
