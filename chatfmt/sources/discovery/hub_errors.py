"""Translate errors of the Hub libraries."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from ...errors import ChatfmtError, InputError, UsageError, nearest
from ...stores import reason_of
from .split_slices import unknown


class HubRequest(Struct, frozen=True):
    """A dataset requested from the Hub; the fields are arguments of `load_dataset`."""

    source: str
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    data_files: tuple[str, ...] = ()
    data_dir: str | None = None


class Unreachable(Exception):
    """The Hub does not answer, with a short reason in `why`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@contextmanager
def translate_hub_errors(request: HubRequest, id: str) -> Iterator[None]:
    """Turn exceptions raised inside into InputError, UsageError, UnknownName or Unreachable."""
    try:
        yield
    except ChatfmtError:
        raise
    except Exception as error:
        raise _translate(error, request, id) from None


def _translate(error: Exception, request: HubRequest, id: str) -> Exception:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    if "GatedRepoError" in kinds or ("DatasetNotFoundError" in kinds and "gated" in text):
        return _gated(id, text)
    if "RevisionNotFoundError" in kinds or ("doesn't exist on the Hub" in text and "Revision" in text):
        return _no_revision(request, id)
    if kinds & {"RepositoryNotFoundError", "DatasetNotFoundError", "HFValidationError"}:
        return _not_found(request)
    if "OfflineModeIsEnabled" in kinds:
        return Unreachable("the Hub is disabled (HF_HUB_OFFLINE)")
    if kinds & {"EmptyDatasetError", "DataFilesNotFoundError", "FileNotFoundError"}:
        return _no_files(request, id)
    if "Dataset scripts" in text:
        return _script(request, id)
    if known := _known_subsets(text):
        return _no_subset(request, id, known)
    if is_transient(error):
        return Unreachable("the Hub does not answer")
    text, hint = (
        f"the Hub returned an error for `{id}`: {reason_of(error)}",
        f"see https://huggingface.co/datasets/{id}",
    )
    return InputError(text, hint=hint, code="hub.error")


def is_transient(error: BaseException | None) -> bool:
    """Whether the connection or the server failed, so that a retry may help."""
    while error is not None:
        root = type(error).__module__.partition(".")[0]
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None and (
            root in ("httpx", "httpx2", "httpcore", "requests") or isinstance(error, (ConnectionError, TimeoutError))
        ):
            return True
        if isinstance(status, int) and (status >= 500 or status == 429):
            return True
        error = error.__cause__ or error.__context__
    return False


def _not_found(request: HubRequest) -> InputError:
    return InputError(
        f"no file or dataset `{request.source}`, or it is private", code="hub.missing",
        hint=like_a_recipe(request.source) or "if it is private: `hf auth login`, or set HF_TOKEN",
    )  # fmt: skip


def like_a_recipe(source: str) -> str:
    """Return a hint that names the recipe that the source resembles; empty if it resembles none."""
    from ...recipe import names

    close = [] if "/" in source else nearest(source, names())
    return f"did you mean the recipe `{close[0]}`?" if close else ""


def _gated(id: str, text: str) -> InputError:
    page = f"https://huggingface.co/datasets/{id}"
    log_in = "" if "ask for access" in text or "403" in text else ", then `hf auth login`"
    return InputError(f"the dataset `{id}` is gated", code="hub.gated", hint=f"ask for access at {page}{log_in}")


def _no_revision(request: HubRequest, id: str) -> UsageError:
    names = _references(id)
    hint = unknown("revision", request.revision or "", names).hint if names else ""
    return UsageError(f"`{id}` has no revision `{request.revision}`", hint=hint)


def _references(id: str) -> list[str]:
    from huggingface_hub import HfApi

    try:
        found = HfApi().list_repo_refs(id, repo_type="dataset")
    except Exception:  # only for a hint
        return []
    return [reference.name for reference in [*found.branches, *found.tags]]


def _no_files(request: HubRequest, id: str) -> InputError:
    what = f"no file of `{id}` matches " + ", ".join(f"`{glob}`" for glob in request.data_files)
    if not request.data_files:
        what = f"no data files in `{id}`" + (f" under `{request.data_dir}`" if request.data_dir else "")
    return InputError(what, code="hub.no_files", hint=f"see https://huggingface.co/datasets/{id}/tree/main")


def _script(request: HubRequest, id: str) -> InputError:
    hint = "try `--revision refs/convert/parquet`" if request.revision is None else ""
    return InputError(f"`{id}` is a script, and chatfmt does not run dataset code", code="file.script", hint=hint)


def _known_subsets(text: str) -> list[str]:
    found = re.search(r"(?:available configs|Available): *(\[.*?\])", text, re.DOTALL)
    try:
        return [str(name) for name in ast.literal_eval(found[1])] if found else []
    except (ValueError, SyntaxError):
        return []


def _no_subset(request: HubRequest, id: str, known: list[str]) -> UsageError:
    if request.name is not None:
        return unknown("subset", request.name, known)
    names = ", ".join(f"`{name}`" for name in known)
    return UsageError(f"`{id}` has several subsets: {names}", hint=f"choose one, as in `--name {known[0]}`")
