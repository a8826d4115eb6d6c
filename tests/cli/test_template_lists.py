"""`chatfmt templates list` and `show`: whole outputs, in 80 columns."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from tests.conftest import run_cli
from tests.stand_in_hub import StandInHub


def listed(*arguments: str) -> list[str]:
    done = run_cli("templates", "list", *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().splitlines()


def test_each_template_has_a_line_of_its_own_that_says_what_it_renders() -> None:
    assert listed("deepseek-v", "--supports", "calls") == [
        "name              for                          system  tools  reasoning",
        "deepseek-v3       DeepSeek-V3 and DeepSeek-R1  yes     calls",
        "deepseek-v3-0324  DeepSeek-V3-0324             yes     calls",
        "deepseek-v3.1     DeepSeek-V3.1                yes     calls",
        "deepseek-v3.2     DeepSeek-V3.2                yes     yes    yes",
        "deepseek-v4       DeepSeek-V4                  yes     yes    yes",
    ]


def test_all_templates_fit_on_lines_of_80_characters_uncut() -> None:
    lines = listed()
    assert len(lines) > 90 and max(map(len, lines)) <= 80 and not any("…" in line for line in lines)


def test_titles_are_cut_to_the_width_of_a_narrow_terminal() -> None:
    done = run_cli("templates", "list", "granite-3.3", env={"COLUMNS": "56"})
    assert done.stdout.decode().splitlines() == [
        "name         for                system  tools  reasoning",
        "granite-3.3  Granite 3.2 and …  yes     list",
    ]


def test_words_are_found_in_names_aliases_and_families_whatever_their_case() -> None:
    names = [[row["name"] for row in json.loads("".join(listed("--json", *words)))] for words in (
        ["MIXTRAL"], ["glm-4.6"], ["Tülu"], ["gemma", "3"], ["--supports", "images", "--supports", "audios"],
    )]  # fmt: skip
    assert names == [
        ["mistral", "mistral-v1"],
        ["glm-4.5"],
        ["tulu-3"],
        ["gemma-3", "gemma-3n"],
        ["gemma-3n", "gemma-4", "glm-5.2"],
    ]


def test_wide_shows_the_rest() -> None:
    assert [line.rstrip() for line in listed("--wide", "qwen3-vl")] == [
        "",
        " name       aliases                    family              supports                   variables",
        " " + "─" * 98,
        " qwen3-vl   qwen3vl,                   Qwen3-VL Instruct   turns, system,             add_vision_id",
        "            qwen3-vl-instruct                              any-order, tools, calls,",
        "                                                           results, parts, images,",
        "                                                           videos",
        "",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["llama", "--supports", "documents"],
            "no built-in template has `llama` and `documents`\nhint: `chatfmt templates list` shows all of them\n",
        ),
        (["--supports", "image"], "unknown feature of templates `image`\nhint: did you mean `images`?\n"),
    ],
)
def test_what_no_template_has_is_an_error(arguments: list[str], message: str) -> None:
    done = run_cli("templates", "list", *arguments)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"error: {message}")


def test_a_template_of_any_source_is_shown(tmp_path: Path) -> None:
    two = [{"name": "default", "template": "{{ 2 }}"}, {"name": "rag", "template": "{{ 3 }}"}]
    for folder, given in {"one": "{{ 1 }}", "two": two}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": given}))
    (tmp_path / "t.jinja").write_text("{{ 'é' }}\n\n")
    shown = {
        name: run_cli("templates", "show", name, cwd=tmp_path).stdout.decode()
        for name in ("t.jinja", "./one", "./two", "./two#rag", "<|u|>{user_message}")
    }
    with StandInHub() as hub:
        hub.commit("models/acme/chat", {"chat_template.jinja": b"{{ 4 }}", "tokenizer_config.json": b"{}"})
        of_hub = run_cli("templates", "show", "acme/chat", cwd=tmp_path, env=hub.env(tmp_path))
    shown["acme/chat"] = of_hub.stdout.decode()
    inline = shown.pop("<|u|>{user_message}")
    assert shown == {
        "t.jinja": "{{ 'é' }}\n\n",
        "./one": "{{ 1 }}\n",
        "./two": "{# default #}\n{{ 2 }}\n{# rag #}\n{{ 3 }}\n",
        "./two#rag": "{{ 3 }}\n",
        "acme/chat": "{{ 4 }}\n",
    }
    assert "{{- '<|u|>' + message['content'] }}" in inline
    file = files("chatfmt").joinpath("templates", "glm-4.5.jinja")
    assert run_cli("templates", "show", "GLM-4.6").stdout.decode() == file.read_text("utf-8")
