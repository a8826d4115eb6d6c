"""`chatfmt doctor`: it shows what there is and no secret, and fails when a conversion does."""

from __future__ import annotations

import json

import pytest

from chatfmt.cli import main


def test_it_shows_what_there_is_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:hf_secret@hub")
    monkeypatch.setenv("CHATFMT_CONFIG", "none.yaml")
    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    assert "hf_secret" not in text and found["environment"]["HF_TOKEN"] == "set"
    assert (found["hub_token"], found["configuration"], found["self_test"]) == ("present", "none.yaml (none)", "passed")
    assert {"jinja2", "typer"} <= found["packages"].keys() and {"ray", "tokens"} <= found["extras"].keys()
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "configuration none.yaml (none)" in shown and "self test passed" in shown and "hf_secret" not in shown


def test_a_conversion_that_gives_another_text_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("chatfmt.cli.commands.doctor.WANTED", "another")
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: the self-test failed\n"
    assert "self test failed: the text is ['user: Hi!\\nassistant: Hello.\\n']" in " ".join(captured.out.split())
