"""Archives of data files, and spreadsheets: written out as files in a folder, from which they are read like any other.

    zip, tar, tar.gz (bz2, xz, zst)    the members whose names say that they are data, and the card
    xlsx, xlsm, xls, xlsb, ods         one sheet as CSV; see `spreadsheets`

Nothing is written outside of the folder, whatever members are called. An archive that unpacks to more than 1000 times
its size is refused.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from msgspec import Struct

from ...errors import InputError, Location
from ...scratch_folder import explained, write
from ...whole_files import check_written
from ..bytes.compression import CHUNK, check_ratio, compression_of, decompressed, file_chunks
from .sniff import format_by_name
from .spreadsheets import read_sheet

SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_CARD = "README.md"
_PIECE = 16 << 10
"""Bytes that are asked for of a member of a zip archive, which unpacks as many packed ones whole, of bzip2 or LZMA."""
_HEAD = 64 << 10
"""Bytes at the start of a file that show what it is."""


class Unpacked(Struct, frozen=True):
    """The name of the sheet that was read of a spreadsheet, and what there is to say about an archive."""

    sheet: str | None = None
    notes: tuple[str, ...] = ()


Unpack = Callable[[Path, Path, str | None], Unpacked]
"""Unpacks a file to a folder, given the name of a sheet or None."""


def unpacker(path: Path) -> Unpack | None:
    """Return the function that unpacks a file, None if it is neither an archive nor a spreadsheet.

    Raises InputError for one that was never written, as `check_written` does.
    """
    check_written(path, str(path))
    if path.suffix.lower() in SPREADSHEETS:
        return _unpack_sheet
    head = next(file_chunks(str(path), size=_HEAD), b"")
    if head.startswith(b"PK"):
        import zipfile

        return _unpack_zip if zipfile.is_zipfile(path) and not _is_office(path) else None
    return _unpack_tar if _is_tar(head, path) else None


def _is_office(path: Path) -> bool:
    from zipfile import ZipFile

    with _damaged(path), ZipFile(path) as archive:
        return any(name.startswith(("xl/", "word/", "ppt/", "[Content_Types]")) for name in archive.namelist())


def _is_tar(head: bytes, path: Path) -> bool:
    compression = compression_of(head)
    if compression is not None:
        try:
            head = next(decompressed(iter([head]), compression, str(path)), b"")
        except InputError:  # damaged: its reader says how
            return False
    return head[257:262] == b"ustar"


def _unpack_sheet(path: Path, folder: Path, name: str | None) -> Unpacked:
    """Write a sheet as CSV to a folder."""
    import zipfile

    if zipfile.is_zipfile(path):
        with _damaged(path), zipfile.ZipFile(path) as archive:
            check_ratio(sum(info.file_size for info in archive.infolist()), path.stat().st_size, str(path))
    return Unpacked(read_sheet(path, name, folder / "sheet.csv"))


def _unpack_zip(path: Path, folder: Path, name: str | None) -> Unpacked:
    """Write the data files of a zip archive to a folder."""
    from zipfile import ZipFile

    with _damaged(path), ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and _is_wanted(info.filename)]
        links = {info.filename for info in members if stat.S_ISLNK(info.external_attr >> 16)}
        contents = ((info.filename, None if info.filename in links else archive.open(info)) for info in members)
        return _write_members(path, folder, contents, _PIECE)


def _unpack_tar(path: Path, folder: Path, name: str | None) -> Unpacked:
    """Write the data files of a tar archive, compressed or not, to a folder."""
    import tarfile

    head = next(file_chunks(str(path), size=_HEAD), b"")
    stream = _Stream(decompressed(file_chunks(str(path)), compression_of(head), str(path)))
    with _damaged(path), tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
        members = (member for member in archive if not member.isdir() and _is_wanted(member.name))
        contents = ((each.name, archive.extractfile(each) if each.isfile() else None) for each in members)
        return _write_members(path, folder, contents)


class _Stream:
    """Reads from chunks, for `tarfile`."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._held = chunks, b""

    def read(self, size: int) -> bytes:
        while len(self._held) < size and (chunk := next(self._chunks, b"")):
            self._held += chunk
        found, self._held = self._held[:size], self._held[size:]
        return found


def _is_wanted(name: str) -> bool:
    return format_by_name(name) is not None or PurePosixPath(name).name == _CARD


def _write_members(
    path: Path, folder: Path, members: Iterable[tuple[str, IO[bytes] | None]], piece: int = CHUNK
) -> Unpacked:
    """Write members below the folder, and return a note on those without content: links and devices.

    Raises InputError without any others, or if they are far larger than the archive.
    """
    size, written = path.stat().st_size, 0

    def chunks_of(content: IO[bytes]) -> Iterator[bytes]:
        nonlocal written
        while chunk := content.read(piece):
            written += len(chunk)
            check_ratio(written, size, str(path))
            yield chunk

    left: list[str] = []
    targets: set[Path] = set()
    for name, content in members:
        if content is None:
            left.append(name)
            continue
        target = _target(path, folder, name, targets)
        targets.add(target)
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with content:
            write(target, chunks_of(content))
    if not any(file.is_file() and file.name != _CARD for file in folder.rglob("*")):
        raise InputError(f"no data files in `{path}`", code="file.missing", hint="unpack it and name a file")
    many = "1 link or device" if len(left) == 1 else f"{len(left):,} links or devices"
    named = f"`{left[0]}`{' …' * (len(left) > 1)}" if left else ""
    return Unpacked(notes=(f"skipped {many} in `{path}` ({named}): unpack it to read them",) if left else ())


def _target(path: Path, folder: Path, name: str, others: Collection[Path]) -> Path:
    """Return where a member is written: never outside of the folder; raises InputError if another is there."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    target = folder.joinpath(*(part for part in parts if part not in ("/", "..")))
    if target in others:
        message, hint = f"the archive has two files named `{name}`", "unpack it, and name its files"
        raise InputError(message, hint=hint, at=Location(str(path)), code="file.duplicate")
    if "\0" in name or target.is_dir() or any(part.is_file() for part in target.parents):
        message, hint = f"the archive has a file `{name}` that cannot be beside the others", "unpack it and name a file"
        raise InputError(message, hint=hint, at=Location(str(path)), code="file.damaged")
    return target


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Raise what archives raise, as when they are cut off or need a password, as InputError."""
    import lzma
    import tarfile
    import zipfile
    import zlib

    try:
        yield
    except (
        zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError,
        RuntimeError, OSError,
    ) as error:  # fmt: skip
        number = getattr(error, "errno", None)  # damaged bz2 data has none
        if number not in (None, errno.ENAMETOOLONG):
            raise
        if number is not None:
            message, hint = "the archive has a file whose name is too long", "unpack it and name a file"
            raise InputError(message, hint=hint, code="file.damaged", at=Location(str(path))) from None
        message, hint = f"the archive cannot be read: {error}", "download it again, or unpack it and name its files"
        raise InputError(message, hint=hint, code="file.damaged", at=Location(str(path))) from None
