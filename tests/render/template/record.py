"""Record the goldens of a built-in template: `python -m tests.render.template.record NAME FILE`.

FILE is the template that the model's owners publish. It is read, rendered by transformers for each conversation of
`goldens/templates/conversations.jsonl` that is a golden, and not kept. What its sandbox refuses is no golden.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.render.oracle import expected
from tests.render.template.test_builtin import GOLDENS, OWN, comparable


def record(name: str, text: str) -> int:
    """Write the outcomes of the published template `text` as the goldens of `name`; return how many."""
    lines = []
    for case in OWN:
        for mode in case.get("modes", ["plain"]) if case.get("golden") else []:
            kind, value = comparable(expected(text, case, mode))
            if kind == "SecurityError":
                continue
            found = {"text": value} if kind == "text" else {"error": kind} | ({"message": value} if value else {})
            lines.append(json.dumps({"conversation": case["id"], "mode": mode, **found}, ensure_ascii=False))
    (GOLDENS / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


if __name__ == "__main__":
    print(record(sys.argv[1], Path(sys.argv[2]).read_text(encoding="utf-8")))
