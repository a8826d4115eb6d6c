"""Count letters by script, as the Unicode names of the letters have it, and the languages written in a script."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache

import numpy as np
import pyarrow as pa

SYMBOLS = "Emoji and symbols"
LANGUAGES: Mapping[str, str] = {
    "Arabic": "Arabic, Persian, Urdu", "Armenian": "Armenian", "Bengali": "Bengali, Assamese",
    "Cyrillic": "Russian, Ukrainian, Bulgarian", "Devanagari": "Hindi, Marathi, Nepali",
    "Ethiopic": "Amharic, Tigrinya", "Georgian": "Georgian", "Greek": "Greek", "Gujarati": "Gujarati",
    "Gurmukhi": "Punjabi",
    "Han": "Chinese, Japanese",
    "Hangul": "Korean", "Hebrew": "Hebrew, Yiddish", "Hiragana": "Japanese", "Kannada": "Kannada",
    "Katakana": "Japanese", "Khmer": "Khmer", "Lao": "Lao", "Latin": "English, Spanish, French, Vietnamese",
    "Malayalam": "Malayalam", "Myanmar": "Burmese", "Sinhala": "Sinhala", "Tamil": "Tamil", "Telugu": "Telugu",
    "Thai": "Thai", "Tibetan": "Tibetan",
}  # fmt: skip
"""Languages with many speakers that are written in each script."""
_NAMES = {"Cjk": "Han", "Ideographic": "Han", "Fullwidth": "Latin", "Halfwidth": "Katakana"}


def count_scripts(texts: pa.Array) -> Counter[str]:
    """Return the letters of each script in a text column, and the characters that are symbols such as emoji."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return Counter()
    ends = np.frombuffer(offsets, np.int32)
    octets = np.frombuffer(data, np.uint8)[ends[texts.offset] : ends[texts.offset + len(texts)]]
    letters = ((octets | 0x20) - np.uint8(ord("a"))) < 26
    found = Counter({"Latin": int(np.count_nonzero(letters))})
    others = octets[octets >= 0x80].tobytes().decode("utf-8", "replace")  # whole characters, since text is UTF-8
    counts = np.bincount(np.frombuffer(others.encode("utf-32-le"), np.uint32))
    for code in np.flatnonzero(counts).tolist():
        if script := script_of(chr(code)):
            found[script] += int(counts[code])
    return +found


@cache
def script_of(character: str) -> str:
    """Return the script of a letter or mark, `SYMBOLS` for a symbol, an empty text for anything else."""
    category = unicodedata.category(character)
    if category == "So":
        return SYMBOLS
    if category[0] not in "LM":
        return ""
    first = unicodedata.name(character, "").partition(" ")[0].partition("-")[0].capitalize()
    known = _NAMES.get(first, first)
    return known if known in LANGUAGES else "Other letters" if category[0] == "L" else ""
