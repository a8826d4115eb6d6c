# ruff: noqa: E501
"""Templates that attack: the interpreter, the machine, the data, the next run. All through the command line, locked in.

Each follows text that shows the messages, so that what a harmless outcome prints is known to the character.
"""

from __future__ import annotations

import json

from .case import GOOD, Case, Error, Expected, Rows, lines

SHOWN = b"{% for m in messages %}{{ m.content }}{% endfor %}|"


def attack(name: str, text: str | bytes, expected: Expected) -> Case:
    source = SHOWN + (text if isinstance(text, bytes) else text.encode())
    return Case(
        name,
        {"in.jsonl": lines(GOOD), "t.jinja": source},
        expected,
        ("convert", "in.jsonl", "-t", "t.jinja", "-o", "out.jsonl"),
    )


def prints(text: str) -> Rows:
    return Rows([{"text": "hiyo|" + text}])


def raises(says: str = "") -> Error:
    return Error(4, "template.error", says)


def unsafe(name: str) -> Error:
    return raises(f"access to attribute '{name}' of ")


def over(says: str) -> Error:
    return Error(4, "template.limit", f"the template {says}")


def syntax(says: str) -> Error:
    return Error(6, "template.syntax", f"the template `t.jinja` does not compile{says}")


CHANCE = Error(6, "template.unprintable", "the template `t.jinja` uses `")
ADDRESS = Error(4, "template.unprintable", "the template prints <")
CHARACTERS, ITEMS, OUTPUT = (
    over("makes more than 8,000,000 characters"),
    over("makes more than 1,000,000 items"),
    over("makes more than 16,000,000 characters of output"),
)
COUNTS, STEPS, MEMORY, BITS = (
    over("counts to more than 10,000"),
    over("takes more than 1,000,000 steps"),
    over("needs more memory than it may have"),
    over("makes more than 4,096 bits of a number"),
)
RECURSION = syntax(": maximum recursion depth exceeded")
DEEP = Error(6, "template.limit", "the template `t.jinja` is refused: the template is nested deeper than 100 levels")
NO_LOADER = raises("no loader for this environment specified")
NOTHING = prints("")

ESCAPE: dict[str, tuple[str | bytes, Expected]] = {
    "class": ("{{ ''.__class__ }}", NOTHING),
    "mro": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", unsafe("__class__")),
    "class as item": ("{{ ''['__class__'] }}", NOTHING),
    "class by attr": ("{{ '' | attr('__class__') }}", NOTHING),
    "class by joined attr": ("{{ '' | attr('__cl' ~ 'ass__') }}", NOTHING),
    "class by format": ("{{ '{0.__class__}'.format('') }}", NOTHING),
    "class by format_map": ("{{ '{a.__class__}'.format_map({'a': ''}) }}", NOTHING),
    "class by a kept format": ("{% set f = '{0.__class__}'.format %}{{ f('') }}", NOTHING),
    "class by mapped format": ("{{ ['{0.__class__}'] | map('format', '') | list }}", raises("not all arguments converted")),
    "class by percent": ("{{ '%(a.__class__)s' % {'a': ''} }}", raises("'a.__class__'")),
    "class by map": ("{{ [''] | map(attribute='__class__') | list }}", prints("[Undefined]")),
    "class by sort": ("{{ [''] | sort(attribute='__class__') }}", prints("['']")),
    "class by groupby": ("{{ [''] | groupby('__class__') }}", prints("[(Undefined, [''])]")),
    "class by selectattr": ("{{ [''] | selectattr('__class__') | list }}", prints("[]")),
    "class by sum": ("{{ [''] | sum(attribute='__class__') }}", unsafe("__class__")),
    "class by unique": ("{{ [''] | unique(attribute='__class__') | list }}", prints("['']")),
    "class by max": ("{{ [''] | max(attribute='__class__') }}", NOTHING),
    "class by join": ("{{ [''] | join(',', attribute='__class__') }}", NOTHING),
    "globals of cycler": ("{{ cycler.__init__.__globals__ }}", unsafe("__init__")),
    "globals of joiner": ("{{ joiner.__init__.__globals__ }}", unsafe("__init__")),
    "globals of namespace": ("{{ namespace.__init__.__globals__ }}", unsafe("__init__")),
    "globals of our function": ("{{ raise_exception.__globals__ }}", NOTHING),
    "closure of the clock": ("{{ strftime_now.__closure__ }}", NOTHING),
    "code of a macro": ("{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}", unsafe("_func")),
    "caller": ("{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}", NOTHING),
    "context of self": ("{{ self._TemplateReference__context }}", NOTHING),
    "self": ("{{ self.__dict__ }}", NOTHING),
    "frame of a generator": ("{{ (messages | map('string')).gi_frame }}", NOTHING),
    "code of a generator": ("{{ (messages | map('string')).gi_code }}", NOTHING),
    "self of a method": ("{{ messages.count.__self__ }}", NOTHING),
    "loop": ("{% for m in messages %}{{ loop.__class__ }}{% endfor %}", NOTHING),
    "class of a number": ("{{ (1).__add__ }}", NOTHING),
    "class of a dict": ("{{ messages[0].__class__ }}", NOTHING),
    "class of dict": ("{{ dict.__class__ }}", NOTHING),
    "builtins": ("{{ __builtins__ }}", NOTHING),
    "import": ("{{ __import__('os') }}", raises("'__import__' is undefined")),
    "open": ("{{ open('/etc/passwd').read() }}", raises("'open' is undefined")),
    "eval": ("{{ eval('1') }}", raises("'eval' is undefined")),
    "exec": ("{{ exec('1') }}", raises("'exec' is undefined")),
    "config": ("{{ config }}{{ request }}{{ url_for }}", NOTHING),
    "debug": ("{% debug %}", syntax(", line 1: Encountered unknown tag 'debug'")),
}  # fmt: skip
LOAD: dict[str, tuple[str | bytes, Expected]] = {
    "include": ("{% include '/etc/passwd' %}", NO_LOADER),
    "include, missing allowed": ("{% include 'x' ignore missing %}", NO_LOADER),
    "import": ("{% import 'x' as x %}", NO_LOADER),
    "from import": ("{% from 'x' import y %}", NO_LOADER),
    "extends": ("{% extends 'x' %}", NO_LOADER),
    "do": ("{% do messages.append(1) %}", syntax(", line 1: Encountered unknown tag 'do'")),
    "trans": ("{% trans %}x{% endtrans %}", syntax(", line 1: Encountered unknown tag 'trans'")),
    "autoescape": ("{% autoescape true %}<{% endautoescape %}", prints("<")),
}  # fmt: skip
CHANGE: dict[str, tuple[str | bytes, Expected]] = {
    "append": ("{{ messages.append(1) }}", unsafe("append")),
    "pop": ("{{ messages.pop() }}", unsafe("pop")),
    "clear": ("{{ messages.clear() }}", unsafe("clear")),
    "sort": ("{{ messages.sort() }}", unsafe("sort")),
    "insert": ("{{ messages.insert(0, 1) }}", unsafe("insert")),
    "update": ("{{ messages[0].update({'role': 'x'}) }}", unsafe("update")),
    "setdefault": ("{{ messages[0].setdefault('x', 1) }}", unsafe("setdefault")),
    "popitem": ("{{ messages[0].popitem() }}", unsafe("popitem")),
    "item": ("{% set messages[0] = 1 %}", syntax(", line 1: expected token")),
    "attribute": ("{% set messages.x = 1 %}", raises("cannot assign attribute on non-namespace object")),
    "namespace with _": ("{% set ns = namespace(_x=1) %}", raises("Chat templates cannot store underscore-prefixed attributes")),
    "namespace, later _": ("{% set ns = namespace() %}{% set ns._x = 1 %}", raises("Chat templates cannot store underscore-prefixed attributes")),
    "namespace from a dict with _": ("{% set ns = namespace({'__class__': 1}) %}", raises("Chat templates cannot store underscore-prefixed attributes")),
}  # fmt: skip
CHANCE_: dict[str, tuple[str | bytes, Expected]] = {
    "random": ("{{ [1, 2] | random }}", CHANCE),
    "lipsum": ("{{ lipsum() }}", CHANCE),
    "address of a method": ("{{ messages.count }}", ADDRESS),
    "address of a function": ("{{ raise_exception }}", ADDRESS),
    "address of a generator": ("{{ messages | map('string') }}", ADDRESS),
    "address of a cycler": ("{{ cycler(1) }}", ADDRESS),
    "address of a joiner": ("{{ joiner() }}", ADDRESS),
    "address of a macro": ("{% macro m() %}{% endmacro %}{{ m }}", prints("<Macro 'm'>")),
    "address as text": ("{{ (messages.count ~ '') | length > 0 }}{{ messages.count | string }}", ADDRESS),
    "the clock": ("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}", prints("2024-07-26 00:00:00")),
    "the clock, to the microsecond": ("{{ strftime_now('%f') }}", prints("000000")),
    "hash of a set": ("{{ {'a': 1} | xmlattr }}", prints(' a="1"')),
    "random in a branch": ("{% if false %}{{ [1] | random }}{% endif %}ok", CHANCE),
}  # fmt: skip
SIXTY = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = BUILT %}{% endfor %}"
SHARED = {
    "a list": "[ns.a, ns.a]",
    "a tuple": "(ns.a, ns.a)",
    "a dict": "{'x': ns.a, 'y': ns.a}",
    "a list and plus": "[ns.a] + [ns.a]",
    "a list and times": "[ns.a] * 2",
    "dict": "dict(x=ns.a, y=ns.a)",
    "fromkeys": "{}.fromkeys('ab', ns.a)",
    "values": "{'x': ns.a, 'y': ns.a}.values()",
    "cycler": "cycler(ns.a, ns.a).items",
    "batch": "[1] | batch(3, ns.a) | first",
    "slice": "[1] | slice(3, ns.a) | list",
    "map and list": "['', ''] | map('default', ns.a, true) | list",
    "map and batch": "['', ''] | map('default', ns.a, true) | batch(2) | first",
    "map and sort": "[{}, {}] | map(attribute='x', default=ns.a) | sort",
    "sum": "[[ns.a], [ns.a]] | sum(start=[])",
}  # fmt: skip
"""What holds `ns.a` twice."""
NESTED: dict[str, tuple[str | bytes, Expected]] = {
    **{f"nesting by {name}": (SIXTY.replace("BUILT", text) + "{{ ns.a }}", ITEMS) for name, text in SHARED.items()},
    **{
        f"nesting by {name}": (
            "{% set ns = namespace(a=[1]) %}{% macro m() %}{% set ns.a = NAME %}{% endmacro %}".replace("NAME", name)
            + "{% for i in range(60) %}{{ m(" + call + ") }}{% endfor %}{{ ns.a | tojson }}",
            ITEMS,
        )
        for name, call in (("varargs", "ns.a, ns.a"), ("kwargs", "x=ns.a, y=ns.a"))
    },
    "nesting and comparing": (
        SIXTY.replace("BUILT", "[ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b]") + "{{ ns.a == ns.b }}", ITEMS,
    ),
    "nesting namespaces": (SIXTY.replace("BUILT", "namespace(x=ns.a, y=ns.a)") + "{{ ns.a }}", STEPS),
    "nesting namespaces in lists": (
        SIXTY.replace("BUILT", "namespace(x=[ns.a, ns.a])") + "{{ [ns.a] | string | length }}", STEPS,
    ),
    "a list that grows": (
        "{% set ns = namespace(a=[]) %}{% for i in range(3000) %}{% set ns.a = ns.a + [{'x': [i, [i]]}] %}{% endfor %}{{ ns.a | length }}",
        prints("3000"),
    ),
    "a deep list": (SIXTY.replace("BUILT", "[ns.a]") + "{{ ns.a | string | length }}", prints("123")),
}  # fmt: skip
COSTS: dict[str, tuple[str | bytes, Expected]] = {
    "text": ("{{ 'a' * 10**10 }}", CHARACTERS),
    "text, turned": ("{{ 10**10 * 'a' }}", CHARACTERS),
    "list": ("{{ [0] * 10**9 }}", ITEMS),
    "tuple": ("{{ (0,) * 10**9 }}", ITEMS),
    "power": ("{{ 9 ** 9 ** 9 }}", prints(str((9**9) ** 9))),
    "squares": ("{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}", BITS),
    "doubling": ("{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}", CHARACTERS),
    "doubling by plus": ("{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}", CHARACTERS),
    "doubling a list": ("{% set ns = namespace(t=[1]) %}{% for i in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}", ITEMS),
    "doubling by join": ("{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = [ns.t, ns.t] | join %}{% endfor %}", CHARACTERS),
    "doubling by format": ("{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = '%s%s' % (ns.t, ns.t) %}{% endfor %}", CHARACTERS),
    "doubling by replace": ("{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = ns.t | replace('a', 'aa') %}{% endfor %}", CHARACTERS),
    "doubling by a block": ("{% set x = 'ab' %}{% for i in range(99) %}{% endfor %}{% macro d(t, n) %}{% if n %}{{ d(t ~ t, n - 1) }}{% else %}{{ t }}{% endif %}{% endmacro %}{{ d('ab', 60) }}", CHARACTERS),
    "a huge range": ("{% for i in range(10**12) %}{% endfor %}", COUNTS),
    "a range as a list": ("{{ range(10**9) | list }}", COUNTS),
    "sum of a range": ("{{ range(10**9) | sum }}", COUNTS),
    "length of a range": ("{{ range(10**9) | length }}", COUNTS),
    "loops in loops": ("{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}", STEPS),
    "a joiner": ("{% set j = joiner(',' * 10**6) %}{% for a in range(9999) %}{{ j() }}{% endfor %}", OUTPUT),
    "recursion of a macro": ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", raises("maximum recursion depth exceeded")),
    "a recursive loop": ("{% for m in [[[[[]]]]] recursive %}{{ loop(m) }}{{ loop(m) }}{% endfor %}", NOTHING),
    "a loop over itself": ("{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}", raises("maximum recursion depth exceeded")),
    "center": ("{{ 'a'.center(10**10) }}", CHARACTERS),
    "ljust": ("{{ 'a'.ljust(10**10) }}", CHARACTERS),
    "zfill": ("{{ '1'.zfill(10**10) }}", CHARACTERS),
    "expandtabs": ("{{ '\t'.expandtabs(10**10) }}", CHARACTERS),
    "filter center": ("{{ 'a' | center(10**10) }}", CHARACTERS),
    "indent": ("{{ 'a\n' | indent(10**10) }}", CHARACTERS),
    "percent": ("{{ '%10000000000d' % 1 }}", CHARACTERS),
    "format": ("{{ '{:>10000000000}'.format(1) }}", CHARACTERS),
    "precision": ("{{ '{:.10000000000f}'.format(1.0) }}", CHARACTERS),
    "to_bytes": ("{{ (1).to_bytes(10**10, 'big') }}", CHARACTERS),
    "replace nothing": ("{{ ('a' * 10**6).replace('', 'b' * 10**6) }}", CHARACTERS),
    "translate": ("{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}", CHARACTERS),
    "tojson": ("{{ [[[1]]] | tojson(indent=10**10) }}", over("makes more than 1,000 characters of indent")),
    "batch": ("{{ [1] | batch(10**9, 0) | list }}", over("makes more than 10,000 items")),
    "slice": ("{{ [1] | slice(10**9) | list }}", over("makes more than 10,000 items")),
    "round": ("{{ 1.5 | round(10**9) }}", prints("1.5")),
    "round to a large power": ("{{ 7 | round(-99999999) }}", over("makes more than 4,096 digits of a number")),
    "round up": ("{{ 7 | round(method='ceil', precision=99999999) }}", over("makes more than 4,096 digits of a number")),
    "int of a long text": ("{{ ('9' * 10**6) | int }}", prints("0")),
    "filesizeformat": ("{{ (10**400) | filesizeformat }}", raises("int too large to convert to float")),
    "wordwrap": ("{{ ('a ' * 10**6) | wordwrap(1, wrapstring='b' * 10**6) }}", STEPS),
    "truncate": ("{{ 'a' | truncate(10**10) }}", prints("a")),
    "output": ("{% for i in range(9999) %}{{ 'a' * 10**4 }}{% endfor %}", OUTPUT),
    "output in a block": ("{% set x %}{% for i in range(9999) %}{{ 'a' * 10**4 }}{% endfor %}{% endset %}", OUTPUT),
    "output by a filter block": ("{% filter upper %}{% for i in range(9999) %}{{ 'a' * 10**4 }}{% endfor %}{% endfilter %}", OUTPUT),
    "a hex number as text": ("{{ ('f' * 7900000)|int(0, 16) // 7 }}", over("makes more than 65,536 bits of a number")),
    "a bit shift by power": ("{{ 2 ** 5000 }}", BITS),
    "negative power": ("{{ 2 ** -10**9 }}", prints("8.077935669463161e-28")),
    "a float too large": ("{{ 10.0 ** 400 }}", raises("(34, ")),
    "division by zero": ("{{ 1 // 0 }}", raises("integer division or modulo by zero")),
}  # fmt: skip
SOURCE: dict[str, tuple[str | bytes, Expected]] = {
    "folding": ("{% if false %}{{ 'a' * 2 * 10**8 }}{% endif %}ok", prints("ok")),
    "folding a filter": ("{% if false %}{{ 'a' | center(3 * 10**8) }}{% endif %}ok", prints("ok")),
    "folding a power": ("{% if false %}{{ 9 ** 9 ** 9 }}{% endif %}ok", prints("ok")),
    "folding a range": ("{% if false %}{{ range(10**9) | list }}{% endif %}ok", prints("ok")),
    "too long": ("a" * 250_001, Error(6, "template.limit", "the template `t.jinja` is refused: the template is longer than 250,000 characters")),
    "deep parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", RECURSION),
    "many terms": ("{{ 1" + " + 1" * 20_000 + " }}", DEEP),
    "many nots": ("{{ " + "not " * 3000 + "1 }}", RECURSION),
    "many filters": ("{{ 'a'" + " | upper" * 5000 + " }}", DEEP),
    "many ifs": ("{% if true %}" * 300 + "x" + "{% endif %}" * 300, RECURSION),
    "many loops": ("{% for a in [1] %}" * 60 + "x" + "{% endfor %}" * 60, syntax(": too many statically nested blocks")),
    "deep lists": ("{{ " + "[" * 3000 + "]" * 3000 + " }}", RECURSION),
    "many attributes": ("{{ a" + ".b" * 5000 + " }}", DEEP),
    "not closed": ("{% if true %}", syntax(", line 1: Unexpected end of template")),
    "not a tag": ("{% boom %}", syntax(", line 1: ")),
    "not an expression": ("{{ }}", syntax(", line 1: ")),
    "an unknown filter": ("{{ 1 | nope }}", syntax(", line 1: ")),
    "an unknown test": ("{{ 1 is nope }}", syntax(", line 1: ")),
    "a NUL": ("a\0b", prints("a\0b")),
    "only a comment": ("{# x #}", NOTHING),
    "nothing": ("", NOTHING),
    "a break outside": ("{% break %}", syntax(": 'break' outside loop")),
    "an assignment to nothing": ("{% set = 1 %}", syntax(", line 1: ")),
    "a comment that stays open": ("{# x", syntax(", line 1: ")),
    "raw that stays open": ("{% raw %}x", syntax(", line 1: ")),
    "a name twice": ("{% macro m(a, a) %}{% endmacro %}", syntax(": duplicate argument")),
    "a block twice": ("{% block b %}{% endblock %}{% block b %}{% endblock %}", syntax(", line 1: ")),
    "not UTF-8": (b"\xff{{ 1 }}", Error(3, "", "`t.jinja` is not UTF-8")),
}  # fmt: skip
TEXTS: dict[str, str] = {
    "an expression": "{{ 7 * 7 }}",
    "a statement": "{% for i in range(10**12) %}{% endfor %}",
    "a comment": "{# x #}",
    "raw": "{% raw %}",
    "the end of raw": "{% endraw %}{{ 7 }}",
    "a generation tag": "{% generation %}",
    "a class": "{{ ''.__class__ }}",
    "an address": "<function f at 0x7f0000000000>",
}  # fmt: skip
"""What people wrote is text, however much it looks like a template."""


def content(name: str, text: str) -> Case:
    row = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    return Case(
        f"content, {name}",
        {"in.jsonl": lines(row), "t.jinja": SHOWN},
        Rows([{"text": text + "|"}]),
        ("convert", "in.jsonl", "-t", "t.jinja", "-o", "out.jsonl"),
    )


NO_DEFAULT = {"in.jsonl": lines(GOOD), "m/tokenizer_config.json": json.dumps({"chat_template": [{"name": "\x1b[31m", "template": "x"}]}).encode()}  # fmt: skip
CASES: list[Case] = [
    Case("a model without a default", NO_DEFAULT, Error(6, "", "the model `m` has several chat templates and none is the default"), ("convert", "in.jsonl", "-t", "m", "-o", "out.jsonl")),
    *(attack(f"{group}, {name}", text, expected) for group, table in (("escape", ESCAPE), ("load", LOAD), ("change", CHANGE), ("chance", CHANCE_), ("costs", COSTS), ("costs", NESTED), ("source", SOURCE)) for name, (text, expected) in table.items()),
    *(content(name, text) for name, text in TEXTS.items()),
]  # fmt: skip
