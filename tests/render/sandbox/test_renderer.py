# ruff: noqa: E501
"""The sandbox process: the same texts and errors as plain Jinja, and nothing in reach of a hostile template."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from chatfmt import json_columns, render
from chatfmt.errors import RenderError, TemplateError, UnknownName
from chatfmt.render import ChatTemplate, JinjaRenderer, RenderOptions
from chatfmt.render.sandbox import process as process_module
from chatfmt.render.sandbox import renderer as renderer_module
from chatfmt.render.sandbox.limits import OverLimit, SandboxLimits, compile_limited
from chatfmt.render.sandbox.renderer import SandboxRenderer
from chatfmt.render.sandbox.seccomp import ALLOWED, LEVELS, build_filter
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.trace.program import Program, Untraceable
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.render.trace.tracer import Inputs, trace
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.conftest import TRL_TEMPLATES, needs_trl

ADDRESS = re.compile("0x[0-9a-f]+")
LINUX = sys.platform == "linux" and os.uname().machine in ALLOWED
CHAT = [
    [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hé\u2028 <|im_end|>"}],
    [{"role": "user", "content": "2^70?"}, {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "pow", "arguments": {"x": 2**70, "y": 1.5, "z": None}}}]},
     {"role": "tool", "content": "1180591620717411303424"}],
    None,
    [],
    [{"role": "assistant", "content": "x", "reasoning_content": "because"}],
]  # fmt: skip
TOOLS = [None, [{"type": "function", "function": {"name": "pow", "parameters": {}}}], None, None, [{"name": "b"}]]
COLUMNS = ConversationBatch(
    json_columns.encode_conversations(CHAT), json_columns.json_array(TOOLS, [tools is not None for tools in TOOLS])
)


def template(text: str, **named: str) -> ChatTemplate:
    return ChatTemplate("untrusted", text, {"bos_token": "<s>", "eos_token": "</s>"}, named)


def outcomes(renderer: Any, chats: ConversationBatch, **request: Any) -> tuple[Any, Any, list[Any]]:
    """Texts, spans and errors, down to the cause."""
    failures: list[RenderError] = []
    rendered = renderer(chats, RenderRequest(**request), failures)
    errors = [
        (
            ADDRESS.sub("0x", e.message),
            e.hint,
            e.code,
            e.at,
            type(e.__cause__).__name__,
            ADDRESS.sub("0x", str(e.__cause__)),
        )
        for e in failures
    ]
    return rendered.text.to_pylist(), rendered.spans and rendered.spans.to_pylist(), errors


def both(template: ChatTemplate, options: RenderOptions, chats: ConversationBatch, **request: Any) -> tuple[Any, ...]:
    sandboxed = SandboxRenderer(template, options)
    try:
        return outcomes(sandboxed, chats, **request), outcomes(JinjaRenderer(template, options), chats, **request)
    finally:
        sandboxed.close()


CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
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


COSTLY = {
    "text": "{{ 'a' * 10**10 }}", "doubled": "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "added": "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "list": "{{ ([0] * 10**8) | length }}", "tuple": "{{ ((0, 1) * 10**9) | length }}", "power": "{{ 10 ** (10 ** 7) }}",
    "square": "{% set ns = namespace(n=3) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "if": "{% for i in range(9999) %}{% for j in range(9999) %}{% if i %}{% endif %}{% endfor %}{% endfor %}",
    "macro": "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 2) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "range": "{{ range(10**9) | list }}", "steps": "{{ range(0, 10**9, 2) | sum }}", "center": "{{ 'a'.center(10**10) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}", "zfill": "{{ '1'.zfill(width=10**10) if false else '1'.zfill(10**10) }}",
    "filter center": "{{ 'a' | center(10**10) }}", "filter indent": "{{ 'a\n' | indent(10**10, true) }}",
    "percent": "{{ '%10000000000s' % 'a' }}", "star": "{{ '%*s' % (10**10, 'a') }}", "format": "{{ '{:10000000000}'.format(1) }}",
    "nested format": "{{ '{:{}}'.format(1, 10**10) }}", "filter format": "{{ '%10000000000s' | format('a') }}",
    "format_map": "{{ '{a:10000000000}'.format_map({'a': 1}) }}", "precision": "{{ '%.10000000000f' % 1.0 }}",
    "replace": "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}", "filter replace": "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}",
    "join": "{{ ('a' * 10**6).join(['b'] * 10**5) }}", "expandtabs": "{{ ('\t' * 10**4).expandtabs(10**9) }}",
    "translate": "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}", "to_bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "batch": "{{ [1] | batch(10**9, 0) | list }}", "slice": "{{ [1] | slice(10**9) | list }}",
    "tojson": "{{ [[1]] | tojson(indent=10**10) }}", "output": "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
    "set block": "{% set x %}{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}{% endset %}",
    "filter join": "{{ (['a' * 10**5] * 10**6) | join }}", "lipsum": "{{ lipsum(n=10**9) }}", "random": "{{ [1, 2] | random }}",
    "words": "{{ ('a ' * 10**6) | wordwrap(1, wrapstring='b' * 10**6) }}", "lists": "{{ ([[0] * 999] * 10**6) | sum(start=[]) | length }}",
    "sort in loops": "{% set l = range(9999) | list %}{% for i in range(9999) %}{% for j in range(99) %}{% set x = l | sort %}{% endfor %}{% endfor %}",
}  # fmt: skip
CHEAP = SandboxLimits(seconds=2, steps=100_000)
ONE = ConversationBatch(json_columns.encode_conversations(CHAT[:1]))
PROCESS = ("lists", "sort in loops", "filter join", "macro", "text")
"""Templates that the counters alone do not stop (and two that they do): for the limits of the process."""


@pytest.mark.parametrize("name", [name for name in COSTLY if name not in PROCESS])
def test_costly_templates_are_refused_by_counting(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(OverLimit, match="the template "):
        compile_limited(COSTLY[name], CHEAP).render(messages=CHAT[0])
    assert time.process_time() - begun < 3


@pytest.mark.parametrize("name", PROCESS)
def test_a_costly_template_is_an_error_of_its_row(name: str) -> None:
    renderer = SandboxRenderer(template(COSTLY[name]), RenderOptions(), limits=CHEAP)
    texts, _, errors = outcomes(renderer, ONE)
    renderer.close()
    assert texts == [None]
    assert [error[2] for error in errors] == ["template.limit"]
    assert errors[0][0].startswith("the template ")


@pytest.mark.parametrize(
    "text",
    [
        "{% if false %}{{ 'a' * 2 * 10**8 }}{% endif %}ok",
        "{% if false %}{{ 'a'.center(3 * 10**8) }}{% endif %}ok",
        "{% if false %}{{ 10 ** 10 ** 7 }}{{ range(10**9) | list }}{% endif %}ok",
    ],
)
def test_nothing_is_computed_at_compile_time(text: str) -> None:
    begun = time.process_time()
    renderer = SandboxRenderer(template(text), RenderOptions())
    assert renderer(ONE).text.to_pylist() == ["ok"]
    renderer.close()
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" * 1_000_001, "it is longer than 1,000,000 characters"),
        ("{{ " + "not " * 300 + "1 }}", "it is nested deeper than 100 levels"),
        ("{{ 1" + " + 1" * 20_000 + " }}", ""),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", ""),
    ],
)
def test_sources_that_are_too_much(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        SandboxRenderer(template(text), RenderOptions())
    assert caught.value.code in ("template.limit", "template.syntax")
    assert message.replace("it is", "the template is") in caught.value.message


def test_a_row_that_is_too_slow_is_found_and_the_others_are_rendered() -> None:
    slow = "{% if messages[0].content == 'slow' %}{% set l = range(9999)|list %}{% for i in range(9999) %}" + (
        "{% for j in range(99) %}{% set x = l | sort %}{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}"
    )
    rows = [[{"role": "user", "content": "slow" if place == 3 else str(place)}] for place in range(6)]
    renderer = SandboxRenderer(template(slow), RenderOptions(), limits=SandboxLimits(seconds=1.5))
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


def test_required_isolation_is_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "BOOT", process_module.BOOT.replace(
        "from chatfmt.render.sandbox.worker import main",
        "from chatfmt.render.sandbox.worker import main\nimport chatfmt.render.sandbox.seccomp as seccomp\nseccomp._install_filter = lambda: False",
    ))  # fmt: skip
    with pytest.raises(TemplateError) as caught:
        SandboxRenderer(template("x"), RenderOptions(), isolation="required")
    assert caught.value.code == "template.isolation"
    assert caught.value.message == "this machine cannot isolate the template (level in force: `rlimits`)"
    renderer = SandboxRenderer(template("x"), RenderOptions(), isolation="auto")
    assert (renderer.level, renderer(ONE).text.to_pylist()) == ("rlimits", ["x"])
    renderer.close()


LANDLOCK = """
import importlib.util, os, socket, sys
spec = importlib.util.spec_from_file_location("seccomp", "chatfmt/render/sandbox/seccomp.py")
seccomp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seccomp)
new_path = sys.argv[1]
listening = socket.create_server(("127.0.0.1", 0))
if not seccomp._enforce_landlock():
    sys.exit("no Landlock")
attempts = [
    lambda: open("/etc/passwd"), lambda: open(new_path, "w"), lambda: os.listdir("/"), lambda: os.mkdir(new_path),
    lambda: socket.create_connection(listening.getsockname()), lambda: os.kill(os.getppid(), 0),
]
for attempt in attempts:
    try:
        attempt()
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(not LINUX, reason="Landlock is Linux")
def test_landlock_alone_forbids_files(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", LANDLOCK, str(tmp_path / "new")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60)
    if "no Landlock" in run.stderr:
        pytest.skip("this kernel has no Landlock")
    found = run.stdout.split()
    assert len(found) == 6
    assert list(tmp_path.iterdir()) == []
    assert found[:4] == ["PermissionError"] * 4  # the network since version 4, signals since version 6


PROBE = """
import importlib.util, json, os, resource, socket, sys, ctypes, subprocess, threading, mmap
spec = importlib.util.spec_from_file_location("seccomp", "chatfmt/render/sandbox/seccomp.py")
seccomp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seccomp)
attempts = {
    "open to read": lambda: open("/etc/passwd"), "open to write": lambda: open("/tmp/x", "w"),
    "listdir": lambda: os.listdir("/"), "stat": lambda: os.stat("/"), "unlink": lambda: os.unlink("/tmp/x"),
    "mkdir": lambda: os.mkdir("/tmp/xy"), "socket": lambda: socket.socket(), "socketpair": lambda: socket.socketpair(),
    "fork": os.fork, "exec": lambda: os.execv("/bin/true", ["true"]), "kill": lambda: os.kill(os.getppid(), 0),
    "kill self": lambda: os.kill(os.getpid(), 9), "spawn": lambda: subprocess.run(["/bin/true"]),
    "thread": lambda: threading.Thread(target=print).start(), "pipe": os.pipe, "dup": lambda: os.dup(0),
    "chdir": lambda: os.chdir("/"), "rlimit": lambda: resource.setrlimit(0, (1, 1)),
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC), "uid": lambda: os.setuid(1),
    "ptrace": lambda: 1 / (ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0) + 1),
    "memory": lambda: bytearray(1 << 30), "ioctl": lambda: os.get_terminal_size(0),
}
assert seccomp.lock_process(512 << 20).startswith("seccomp")
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "done"
    except BaseException as error:
        found[name] = type(error).__name__
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(not LINUX, reason="seccomp is Linux")
def test_a_locked_process_has_no_access_to_anything() -> None:
    import json

    root = str(Path(__file__).parents[3])
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=root, timeout=60)
    found = json.loads(run.stdout)
    assert len(found) == 23
    kinds = {name: kind for name, kind in found.items() if kind != "PermissionError"}
    assert kinds == {
        "rlimit": "ValueError",
        "thread": "RuntimeError",
        "ptrace": "ZeroDivisionError",
        "memory": "MemoryError",
    }


def test_the_filter_allows_the_listed_calls_and_nothing_else() -> None:
    """Runs the BPF program in Python, over every call number and both kinds of memory."""
    import struct

    def verdict(program: bytes, arch: int, number: int, prot: int) -> int:
        data = struct.pack("<iIQ6Q", number, arch, 0, 0, 0, prot, 0, 0, 0)
        code = [struct.unpack_from("HBBI", program, place) for place in range(0, len(program), 8)]
        place, register = 0, 0
        while True:
            kind, yes, no, value = code[place]
            place += 1
            if kind == 0x06:
                return int(value)
            if kind == 0x20:
                (register,) = struct.unpack_from("<I", data, value)
            else:
                place += yes if (register == value if kind == 0x15 else register & value) else no

    for machine, arch in (("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)):
        program, calls = build_filter(machine), ALLOWED[machine]
        for number in [*range(600), 0x40000000]:
            wanted = 0x7FFF0000 if number in calls.values() else 0x00050001
            assert verdict(program, arch, number, 3) == wanted
        for name in ("mmap", "mprotect"):
            assert verdict(program, arch, calls[name], 5) == 0x00050001
        assert verdict(program, arch, calls["read"], 4) == 0x7FFF0000
        assert verdict(program, 0x40000003, calls["read"], 0) == 0x80000000


def test_the_process_ends_with_its_owner() -> None:
    renderer = SandboxRenderer(template("x"), RenderOptions())
    pid = renderer._process._process.pid
    assert Path(f"/proc/{pid}").exists() or sys.platform != "linux"
    renderer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_template_cannot_read_the_environment_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    renderer = SandboxRenderer(template("x"), RenderOptions())
    pid = renderer._process._process.pid
    if sys.platform == "linux":
        assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
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


@pytest.mark.parametrize(
    ("options", "shares"), [({}, True), ({"bos": "strip"}, False), ({"variables": {"v": "w"}}, True)]
)
def test_sessions_share_the_process_of_the_engine(options: dict[str, Any], shares: bool) -> None:
    text = "{{ bos_token }}{{ v }}{% for m in messages %}{{ m.content }}|{% endfor %}"
    source, given = ChatTemplate("x", text, {"bos_token": "<s>"}, origin="file"), RenderOptions(**options)
    engine = render.compile(source, given, "auto")
    sessions = render.sessions_of(source, "auto", engine)
    assert isinstance(engine, TracedRenderer) and sessions is not None
    chat = Chat([{"role": "user", "content": "a"}], variables={"v": "u"} if "variables" in options else {})
    assert TemplateRenderer(source, given, sessions).text(chat) == TemplateRenderer(source, given).text(chat)
    assert (sessions._renderer(text, given.date) is engine.fallback) is shares
    assert sessions._renderer("other", given.date) is not engine.fallback
    sessions.close()
    assert (
        engine.fallback(ConversationBatch(json_columns.encode_conversations([chat.messages])))
        .text.to_pylist()[0]
        .endswith("a|")
    )


def test_a_template_that_does_not_compile_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    setups, start = [], renderer_module.SandboxProcess
    monkeypatch.setattr(renderer_module, "SandboxProcess", lambda *setup: setups.append(setup) or start(*setup))
    broken = template("{% break %}")
    renderer = TemplateRenderer(broken, RenderOptions(), render.sessions_of(broken, "auto"))
    for _ in range(3):
        with pytest.raises(TemplateError, match="does not compile"):
            renderer.text(Chat([{"role": "user", "content": "hi"}]))
    assert len(setups) == 1


def test_a_prestarted_process_serves_the_first_renderer_or_ends_with_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class RecordedPopen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            started.append(self)

    monkeypatch.setattr(process_module.subprocess, "Popen", RecordedPopen)
    untrusted = template("{% for m in messages %}{{ m.content }}{% endfor %}")
    with render.prestarted_sandbox(untrusted, "auto"):
        assert len(started) == 1
        renderer = SandboxRenderer(untrusted, RenderOptions())
        assert len(started) == 1 and started[0].poll() is None
        assert renderer(COLUMNS.slice(0, 1)).text.to_pylist() == ["Be terse.Hé\u2028 <|im_end|>"]
        second = SandboxRenderer(untrusted, RenderOptions())
        assert len(started) == 2
    assert started[0].poll() is None, "a process in use does not end with the block"
    renderer.close()
    second.close()
    with pytest.raises(ZeroDivisionError), render.prestarted_sandbox(untrusted, "auto"):
        assert len(started) == 3 and started[2].poll() is None
        raise ZeroDivisionError
    assert started[2].returncode is not None
    SandboxRenderer(untrusted, RenderOptions()).close()
    assert len(started) == 4, "an ended process is not used"
    for trusted, isolation in ((untrusted, "off"), (ChatTemplate.load("chatml"), "auto")):
        with render.prestarted_sandbox(trusted, isolation):
            assert len(started) == 4
