"""Text and spans of every template under `--templates DIR`, against transformers and an oracle that knows no markers.

Where a template has tags, its spans must be those that transformers finds by them. Elsewhere each message holds words
of its own. A span must hold the words of answers and no others, begin where the text with the generation prompt ends,
and reach beyond the last word of its answer if the template prints anything there that is not the next message.
`pytest --templates DIR -s` prints the counts.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import ChatfmtError
from chatfmt.json_columns import encode_conversations, json_array
from chatfmt.render import RenderOptions, compile
from chatfmt.render.masks.renderer import MaskedRenderer
from chatfmt.render.masks.spans import together
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.tagging.tagger import tag_template
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.render.oracle import NOW, TAG, TOKENS, expected

FOLDER = os.environ.get("CHATFMT_TEMPLATES")
ASKED, SAID = re.compile(r"zq\w+?qz"), re.compile(r"xa\w+?ax")
SUPPLIED = re.compile(r"\s*(?:<[^<>]{1,30}>|\[/?THINK\])?\s*(?:thought\s*)?(?:<[^<>]{1,30}>|\[/?THINK\])?\s*")
"""What a template may print between its generation prompt and an answer: a block of reasoning without text."""
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "zqtoolqz",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "look", "arguments": {"place": "xacallax"}}}
TURNS = [turn("user", "zqoneqz"), turn("assistant", "xaoneax"), turn("user", "zqtwoqz"), turn("assistant", "xatwoax")]
RESULT = turn("tool", "zqresultqz", name="look", tool_call_id="abcdefgh1")
CASES: list[dict[str, Any]] = [
    {"messages": TURNS[:2]},
    {"messages": TURNS},
    {"messages": [turn("system", "zqsystemqz"), *TURNS]},
    {"messages": [TURNS[0], turn("assistant", "xaoneax", reasoning_content="xawhyax")]},
    {"messages": [TURNS[0], turn("assistant", "", tool_calls=[CALL]), RESULT, TURNS[3]], "tools": [TOOL]},
]


def masked(text: str) -> MaskedRenderer:
    template, options = ChatTemplate("t", text, TOKENS), RenderOptions(date=NOW)
    single = TemplateRenderer(template, options)
    tagged = None if TAG.search(text) else tag_template(single)
    return MaskedRenderer(compile(template, options), single, tagged=compile(tagged, options) if tagged else None)


def unlike(template: str, spans: list[list[int]], case: dict[str, Any]) -> list[str]:
    """Return how spans differ from those of transformers, which are joined where they touch."""
    _, (_, found) = expected(template, case, "spans")
    return [] if together(found) == [tuple(span) for span in spans] else [f"spans {spans}, in transformers {found}"]


def prompt_of(template: str, case: dict[str, Any]) -> str:
    """Return the text that the model is given for its last answer; empty if the template has no generation prompt."""
    before = {**case, "messages": case["messages"][:-1]}
    (kind, prompt), (_, plain) = expected(template, before, "prompt"), expected(template, before, "plain")
    return prompt if kind == "text" and not plain.startswith(prompt) else ""


def wrong(template: str, text: str, spans: list[list[int]], case: dict[str, Any], *, stops: bool) -> Iterator[str]:
    """Yield what is wrong with the spans of a conversation.

    `stops` says whether the template prints a stop token after the last answer; `--mask` refuses one that does not.
    """
    trained = [*(range(*span) for span in spans)]
    for pattern, inside in ((ASKED, False), (SAID, True)):
        for word in pattern.finditer(text):
            if any(word.start() in span for span in trained) != inside:
                yield f"{word[0]} is {'not ' if inside else ''}trained"
    last = spans[-1][0] if spans else 0
    prompt = prompt_of(template, case)
    start = next((start for start, end in spans if end > len(prompt)), last)
    if prompt and text.startswith(prompt) and not SUPPLIED.fullmatch(text[len(prompt) : start]):
        yield f"a span begins {start - len(prompt)} characters behind the generation prompt"
    asked = case["messages"][-2]["role"] == "user"  # else the span before it may touch the prompt
    if asked and prompt and text.startswith(prompt) and start < len(prompt):
        yield f"a span begins {len(prompt) - start} characters before the end of the generation prompt"
    spoken = SAID.findall(str([message for message in case["messages"] if message["role"] == "assistant"]))
    for start, end in spans if all(word in text for word in spoken) else ():
        said = [word.end() for word in SAID.finditer(text, start, end)]
        following = ASKED.search(text, said[-1] if said else end)
        rest = text[said[-1] if said else end : following.start() if following else len(text)]
        if not said:
            yield "a span without an answer"
        elif stops and rest.strip() and not text[said[-1] : end].strip():
            yield "a span has no stop token"


def compare(text: str, counts: Counter[str]) -> Iterator[str]:
    """Yield what is wrong with the conversations of one template; count them."""
    renderer: MaskedRenderer | None = None
    for number, case in enumerate(CASES):
        kind, rendered = expected(text, case, "plain")
        if kind != "text":
            counts["refused by transformers"] += 1
            continue
        renderer = renderer or masked(text)
        tools = json_array([case["tools"]]) if "tools" in case else None
        try:
            found = renderer(
                ConversationBatch(encode_conversations([case["messages"]]), tools), RenderRequest(spans=True)
            )
        except ChatfmtError as error:
            counts[f"refused: {error.message.partition(':')[2].strip() or error.message}"] += 1
            continue
        assert found.spans is not None
        got, spans = found.text[0].as_py(), found.spans[0].as_py()
        stops = bool(renderer.masker.boundaries(Chat([], case.get("tools"))).stop_after_answer(final=True))
        problems = [] if got == rendered else ["another text"]
        problems += unlike(text, spans, case) if TAG.search(text) else wrong(text, got, spans, case, stops=stops)
        counts["wrong" if problems else f"right by {'transformers' if TAG.search(text) else 'the oracle'}"] += 1
        counts["without a stop token at the end"] += not stops and not TAG.search(text)
        yield from (f"case {number}: {problem}" for problem in dict.fromkeys(problems))
    counts.update({f"masked by {method}": rows for method, rows in renderer.methods.items()} if renderer else {})


@pytest.mark.skipif(FOLDER is None, reason="--templates DIR names templates to compare")
def test_text_and_spans_of_other_templates() -> None:
    counts, problems = Counter[str](), list[str]()
    for path in sorted(Path(FOLDER or "").rglob("*.jinja")):
        counts["templates"] += 1
        problems += [f"{path.name} {problem}" for problem in compare(path.read_text(encoding="utf-8"), counts)]
    print(*(f"\n{count:>6} {what}" for what, count in sorted(counts.items())), *(f"\n{each}" for each in problems))
    assert counts["right by the oracle"] and not problems
