"""Push a finished output folder to the Hub: one commit holds all of it, so that nobody ever sees a part.

Data files are uploaded first, where nobody sees them until a commit names them; after an interruption the Hub asks
only for those that it lacks. The commit also deletes data files of an earlier push, which the new card does not list.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct
from msgspec.structs import replace

from .. import __version__
from ..errors import ChatfmtError, InputError, OutputError, UsageError
from ..manifest import CARD, DATA, MANIFEST, REJECTS, Manifest, check_folder, damaged, no_folder
from ..sources.discovery.hub_errors import is_transient
from ..stores import reason_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

AGAIN = "run the same command again: what is uploaded already is not sent again"
_NAME = r"\w(?:[\w.-]*\w)?"
_REPOSITORY = re.compile(rf"(?:hf:/+datasets/)?(?P<id>{_NAME}/{_NAME})(?:@(?P<revision>[^@]+))?/?", re.ASCII)


class Repository(Struct, frozen=True):
    """A dataset repository on the Hub and one of its branches, which need not exist."""

    id: str
    revision: str | None = None

    @classmethod
    def of(cls, text: str, revision: str | None = None) -> Self:
        """The repository in `OWNER/NAME` or `hf://datasets/OWNER/NAME@REVISION`; raises UsageError for other text."""
        found = _REPOSITORY.fullmatch(text)
        if not found or any(part in found["id"] for part in ("--", "..")):
            raise UsageError(f"`{text}` is not the name of a dataset on the Hub", hint="OWNER/NAME, as in acme/chat")
        return cls(found["id"], revision or found["revision"])

    def __str__(self) -> str:
        return f"hf://datasets/{self.id}" + (f"@{self.revision}" if self.revision else "")


class Head(Struct, frozen=True):
    """The commit that a branch of a repository is at."""

    sha: str
    private: bool
    files: tuple[str, ...]


class Pushed(Struct, frozen=True):
    """The result of a push; `commit` is the one from before if nothing had changed."""

    url: str
    commit: str
    private: bool
    changed: bool
    rows: int
    bytes: int
    shards: int
    removed: tuple[str, ...]
    """The data files of an earlier push that the commit deleted."""


def push(folder: Path, repository: Repository, *, public: bool = False, show_progress: bool = False) -> Pushed:
    """Upload a folder that chatfmt wrote; a repository that does not exist is created, private unless `public`.

    Rejected rows are not uploaded. With `show_progress` the library of the Hub draws progress bars on stderr.

    Raises DataProblem if `verify` finds problems, OutputError as `check_may_push` does, if the Hub refuses, and if the
    commit would overwrite a card that somebody else wrote.
    """
    from huggingface_hub.utils import disable_progress_bars

    if not folder.is_dir():
        raise damaged(folder, [no_folder(is_file=folder.exists())])
    check_may_push(repository, public=public)
    manifest = check_folder(folder)
    if not (folder / CARD).is_file():
        raise OutputError(f"`{folder}` has no card `{CARD}`", hint="convert again with --overwrite")
    if not show_progress:
        disable_progress_bars()
    api = _api()
    with hub_errors(repository):
        head = open_repository(repository, public=public)
        _check_card(api, repository, head, folder, manifest)
        commit, removed = _commit(api, repository, head, folder, manifest)
    shards = manifest.shards
    return Pushed(
        f"{api.endpoint}/datasets/{repository.id}", commit, head.private, commit != head.sha,
        sum(shard.rows for shard in shards), sum(shard.bytes for shard in shards), len(shards), removed,
    )  # fmt: skip


def check_may_push(repository: Repository, *, public: bool) -> None:
    """Raise OutputError unless the token may write to the repository, or create it; nothing is created.

    Raises it too if the Hub cannot be reached, and if a public repository exists and `public` is not set.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    api = _api()
    with hub_errors(repository, began=False):
        user = api.whoami()
        owners = [user["name"], *(each["name"] for each in user.get("orgs", ()))]
        role = user.get("auth", {}).get("accessToken", {}).get("role")
        if role == "read" or repository.id.partition("/")[0].lower() not in map(str.lower, owners):
            raise _forbidden(repository)
        with suppress(RepositoryNotFoundError):
            if not public and not api.dataset_info(repository.id).private:
                raise OutputError(f"`{repository.id}` is public", hint="--public uploads to it all the same")


def open_repository(repository: Repository, *, public: bool) -> Head:
    """Return the head of the branch to push to, both created if they do not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = _api()
    with hub_errors(repository, began=False):
        try:
            info = api.dataset_info(repository.id)
        except RepositoryNotFoundError:
            api.create_repo(repository.id, repo_type="dataset", private=not public)
            info = api.dataset_info(repository.id)
        if repository.revision is not None:
            try:
                info = api.dataset_info(repository.id, revision=repository.revision)
            except RevisionNotFoundError:
                api.create_branch(repository.id, repo_type="dataset", branch=repository.revision)
                info = api.dataset_info(repository.id, revision=repository.revision)
    return Head(str(info.sha), bool(info.private), tuple(file.rfilename for file in info.siblings or ()))


def _api() -> HfApi:
    from huggingface_hub import HfApi, logging

    logging.set_verbosity_error()
    return HfApi(library_name="chatfmt", library_version=__version__)


def _check_card(api: HfApi, repository: Repository, head: Head, folder: Path, manifest: Manifest) -> None:
    """Raise OutputError if the generated card of the folder would replace one that chatfmt did not generate."""
    ours = (folder / CARD).read_bytes()
    if CARD not in head.files or _sha256(ours) != manifest.card_sha256:  # a card edited in the folder is its user's
        return
    theirs = _read(api, repository, head, CARD)
    if theirs == ours or (MANIFEST in head.files and _sha256(theirs) == _card_hash(api, repository, head)):
        return
    raise OutputError(
        f"the card of `{repository.id}` was written or edited by hand, so it is not replaced",
        hint=f"edit `{folder / CARD}`, which is then uploaded as it is, or delete the card on the Hub",
    )


def _card_hash(api: HfApi, repository: Repository, head: Head) -> str:
    """Return the hash of the card that chatfmt generated at an earlier push; empty if that cannot be read."""
    try:
        return Manifest.from_json(_read(api, repository, head, MANIFEST).decode()).card_sha256
    except (InputError, UnicodeDecodeError):
        return ""


def _read(api: HfApi, repository: Repository, head: Head, path: str) -> bytes:
    return Path(api.hf_hub_download(repository.id, path, repo_type="dataset", revision=head.sha)).read_bytes()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _commit(
    api: HfApi, repository: Repository, head: Head, folder: Path, manifest: Manifest
) -> tuple[str, tuple[str, ...]]:
    """Make the commit, unless another one was made since `head`; return its id, and the files that it deletes."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    paths = [CARD, MANIFEST, *(shard.name for shard in manifest.shards)]
    stale = tuple(name for name in head.files if name.startswith((f"{DATA}/", REJECTS)) and name not in paths)
    rows = sum(shard.rows for shard in manifest.shards)
    made = api.create_commit(
        repository.id,
        [
            *(CommitOperationAdd(path, folder / path) for path in paths if path != MANIFEST),
            CommitOperationAdd(MANIFEST, pushed_manifest(folder, manifest)),
            *(CommitOperationDelete(name, is_folder=False) for name in stale),
        ],
        commit_message=f"Upload {rows:,} rows converted by chatfmt {__version__}",
        repo_type="dataset",
        revision=repository.revision,
        parent_commit=head.sha,
    )
    return str(made.oid), stale


def pushed_manifest(folder: Path, manifest: Manifest) -> bytes:
    """Return the manifest of what is uploaded: without the rejects file, so that `verify` of a clone misses nothing."""
    return replace(manifest, rejects={}).to_json().encode() if manifest.rejects else (folder / MANIFEST).read_bytes()


@contextmanager
def hub_errors(repository: Repository, *, began: bool = True) -> Iterator[None]:
    """Turn every exception of the Hub's library into an OutputError that names no token.

    `began` says whether some of the files may have been uploaded.
    """
    try:
        yield
    except ChatfmtError:
        raise
    except Exception as error:
        if not began and is_transient(error) and _status(error) is None:
            token = "" if _token() else "; a push also needs a token: `hf auth login`, or set HF_TOKEN"
            text = f"the Hub cannot be reached, so nothing was pushed to `{repository.id}`"
            raise OutputError(text, hint=f"check the network connection{token}", code="hub.unreachable") from None
        raise _translate(error, repository) from None


def _translate(error: Exception, repository: Repository) -> OutputError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = _status(error)
    if "OfflineModeIsEnabled" in kinds:
        return OutputError("the Hub is disabled (HF_HUB_OFFLINE)", hint="unset HF_HUB_OFFLINE", code="hub.offline")
    if "LocalTokenNotFoundError" in kinds or status == 401:
        text = f"not logged in to the Hub, so nothing was pushed to `{repository.id}`"
        return OutputError(text, hint="`hf auth login`, or set HF_TOKEN", code="hub.token")
    if status == 403:
        return _forbidden(repository)
    if status == 412:
        return OutputError(f"`{repository.id}` was changed during the push", hint=AGAIN, code="hub.changed")
    if is_transient(error):
        return OutputError(f"the push to `{repository.id}` was interrupted", hint=AGAIN, code="hub.interrupted")
    text = f"the Hub refused the push to `{repository.id}`: {_without_token(error)}"
    hint = "check HF_TOKEN and the name of the dataset, then run the same command again"
    return OutputError(text, hint=hint, code="hub.error")


def _forbidden(repository: Repository) -> OutputError:
    hint = "use a token that may write there: https://huggingface.co/settings/tokens"
    return OutputError(f"your token may not write to `{repository.id}`", hint=hint, code="hub.forbidden")


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that an error, or one that it came from, carries."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__ or error.__context__
    return None


def _without_token(error: Exception) -> str:
    """Return the first line of an error, with any token in it blotted out."""
    text = re.sub(r"(?i)bearer [^\s'\"]+|\bhf_\w+", "…", reason_of(error))
    return text.replace(str(_token()), "…") if _token() else text


def _token() -> Any:
    from huggingface_hub import get_token

    return get_token()
