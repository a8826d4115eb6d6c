"""Outputs on stores, here the one in memory of fsspec: what is there after each failure, and what the next run does."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from chatfmt import executors, manifest

from ...conftest import run_here, succeed, write_rows

STORE = "memory://bucket/out"
ROWS: list[dict[str, object]] = [
    {"messages": [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "a"}], "id": number}
    for number in range(9)
]
ROWS.append({"messages": [{"role": "robot", "content": "?"}]})
SHARDS = [f"data/train-0000{number}-of-00003.parquet" for number in range(3)]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(Path("in.jsonl"), ROWS)
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def files(url: str = STORE) -> dict[str, bytes]:
    """The files on the store by name."""
    system, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root).strip("/"): system.cat_file(path) for path in sorted(system.find(root))}


def convert(*more: str, source: str = "in.jsonl", out: str = STORE, rows: str = "4") -> tuple[int, list[str]]:
    given = [source, "-t", "chatml", "-o", out, "--rows-per-shard", rows, "--on-error", "skip", "--max-bad", "1", *more]
    done = run_here("convert", *given)
    return done.returncode, done.stderr.decode().splitlines()


@pytest.fixture
def local(tmp_path: Path) -> dict[str, bytes]:
    """The files of the same conversion to a folder."""
    assert convert(out="here")[0] == 0
    found = {path: (tmp_path / "here" / path).read_bytes() for path in [*SHARDS, "README.md", manifest.MANIFEST]}
    return {**found, manifest.REJECTS: (tmp_path / "here" / manifest.REJECTS).read_bytes()}


def test_a_store_holds_the_bytes_of_a_folder(local: dict[str, bytes], tmp_path: Path) -> None:
    assert convert() == (0, [
        "wrote 9 rows to `memory://bucket/out`, 1.3 kB in 3 shards",
        "rejected: 1 of 10 rows (msg.role 1), in `memory://bucket/out/.chatfmt/rejects.jsonl`",
        "left behind: id (number); --keep all carries it",
    ])  # fmt: skip
    assert files() == local
    assert sorted(path.name for path in (tmp_path / "cache/chatfmt/stores").iterdir()) == []
    again = run_here("verify", STORE)
    assert again.stdout.decode() == "memory://bucket/out: 9 rows in 3 shards, all checksums match\n"


def test_the_same_command_does_nothing_for_an_output_that_is_complete(local: dict[str, bytes]) -> None:
    convert()
    assert convert("--rejects", "bad.jsonl") == (0, ["`memory://bucket/out` is already complete: 9 rows"])
    assert Path("bad.jsonl").read_bytes() == local[manifest.REJECTS]
    assert files() == local


def test_a_job_array_on_a_store_that_lists_a_single_file_without_details(monkeypatch: pytest.MonkeyPatch) -> None:
    find = MemoryFileSystem.find

    def find_as_adlfs(self: MemoryFileSystem, path: str, **options: object) -> object:
        return [path] if self.isfile(path) else find(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "find", find_as_adlfs)
    given = ["in.jsonl", "-t", "chatml", "--limit", "9", "-q"]
    assert run_here("plan", *given, "-o", STORE).returncode == 0
    for command in (["run", STORE], ["commit", STORE], ["run", STORE], ["commit", STORE]):
        done = run_here(*command)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    for name in ("x.jsonl", "x.jsonl"):
        assert run_here("convert", *given, "-o", f"memory://bucket/{name}", "--overwrite").returncode == 0


def test_rows_that_are_reordered(tmp_path: Path) -> None:
    given = ["--shuffle", "--test-fraction", "0.4"]
    assert convert(*given)[0] == convert(*given, out="here")[0] == 0
    assert {name for name in files() if "test-" in name}
    assert files() == {name: (tmp_path / "here" / name).read_bytes() for name in files()}


def test_parts_of_rows_that_are_reordered_go_through_the_store_where_tasks_run_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on Ray, whose nodes need not see the cache of this machine: here its tasks run in this process."""
    elsewhere = executors.Executor(executors.EXECUTORS["serial"].run, "as if elsewhere", elsewhere=True)
    monkeypatch.setitem(executors.EXECUTORS, "ray", elsewhere)
    monkeypatch.setitem(executors.EXECUTORS, "processes", executors.EXECUTORS["serial"])  # which share the memory
    given = ["--shuffle", "--dedup", "--test-fraction", "0.4", "--rejects"]
    assert convert(*given, "here-bad.jsonl", out="here")[0] == 0
    faulty = Faulty(monkeypatch)
    faulty.fails = 9
    assert convert(*given, "bad.jsonl", "--executor", "ray")[0] == 5
    parts = {name for name in files() if name.startswith(".chatfmt/parts/staged/data/")}
    assert parts
    shutil.rmtree(tmp_path / "cache")
    faulty.names, faulty.fails = [], 0
    assert convert(*given, "bad.jsonl", "--executor", "ray")[0] == 0
    assert not parts & {*faulty.names}
    assert files() == {name: (tmp_path / "here" / name).read_bytes() for name in files()}
    assert {name for name in files() if "test-" in name}
    assert (tmp_path / "bad.jsonl").read_bytes() == (tmp_path / "here-bad.jsonl").read_bytes() != b""


class Faulty:
    """Puts on the store: counted, and the one with the number `fails` fails after, or before, it has arrived."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.fails, self.arrives = 0, False
        for name in ("put_file", "pipe_file"):
            patch.setattr(MemoryFileSystem, name, self.counted(getattr(MemoryFileSystem, name)))

    def counted(self, put: Callable[..., None]) -> Callable[..., None]:
        def counted_put(system: MemoryFileSystem, *given: str | bytes, **more: object) -> None:
            path = next(each for each in given if str(each).startswith("/bucket/"))
            tries = path.endswith(("/access", ".chatfmt"))  # whether the store may be written to
            self.names += [] if tries else [path.partition("/out/")[2]]
            fault = len(self.names) == self.fails and not tries
            if not fault or self.arrives:
                put(system, *given, **more)
            if fault:
                raise ConnectionResetError(
                    "connection reset by peer, key=AKIA&token=hunter2 https://u:hunter2@s3/?sig=x"
                )

        return counted_put


def test_a_run_that_is_interrupted_anywhere_shows_nothing_and_is_continued(
    local: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    faulty, whole = Faulty(monkeypatch), request.config.getoption("--full")
    for number in range(1, 12):
        for faulty.arrives in (False, True) if whole else (number % 3 == 0,):
            MemoryFileSystem.store.clear()
            faulty.names, faulty.fails = [], number
            code, lines = convert()
            error = f"error: cannot write `{STORE}`: connection reset by peer, key=AKIA&token=… https://…@s3/?sig=…"
            assert (code, lines[-2:]) == (5, [error, f"hint: {AGAIN}"])
            is_last = faulty.names[-1] == manifest.MANIFEST
            assert (manifest.MANIFEST in files()) == (is_last and faulty.arrives)
            there = {name for name in files() if name in SHARDS and (receipt(name) in files() or is_last)}
            faulty.names, faulty.fails = [], 0
            assert convert("--resume" if number % 2 else "-q")[0] == 0
            assert {name for name in faulty.names if name in SHARDS} == set(SHARDS) - there
            assert files() == local
    assert is_last


AGAIN = "run the same command again: what is uploaded already is not sent again"


def receipt(name: str) -> str:
    return f".chatfmt/receipts/{name.replace('/', '%2F')}.json"


def test_a_shard_that_is_not_whole_is_uploaded_again(local: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = Faulty(monkeypatch)
    faulty.fails = 9  # after all shards and receipts
    assert convert()[0] == 5
    system, root = fsspec.core.url_to_fs(STORE)
    system.pipe_file(f"{root}/{SHARDS[0]}", b"PAR1")
    system.pipe_file(f"{root}/{receipt(SHARDS[1])}", b"{}")
    faulty.names, faulty.fails = [], 0
    assert convert()[0] == 0
    assert [name for name in faulty.names if name in SHARDS] == SHARDS[:2]
    assert files() == local


def test_an_output_is_replaced_without_a_moment_in_which_it_is_wrong(
    local: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert convert(rows="2")[0] == 0
    before = files()
    faulty = Faulty(monkeypatch)
    for number in (1, 2, 4, 11):
        MemoryFileSystem.store.clear()
        system, root = fsspec.core.url_to_fs(STORE)
        system.pipe({f"{root}/{name}": data for name, data in before.items()})
        faulty.names, faulty.fails = [], number
        assert convert("--overwrite")[0] == 5
        assert files() == before if number == 1 else manifest.MANIFEST not in files()
        faulty.fails = 0
        assert convert("--overwrite")[0] == 0
        assert files() == local


@pytest.mark.parametrize("out", [STORE, "here", "here.parquet"])
def test_a_stopped_run_that_others_cannot_resume_names_what_differs_and_does_not_offer_it(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_task = executors.EXECUTORS["serial"].run

    def stopped(*given: Any) -> Iterator[Any]:
        yield next(iter(run_task(*given)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(executors.EXECUTORS, "serial", executors.Executor(stopped, "stops after one task"))
        assert convert("--executor", "serial", out=out)[0] == 130
    for more in ((), ("--resume",)):
        code, (error, hint) = convert("--keep", "id", *more, out=out)
        assert (code, error.partition(", so it cannot be resumed: ")[2]) == (5, '`keep` was [] and is ["id"]')
        assert hint.startswith("hint: start again with `--overwrite`, or choose another ")
    assert convert("--resume", out=out)[0] == 0


def test_other_runs_and_files_are_not_touched() -> None:
    convert()
    before = files()
    assert convert("--keep", "id") == (5, [
        "error: `memory://bucket/out` already holds a finished conversion",
        "hint: replace it with `--overwrite`, or choose another path with `--out`",
    ])  # fmt: skip
    assert convert("--keep", "id", "--resume") == (5, [
        "error: `memory://bucket/out` is from a run with different input, options or versions, so it cannot be "
        "resumed: `keep` was [] and is [\"id\"]",
        "hint: start again with `--overwrite`, or choose another path with `--out`",
    ])  # fmt: skip
    assert files() == before
    system, root = fsspec.core.url_to_fs(STORE)
    system.pipe_file(f"{root}/data/mine.parquet", b"mine")
    assert convert("--overwrite") == (5, [
        "error: `memory://bucket/out/data/mine.parquet` was not written by chatfmt or has changed since, so it is not "
        "replaced",
        "hint: move it away, or choose another path with `--out`",
    ])  # fmt: skip
    assert run_here("verify", STORE).stderr.decode().splitlines() == [
        "error: memory://bucket/out: data/mine.parquet: is not in the manifest",
        "hint: convert again with --overwrite",
    ]
    assert convert(out="memory://bucket") == (5, [
        "error: `memory://bucket` is not empty, and chatfmt did not write its files",
        "hint: choose another path with `--out`, or empty it yourself",
    ])  # fmt: skip
    assert files() == {**before, "data/mine.parquet": b"mine"}


@pytest.mark.parametrize("out", [STORE, f"{STORE}/x.jsonl"])
def test_a_store_that_may_only_be_read_is_refused_before_the_source_is(
    monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def refuse(self: MemoryFileSystem, *given: object, **more: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    assert convert(source="missing.jsonl", out=out) == (5, [
        f"error: `{STORE}`: access is denied",
        "hint: set credentials of memory:// that may write and remove files there, and try again",
    ])  # fmt: skip
    assert convert("--dry-run", out=out)[0] == 0
    assert files() == {}


def test_a_run_that_another_took_over_publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    put = MemoryFileSystem.put_file

    def put_file(system: MemoryFileSystem, lpath: str, rpath: str, **more: object) -> None:
        put(system, lpath, rpath, **more)
        if rpath.endswith(f"{SHARDS[2]}.json".replace("/", "%2F")):
            system.pipe_file(
                f"{rpath.partition('/out/')[0]}/out/.chatfmt/run.json", b'{"version": 1, "fingerprint": "x"}'
            )

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    code, lines = convert()
    assert (code, lines[-2].partition(":")[0]) == (5, "error")
    assert "is from a run with different input" in lines[-2]
    assert manifest.MANIFEST not in files() and "README.md" not in files()


def test_a_damaged_output_is_found() -> None:
    convert()
    system, root = fsspec.core.url_to_fs(STORE)
    data = system.cat_file(f"{root}/{SHARDS[1]}")
    system.pipe_file(f"{root}/{SHARDS[1]}", b"x" * len(data))
    assert run_here("verify", STORE).stderr.decode().splitlines()[0] == (
        f"error: memory://bucket/out: {SHARDS[1]}: its bytes differ from what was written"
    )
    system.pipe_file(f"{root}/{SHARDS[1]}", data[:-1])
    code, lines = convert()
    assert (code, lines[0]) == (5, f"error: the shard `{SHARDS[1]}` of `{STORE}` is missing or incomplete")
    for harm, message in ((b"{}", "manifest has version"), (b"\xff", "is damaged")):
        system.pipe_file(f"{root}/{manifest.MANIFEST}", harm)
        assert run_here("verify", STORE).returncode == 1, message
        assert convert("--overwrite")[0] == 5


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("out", ".chatfmt/manifest.json: is missing",
         "name a folder that chatfmt wrote; the same `chatfmt convert` with --resume finishes an interrupted run, "
         "with --overwrite it begins again"),
        ("out/x.jsonl", "it is a file; only folders have a manifest", "name a folder that chatfmt wrote"),
        ("none", "there is no such folder", "name a folder that chatfmt wrote"),
    ],
)  # fmt: skip
def test_what_is_not_an_output_is_named(name: str, problem: str, hint: str) -> None:
    convert(out=f"{STORE}/x.jsonl")
    url = f"memory://bucket/{name}"
    run = run_here("verify", url)
    assert (run.returncode, run.stderr.decode()) == (1, f"error: {url}: {problem}\nhint: {hint}\n")


def test_a_file_whose_name_looks_like_a_pattern_is_read_and_a_pattern_finds_no_folders() -> None:
    system, text = fsspec.filesystem("memory"), Path("in.jsonl").read_text().splitlines()
    system.pipe({"/bucket/x[1].jsonl": text[0].encode(), "/bucket/x1.jsonl": text[1].encode()})
    system.pipe({"/bucket/xs/y.jsonl": text[2].encode()})
    for pattern, rows in (("x[1].jsonl", 1), ("x*", 2), ("x*/y.jsonl", 1)):
        done = run_here("convert", f"memory://bucket/{pattern}")
        assert (done.returncode, len(done.stdout.splitlines())) == (0, rows), done.stderr
    done = run_here("convert", "memory://bucket/xs*")
    said = b"error: no file matches `memory://bucket/xs*`\nhint: check the path and the pattern\n"
    assert (done.returncode, done.stderr) == (3, said)


@pytest.mark.parametrize(("refusals", "rows"), [(3, 9), (4, 0)])
def test_a_busy_server_is_asked_for_a_block_again(refusals: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(Exception):
        status, headers = 429, {"Retry-After": "0"}

    cat_file, left = MemoryFileSystem.cat_file, [Busy("429, message='Too Many Requests'")] * refusals

    def busy(self: MemoryFileSystem, *given: object, **more: object) -> bytes:
        if left:
            raise left.pop()
        return bytes(cat_file(self, *given, **more))

    fsspec.filesystem("memory").pipe("/bucket/in.jsonl", Path("in.jsonl").read_bytes())
    monkeypatch.setattr(MemoryFileSystem, "cat_file", busy)
    done = run_here("convert", "memory://bucket/in.jsonl", "--on-error", "skip", "--max-bad", "1")
    assert (done.returncode, len(done.stdout.splitlines())) == (0 if rows else 3, rows), done.stderr
    if not rows:
        assert done.stderr.decode().splitlines() == [
            "error: memory://bucket/in.jsonl: cannot be read: 429, message='Too Many Requests' (byte 0)",
            "hint: try again later, or download it first",
        ]


@pytest.mark.parametrize(
    ("out", "error", "hint"),
    [
        ("https://example.com/x", "cannot write to `https://example.com/x`",
         "name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or hf://datasets/OWNER/NAME"),
        ("ftp://host/x", "cannot write to `ftp://host/x`",
         "name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or hf://datasets/OWNER/NAME"),
        ("nosuch://x/y", "cannot write to `nosuch://x/y`",
         "name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or hf://datasets/OWNER/NAME"),
        ("sftp://me:hunter2@host/x", "`sftp://…@host/x` holds a password",
         "leave it to the configuration of its library"),
        ("sftp://me:1/hunter2@host/x", "`sftp://…@host/x` holds a password",
         "leave it to the configuration of its library"),
        ("nosuch://x/y#id_jwt=hunter2&part=1&pass=hunter2", "cannot write to `nosuch://x/y#id_jwt=…&part=1&pass=…`",
         "name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or hf://datasets/OWNER/NAME"),
        ("nosuch://x/y?code=q&zipcode=1&sessionId=q&base=2&se=q&sas=q&my_bearer=q",
         "cannot write to `nosuch://x/y?code=…&zipcode=1&sessionId=…&base=2&se=…&sas=…&my_bearer=…`",
         "name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or hf://datasets/OWNER/NAME"),
        ("s3://me:hun/ter2@bucket/x", "`s3://…@bucket/x` holds a password",
         "leave it to the configuration of its library"),
        ("https://host:80/x@y", "cannot write to `https://host:80/x@y`",
         "name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or hf://datasets/OWNER/NAME"),
        ("memory://", "`memory://` names no folder", "-o memory://BUCKET/PREFIX"),
        ("memory://b//x", "the URL of an output has an empty part, or one that is `.` or `..`", "leave that part out"),
        ("memory://../y", "the URL of an output has an empty part, or one that is `.` or `..`", "leave that part out"),
        ("memory://b/x[1]", "`[` is a wildcard in URLs, so nothing is written to `memory://b/x[1]`",
         "choose a name without `*`, `?` and `[`"),
        ("memory://b/x*.jsonl", "`*` is a wildcard in URLs, so nothing is written to `memory://b/x*.jsonl`",
         "choose a name without `*`, `?` and `[`"),
        ("memory://b/x.csv", "unsupported output format: `memory://b/x.csv`",
         "name a .jsonl or .parquet file, or a folder"),
        ("memory://b/.jsonl.gz", "`.jsonl.gz` is a suffix without a name", "name a file, such as train.jsonl.gz"),
        ("out/.parquet", "`.parquet` is a suffix without a name", "name a file, such as train.parquet"),
    ],
)  # fmt: skip
def test_urls_that_cannot_be_written(out: str, error: str, hint: str, tmp_path: Path) -> None:
    assert convert(out=out) == (2, [f"error: {error}", f"hint: {hint}"])
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["in.jsonl"]


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("https", "http")])
def test_the_error_for_a_missing_library_names_the_extra(
    scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_class(*given: object, **more: object) -> None:
        raise ImportError("Install it", name="lib")

    module = importlib.import_module("fsspec.registry")
    monkeypatch.setattr(module, "_import_class", import_class)
    monkeypatch.setattr(module, "_registry", {})
    monkeypatch.setattr(module, "registry", {})
    done = run_here("convert", f"{scheme}://bucket/in.jsonl")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[1] == (
        f'hint: pip install "chatfmt[{extra}]"; in a checkout: pip install ".[{extra}]"'
    )


@pytest.mark.parametrize(
    ("url", "error", "hint"),
    [
        ("nosuch://x/y.jsonl", "cannot open `nosuch://x/y.jsonl`: no file system of fsspec is called `nosuch`",
         "use one such as s3://, gs://, az://, https:// or hf://"),
        ("az://x/y.jsonl", "`az://` needs the package `adlfs`", "pip install adlfs"),
        ("sftp://host/y.jsonl", "`sftp://` needs the package `paramiko`", "pip install paramiko"),
    ],
)  # fmt: skip
def test_urls_that_cannot_be_opened(url: str, error: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("adlfs", "paramiko"):
        monkeypatch.setitem(sys.modules, package, None)
    for done in (run_here("convert", url), run_here("convert", "in.jsonl", "-o", url.removesuffix(".jsonl"))):
        assert done.returncode == 2
    done = run_here("convert", url)
    assert (done.stdout, done.stderr.decode().splitlines()) == (b"", [f"error: {error}", f"hint: {hint}"])


def test_what_the_library_of_a_store_logs_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    convert()
    find = MemoryFileSystem.find

    def loud(*given: object, **more: object) -> object:
        logging.getLogger("gcsfs.retry").error("out of retries: Authorization: hunter2")
        return find(*given, **more)

    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(MemoryFileSystem, "find", loud)
    monkeypatch.setattr(logging.getLogger("gcsfs"), "handlers", [])
    known = importlib.import_module("fsspec.registry").known_implementations
    monkeypatch.setitem(known, "memory", {"class": "gcsfs.GCSFileSystem"})
    done = run_here("verify", STORE)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst", "x.parquet"])
@pytest.mark.parametrize("more", [(), ("--shuffle", "--dedup")])
def test_one_file_on_a_store_holds_the_bytes_of_one_here(name: str, more: tuple[str, ...], tmp_path: Path) -> None:
    given = ["in.jsonl", "-t", "chatml", "--on-error", "skip", "--max-bad", "1", "-q", *more]
    assert run_here("convert", *given, "-o", name).returncode == 0
    done = run_here("convert", *given, "-o", f"memory://bucket/{name}", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["rejects"] == "memory://bucket/x.rejects.jsonl"
    assert files("memory://bucket") == {each: (tmp_path / each).read_bytes() for each in (name, "x.rejects.jsonl")}
    assert [*(tmp_path / "cache/chatfmt/stores").iterdir()] == []
    back = run_here("convert", f"memory://bucket/{name}", "--keep", "all", "--to", "messages")
    assert (back.returncode, len(back.stdout.splitlines())) == (0, 9)


def test_rejects_go_to_a_store_from_everywhere(local: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    place = "memory://bucket/bad.jsonl"
    for given in (["-o", "x.jsonl"], ["-o", "x"], ["-o", "memory://bucket/x.parquet"], ["-o", STORE], []):
        for number in range(2):  # the second time it is replaced, or copied from what is complete
            fsspec.filesystem("memory").pipe_file("/bucket/bad.jsonl", b"old")
            again = ["--resume"] if number and given in (["-o", "x"], ["-o", STORE]) else ["--overwrite"]
            skips = ["--on-error", "skip", "--max-bad", "1", "--rejects", place, *again]
            done = succeed(run_here("convert", "in.jsonl", "-t", "chatml", *given, *skips))
            assert f"`{place}`" in done.stderr.decode() or "is already complete" in done.stderr.decode()
            assert files("memory://bucket")["bad.jsonl"] == local[manifest.REJECTS]
    done = run_here("convert", "in.jsonl", "-t", "chatml", "--limit", "9", "-q", "--on-error", "skip", "-o", "y.jsonl",
                    "--rejects", place)  # fmt: skip
    assert done.returncode == 0 and "bad.jsonl" not in files("memory://bucket")
    done = run_here("convert", "in.jsonl", "-t", "chatml", "-o", "z.jsonl", "--on-error", "skip", "--max-bad", "0",
                    "--rejects", place)  # fmt: skip
    assert (done.returncode, done.stderr.decode().splitlines()[-1]) == (
        1, f"hint: they are in `{place}`; `chatfmt check` lists them; --max-bad N --resume raises the limit and "
        "keeps what is done",
    )  # fmt: skip
    assert files("memory://bucket")["bad.jsonl"] == local[manifest.REJECTS]
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *given: 1 / 0)
    done = run_here("convert", "no-such.jsonl", "-t", "chatml", "--on-error", "skip", "--rejects", place)
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (
        5, "error: cannot write `memory://bucket`: division by zero"
    )  # fmt: skip


def test_one_file_on_a_store_is_replaced_only_with_overwrite() -> None:
    system = fsspec.filesystem("memory")
    given = ("in.jsonl", "-t", "chatml", "-q", "--limit", "9", "-o", "memory://bucket/x.jsonl")
    system.pipe_file("/bucket/x.jsonl", b"mine")
    for more in ((), ("--resume",)):
        assert run_here("convert", *given, *more).stderr.decode().splitlines() == [
            "error: `memory://bucket/x.jsonl` already exists",
            "hint: replace it with `--overwrite`, or choose another name with `--out`",
        ]
    assert files("memory://bucket") == {"x.jsonl": b"mine"}
    system.pipe_file("/bucket/x.rejects.jsonl", b"mine")
    skips = ("--on-error", "skip")
    assert run_here("convert", *given, *skips).returncode == 5
    assert run_here("convert", *given, *skips, "--overwrite").returncode == 0
    assert run_here("convert", *given, "--rejects", "bad.jsonl", "--overwrite", *skips).returncode == 0
    assert run_here("convert", *given[:-1], "here.jsonl").returncode == 0
    assert files("memory://bucket") == {"x.jsonl": Path("here.jsonl").read_bytes()}
    same = run_here(
        "convert", "memory://bucket/x.jsonl", "-o", "memory://bucket/x.jsonl", "--overwrite", "-t", "chatml"
    )
    assert same.stderr.decode().splitlines() == [
        "error: the output `memory://bucket/x.jsonl` is its own input", "hint: choose another OUT"
    ]  # fmt: skip
    plan = run_here("plan", *given[:-1], "memory://bucket/out/y.jsonl")
    assert (plan.returncode, plan.stderr.decode().splitlines()) == (2, [
        "error: a plan cannot write to `memory://bucket/out/y.jsonl`", "hint: -o memory://bucket/out/",
    ])  # fmt: skip


def test_one_file_that_is_interrupted_anywhere_shows_nothing_and_is_continued(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = ["in.jsonl", "-t", "chatml", "-q", "--on-error", "skip", "--max-bad", "1", "-o"]
    assert run_here("convert", *given, "x.jsonl").returncode == 0
    faulty = Faulty(monkeypatch)
    for number, faulty.arrives in ((1, False), (1, True), (2, False), (2, True)):
        MemoryFileSystem.store.clear()
        faulty.names, faulty.fails = [], number
        done = run_here("convert", *given, "memory://bucket/out/x.jsonl")
        assert (done.returncode, done.stderr.decode().splitlines()[-1]) == (5, f"hint: {AGAIN}")
        there = ["x.rejects.jsonl", "x.jsonl"][: number if faulty.arrives else number - 1]
        assert [*files("memory://bucket/out")] == sorted(there)
        faulty.fails = 0
        assert run_here("convert", *given, "memory://bucket/out/x.jsonl").returncode == 0
        assert files("memory://bucket/out") == {
            each: (tmp_path / each).read_bytes() for each in ("x.jsonl", "x.rejects.jsonl")
        }
        assert [*(tmp_path / "cache/chatfmt/stores").iterdir()] == []


def test_parts_of_a_plan_share_the_store_alone(local: dict[str, bytes], tmp_path: Path) -> None:
    given = ["in.jsonl", "-t", "chatml", "-o", STORE, "--rows-per-shard", "4", "--on-error", "skip", "--max-bad", "1"]
    assert run_here("plan", *given, "--json").returncode == 0
    assert sorted(files()) == [".chatfmt/plan.json", ".chatfmt/run.json"]
    assert run_here("commit", STORE).stderr.decode().splitlines() == [
        "error: 3 of 3 shards are missing: " + ", ".join(f"`{name}`" for name in SHARDS),
        f"hint: chatfmt run {STORE}/.chatfmt/plan.json --task 1/1 runs them here; "
        "as parts: --task I/3, where I is 1, 2, 3",
    ]
    for part in (2, 1, 2):
        assert run_here("run", STORE, "--task", f"{part}/2", "--executor", "serial").returncode == 0
    assert run_here("commit", STORE, "--executor", "serial").returncode == 0
    assert files() == local
    for command in (["run", STORE, "--task", "1/2"], ["commit", STORE]):
        done = run_here(*command)
        assert (done.returncode, done.stderr.decode()) == (0, f"`{STORE}` is already complete: 9 rows\n")
    assert files() == local


def test_parts_of_a_plan_that_reorders_rows(tmp_path: Path) -> None:
    given = ["in.jsonl", "-t", "chatml", "--rows-per-shard", "4", "--on-error", "skip", "--max-bad", "1", "--shuffle"]
    run_here("convert", *given, "-o", "here")
    run_here("plan", *given, "-o", STORE)
    for part in (2, 1):
        run_here("run", f"{STORE}/.chatfmt/plan.json", "--task", f"{part}/2", "--executor", "serial")
    assert sorted(files()) == sorted(
        [".chatfmt/plan.json", ".chatfmt/run.json",
         *(f".chatfmt/parts/{receipt(name).removeprefix('.chatfmt/')}" for name in SHARDS),
         *(f".chatfmt/parts/staged/{name}" for name in SHARDS),
         ".chatfmt/parts/staged/rejects/data%2Ftrain-00002-of-00003.parquet.jsonl"]
    )  # fmt: skip
    assert run_here("commit", STORE, "--executor", "serial").returncode == 0
    assert files() == {name: (tmp_path / "here" / name).read_bytes() for name in files()}


def test_an_output_that_is_not_finished_is_no_source() -> None:
    assert convert()[0] == 0
    system, root = fsspec.core.url_to_fs(STORE)
    system.pipe_file(f"{root}/.chatfmt/run.json", b"{}")
    assert run_here("convert", STORE, "-q").returncode == 0  # the manifest is there
    system.rm_file(f"{root}/{manifest.MANIFEST}")
    done = run_here("convert", STORE)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (3, b"", (
        f"error: `{STORE}` is an output that is not finished\n"
        "hint: run the conversion that writes it again, or name some of its files\n"
    ))  # fmt: skip


def test_the_case_of_a_scheme_does_not_matter(tmp_path: Path) -> None:
    assert convert(out="MEMORY://bucket/out")[0] == 0
    assert {*SHARDS, manifest.MANIFEST} < {*files()}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["in.jsonl"]


def test_a_loader_reads_folders_of_this_machine() -> None:
    done = run_here("loader", "s3://bucket/out", "--for", "trl-sft")
    assert (done.returncode, done.stderr.decode()) == (3, (
        "error: `s3://bucket/out` is not a folder on this machine\nhint: download it, and name the copy\n"
    ))  # fmt: skip


@pytest.mark.parametrize("secret", ["s3://me:hunter2", "s3://me:hun/ter+2", "hf://hunter2"])
def test_a_source_on_a_store_with_a_password_in_its_url_is_refused(secret: str) -> None:
    done = run_here("inspect", f"{secret}@bucket/x.jsonl")
    assert (done.returncode, done.stderr.decode()) == (
        2, f"error: `{secret[:2]}://…@bucket/x.jsonl` holds a password\n"
        "hint: leave it to the configuration of its library\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://me:hun/ter2@bucket/t.jinja", "s3://…@bucket/t.jinja"),
        ("zip://t.zip::s3://bucket/t@2.jinja", "zip://t.zip::s3://bucket/t@2.jinja"),
    ],
)
def test_no_error_prints_a_password(url: str, shown: str) -> None:
    done = run_here("convert", "in.jsonl", "-t", url)
    said = f"error: there is no template file or model folder `{shown}`\nhint: check the path\n"
    assert (done.returncode, done.stderr.decode()) == (3, said)
