"""Files on web servers: what of them is fetched, servers that send no ranges, and credentials in URLs."""

from __future__ import annotations

import gzip
import importlib.util
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.config import conf

from chatfmt.sources.bytes import remote_cache
from chatfmt.stores import open_store

from ..conftest import run_here, to_lines
from ..stand_in_servers import FaultyProxy, FileServer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="needs aiohttp (chatfmt[http])")
ROWS = [
    {"messages": [{"role": "user", "content": f"{n} é" * 50}, {"role": "assistant", "content": str(n) * 99}]}
    for n in range(3000)
]
TEXT = to_lines(ROWS).encode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remote_cache, "BLOCK", 1 << 17)
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    (data / "x.jsonl").write_bytes(TEXT)
    (data / "x.jsonl.gz").write_bytes(gzip.compress(TEXT))
    pq.write_table(pa.Table.from_pylist(ROWS), data / "x.parquet", row_group_size=500)
    return data


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.parquet"])
@pytest.mark.parametrize(("ranges", "sized"), [(True, True), (False, True), (False, False)])
def test_a_remote_file_is_fetched_once(folder: Path, name: str, ranges: bool, sized: bool) -> None:
    with FileServer(folder, ranges=ranges, sized=sized) as server:
        given = ["-t", "chatml", "--rows-per-shard", "700", "-q", "-o"]
        assert run_here("convert", f"{server.url}/{name}", *given, "remote").returncode == 0
        assert run_here("convert", f"data/{name}", *given, "local").returncode == 0
        size = (folder / name).stat().st_size
        assert (
            size <= server.sent <= size * (1.01 if ranges else 2)
        )  # without ranges a first answer is not read to its end
    shards = sorted(path.name for path in Path("local/data").iterdir())
    assert len(shards) == 5
    assert {path.name: path.read_bytes() for path in Path("remote/data").iterdir()} == {
        name: Path("local/data", name).read_bytes() for name in shards
    }


def test_blocks_are_not_kept_on_a_disk_that_fills_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_cache, "SPARE", 1.0)
    with FileServer(folder) as server:
        assert run_here("convert", f"{server.url}/x.jsonl", "-t", "chatml", "-q", "-o", "out").returncode == 0
        assert server.sent > 1.5 * len(TEXT)


def test_a_file_that_never_ends_does_not_fill_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_cache, "SPARE", 1.0)
    monkeypatch.setattr(remote_cache, "LEAST", 1 << 60)
    with FileServer(folder, ranges=False) as server:
        done = run_here("convert", f"{server.url}/x.jsonl", "-t", "chatml", "-q", "-o", "out.jsonl")
    assert (done.returncode, done.stderr.decode()) == (
        5, f"error: cannot write temporary files to `{Path.cwd()}`: the disk is full\n"
        "hint: free some space there, or choose another place with `--out`\n",
    )  # fmt: skip
    assert [path.name for path in Path.cwd().iterdir()] == ["data"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_stream_of_the_first_rows(folder: Path, ranges: bool) -> None:
    with FileServer(folder, ranges=ranges) as server:
        done = run_here("convert", f"{server.url}/x.jsonl", "--limit", "2", "--to", "messages")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, "`{}`: access is denied"),
        (404, "no such file `{}`"),
        (503, "cannot read `{}`: 503 Service Unavailable"),
        ("reset", "cannot read `{}`: Connection reset by peer"),
    ],
)
def test_what_a_web_server_answers_is_said(folder: Path, status: int | str, error: str) -> None:
    with FileServer(folder) as server, FaultyProxy(server.url) as proxy:
        proxy.fail(".*", status, times=99)
        done = run_here("convert", f"{proxy.url}/x.jsonl?sig=hunter2")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.decode().splitlines()[0] == f"error: {error.replace('{}', f'{proxy.url}/x.jsonl?sig=…')}"


CHECK = "hint: check the address\n"


@pytest.mark.parametrize("user", ["me:hunter2", "hunter2"])
def test_a_signature_is_in_no_message_and_no_file(folder: Path, user: str) -> None:
    with FileServer(folder) as server:
        url = f"{server.url.replace('//', f'//{user}@')}/x.jsonl?X-Amz-Signature=hunter2&part=1"
        shown = f"{server.url.replace('//', '//…@')}/x.jsonl?X-Amz-Signature=…&part=1"
        runs = [
            run_here("convert", url, "-t", "chatml", "-o", "out"),
            run_here("inspect", url),
            run_here("convert", url, "--dialect", "alpaca"),
            run_here("convert", url.replace("x.jsonl", "y.jsonl")),
            run_here("convert", url, "-t", "chatml", "-o", "out", "--dry-run"),
            run_here("plan", url, "-o", "planned"),
        ]
    assert [run.returncode for run in runs] == [0, 0, 2, 3, 0, 2]
    assert runs[3].stderr.decode() == f"error: no such file `{shown.replace('x.jsonl', 'y.jsonl')}`\n{CHECK}"
    assert runs[5].stderr.decode().splitlines()[-2:] == [
        f"error: a plan would show the credentials in `{shown}`",
        "hint: leave them to the configuration of its library, or download the file first",
    ]
    manifest = Path("out/.chatfmt/manifest.json").read_text()
    assert shown in manifest
    written = [path.read_bytes() for path in Path("out").rglob("*") if path.is_file()]
    assert len(written) == 4
    assert [text for text in [*written, *(run.stdout + run.stderr for run in runs)] if b"hunter2" in text] == []
    assert not Path("planned").exists()


def test_a_download_may_take_long_but_not_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.stores._answered", {"http://127.0.0.1:1"})
    monkeypatch.setitem(conf, "http", {"client_kwargs": {"headers": {"X-Mine": "1"}}})
    given = open_store("http://127.0.0.1:1/x.jsonl")[0].client_kwargs
    assert (given["timeout"].total, given["timeout"].sock_read, given["headers"]) == (None, 60, {"X-Mine": "1"})


def test_the_address_of_a_server_may_have_colons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.stores._answered", {"http://[::1]:1"})
    run = run_here("convert", "http://[::1]:1/x.jsonl")
    assert run.returncode == 3 and run.stderr.startswith(b"error: cannot read `http://[::1]:1/x.jsonl`: Cannot connect")


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.stores.ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.jsonl"
        done = run_here("convert", f"{url}?sig=hunter2")
    assert (done.returncode, done.stderr.decode()) == (
        3, f"error: cannot read `{url}?sig=…`: no answer within 0.2 seconds\n"
        "hint: check the network and the address, and try again\n",
    )  # fmt: skip


def test_a_server_that_sends_a_byte_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.stores.SLOW_SECONDS", 0.1)
    for ranges in (True, False):
        with FileServer(folder, ranges=ranges, pause=0.02) as server:
            done = run_here("convert", f"{server.url}/x.jsonl", "-o", "out.jsonl")
        error = done.stderr.decode().splitlines()[0]
        assert done.returncode == 3 and "less than 1024 bytes per second came for 0.2 seconds" in error
    assert [path.name for path in Path.cwd().iterdir()] == ["data"]


def test_a_server_that_sends_other_bytes_than_those_it_was_asked_for(folder: Path) -> None:
    with FileServer(folder, shift=1) as server:
        done = run_here("convert", f"{server.url}/x.jsonl", "-o", "out.jsonl")
        url = f"{server.url}/x.jsonl"
    last = len(TEXT) - 1
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (
        3, f"error: cannot read `{url}`: the bytes from {last - 1:,} came instead of those from {last:,}"
    )  # fmt: skip
    assert [path.name for path in Path.cwd().iterdir()] == ["data"]


NO_PROFILE = "AWS_PROFILE names none that exists\nhint: choose one of `aws configure list-profiles` and try again\n"


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("", "no credentials were found\nhint: set the credentials of s3:// and try again\n"),
        ("nosuch", NO_PROFILE),
    ],
)
def test_a_store_without_credentials_is_named(
    profile: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    done = run_here("convert", "s3://bucket/x.jsonl")
    assert (done.returncode, done.stdout, done.stderr.decode()) == (3, b"", f"error: `s3://bucket/x.jsonl`: {says}")
