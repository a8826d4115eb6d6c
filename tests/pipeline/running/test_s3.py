"""Outputs on S3, played by moto behind a proxy that breaks requests: what is listed after each failure."""

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

import pytest

from ...conftest import run_cli
from ...stand_in_servers import FaultyProxy

needs = [name for name in ("moto", "flask", "s3fs") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(needs), reason=f"not installed: {', '.join(needs)} (chatfmt[s3], moto[server])")
SECRET = "wJalrXUtnFEMI"
SHARDS = [f"data/train-0000{number}-of-00003.parquet" for number in range(3)]
COMPLETE = [".chatfmt/manifest.json", "README.md", *SHARDS]
RECEIPTS = [f".chatfmt/receipts/{name.replace('/', '%2F')}.json" for name in SHARDS]


@pytest.fixture(scope="module", autouse=True)
def slow(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("each command imports s3fs, which takes a second: run with --full")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Bucket:
    """A bucket of its own, reached through a proxy."""

    def __init__(self, moto: str, proxy: FaultyProxy, folder: Path) -> None:
        import boto3

        self.proxy, self.folder, self.name = proxy, folder, f"bucket-{time.monotonic_ns()}"
        self.env = {
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": proxy.url, "XDG_CACHE_HOME": str(folder / "cache"), "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=moto, **keys)
        self.client.create_bucket(Bucket=self.name)
        self.out = f"s3://{self.name}/out"

    def files(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {
            entry["Key"].removeprefix("out/"): self.client.get_object(Bucket=self.name, Key=entry["Key"])["Body"].read()
            for entry in found
        }

    def convert(self, *more: str) -> tuple[int, str]:
        """Convert to the bucket and return exit code and stderr, in which no secret may be."""
        given = ["in.jsonl", "-t", "chatml", "-o", self.out, "--rows-per-shard", "4", *more]
        done = run_cli("convert", *given, env=self.env, cwd=self.folder)
        seen = done.stdout + done.stderr + b"".join(self.files().values())
        assert SECRET.encode() not in seen and b"AKIAEXAMPLE" not in seen
        return done.returncode, done.stderr.decode()

    def puts(self) -> list[str]:
        """The shards whose upload was tried since the last call."""
        found = [call.split()[1].partition("/out/")[2] for call in self.proxy.calls if call.startswith("PUT")]
        self.proxy.calls.clear()
        return [name for name in found if name in SHARDS]


@pytest.fixture
def bucket(moto: str, tmp_path: Path) -> Iterator[Bucket]:
    turns = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}] for n in range(9)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns))
    with FaultyProxy(moto) as proxy:
        yield Bucket(moto, proxy, tmp_path)


def local(bucket: Bucket) -> dict[str, bytes]:
    """The files that the same conversion writes to a folder."""
    given = ["in.jsonl", "-t", "chatml", "-o", "here", "--rows-per-shard", "4"]
    assert run_cli("convert", *given, cwd=bucket.folder).returncode == 0
    return {name: (bucket.folder / "here" / name).read_bytes() for name in COMPLETE}


def test_passing_faults_are_overcome_and_the_output_is_read_back(bucket: Bucket) -> None:
    bucket.proxy.fail("PUT .*train-00000", 503, times=2)
    bucket.proxy.fail("PUT .*train-00001", "reset")
    bucket.proxy.fail("PUT .*train-00002", 1.0)
    bucket.proxy.fail("PUT .*manifest", 500)
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
    bucket.env["AWS_MAX_ATTEMPTS"] = "1"
    bucket.proxy.fail("PUT .*train-00001-of-00003.parquet(?!.json)", 403, times=99)
    code, text = bucket.convert("--executor", "serial")
    assert (code, text.splitlines()) == (5, [
        f"error: `{bucket.out}`: access is denied", "hint: set the credentials of s3:// and try again",
    ])  # fmt: skip
    assert sorted(bucket.files()) == [RECEIPTS[0], ".chatfmt/run.json", SHARDS[0]]
    bucket.proxy.faults.clear()
    assert bucket.puts() == [SHARDS[0], SHARDS[1]]
    assert bucket.convert("--resume") == (0, f"wrote 9 rows to `{bucket.out}`, 1.3 kB in 3 shards\n")
    assert sorted(bucket.puts()) == SHARDS[1:]
    assert bucket.files() == local(bucket)


def test_a_killed_run_shows_nothing_and_uploads_only_the_rest(bucket: Bucket) -> None:
    bucket.proxy.fail("PUT .*train-00001-of-00003.parquet(?!.json)", 60.0, times=9)
    command = [sys.executable, "-m", "chatfmt", "convert", "in.jsonl", "-t", "chatml", "-o", bucket.out]
    started = subprocess.Popen(
        [*command, "--rows-per-shard", "4", "--executor", "serial"], env={**os.environ, **bucket.env},
        cwd=bucket.folder, start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while RECEIPTS[0] not in bucket.files():
        assert started.poll() is None
        time.sleep(0.05)
    time.sleep(0.2)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert sorted(bucket.files()) == [RECEIPTS[0], ".chatfmt/run.json", SHARDS[0]]
    bucket.proxy.faults.clear()
    bucket.puts()
    assert bucket.convert()[0] == 0
    assert sorted(bucket.puts()) == SHARDS[1:]
    assert bucket.files() == local(bucket)


def test_a_bucket_that_does_not_exist(bucket: Bucket) -> None:
    bucket.out = "s3://no-such-bucket/out"
    assert bucket.convert() == (
        5, "error: `s3://no-such-bucket/out` does not exist\nhint: check the name of the bucket\n"
    )  # fmt: skip
