"""Tracing: random templates over random chats on both engines, leaks, what is refused, programs as data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chatfmt.render.trace import symbolic_sandbox
from chatfmt.render.trace.program import Program, Untraceable, describe
from chatfmt.render.trace.symbols import POISON
from chatfmt.render.trace.tracer import Inputs, trace
from tests.render.engines import EAGER, assert_same

TEXTS = (
    "", " ", "a", "Hello", " \n padded \t", "x</think>y", "<think>\nhm\n</think>\n\nyes", "</think></think>",
    "\x1c\x85 \u00a0edge\u3000\u2028",
    "\u200b\ufeffkept\u200b", "é😀\n\n\nß", '"quoted" \\ {"a": 1}', "<tool_response>r</tool_response>", "user", "0",
    "None",
    "long " * 40, "<|im_end|>", "\n\n", "aaa", "ends with \r\n", "İı Straße",
)  # fmt: skip
ROLES = ("system", "user", "assistant", "tool")
TEXT = st.sampled_from(TEXTS)
ARGUMENTS = st.dictionaries(
    st.sampled_from(("a", "city", "type", "é")),
    st.one_of(
        TEXT, st.integers(-3, 10**20), st.sampled_from((0.5, 1e22, -0.0, True, None)), st.lists(TEXT, max_size=2)
    ),
    max_size=2,
)
CALL = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": TEXT, "arguments": ARGUMENTS})}
)
PART = st.one_of(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), st.just({"type": "image"}))
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(ROLES), "content": st.one_of(TEXT, TEXT, TEXT, st.lists(PART, max_size=2), st.none())},
    optional={
        "name": TEXT,
        "reasoning_content": TEXT,
        "tool_calls": st.lists(CALL, max_size=2),
        "weight": st.integers(0, 2),
    },
)
CHAT = st.lists(TURN, min_size=1, max_size=4)
CONSTANT = st.sampled_from(
    ("'a'", "'</think>'", "'\\n'", "''", "'x'", "' '", "'aa'", "'Hello'", "'é'", "'<think>'", "'\\n\\n'")
)
STRIP = st.sampled_from(("", "'\\n'", "' \\n'", "'ax'", "'é'"))

FILTERS = (
    "trim", "lower", "upper", "capitalize", "title", "tojson", "string", "safe", "e", "default('d')",
    "default('d', true)", "first", "last", "reverse", "list|join('-')", "indent(2)", "length", "wordcount",
    "replace('a', 'b')", "replace('\\n', '')", "truncate(9)", "center(9)", "int", "urlencode", "tojson(indent=2)",
)  # fmt: skip
METHODS = (
    "upper()", "lower()", "title()", "replace('a', '<')", "split()|join(',')", "rsplit('a', 1)[0]",
    "partition('a')[2]", "splitlines()|join('|')", "removeprefix('a')", "removesuffix('a')", "format(1)", "zfill(9)",
    "encode()", "join(['1', '2'])", "center(3)", "find('a')", "count('a')", "isdigit()", "nothing", "__class__",
)  # fmt: skip
TESTS = (
    "string", "none", "defined", "mapping", "iterable", "sequence", "number", "lower", "upper", "undefined",
    "boolean", "in 'Hello'", "eq 'a'", "sameas 'a'", "callable", "escaped", "true",
)  # fmt: skip


def expressions(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Text-valued expressions over the names."""
    return st.recursive(st.sampled_from(names), _longer_expressions, max_leaves=4)


def _longer_expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} + {})".format, inner, CONSTANT),
        st.builds("({} + {})".format, CONSTANT, inner),
        st.builds("({} ~ {})".format, inner, inner),
        st.builds("{}.{}({})".format, inner, st.sampled_from(("strip", "lstrip", "rstrip")), STRIP),
        st.builds("({}|{})".format, inner, st.sampled_from(FILTERS)),
        st.builds("{}.split({})[{}]".format, inner, CONSTANT, st.sampled_from(("0", "-1", "1", "-2"))),
        st.builds("{}.{}".format, inner, st.sampled_from(METHODS)),
        st.builds("{}[{}]".format, inner, st.sampled_from(("0", "-1", "1:", ":2", "::-1", "99", "'key'"))),
        st.builds("({}.split({})|join({}))".format, inner, CONSTANT, CONSTANT),
        st.builds("({}.split({})|map('trim')|join({}))".format, inner, CONSTANT, CONSTANT),
        st.builds("('%s|%s' % ({}, {}))".format, inner, inner),
        st.builds("','.join([{}, {}])".format, inner, inner),
        st.builds("({}|format({}))".format, st.sampled_from(("'<%s>'", "'%10s'")), inner),
        st.builds("[{}, 'k']|join({})".format, inner, inner),
        st.builds("{{'k': {}}}|tojson".format, inner),
        st.builds("[{}]|string".format, inner),
        st.builds("dict(k={}).k".format, inner),
        st.builds("f({})".format, inner),
        st.builds("({} if {} else {})".format, inner, _conditions(inner), inner),
    )


def _conditions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        inner,
        st.builds("not {}".format, inner),
        st.builds("{} in {}".format, CONSTANT, inner),
        st.builds("{} not in {}".format, CONSTANT, inner),
        st.builds(
            "{} in {}".format,
            inner,
            st.sampled_from(("'Hello a'", "['a', 'Hello']", "('x', '0')", "{'a': 1}", "messages")),
        ),
        st.builds("{}.{}({})".format, inner, st.sampled_from(("startswith", "endswith")), CONSTANT),
        st.builds("{} {} {}".format, inner, st.sampled_from(("==", "!=", "<", ">=")), CONSTANT),
        st.builds("{} == {}".format, inner, inner),
        st.builds("{}|length {} {}".format, inner, st.sampled_from((">", "<=", "==", "!=")), st.integers(0, 6)),
        st.builds("{} is {}".format, inner, st.sampled_from(TESTS)),
        st.builds("{}.split({})|length == 2".format, inner, CONSTANT),
        st.builds("{}.startswith({})".format, inner, CONSTANT),
        st.builds("{}.endswith(({}, {}))".format, inner, CONSTANT, CONSTANT),
    )


VALUE = expressions((
    "message.content", "message['content']", "message.name", "message.reasoning_content", "messages[0].content", "x",
    "message.role",
))  # fmt: skip
CONDITION = st.one_of(
    _conditions(VALUE),
    st.sampled_from((
        "message.role == 'user'", "loop.first", "loop.last", "loop.index0 % 2 == 0", "'name' in message",
        "message.name is defined", "ns.seen",
        "message is mapping", "messages|length > 2", "message.role in ['user', 'system']", "loop.previtem is defined",
        "add_generation_prompt", "tools", "message.tool_calls is not defined",
    )),
)  # fmt: skip


CHOICE = "{{% if {} %}}{}{{% elif {} %}}{}{{% else %}}{}{{% endif %}}"


def statements(depth: int = 2) -> st.SearchStrategy[str]:
    """Template text for the body of the loop over messages."""
    simple = st.one_of(
        st.builds("{{{{ {} }}}}".format, VALUE),
        st.builds("{{{{- {} -}}}}".format, VALUE),
        st.sampled_from(("<|x|>", "\n", "{{ message.role }}",
                         "{{ loop.index }}", "{{ message|tojson }}", "{{ message }}",
                         "{{ bos_token }}")),
        st.builds("{{% set x = {} %}}".format, VALUE),
        st.builds("{{% set x %}}[{{{{ {} }}}}]{{% endset %}}".format, VALUE),
        st.builds("{{% set ns.seen = {} %}}".format, VALUE),
        st.builds("{{% if {} %}}{{% break %}}{{% endif %}}".format, CONDITION),
        st.builds("{{% if {} %}}{{% continue %}}{{% endif %}}".format, CONDITION),
        st.builds("{{% generation %}}{{{{ {} }}}}{{% endgeneration %}}".format, VALUE),
        st.builds(
            "{{% for part in {} %}}{{% if part.type == 't' %}}{{{{ part.text }}}}{{% endif %}}{{% endfor %}}".format,
            VALUE,
        ),
        st.builds("{{% for part in {} %}}-{{{{ part }}}}{{% endfor %}}".format, VALUE),
        st.builds("{{% filter trim %}} {{{{ {} }}}} {{% endfilter %}}".format, VALUE),
        st.builds("{{%- for line in {}.split('\\n') -%}}{{{{ line|trim }}}}|{{% endfor %}}".format, VALUE),
        st.builds("{{% with z = {} %}}{{{{ z ~ z }}}}{{% endwith %}}".format, VALUE),
        st.sampled_from(("{{ raise_exception('no') }}",
                         "{% for m in messages|selectattr('content') %}{{ m.content|trim }}{% endfor %}",
                         "{{ messages|map(attribute='content')|join('+') }}",
                         "{% for k, v in message.items() %}{{ k }}={{ v }}{% endfor %}",
                         "{{ (messages|last).content }}", "{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
                         "{% for c in message.tool_calls %}"
                         "{{ c.function.name }}({{ c.function.arguments|tojson }}){% endfor %}",
                         "{% for c in message.tool_calls %}{% for k, v in c.function.arguments|items %}"
                         "{{ k }}:{{ v if v is string else v|tojson }},{% endfor %}{% endfor %}",
                         "{% for c in message.tool_calls %}{% for k, v in c.function.arguments|dictsort %}"
                         "{{ k ~ v }}{% endfor %}{{ c.function|tojson(indent=2) }}{% endfor %}",
                         "{% for p in message.content %}{{ p.text if p.type == 'text' else '<img>' }}{% endfor %}",
                         "{{ message.weight }}", "{{ strftime_now('%Y') }}",
                         "{% for m in messages|rejectattr('role', 'equalto', 'user') %}{{ m.content }}{% endfor %}",
                         "{{ messages[loop.index0 - 1].content }}", "{{ messages[::-1][0]['content'] }}",
                         "{{ message.tool_calls[0].function.arguments.a + 1 }}", "{{ message.tool_calls|length }}",
                         "{{ message.content[0].text|trim }}",
                         "{{ message.tool_calls[0].function.arguments|string }}",
                         "{{ message.tool_calls[0].function.arguments.a|int }}",
                         "{{ message.tool_calls[0].function.arguments.a == 3 }}",
                         "{{ range(message.tool_calls[0].function.arguments.a)|list }}",
                         "{{ messages[message.tool_calls[0].function.arguments.a] }}",
                         "{{ '%d' % message.tool_calls[0].function.arguments.a }}",
                         "{{ loop.cycle('a', message.content) }}", "{% if loop.changed(message.content) %}c{% endif %}",
                         "{{ messages|map(attribute='content')|map('upper')|list|tojson }}",
                         "{{ message.content is string }}")),
    )  # fmt: skip
    if not depth:
        return simple
    inner = st.lists(statements(depth - 1), max_size=2).map("".join)
    return st.one_of(
        simple,
        simple,
        st.builds(CHOICE.format, CONDITION, inner, CONDITION, inner, inner),
    )


BODY = st.lists(statements(), min_size=1, max_size=4).map("".join)
TEMPLATE = st.builds(
    "{{% macro f(v) %}}({{{{ v }}}}){{% endmacro %}}{{% set ns = namespace(seen='') %}"
    "}{{% set x = 'x' %}}{{% for message in messages %}}{}{{% endfor %}}{}".format,
    BODY,
    st.sampled_from(("", "{{ ns.seen }}", "{% if add_generation_prompt %}<go>{% endif %}")),
)


@given(TEMPLATE, st.lists(CHAT, min_size=1, max_size=5), st.booleans(), st.booleans(), st.booleans())
def test_random_templates_render_random_chats_alike_on_both_engines(
    text: str, chats: list[list[dict[str, Any]]], generation_prompt: bool, spans: bool, by_row: bool
) -> None:
    others = [
        [{**turn, "content": TEXTS[(place + 7 * len(chat)) % len(TEXTS)]} for place, turn in enumerate(chat)]
        for chat in chats
    ]
    rows = [{"messages": chat} for chat in [*chats, *others, *chats]]
    limits = replace(EAGER, different=-1) if by_row else EAGER
    renderer = assert_same(text, rows, limits, generation_prompt=generation_prompt, spans=spans)
    assert renderer.stats.rows == 2 * len(rows)


CHAT_OF_TWO = [{"role": "user", "content": "secret"}, {"role": "assistant", "content": "answer"}]


def traced(text: str, messages: list[dict[str, Any]] = CHAT_OF_TWO, **options: Any) -> Program | Untraceable:
    return trace(text, Inputs(messages), **options)


@pytest.mark.parametrize(
    "expression",
    [
        "'%s' % content", "'%s' % (content,)", "'%s'|format(content)", "'<{}>'.format(content)",
        "'{0}'.format(content)",
        "content in 'a secret here'", "', '.join([content, 'x'])", "[content]|string", "{'k': content}|string",
        "{content: 1}|string",
        "[content]|tojson", "{'k': [content]}|tojson(indent=1)", "content|safe", "content|escape",
        "content|e ~ content", "content|forceescape",
        "content|list", "content|wordcount", "content|urlencode", "content|pprint", "content|sort|join",
        "content|unique|join",
        "[content]|sort|join", "[content]|max", "[content]|sum(start='')", "content|int", "content|float",
        "content|truncate(3)",
        "content.encode()", "content.translate({})", "content.partition('c')[0]", "content.zfill(9)",
        "content.center(9)", "content.format()",
        "content.format_map({})", "content.expandtabs()", "'x'.replace('x', content)",
        "'secret'.split(content)|join('|')",
        "'secret x'.startswith(content)", "'a'.join(content)", "dict([(content, 1)])", "dict.fromkeys([content])",
        "range(content|length)|list",
        "content * 2", "2 * content", "content < 'z'", "content > 'a'", "content == messages[1].content", "content[0]",
        "content[::-1]",
        "content|striptags", "content|xmlattr", "content|urlize", "content|filesizeformat", "content|batch(2)|list",
        "content|groupby('x')", "content|attr('upper')()", "content|map('upper')|join", "content|select|join",
        "content|dictsort", "content|items",
        "content|indent(content|length)", "cycler(content).next()", "joiner(content)()", "namespace(k=content).k",
        "content ~ ('<'|safe)",
        "('<'|safe) + content", "('<'|safe) ~ content", "('<%s>'|safe) % content", "('|'|safe).join([content])",
        "content is sameas 'secret'",
        "content is in 'a secret'", "content|replace('s', content)", "content.strip(content)", "content|length|string",
        "content|first", "content|last", "content|title", "content|center(20)", "content|wordwrap(2)",
        "content|default(content)",
        "[content, 'x']|first", "(content, 'x')[0]", "content.split('c')", "content.split('c')|length",
        "content.split('c')|tojson", "content.split()",
        "content if content else 'x'", "not content", "content and 'x'", "content is string", "messages|tojson",
        "messages|string", "messages[0]",
        "messages[0].items()|list", "messages[0].values()|join('+')", "messages|map(attribute='content')|join(',')",
        "messages|groupby('content')|list",
        "messages|map(attribute='content')|unique|join", "messages|selectattr('content', 'in', 'secret')|list|length",
        "content.__class__",
        "messages|map(attribute='content')|sum(start='')",
        "messages|rejectattr('content', 'eq', 'secret')|map(attribute='role')|join",
        "'secret'.count(content)", "'%(k)s' % {'k': content}", "content|tojson(ensure_ascii=true)",
        "content|length * 2", "content.find('c')",
        "'a'|replace('a', content)", "content|trim(content)", "'x' ~ content|length", "content in ['secret']",
        "content in {'secret': 1}",
        "content not in 'a secret'", "'a' < content < 'z'", "messages[content]", "content|abs", "content.__add__('x')",
        "content.isalpha()", "content[-1]", "content[-2]", "content.split()[0]", "content.split()[-1]",
        "content.splitlines()[0]",
    ],
)  # fmt: skip
def test_no_operation_leaks_what_stands_behind_a_symbol(expression: str) -> None:
    text = f"{{% set content = messages[0].content %}}[{{{{ {expression} }}}}]"
    for deep in (False, True):
        found = traced(text, deep=deep)
        if isinstance(found, Program):
            assert POISON[:2] not in found.to_json()
            assert (
                "secret" not in "".join(piece for piece in found.pieces if isinstance(piece, str))
                or "secret" in expression
            )
    rows = [
        {"messages": [{"role": "user", "content": words}, CHAT_OF_TWO[1]]}
        for words in ("secret", "a secret", "s", "<e>", "", "s")
    ]
    assert_same(text, rows)


def test_a_leak_that_no_twin_knows_shows_as_poison_and_ends_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    symbolic_sandbox.compiled.cache_clear()
    monkeypatch.setattr(symbolic_sandbox, "_SOUND_FILTERS", symbolic_sandbox._SOUND_FILTERS | {"wordwrap"})
    assert traced("{{ messages[0].content|wordwrap(30) }}") == Untraceable("a text leaked past its symbol")
    symbolic_sandbox.compiled.cache_clear()


def test_a_program_survives_json_and_reads_as_words() -> None:
    text = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content.split('</think>')[-1]|trim }}<e>"
        "{% endgeneration %}{% elif 'a' in m.content %}A{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
    )
    program = traced(text)
    assert isinstance(program, Program)
    assert Program.from_json(program.to_json()) == program
    assert describe(program).splitlines() == [
        "where messages[0].content.has('a') is False",
        "print messages[0].content",
        r"print '\n'",
        "generation",
        "print messages[1].content.split('</think>', -1)[-1].strip(None)",
        "print '<e>'",
        "end of generation",
    ]  # fmt: skip


def test_a_program_knows_which_texts_it_never_prints() -> None:
    program = traced("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}")
    assert isinstance(program, Program)
    assert program.unrendered() == (("messages", 1, "content"),)


@pytest.mark.parametrize(
    ("text", "reason", "whole"),
    [
        ("{{ messages[0].content|safe }}", "`|safe` with a text", False),
        (
            "{% autoescape true %}{{ messages[0].content }}{% endautoescape %}",
            "`autoescape`, `include` or `import`",
            True,
        ),
        ("{{ lipsum() }}", "it prints random text", True),
        ("{{ messages[0].content + none }}", "it raises TypeError", False),
        ("{{ 1 in [1] in [[1]] }}", "`in` inside a chained comparison", True),
        ("{{ messages[0].content.upper }}", "`__repr__` of a text or number is not traced", False),
        ("{{ messages[0].items }}", "it prints a memory address", False),
        ("{{ messages }}", "`__repr__` of a text or number is not traced", False),
    ],
)
def test_what_cannot_be_traced_says_why(text: str, reason: str, whole: bool) -> None:
    assert traced(text) == Untraceable(reason, whole)


@pytest.mark.parametrize(
    ("text", "pieces", "refusal"),
    [
        ("{{ raise_exception('no') }}", ("no",), "TemplateError"),
        (
            "{{ raise_exception('no ' + messages[0].content) }}",
            ("no ", ("leaf", ("messages", 0, "content"))),
            "TemplateError",
        ),
        ("{{ messages[0].nothing.more }}", ("'dict object' has no attribute 'nothing'",), "UndefinedError"),
        ("{{ messages[0].content.nothing.more }}", ("'str object' has no attribute 'nothing'",), "UndefinedError"),
        ("{{ messages[0].content.split('x')[9].more }}", ("list object has no element 9",), "UndefinedError"),
    ],
)
def test_a_refusal_is_a_program_of_its_message(text: str, pieces: tuple[Any, ...], refusal: str) -> None:
    program = traced(text)
    assert isinstance(program, Program) and (program.pieces, program.refusal) == (pieces, refusal)
    assert Program.from_json(program.to_json()) == program


def test_half_of_a_surrogate_pair_is_left_to_the_error_of_jinja() -> None:
    assert traced("{{ messages[0].content }}{{ '\\ud800' }}") == Untraceable("it raises UnicodeEncodeError")
