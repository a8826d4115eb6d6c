"""Read the chat template of a model repository on the Hub; only the few files it needs are downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...errors import InputError
from .model_files import ModelFiles

MODEL_ID = re.compile(r"[\w.-]+/[\w.-]+")


def repository(model_id: str, revision: str | None) -> ModelFiles:
    """Return the files of a Hub model at one commit; files are downloaded on first use.

    Offline (`HF_HUB_OFFLINE`), only the local cache is used.
    Raises InputError if the model is missing, private or gated, lacks the revision, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return _cached(model_id, revision)
    try:
        info = HfApi().model_info(model_id, revision=revision)
    except Exception as error:  # network errors, and those of httpx, which have no common base
        raise _input_error(error, model_id, revision) from error
    names = frozenset(sibling.rfilename for sibling in info.siblings or ())
    return ModelFiles(model_id, names, lambda name: _download(model_id, name, str(info.sha)), str(info.sha))


def _download(model_id: str, name: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model_id, name, revision=commit))
    except Exception as error:
        raise _input_error(error, model_id, commit) from error


def _cached(model_id: str, revision: str | None) -> ModelFiles:
    """Return the files of the model in the local cache."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"models--{model_id.replace('/', '--')}")
    path = _snapshot(folder, revision)
    if path is None:
        what = f"the model `{model_id}`" if revision is None else f"revision `{revision}` of the model `{model_id}`"
        raise InputError(f"{what} is not in the local cache", hint="unset HF_HUB_OFFLINE to download it")
    names = frozenset(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return ModelFiles(model_id, names, lambda name: path / name, path.name)


def _snapshot(folder: Path, revision: str | None) -> Path | None:
    """Return the cached folder of a branch, tag or commit; by default of `main`, else the newest.

    The layout is documented by huggingface_hub: `refs/NAME` holds a commit, `snapshots/COMMIT` its files.
    """
    named = folder / "refs" / (revision or "main")
    commit = named.read_text().strip() if named.is_file() else revision
    if commit:
        path = folder / "snapshots" / commit
        return path if path.is_dir() else None
    return max((folder / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime, default=None)


def _input_error(error: Exception, model_id: str, revision: str | None) -> InputError:
    """Return the error for the user; errors are recognised by class name, which httpx and requests share."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        hint = f"ask for access at https://huggingface.co/{model_id}, then `hf auth login`"
        return InputError(f"the model `{model_id}` is gated and you have no access to it", hint=hint)
    if "RevisionNotFoundError" in kinds:
        return InputError(f"the model `{model_id}` has no revision `{revision}`", hint="name a branch, tag or commit")
    if "RepositoryNotFoundError" in kinds:
        hint = "check the spelling; for a private model `hf auth login`; a path starts with `./`"
        return InputError(f"the Hub has no model `{model_id}`, or it is private", hint=hint)
    return InputError(f"the Hub cannot be reached for `{model_id}`: {_first_line(error)}", hint=_UNREACHABLE)


_UNREACHABLE = "check the network; HF_HUB_OFFLINE=1 uses what is in the local cache"


def _first_line(error: Any) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
