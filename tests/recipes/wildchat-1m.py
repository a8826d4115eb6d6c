"""Rows as in allenai/WildChat-1M: each turn has metadata, including timestamps."""

import datetime

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
HEADER = pa.struct([("accept-language", pa.string()), ("user-agent", pa.string())])
TURN = pa.struct(
    [
        ("content", pa.string()),
        ("country", pa.string()),
        ("hashed_ip", pa.string()),
        ("header", HEADER),
        ("language", pa.string()),
        ("redacted", pa.bool_()),
        ("role", pa.string()),
        ("state", pa.string()),
        ("timestamp", TIME),
        ("toxic", pa.bool_()),
        ("turn_identifier", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("conversation_hash", pa.string()),
        ("model", pa.string()),
        ("timestamp", TIME),
        ("conversation", pa.list_(TURN)),
        ("turn", pa.int64()),
        ("language", pa.string()),
        ("openai_moderation", pa.list_(pa.struct([("flagged", pa.bool_())]))),
        ("toxic", pa.bool_()),
        ("redacted", pa.bool_()),
        ("state", pa.string()),
        ("country", pa.string()),
    ]
)
ASKED = datetime.datetime(2023, 4, 9, 0, 2, 53, tzinfo=datetime.UTC)


def asked(content: str, language: str) -> dict[str, object]:
    """A turn of the user, with all that is known of it."""
    return {
        "content": content, "country": "Fiji", "hashed_ip": "0a", "language": language, "redacted": False,
        "role": "user", "header": {"accept-language": "en", "user-agent": None}, "state": None, "timestamp": None,
        "toxic": False, "turn_identifier": 102,
    }  # fmt: skip


def answered(content: str, language: str) -> dict[str, object]:
    """A turn of the assistant, of which less is known."""
    return {
        "content": content, "country": None, "hashed_ip": None, "header": None, "language": language,
        "redacted": False, "role": "assistant", "state": None, "timestamp": ASKED, "toxic": False,
        "turn_identifier": 102,
    }  # fmt: skip


def row(name: str, language: str, *turns: dict[str, object]) -> dict[str, object]:
    """A conversation with the columns beside it."""
    return {
        "conversation_hash": name, "model": "gpt-x", "timestamp": ASKED, "conversation": list(turns),
        "turn": len(turns) // 2, "language": language, "openai_moderation": [{"flagged": False}], "toxic": False,
        "redacted": False, "state": None, "country": "Fiji",
    }  # fmt: skip


TABLE = pa.Table.from_pylist(
    [
        row("a", "English", asked(" Tide tables?", "English"), answered("For which port? ", "English")),
        row("b", "Russian", asked("да", "Russian"), answered("", "Russian")),
    ],
    SCHEMA,
)
