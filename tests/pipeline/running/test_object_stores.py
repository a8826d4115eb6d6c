"""Outputs on S3 and Google Cloud Storage, played by servers behind a proxy that breaks requests: what is listed after
each failure."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ...conftest import run_cli, write_rows
from ...stand_in_servers import FaultyProxy, free_port

SECRETS = [b"wJalrXUtnFEMI", b"AKIAEXAMPLE", b"ya29.EXAMPLE"]
SHARDS = [f"data/train-0000{number}-of-00003.parquet" for number in range(3)]
ACCESS = ".chatfmt/access"
"""The file that tries whether a store may be written to."""
COMPLETE = [".chatfmt/manifest.json", "README.md", *SHARDS]
DENIED = "hint: set credentials of {}:// that may write and remove files there, and try again"
RECEIPTS = [f".chatfmt/receipts/{name.replace('/', '%2F')}.json" for name in SHARDS]


@pytest.fixture(scope="module", autouse=True)
def slow(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("each command imports the library of a store, which takes a second: run with --full")


class Bucket:
    """A bucket of its own, reached through a proxy."""

    scheme, needs, upload = "", ("",), ""
    """Its URLs, the packages that it needs and how the request of an upload begins."""

    def __init__(self, server: str, proxy: FaultyProxy, folder: Path) -> None:
        self.server, self.proxy, self.folder, self.name = server, proxy, folder, f"bucket-{time.monotonic_ns()}"
        self.env = {"XDG_CACHE_HOME": str(folder / "cache"), "NO_PROXY": "127.0.0.1", **self.settings(proxy.url)}
        self.out = f"{self.scheme}://{self.name}/out"
        self.make()

    @staticmethod
    def serve() -> Iterator[str]:
        """Yield the address of a server."""
        raise NotImplementedError

    def settings(self, url: str) -> dict[str, str]:
        """The environment in which the library of the store finds the proxy and credentials."""
        raise NotImplementedError

    def make(self) -> None:
        """Make the bucket."""
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """The files below `out`, by name."""
        raise NotImplementedError

    def fail(self, name: str, what: int | str | float, times: int = 1) -> None:
        """Let uploads of files go wrong, whose name in `out` is the pattern."""
        self.proxy.fail(f"{self.upload}.*out/{name}", what, times)

    def convert(self, *more: str) -> tuple[int, str]:
        """Convert to the bucket and return exit code and stderr, in which no secret may be."""
        given = ["in.jsonl", "-t", "chatml", "-o", self.out, "--rows-per-shard", "4", *more]
        done = run_cli("convert", *given, env=self.env, cwd=self.folder)
        seen = done.stdout + done.stderr + b"".join(self.files().values())
        assert not [secret for secret in SECRETS if secret in seen]
        return done.returncode, done.stderr.decode()

    def puts(self) -> list[str]:
        """The shards whose upload was tried since the last call."""
        found = [call.rpartition("out/")[2].split()[0] for call in self.proxy.calls if call.startswith(self.upload)]
        self.proxy.calls.clear()
        return [name for name in found if name in SHARDS]


class S3(Bucket):
    scheme, needs, upload = "s3", ("moto", "flask", "s3fs"), "PUT"

    @staticmethod
    def serve() -> Iterator[str]:
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()

    def settings(self, url: str) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI"}
        return {**keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}

    def make(self) -> None:
        import boto3

        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=self.server, **keys)
        self.client.create_bucket(Bucket=self.name)

    def files(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {
            entry["Key"].removeprefix("out/"): self.client.get_object(Bucket=self.name, Key=entry["Key"])["Body"].read()
            for entry in found
            if entry["Key"] != f"out/{ACCESS}"  # which is there for a moment
        }


class Gcs(Bucket):
    scheme, needs, upload = "gs", ("gcsfs", "gcp_storage_emulator"), "POST /upload"

    @staticmethod
    def serve() -> Iterator[str]:
        from gcp_storage_emulator.server import create_server

        port = free_port()
        server = create_server("127.0.0.1", port, in_memory=True)
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop()

    def settings(self, url: str) -> dict[str, str]:
        token = {"FSSPEC_GS_TOKEN": "ya29.EXAMPLE", "FETCH_RAW_TOKEN_EXPIRY": "false"}
        return {**token, "STORAGE_EMULATOR_HOST": url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}

    def make(self) -> None:
        self.ask("POST", "/storage/v1/b", json={"name": self.name})

    def ask(self, method: str, path: str, **more: object) -> bytes:
        import requests

        answer = requests.request(method, self.server + path, timeout=60, **more)
        answer.raise_for_status()
        return answer.content

    def files(self) -> dict[str, bytes]:
        found = json.loads(self.ask("GET", f"/storage/v1/b/{self.name}/o")).get("items", [])
        return {
            entry["name"].removeprefix("out/"): self.ask("GET", f"/{self.name}/{quote(entry['name'])}")
            for entry in found
            if entry["name"] != f"out/{ACCESS}"
        }


@pytest.fixture(scope="module", params=[S3, Gcs])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[type[Bucket], str]]:
    missing = [name for name in request.param.needs if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (chatfmt[s3], chatfmt[gcs], gcp-storage-emulator)")
    yield from ((request.param, url) for url in request.param.serve())


@pytest.fixture
def bucket(store: tuple[type[Bucket], str], tmp_path: Path) -> Iterator[Bucket]:
    turns = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}] for n in range(9)]
    write_rows(tmp_path / "in.jsonl", [{"messages": each} for each in turns])
    kind, server = store
    with FaultyProxy(server) as proxy:
        yield kind(server, proxy, tmp_path)


def local(bucket: Bucket) -> dict[str, bytes]:
    """The files that the same conversion writes to a folder."""
    given = ["in.jsonl", "-t", "chatml", "-o", "here", "--rows-per-shard", "4"]
    assert run_cli("convert", *given, cwd=bucket.folder).returncode == 0
    return {name: (bucket.folder / "here" / name).read_bytes() for name in COMPLETE}


def test_passing_faults_are_overcome_and_the_output_is_read_back(bucket: Bucket) -> None:
    bucket.fail(".*train-00000", 503, times=2)
    bucket.fail(".*train-00001", "reset")
    bucket.fail(".*train-00002", 1.0)
    bucket.fail(".*manifest", 500)
    code, text = bucket.convert()
    assert (code, text) == (0, f"wrote 9 rows to `{bucket.out}`, 1.3 kB in 3 shards\n")
    assert bucket.files() == local(bucket)
    assert not any(fault.times for fault in bucket.proxy.faults)
    checked = run_cli("verify", bucket.out, env=bucket.env)
    assert checked.stdout.decode() == f"{bucket.out}: 9 rows in 3 shards, all checksums match\n"
    back = run_cli("convert", bucket.out, "--keep", "all", "--to", "messages", env=bucket.env)
    assert [json.loads(line)["messages"][0]["content"] for line in back.stdout.splitlines()] == [
        f"q{n}" for n in range(9)
    ]


def test_a_store_that_stays_broken_is_one_line_and_continued(bucket: Bucket) -> None:
    bucket.env["AWS_MAX_ATTEMPTS"] = "1"  # gcsfs does not repeat what was refused
    bucket.fail(".*train-00001-of-00003.parquet(?!.json)", 403, times=99)
    code, text = bucket.convert("--executor", "serial")
    assert (code, text.splitlines()) == (5, [
        f"error: `{bucket.out}`: access is denied", DENIED.format(bucket.scheme),
    ])  # fmt: skip
    assert sorted(bucket.files()) == [RECEIPTS[0], ".chatfmt/run.json", SHARDS[0]]
    bucket.proxy.faults.clear()
    assert bucket.puts() == [SHARDS[0], SHARDS[1]]
    assert bucket.convert("--resume") == (0, f"wrote 9 rows to `{bucket.out}`, 1.3 kB in 3 shards\n")
    assert sorted(bucket.puts()) == SHARDS[1:]
    assert bucket.files() == local(bucket)


@pytest.mark.parametrize(
    "out, refused", [("", "PUT|POST|DELETE"), ("/x.jsonl", "PUT|POST"), ("", r"DELETE|POST .*\?delete")]
)
def test_a_bucket_that_may_not_be_written_is_refused_before_a_row_is_read(
    bucket: Bucket, out: str, refused: str
) -> None:
    bucket.proxy.fail(f"({refused})", 403, times=99)
    done = run_cli("convert", "in.jsonl", "-o", bucket.out + out, env=bucket.env, cwd=bucket.folder)
    assert (done.returncode, done.stderr.decode().splitlines()) == (5, [
        f"error: `{bucket.out}`: access is denied", DENIED.format(bucket.scheme),
    ])  # fmt: skip
    assert bucket.files() == {}
    assert [path.name for path in bucket.folder.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("RequestTimeTooSkewed", "its clock and that of this machine differ\nhint: set the clock of this machine and"),
        ("ExpiredToken", "the credentials have expired\nhint: renew them and"),
    ],
)
def test_a_refusal_that_credentials_do_not_mend(bucket: Bucket, code: str, says: str) -> None:
    if not isinstance(bucket, S3):
        pytest.skip("what S3 calls it")
    bucket.proxy.fail("PUT", code, times=99)
    assert bucket.convert() == (5, f"error: `{bucket.out}`: {says} try again\n")
    assert bucket.files() == {}


def kill_once_there(bucket: Bucket, name: str) -> None:
    """Convert to the bucket until it has a file of that name."""
    command = [sys.executable, "-m", "chatfmt", "convert", "in.jsonl", "-t", "chatml", "-o", bucket.out]
    started = subprocess.Popen(
        [*command, "--rows-per-shard", "4", "--executor", "serial"], env={**os.environ, **bucket.env},
        cwd=bucket.folder, start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while name not in bucket.files():
        assert started.poll() is None
        time.sleep(0.05)
    time.sleep(0.2)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def test_a_stop_between_the_last_upload_and_the_manifest(bucket: Bucket) -> None:
    bucket.fail(".*manifest", 60.0, times=9)
    kill_once_there(bucket, "README.md")
    assert sorted(bucket.files()) == [*RECEIPTS, ".chatfmt/run.json", "README.md", *SHARDS]
    bucket.proxy.faults.clear()
    bucket.puts()
    assert bucket.convert("--resume")[0] == 0
    assert bucket.puts() == []
    assert bucket.files() == local(bucket)


def test_a_file_needs_no_permission_to_remove(bucket: Bucket) -> None:
    if not isinstance(bucket, S3):
        pytest.skip("other stores have a small file written and removed")
    bucket.proxy.fail(r"DELETE [^?]*$", 403, times=99)
    done = run_cli("convert", "in.jsonl", "-q", "-o", f"{bucket.out}/x.jsonl", env=bucket.env, cwd=bucket.folder)
    assert (done.returncode, done.stderr, list(bucket.files())) == (0, b"", ["x.jsonl"])


def test_a_killed_run_shows_nothing_and_uploads_only_the_rest(bucket: Bucket) -> None:
    bucket.fail(".*train-00001-of-00003.parquet(?!.json)", 60.0, times=9)
    kill_once_there(bucket, RECEIPTS[0])
    assert sorted(bucket.files()) == [RECEIPTS[0], ".chatfmt/run.json", SHARDS[0]]
    bucket.proxy.faults.clear()
    bucket.puts()
    assert bucket.convert()[0] == 0
    assert sorted(bucket.puts()) == SHARDS[1:]
    assert bucket.files() == local(bucket)


def test_parts_of_uploads_that_a_killed_run_has_left_are_removed(bucket: Bucket) -> None:
    if not isinstance(bucket, S3):
        pytest.skip("other stores forget them by themselves")
    for name in (f"out/{SHARDS[0]}", "out2/mine"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=name)
    assert bucket.convert()[0] == 0
    left = bucket.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
    assert [upload["Key"] for upload in left] == ["out2/mine"]
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key="out/x.jsonl")
    given = ["in.jsonl", "-t", "chatml", "-o", f"{bucket.out}/x.jsonl"]
    assert run_cli("convert", *given, env=bucket.env, cwd=bucket.folder).returncode == 0
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"] == left


def test_a_bucket_that_does_not_exist(bucket: Bucket) -> None:
    bucket.out = f"{bucket.scheme}://no-such-bucket/out"
    assert bucket.convert() == (
        5, f"error: `{bucket.out}` does not exist\nhint: check the name of the bucket\n"
    )  # fmt: skip


def test_a_source_that_cannot_be_read_is_one_line(bucket: Bucket) -> None:
    assert bucket.convert()[0] == 0
    bucket.env["AWS_MAX_ATTEMPTS"] = "1"
    name = f"{bucket.out}/{SHARDS[1]}"
    bucket.proxy.fail("(GET|HEAD) .*train-00001", 403, times=99)
    done = run_cli("convert", name, "-o", "back.jsonl", env=bucket.env, cwd=bucket.folder)
    assert (done.returncode, done.stderr.decode().splitlines()) == (3, [
        f"error: `{name}`: access is denied", f"hint: set the credentials of {bucket.scheme}:// and try again",
    ])  # fmt: skip
    missing = run_cli("convert", f"{bucket.out}/no.jsonl", "-o", "back.jsonl", env=bucket.env, cwd=bucket.folder)
    said = f"error: no such file `{bucket.out}/no.jsonl`\nhint: check the address\n"
    assert (missing.returncode, missing.stderr.decode()) == (3, said)
    bucket.proxy.faults.clear()
    bucket.proxy.fail("GET .*train-00001.*", "reset", times=1)
    back = run_cli("convert", name, "--keep", "all", "-o", "back.jsonl", env=bucket.env, cwd=bucket.folder)
    assert (back.returncode, len((bucket.folder / "back.jsonl").read_bytes().splitlines())) == (0, 4)
    assert sorted(path.name for path in bucket.folder.iterdir()) == ["back.jsonl", "cache", "in.jsonl"]
