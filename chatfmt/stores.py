"""Files at URLs, read and written with fsspec: object stores, web servers, whatever has an implementation.

Credentials and settings come from where the library of each store looks for them, such as `AWS_PROFILE` and
`AWS_ENDPOINT_URL` for s3fs, or from fsspec's own configuration. They are in no message, manifest or plan.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import ChatfmtError, InputError, MissingExtra, OutputError, UsageError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
"""The extra that installs the library of a scheme."""
_WRITABLE = (
    "name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or "
    "hf://datasets/OWNER/NAME"
)
READ_ONLY = {
    "http", "https", "github", "gist", "git", "zip", "tar", "libarchive", "data", "reference", "hf", "dir", "file",
    "local", "ftp",
}  # fmt: skip
"""Schemes whose files can be read only, or that are not written with fsspec."""
AGAIN = "run the same command again: what is uploaded already is not sent again"
ANSWER_SECONDS = 60
"""Timeout for the first answer of a store."""
SLOW_SECONDS, LEAST_BYTES = 30, 1024
"""A web server that sends fewer bytes per second, for twice as long, is given up."""
_answered: set[str] = set()
"""The stores that have answered this process."""
_SILENT = logging.NullHandler()
"""Keeps Python from printing what a library logs, unless the program has handlers of its own."""
_URL = re.compile(r"(?P<scheme>(?:[A-Za-z][\w+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+):(?:/+(?P<rest>.*))?", re.DOTALL)
_REFUSED = {
    "RequestTimeTooSkewed": ("its clock and that of this machine differ", "set the clock of this machine"),
    "ExpiredToken": ("the credentials have expired", "renew them"),
    "ProfileNotFound": ("AWS_PROFILE names none that exists", "choose one of `aws configure list-profiles`"),
    "ParamValidationError": ("a bucket cannot have this name", "correct it"),
}
"""What S3 and its library call some refusals, what they mean and what helps."""
WILD = re.compile(r"[*?\[]")
"""What makes a URL a pattern."""
_USER = re.compile(
    r"(?<=://)(?!arn:|\[)[^/@:\s`'\"]*:(?!:|\d+[/?#])[^@\s`'\"]*@|(?i:(?<=http://)|(?<=https://)|(?<=hf://))[^/@\s`'\"]+@"
    r"|(?i:(?<=ftp://)|(?<=ftps://))[^/@:\s`'\"]*:[^@\s`'\"]*@"
)
"""What names a user in a URL. The secret of S3 may have a `/`; ports, addresses, ARNs and chained URLs are none.

Of sftp:// all is masked up to an `@`: `me:1/2@host` could be a port too.
"""
_SECRETS = (
    "signature|token|credentials?|password|passwd|pass|pwd|passphrase|secret|key|sig|auth|authorization|bearer|jwt|hmac"
    "|session|session_?id"
)
_SIGNATURE = re.compile(rf"(?i)(?<=[?&#;])([\w.%-]*(?:{_SECRETS})|code|sas|se|sid)=[^&;\s`'\"]+")


def is_remote(uri: str) -> bool:
    """Return whether `uri` is a URL for fsspec and not a path."""
    return "://" in uri


def url_of(path: Path | str) -> str | None:
    """Return the URL in the text of a path, in which `//` may have become `/`; None for other paths."""
    found = _URL.fullmatch(str(path))
    return f"{found['scheme'].lower()}://{(found['rest'] or '').rstrip('/')}" if found else None


def shown(path: Path | str) -> str:
    """Return the text of a path, in which a URL is as it was typed."""
    return url_of(path) or str(path)


def scheme_of(url: str) -> str:
    """Return the part of a URL before `://`."""
    return url.partition("://")[0]


def without_credentials(text: str) -> str:
    """Return a text with the passwords and signatures of the URLs in it replaced by `…`."""
    return _SIGNATURE.sub(r"\1=…", _USER.sub("…@", text))


def sources_without_credentials(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sources of a recipe, as plain data, without passwords and signatures."""
    return [{**spec, "source": without_credentials(spec["source"])} for spec in sources]


def has_credentials(url: str) -> bool:
    """Return whether a URL holds a password or a signature."""
    return without_credentials(url) != url


def open_store(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it; raises MissingExtra, UsageError for an unknown scheme."""
    import fsspec

    scheme = scheme_of(url)
    if scheme not in fsspec.available_protocols():
        text = f"cannot open `{without_credentials(url)}`: no file system of fsspec is called `{scheme}`"
        raise UsageError(text, hint="use one such as s3://, gs://, az://, https:// or hf://")
    prints_it = scheme == "hf" or EXTRAS.get(scheme) in ("s3", "gcs")  # their libraries would, as part of a name
    if prints_it and _USER.search(url):
        raise _holds_password(url)
    for name in ("asyncio", "google", _package_of(scheme)):  # what they log is in the errors that they raise
        logging.getLogger(name).addHandler(_SILENT)
    try:
        if EXTRAS.get(scheme) == "http":  # `url_to_fs` would cut `http://[::1]/` at the `::`
            system, path = fsspec.filesystem(scheme, **_web_options(scheme)), url
        else:
            system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise _missing_package(scheme, error) from None
    except ValueError as error:
        raise UsageError(f"cannot open `{without_credentials(url)}`: {reason_of(error)}") from None
    _check_answers(system, path, "/".join(url.split("/", 3)[:3]))
    return system, path


def _holds_password(url: str) -> UsageError:
    return UsageError(
        f"`{without_credentials(url)}` holds a password", hint="leave it to the configuration of its library"
    )


def _web_options(scheme: str) -> dict[str, Any]:
    """Return options for web servers: a download may take longer than the five minutes of aiohttp, but not stand still.

    Raises ImportError.
    """
    from aiohttp import ClientTimeout
    from fsspec.config import conf

    timeout = ClientTimeout(total=None, sock_connect=ANSWER_SECONDS, sock_read=ANSWER_SECONDS)
    given = conf.get(scheme, {}).get("client_kwargs", {})
    return {"client_kwargs": {"timeout": timeout, "trace_configs": [_answer_checks()], **given}}


@lru_cache(maxsize=1)
def _answer_checks() -> Any:
    """Return what aiohttp calls for each answer: one object, as fsspec makes a file system for each set of options."""
    from aiohttp import TraceConfig

    checks = TraceConfig()
    checks.on_request_end.append(_check_sent)
    return checks


async def _check_sent(session: Any, context: Any, ended: Any) -> None:
    """Raise OSError for other bytes of a file than those that were asked for; watch how fast the others come."""
    from asyncio import ensure_future

    answer = ended.response
    asked = re.match(r"bytes=(\d+)", ended.headers.get("Range", ""))
    sent = re.match(r"bytes (\d+)", answer.headers.get("Content-Range", ""))
    if answer.status == 206 and asked and sent and int(asked[1]) != int(sent[1]):
        answer.close()
        raise OSError(f"the bytes from {int(sent[1]):,} came instead of those from {int(asked[1]):,}")
    watch = ensure_future(_watch_speed(answer))
    answer.content.on_eof(lambda: watch.cancel() and None)


async def _watch_speed(answer: Any) -> None:
    """Let whoever reads an answer get an OSError if it comes so slowly that it may never end."""
    from asyncio import sleep

    slow = 0
    while slow < 2:
        before = answer.content.total_bytes
        await sleep(SLOW_SECONDS)
        if answer.closed:
            return
        is_slow = answer.content.total_bytes - before < LEAST_BYTES * SLOW_SECONDS
        slow = slow + 1 if is_slow else 0  # twice: this process may have been stopped in between
    error = OSError(f"less than {LEAST_BYTES} bytes per second came for {2 * SLOW_SECONDS} seconds")
    answer.content.set_exception(error)
    answer.close()


def _check_answers(system: Any, path: str, place: str) -> None:
    """Raise OSError if a store does not answer the first request of this process; libraries try for half an hour."""
    if place in _answered or not getattr(system, "async_impl", False):
        return
    from fsspec.asyn import sync
    from fsspec.exceptions import FSTimeoutError

    try:
        sync(system.loop, system._info, path, timeout=ANSWER_SECONDS)
    except FSTimeoutError:
        raise OSError(f"no answer within {ANSWER_SECONDS} seconds") from None
    except Exception:  # an answer, or an error for the request that comes next
        pass
    _answered.add(place)


def _package_of(scheme: str) -> str:
    """Return the package of the file system of a scheme; `fsspec` for its own and unknown ones."""
    from fsspec.registry import known_implementations

    return str(known_implementations.get(scheme, {}).get("class", "fsspec")).split(".")[0]


def _missing_package(scheme: str, error: ImportError) -> MissingExtra:
    package = _package_of(scheme)
    if package == "fsspec":  # which quotes the name of what it needs
        quoted = re.search(r'"([\w-]+)"', str(error))
        package = error.name or ("aiohttp" if EXTRAS.get(scheme) == "http" else quoted[1] if quoted else "")
    message = f"`{scheme}://` needs the package `{package}`" if package else f"`{scheme}://` needs a package: {error}"
    if scheme in EXTRAS:
        return MissingExtra(message, hint=MissingExtra.of(package, EXTRAS[scheme]).hint)
    return MissingExtra(message, hint=f"pip install {package}" if package else "install it")


def reason_of(error: Exception) -> str:
    """Return what an exception of fsspec or of the library of a store says, on one line and without credentials."""
    status, text = getattr(error, "status", None), str(error)
    if status == 0:  # of aiohttp, which has no answer to name
        return type(error).__name__
    if status and (message := getattr(error, "message", "")):
        text = f"{status} {message}"
    text = without_credentials(re.sub(r"\[Errno -?\d+\] ", "", text))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else type(error).__name__


def read_url(url: str) -> bytes | None:
    """Return the content of the file at a URL; None if there is none. Raises InputError."""
    folder, _, name = url.rpartition("/")
    return Store(folder, InputError).read(name)


VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "created")
"""What file systems report of a file that is another one after a change."""


def size_and_version(url: str) -> tuple[int, int] | None:
    """Return the size of the file at a URL, and a number that is another one when the file has changed.

    None if its store does not report both.
    """
    try:
        system, path = open_store(url)
        system.invalidate_cache()
        info = system.info(path)
    except Exception:  # the reader raises the error to show
        return None
    found = [str(info[key]) for key in VERSIONS if info.get(key)]
    size = info.get("size")
    return (size, int.from_bytes(hashlib.sha256(repr(found).encode()).digest()[:6])) if found and size else None


def check_writable(url: str, *, is_file: bool = False) -> None:
    """Raise UsageError for a URL that names no place on a store to write to, MissingExtra if its library is missing.

    Wildcards are refused: what is read or removed there later could be other files.
    """
    from fsspec.registry import known_implementations

    scheme = scheme_of(url)
    if scheme in READ_ONLY or scheme not in known_implementations:
        text = f"cannot write to `{without_credentials(url)}`"
        raise UsageError(text, hint=_WRITABLE)
    if has_credentials(url):
        raise _holds_password(url)
    if wild := WILD.search(url):
        text = f"`{wild[0]}` is a wildcard in URLs, so nothing is written to `{url}`"
        raise UsageError(text, hint="choose a name without `*`, `?` and `[`")
    with store_errors(url):
        _, path = open_store(url.rpartition("/")[0] if is_file else url)
    if not path.strip("/"):
        raise UsageError(f"`{url}` names no folder", hint=f"-o {scheme}://BUCKET/PREFIX")


class Store:
    """A folder on a store. Files appear under their names complete or not at all, as far as the store can do that.

    Names are relative to the folder. Every failure is raised as `kind` (OutputError) without credentials.
    """

    def __init__(self, url: str, kind: type[ChatfmtError] = OutputError) -> None:
        self.url, self._kind = url.rstrip("/"), kind
        with store_errors(self.url, kind):
            self._system, self._root = open_store(self.url)

    def is_file(self) -> bool:
        """Return whether the store has a file where the folder would be."""
        with store_errors(self.url, self._kind):
            return bool(self._system.isfile(self._root))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the size in bytes of each file in the folder, or in one below it, by name."""
        self._system.invalidate_cache()
        with store_errors(self.url, self._kind):
            try:
                found = self._system.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return {}
        names = {path.removeprefix(self._root).lstrip("/"): entry for path, entry in found.items()}
        return {name: int(entry.get("size") or 0) for name, entry in sorted(names.items()) if name}

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        self._system.invalidate_cache()
        with store_errors(self.url, self._kind):
            try:
                return bool(self._system.info(self._at(name))["type"] == "file")
            except FileNotFoundError:
                return False

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        with store_errors(self.url, self._kind):
            try:
                return bytes(self._system.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the content of files that exist, several of them read at once."""
        if not names:
            return {}
        paths = {self._at(name): name for name in names}
        with store_errors(self.url, self._kind):
            found = self._system.cat(list(paths), on_error="raise")
        return {paths[path]: data for path, data in found.items()}

    def fetch(self, name: str, path: Path) -> None:
        """Download a file that exists."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with store_errors(self.url, self._kind):
            self._system.get_file(self._at(name), str(part))
        part.replace(path)

    def put(self, path: Path, name: str) -> None:
        """Upload a file, in parts that are joined at the end if it is large."""
        with store_errors(self.url, self._kind):
            self._system.put_file(str(path), self._at(name))

    def write(self, name: str, data: bytes) -> None:
        """Upload a file with this content."""
        with store_errors(self.url, self._kind):
            self._system.pipe_file(self._at(name), data)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files that exist."""
        if names:
            with store_errors(self.url, self._kind):
                self._system.rm([self._at(name) for name in names])

    def check_accepts(self, name: str, *, removal: bool) -> None:
        """Raise OutputError unless a file may be written there, and with `removal` removed; none is there afterwards.

        S3 begins and aborts an upload if nothing is to be removed, other stores get a small file.
        """
        with store_errors(self.url, self._kind):
            if removal or not hasattr(self._system, "call_s3"):
                self._system.pipe_file(self._at(name), b"chatfmt")
                self.remove([name])
                return
            bucket, _, key = self._at(name).partition("/")
            upload = self._system.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
            self._system.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)

    def abort_uploads(self, name: str = "") -> None:
        """Abort uploads of a file, or of all below the folder, that killed processes have left: S3 bills their parts.

        Nothing happens where that is not allowed, and on other stores, which forget them after some days.
        """
        if not hasattr(self._system, "call_s3"):
            return
        bucket, _, prefix = f"{self._root}/{name}".partition("/")
        with suppress(Exception):
            found = self._system.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
            for upload in found.get("Uploads", []):
                given = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                self._system.call_s3("abort_multipart_upload", **given)

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")


@contextmanager
def store_errors(url: str, kind: type[ChatfmtError] = OutputError) -> Iterator[None]:
    """Raise every exception inside, except FileNotFoundError inside another handler, as `kind`, without credentials."""
    try:
        yield
    except ChatfmtError:
        raise
    except Exception as error:
        raise translated(error, url, kind) from None


def translated(error: Exception, url: str, kind: type[ChatfmtError]) -> ChatfmtError:
    """Return the error for an exception of fsspec or of the library of a store."""
    cause = error.__cause__
    if EXTRAS.get(scheme_of(url)) == "http" and isinstance(cause, Exception) and getattr(cause, "status", 0) != 404:
        error = cause  # fsspec takes whatever a web server answers for a file that is missing
    shown, name = without_credentials(url), type(error).__name__
    reads = issubclass(kind, InputError)
    if isinstance(error, FileNotFoundError) and reads:
        return kind(f"no such file `{shown}`", code="file.missing", hint="check the address")
    if isinstance(error, FileNotFoundError):
        return kind(f"`{shown}` does not exist", hint="check the name of the bucket", code="store.missing")
    said = getattr(cause, "response", None)  # of botocore
    if found := _REFUSED.get(said.get("Error", {}).get("Code", "") if isinstance(said, dict) else name):
        return kind(f"`{shown}`: {found[0]}", hint=f"{found[1]} and try again", code="store.forbidden")
    if "Credentials" in name or _is_refused(error):
        missing, scheme = "Credentials" in name, scheme_of(url)
        why = "no credentials were found" if missing else "access is denied"
        hint = f"set the credentials of {scheme}:// and try again"
        if not missing and not reads:
            hint = f"set credentials of {scheme}:// that may write and remove files there, and try again"
        return kind(f"`{shown}`: {why}", hint=hint, code="store.forbidden")
    if reads:
        scheme = scheme_of(url)
        what = "the address" if scheme in ("http", "https") else f"the settings of {scheme}://"
        hint = f"check the network and {what}, and try again"
        return kind(f"cannot read `{shown}`: {reason_of(error)}", hint=hint, code="store.failed")
    return kind(f"cannot write `{shown}`: {reason_of(error)}", hint=AGAIN, code="store.failed")


def _is_refused(error: Exception) -> bool:
    """Return whether a store has refused access, which not all libraries raise PermissionError for."""
    answers = (getattr(error, name) for name in ("status", "status_code", "code") if hasattr(error, name))
    return isinstance(error, PermissionError) or next(answers, None) in (401, 403) or str(error).startswith("Forbidden")
