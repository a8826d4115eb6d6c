"""Resolve sources in a separate process, for tests of the Hub: requests as JSON on stdin, results on stdout.

A question holds the arguments of `resolve`, and `plan` for `plan_splits`; an answer either what was found, or the
error's class, message, hint, code and exit code.
"""

from __future__ import annotations

import json
import sys
import time

from chatfmt.errors import ChatfmtError
from chatfmt.json_columns import decode_objects
from chatfmt.sources import plan_splits, read, resolve


def answer(question: dict[str, object]) -> dict[str, object]:
    began = time.monotonic()
    try:
        plan = question.pop("plan", {})
        source = resolve(**question)
        shards = plan_splits(source, question.get("split"), **plan)
    except ChatfmtError as error:
        kind = type(error).__name__
        words = {"message": error.message, "hint": error.hint, "code": error.code, "exit": error.exit_code}
        return {"error": kind, **words, "seconds": time.monotonic() - began}
    rows = [row for shard in shards for piece in shard for row in rows_of(piece)]
    return {
        "id": source.dataset_id, "revision": source.revision, "subset": source.subset, "licence": source.licence,
        "notes": source.notes, "seconds": time.monotonic() - began, "rows": rows, "shards": len(shards),
        "files": {split: [file.shown for file in files] for split, files in source.splits.items()},
    }  # fmt: skip


def rows_of(piece: object) -> list[dict[str, object]]:
    batches = read(piece)
    return [row for batch in batches for row in decode_objects(dict(zip(batch.schema.names[1:], batch.columns[1:])))]


def main() -> None:
    time.sleep = lambda seconds: None  # between the tries of a request
    json.dump([answer(question) for question in json.load(sys.stdin)], sys.stdout)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
