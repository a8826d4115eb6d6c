"""What matters of a probe card, in words, and how `templates probe` shows it in 80 columns."""

from __future__ import annotations

import re

import pytest

from chatfmt.render.inspection.findings import findings
from chatfmt.render.inspection.probe import probe
from chatfmt.render.template.chat_template import ChatTemplate
from tests.conftest import run_cli

from .test_probe import TEN, golden

MISTRAL = """\
mistral:
  drops system messages                    * --transform system_turns=fold
  refuses developer messages               * --transform developer=system
  refuses two messages of a role in a row  * --transform merge='"\\n\\n"'
  refuses an answer at the start             --transform leading_assistant=drop
  prints content parts as code             * --transform parts=flatten
  prints call arguments only as object     * --transform arguments=object
  accepts only nine-character call ids     * --transform call_ids=nine
  refuses a question right after a result  * --transform user_after_tool=answer
  drops reasoning                          * --transform reasoning=inline
  begins with BOS, as tokenizers do          --bos strip
  trims white space around answers
  * --fit does all of these
"""


def test_probe_shows_names_and_words_as_they_are_and_other_text_in_quotes():
    shown = run_cli("templates", "probe", "phi-4").stdout.decode()
    assert re.search(r"^ template +phi-4 *$", shown, re.M) and re.search(
        r"^ stop token +\"<\|im_end\|>\" *$", shown, re.M
    )


def test_probe_shows_them_before_the_table():
    shown = run_cli("templates", "probe", "mistral").stdout.decode()
    assert shown.startswith(MISTRAL) and re.search(r"^ what +outcome", shown, re.M)


@pytest.mark.parametrize("name", TEN)
def test_each_transform_of_a_card_stands_beside_what_it_is_for(name):
    card = golden(name)
    found = findings(card)
    assert {each.flag for each in found if each.fits} == {f"--transform {each.shell_text}" for each in card.transforms}
    assert all(len(each.words) <= 39 and len(each.flag) <= 34 for each in found if each.flag)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ messages[0].content }}", ["does not print a question and an answer"]),
        (
            "{% for m in messages %}{{ m.role }}: {{ m.reasoning_content if loop.last }}{{ m.content }}\n{% endfor %}",
            [
                "prints content parts as code",
                "drops the list of tools",
                "drops tool calls",
                "drops reasoning of earlier answers",
                "prints no stop token at the end",
            ],
        ),
        (
            "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}<|end|>{% endfor %}",
            [
                "prints content parts as code",
                "drops the list of tools",
                "drops tool calls",
                "drops reasoning",
                "trims white space around answers, questions and system messages",
            ],
        ),
    ],
)
def test_words_of_unusual_templates(text, words):
    found = [each.words for each in findings(probe(ChatTemplate("t", text)))]
    assert found == words
