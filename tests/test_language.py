"""Prose is plain, idiomatic English: phrases that were mended once stay away."""

from __future__ import annotations

import re

import pytest

from .conftest import ROOT

BETTER = {
    r"data sets?\b": "dataset",
    r"strangers?\b": "untrusted",
    r"to be had\b": "available",
    r"merely\b": "only",
    r"amid\b": "in the middle of",
    r"spelt\b": "spelled",
    r"informations\b": "information",
    r"(data|rows) \w+ spell": "represents",
}
"""What reads oddly, as a pattern, and what to write instead."""
FILES = sorted(
    path
    for path in [*(ROOT / "chatfmt").rglob("*"), *(ROOT / "configs").iterdir(), *ROOT.glob("*.md")]
    if path.suffix in {".py", ".md", ".yaml", ".html", ".js"} and path.name != "CHANGELOG.md"
)


@pytest.mark.parametrize("pattern", BETTER)
def test_phrases_that_read_oddly_stay_away(pattern):
    odd = re.compile(rf"(?<![\w-]){pattern}", re.IGNORECASE)
    assert len(FILES) > 300
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if odd.search(line)
    ]
    assert wrong == [], f"better: {BETTER[pattern]}"
