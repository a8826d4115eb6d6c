"""The manifest: exact, self-checking, and what `verify` holds a folder to."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, fields, replace

from chatfmt.errors import InputError, Location
from chatfmt.manifest import MANIFEST as MANIFEST_FILE
from chatfmt.manifest import (
    RAW_LIMIT,
    FolderProblem,
    Manifest,
    RawRow,
    Reject,
    Shard,
    balanced,
    damaged,
    fingerprint,
    read_manifest,
    reject_lines,
    shard_from_json,
    totals,
    verify,
)

from .writers.samples import convert

SHARD = Shard(
    "data/train-00000-of-00001.jsonl", rows=3, rejected=1, filtered=2, duplicates=1, rows_in=6, added=1, bytes=9
)
MANIFEST = Manifest("f" * 64, (SHARD,), {"template": "chatml", "é": [1, None]}, ({"id": "x"},), totals=totals([SHARD]))


def test_a_manifest_survives_its_file() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_a_change_of_any_byte_is_found() -> None:
    text = MANIFEST.to_json()
    for place in range(len(text)):
        for other in (" ", "0", '"', "", "x\n"):
            changed = text[:place] + other + text[place + 1 :]
            if changed != text:
                with pytest.raises(InputError):
                    Manifest.from_json(changed)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "[" * 5000, '{"version":1}', '{"version":2}', '{"version":1,"shards":5}',
        '{"version":NaN}', '{"version":1e400}',
    ],
)  # fmt: skip
def test_what_is_no_manifest(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Manifest.from_json(text)
    assert caught.value.hint


def test_the_fingerprint_knows_kinds_but_not_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": "é"}) == fingerprint({"b": "é", "a": 1})
    assert len({fingerprint({"a": value}) for value in (1, 1.5, "1", True, None, [1], {})}) == 7
    assert fingerprint({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_balance() -> None:
    assert balanced(SHARD)
    assert MANIFEST.balanced
    for name in ("rows", "rejected", "filtered", "duplicates", "rows_in", "added", "merged"):
        assert not balanced(replace(SHARD, **{name: getattr(SHARD, name) + 1})), name
    assert totals([SHARD, replace(SHARD, counts={"a": 2}), replace(SHARD, counts={"a": 3, "b": 1})]) == {
        "rows_in": 18, "rows": 9, "rejected": 3, "filtered": 6, "duplicates": 3, "added": 3, "merged": 0, "bytes": 27,
        "counts.a": 5, "counts.b": 1,
    }  # fmt: skip


@given(st.binary(max_size=40), st.text(st.characters(codec="utf-8")), st.integers(0, 2**70) | st.none())
def test_a_reject_survives_its_line(raw: bytes, detail: str, row: int | None) -> None:
    reject = Reject("json.syntax", detail, Location("a b.jsonl", row, 2, 4, 17), RawRow.of(raw))
    lines = reject_lines([reject, reject]).decode()
    assert [Reject.from_json(line) for line in lines.removesuffix("\n").split("\n")] == [reject, reject]
    assert reject.raw is not None and reject.raw.kept == raw


def test_the_line_of_a_reject() -> None:
    at = Location("data.jsonl", 3, line=4, byte=812)
    reject = Reject("json.duplicate_key", "key `id` appears twice", at, RawRow.of(b'{"id":\xff}'))
    assert reject_lines([reject]).decode() == (
        '{"v":1,"code":"json.duplicate_key","detail":"key `id` appears twice",'
        '"source":{"file":"data.jsonl","row":3,"line":4,"byte":812},"raw":{"enc":"base64",'
        '"data":"eyJpZCI6/30=","len":8,"truncated":false,'
        '"sha256":"' + hashlib.sha256(b'{"id":\xff}').hexdigest() + '"}}\n'
    )


def test_long_rows_are_marked_as_truncated() -> None:
    row = RawRow.of(b"x" * (RAW_LIMIT + 5))
    assert (row.kept, row.len, row.truncated) == (b"x" * RAW_LIMIT, RAW_LIMIT + 5, True)
    assert RawRow.of("é".encode() * RAW_LIMIT).enc == "utf-8"


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"v":2,"source":{}}', '{"v":1}'])
def test_what_is_no_reject(line: str) -> None:
    with pytest.raises(InputError):
        Reject.from_json(line)


@pytest.fixture(params=["jsonl", "parquet"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    convert(tmp_path / "out", format=request.param)
    return tmp_path / "out"


def shards(out: Path) -> list[Path]:
    return sorted((out / "data").iterdir())


def test_a_whole_folder_verifies(out: Path) -> None:
    assert verify(out) == []


@pytest.mark.parametrize("compression", ["gz", "zst", "bz2", "xz"])
def test_compressed_rows_are_counted(tmp_path: Path, compression: str) -> None:
    convert(tmp_path / "out", compression=compression)
    assert verify(tmp_path / "out") == []
    first, *rest = (manifest := read_manifest(tmp_path / "out")).shards
    rewrite(tmp_path / "out", replace(manifest, shards=(replace(first, rows=7, filtered=1), *rest)))
    assert [str(problem) for problem in verify(tmp_path / "out")][0] == f"{first.name}: has 8 rows, the manifest says 7"


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    assert verify(tmp_path) == [FolderProblem("manifest", ".chatfmt/manifest.json", "is missing")]
    error = damaged(tmp_path, verify(tmp_path))
    assert error.message == f"{tmp_path}: .chatfmt/manifest.json: is missing"
    assert error.hint.startswith("name a folder that chatfmt wrote; the same `chatfmt convert` with --resume finishes")


def test_missing_and_extra_files(out: Path) -> None:
    name = f"data/{shards(out)[1].name}"
    shards(out)[1].rename(out / "data" / "other")
    assert verify(out) == [
        FolderProblem("missing", name, "is missing"), FolderProblem("extra", "data/other", "is not in the manifest"),
    ]  # fmt: skip


def test_sizes_and_hashes(out: Path) -> None:
    first, second = shards(out)[:2]
    data = first.read_bytes()
    first.write_bytes(data[:-1])
    changed = bytearray(second.read_bytes())
    changed[len(changed) // 2] ^= 1
    second.write_bytes(changed)
    found = {problem.path: str(problem) for problem in verify(out)}
    assert found == {
        f"data/{first.name}": f"data/{first.name}: has {len(data) - 1:,} bytes, the manifest says {len(data):,}",
        f"data/{second.name}": f"data/{second.name}: its bytes differ from what was written",
    }


def test_rejects_are_verified_too(out: Path) -> None:
    path = out / ".chatfmt/rejects.jsonl"
    path.write_bytes(path.read_bytes().replace(b"robot", b"ribot"))
    assert verify(out) == [FolderProblem("sha256", ".chatfmt/rejects.jsonl", "its bytes differ from what was written")]


def rewrite(out: Path, change: Manifest) -> None:
    (out / ".chatfmt/manifest.json").write_text(change.to_json())


def test_a_manifest_that_lies(out: Path) -> None:
    manifest = read_manifest(out)
    first, *rest = manifest.shards
    rewrite(out, replace(manifest, shards=(replace(first, rows=9, rows_in=9), *rest), totals={}))
    codes = [problem.code for problem in verify(out)]
    assert codes == ["rows", "balance"]
    rewrite(out, replace(manifest, shards=(replace(first, rejected=9), *rest)))
    assert [problem.code for problem in verify(out)] == ["balance", "balance"]


ODD = [None, 5, "x", [], {}, [None], {"a": None}, 10**30, 1.5, True]


def odd_manifests() -> Iterator[str]:
    """Manifests with a value of another kind somewhere, and the hash that belongs to it."""
    data = json.loads(replace(MANIFEST, rejects={"bytes": 1, "sha256": "x"}).to_json())
    del data["sha256"]
    for inside in (False, True):
        for name, value in product(data["shards"][0] if inside else data, ODD):
            changed = {**data, "shards": [{**data["shards"][0], name: value}]} if inside else {**data, name: value}
            yield json.dumps({**changed, "sha256": fingerprint(changed)}, ensure_ascii=False, indent=1) + "\n"


def test_a_manifest_of_other_kinds_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / ".chatfmt").mkdir()
    texts = list(odd_manifests())
    for text in texts:
        (tmp_path / MANIFEST_FILE).write_text(text)
        assert verify(tmp_path)
    assert len(texts) > 200


@pytest.mark.parametrize("key", [field.name for field in fields(Shard)])
def test_a_receipt_of_other_kinds_is_refused(key: str) -> None:
    for value in [None, 1.5, [[]], "x" if isinstance(getattr(SHARD, key), int) else 5]:
        data = {"shard": {**asdict(SHARD), key: value}}
        if not (key == "inputs" and isinstance(value, list)):
            with pytest.raises(InputError):
                shard_from_json(json.dumps({**data, "sha256": fingerprint(data)}))


@pytest.mark.parametrize("compression", ["gz", "zst", "bz2", "xz"])
def test_lines_that_were_wrong_when_they_were_hashed(tmp_path: Path, compression: str) -> None:
    convert(tmp_path / "out", format="jsonl", compression=compression)
    (shard, *_) = read_manifest(tmp_path / "out").shards
    data = bytearray((tmp_path / "out" / shard.name).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "out" / shard.name).write_bytes(data)
    claimed = replace(shard, sha256=hashlib.sha256(data).hexdigest())
    text = Manifest("f", (claimed,), totals=totals([claimed])).to_json()
    (tmp_path / "out" / MANIFEST_FILE).write_text(text)
    assert FolderProblem("page", shard.name, "") in [replace(each, message="") for each in verify(tmp_path / "out")]


def test_pages_that_were_wrong_when_they_were_hashed(tmp_path: Path) -> None:
    """Damage from before the hash: the file is what was hashed, and its own checksums say that it is wrong."""
    out = tmp_path / "out"
    convert(out, format="parquet")
    manifest = read_manifest(out)
    path = out / manifest.shards[0].name
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    first = replace(manifest.shards[0], sha256=hashlib.sha256(data).hexdigest())
    rewrite(out, replace(manifest, shards=(first, *manifest.shards[1:])))
    (problem,) = verify(out)
    assert (problem.code, problem.path) == ("page", first.name)
    assert pq.ParquetFile(path).metadata.num_rows == 8


def damage(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one spot changed: a bit, a byte, a byte more or less, a zeroed or swapped stretch."""
    place, changed = chance.randrange(len(data)), bytearray(data)
    kind = chance.randrange(5)
    if kind == 0:
        changed[place] ^= 1 << chance.randrange(8)
    elif kind == 1:
        changed[place] = (changed[place] + chance.randrange(1, 256)) % 256
    elif kind == 2:
        del changed[place : place + chance.randrange(1, 9)]
    elif kind == 3:
        changed[place:place] = bytes(chance.randrange(256) for _ in range(3))
    else:
        changed[place : place + 512] = bytes(len(changed[place : place + 512]))
    return bytes(changed)


def test_any_damage_is_found(out: Path) -> None:
    chance = random.Random(7)
    files = [*shards(out), out / ".chatfmt/manifest.json", out / ".chatfmt/rejects.jsonl"]
    tried = 0
    for _ in range(100):
        path = chance.choice(files)
        whole = path.read_bytes()
        broken = damage(whole, chance)
        if broken == whole:
            continue
        tried += 1
        path.write_bytes(broken)
        assert verify(out), (path.name, tried)
        path.write_bytes(whole)
    assert tried > 90
    assert verify(out) == []
