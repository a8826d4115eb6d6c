"""The target of a conversion, its path and its format, from `--out`, `--format` and `--compression`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from ... import writers
from ...errors import UsageError
from ...manifest import MANIFEST, STATE
from ...recipe import Recipe, Run
from ...stores import Store, check_writable, shown, url_of
from ...validation import flag_of, to_path
from ..hub_upload import Repository, check_may_push

Kind = Literal["folder", "file", "stream", "hub", "store", "store-file"]


class Target(Struct, frozen=True):
    """The output: a folder of shards (here, on the Hub or on a store), one file (here or there), or a stream."""

    kind: Kind
    path: Path
    format: str
    compression: str | None

    @property
    def ending(self) -> str:
        """The suffix of its files, such as `.jsonl.zst`."""
        return writers.file_ending(self.format, self.compression)

    @property
    def holds_shards(self) -> bool:
        """Whether it is a folder of shards."""
        return self.kind in ("folder", "hub", "store")

    @property
    def is_file(self) -> bool:
        """Whether it is one file."""
        return self.kind in ("file", "store-file")

    def __str__(self) -> str:
        if self.kind == "hub":
            return str(Repository.of(str(self.path)))
        return shown(self.path) if self.kind in ("store", "store-file") else str(self.path)


STDOUT = Path("-")
LINES = Target("stream", STDOUT, "jsonl", None)
"""The target of rows that are converted only to be looked at."""
_UNSUPPORTED = {".csv", ".tsv", ".txt", ".arrow", ".yaml", ".md", ".gz", ".zst", ".bz2", ".xz"}


def target_of(out: Path | str | None, format: str | None, compression: str | None) -> Target:
    """Return the target that the options name; raises UsageError for a format that cannot be written.

    No OUT and `-` are stdout, `hf://datasets/…` is a dataset on the Hub. Any other name or URL is one file if it has
    the suffix of a data file, and a folder if not.
    """
    path = STDOUT if out is None else to_path(out) if isinstance(out, str) else out
    url = url_of(path)
    named = None if path == STDOUT or path.is_dir() else writers.format_from_name(path.name)
    kind: Kind = "file" if named else "folder"
    if url is not None:
        named = named if url.count("/") > 2 and not url.startswith("hf:") else None
        kind = _remote(url, is_file=named is not None)
    elif path == STDOUT or writers.is_stream(path):
        kind = "stream"
    other = path.suffix in _UNSUPPORTED or writers.format_from_name(path.stem)
    if other and kind in ("folder", "store") and not path.is_dir():
        raise UsageError(
            f"unsupported output format: `{url or path}`", hint="name a .jsonl or .parquet file, or a folder"
        )
    default = "jsonl" if kind in ("file", "stream") else "parquet"
    chosen = format or (named[0] if named else default)
    chosen_compression = compression or (named[1] if named else None)
    if named and format and named[0] != format:
        raise UsageError(f"`--format {format}` does not match the name `{path.name}`", hint="leave one of them out")
    if named and compression and chosen == "jsonl" and compression != (named[1] or "none"):
        text = f"`--compression {compression}` does not match the name `{path.name}`"
        raise UsageError(text, hint="leave one of them out")
    if kind == "stream" and chosen == "parquet":
        raise UsageError("Parquet cannot be streamed: its footer is written last", hint="name a file with -o x.parquet")
    writers.check_compression(chosen, chosen_compression)
    return Target(kind, path, chosen, chosen_compression)


def _remote(url: str, *, is_file: bool) -> Kind:
    """Return the kind of a target at a URL; raises UsageError unless something can be written there."""
    if url.startswith("hf://datasets/"):
        Repository.of(url)
        return "hub"
    check_writable(url, is_file=is_file)
    return "store-file" if is_file else "store"


def check_accepts(target: Target, run: Run) -> None:
    """Raise OutputError for a store or dataset that may not be written to, before rows are read.

    A folder on a store that holds an output need not be writable.
    """
    if target.kind == "hub" and not run.dry_run:
        check_may_push(Repository.of(str(target)), public=run.public)
    rejects = url_of(run.rejects) if run.rejects is not None else None
    if rejects is not None:
        check_writable(rejects, is_file=True)
    for url in () if run.dry_run else filter(None, (str(target) if target.kind == "store-file" else None, rejects)):
        folder, name = url.rsplit("/", 1)
        Store(folder).check_accepts(f".{name}.chatfmt", removal=False)
    if target.kind == "store" and not run.dry_run:
        store = Store(str(target))
        if run.overwrite or not store.has(MANIFEST):
            store.check_accepts(f"{STATE}/access", removal=True)


def check_run(run: Run, target: Target) -> None:
    """Raise UsageError for `--public` with an output on this machine, and for `--resume` with a stream."""
    if run.public and target.kind != "hub":
        raise UsageError("`--public` is about datasets on the Hub", hint="-o hf://datasets/OWNER/NAME")
    if run.resume and target.kind == "stream":
        raise UsageError("`--resume` needs an output that keeps finished shards, and a stream does not", hint="-o out/")


def check_selection(recipe: Recipe, target: Target) -> None:
    """Raise UsageError for a selection of rows that needs another kind of target."""
    if recipe.split_by is not None and not recipe.test_fraction:
        raise UsageError("`--split-by` needs a second split", hint="--test-fraction 0.1")
    if recipe.test_fraction and not target.holds_shards:
        target_kind = "a stream" if target.kind == "stream" else "one file"
        raise UsageError(
            f"`--test-fraction` creates a second split, and {target_kind} holds only one", hint="name a folder with -o"
        )
    for key in ("shards", "tokens_per_shard"):
        if getattr(recipe, key) and not target.holds_shards:
            raise UsageError(f"`{flag_of(key)}` divides a folder of shards", hint="name a folder with -o")
    writers.check_shard_name(recipe.shard_name, recipe.shards)
    if recipe.shuffle and target.kind == "stream" and "-" in [spec.source for spec in recipe.source]:
        raise UsageError(
            "`--shuffle` cannot write before the last row has been read",
            hint="name a file with -o, or the source file instead of -",
        )
