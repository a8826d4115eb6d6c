"""The Hub over HTTP, in separate processes: files that are requested, their rows, and error messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ...conftest import ROOT, run_process, succeed
from ...hub_data import GSM8K, ROWS, SMOLTALK, gsm8k, gsm8k_rows, smoltalk, smoltalk_rows
from ...stand_in_hub import StandInHub


def ask(hub: StandInHub, home: Path, *questions: dict[str, Any], **env: str) -> list[dict[str, Any]]:
    done = succeed(
        run_process(module="tests.sources.asking", stdin=json.dumps(questions), env=hub.env(home, **env), cwd=ROOT)
    )
    assert done.stderr == b"", done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def filled() -> Iterator[StandInHub]:
    with StandInHub() as hub:
        hub.commit(f"datasets/{SMOLTALK}", smoltalk())
        hub.commit(f"datasets/{GSM8K}", gsm8k())
        hub.aliases["datasets/gsm8k"] = f"datasets/{GSM8K}"
        yield hub
        assert hub.unknown == []


def test_the_two_exercises(filled: StandInHub, tmp_path: Path) -> None:
    filled.calls.clear()
    smol, gsm = ask(
        filled, tmp_path,
        {"source": SMOLTALK, "name": "everyday-conversations", "split": "all"},
        {"source": "gsm8k", "name": "main", "split": "all"},
    )  # fmt: skip
    assert smol["files"] == {
        "train": ["data/everyday-conversations/train-00000-of-00001.parquet"],
        "test": ["data/everyday-conversations/test-00000-of-00001.parquet"],
    }
    assert smol["rows"] == [
        row for split in ("train", "test") for row in smoltalk_rows("everyday-conversations", split, 0)
    ]
    assert (smol["id"], smol["subset"], smol["licence"], smol["notes"]) == (
        SMOLTALK, "everyday-conversations", "apache-2.0", [],
    )  # fmt: skip
    assert smol["revision"] == filled.repositories[f"datasets/{SMOLTALK}"].refs["main"]
    assert gsm["id"] == GSM8K and gsm["licence"] == "mit"
    assert gsm["rows"] == gsm8k_rows("main", "train") + gsm8k_rows("main", "test")
    assert len(filled.fetched()) == 4


def test_only_the_files_of_the_requested_split_are_downloaded(filled: StandInHub, tmp_path: Path) -> None:
    filled.calls.clear()
    (found,) = ask(
        filled, tmp_path, {"source": SMOLTALK, "name": "all", "split": "train[2:25]", "plan": {"rows_per_shard": 4}}
    )
    names = [f"data/all/train-{number:05d}-of-00009.parquet" for number in range(9)]
    assert found["files"] == {"train": names}
    assert filled.fetched() == names
    everything = [row for number in range(9) for row in smoltalk_rows("all", "train", number)]
    assert len(everything) == 9 * ROWS
    assert found["rows"] == everything[2:25]
    assert found["shards"] == 6
    asked = [
        path for method, path, _ in filled.calls if method == "GET" and path.startswith(f"/api/datasets/{SMOLTALK}?")
    ]
    assert len(asked) + sum(path == f"/api/datasets/{SMOLTALK}" for _, path, _ in filled.calls) == 1


def test_hub_errors_and_hints(filled: StandInHub, tmp_path: Path) -> None:
    filled.commit("datasets/acme/secret", {"train.jsonl": b'{"a":1}\n'}, private=True)
    filled.commit("datasets/acme/gated", {"data/train.jsonl": b'{"a":1}\n', "README.md": b"x"}, gated=True)
    filled.commit("datasets/acme/script", {"script.py": b"import os\n"})
    filled.commit("datasets/acme/none", {"README.md": b"# nothing\n"})
    filled.commit("datasets/acme/outside", {"README.md": _CARD_OUTSIDE, "a.jsonl": b'{"a":1}\n'})
    filled.commit(f"datasets/{GSM8K}", {}, ref="v2")
    questions: dict[str, dict[str, Any]] = {
        "missing": {"source": "acme/nothing-here"},
        "private": {"source": "acme/secret"},
        "gated": {"source": "acme/gated"},
        "script": {"source": "acme/script"},
        "none": {"source": "acme/none"},
        "outside": {"source": "acme/outside"},
        "subset": {"source": GSM8K},
        "wrong subset": {"source": GSM8K, "name": "socratc"},
        "wrong split": {"source": GSM8K, "name": "main", "split": "tets"},
        "revision": {"source": GSM8K, "name": "main", "revision": "v3"},
        "files": {"source": GSM8K, "data_files": ["nope/*.parquet"]},
    }
    answers = dict(zip(questions, ask(filled, tmp_path, *questions.values()), strict=True))
    said = {
        key: (found.get("error"), found.get("exit"), found.get("message"), found.get("hint"))
        for key, found in answers.items()
    }
    assert said == ERRORS, said


_CARD_OUTSIDE = b"---\nconfigs:\n- config_name: default\n  data_files: ../../etc/passwd\n---\n"
ERRORS: dict[str, tuple[str, int, str, str]] = {
    "missing": (
        "InputError", 3, "no file or dataset `acme/nothing-here`, or it is private",
        "if it is private: `hf auth login`, or set HF_TOKEN",
    ),
    "private": (
        "InputError", 3, "no file or dataset `acme/secret`, or it is private",
        "if it is private: `hf auth login`, or set HF_TOKEN",
    ),
    "gated": (
        "InputError", 3, "the dataset `acme/gated` is gated",
        "ask for access at https://huggingface.co/datasets/acme/gated, then `hf auth login`",
    ),
    "script": (
        "InputError", 3, "`acme/script` is a script, and chatfmt does not run dataset code",
        "try `--revision refs/convert/parquet`",
    ),
    "none": (
        "InputError", 3, "no data files in `acme/none`",
        "see https://huggingface.co/datasets/acme/none/tree/main",
    ),
    "outside": (
        "InputError", 3, "no data files in `acme/outside`",
        "see https://huggingface.co/datasets/acme/outside/tree/main",
    ),
    "subset": (
        "UsageError", 2, "`openai/gsm8k` has several subsets: `main`, `socratic`", "choose one, as in `--name main`",
    ),
    "wrong subset": (
        "UnknownName", 2, "unknown subset `socratc`", "did you mean `socratic`? There are: main, socratic",
    ),
    "wrong split": ("UnknownName", 2, "unknown split `tets`", "did you mean `test`? There are: train, test"),
    "revision": ("UsageError", 2, "`openai/gsm8k` has no revision `v3`", "one of: main, v2"),
    "files": (
        "InputError", 3, "no file of `openai/gsm8k` matches `nope/*.parquet`",
        "see https://huggingface.co/datasets/openai/gsm8k/tree/main",
    ),
}  # fmt: skip


def test_json_from_the_hub_is_read_by_the_strict_parser(filled: StandInHub, tmp_path: Path) -> None:
    rows = [{"a": "2024-01-01", "n": 18446744073709551617}, {"n": None, "a": "007"}, {"a": ["x", 1.0]}]
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    filled.commit("datasets/acme/exact", {"data/train.jsonl": lines, "more/dev.json": json.dumps(rows[:1]).encode()})
    whole, part, globbed = ask(
        filled, tmp_path, {"source": "acme/exact", "split": "train"}, {"source": "acme/exact", "data_dir": "more"},
        {"source": "hf://datasets/acme/exact@main", "data_files": ["test=data/*.jsonl"], "split": "test"},
    )  # fmt: skip
    assert whole["rows"] == rows
    assert part["rows"] == rows[:1]
    assert (globbed["rows"], globbed["files"]) == (rows, {"test": ["data/train.jsonl"]})


def test_an_unreachable_hub(tmp_path: Path) -> None:
    question = {"source": "acme/chat", "split": "train"}
    with StandInHub() as hub:
        sha = hub.commit("datasets/acme/chat", {"train.jsonl": b'{"a":1}\n'})
        (before,) = ask(hub, tmp_path, question)
        (switched_off,) = ask(hub, tmp_path, question, HF_HUB_OFFLINE="1")
    gone = "http://127.0.0.1:9"
    hub.url = gone
    (never_seen, other_split) = ask(hub, tmp_path, {"source": "acme/other"}, {**question, "split": "test"})
    assert before["notes"] == []
    assert switched_off["rows"] == before["rows"] == [{"a": 1}]
    assert switched_off["notes"] == [
        f"the Hub is disabled (HF_HUB_OFFLINE): using commit {sha[:12]} of `acme/chat` from the cache"
    ]
    for found, name in ((never_seen, "acme/other"), (other_split, "acme/chat")):
        assert found["message"] == (f"the Hub does not answer, and `{name}` is not a local file and not in the cache")
        assert (found["exit"], found["hint"]) == (3, "check the connection, HF_ENDPOINT and HF_HUB_OFFLINE")


@pytest.mark.parametrize("what", [503, "drop", "cut"])
def test_transient_faults_are_retried(what: int | str, tmp_path: Path) -> None:
    rows = b'{"a": "x"}\n' * 1000
    with StandInHub() as hub:
        hub.commit("datasets/acme/chat", {"train.jsonl": rows})
        hub.fail("GET .*/resolve/.*train.jsonl", what)
        (found,) = ask(hub, tmp_path, {"source": "acme/chat"})
    assert len(found.get("rows", [])) == 1000, found
