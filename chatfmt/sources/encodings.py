"""Encodings that a text may be in which is not UTF-8."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from itertools import islice

NAME_IT = "name the encoding that the file was written in with `--encoding`"
DAMAGED = "it is damaged UTF-8"
_WESTERN = ("cp1252", "cp1250", "cp1254", "cp1257")
"""Encodings of Windows that agree on quotes, dashes and many letters; cp1252 is by far the most common."""


def encoding_hint(line: bytes) -> str:
    """Return a hint for a line that is not UTF-8: its encoding if there is hardly a doubt, else what it may be.

    `chardet` says which encodings are likely: of 32 texts in ten languages it found 30, and charset-normalizer 15.
    """
    text = line.decode(errors="replace")
    if sum(not sign.isascii() for sign in text) >= 2 * text.count("\ufffd"):
        return DAMAGED
    with suppress(ValueError):  # they differ, or one of them cannot read the line
        (text,) = {line.decode(name) for name in _WESTERN}
        alone = not re.search(rb"[\x80-\xff]{2}", line)  # letters of other scripts stand side by side
        if alone and text.isprintable():
            return f"use `--encoding cp1252`, which reads `{_excerpt(text)}`"
    try:
        readings = likely_readings(line)
    except ImportError:
        return f'{NAME_IT}; pip install "chatfmt[encodings]" finds those that are likely'
    shown = ", ".join(f"{name} reads `{_excerpt(text)}`" for text, name in readings.items())
    return f"{NAME_IT}: {shown}" if shown else NAME_IT


_USUAL = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp874", "cp932", "koi8-r")
"""Encodings that are named instead of rarer ones that read the same."""


def likely_readings(line: bytes) -> dict[str, str]:
    """Return up to three texts that a line may be, each with its encoding, the likeliest first.

    Raises ImportError without `chardet`.
    """
    import chardet

    eras = chardet.EncodingEra.MODERN_WEB | chardet.EncodingEra.LEGACY_ISO
    found = chardet.detect_all(line, encoding_era=eras)
    readings: dict[str, str] = {}
    for each in found:
        with suppress(LookupError, ValueError):
            own = codecs.lookup(each["encoding"] or "").name
            text = line.decode(own)
            name = next((name for name in _USUAL if _reads(line, name, text)), own)
            if text.isprintable() and not text.isascii() and 2 * each["confidence"] >= found[0]["confidence"]:
                readings.setdefault(text, name)
    return dict(islice(readings.items(), 3))


def _reads(line: bytes, encoding: str, text: str) -> bool:
    with suppress(ValueError):
        return line.decode(encoding) == text
    return False


def _excerpt(text: str) -> str:
    """Return the characters around the first one that is not ASCII."""
    place = next(index for index, sign in enumerate(text) if not sign.isascii())
    return text[max(place - 10, 0) : place + 10]
