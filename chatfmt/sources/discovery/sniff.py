"""Detect the format of a file from its first bytes; its name decides only between formats that these allow."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from ...errors import InputError, Location, RowError
from ..bytes.compression import SUFFIXES, compression_of, decompressed, file_chunks
from ..bytes.text import needs_recoding
from ..json.strict import BOM, PLAIN_TEXT, is_list_start, parse_object, parse_value
from ..model import Compression, Format, ParseOptions

HEAD = 256 << 10
"""Bytes of content examined."""
FORMAT_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".tab": "tsv", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
"""The format that a file name suffix stands for."""
_DATA = "name the data file instead"
_JSON = "write it as JSON Lines or Parquet first"
_POINTER = b"version https://git-lfs.github.com/spec"
_NOT_DATA: tuple[tuple[bytes | tuple[bytes, ...], str, str], ...] = (
    (_POINTER, "a Git LFS pointer, not the file", "run `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive (or a PyTorch file)", "name the file itself, or unpack it"),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a Python pickle, which chatfmt never loads", _JSON),
    (b"\x93NUMPY", "a NumPy array", _JSON),
    (b"\x89HDF", "an HDF5 file", _JSON),
    (b"SQLite format 3\x00", "an SQLite database", "write its rows as JSON Lines first"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"Obj\x01", "an Avro file", _JSON),
    (b"ORC", "an ORC file", _JSON),
    (b"%PDF", "a PDF", _JSON),
    ((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "a picture", _JSON),
    (b"\x7fELF", "a program", _DATA),
    (b"GGUF", "a GGUF model", _DATA),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "save it as CSV first"),
    (b"\x04\x22\x4d\x18", "lz4 data", "unpack it first: lz4 -d"),
    (b"LZIP", "lzip data", "unpack it first: lzip -d"),
    (b"\xff\x06\0\0sNaPpY", "snappy data", "unpack it first"),
    (b"\x1f\x9d", "compress (.Z) data", "unpack it first: gunzip"),
)
"""The first bytes of files that are not data, what these are, and what to do with them."""


def detect_format(uri: str, shown: str, options: ParseOptions) -> tuple[Format, Compression | None]:
    """Detect the format and compression of a file.

    Raises InputError for a file that is empty, also inside its compression, not data or in another encoding.
    """
    head = next(file_chunks(uri, size=HEAD), b"")
    compression = compression_of(head)
    if compression:
        head = _first(decompressed(file_chunks(uri, size=HEAD), compression, shown))
        _check_not_nested(head, compression, shown)
    if not head and not options.allow_empty:
        hint = "use `--allow-empty` if this is intended"
        raise InputError("the file is empty", code="file.empty", at=Location(shown), hint=hint)
    return format_of_content(head, shown, options), compression


def _check_not_nested(head: bytes, compression: Compression, shown: str) -> None:
    """Raise InputError for compressed content that is itself compressed."""
    inner = _binary_format(head) or compression_of(head)
    if inner is not None:
        named = {"parquet": "a Parquet file, which is already compressed inside", "arrow": "an Arrow file"}
        raise InputError(
            f"this is {compression} data of {named.get(inner, f'{inner} data')}", code="file.compressed",
            at=Location(shown), hint=f"decompress it first: {_TOOLS[compression]}",
        )  # fmt: skip


_TOOLS: dict[Compression, str] = {"gz": "gunzip -k", "zst": "zstd -d", "bz2": "bunzip2 -k", "xz": "unxz -k"}


def _first(chunks: Iterator[bytes]) -> bytes:
    head = b""
    while len(head) < HEAD and (chunk := next(chunks, b"")):
        head += chunk
    return head


def format_of_content(head: bytes, shown: str, options: ParseOptions) -> Format:
    """Detect the format of content that begins with `head`; `shown` is its name. Raises InputError."""
    if shown.lower().endswith(_CODE):
        raise InputError(
            "the file is code, which chatfmt never runs", code="file.script", at=Location(shown), hint=_DATA
        )
    named, are_lines = format_by_name(shown), options.delimiter == "none"
    if not are_lines and (binary := _binary_format(head)):
        return binary
    if not are_lines:
        _check_is_data(head, shown)
    if named in ("parquet", "arrow") and not are_lines and not head.lstrip().startswith((b"{", b"[")):
        kind, hint = "an Arrow file" if named == "arrow" else "a Parquet file", "download or write the file again"
        raise InputError(f"this does not begin like {kind}", code="file.not_data", at=Location(shown), hint=hint)
    recode = options.encoding if needs_recoding(options.encoding) else None
    if recode:
        _check_width(head, recode, shown)
    text = head.decode(recode, "ignore").encode() if recode else _checked_text(head, shown)
    return _text_format(text, named, options, shown)


_CODE = (".py", ".pyc", ".sh")


def format_by_name(shown: str) -> Format | None:
    """The format that a file name stands for, ignoring a compression suffix."""
    path = PurePosixPath(shown.lower())
    if path.suffix in SUFFIXES:
        path = path.with_suffix("")
    return FORMAT_BY_SUFFIX.get(path.suffix)


def _binary_format(head: bytes) -> Format | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    return "arrow" if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")) else None


def _check_is_data(head: bytes, shown: str) -> None:
    if head.startswith(b"PK\x03\x04") and (
        shown.lower().endswith((".xlsx", ".xlsm", ".ods")) or re.search(rb"xl/\w+|opendocument\.spreadsheet", head)
    ):
        hint = "name the file itself, or save it as CSV"
        raise InputError("this is a spreadsheet", code="file.not_data", at=Location(shown), hint=hint)
    for magic, what, hint in _NOT_DATA:
        if head.startswith(magic):
            code = "file.pointer" if magic == _POINTER else "file.not_data"
            raise InputError(f"this is {what}", code=code, at=Location(shown), hint=hint)
    if head[4:10] == b'\0\0\0\0{"':
        raise InputError("this is a safetensors file", code="file.not_data", at=Location(shown), hint=_DATA)
    if head[257:262] == b"ustar":
        raise InputError(
            "this is a tar archive", code="file.not_data", at=Location(shown), hint="name the file itself, or unpack it"
        )
    if re.match(rb"\s*<(!doctype\b|html\b|\?xml\b)", head, re.IGNORECASE):
        raise InputError(
            "this is a web page or XML, not data", code="file.not_data", at=Location(shown),
            hint="the download may have failed; check the file",
        )  # fmt: skip


def _checked_text(head: bytes, shown: str) -> bytes:
    if encoding := _wide_encoding(head):
        raise InputError(
            f"this is {encoding[:6].upper()}, not UTF-8", code="file.encoding", at=Location(shown, byte=0),
            hint=f"use `--encoding {encoding}`",
        )  # fmt: skip
    return head


def _check_width(head: bytes, encoding: str, shown: str) -> None:
    """Raise InputError for UTF-8 that is to be read as UTF-16 or UTF-32, in which blanks and commas have zero bytes."""
    if head and 0 not in head and re.match("utf[-_ ]?(16|32)", encoding.lower()):
        with suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder("utf-8")().decode(head)
            hint = "`--encoding` is that of all files: convert those in another encoding in a run of their own"
            raise InputError(f"this is UTF-8, not {encoding}", code="file.encoding", at=Location(shown), hint=hint)


def _wide_encoding(head: bytes) -> str | None:
    """The UTF-16 or UTF-32 encoding of text, found by its byte order mark or by the positions of zero bytes."""
    for encoding, mark in _MARKS:
        if head.startswith(mark):
            return encoding
    start = head[: 4096 - 4096 % 4]
    zeros = [2 * start[place::4].count(0) > len(start) // 4 for place in range(4)]
    if not start.count(0):
        return None
    return _ZEROS.get("".join("0" if is_zero else "x" for is_zero in zeros)) or _decoding(start)


def _decoding(start: bytes) -> str | None:
    """Return the encoding of text in another script, whose only zero bytes may be those of its blanks and signs."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    names = ["utf-32-le", "utf-32-be"]  # in which hardly anything else can be decoded
    if not (even and odd) and re.search(r"[\x01-\x08\x0e-\x1f\ufffd]", start[:-4].decode(errors="replace")):
        names.append("utf-16-be" if even else "utf-16-le")
    for name in names:
        with suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(name)().decode(start)
            if all(sign.isprintable() or sign.isspace() for sign in text):
                return name
    return None


_MARKS = (
    ("utf-32", b"\xff\xfe\0\0"), ("utf-32", b"\0\0\xfe\xff"), ("utf-16", b"\xff\xfe"), ("utf-16", b"\xfe\xff"),
)  # fmt: skip
_ZEROS = {"x000": "utf-32-le", "000x": "utf-32-be", "x0x0": "utf-16-le", "0x0x": "utf-16-be"}
"""The bytes, of every four, that are mostly zero in Latin text."""


def _text_format(head: bytes, named: Format | None, options: ParseOptions, shown: str) -> Format:
    text = head.removeprefix(BOM).lstrip(b" \t\r\n")
    if options.delimiter == "none":
        return "csv"
    if options.delimiter is None and _CHAT_LOG.match(text):
        raise InputError(
            "this is a chat log, as WhatsApp exports it, not data", code="file.not_data", at=Location(shown),
            hint=_CHAT_HINT,
        )  # fmt: skip
    if named in ("csv", "tsv") or options.delimiter or not options.header:
        return _json_lines_or(text, named if named in ("csv", "tsv") else _delimited(text, options))
    if text.startswith(b"[") and not _is_prose(text):
        return "jsonl" if _lines_are_lists(text) else "json"
    if text.startswith(b"{"):
        return "jsonl" if _first_line_is_object(text) else _document_or_lines(text)
    return _delimited(text, options) if named is None and _looks_delimited(text) else "jsonl"


_CHAT_LOG = re.compile(
    rb"(\xe2\x80\x8e)?\[?\d{1,4}([./-])\d{1,2}\2\d{2,4},? "
    rb"\d{1,2}[:.]\d\d([:.]\d\d)?([^\w\n]{0,3}[ap]\.?m\.?)?(\]| -) [^\n]",
    re.IGNORECASE,
)
"""A line of a chat log: `[20.06.19, 15:58:57] Lena: hi` or `12/31/23, 9:41 PM - Lena: hi`."""
_CHAT_HINT = (
    'write a JSON line of each message, {"sender": …, "text": …}, and convert them with --group-by @file --me NAME; '
    f"{PLAIN_TEXT}"
)


def _delimited(text: bytes, options: ParseOptions) -> Format:
    return "tsv" if b"\t" in text.split(b"\n", 1)[0] and not options.delimiter else "csv"


def _is_prose(text: bytes) -> bool:
    """Whether text that begins with a bracket is not JSON, such as a chat log: `[20.06.19, 15:58] Ann: hi`."""
    return not is_list_start(text[:80].decode(errors="replace"))


def _json_lines_or(text: bytes, named: Format) -> Format:
    """The named format, unless the text is certainly JSON."""
    if text.startswith(b"{") and _first_line_is_object(text):
        return "jsonl"
    return "json" if re.match(rb"\[\s*(\{\s*\"|\])", text) else named


def _first_line_is_object(text: bytes) -> bool:
    """Whether the first line is a complete object, as far as the text goes."""
    line, end, _ = text.partition(b"\n")
    try:
        parse_object(line)
    except RowError:
        return not end and len(text) >= HEAD - len(BOM)
    return True


def _lines_are_lists(text: bytes) -> bool:
    """Whether the first line is a complete list and another follows; a single list is an array of records."""
    line, _, rest = text.partition(b"\n")
    if not rest.lstrip(b" \t\r\n").startswith(b"["):
        return False
    try:
        return type(parse_value(line)) is list
    except RowError:
        return False


def _document_or_lines(text: bytes) -> Format:
    """Decide between a document over several lines and JSON Lines with a bad first line."""
    line = text.split(b"\n", 1)[0].rstrip()
    return "json" if re.fullmatch(rb"\{|\{.*[,:\[{]", line, re.DOTALL) else "jsonl"


def _looks_delimited(text: bytes) -> bool:
    line = text.split(b"\n", 1)[0]
    return (b"," in line or b"\t" in line) and not re.search(rb"[{}\[\]]", line)
