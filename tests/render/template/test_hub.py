"""Templates of Hub models, over HTTP from a Hub of our own: which files are fetched, and errors in words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stand_in_hub import StandInHub

from ...conftest import from_lines

CONFIG = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": None}
TEXT = b"{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}"
LOAD = """
import json, sys
from chatfmt.errors import ChatfmtError
from chatfmt.render import ChatTemplate

for reference, revision in json.loads(sys.argv[1]):
    try:
        t = ChatTemplate.load(reference, revision=revision)
        text = t.render([{"role": "user", "content": "hi"}], tools=[] if t.named else None)
        print(json.dumps([t.name, t.origin, t.revision, sorted(t.named), dict(t.special_tokens), text]))
    except ChatfmtError as error:
        print(json.dumps([type(error).__name__, error.message, error.hint]))
"""


def load(env: dict[str, str], *references: tuple[str, str | None]) -> list[Any]:
    """What loading each reference in a process of its own gives: facts of the template, or of the error."""
    command = [sys.executable, "-c", LOAD, json.dumps(references)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return from_lines(done.stdout)


@pytest.fixture(scope="module")
def hub() -> Any:
    with StandInHub() as hub:
        yield hub


def test_a_model_of_the_hub_is_loaded_from_the_few_files_it_takes(hub: StandInHub, tmp_path: Path):
    config = json.dumps({**CONFIG, "chat_template": "ignored"}).encode()
    files = {"chat_template.jinja": TEXT, "tokenizer_config.json": config, "config.json": b'{"model_type": "llama"}'}
    first = hub.commit("models/acme/chat", {**files, "model.safetensors": b"x" * 100, "tokenizer.json": b"{}"})
    second = hub.commit("models/acme/chat", {"additional_chat_templates/tool_use.jinja": b"T"})
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    found = load(hub.env(tmp_path), ("acme/chat", None), ("acme/chat", first), ("acme/chat#default", None))
    assert found == [
        ["acme/chat", "hub", second, ["default", "tool_use"], tokens, "T"],
        ["acme/chat", "hub", first, [], tokens, "<s>hi</s>"],
        ["acme/chat#default", "hub", second, [], tokens, "<s>hi</s>"],
    ]
    assert hub.fetched() == [
        "additional_chat_templates/tool_use.jinja", "chat_template.jinja", "config.json", "tokenizer_config.json",
    ]  # fmt: skip
    cached = hub.env(tmp_path, HF_HUB_OFFLINE="1")
    assert load(cached, ("acme/chat", second), ("acme/chat", first), ("acme/chat", "v2"), ("acme/none", None)) == [
        found[0],
        found[1],
        [
            "InputError",
            "revision `v2` of the model `acme/chat` is not in the local cache",
            "unset HF_HUB_OFFLINE to download it",
        ],
        ["InputError", "the model `acme/none` is not in the local cache", "unset HF_HUB_OFFLINE to download it"],
    ]
    assert load(cached, ("acme/chat", None))[0][2] in (first, second)


def test_what_the_hub_refuses_is_said_in_words(hub: StandInHub, tmp_path: Path):
    hub.commit("models/acme/gated", {"chat_template.jinja": TEXT}, gated=True)
    hub.commit("models/acme/base", {"config.json": b"{}"})
    env = hub.env(tmp_path)
    assert load(env, ("acme/none", None), ("acme/gated", None), ("acme/base", "v9"), ("acme/base", None)) == [
        [
            "InputError",
            "the Hub has no model `acme/none`, or it is private",
            "check the spelling; for a private model `hf auth login`; a path starts with `./`",
        ],
        [
            "InputError",
            "the model `acme/gated` is gated and you have no access to it",
            "ask for access at https://huggingface.co/acme/gated, then `hf auth login`",
        ],
        ["InputError", "the model `acme/base` has no revision `v9`", "name a branch, tag or commit"],
        [
            "InputError",
            "`acme/base` has no chat template",
            "a base model has none: name the instruct model, a .jinja file, or one of `chatfmt templates list`",
        ],
    ]


def test_a_hub_out_of_reach_is_said_in_words(tmp_path: Path):
    with StandInHub() as gone:
        env = gone.env(tmp_path)
    gone.server.server_close()
    [[kind, message, hint]] = load(env, ("acme/chat", None))
    assert kind == "InputError"
    assert message.startswith("the Hub cannot be reached for `acme/chat`: ")
    assert hint == "check the network; HF_HUB_OFFLINE=1 uses what is in the local cache"
