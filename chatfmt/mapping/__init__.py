"""Mapping: source batch → source batch with a column for each mapped field, so that dialects read plain columns.

Also the choice of rows by content hash (`selection`). Templates and expressions are compiled by the caller.
"""

from __future__ import annotations

from ..field_path import FieldPath
from .apply import Mapped, Mapper, mapper
from .plan import FieldMapping, TextTemplate, check_columns, plan
from .rows import replaced_columns
from .selection import fraction_mask, row_hash, shuffle_order, uniform_numbers, value_hash, with_places
