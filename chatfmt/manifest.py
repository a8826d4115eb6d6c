"""The manifest of an output folder: what was written, and from what. It is written last; `verify` checks against it.

```
OUT/README.md                          card
OUT/data/train-00000-of-00007.parquet  the shards
OUT/.chatfmt/manifest.json             this file; without it the output is not complete
OUT/.chatfmt/rejects.jsonl             the rejected rows, each with its reason
```

The bytes of a manifest are a function of its content, and its last key `sha256` is the hash of everything before it,
so that a change of any byte is detected.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from .errors import DataProblem, InputError, Location, UsageError
from .stores import url_of
from .whole_files import read_whole

VERSION = 1
SEMANTICS = "5.23"
"""The release of transformers whose chat template semantics are implemented."""
DATA = "data"
CARD = "README.md"
STATE = ".chatfmt"
MANIFEST = f"{STATE}/manifest.json"
REJECTS = f"{STATE}/rejects.jsonl"
UNFINISHED = f"{STATE}/run.json"
"""The record of a run on a store, which is there until its manifest is."""
NAME_A_FOLDER = "name a folder that chatfmt wrote"
RESUME = "the same `chatfmt convert` with --resume finishes an interrupted run"
_SHA256 = hashlib.sha256()
RAW_LIMIT = 64 * 1024
"""Bytes of a rejected row that are kept."""

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()


class Shard(Struct, frozen=True, forbid_unknown_fields=True):
    """One output file. `rows_in + added = rows + rejected + filtered + duplicates + merged`, each counted separately.

    `name` is the path in the output folder. `rows_in` are the rows read, `merged` those that became part of another
    row, `added` those that one row gave beyond the first. `inputs` names the parts of the input, as plain data;
    `counts` are counters of transforms, warnings and engines. `reject_*` describe its rejects file, if it has one.
    `types` are the types of its columns as text, if the card needs them; a manifest does not hold them.
    """

    name: str
    split: str = "train"
    rows: int = 0
    rejected: int = 0
    filtered: int = 0
    duplicates: int = 0
    bytes: int = 0
    sha256: str = ""
    inputs: tuple[Any, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    rows_in: int = 0
    added: int = 0
    merged: int = 0
    reject_bytes: int = 0
    reject_sha256: str = ""
    types: str = ""
    arrow_bytes: int = 0
    """The size of the rows in Arrow, without compression."""


SUMS = ("rows_in", "rows", "rejected", "filtered", "duplicates", "added", "merged", "bytes")
"""The fields of a Shard that `totals` sums."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """One conversion. `recipe` is resolved, plain data; `sources` have `id`, `revision` and file hashes.

    `template` has `name` and `sha256`, `engine` has the engine and the level of isolation; either may be empty.
    `totals` and `rejects` (bytes and sha256 of the rejects file) are filled in by the commit of the output folder.
    """

    fingerprint: str
    shards: tuple[Shard, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Mapping[str, Any], ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    rejects: Mapping[str, Any] = field(default_factory=dict)
    card_sha256: str = ""
    chatfmt: str = ""
    semantics: str = SEMANTICS
    version: int = VERSION

    @property
    def balanced(self) -> bool:
        """Whether every row read is accounted for, in each shard."""
        return all(balanced(shard) for shard in self.shards)

    def to_json(self) -> str:
        """Return the text of the file, the same for the same content."""
        data = msgspec.to_builtins(self)
        for shard in data["shards"]:
            del shard["types"]
        return _pretty({**data, "sha256": fingerprint(data)})

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return the manifest in the text of its file; raises InputError if a byte was changed."""
        data = _parse_object(text, "manifest")
        digest = data.pop("sha256", None)
        if data.get("version") != VERSION:
            raise InputError(
                f"the manifest has version `{data.get('version')}`, and this version of chatfmt reads `{VERSION}`",
                hint="use the version of chatfmt that wrote it",
            )
        manifest = _convert(cls, data)
        complete = not manifest.rejects or {"bytes", "sha256"} <= manifest.rejects.keys()
        if digest != fingerprint(data) or manifest.to_json() != text or not complete:
            raise InputError("the manifest was changed after it was written", hint="convert again with `--overwrite`")
        return manifest


class RawRow(Struct, frozen=True, gc=False, omit_defaults=True):
    """The text of a rejected row, at most RAW_LIMIT of its `len` bytes; `enc` is `utf-8`, or `base64` for other bytes.

    `csv` describes how to read a record of delimited text, which is not JSON:
    `{"columns": ["user", "assistant"], "delimiter": ",", "quote": true}`. Without a header there are no columns, and
    the fields of the record are `column1`, …; `quote` says whether quotes enclose fields.
    """

    enc: str
    data: str
    len: int
    truncated: bool
    sha256: str
    csv: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, raw: bytes, csv: Mapping[str, Any] | None = None) -> RawRow:
        """Return what is kept of the bytes of a row."""
        kept = raw[:RAW_LIMIT]
        try:
            text, encoding = kept.decode(), "utf-8"
        except UnicodeDecodeError:
            text, encoding = base64.b64encode(kept).decode(), "base64"
        digest = _SHA256.copy()  # a fifth faster than a new one
        digest.update(raw)
        return cls(encoding, text, len(raw), len(raw) > RAW_LIMIT, digest.hexdigest(), csv)

    @property
    def kept(self) -> bytes:
        """The bytes that are kept."""
        return base64.b64decode(self.data) if self.enc == "base64" else self.data.encode()


class Reject(Struct, frozen=True, gc=False, tag_field="v", tag=VERSION):
    """One rejected row, a line of the rejects file: its stable reason code, the reason in words, where it was read.

    `raw` is the row as it is in the file, or its JSON text for sources without lines; None if it must not be kept.
    """

    code: str
    detail: str
    source: Location
    raw: RawRow | None = None

    @classmethod
    def from_json(cls, line: str) -> Reject:
        """Return the reject in one line of the file; raises InputError for anything else."""
        try:
            return msgspec.json.decode(line, type=cls)
        except (msgspec.MsgspecError, RecursionError):
            raise InputError(
                "this is not a rejects file of chatfmt", hint="name the `rejects.jsonl` of a conversion"
            ) from None


REJECT_START = f'{{"v":{VERSION},"code":'.encode()
"""How a line of the rejects file begins."""


def reject_lines(rejects: Sequence[Reject]) -> bytes:
    """Return the lines of the rejects file for some rows, in UTF-8."""
    return _ENCODER.encode_lines(rejects)


class FolderProblem(Struct, frozen=True):
    """One difference that `verify` found.

    `code`: `manifest`, `missing`, `extra`, `size`, `sha256`, `rows`, `page` or `balance`.
    """

    code: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def fingerprint(data: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of the canonical JSON of plain data: keys sorted, compact, UTF-8.

    Raises UsageError for text that UTF-8 does not have, such as the bytes of an argument in another encoding.
    """
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        near = text[max(error.start - 30, 0) : error.end]
        raise UsageError(f"an option is not UTF-8: `…{near}`", hint="write it in UTF-8") from None


def balanced(shard: Shard) -> bool:
    """Return whether the row counts of one shard balance."""
    out = shard.rows + shard.rejected + shard.filtered + shard.duplicates + shard.merged
    return shard.rows_in + shard.added == out


def totals(shards: Sequence[Shard]) -> dict[str, int]:
    """Return the sums over the shards, then the sums of their counters by name."""
    sums = {name: sum(getattr(shard, name) for shard in shards) for name in SUMS}
    for shard in shards:
        for name, count in shard.counts.items():
            sums[f"counts.{name}"] = sums.get(f"counts.{name}", 0) + count
    return sums


def shard_to_json(shard: Shard, **more: Any) -> str:
    """Return the text of a receipt: the shard, the keys of `more`, and a hash of both."""
    data = {**more, "shard": msgspec.to_builtins(shard)}
    return _pretty({**data, "sha256": fingerprint(data)})


def shard_from_json(text: str, **expected: Any) -> Shard:
    """Return the shard in a receipt; raises InputError if it is damaged or its keys differ from `expected`."""
    data = _parse_object(text, "receipt")
    digest = data.pop("sha256", None)
    if digest != fingerprint(data) or any(data.get(name) != value for name, value in expected.items()):
        raise InputError("the receipt is damaged or belongs to another run", hint="run again with `--resume`")
    return _convert(Shard, data.get("shard"))


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an output folder; raises InputError if it is missing or damaged."""
    path = folder / MANIFEST
    if url := url_of(folder):
        raise InputError(f"`{url}` is not a folder on this machine", hint="download it, and name the copy")
    if not folder.exists():
        raise InputError(f"{folder}: there is no such folder", hint=NAME_A_FOLDER)
    try:
        return Manifest.from_json(read_whole(path).decode())
    except FileNotFoundError:
        raise InputError(
            f"`{folder}` holds no finished conversion: `{MANIFEST}` is missing", hint=f"{NAME_A_FOLDER}; {RESUME}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"`{path}` cannot be read: {reason}", hint="convert again with `--overwrite`") from None


def verify(folder: Path) -> list[FolderProblem]:
    """Return every difference between an output folder and its manifest; none if all bytes are as written.

    Reads all of the data. The card may be edited, which is not damage: see `card_change`. Damaged data raises nothing.
    """
    if not folder.is_dir():
        return [no_folder(is_file=folder.exists())]
    if not (folder / MANIFEST).exists():
        return [FolderProblem("manifest", MANIFEST, "is missing")]
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        return [FolderProblem("manifest", MANIFEST, error.message)]
    return list(problems_of(folder, manifest, _data_files(folder)))


def no_folder(*, is_file: bool) -> FolderProblem:
    """Return the problem of a path or URL at which there is no folder."""
    what = "it is a file; only folders have a manifest" if is_file else "there is no such folder"
    return FolderProblem("manifest", "", what)


def card_change(folder: Path, manifest: Manifest) -> str:
    """Return what has become of the card since it was written, in words; empty if it is as written.

    A card is there to be edited by hand, so a change is not damage.
    """
    problem = next(_file_problems(folder, CARD, None, manifest.card_sha256), None)
    if problem is None or not manifest.card_sha256:
        return ""
    return f"the card `{CARD}` {'has been edited since' if problem.code == 'sha256' else problem.message}"


def check_folder(folder: Path) -> Manifest:
    """Return the manifest of an output folder; raises DataProblem with all that `verify` finds."""
    if problems := verify(folder):
        raise damaged(folder, problems)
    return read_manifest(folder)


def damaged(folder: Path | str, problems: Sequence[FolderProblem]) -> DataProblem:
    """Return the error for a folder that differs from its manifest."""
    hint, of_manifest = "convert again with --overwrite", [each for each in problems if each.code == "manifest"]
    if of_manifest:
        again = f"; {RESUME}, with --overwrite it begins again" if of_manifest[0].path else ""
        hint = f"{NAME_A_FOLDER}{again}"
    return DataProblem(f"{folder}: " + "; ".join(map(str, problems)), hint=hint)


def damage(folder: Path, manifest: Manifest) -> Iterator[FolderProblem]:
    """Yield each file of the manifest that is missing or whose bytes differ; all are read, none is decoded."""
    for shard in manifest.shards:
        yield from _file_problems(folder, shard.name, shard.bytes, shard.sha256)
    yield from _reject_problems(folder, manifest)


def problems_of(
    folder: Path,
    manifest: Manifest,
    names: AbstractSet[str],
    present: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Iterator[FolderProblem]:
    """Yield every difference between a folder and a manifest. `names` are the files in `data`.

    Each file is read inside `present(name)`, which may bring it to the folder.
    """
    for shard in manifest.shards:
        with present(shard.name):
            yield from _shard_problems(folder, shard)
    known = {shard.name for shard in manifest.shards}
    for name in sorted(names - known):
        yield FolderProblem("extra", name, "is not in the manifest")
    if manifest.rejects:
        with present(REJECTS):
            yield from _reject_problems(folder, manifest)
    if not manifest.balanced:
        yield FolderProblem("balance", MANIFEST, "rows in differ from rows out + rejected + filtered + duplicates")
    if dict(manifest.totals) != totals(manifest.shards):
        yield FolderProblem("balance", MANIFEST, "the totals differ from the sums over the shards")


def _data_files(folder: Path) -> set[str]:
    found = (folder / DATA).rglob("*")
    return {path.relative_to(folder).as_posix() for path in found if path.is_symlink() or not path.is_dir()}


def _shard_problems(folder: Path, shard: Shard) -> Iterator[FolderProblem]:
    found = list(_file_problems(folder, shard.name, shard.bytes, shard.sha256))
    yield from found
    if found:  # damaged: nothing in it can be trusted, and native readers may crash on it
        return
    read = _parquet_rows if shard.name.endswith(".parquet") else _lines
    try:
        rows = read(folder / shard.name)
    except (OSError, EOFError, ValueError) as error:  # damaged before it was hashed
        yield FolderProblem("page", shard.name, f"cannot be decoded: {error}")
        return
    if rows != shard.rows:
        yield FolderProblem("rows", shard.name, f"has {rows:,} rows, the manifest says {shard.rows:,}")


def _reject_problems(folder: Path, manifest: Manifest) -> Iterator[FolderProblem]:
    if record := manifest.rejects:
        yield from _file_problems(folder, REJECTS, int(record["bytes"]), str(record["sha256"]))


def _file_problems(folder: Path, name: str, size: int | None, digest: str) -> Iterator[FolderProblem]:
    path = folder / name
    try:
        actual = path.stat().st_size
        if size is not None and actual != size:
            yield FolderProblem("size", name, f"has {actual:,} bytes, the manifest says {size:,}")
        elif file_sha256(path) != digest:
            yield FolderProblem("sha256", name, "its bytes differ from what was written")
    except FileNotFoundError:
        yield FolderProblem("missing", name, "is missing")
    except OSError as error:
        yield FolderProblem("missing", name, f"cannot be read: {error.strerror}")


def _parquet_rows(path: Path) -> int:
    """Count the rows of a Parquet file; decodes all of them and compares every page with its checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return sum(len(batch) for batch in file.iter_batches(1024, use_threads=False))
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _lines(path: Path) -> int:
    """Count the lines of a file, which may be compressed."""
    import zstandard

    try:
        with _open(path) as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise ValueError(str(error)) from error


def _open(path: Path) -> Any:
    if path.suffix == ".zst":
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True)
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return openers.get(path.suffix, open)(path, "rb")


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(cls: type[T], data: Any) -> T:
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError:
        raise InputError("the manifest was changed after it was written", hint="convert again") from None


def _parse_object(text: str, what: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
        json.dumps(data, allow_nan=False)  # raises for NaN and infinities, which `json.loads` accepts
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InputError(f"the {what} is damaged", hint="convert again with `--overwrite`")
    return data


def _pretty(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
