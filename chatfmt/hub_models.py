"""Files of models on the Hub, and its errors in words."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import InputError

MODEL_ID = re.compile(r"[\w.-]+/[\w.-]+")
_UNREACHABLE = "check the network; HF_HUB_OFFLINE=1 uses what is in the local cache"
OFFLINE = "unset HF_HUB_OFFLINE to download it"


def download(model_id: str, name: str, revision: str | None = None) -> Path:
    """Return a file of a model, from the local cache if it is there; raises InputError if it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model_id, name, revision=revision))
    except Exception as error:  # network errors, and those of httpx, which have no common base
        raise to_input_error(error, model_id, revision, name) from error


def to_input_error(error: Exception, model_id: str, revision: str | None, name: str | None = None) -> InputError:
    """Return the error for the user; errors are recognised by class name, which httpx and requests share.

    `name` is the file that was asked for, if it was one.
    """
    from huggingface_hub import constants

    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        hint = f"ask for access at https://huggingface.co/{model_id}, then `hf auth login`"
        return InputError(f"the model `{model_id}` is gated and you have no access to it", hint=hint)
    if "RevisionNotFoundError" in kinds:
        return InputError(f"the model `{model_id}` has no revision `{revision}`", hint="name a branch, tag or commit")
    if "RepositoryNotFoundError" in kinds:
        hint = "check the spelling; for a private model `hf auth login`; a path starts with `./`"
        return InputError(f"the Hub has no model `{model_id}`, or it is private", hint=hint)
    if "LocalEntryNotFoundError" in kinds and constants.HF_HUB_OFFLINE:
        return InputError(f"`{name}` of the model `{model_id}` is not in the local cache", hint=OFFLINE)
    if "EntryNotFoundError" in kinds and "LocalEntryNotFoundError" not in kinds:
        hint = f"see its files: https://huggingface.co/{model_id}/tree/{revision or 'main'}"
        return InputError(f"the model `{model_id}` has no `{name}`", code="file.missing", hint=hint)
    return InputError(f"the Hub cannot be reached for `{model_id}`: {_reason(error)}", hint=_UNREACHABLE)


def _reason(error: BaseException) -> str:
    """Return the first line of what a library says, without the number of an error of the system."""
    if type(error).__name__ == "LocalEntryNotFoundError" and error.__cause__:  # says only that it is not in the cache
        return _reason(error.__cause__)
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip().partition("\n")[0]) or type(error).__name__
