"""A template cut into pieces and joined again prints the same text."""

from __future__ import annotations

import pytest

from chatfmt.render.tagging.pieces import cut, joined, quoted
from tests.render.templates import CONVERSATIONS, known_templates, template_renderer, untagged


@pytest.mark.parametrize(
    ("template", "pieces"),
    [
        ("a{{ b + 'c' ~ d|trim }}", ["{{- 'a' }}", "{{- b }}", "{{- 'c' }}", "{{- d|trim }}"]),
        (
            "{{ 'x' + y if z else ('w' + v) }}",
            ["{%- if z %}", "{{- 'x' }}", "{{- y }}", "{%- else %}", "{{- 'w' }}", "{{- v }}", "{%- endif %}"],
        ),
        ("{{ a == b + c }}{{ (a + b)|trim }}", ["{{- a == b + c }}", "{{- (a + b)|trim }}"]),
        ("{{ a or b }}{{ -a }}{{ [a + b] }}", ["{{- a or b }}", "{{- -a }}", "{{- [a + b] }}"]),
        ("{#- note -#}\n{% raw %}{{ x }}{% endraw %}", ["{{- '{{ x }}' }}"]),
        ("{% set a %}b{% endset %}{{ 'c' 'd' + 'e' }}", ["{%- set a %}", "{{- 'b' }}", "{%- endset %}", "{{- 'cd' }}",
                                                         "{{- 'e' }}"]),
    ],
)  # fmt: skip
def test_what_an_expression_prints_is_cut_at_its_operators(template: str, pieces: list[str]) -> None:
    assert [*map(str, cut(template))] == pieces


def test_a_tag_is_known_by_its_name_whatever_follows_it() -> None:
    pieces = cut("{% for m in messages %}{% if(m.a) %}a{% elif\nm.b %}b{% else %}c{% endif %}{% endfor %}")
    assert joined(pieces).splitlines() == [
        "{%- for m in messages %}", "    {%- if(m.a) %}", "        {{- 'a' }}", "    {%- elif", "m.b %}",
        "        {{- 'b' }}", "    {%- else %}", "        {{- 'c' }}", "    {%- endif %}", "{%- endfor %}",
    ]  # fmt: skip


def test_pieces_know_the_loops_around_them_and_whether_their_output_is_captured() -> None:
    pieces = cut("{% for m in messages %}{% for c in m.calls %}a{% endfor %}{% set b %}c{% endset %}{% endfor %}d")
    found = [(piece.source, piece.messages, piece.captured) for piece in pieces if piece.prints]
    assert found == [("a", ("m", "c"), False), ("c", ("m",), True), ("d", (), False)]


@pytest.mark.parametrize("text", ["", "plain", "it's", 'say "so"', "both ' and \"", "\\n \n\r\t", "é\u2028😀"])
def test_a_quoted_text_prints_itself(text: str) -> None:
    assert template_renderer(f"{{{{ {quoted(text)} }}}}").text_or_none(CONVERSATIONS["one turn"]) == text


def test_every_template_prints_the_same_when_it_is_joined_again() -> None:
    compared = 0
    for number, (name, text) in enumerate(known_templates()[::8]):
        plain, again = template_renderer(text, name), template_renderer(joined(cut(untagged(text))), name)
        for chat in list(CONVERSATIONS.values())[number % 3 :: 3]:
            if (expected := plain.text_or_none(chat)) is not None:
                assert again.text(chat) == expected, name
                compared += 1
    assert compared > 15
