"""Find texts of a source that are in no output, in no kept column, not dropped by name and not named as left behind.

Written without the ledger of chatfmt: it reads the source with `json` and `pyarrow`, and compares words.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import chatfmt

STRUCTURE = {
    "role", "from", "type", "winner", "label", "overall_score", "message_id", "parent_id", "message_tree_id",
}  # fmt: skip
"""Keys whose values say how to read the others: roles and types, the better answer, the message that is answered."""
ROWS = 40
MARKERS = {"Human", "Assistant", "USER", "ASSISTANT", "FUNCTION", "RESPONSE", "endoftext", "functioncall"}
"""Words that separate the turns of a transcript."""


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text with its path, `metadata.source` or `messages[].content`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    elif isinstance(value, str) and value.strip() and path.rpartition(".")[2] not in STRUCTURE:
        yield path, value


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text)) - MARKERS


def lost(source: Path, output: str, summary: chatfmt.Summary, recipe: chatfmt.Recipe) -> set[str]:
    """Return the columns and paths with texts that are in no output and that the summary does not name."""
    written = words(output.replace("\\n", " ").replace("\\t", " ").replace("\\", " "))
    named = [leaf.partition(" (")[0] for leaf in (*summary.left_columns, *summary.left_keys)]
    accounted = tuple({name.replace("[]", "") for name in (*named, *recipe.keep, *recipe.drop)})
    missing: dict[str, list[bool]] = {}
    for record in records(source):
        for path, text in leaves(record):
            plain = re.sub(r"(\.replies)+", ".replies", path.replace("[]", ""))
            inner = words(" ".join(inner for _, inner in leaves(read(text), "text")))
            if not any(plain.startswith(name) for name in accounted):
                missing.setdefault(plain, []).append(len(inner & written) < 0.8 * len(inner))
    return {path for path, rows in missing.items() if 2 * sum(rows) > len(rows)}


def records(source: Path) -> list[dict[str, Any]]:
    if source.suffix == ".parquet":
        return pq.read_table(source).slice(0, ROWS).to_pylist()
    text = source.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError:
        found = map(json.loads, filter(None, text.split("\n")))
    return [found] if isinstance(found, dict) else list(islice(found, ROWS))


def read(text: str) -> Any:
    """Return the list or object that a text holds, else the text."""
    for parse in (json.loads, ast.literal_eval) if text.lstrip()[:1] in "[{" else ():
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    return text
