"""`chatfmt push` and `-o hf://…` against the stand-in Hub, over HTTP and through `huggingface_hub`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatfmt import pipeline
from chatfmt.errors import UsageError

from ...conftest import run_cli, succeed, write_rows
from ...stand_in_hub import StandInHub

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz"
NAME = "datasets/acme/chat"
PUSHED = [".chatfmt/manifest.json", "README.md", "data/train-00000-of-00001.parquet"]


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub() as hub:
        hub.owners[TOKEN] = ("acme",)
        yield hub
        assert hub.unknown == []


def rows(tmp_path: Path, *questions: str) -> Path:
    """A file of conversations."""
    file = tmp_path / "in.jsonl"
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}] for text in questions]
    write_rows(file, [{"messages": row} for row in turns])
    return file


def made(tmp_path: Path, *questions: str, name: str = "out", more: tuple[str, ...] = ()) -> Path:
    """A finished folder."""
    out = tmp_path / name
    succeed(run_cli("convert", rows(tmp_path, *questions), "-t", "chatml", "-o", out, "-q", "--overwrite", *more))
    return out


def run(hub: StandInHub, tmp_path: Path, *arguments: str | Path, token: str = TOKEN) -> tuple[int, str]:
    """The exit code and all that was printed by a command, in which no token may be."""
    home = hub.env(tmp_path / "home", **({"HF_TOKEN": token} if token else {}))
    done: subprocess.CompletedProcess[bytes] = run_cli(*arguments, env=home, cwd=tmp_path)
    said = (done.stdout + done.stderr).decode()
    assert TOKEN not in said
    return done.returncode, said.replace(hub.url, "HUB").replace(str(tmp_path) + "/", "")


def head(hub: StandInHub, ref: str = "main") -> str:
    return hub.repositories[NAME].refs[ref][:12]


def size(out: Path) -> str:
    return f"{sum(file.stat().st_size for file in (out / 'data').iterdir())} B"


def test_a_push_is_one_commit_to_a_private_dataset(hub: StandInHub, tmp_path: Path) -> None:
    out = made(tmp_path, "Is it?", "Was it?")
    code, said = run(hub, tmp_path, "push", "out", "acme/chat")
    url = "HUB/datasets/acme/chat"
    assert (code, said) == (0, f"pushed 2 rows in 1 shard, {size(out)} to {url} (private, commit {head(hub)})\n")
    assert hub.repositories[NAME].private and len(hub.repositories[NAME].trees) == 2
    assert sorted(hub.files(NAME)) == [".chatfmt/manifest.json", ".gitattributes", *PUSHED[1:]]
    assert all(hub.files(NAME)[path] == (out / path).read_bytes() for path in PUSHED)
    code, said = run(hub, tmp_path, "push", "out", "hf://datasets/acme/chat")
    assert said == f"{url} already holds these 2 rows in 1 shard, {size(out)} (private, commit {head(hub)})\n"
    assert len(hub.repositories[NAME].trees) == 2
    code, said = run(hub, tmp_path, "push", "out", "acme/chat", "--public")
    assert said.splitlines()[1:] == ["it stays private: its settings on the Hub make it public"]


def test_a_clone_of_what_was_pushed_misses_nothing_though_rejected_rows_stay_here(
    hub: StandInHub, tmp_path: Path
) -> None:
    file = rows(tmp_path, "Is it?", "Was it?")
    file.write_text(file.read_text() + '{"messages": [{"role": "nobody"}]}\n')
    flags = ("--on-error", "skip", "--max-bad", "50%", "-q", "-o", "out")
    assert run(hub, tmp_path, "convert", "in.jsonl", "-t", "chatml", *flags)[0] == 0
    assert (tmp_path / "out/.chatfmt/rejects.jsonl").is_file()
    assert run(hub, tmp_path, "push", "out", "acme/chat")[0] == 0
    for path, data in hub.files(NAME).items():
        (tmp_path / "clone" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clone" / path).write_bytes(data)
    assert not (tmp_path / "clone/.chatfmt/rejects.jsonl").exists()
    assert run(hub, tmp_path, "verify", "clone") == (0, "clone: 2 rows in 1 shard, all checksums match\n")


def test_files_of_an_earlier_push_are_removed_in_the_same_commit(hub: StandInHub, tmp_path: Path) -> None:
    made(tmp_path, "a", "b", "c", more=("--rows-per-shard", "1"))
    assert run(hub, tmp_path, "push", "out", "acme/chat", "--public")[0] == 0
    hub.commit(NAME, {"LICENSE": b"MIT"})
    made(tmp_path, "a", "b", "c")
    code, said = run(hub, tmp_path, "push", "out", "acme/chat", "--public")
    assert said.splitlines()[1:] == ["removed 3 older files: data/train-00000-of-00003.parquet …"]
    assert sorted(hub.files(NAME)) == [".chatfmt/manifest.json", ".gitattributes", "LICENSE", *PUSHED[1:]]
    assert hub.repositories[NAME].messages == [
        "Upload 3 rows converted by chatfmt 0.1.0", "Upload 3 rows converted by chatfmt 0.1.0",
    ]  # fmt: skip
    assert not hub.repositories[NAME].private
    code, said = run(hub, tmp_path, "push", "out", "acme/chat")
    assert (code, said) == (5, "error: `acme/chat` is public\nhint: --public uploads to it all the same\n")


def test_an_interrupted_push_shows_nothing_and_is_finished_by_the_same_command(hub: StandInHub, tmp_path: Path) -> None:
    out = made(tmp_path, "a", "b", more=("--rows-per-shard", "1"))
    hub.fail(r"PUT /lfs/", "drop")  # sent again at once, by the library
    hub.fail(r"POST .*/commit/", "drop")
    again = "hint: run the same command again: what is uploaded already is not sent again\n"
    assert run(hub, tmp_path, "push", "out", "acme/chat") == (
        5, "error: the push to `acme/chat` was interrupted\n" + again,
    )  # fmt: skip
    assert sorted(hub.files(NAME)) == [".gitattributes"] and len(hub.blobs) == 2
    hub.calls.clear()
    assert run(hub, tmp_path, "push", "out", "acme/chat")[0] == 0
    assert all(hub.files(NAME)[f"data/{file.name}"] == file.read_bytes() for file in (out / "data").iterdir())
    assert [path for method, path, _ in hub.calls if method == "PUT"] == []


def test_a_folder_that_was_changed_is_not_pushed(hub: StandInHub, tmp_path: Path) -> None:
    out = made(tmp_path, "a")
    (out / PUSHED[2]).write_bytes(b"")
    code, said = run(hub, tmp_path, "push", "out", "acme/chat")
    assert code == 1 and said.startswith("error: out: data/train-00000-of-00001.parquet: has 0 bytes, the manifest")
    assert not [call for call in hub.calls if call[0] != "GET"] and hub.repositories == {}


def test_a_card_that_was_edited_on_the_hub_is_kept(hub: StandInHub, tmp_path: Path) -> None:
    out = made(tmp_path, "a")
    assert run(hub, tmp_path, "push", "out", "acme/chat")[0] == 0
    edited = hub.files(NAME)["README.md"] + b"\nMade with love.\n"
    hub.commit(NAME, {"README.md": edited})
    made(tmp_path, "a", "b")
    assert run(hub, tmp_path, "push", "out", "acme/chat") == (
        5,
        "error: the card of `acme/chat` was written or edited by hand, so it is not replaced\n"
        "hint: edit `out/README.md`, which is then uploaded as it is, or delete the card on the Hub\n",
    )
    (out / "README.md").write_bytes(edited)
    assert run(hub, tmp_path, "push", "out", "acme/chat")[0] == 0
    assert hub.files(NAME)["README.md"] == edited


@pytest.mark.parametrize(
    ("token", "repository", "said"),
    [
        ("", "acme/chat", "not logged in to the Hub, so nothing was pushed to `acme/chat`\n"
         "hint: `hf auth login`, or set HF_TOKEN"),
        (TOKEN, "other/chat", "your token may not write to `other/chat`\n"
         "hint: use a token that may write there: https://huggingface.co/settings/tokens"),
        ("hf_read", "acme/chat", "your token may not write to `acme/chat`\n"
         "hint: use a token that may write there: https://huggingface.co/settings/tokens"),
        ("hf_unknown", "acme/chat", "not logged in to the Hub, so nothing was pushed to `acme/chat`\n"
         "hint: `hf auth login`, or set HF_TOKEN"),
        (f"{TOKEN} \u00e9", "acme/chat", "the Hub refused the push to `acme/chat`: "
         "'ascii' codec can't encode character '\\xe9' in position 37: ordinal not in range(128)\n"
         "hint: check HF_TOKEN and the name of the dataset, then run the same command again"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("exists", [False, True])
def test_a_refusal_comes_before_a_row_is_read_says_what_to_do_and_shows_no_token(
    hub: StandInHub, tmp_path: Path, token: str, repository: str, said: str, exists: bool
) -> None:
    hub.owners["hf_read"] = ("acme",)
    hub.read_only.add("hf_read")
    if exists:
        hub.commit(f"datasets/{repository}", {".gitattributes": b""}, private=True, readers=(TOKEN, "hf_read"))
    before = repr(hub.repositories)
    (tmp_path / "empty").mkdir()
    error = "error: missing: there is no such folder\nhint: name a folder that chatfmt wrote\n"
    assert run(hub, tmp_path, "push", "missing", repository, token=token) == (1, error)
    for command in (("push", "empty", repository), ("convert", "missing", "-o", f"hf://datasets/{repository}")):
        assert run(hub, tmp_path, *command, token=token) == (5, f"error: {said}\n")
    assert repr(hub.repositories) == before and not [call for call in hub.calls if call[0] != "GET"]


def test_a_public_dataset_is_refused_before_a_row_is_read(hub: StandInHub, tmp_path: Path) -> None:
    hub.commit(NAME, {".gitattributes": b""})
    (tmp_path / "empty").mkdir()
    for command in (("push", "empty", "acme/chat"), ("convert", "missing", "-o", "hf://datasets/acme/chat")):
        assert run(hub, tmp_path, *command) == (
            5, "error: `acme/chat` is public\nhint: --public uploads to it all the same\n",
        )  # fmt: skip


@pytest.mark.parametrize("name", ["chat", "a/b/c", "acme/../chat", "https://huggingface.co/datasets/acme/chat"])
def test_names_that_the_hub_does_not_have(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        pipeline.Repository.of(name)
    assert caught.value.message == f"`{name}` is not the name of a dataset on the Hub"
    assert caught.value.hint == "OWNER/NAME, as in acme/chat"


def test_a_hub_that_cannot_be_reached_is_said_to_be_and_that_nothing_was_pushed(
    hub: StandInHub, tmp_path: Path
) -> None:
    made(tmp_path, "a")
    for _ in range(9):  # the library asks again
        hub.fail(r"GET /api/datasets/", "drop")
    assert run(hub, tmp_path, "push", "out", "acme/chat") == (
        5, "error: the Hub cannot be reached, so nothing was pushed to `acme/chat`\n"
        "hint: check the network connection\n",
    )  # fmt: skip
    assert [path for method, path, _ in hub.calls if method != "GET"] == []


def test_a_conversion_to_the_hub_is_pushed(hub: StandInHub, tmp_path: Path) -> None:
    rows(tmp_path, "a", "b")
    command = ("convert", "in.jsonl", "-t", "chatml", "-o", "hf://datasets/acme/chat@v2")
    code, said = run(hub, tmp_path, *command, "--dry-run")
    assert code == 0 and hub.calls == [] and "hf://datasets/acme/chat@v2" in said
    hub.fail(r"POST .*/commit/", "drop")
    code, said = run(hub, tmp_path, *command)
    assert (code, said) == (
        5, "error: the push to `acme/chat` was interrupted\n"
        "hint: run the same command again: what is uploaded already is not sent again\n",
    )  # fmt: skip
    assert sorted(hub.files(NAME, "v2")) == [".gitattributes"]
    hub.calls.clear()
    code, said = run(hub, tmp_path, *command)
    assert code == 0 and said.startswith("wrote 2 rows to `hf://datasets/acme/chat@v2`, ")
    assert [path for method, path, _ in hub.calls if method == "PUT"] == []
    assert sorted(hub.files(NAME, "v2")) == [".chatfmt/manifest.json", ".gitattributes", *PUSHED[1:]]
    assert not any((tmp_path / "home" / "cache" / "chatfmt" / "push").iterdir()) and hub.repositories[NAME].private
    assert run(hub, tmp_path, "convert", "hf://datasets/acme/chat", "--revision", "v2", "-o", "back.jsonl")[0] == 0
    assert (tmp_path / "back.jsonl").read_text() == (tmp_path / "in.jsonl").read_text().replace(": ", ":").replace(
        ", ", ","
    )


def test_other_places_are_not_written_to(tmp_path: Path) -> None:
    rows(tmp_path, "a")
    for out in ("https://example.com/chat", "hf://buckets/acme/chat"):
        done = run_cli("convert", "in.jsonl", "-o", out, cwd=tmp_path)
        assert (done.returncode, done.stderr.decode()) == (
            2, f"error: cannot write to `{out}`\n"
            "hint: name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or hf://datasets/OWNER/NAME\n",
        )  # fmt: skip
    done = run_cli("plan", "in.jsonl", "-o", "hf://datasets/acme/chat", cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (
        2, "error: a plan cannot write to `hf://datasets/acme/chat`\n"
        "hint: name a folder with -o, and then `chatfmt push` it\n",
    )  # fmt: skip
    for more in (("in.jsonl", "-o", "out"), ("in.jsonl",), ("-",)):
        done = run_cli("convert", *more, "--public", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.decode()) == (
            2, b"", "error: `--public` is about datasets on the Hub\nhint: -o hf://datasets/OWNER/NAME\n",
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
