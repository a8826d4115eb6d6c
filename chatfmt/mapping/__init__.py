"""Mapping: source batch → source batch in which every mapped field is a column of its own name, so that dialects see
plain columns. Pure; no expression is compiled here: who calls passes the compiled ones in.
"""

from __future__ import annotations

from ..field_path import Every, FieldPath
from .apply import Compile, Mapped, Mapper, mapper
from .plan import Constant, Mapping, Part, Template, check_columns, plan
from .selection import fraction_mask, lowest, places, row_hash, shuffle_keys, shuffle_order, split_of

__all__ = [
    "Compile",
    "Constant",
    "Every",
    "FieldPath",
    "Mapped",
    "Mapper",
    "Mapping",
    "Part",
    "Template",
    "check_columns",
    "fraction_mask",
    "lowest",
    "mapper",
    "places",
    "plan",
    "row_hash",
    "shuffle_keys",
    "shuffle_order",
    "split_of",
]  # fmt: skip
