"""Templates by name, from files and inline; their properties; options and errors of the Jinja engine."""

from __future__ import annotations

import datetime
import hashlib
import pickle
from pathlib import Path
from typing import Any

import jinja2
import pytest

from chatfmt import json_columns
from chatfmt.errors import InputError, RenderError, TemplateError, UnknownName, UsageError
from chatfmt.render import ChatTemplate, JinjaRenderer, RenderOptions, TracedRenderer, choose_engine, compile
from chatfmt.render.template.inline import parse
from chatfmt.rendering import ConversationBatch, RenderRequest

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
SYSTEM = [{"role": "system", "content": "S"}]
FORM = "<|system|>{system_message}\n<|user|>{user_message}\n<|assistant|>{assistant_message}"
ECHO = "{% for m in messages %}{{ m.content }}{% endfor %}"


def of(text: str, **fields: Any) -> ChatTemplate:
    return ChatTemplate("t", text, **fields)


def column(*conversations: list[dict[str, Any]] | None, **others: Any) -> ConversationBatch:
    return ConversationBatch(json_columns.encode_conversations(conversations), **others)


def plain(text: str, *conversations: Any, tokens: dict[str, str] | None = None, **options: Any) -> list[str]:
    renderer = compile(of(text, special_tokens=tokens or {}), RenderOptions(engine="jinja", **options))
    return renderer(column(*conversations)).text.to_pylist()


# names, files, folders


def test_a_built_in_template_is_found_by_its_name():
    template = ChatTemplate.load("chatml")
    assert (template.name, template.origin, template.revision, template.named) == ("chatml", "built-in", None, {})
    text = template.render(MESSAGES, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n<|im_start|>assistant\n"
    )  # fmt: skip


def test_a_file_is_read_as_transformers_reads_it(tmp_path: Path):
    path = tmp_path / "x.jinja"
    path.write_bytes("\ufeffé\r\n{{ messages[0]['content'] }}\r".encode())
    for reference in (path, str(path)):
        template = ChatTemplate.load(reference)
        assert (template.name, template.origin) == (str(path), "file")
        assert template.text == "\ufeffé\n{{ messages[0]['content'] }}\n"
        assert template.render(MESSAGES) == "\ufeffé\nhi"
        assert template.sha256 == hashlib.sha256(template.text.encode()).hexdigest()


def test_a_folder_beside_the_file_of_a_template_is_not_read(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    (tmp_path / "x.jinja").write_text("{{ bos_token }}|")
    assert ChatTemplate.load(tmp_path / "x.jinja").render(MESSAGES) == "|"


def test_a_built_in_name_wins_over_a_folder_and_a_path_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("chatml", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chat_template.jinja").write_text("mine")
    origins = [ChatTemplate.load(name).origin for name in ("chatml", "./chatml", "own")]
    assert origins == ["built-in", "folder", "folder"]


@pytest.mark.parametrize(
    ("reference", "kind", "message", "hint"),
    [
        ("none", UsageError, "`none` is not a template: it means that nothing is rendered", "leave `-t` out"),
        (
            "chatmml",
            UnknownName,
            "unknown template `chatmml`",
            "did you mean `chatml`? `chatfmt templates list` has the names; a path or a Hub model id has a `/`",
        ),
        (
            "wxyz",
            UnknownName,
            "unknown template `wxyz`",
            "`chatfmt templates list` has the names; a path or a Hub model id has a `/`",
        ),
        ("no/such/folder", InputError, "there is no template file or model folder `no/such/folder`", "check the path"),
        ("./x", InputError, "there is no template file or model folder `./x`", "check the path"),
        ("x.jinja", InputError, "there is no template file or model folder `x.jinja`", "check the path"),
        ("a/x.jinja", InputError, "there is no template file or model folder `a/x.jinja`", "check the path"),
        ("chatml#rag", UnknownName, "unknown chat template of `chatml` `rag`", "one of: default"),
    ],
)
def test_what_cannot_be_found_is_said_in_words(reference: str, kind: type[Exception], message: str, hint: str):
    with pytest.raises(kind) as raised:
        ChatTemplate.load(reference)
    assert (str(raised.value), raised.value.hint) == (message, hint)
    assert hint != "" and str(pickle.loads(pickle.dumps(raised.value))) == message


def test_the_json_file_of_a_folder_is_no_template(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError) as raised:
        ChatTemplate.load(tmp_path / "tokenizer_config.json")
    assert raised.value.hint == f"name its folder: `{tmp_path}`"


# inline Jinja


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}", "user: q\nassistant: a\n"),
        ("{{ messages[0].content }}\\t\\\\{{ 'x\\\\n' }}", "q\t\\x\\n"),
        ("{# {user} #}{{ messages | length }}{% if false %}{% endif %}", "2"),
        ("{% for m in messages %}" + "long" * 2000 + "{% endfor %}", "long" * 4000),
    ],
)
def test_jinja_may_stand_where_its_name_belongs(text: str, rendered: str) -> None:
    template = ChatTemplate.load(text)
    assert (template.name, template.origin) == ("inline", "inline")
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert template.render(turns) == rendered


def test_a_form_may_be_longer_than_a_file_name() -> None:
    turns = [{"role": "user", "content": "q"}]
    assert ChatTemplate.load("x" * 5000 + "{user_message}").render(turns) == "x" * 5000 + "q"


# the plain form


@pytest.mark.parametrize(
    ("form", "messages", "text"),
    [
        (FORM, SYSTEM + MESSAGES, FORM.format(system_message="S", user_message="hi", assistant_message="yo")),
        (FORM, MESSAGES, "<|user|>hi\n<|assistant|>yo"),
        (FORM, SYSTEM + MESSAGES + MESSAGES, "<|system|>S\n<|user|>hi\n<|assistant|>yo\n<|user|>hi\n<|assistant|>yo"),
        (FORM.replace("\n", "\\n"), MESSAGES, "<|user|>hi\n<|assistant|>yo"),
        ("Q: {user}\nA: {assistant}", MESSAGES + MESSAGES, "Q: hi\nA: yo\nQ: hi\nA: yo"),
        ("Q: {user}\nA: {assistant}</s>\n", MESSAGES + MESSAGES, "Q: hi\nA: yo</s>\nQ: hi\nA: yo</s>\n"),
        ("<<{user_message}>>{{{assistant_message}}}", MESSAGES, "<<hi>>{yo}"),
        ("'\\\\{user}'\\t\"é😀{{% x %}}{assistant}", MESSAGES, "'\\hi'\t\"é😀{% x %}yo"),
        ("{user}", MESSAGES[:1] * 2, "hihi"),
        ("{assistant}{user}", MESSAGES, "hiyo"),
    ],
)
def test_the_plain_form_means_what_its_page_says(form: str, messages: Any, text: str):
    template = ChatTemplate.load(form)
    assert (template.name, template.origin) == (form, "plain")
    assert template.render(messages) == text
    assert plain(template.text, messages) == [text]


def test_the_prompt_of_a_plain_form_is_the_start_of_the_answer():
    assert ChatTemplate.load(FORM).render(MESSAGES[:1], add_generation_prompt=True) == "<|user|>hi\n<|assistant|>"
    assert ChatTemplate.load("{user}!").render(MESSAGES[:1], add_generation_prompt=True) == "hi!"


def test_the_segments_of_a_plain_form():
    assert [(s.role, s.separator, s.before, s.after) for s in parse("a {user}\n b{tool} c\n")] == [
        ("user", "", "a ", ""),
        ("tool", "\n ", "b", " c\n"),
    ]
    assert [(s.separator, s.before) for s in parse(" a{user}\n{assistant}")] == [("\n", " a"), ("\n", "")]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "tool", "content": "x"}], "the plain template has no field {tool_message}"),
        ([{"role": "user"}], "the plain template writes text, and the content of a message is none"),
        ([{"role": "user", "content": 3}], "the plain template writes text, and the content of a message is none"),
    ],
)
def test_the_plain_form_refuses_what_it_does_not_write(messages: Any, message: str):
    with pytest.raises(RenderError) as raised:
        ChatTemplate.load(FORM).render(messages)
    assert (str(raised.value), raised.value.code) == (message, "template.raised")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{user_message} {foo}", "the inline template has an unknown field `foo`"),
        ("{user_message!r}{user}", "the inline template has an unknown field `user_message`"),
        ("{user_message:>9}{user}", "the inline template has an unknown field `user_message`"),
        ("{user}{user_message}", "the inline template has the field `user_message` twice"),
        ("{user}{}", "the inline template has an unknown field ``"),
        ("{user} }", "the inline template `{user} }` does not parse: Single '}' encountered in format string"),
    ],
)
def test_a_plain_form_that_cannot_be_read_is_refused(form: str, message: str):
    with pytest.raises(UsageError) as raised:
        ChatTemplate.load(form)
    assert str(raised.value) == message
    assert raised.value.hint == (
        "fields are {system_message}, {developer_message}, {user_message}, {assistant_message}, {tool_message}, "
        "each at most once; `{{` and `}}` are braces"
    )


# what a template says of itself


def test_a_template_pickles_and_is_hashable():
    template = of(ECHO, special_tokens={"bos_token": "<s>"}, named={"default": ECHO, "rag": "R"}, revision="a" * 40)
    assert pickle.loads(pickle.dumps(template)) == template
    assert hash(template) == hash(of(ECHO, revision="a" * 40))
    assert pickle.loads(pickle.dumps(ChatTemplate.load("llama-3"))) == ChatTemplate.load("llama-3")


def test_the_hash_is_of_all_named_templates():
    hashes = {of("a").sha256, of("b").sha256, of("a", named={"default": "a"}).sha256, of("a", named={"x": "a"}).sha256}
    assert len(hashes) == 4
    assert of("a").sha256 == hashlib.sha256(b"a").hexdigest()


def test_what_a_template_reads_is_said():
    assert of("{{ strftime_now('%Y') }}").reads_date
    assert not of("{{ date_string }}").reads_date
    assert of("", named={"default": "x", "tool_use": "{{ strftime_now('%Y') }}"}).reads_date
    assert not of("", named={"default": "x", "rag": "{{ strftime_now('%Y') }}"}).reads_date
    assert of("{%- generation -%}x{% endgeneration %}").has_generation_tags
    assert not of("{%+ generation %}x{% endgeneration %}").has_generation_tags


# one conversation


def test_variables_win_over_special_tokens():
    template = of("{{ bos_token }}{{ x }}", special_tokens={"bos_token": "<s>"})
    assert template.render(MESSAGES, x=1) == "<s>1"
    assert template.render(MESSAGES, bos_token="<B>") == "<B>"


def test_a_render_shows_today_unless_the_template_has_a_date():
    text = "{{ strftime_now('%Y-%m-%d') }}"
    days = {datetime.date.today().isoformat()}
    rendered = of(text).render(MESSAGES)
    assert rendered in days | {datetime.date.today().isoformat()}
    assert of(text, date=datetime.date(2020, 2, 3)).render(MESSAGES) == "2020-02-03"
    assert plain(text, MESSAGES) == ["2024-07-26"]
    assert plain(text, MESSAGES, date=datetime.date(2020, 2, 3)) == ["2020-02-03"]


@pytest.mark.parametrize(
    ("text", "code", "message", "cause"),
    [
        ("{{ raise_exception('no\x1b[0m') }}", "template.raised", "no\x1b[0m", jinja2.TemplateError),
        ("{{ x.y }}", "template.error", "'x' is undefined", jinja2.UndefinedError),
        ("{{ 1 / 0 }}", "template.error", "division by zero", ZeroDivisionError),
        ("{% do %}", "template.error", "Encountered unknown tag 'do'.", jinja2.TemplateSyntaxError),
        ("{{ messages[5].x }}", "template.error", "list object has no element 5", jinja2.UndefinedError),
    ],
)
def test_what_a_template_raises_is_the_cause(text: str, code: str, message: str, cause: type[Exception]):
    with pytest.raises(RenderError) as raised:
        of(text).render(MESSAGES)
    error = raised.value
    assert (error.message, error.code, type(error.__cause__)) == (message, code, cause)
    assert error.hint == "`chatfmt templates probe t` shows what the template accepts"
    assert pickle.loads(pickle.dumps(error)).message == message


def test_the_engines_of_a_single_render():
    for engine in ("auto", "jinja", "trace"):
        assert of(ECHO).render(MESSAGES, engine=engine) == "hiyo"
    with pytest.raises(UnknownName) as raised:
        of(ECHO).render(MESSAGES, engine="jinjaa")
    assert (str(raised.value), raised.value.hint) == ("unknown engine `jinjaa`", "did you mean `jinja`?")


# columns


def test_a_null_conversation_gives_a_null_text():
    rendered = compile(of(ECHO), RenderOptions(engine="jinja"))(
        column(MESSAGES, None, MESSAGES), RenderRequest(spans=True)
    )
    assert rendered.text.to_pylist() == ["hiyo", None, "hiyo"]
    assert rendered.spans is not None and rendered.spans.to_pylist() == [[], None, []]


def test_a_bad_row_is_named_or_collected():
    rows = column(MESSAGES, [{"role": "user"}], MESSAGES, [{"role": "user"}])
    renderer = compile(of("{{ messages[0].content + '' }}"), RenderOptions(engine="jinja"))
    with pytest.raises(RenderError) as raised:
        renderer(rows)
    assert str(raised.value) == "row 1: 'dict object' has no attribute 'content'"
    failures: list[RenderError] = []
    assert renderer(rows, failures=failures).text.to_pylist() == ["hi", None, "hi", None]
    assert [failure.at.row for failure in failures] == [1, 3]
    assert all(isinstance(failure.__cause__, jinja2.UndefinedError) for failure in failures)


def test_template_kwargs_of_a_row_win_over_variables_and_tokens():
    renderer = JinjaRenderer(
        of("{{ bos_token }}{{ x }}", special_tokens={"bos_token": "<s>"}), RenderOptions(variables={"x": 1})
    )
    kwargs = json_columns.json_array([{"x": 2}, {}, {"bos_token": None}, None], [True, True, True, False])
    assert renderer(column(*[MESSAGES] * 4, template_kwargs=kwargs)).text.to_pylist() == [
        "<s>2",
        "<s>1",
        "None1",
        "<s>1",
    ]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tools": []}, "row 0: `template_kwargs` may not set `tools`"),
        ([1], "row 0: `template_kwargs` is not an object"),
    ],
)
def test_template_kwargs_that_no_template_may_have(kwargs: Any, message: str):
    with pytest.raises(RenderError) as raised:
        compile(of(ECHO), RenderOptions(engine="jinja"))(
            column(MESSAGES, template_kwargs=json_columns.json_array([kwargs]))
        )
    assert str(raised.value) == message


def test_rows_choose_among_named_templates_by_their_tools():
    template = of("D", named={"default": "D{{ tools }}", "tool_use": "T{{ tools }}"})
    tools = json_columns.json_array([None, [], [{"name": "f"}]], [False, True, True])
    rendered = compile(template, RenderOptions(engine="jinja"))(column(*[MESSAGES] * 3, tools=tools))
    assert rendered.text.to_pylist() == ["DNone", "T[]", "T[{'name': 'f'}]"]


@pytest.mark.parametrize(
    ("text", "bos", "kept", "spans"),
    [
        ("<s><s>a{% generation %}b{% endgeneration %}", "<s>", "<s>ab", [[4, 5]]),
        ("{% generation %}<s>b{% endgeneration %}", "<s>", "b", [[0, 1]]),
        (" <s>a", "<s>", " <s>a", []),
        ("<s>a", "", "<s>a", []),
        ("<s>a", None, "<s>a", []),
    ],
)
def test_one_bos_is_stripped(text: str, bos: str | None, kept: str, spans: Any):
    template = of(text, special_tokens={} if bos is None else {"bos_token": bos})
    rendered = compile(template, RenderOptions(engine="jinja", bos="strip"))(
        column(MESSAGES), RenderRequest(spans=True)
    )
    assert (rendered.text.to_pylist(), rendered.spans.to_pylist()) == ([kept], [spans])


def test_the_generation_prompt_of_a_call_overrules_the_options():
    renderer = compile(of("{{ add_generation_prompt }}"), RenderOptions(engine="jinja", generation_prompt=True))
    texts = [renderer(column(MESSAGES), RenderRequest(value)).text[0].as_py() for value in (None, True, False)]
    assert texts == ["True", "True", "False"]


def test_a_lone_surrogate_that_a_template_makes_is_refused():
    with pytest.raises(RenderError) as raised:
        plain("{{ '\\ud800' }}", MESSAGES)
    assert raised.value.code == "template.surrogate"


@pytest.mark.parametrize(
    ("text", "options", "kind", "message"),
    [
        (
            "{% if %}", {}, TemplateError,
            "the template `t` does not compile, line 1: Expected an expression, got 'end of statement block'",
        ),
        (
            "{{ [1]|random }}", {}, TemplateError,
            "the template `t` uses `random`, so its output differs from run to run",
        ),
        (
            ECHO, {"generation_prompt": True, "continue_final": True}, UsageError,
            "`--generation-prompt` and `--continue-final` exclude each other",
        ),
        (
            ECHO, {"variables": {"messages": 1}}, UsageError,
            "`messages` cannot be set as a template variable: it comes from the data",
        ),
        (ECHO, {"engine": "fast"}, UnknownName, "unknown engine `fast`"),
        (
            ECHO, {"engine": "trace", "continue_final": True}, UsageError,
            "`--engine trace` cannot render this: the end of the final message is found by Jinja",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_is_refused(text: str, options: Any, kind: type[Exception], message: str):
    with pytest.raises(kind) as raised:
        compile(of(text), RenderOptions(**options))
    assert str(raised.value).partition("\n")[0] == message
    assert kind is TemplateError or raised.value.hint


def test_spans_and_continuing_do_not_go_together():
    renderer = compile(of(ECHO), RenderOptions(continue_final=True))
    assert renderer(column(MESSAGES)).text.to_pylist() == ["hiyo"]
    with pytest.raises(UsageError, match="cannot be combined"):
        renderer(column(MESSAGES), RenderRequest(spans=True))


@pytest.mark.parametrize(
    ("options", "engine", "reason"),
    [
        ({}, "trace", "rows of a shape that was traced are replayed, Jinja renders the rest"),
        ({"engine": "trace"}, "trace", "asked for with `--engine trace`"),
        ({"engine": "jinja"}, "jinja", "asked for with `--engine jinja`"),
        ({"continue_final": "content"}, "jinja", "the end of the final message is found by Jinja"),
    ],
)
def test_the_engine_and_why(options: Any, engine: str, reason: str):
    template = of(ECHO)
    choice = choose_engine(RenderOptions(**options))
    renderer = compile(template, RenderOptions(**options))
    assert (choice.engine, choice.reason) == (engine, reason)
    assert type(renderer) is (TracedRenderer if engine == "trace" else JinjaRenderer)
