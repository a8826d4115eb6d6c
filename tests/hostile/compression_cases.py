# ruff: noqa: E501
"""Compressed input: whole to its last byte, or an error; never fewer rows, never all of the memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable

import zstandard

from .case import GOOD, Case, Content, Error, Expected, Rows, lines

TEXT = lines(*[GOOD] * 50)
ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0), "zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "bz2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


def packed(name: str, kind: str, content: Content, expected: Expected, file: str | None = None) -> Case:
    source = file or f"in.jsonl.{kind}"
    return Case(f"{kind}, {name}", {source: content}, expected, ("convert", source, "-o", "out.jsonl"))


def of_kind(kind: str) -> list[Case]:
    """What can be wrong with any kind of compressed data."""
    pack = PACK[kind]
    whole, half = pack(TEXT), pack(TEXT)
    bent = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 0xFF]) + whole[len(whole) // 2 + 1 :]
    cut, damaged = (
        Error(3, "file.truncated", f"the {kind} data is truncated"),
        Error(3, "file.compressed", f"damaged {kind} data: "),
    )
    return [
        packed("whole", kind, whole, Rows([ROW] * 50)), packed("two members", kind, whole + pack(lines(GOOD)), Rows([ROW] * 51)),
        packed("a row over two members", kind, pack(GOOD[:20]) + pack(GOOD[20:] + b"\n"), Rows([ROW])),
        packed("an empty member between", kind, whole + pack(b"") + whole, Rows([ROW] * 100)),
        packed("under another name", kind, whole, Rows([ROW] * 50), "in.jsonl"), packed("under the name of another", kind, whole, Rows([ROW] * 50), "in.jsonl.gz" if kind != "gz" else "in.jsonl.zst"),
        packed("a byte short", kind, whole[:-1], cut), packed("half of it", kind, half[: len(half) // 2], cut), packed("only its magic", kind, whole[:6], cut),
        packed("a second member cut", kind, whole + whole[: len(whole) // 2], cut), packed("a byte changed", kind, bent, damaged),
        packed("text behind", kind, whole + GOOD, Error(3, "file.compressed", f"damaged {kind} data: other data follows its end")),
        packed("another kind behind", kind, whole + PACK["bz2" if kind != "bz2" else "xz"](TEXT), Error(3, "file.compressed", f"damaged {kind} data: other data follows its end")),
        packed("nothing inside", kind, pack(b""), Error(3, "file.empty", "")), packed("packed twice", kind, pack(pack(TEXT)), Error(3, "file.compressed", f"this is {kind} data of {kind} data")),
        packed("a pickle inside", kind, pack(b"\x80\x04\x95"), Error(3, "file.not_data", "this is a Python pickle")),
        packed("a bomb", kind, lambda path: path.write_bytes(pack(bomb())), _TOO_MUCH),
    ]  # fmt: skip


def bomb() -> bytes:
    return b'{"v":"' + b"0" * (80 << 20) + b'"}\n'


_TOO_MUCH = Error(3, "file.compressed", "unpacks to more than 1000 times its size")
GZ = PACK["gz"](TEXT)
SKIPPED = b"\x50\x2a\x4d\x18\4\0\0\0abcd"
CASES: list[Case] = [
    *(case for kind in PACK for case in of_kind(kind)),
    packed("zeros behind", "gz", GZ + b"\0" * 512, Error(3, "file.compressed", "damaged gz data: other data follows its end")),
    packed("a wrong checksum", "gz", GZ[:-8] + b"\0\0\0\0" + GZ[-4:], Error(3, "file.compressed", "damaged gz data: ")),
    packed("a wrong length", "gz", GZ[:-4] + b"\xff\xff\xff\x7f", Error(3, "file.compressed", "damaged gz data: ")),
    packed("raw deflate", "gz", zlib.compress(TEXT), Error(4, "json.syntax", "not JSON: "), "in.jsonl.gz"),
    packed("a skippable frame first", "zst", b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + PACK["zst"](TEXT), Rows([ROW] * 50)),
    packed("many skippable frames", "zst", SKIPPED * 3000 + b"\x5f\x2a\x4d\x18\0\0\1\0" + b"a" * (1 << 16) + SKIPPED + PACK["zst"](TEXT) + SKIPPED, Rows([ROW] * 50)),
    packed("half a skippable frame last", "zst", PACK["zst"](TEXT) + SKIPPED[:-1], Error(3, "file.truncated", "the zst data is truncated")),
    packed("text under its name", "gz", TEXT, Rows([ROW] * 50)),
    packed("text under its name", "xz", TEXT, Rows([ROW] * 50)),
]  # fmt: skip
