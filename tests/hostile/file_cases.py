# ruff: noqa: E501
"""Files that are not what they seem: foreign formats, other encodings, nothing at all, and things that are no files."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

from .case import GOOD, Case, Content, Error, Expected, Kept, Rows, Told, fifo, folder, lines, link, locked


def sparse(head: bytes) -> Callable[[Path], None]:
    """A file of a terabyte that takes a block on the disk."""

    def write(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, 1 << 40)

    return write


def zipped(name: str, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of a file of that name."""
    with zipfile.ZipFile(made := io.BytesIO(), "w", method) as archive:
        archive.writestr(name, GOOD)
    return made.getvalue()


def damaged(method: int) -> bytes:
    """A zip archive whose packed data are damaged."""
    made = zipped("in.jsonl", method)
    return made[:40] + bytes(byte ^ 0x5A for byte in made[40:80]) + made[80:]


UNREAD = Error(3, "file.damaged", "the archive cannot be read: ")
TOO_LONG = Error(3, "file.damaged", "the archive has a file whose name is too long")
ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
EMPTY = Error(3, "file.empty", "no records")


def file(name: str, content: Content, expected: Expected, source: str = "in.jsonl", *options: str) -> Case:
    return Case(name, {source: content}, expected, ("convert", source, "-o", "out.jsonl", *options))


class Trap:
    """Unpickled, it makes a file named `pwned`."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (open, ("pwned", "w"))


FOREIGN: dict[str, tuple[bytes, str]] = {
    "a pickle": (pickle.dumps(Trap(), 2), "this is a Python pickle, which chatfmt never loads"), "a pickle, protocol 4": (pickle.dumps(Trap(), 4), "this is a Python pickle"),
    "a pickle, protocol 5": (pickle.dumps(Trap(), 5), "this is a Python pickle"), "a zip": (b"PK\x03\x04" + b"\0" * 30, "this is a zip archive (or a PyTorch file)"),
    "NumPy": (b"\x93NUMPY\x01\0", "this is a NumPy array"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "this is an HDF5 file"), "SQLite": (b"SQLite format 3\0", "this is an SQLite database"), "7z": (b"7z\xbc\xaf\x27\x1c", "this is a 7z archive"),
    "RAR": (b"Rar!\x1a\x07\x01\0", "this is a RAR archive"), "Avro": (b"Obj\x01\x02", "this is an Avro file"), "ORC": (b"ORC\x0a", "this is an ORC file"), "PDF": (b"%PDF-1.7\n", "this is a PDF"),
    "PNG": (b"\x89PNG\r\n\x1a\n", "this is a picture"), "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF", "this is a picture"), "a web page": (b"<!doctype html>\n<title>x</title>", "this is a web page or XML, not data"),
    "a web page, spaces first": (b"\r\n  <HTML><body>", "this is a web page or XML, not data"), "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "this is a web page or XML, not data"),
    "a zip named .csv": (b"PK\x03\x04" + b"\0" * 30, "this is a zip archive"), "a GIF": (b"GIF89a\x01\0", "this is a picture"), "an ELF program": (b"\x7fELF\x02\x01\x01\0", "this is a program"),
    "safetensors": (b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(64), "this is a safetensors file"), "GGUF": (b"GGUF\x03\0\0\0", "this is a GGUF model"),
    "an old Word file": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "this is an old Office file"), "lz4": (b"\x04\x22\x4d\x18\x64", "this is lz4 data"), "LZIP": (b"LZIP\x01", "this is lzip data"),
    "snappy": (b"\xff\x06\0\0sNaPpY", "this is snappy data"), "compress": (b"\x1f\x9d\x90", "this is compress (.Z) data"),
}  # fmt: skip
TEXT = lines(GOOD, GOOD).decode()
WIDE: dict[str, tuple[bytes, str, str]] = {
    "UTF-16 and a mark": (TEXT.encode("utf-16"), "UTF-16", "utf-16"), "UTF-16, little end first": (TEXT.encode("utf-16-le"), "UTF-16", "utf-16-le"), "UTF-16, big end first": (TEXT.encode("utf-16-be"), "UTF-16", "utf-16-be"),
    "UTF-16 and the other mark": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16", "utf-16"), "UTF-32 and a mark": (TEXT.encode("utf-32"), "UTF-32", "utf-32"), "UTF-32, little end first": (TEXT.encode("utf-32-le"), "UTF-32", "utf-32-le"),
    "UTF-32, big end first": (TEXT.encode("utf-32-be"), "UTF-32", "utf-32-be"),
}  # fmt: skip
NOTHING: dict[str, bytes] = {
    "blank lines": b"\n\n\n", "spaces": b"   ", "spaces and tabs": b" \t \r\n\t\n", "only a BOM": b"\xef\xbb\xbf", "a BOM and a line end": b"\xef\xbb\xbf\n", "an empty array": b"[]", "an empty array, spread": b"\n[\n]\n",
}  # fmt: skip

CASES: list[Case] = [
    *(file(name, content, Error(3, "file.not_data", says), "in.csv" if name.endswith("csv") else "in.jsonl") for name, (content, says) in FOREIGN.items()),
    *(file(name, content, Error(3, "file.encoding", f"this is {what}, not UTF-8")) for name, (content, what, _) in WIDE.items()),
    *(file(f"{name}, said so", content, Rows([ROW] * 2), "in.jsonl", "--encoding", encoding) for name, (content, _, encoding) in WIDE.items()),
    *(file(name, content, EMPTY) for name, content in NOTHING.items()),
    *(file(f"holes of a terabyte, {name}", sparse(head), Error(3, "file.truncated", "1,099,511,"), name) for name, head in {"in.jsonl": lines(GOOD), "in.csv": b"prompt,completion\na,b\n", "in.jsonl.gz": b"", "in.parquet": b"PAR1", "in.xlsx": b"", "in.tar": b"in.jsonl".ljust(257, b"\0") + b"ustar\0"}.items()),
    file("nothing", b"", Error(3, "file.empty", "the file is empty")), file("nothing, allowed", b"", Told(0, stderr=("wrote 0 rows",)), "in.jsonl", "--allow-empty"),
    file("blank lines, allowed", b"\n\n", Told(0, stderr=("wrote 0 rows",)), "in.jsonl", "--allow-empty"), file("an empty array, allowed", b"[]", Told(0, stderr=("wrote 0 rows",)), "in.json", "--allow-empty"),
    file("a pickle in gzip", gzip.compress(pickle.dumps(Trap(), 4), mtime=0), Error(3, "file.not_data", "this is a Python pickle"), "in.jsonl.gz"),
    file("a pickle, protocol 0", b"c__builtin__\nopen\n(S'pwned'\nS'w'\ntR.", Error(4, "json.syntax", "not JSON: ")), file("Python", b"import os\nopen('pwned', 'w')\n", Error(4, "json.syntax", "not JSON: ")),
    file("a folder named .jsonl", folder, Error(3, "file.missing", "no data files in `in.jsonl`")), file("a pipe that has a name", fifo, Error(3, "file.missing", "`in.jsonl` is not a regular file")),
    file("a link to nothing", link("nowhere"), Error(3, "file.missing", "no such file `in.jsonl`")), file("a link to itself", link("in.jsonl"), Error(3, "file.missing", "no such file `in.jsonl`")),
    file("a link to a device", link("/dev/zero"), Error(3, "file.missing", "`in.jsonl` is not a regular file")),
    *([file("not to be read", locked, Error(3, "file.permission", "cannot open `in.jsonl`: Permission denied"))] if os.geteuid() else []),
    Case("no file", {}, Error(3, "file.missing", "no such file `in.jsonl`")), Case("a name that ends in a slash", {"in.jsonl": GOOD}, Rows([ROW]), ("convert", "in.jsonl/", "-o", "out.jsonl")),
    Case("an empty name", {}, Error(3, "file.missing", "no such file ``"), ("convert", "", "-o", "out.jsonl")), Case("a name that is too long", {}, Error(3, "file.missing", "no such file `xxxx"), ("convert", "x" * 300 + ".jsonl", "-o", "out.jsonl")),
    Case("a name of 60,000 characters", {}, Told(3, stderr=(f"no such file `{'x' * 199} … {'x' * 193}.jsonl`\n",)), ("convert", "x" * 60_000 + ".jsonl", "-o", "out.jsonl")),
    *(Case(f"damaged data in an archive, method {method}", {"in.zip": damaged(method)}, UNREAD, ("convert", "in.zip", "-o", "out.jsonl")) for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
    Case("a name that is not UTF-8 in an archive", {"in.zip": zipped("ü.jsonl").replace("ü".encode(), b"\x81x")}, UNREAD, ("convert", "in.zip", "-o", "out.jsonl")),
    Case("such names in an archive", {"in.zip": zipped("x" * 60_000 + ".jsonl")}, TOO_LONG, ("convert", "in.zip", "-o", "out.jsonl")), Case("deep folders in an archive", {"in.zip": zipped("x/" * 20_000 + "x.jsonl")}, TOO_LONG, ("convert", "in.zip", "-o", "out.jsonl")),
    Case("a folder without data", {"d/README.txt": b"x"}, Error(3, "file.missing", "no data files in `d`"), ("convert", "d", "-o", "out.jsonl")),
    Case("a folder of code", {"d/data.py": b"open('pwned','w')"}, Error(3, "file.missing", "no data files in `d`"), ("convert", "d", "-o", "out.jsonl")),
    Case("one of two with nothing inside", {"d/a.jsonl": GOOD + b"\n", "d/b.jsonl.gz": gzip.compress(b"")}, Error(3, "file.empty", "the file is empty"), ("convert", "d", "-o", "out.jsonl")),
    Case("one empty file of two", {"d/a.jsonl": GOOD + b"\n", "d/b.jsonl": b""}, Error(3, "file.empty", "the file is empty"), ("convert", "d", "-o", "out.jsonl")),
    Case("a scheme that nobody knows", {}, Error(2, "", "cannot open `gopher://x/y.jsonl`: no file system of fsspec is called `gopher`"), ("convert", "gopher://x/y.jsonl", "-o", "out.jsonl")),
    Case("a package that is not there", {}, Error(2, "", "`sftp://` needs the package `paramiko`"), ("convert", "sftp://nowhere/y.jsonl", "-o", "out.jsonl")),
    Case("another package that is not there", {}, Error(2, "", "`abfs://` needs the package `adlfs`"), ("convert", "abfs://bucket/y.jsonl", "-o", "out.jsonl")),
    Case("nothing through a pipe", {}, Error(3, "file.empty", "the input is empty"), ("convert", "-"), stdin=b""), Case("spaces through a pipe", {}, EMPTY, ("convert", "-"), stdin=b" \n\n"),
    Case("half a row through a pipe", {}, Error(4, "json.syntax", "not JSON: "), ("convert", "-"), stdin=GOOD[:40]), Case("rows through a pipe", {}, Kept(), ("convert", "-"), stdin=lines(GOOD, GOOD)),
    Case("a pickle through a pipe", {}, Error(3, "file.not_data", "this is a Python pickle"), ("convert", "-"), stdin=pickle.dumps(Trap(), 4)), Case("UTF-16 through a pipe", {}, Error(3, "file.encoding", "this is UTF-16, not UTF-8"), ("convert", "-"), stdin=TEXT.encode("utf-16")),
    Case("cut gzip through a pipe", {}, Error(3, "file.truncated", "the gz data is truncated"), ("convert", "-", "-o", "out.jsonl"), stdin=gzip.compress(TEXT.encode() * 99, mtime=0)[:-20]),
    Case("nothing through a pipe, allowed", {}, Told(0, stderr=("wrote 0 rows",)), ("convert", "-", "--allow-empty"), stdin=b""),
]  # fmt: skip
