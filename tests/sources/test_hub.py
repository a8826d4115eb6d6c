"""The Hub over HTTP, in processes of their own: which files are asked for, what comes of them, what errors say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..hub_data import GSM8K, ROWS, SMOLTALK, gsm8k, gsm8k_rows, smoltalk, smoltalk_rows
from ..stand_in_hub import StandInHub

ROOT = Path(__file__).parents[2]


def ask(hub: StandInHub, home: Path, *questions: dict[str, Any], **env: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sources.asking"], input=json.dumps(questions).encode(), capture_output=True,
        env=hub.env(home, **env), cwd=ROOT, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
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


def test_only_the_files_of_the_asked_split_are_fetched(filled: StandInHub, tmp_path: Path) -> None:
    filled.calls.clear()
    (found,) = ask(filled, tmp_path, {"source": SMOLTALK, "name": "all", "split": "train[2:25]", "plan": {"rows_per_shard": 4}})
    names = [f"data/all/train-{number:05d}-of-00009.parquet" for number in range(9)]
    assert found["files"] == {"train": names}
    assert filled.fetched() == names
    everything = [row for number in range(9) for row in smoltalk_rows("all", "train", number)]
    assert len(everything) == 9 * ROWS
    assert found["rows"] == everything[2:25]
    assert found["shards"] == 6
    asked = [path for method, path, _ in filled.calls if method == "GET" and path.startswith(f"/api/datasets/{SMOLTALK}?")]
    assert len(asked) + sum(path == f"/api/datasets/{SMOLTALK}" for _, path, _ in filled.calls) == 1


def test_errors_say_what_to_type(filled: StandInHub, tmp_path: Path) -> None:
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
    said = {key: (found.get("error"), found.get("exit"), found.get("message"), found.get("hint")) for key, found in answers.items()}
    assert said == ERRORS
    assert all(found["seconds"] < 5 for found in answers.values())


_CARD_OUTSIDE = b"---\nconfigs:\n- config_name: default\n  data_files: ../../etc/passwd\n---\n"
ERRORS: dict[str, tuple[str, int, str, str]] = {}
