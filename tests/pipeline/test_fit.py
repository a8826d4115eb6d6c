"""`--fit`: combinations that a template needs changed, rendered and guarded, and when it is offered."""

from __future__ import annotations

import json

import pytest

from tests.conftest import run_cli

from ..conftest import write_rows

CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "look", "arguments": {"q": "x"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
THINKER = """{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}{% elif m.role == 'assistant' %}A:\
{% if thinking %}<think>{{ m.reasoning_content or '' }}</think>{% else %}</think>{% endif %}{{ m.content }}$
{% endif %}{% endfor %}"""
"""Prints reasoning with `thinking` only, and else closes a block that the generation prompt opens."""
CALLER = """{% for m in messages %}{{ m.role[0] | upper }}:{{ m.content + '' }}{% for c in m.tool_calls or [] %}\
{{ c.function.name + (c.function.arguments | tojson) }}{% endfor %}{{ '$\n' if m.role == 'assistant' }}{% endfor %}"""
"""Refuses calls without content."""
CLOSER = THINKER.replace("thinking", "closing")


def say(role, content, **more):
    return {"role": role, "content": content, **more}


REASONED = [say("user", "q"), say("assistant", "a", reasoning_content="why")]
SYSTEMS = [say("system", "s"), say("developer", "d"), say("user", "q"), say("assistant", "a")]
LATER = [*SYSTEMS, say("system", "t"), say("user", "r"), say("assistant", "b")]
CALLED = [say("user", "q"), say("assistant", "", tool_calls=[CALL]), say("tool", "r", tool_call_id="abcdefgh1")]
ASKED = [*CALLED, say("user", "and?"), say("assistant", "b")]
PRINTED_CALL = '[TOOL_CALLS] [{"name": "look", "arguments": {"q": "x"}, "id": "abcdefgh1"}]</s>'
PLAIN = [say("user", "q"), say("assistant", "a")]


def convert(folder, messages, template, *flags, tools=None):
    (folder / "thinker.jinja").write_text(THINKER)
    (folder / "closer.jinja").write_text(CLOSER)
    (folder / "caller.jinja").write_text(CALLER)
    (folder / "in.jsonl").write_text(json.dumps({"messages": messages, **({"tools": tools} if tools else {})}))
    return run_cli("convert", "in.jsonl", "-t", template, *flags, "-o", "-", cwd=folder)


@pytest.mark.parametrize(
    ("messages", "template", "text", "changed"),
    [
        (REASONED, "thinker.jinja", "U:qA:<think>why</think>a$\n", ""),
        (
            SYSTEMS,
            "qwen3.5",
            "<|im_start|>system\ns\n\nd<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\na<|im_end|>\n",
            "changed: developer 1, leading_system 1\n",
        ),
        (
            LATER,
            "deepseek-r1-distill",
            "<｜begin▁of▁sentence｜>s\n\nd<｜User｜>q<｜Assistant｜>a<｜end▁of▁sentence｜>"
            "<｜User｜>t\n\nr<｜Assistant｜>b<｜end▁of▁sentence｜>",
            "changed: developer 1, later_system 1, leading_system 1\n",
        ),
        (
            ASKED,
            "mistral",
            f"<s>[INST] q[/INST]{PRINTED_CALL}"
            '[TOOL_RESULTS] {"content": r, "call_id": "abcdefgh1"}[/TOOL_RESULTS] </s>[INST] and?[/INST] b</s>',
            "changed: user_after_tool 1\n",
        ),
        (
            [CALLED[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}, CALLED[2], PLAIN[1]],
            "caller.jinja",
            'U:qA:look{"q": "x"}$\nT:rA:a$\n',
            "changed: call_content 1\n",
        ),
    ],
)
def test_combinations_are_adapted(messages, template, text, changed, tmp_path):
    run = convert(tmp_path, messages, template)
    assert b"hint: `--fit` adapts the data where it can; " in run.stderr
    run = convert(tmp_path, messages, template, "--fit")
    assert (run.returncode, json.loads(run.stdout)) == (0, {"text": text})
    assert changed in run.stderr.decode()


@pytest.mark.parametrize(
    ("messages", "template", "text", "changed"),
    [
        (
            [say("user", "q"), say("assistant", "<think>\nwhy\n</think>\n\na")],
            "deepseek-v4",
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜><think>why</think>a<｜end▁of▁sentence｜>",
            "reasoning 1",
        ),
        (
            [*CALLED[:2], say("tool", [{"type": "text", "text": "r"}], tool_call_id="abcdefgh1"), PLAIN[1]],
            "mistral",
            f"<s>[INST] q[/INST]{PRINTED_CALL}"
            '[TOOL_RESULTS] {"content": r, "call_id": "abcdefgh1"}[/TOOL_RESULTS] a</s>',
            "parts 1",
        ),
    ],
)
def test_what_a_template_would_print_as_code_or_behind_its_own_tag_is_adapted(
    messages, template, text, changed, tmp_path
):
    run = convert(tmp_path, messages, template, "--fit")
    assert (run.returncode, json.loads(run.stdout)) == (0, {"text": text})
    assert run.stderr.decode().splitlines()[-1] == f"changed: {changed}" and b"left as text" not in run.stderr


def test_an_empty_answer_before_a_user_turn_is_not_trained_and_no_problem(tmp_path):
    run = convert(tmp_path, ASKED, "mistral", "--fit", "--mask", "--strict")
    assert b"msg.empty" not in run.stderr
    row = json.loads(run.stdout)
    assert [row["text"][slice(*span)] for span in row["assistant_spans"]] == [PRINTED_CALL, " b</s>"]


def test_no_block_is_put_behind_another(tmp_path):
    inline = [PLAIN[0], say("assistant", "<think>\nwhy\n</think>\n\na")]
    for messages, flags in ((REASONED, []), (REASONED, ["--fit"]), (inline, ["--fit"])):
        run = convert(tmp_path, messages, "closer.jinja", *flags)
        assert (run.returncode, run.stdout) == (6, b"")
        assert run.stderr.decode().splitlines()[-1] == (
            "hint: `chatfmt templates list --supports reasoning` shows the templates that support reasoning; "
            "`--allow-loss reasoning` accepts the loss"
        )


def test_tools_without_a_place_go_into_the_system_message_if_asked(tmp_path):
    offered = (
        "hint: `--fit tools=system` adapts the data where it can; `chatfmt templates list --supports tools` shows the "
        "templates that support tools; `--allow-loss tools` accepts the loss\n"
    )
    for flags in ([], ["--fit"]):
        run = convert(tmp_path, PLAIN, "gemma", *flags, tools=[TOOL])
        assert run.stderr.decode().endswith(offered)
    run = convert(tmp_path, PLAIN, "gemma", "--fit", "tools=system", tools=[TOOL])
    text = f"<bos><start_of_turn>user\n{json.dumps([TOOL])}\n\nq<end_of_turn>\n<start_of_turn>model\na<end_of_turn>\n"
    assert json.loads(run.stdout) == {"text": text}
    assert "changed: system_turns 1, tools 1\n" in run.stderr.decode()


@pytest.mark.parametrize(("template", "code"), [("qwen3", 6), ("caller.jinja", 4)])
def test_results_that_are_objects_become_text_if_asked(template, code, tmp_path):
    turns = [*CALLED[:2], say("tool", {"city": "Oslo"}, tool_call_id="abcdefgh1"), say("assistant", "b")]
    for flags in ([], ["--fit"]):
        run = convert(tmp_path, turns, template, *flags)
        assert (run.returncode, run.stdout) == (code, b"")
        assert "hint: `--fit results=text` adapts the data where it can" in run.stderr.decode()
    run = convert(tmp_path, turns, template, "--fit", "results=text")
    assert '{"city": "Oslo"}' in json.loads(run.stdout)["text"]
    assert "changed: results 1\n" in run.stderr.decode()


def test_a_system_message_is_no_remedy_for_tools_that_other_rows_call(tmp_path):
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turns = [PLAIN[0], {"role": "assistant", "tool_calls": [call]}]
    rows = [{"messages": PLAIN, "tools": [TOOL]}, {"messages": turns, "tools": [TOOL]}]
    write_rows(tmp_path / "two.jsonl", rows)
    run = run_cli("convert", "two.jsonl", "-t", "chatml", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (6, [
        "error: two.jsonl row 0: template `chatml` loses the tools of the row (line 1)",
        "hint: `chatfmt templates list --supports tools` shows the templates that support tools; "
        "`--allow-loss tools` accepts the loss",
    ])  # fmt: skip
