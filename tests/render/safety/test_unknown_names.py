"""Names that nothing defines are found if they look like a misspelt one, without running the template."""

from __future__ import annotations

import pytest

from chatfmt.render.safety.unknown_names import misspelt_names
from tests.render.templates import known_templates


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ eos_tokn }}", {"eos_tokn": "eos_token"}),
        ("{% for m in mesages %}{{ m.role }}{% endfor %}", {"mesages": "messages"}),
        ("{% if add_generation_promt is defined %}x{% endif %}", {"add_generation_promt": "add_generation_prompt"}),
        ("{{ tool | tojson }}{{ toolz }}{{ agents }}", {"tool": "tools"}),
        ("{% for tool in tools %}{{ tool }}{% endfor %}", {}),
        ("{% set message = messages[0] %}{{ message }}{{ agents }}", {}),
        ("{% macro document(tol) %}{{ tol }}{{ caller() }}{% endmacro %}{{ document() }}", {}),
        ("{{ enable_thinking }}{{ roles }}{{ msg }}{{ 10 ** 10 ** 9 }}{{ range(3) }}", {}),
        ("{% if eos_tokn %}", {}),
    ],
)
def test_a_misspelt_name_is_found(text: str, found: dict[str, str]) -> None:
    assert misspelt_names(text, ["toolz"]) == found


def test_known_templates_misspell_nothing() -> None:
    assert [(name, found) for name, text in known_templates() if (found := misspelt_names(text))] == []
