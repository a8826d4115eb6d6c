# ruff: noqa: E501
"""The sandbox process: the same texts and errors as plain Jinja, and nothing in reach of a hostile template."""

from __future__ import annotations

import os
import sys
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from chatfmt import json_columns
from chatfmt.errors import RenderError, TemplateError, UnknownName
from chatfmt.render import ChatTemplate, JinjaRenderer, RenderOptions, compile
from chatfmt.render.sandbox import interpreters
from chatfmt.render.sandbox import process as process_module
from chatfmt.render.sandbox import renderer as renderer_module
from chatfmt.render.sandbox.limits import OverLimit, SandboxLimits, compile_limited
from chatfmt.render.sandbox.renderer import SandboxRenderer
from chatfmt.render.sandbox.seccomp import ALLOWED, LEVELS
from chatfmt.render.trace.program import Program, Untraceable
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.render.trace.tracer import Inputs, trace
from chatfmt.rendering import ConversationBatch
from tests.conftest import TRL_TEMPLATES, needs_trl
from tests.render.sandbox.samples import CHAT, CHATML, CHEAP, COLUMNS, COSTLY, ONE, PROCESS, outcomes, template

LINUX = sys.platform == "linux" and os.uname().machine in ALLOWED


def both(template: ChatTemplate, options: RenderOptions, chats: ConversationBatch, **request: Any) -> tuple[Any, ...]:
    sandboxed = SandboxRenderer(template, options)
    try:
        return outcomes(sandboxed, chats, **request), outcomes(JinjaRenderer(template, options), chats, **request)
    finally:
        sandboxed.close()


TEMPLATES = {
    "chatml": CHATML,
    "tools": "{{ tools | tojson }}{% for m in messages %}{{ m | tojson(indent=2) }}{{ m.tool_calls }}{% endfor %}",
    "date": "{{ strftime_now('%Y-%m-%d %H') }}",
    "reasoning": "{{ messages[0].thinking }}{{ messages[0]['reasoning_content'] }}",
    "macro": "{% macro f(x, n=3) %}{{ x ~ n }}{% if n %}{{ f(x, n - 1) }}{% endif %}{% endmacro %}{{ f('a') }}",
    "arithmetic": "{{ 7 * 6 }} {{ 2 ** 10 }} {{ 'a' * 3 }} {{ [1] * 2 }} {{ '%5.1f|%s' % (1.25, 'x') }} {{ 1 + 2.5 }}",
    "methods": "{{ 'a,b'.split(',') }} {{ 'x'.center(5, '-') }} {{ '{:>4}'.format(7) }} {{ 'é'.encode() }} {{ ', '.join(['a']) }}",
    "filters": "{{ ['b', 'a'] | sort | join('-') | center(9) | indent(2, true) | replace('a', 'c') }}{{ [1,2,3] | batch(2) | list }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "loops": "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% else %}none{% endfor %}{{ range(3) | list }}",
    "blocks": "{% set x %}a{{ messages | length }}{% endset %}{{ x }}{% filter upper %}b{% endfilter %}{% call(y) g() %}{% endcall %}",
    "refuses": "{{ raise_exception('only two roles, é\u2028') }}",
    "divides": "{{ 1 / 0 }}",
    "missing": "{{ a.b.c }}",
    "key": "{{ {}['x'].y }}",
    "private": "{{ ''.__class__ }}",
    "changes": "{{ messages.append(1) }}",
    "surrogate": "{{ '\\ud800' }}",
    "type": "{{ 'a' + 1 }}",
    "address": "{{ messages.count }}",
    "kwargs": "{{ extra }}{{ add_generation_prompt }}{{ documents }}",
    "stringy": "{{ messages | map('upper') | list }}{{ messages | string | length }}",
    "strftime": "{{ strftime_now('%c %Z') }}",
    "pprint": "{{ messages | pprint }}",
    "wordwrap": "{{ 'a b c' | wordwrap(1) }}{{ 'x' | urlize }}{{ {'a': 1} | xmlattr }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_and_errors_are_those_of_plain_jinja(name: str) -> None:
    for options in (
        RenderOptions(),
        RenderOptions(generation_prompt=True, bos="strip", variables={"extra": [1, None]}),
    ):
        found, wanted = both(template(TEMPLATES[name]), options, COLUMNS)
        assert found == wanted
        assert len(found[0]) == len(CHAT)


def test_spans() -> None:
    found, wanted = both(template(CHATML), RenderOptions(), COLUMNS, spans=True)
    assert found == wanted
    assert found[1][0] == [[22, 31], [59, 73]]


def test_the_final_message_is_continued() -> None:
    for field in (True, "content", "reasoning_content"):
        found, wanted = both(template(CHATML), RenderOptions(continue_final=field), COLUMNS)
        assert found == wanted


def test_named_templates() -> None:
    for names in ({"default": "d", "tool_use": "t"}, {"default": "d"}, {"rag": "r", "default": "x"}, {"tool_use": "t"}):
        found, wanted = both(template(names.get("default", ""), **names), RenderOptions(), COLUMNS)
        assert found == wanted


def test_row_variables() -> None:
    kwargs = json_columns.json_array([{"extra": "é", "bos_token": "B"}, {"messages": 1}, 5, None, {}], [True] * 5)
    found, wanted = both(template(TEMPLATES["kwargs"]), RenderOptions(), replace(COLUMNS, template_kwargs=kwargs))
    assert found == wanted
    assert len(found[2]) == 2  # `messages` may not be set, and the empty conversation


def test_native_values_are_what_jinja_sees() -> None:
    import datetime

    rows = [[{"role": "user", "content": "a", "when": datetime.date(2024, 2, 29), "score": float("nan")}]]
    kind = pa.list_(
        pa.struct([("role", pa.string()), ("content", pa.string()), ("when", pa.date32()), ("score", pa.float64())])
    )
    found, wanted = both(template("{{ messages }}"), RenderOptions(), ConversationBatch(pa.array(rows, kind)))
    assert found == wanted
    assert found[0] == ["[{'role': 'user', 'content': 'a', 'when': '<date>', 'score': nan}]"]


def test_more_rows_than_a_request_holds() -> None:
    column = json_columns.encode_conversations([[{"role": "user", "content": f"{place}"}] for place in range(500)])
    found, wanted = both(template(CHATML), RenderOptions(), ConversationBatch(column))
    assert found == wanted
    assert len(found[0]) == 500


@needs_trl
def test_real_templates(engines_sample: int = 4) -> None:
    assert TRL_TEMPLATES is not None
    paths = sorted(TRL_TEMPLATES.glob("*.jinja"))
    assert len(paths) > 50
    for path in paths[:: len(paths) // engines_sample]:
        found, wanted = both(template(path.read_text()), RenderOptions(generation_prompt=True), COLUMNS)
        assert found == wanted, path.name


def test_without_a_list_of_failures_the_first_is_raised_with_its_cause() -> None:
    renderer = SandboxRenderer(template("{{ raise_exception('no') }}"), RenderOptions())
    with pytest.raises(RenderError) as caught:
        renderer(COLUMNS)
    assert (str(caught.value), caught.value.code) == ("row 0: no", "template.raised")
    assert str(caught.value.__cause__) == "no"
    renderer.close()


def test_a_template_that_does_not_compile() -> None:
    with pytest.raises(TemplateError) as caught:
        SandboxRenderer(template("a\n{% if %}"), RenderOptions())
    assert caught.value.code == "template.syntax"
    assert caught.value.message.startswith("the template `untrusted` does not compile, line 2: Expected an expression")


@pytest.mark.parametrize("name", PROCESS)
def test_a_costly_template_is_an_error_of_its_row(name: str) -> None:
    renderer = SandboxRenderer(template(COSTLY[name]), RenderOptions(), limits=CHEAP)
    texts, _, errors = outcomes(renderer, ONE)
    renderer.close()
    assert texts == [None]
    assert [error[2] for error in errors] == ["template.limit"]
    assert errors[0][0].startswith("the template ")


@pytest.mark.parametrize(
    ("expression", "steps"),
    [
        ("('a ' * 5000)|wordcount", 310), ("('w.a ' * 2500)|urlize", 10_000), ("('a-' * 5000)|title", 1250),
        ("('a ' * 5000)|pprint", 2500), ("('a\n' * 5000)|indent", 310), ("('<' * 10000)|striptags", 1250),
        ("('a' * 10000)|wordwrap(1)", 10_000), ("('a' * 10000).strip('b' * 900 ~ 'a')", 8700),
        ("('a' * 10000).rfind('b' ~ 'a' * 900)", 8700), ("([0] * 9999)|sort", 5000), ("[0] * 99_999", 1900),
        ("('ß' * 10000)|upper", 150), ("(['a' * 9000] * 99)|unique|list", 6900), ("cycler(*range(9999))", 620),
    ],
)  # fmt: skip
def test_slow_operations_count_as_many_steps(expression: str, steps: int) -> None:
    compiled = compile_limited(f"{{% set x = {expression} %}}", SandboxLimits())
    compiled.render()
    assert steps <= compiled.environment.steps < 3 * steps + 700  # type: ignore[attr-defined]


def test_integers_of_any_size_are_not_computed_with() -> None:
    for text in ("{% set x = 0x" + "f" * 20_000 + " %}", "{% set x = ('f' * 20000)|int(0, 16) %}"):
        with pytest.raises(OverLimit, match="a number of more than 65,536 bits|more than 65,536 bits of a number"):
            compile_limited(text, SandboxLimits()).render()


def test_a_row_that_is_too_slow_is_found_and_the_others_are_rendered() -> None:
    slow = "{% if messages[0].content == 'slow' %}{% set l = range(9999)|list %}{% for i in range(9999) %}" + (
        "{% for j in range(99) %}{% set x = l | sort %}{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}"
    )
    rows = [[{"role": "user", "content": "slow" if place == 3 else str(place)}] for place in range(6)]
    renderer = SandboxRenderer(template(slow), RenderOptions(), limits=SandboxLimits(seconds=1.5, steps=10**9))
    texts, _, errors = outcomes(renderer, ConversationBatch(json_columns.encode_conversations(rows)))
    renderer.close()
    assert texts == ["0", "1", "2", None, "4", "5"]
    (error,) = errors
    assert (error[0], error[2], error[3].row) == ("the template takes too long or too much memory", "template.limit", 3)


def test_isolation_levels() -> None:
    renderer = SandboxRenderer(template("x"), RenderOptions(), isolation="auto")
    assert renderer.level in (("seccomp", "seccomp+landlock") if LINUX else LEVELS)
    renderer.close()
    with pytest.raises(UnknownName, match="unknown isolation `on`"):
        SandboxRenderer(template("x"), RenderOptions(), isolation="on")  # type: ignore[arg-type]


def test_required_isolation_is_enforced(fresh_sandboxes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    process_module.close_idle()
    monkeypatch.setattr(interpreters, "BOOT", interpreters.BOOT.replace(
        "from chatfmt.render.sandbox.worker import main, serve",
        "from chatfmt.render.sandbox.worker import main, serve\nimport chatfmt.render.sandbox.seccomp as seccomp\nseccomp._install_filter = lambda: False",
    ))  # fmt: skip
    with pytest.raises(TemplateError) as caught:
        SandboxRenderer(template("x"), RenderOptions(), isolation="required")
    assert caught.value.code == "template.isolation"
    assert caught.value.message == "this machine cannot isolate the template (level in force: `rlimits`)"
    renderer = SandboxRenderer(template("x"), RenderOptions(), isolation="auto")
    assert (renderer.level, renderer(ONE).text.to_pylist()) == ("rlimits", ["x"])
    renderer.close()


class TestTrace:
    def test_programs_are_those_of_the_tracer(self) -> None:
        renderer = SandboxRenderer(template(CHATML), RenderOptions())
        inputs = Inputs([{"role": "user", "content": "x"}], variables={"bos_token": "<s>"})
        found = renderer.trace(CHATML, inputs)
        assert isinstance(found, Program)
        assert found == trace(CHATML, inputs)
        renderer.close()

    def test_the_traced_engine_runs_on_it(self) -> None:
        turns = [[{"role": "user", "content": f"{place}\n"}] for place in range(100)]
        chats = ConversationBatch(json_columns.encode_conversations(turns))
        options = RenderOptions()
        sandboxed = SandboxRenderer(template(CHATML), options)
        traced = TracedRenderer(sandboxed.template, options, sandboxed, tracer=sandboxed.trace)  # type: ignore[arg-type]
        assert traced(chats).text.equals(JinjaRenderer(sandboxed.template, options)(chats).text)
        assert traced.stats.replayed > 80
        sandboxed.close()

    @pytest.mark.parametrize(
        "text",
        [
            "{{ messages[0].content | indent(10**7) }}",
            "{{ messages[0].content.replace('a', 'b' * 10**4) }}",
            "{{ messages[0].content.replace('a', 'b' * 100).replace('b', 'c' * 100) }}",
            "{{ 'a' * 10**10 }}",
            "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
        ],
    )
    def test_programs_that_could_blow_up_are_refused(self, text: str) -> None:
        renderer = SandboxRenderer(template(text), RenderOptions(), limits=CHEAP)
        assert isinstance(renderer.trace(text, Inputs([{"role": "user", "content": "a" * 50}])), Untraceable)
        texts, _, _ = outcomes(renderer, ONE)  # still there
        assert len(texts) == 1
        renderer.close()

    def test_a_malformed_program_is_refused(self) -> None:
        good = trace(CHATML, Inputs([{"role": "user", "content": "x"}], variables={"bos_token": "<s>"}))
        assert isinstance(good, Program)
        assert renderer_module._checked(good) == good
        for piece in (("nonsense", ("leaf", ())), (), ("replace",), ("cat", (("nonsense", 1),))):
            assert isinstance(renderer_module._checked(replace(good, pieces=(piece,))), Untraceable)
        assert isinstance(
            renderer_module._checked(replace(good, guards=((("nonsense", ("leaf", ())), True),))), Untraceable
        )


ENDLESS = "{% if 'x' in messages[0].content %}{% for i in range(9999) %}{% for j in range(99) %}{% endfor %}{% endfor %}{% endif %}ok"

COSTS_MORE = "{% for i in range(60 * messages[0].content | length) %}{% for j in range(999) %}{% endfor %}{% endfor %}"


def chats_of(texts: list[str]) -> ConversationBatch:
    return ConversationBatch(json_columns.encode_conversations([[{"role": "user", "content": text}] for text in texts]))


def test_a_template_that_costs_too_much_in_many_rows_is_refused() -> None:
    """More rows than 20 and 1% of all; those that are replayed without the sandbox count among all."""
    limits, message = SandboxLimits(steps=1000), "the template takes more than 1,000 steps"
    for engine in ("jinja", "auto"):
        renderer = compile(template(ENDLESS), RenderOptions(engine=engine), "auto")
        sandbox = renderer.fallback if isinstance(renderer, TracedRenderer) else renderer
        assert isinstance(sandbox, SandboxRenderer)
        sandbox.close()
        sandbox.limits = limits
        sandbox._process = sandbox._start()
        failures: list[RenderError] = []
        texts = renderer(chats_of(["a"] * 1000 + ["x"] * 25), failures=failures).text.to_pylist()
        assert texts == ["ok"] * 1000 + [None] * 25
        assert {failure.message for failure in failures} == {message}
        for _ in range(2):
            with pytest.raises(TemplateError) as caught:
                renderer(chats_of(["x"] * 10), failures=[])
            assert caught.value.code == "template.limit"
            assert caught.value.message.endswith(f"is refused: {message}, and does so in too many rows")
        sandbox.close()


def test_what_a_costly_conversation_takes_is_found_before_it_is_traced() -> None:
    renderer = SandboxRenderer(template(COSTS_MORE), RenderOptions())
    for text, steps in (("x", "50,000"), ("x" * 40, "1,000,000")):
        found = renderer.trace(COSTS_MORE, Inputs([{"role": "user", "content": text}]))
        assert found == Untraceable(f"it takes more than {steps} steps")
    renderer.close()
