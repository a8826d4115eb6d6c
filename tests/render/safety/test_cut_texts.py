"""A text that a template prints only in part is lost; one whose letters it changes is not."""

from __future__ import annotations

import pytest

from chatfmt.json_columns import encode_conversations
from chatfmt.render.safety import cut_texts, loss_finder
from chatfmt.render.safety.content_loss import LossGuard
from chatfmt.render.safety.loss_finder import Loss, LossFinder
from chatfmt.render.single import Chat
from chatfmt.rendering import ConversationBatch
from tests.cli.test_summary_counts import write
from tests.conftest import run_cli
from tests.render.templates import CALLED, call, say, template_renderer

ASKED = say("user", 'Hello, a "banana"\nsplit!  <b>Now</b> ümlaut')
ANSWERED = say("assistant", "Sure.  Eat it all, and\nmore: a banana.")


def printing(expression: str) -> str:
    return "{% for m in messages %}<|{{ m.role }}|>{{ " + expression + " }}<|end|>{% endfor %}"


@pytest.mark.parametrize(
    "expression",
    [
        "m['content'][:2]", "m.content[2:]", "m.content[:3] ~ m.content[-3:]", "m.content.split(' ')[0]",
        "m.content.split('\n')[-1]", "m.content | truncate(5)", "m.content | replace('a', '')", "m.content | first",
        "(m.content | upper)[:4]", "(m.content | tojson)[:20]", "(m.content | e)[3:]",
    ],
)  # fmt: skip
def test_a_text_of_which_a_part_is_printed_is_cut(expression: str) -> None:
    found = LossFinder(template_renderer(printing(expression))).find(Chat([ASKED, ANSWERED]))
    assert found == [Loss(0, "user", "content", cut=True), Loss(1, "assistant", "content", cut=True)]


@pytest.mark.parametrize(
    "expression",
    [
        "m.content | trim", "m.content | upper", "m.content | title", "m.content | tojson", "m.content | e",
        "m.content | indent", "m.content | reverse | list | join", "m.content.split() | join(' ')",
        "m.content | replace('  ', ' ')", "m.content[:2] ~ m.content[2:]", "m.content | wordwrap(10)",
    ],
)  # fmt: skip
def test_a_text_whose_letters_or_white_space_change_is_whole(expression: str) -> None:
    assert LossFinder(template_renderer(printing(expression))).find(Chat([ASKED, ANSWERED])) == []


def test_reasoning_and_calls_are_cut_too() -> None:
    template = printing(
        "(m.reasoning_content or '')[4:] ~ m.content ~ (m.tool_calls or '') | string | replace('o', '')"
    )
    thought = {**CALLED[1], "reasoning_content": "Look it up.", "tool_calls": [call("f", {"place": "Torino"})]}
    found = LossFinder(template_renderer(template)).find(Chat([CALLED[0], thought]))
    assert found == [Loss(1, "assistant", field, cut=True) for field in ("tool_calls", "reasoning")]


def test_the_row_with_the_longest_text_of_each_role_is_checked() -> None:
    short, long = [say("user", "x" * 60), say("assistant", "Yes.")], [say("user", "x"), say("assistant", "ab" * 20)]
    guard = LossGuard(template_renderer(printing("m.content if m.role == 'user' else m.content[:30]")), first_rows=2)
    assert guard.check(ConversationBatch(encode_conversations([short] * 30))) is None and guard.checked == 2
    batch = ConversationBatch(encode_conversations([short] * 30 + [long] + [short] * 3))
    assert guard.check(batch) == Loss(1, "assistant", "content", row=30, cut=True)


def test_few_changed_texts_are_examined_unless_one_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_texts, "CHANGED_TEXTS", 4)
    chats = ConversationBatch(encode_conversations([[say("user", f"Hello, number {n}"), ANSWERED] for n in range(20)]))
    cutting = LossGuard(template_renderer(printing("m.content[:9]")))
    assert cutting.check_rows(chats) == {Loss(0, "user", "content", cut=True): [*range(20)]}
    renderer = template_renderer(printing("m.content | upper"))
    examined = []
    monkeypatch.setattr(cut_texts, "replace_texts", lambda marked, *_: examined.append(1) or marked.chat)
    guard = LossGuard(renderer)
    assert guard.check_rows(chats) == {} and (guard.checked, len(examined)) == (20, 4 * 5)


def test_many_texts_are_tried_together(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [say(("user", "assistant")[n % 2], f"Hello, number {n}") for n in range(64)]
    tried, replace = list[int](), cut_texts.replace_texts
    monkeypatch.setattr(
        cut_texts, "replace_texts", lambda marked, texts: tried.append(len(texts)) or replace(marked, texts)
    )
    found = LossFinder(template_renderer(printing("m.content[:9]"))).find(Chat(turns))
    assert ([loss.message for loss in found if loss.cut], tried) == ([*range(64)], [1, 32, 31])
    some = LossFinder(template_renderer(printing("m.content[:9] if loop.index0 in (3, 20) else m.content | upper")))
    assert some.find(Chat(turns)) == [
        Loss(n, role, "content", cut=True) for n, role in ((3, "assistant"), (20, "user"))
    ]
    counting = LossFinder(template_renderer(printing("(m.content | length) ~ m.content")))
    monkeypatch.setattr(loss_finder, "keep_markers", lambda *_: pytest.fail("a text is looked for by itself"))
    assert counting.find(Chat(turns)) == []


def test_the_run_ends_with_the_way_out(tmp_path) -> None:
    write(tmp_path / "in.jsonl", [say("user", "Hello!"), say("assistant", "Hi you!")])
    run = run_cli("convert", "in.jsonl", "-t", printing("m['content'][:2]"), "-o", "out.jsonl", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (
        6,
        [
            "error: in.jsonl row 0: template `inline` loses a part of the text of role `user` (message 0, line 1)",
            "hint: `--allow-loss user` accepts the loss",
        ],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
