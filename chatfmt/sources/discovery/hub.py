"""Resolve datasets of the Hugging Face Hub to files.

One call finds the dataset and pins its commit, `datasets` selects the files of the subset and split, and only those are
downloaded, to be read like any other files. The file list is saved (`$XDG_CACHE_HOME/chatfmt/hub`), so the dataset can
be read from the cache of `huggingface_hub` when the Hub does not answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from ...errors import InputError, Location
from ...stores import reason_of
from ..model import ParseOptions, Source
from .data_files import languages_of, licence_of, parse_data_files
from .hub_errors import HubRequest, Unreachable, is_transient, like_a_recipe, translate_hub_errors
from .local import local_file
from .split_slices import select_slices

_SECONDS = 15
_AT_ONCE = 4


class ResolvedDataset(Struct, frozen=True):
    """A dataset as the Hub has it: canonical id, commit, subset, and the paths of its files by split."""

    id: str
    sha: str
    subset: str | None
    licence: str | None
    languages: tuple[str, ...] = ()
    files: dict[str, list[str]] = field(default_factory=dict)


def resolve_hub(request: HubRequest, options: ParseOptions) -> Source:
    """Return the dataset, with the files of the requested split downloaded.

    Raises InputError if it does not exist or cannot be accessed or reached, UsageError or UnknownName for an unknown
    subset, split or revision.
    """
    _silence_libraries()
    notes: tuple[str, ...] = ()
    try:
        resolved = _query_hub(request)
        _save_answer(request, resolved)
    except Unreachable as error:
        resolved = _load_answer(request, error)
        notes = (f"{error.why}: using commit {resolved.sha[:12]} of `{resolved.id}` from the cache",)
    return _download_all(request, resolved, options, notes)


def _download_all(
    request: HubRequest, resolved: ResolvedDataset, options: ParseOptions, notes: tuple[str, ...]
) -> Source:
    paths = [(split, path) for split, files in resolved.files.items() for path in files]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        local = list(pool.map(lambda pair: _download(resolved, pair[1], offline=bool(notes)), paths))
    found = [local_file(path, options, shown) for path, (_, shown) in zip(local, paths, strict=True)]
    splits = {
        split: tuple(file for file, (name, _) in zip(found, paths, strict=True) if name == split)
        for split in resolved.files
    }
    return Source(
        request.source, "hub", splits, dataset_id=resolved.id, revision=resolved.sha, subset=resolved.subset,
        licence=resolved.licence, languages=tuple(resolved.languages), notes=notes, options=options,
    )  # fmt: skip


def _silence_libraries() -> None:
    """Silence the Hub libraries, which print to stderr, unless they have been imported already."""
    if "datasets" in sys.modules:
        return
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import datasets
    import huggingface_hub

    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()


def _query_hub(request: HubRequest) -> ResolvedDataset:
    info = _dataset_info(request)
    with translate_hub_errors(request, info.id):
        builder = _builder(request, info)
    files = _paths_by_split(builder, info.id, info.sha)
    wanted = {part.split for part in select_slices(request.split, list(files))}
    card = info.card_data.to_dict() if info.card_data else {}
    return ResolvedDataset(
        info.id, info.sha, builder.config.name, licence_of(card), languages_of(card),
        {split: paths for split, paths in files.items() if split in wanted},
    )  # fmt: skip


def _dataset_info(request: HubRequest) -> Any:
    """Look up the canonical id (also of `gsm8k`) and the commit, before any other call.

    `load_dataset` would retry for 23 seconds if the Hub is unreachable, and fail on names without an owner.
    """
    from huggingface_hub import HfApi

    with translate_hub_errors(request, request.source):
        return HfApi().dataset_info(request.source, revision=request.revision, timeout=_SECONDS)


def _builder(request: HubRequest, info: Any) -> Any:
    import datasets

    files = parse_data_files(request.data_files) or None
    return datasets.load_dataset_builder(
        info.id, request.name, revision=info.sha, data_files=files, data_dir=request.data_dir
    )


def _paths_by_split(builder: Any, id: str, sha: str) -> dict[str, list[str]]:
    prefix = f"hf://datasets/{id}@{sha}/"
    files = {str(split): [str(url) for url in urls] for split, urls in (builder.config.data_files or {}).items()}
    foreign = next((url for urls in files.values() for url in urls if not url.startswith(prefix)), None)
    if foreign:
        raise InputError(
            f"the card of `{id}` points to `{foreign}`", code="file.outside", hint="use that URL as SOURCE"
        )
    return {split: [url.removeprefix(prefix) for url in urls] for split, urls in files.items()}


def _download(resolved: ResolvedDataset, path: str, *, offline: bool) -> Path:
    """Download a file unless it is in the cache; transient errors are retried twice."""
    from huggingface_hub import hf_hub_download

    for pause in (0.5, 2.0, None):
        try:
            return Path(
                hf_hub_download(
                    resolved.id, path, repo_type="dataset", revision=resolved.sha, local_files_only=offline,
                    etag_timeout=_SECONDS,
                )
            )  # fmt: skip
        except Exception as error:
            if pause is None or offline or not is_transient(error):
                raise _download_error(resolved, path, error) from None
            time.sleep(pause)
    raise AssertionError


def _download_error(resolved: ResolvedDataset, path: str, error: Exception) -> InputError:
    why = reason_of(error)
    if type(error).__name__ in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        why = "the Hub does not answer, and the file is not in the cache"
    return InputError(
        f"cannot download `{path}`: {why}", at=Location(resolved.id), code="hub.unreachable", hint=_OFFLINE
    )


_OFFLINE = "check the connection, HF_ENDPOINT and HF_HUB_OFFLINE"


def _save_answer(request: HubRequest, resolved: ResolvedDataset) -> None:
    """Save the answer for when the Hub is unreachable; a failure to write is ignored."""
    record = _record(request)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        new = record.with_name(f".{record.name}.{os.getpid()}")
        new.write_text(json.dumps(asdict(resolved)))
        new.replace(record)
    except OSError:
        return


def _load_answer(request: HubRequest, error: Unreachable) -> ResolvedDataset:
    try:
        return ResolvedDataset(**json.loads(_record(request).read_text()))
    except (OSError, ValueError, TypeError):
        raise InputError(
            f"{error.why}, and `{request.source}` is not a local file and not in the cache",
            code="hub.unreachable",
            hint=like_a_recipe(request.source) or _OFFLINE,
        ) from None


def cache_folder() -> Path:
    """Return the folder for what may be made again, of all runs of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatfmt"


def _record(request: HubRequest) -> Path:
    key = json.dumps([asdict(request), os.environ.get("HF_ENDPOINT", "")], sort_keys=True)
    return cache_folder() / "hub" / f"{sha256(key.encode()).hexdigest()}.json"
