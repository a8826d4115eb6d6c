"""Read the chat template of a model repository on the Hub; only the few files it needs are downloaded."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ...hub_models import OFFLINE, download, to_input_error
from .model_files import ModelFiles


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
        raise to_input_error(error, model_id, revision) from error
    names = frozenset(sibling.rfilename for sibling in info.siblings or ())
    return ModelFiles(model_id, names, lambda name: download(model_id, name, str(info.sha)), str(info.sha))


def _cached(model_id: str, revision: str | None) -> ModelFiles:
    """Return the files of the model in the local cache."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"models--{model_id.replace('/', '--')}")
    path = _snapshot(folder, revision)
    if path is None:
        what = f"the model `{model_id}`" if revision is None else f"revision `{revision}` of the model `{model_id}`"
        raise InputError(f"{what} is not in the local cache", hint=OFFLINE)
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
