"""The data that every trainer is given, by kind."""

from __future__ import annotations

from typing import Any, NamedTuple

Rows = list[dict[str, Any]]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(name: str, arguments: Any, number: int = 1) -> dict[str, Any]:
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"Do {name}.", "parameters": parameters}}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


WEATHER = tool("weather", city={"type": "string"}, days={"type": "integer"})
SUM = tool("sum", numbers={"type": "array", "items": {"type": "number"}})

CHAT: Rows = [
    {"messages": [user("How are you?"), answer("Fine. And the others?")]},
    {"messages": [user("What is 2 + 2?"), answer("4")]},
    {"messages": [user("Is that true?"), answer("true")]},
]
SYSTEM: Rows = [
    {"messages": [{"role": "system", "content": "Be brief."}, *CHAT[0]["messages"]]},
    {"messages": CHAT[1]["messages"]},
]
TURNS: Rows = [
    {"messages": [user("Hi"), answer("Hello!"), user("Who are you?"), answer("A model."), user("Bye"), answer("Bye!")]},
    {"messages": [user("Count."), answer("1\n2\n3"), user("On."), answer("4\n5\n")]},
]
TOOLS: Rows = [
    {
        "messages": [
            user("The weather in Rome?"),
            answer("", tool_calls=[call("weather", {"city": "Rome", "days": 3})]),
            {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": '{"sky": "clear"}'},
            answer("It is clear."),
        ],
        "tools": [WEATHER],
    },
    {
        "messages": [
            user("Add 1 and 2.5."),
            answer("", tool_calls=[call("sum", {"numbers": [1, 2.5]})]),
            {"role": "tool", "tool_call_id": "call00001", "name": "sum", "content": "3.5"},
            answer("3.5"),
        ],
        "tools": [WEATHER, SUM],
    },
    {"messages": CHAT[0]["messages"]},
]
CALLS: Rows = [
    {
        "messages": [
            user("Rome, and 1 and 2?"),
            answer("I look.", tool_calls=[call("weather", {"city": "Rome"}), call("sum", {"numbers": [1, 2]}, 2)]),
            {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": '{"sky": "clear"}'},
            {"role": "tool", "tool_call_id": "call00002", "name": "sum", "content": "3"},
            answer("Clear, and 3."),
        ],
        "tools": [WEATHER, SUM],
    },
]
NULLS: Rows = [
    {"messages": [user("Rome?"), answer("", tool_calls=[call("weather", {"city": "Rome", "days": None})])],
     "tools": [WEATHER]},
]  # fmt: skip
REASONING: Rows = [
    {"messages": [user("2 + 2?"), answer("4", reasoning_content="Two and two are four.")]},
    {"messages": [user("3 + 3?"), answer("6")]},
]
PARTS: Rows = [*CHAT, {"messages": [user([text("Say "), text("3")]), answer([text("3")])]}]
VARIABLES: Rows = [
    {"messages": [user("2 + 2?"), answer("4")], "chat_template_kwargs": {"date_string": "1 Jan 2025"}},
    {"messages": [user("3 + 3?"), answer("6")], "chat_template_kwargs": {"date_string": "2 Feb 2026"}},
]
IMAGES: Rows = [
    {"messages": [user("<image>Which colour?"), answer("Red.")], "images": ["red.png"]},
    {"messages": [user("<image> or <image>?"), answer("No.")], "images": ["red.png", "blue.png"]},
    {"messages": CHAT[0]["messages"], "images": []},
]
PAIRS: Rows = [
    {"prompt": [user("How are you?")], "completion": [answer("Fine, thanks.")]},
    {"prompt": [*CHAT[0]["messages"], user("2 + 2?")], "completion": [answer("4")]},
]
PREFERENCE: Rows = [
    {"prompt": [user("How are you?")], "chosen": [answer("Fine, thanks.")], "rejected": [answer("No.")]},
    {"prompt": [*CHAT[0]["messages"], user("2 + 2?")], "chosen": [answer("4")], "rejected": [answer("5")]},
]
UNPAIRED: Rows = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for name in ("chosen", "rejected") for row in PREFERENCE
]  # fmt: skip
PROBLEMS: Rows = [
    {"prompt": [user("2 + 2?")], "answer": "4"},
    {"prompt": [{"role": "system", "content": "Be brief."}, user("3 + 4?")], "answer": "7"},
]


VERIFIED: Rows = [
    {"prompt": [user("2 + 2?")], "answer": "4", "dataset": "gsm8k", "data_source": "openai/gsm8k"},
    {"prompt": [user("3 + 4?")], "answer": "7", "dataset": "gsm8k", "data_source": "openai/gsm8k"},
]
WEIGHTS: Rows = [
    {"messages": [user("Hi"), answer("Hello!", weight=0), user("Who are you?"), answer("A model.", weight=1)]},
    {"messages": CHAT[0]["messages"]},
]


class Case(NamedTuple):
    """Rows, and the template of the model that is trained on them."""

    rows: Rows
    template: str
    view: str = "text"
    """The view in which chatfmt says what is trained."""
    flags: tuple[str, ...] = ()
    """What is added to `--for`."""
    rendered: str = ""
    """`text` or `segments` if chatfmt applies the template; a trainer trains all of a text."""


CASES: dict[str, Case] = {
    "chat": Case(CHAT, "llama-3"),
    "system": Case(SYSTEM, "llama-3"),
    "multi-turn": Case(TURNS, "chatml"),
    "stop that is not EOS": Case(TURNS, "gemma-3"),
    "tools": Case(TOOLS, "qwen2.5"),
    "text and calls": Case(CALLS, "qwen2.5"),
    "reasoning": Case(REASONING, "qwen3"),
    "parts": Case(PARTS, "qwen2.5"),
    "variables": Case(VARIABLES, "llama-3.1"),
    "images": Case(IMAGES, "qwen2.5-vl", flags=("--embed-media",)),
    "rendered text": Case(TURNS, "llama-3", rendered="text"),
    "rendered ChatML": Case(TURNS, "chatml", rendered="text"),
    "rendered segments": Case(TOOLS, "qwen3", rendered="segments"),
    "segments with BOS": Case(TURNS, "llama-3", rendered="segments"),
    "tokens": Case(TOOLS, "qwen3", flags=("--to", "tokens", "--tokenizer", "MODEL"), rendered="tokens"),
    "prompt-completion": Case(PAIRS, "llama-3", "prompt-completion"),
    "rendered answers": Case(PAIRS, "llama-3", "prompt-completion", rendered="answers"),
    "rendered turns": Case(CALLS + TURNS + VARIABLES, "qwen2.5", rendered="answers"),
    "split preference": Case(PREFERENCE, "llama-3", "unpaired-preference"),
    "preference": Case(PREFERENCE, "llama-3", "preference"),
    "rendered preference": Case(PREFERENCE, "llama-3", "preference", rendered="answers"),
    "null arguments": Case(NULLS, "qwen2.5"),
    "unpaired preference": Case(UNPAIRED, "llama-3", "unpaired-preference"),
    "weights": Case(WEIGHTS, "chatml"),
    "verified messages": Case(VERIFIED, "llama-3", "prompt", ("--to", "rlvr")),
    "verified prompts": Case(VERIFIED, "llama-3", "prompt", ("--to", "rlvr-prompt")),
    "verified texts": Case(VERIFIED, "llama-3", "prompt", ("--to", "rlvr-text")),
    "problems": Case(PROBLEMS, "llama-3", "prompt", ("--to", "prompt", "--keep", "answer")),
}
SFT = ("chat", "system", "multi-turn", "tools", "text and calls", "reasoning", "parts", "variables", "weights")
