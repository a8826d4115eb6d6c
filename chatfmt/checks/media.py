"""Checks of images, videos and audio: the files that they name, and placeholders that stand for none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import MEDIUM, TEXT
from ..schema import MEDIA
from ..turn_columns import contains, lengths_of, rows_of_turns, to_bools
from .column_view import ColumnView, Finding, Limits


def missing_files(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A path of an image, a video or an audio clip where there is no file."""
    if limits.is_file is None or view.name == "rejected":
        return
    for name, column in view.media.items():
        paths = paths_of(column)
        known = pc.unique(paths).drop_null().to_pylist()
        missing = pa.array([path for path in known if not limits.is_file(path)], TEXT)
        found = to_bools(pc.is_in(paths, value_set=missing)) if len(missing) else np.zeros(len(paths), np.bool_)
        rows = rows_of_turns(column)
        for index in np.flatnonzero(found & view.begins[rows]).tolist():
            yield Finding("media.file", int(rows[index]), None, f"there is no file `{paths[index]}`", name)


def lone_placeholders(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A placeholder such as `<image>` in a row without that medium, while others may have some: it stays text."""
    for name, column in view.media.items():
        without, tag = lengths_of(column) == 0, f"<{MEDIA[name]}>"
        if not without.any():
            continue
        lone = to_bools(contains(view.content, tag)) & without[view.rows]
        yield from view.at_turns("media.place", lone, f"`{tag}` stays text: the row has no {MEDIA[name]}")


def paths_of(column: pa.ListArray) -> pa.StringArray:
    """Return the path of each medium in a column; null for one with bytes, and for frames of a video."""
    items = column.flatten()
    if items.type == MEDIUM:
        data, paths = (pc.struct_field(items, name) for name in ("bytes", "path"))
        return pc.if_else(data.is_null(), paths, pa.scalar(None, TEXT))
    return items if items.type == TEXT else pa.nulls(len(items), TEXT)
