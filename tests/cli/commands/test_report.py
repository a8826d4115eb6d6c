"""`report`: one page that runs nothing from the data, in a browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import MissingExtra
from chatfmt.pipeline.inspection.report import charts

from ...conftest import EVERYDAY, run_cli, succeed

needs_charts = pytest.mark.skipif(find_spec("vl_convert") is None, reason='no charts: pip install -e ".[report]"')

MARKUP = (
    "</script><script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 2'>", "</style><b>bold</b>",
    "<!--<script>", "{{ 7 * 7 }}{% raw %}", "javascript:window.pwned=3", "\u2028alert(1)\u2029", "<svg onload=pwned=4>",
    "</pre></table><iframe src=//example.invalid>", "&lt;b&gt; \"'` \\u003c", "\x00\x1b[31m\u202e",
)  # fmt: skip


def hostile(text: str, row: int) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": text * (1 + 500 * (row == 3))},
        {"role": "assistant", "content": f"{text}\n\t ok"},
    ]
    calls = [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": text, "arguments": {text: 1}}}]}]
    return {"messages": turns + calls * (row % 2), text: text, "tags": [text], "tools": [{"name": text}]}


def test_without_charts_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtra) as raised:
        charts.check_installed()
    assert 'pip install "chatfmt[report]"' in raised.value.hint


@needs_charts
def test_convert_writes_a_report_too(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    )
    refused = [
        (["convert", source, "--report", "r.json"], "`r.json` has another suffix\nhint: r.html\n"),
        (["convert", "-", "--report", "r.html"], "stdin can be read once\nhint: name a file\n"),
        (["report", source, "-o", "none/r.html"], "error: the folder `none` does not exist\nhint: mkdir -p none\n"),
    ]
    for arguments, said in refused:
        run = run_cli(*arguments, cwd=tmp_path)
        assert run.returncode in (2, 5) and run.stderr.decode().endswith(said)
    run = succeed(run_cli("convert", source, "-t", "chatml", "-o", "out", "--report", "r.html", cwd=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out", "r.html"]
    places = ("-t", "chatml", "-t", "qwen3", "-o", "new/{template}/", "--report", "new/{template}.html")
    succeed(run_cli("convert", source, *places, cwd=tmp_path))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "chatml", "chatml.html", "qwen3", "qwen3.html",
    ]  # fmt: skip
    page = (tmp_path / "r.html").read_text()
    assert "turns with <code>role</code> and <code>content</code>" in page
    assert "<script src" not in page and "http://" not in page.replace("http://www.w3.org/", "")
    again = run_cli("report", source, "-t", "chatml", "-o", "again.html", "--workers", "1", cwd=tmp_path)
    assert (again.returncode, (tmp_path / "again.html").read_text()) == (0, page)
    message = "error: `r.html` already exists\nhint: replace it with `--overwrite`, or name another page\n"
    for command in (["convert", source, "-o", "other", "--report", "r.html"], ["report", source, "-o", "r.html"]):
        run = run_cli(*command, cwd=tmp_path)
        assert (run.returncode, run.stderr.decode(), (tmp_path / "r.html").read_text()) == (5, message, page)
        assert run_cli(*command, "--overwrite", cwd=tmp_path).returncode == 0
        assert (tmp_path / "r.html").read_text() != page
        (tmp_path / "r.html").write_text(page)


@needs_charts
@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("everyday.jsonl -t gemma --fit", "everyday.jsonl -t gemma --fit -o everyday-gemma/"),
        (
            "everyday.jsonl -t qwen3 --var a=1 --to prompt",
            "everyday.jsonl --var a=1 --to prompt -t qwen3 -o everyday-qwen3/",
        ),
        ("tools.jsonl --for trl-sft", "tools.jsonl --for trl-sft -o tools-trl-sft/"),
        ("tools.jsonl --for trl-sft -t qwen3", "tools.jsonl --for trl-sft -t qwen3 -o tools-trl-sft/"),
    ],
)
def test_a_report_names_the_command_that_converts_as_it_did(tmp_path: Path, arguments: str, command: str) -> None:
    assert run_cli("report", *arguments.split(), "-o", tmp_path / "r.html", cwd=EVERYDAY.parent).returncode == 0
    assert f"<code>chatfmt convert {command}</code>" in (tmp_path / "r.html").read_text()


@needs_charts
def test_what_drops_long_rows_names_the_limit_too(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"w": 0}, unk_token="w"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "t.json"))
    options = ["-t", "chatml", "--tokenizer", "t.json", "--max-tokens", "9", "-o", "r.html"]
    assert run_cli("report", EVERYDAY, *options, cwd=tmp_path).returncode == 0
    flags = "<code>--tokenizer t.json --max-tokens 9 --over-length split-turns</code>"
    assert flags in (tmp_path / "r.html").read_text()


@needs_charts
def test_a_row_with_a_warning_that_is_rejected_is_shown_once(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, *[{"role": "assistant", "content": "a"}] * 2]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"messages": turns[:count]}) + "\n" for count in (2, 3, 2)))
    assert run_cli("report", "in.jsonl", "-t", "gemma", cwd=tmp_path).returncode == 0
    page = (tmp_path / "report.html").read_text()
    rows = json.loads(re.search('id="data">(.*?)</script>', page)[1])
    assert [row["row"] for row in rows] == [0, 1, 2] and rows[1]["why"] == ["msg.order", "template.raised"]
    assert "00m</text>" not in page, "an axis of counts has no thousandths"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on a corpus whose every text, key and name is an attack, or looks like one."""
    pytest.importorskip("vl_convert", reason='no charts: pip install -e ".[report]"')
    folder = tmp_path_factory.mktemp("report")
    source = folder / "<img src=x onerror=pwned=5>.jsonl"
    rows = [hostile(text, number) for number, text in enumerate(MARKUP * 2)]
    bad = ["{<script>window.pwned = 6</script>", json.dumps({"messages": [{"role": "<b>", "content": "x"}]})]
    source.write_text("\n".join([*map(json.dumps, rows), *bad]) + "\n")
    succeed(run_cli("report", source, "-t", "qwen3", "--fit", "--keep", "tags", "-o", folder / "report.html"))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason='no browser: pip install -e ".[browser]"')
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser: apt-get install chromium")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def load(browser: Any, page: Path, **context: Any) -> tuple[Any, list[str]]:
    """Open the page and collect whatever it does beyond showing itself."""
    shown, events = browser.new_context(**context).new_page(), []
    shown.on("console", lambda message: events.append(message.text))
    shown.on("pageerror", lambda error: events.append(str(error)))
    shown.on("dialog", lambda dialog: events.append(dialog.message))
    shown.on("request", lambda request: events.append(request.url) if request.url != page.as_uri() else None)
    shown.goto(page.as_uri())
    return shown, events


def test_hostile_text_stays_text(browser: Any, page: Path) -> None:
    shown, events = load(browser, page, viewport={"width": 1440, "height": 900})
    rows = shown.locator("#list button").count()
    assert rows == 2 * len(MARKUP) + 2
    for number in range(rows):
        shown.locator("#list button").nth(number).click()
        said = shown.locator("#row .messages .said").first
        if number < 2 * len(MARKUP):
            assert MARKUP[number % len(MARKUP)][1:20] in said.text_content()
    shown.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert shown.evaluate("window.pwned") is None and events == []
    assert shown.locator("iframe, #row img, #row script, main b").count() == 0
    assert page.stat().st_size < 3_000_000


def test_characters_that_a_page_obeys_are_shown_in_names(page: Path) -> None:
    outside = re.sub("<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert "\\x00\\x1b[31m\\u202e" in outside
    assert {character for character in outside if not character.isprintable()} == {"\n"}


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits(browser: Any, page: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    shown, _ = load(browser, page, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    shown.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    found = axe.run(shown)
    assert found.violations_count == 0, found.generate_report()
    assert shown.evaluate("document.documentElement.scrollWidth") == width


def test_messages_without_a_text_have_the_width_of_the_row(browser: Any, tmp_path: Path) -> None:
    assert run_cli("preview", EVERYDAY, "--html", tmp_path / "p.html").returncode == 0
    shown, _ = load(browser, tmp_path / "p.html", viewport={"width": 1440, "height": 900})
    raw, messages = (shown.locator(f".pane.{name}").bounding_box()["width"] for name in ("raw", "messages"))
    assert raw == messages


def test_rows_are_found_by_reason_by_text_and_by_key(browser: Any, page: Path) -> None:
    shown, events = load(browser, page, viewport={"width": 1440, "height": 900})
    shown.select_option("#why", "json.syntax")
    assert shown.locator("#count").text_content() == "1 of 24 rows on this page"
    assert shown.locator("#row .trouble").text_content().startswith("Cannot be converted: not JSON")
    shown.select_option("#why", "msg.role")
    assert shown.locator("#row .trouble code").all_text_contents() == ["<b>"]
    shown.select_option("#why", "")
    shown.fill("#search", "ONLOAD=pwned")
    assert shown.locator("#list button").count() == 2
    shown.fill("#search", "")
    shown.locator("#list button").first.focus()
    shown.keyboard.press("ArrowDown")
    assert shown.locator("#row h3").text_content() == "Row 1 (line 2) "
    assert shown.locator("#row mark").count() > 0 and shown.locator("#row .special").count() > 0
    shown.locator("#white").uncheck()
    assert "show-white" not in shown.locator("#row").get_attribute("class") and events == []
