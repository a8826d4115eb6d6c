"""`chatfmt doctor`: what chatfmt has on this machine, and whether it works."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ...errors import ChatfmtError, DataProblem
from .. import settings, terminal
from ..options import AsJson

SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD")
"""Names of environment variables whose values are not shown."""
SELF_TEST = {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]}
JINJA = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
PASSED = "passed"
WANTED = "user: Hi!\nassistant: Hello.\n"


def doctor(as_json: AsJson = False) -> None:
    """Show versions, extras, folders and the isolation of templates on this machine, and convert a row as a test.

    Exit code 1 if the test fails.
    """
    level, result = self_test()
    found = {"schema": 1, **dict(facts()), "template_isolation": level, "self_test": result}
    if as_json:
        terminal.print_json(found)
    else:
        shown = ((key.replace("_", " "), _line(value)) for key, value in found.items() if key != "schema")
        terminal.console().print(terminal.table(("what", "on this machine"), shown))
    if result != PASSED:
        raise DataProblem("the self-test failed")


def facts() -> Iterator[tuple[str, object]]:
    """Yield what is there, by name; nothing here is secret."""
    from huggingface_hub import constants, get_token

    from ...pipeline import cores

    yield "chatfmt", _installed("chatfmt")
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    core, extras = requirements()
    yield "packages", core
    yield "extras", extras
    yield "cores", cores()
    scratch = Path(tempfile.gettempdir())
    yield "scratch", f"{scratch} ({shutil.disk_usage(scratch).free / 1e9:.0f} GB free)"
    yield "hub_cache", str(constants.HF_HUB_CACHE)
    yield "hub_token", "present" if get_token() else "none"
    config = settings.config_file()
    yield "configuration", "switched off" if config is None else f"{config}{'' if config.is_file() else ' (none)'}"
    names = sorted(name for name in os.environ if name.startswith((settings.PREFIX, "HF_")))
    yield "environment", {name: _shown(name, os.environ[name]) for name in names}


def _shown(name: str, value: str) -> str:
    """Return the value, or `set` if it may hold a secret."""
    return "set" if SECRET.search(name) or "@" in value else value


def requirements() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return the installed version of each dependency, and of those of each extra for users."""
    from importlib.metadata import requires

    core: dict[str, str] = {}
    extras: dict[str, dict[str, str]] = {}
    for line in requires("chatfmt") or ():
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == [\"'](\w+)[\"']", line)
        if name and not (extra and extra[1] in ("test", "lint", "trainers", "browser")):
            (extras.setdefault(extra[1], {}) if extra else core)[name[0]] = _installed(name[0])
    return core, extras


def _installed(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def self_test() -> tuple[str, str]:
    """Convert a row to a folder with a template file; return the isolation of the template and PASSED or a reason."""
    import pyarrow.parquet as pq

    from ...pipeline import Scratch, convert
    from ...recipe import Recipe
    from ...render import ChatTemplate, RenderOptions, SandboxRenderer

    level = "none"
    with Scratch() as scratch:
        source, template, out = (scratch.folder / name for name in ("row.jsonl", "own.jinja", "out"))
        source.write_text(json.dumps(SELF_TEST) + "\n", encoding="utf-8")
        template.write_text(JINJA, encoding="utf-8")
        try:
            level = SandboxRenderer(ChatTemplate.load(template), RenderOptions()).level
            convert(Recipe(source=str(source), template=str(template)), out=out)
            texts = pq.read_table(next(out.rglob("*.parquet")))["text"].to_pylist()
        except (ChatfmtError, OSError) as error:
            return level, f"failed: {error}"
    return level, PASSED if texts == [WANTED] else f"failed: the text is {texts!r}"


def _line(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(
        f"{name} ({_line(each)})" if isinstance(each, dict) else f"{name} {each}" for name, each in value.items()
    )
