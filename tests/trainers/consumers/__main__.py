"""`python -m tests.trainers.consumers NAME TASKS RESULTS`: see the package."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path

from . import Result, Task


class Warnings(logging.Handler):
    """Collects the messages of warnings and worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.name}: {record.getMessage()}")


def run(name: str, task: Task) -> Result:
    """Return what the package makes of one task, with the warnings that it logs or raises."""
    logged = Warnings()
    loggers = [logging.getLogger(name) for name in ("", "trl", "transformers", "datasets", "axolotl", "llamafactory")]
    for logger in loggers:
        logger.addHandler(logged)
    try:
        rows = importlib.import_module(f"{__package__}.{name}").rows(task)
        return {"rows": rows, "warnings": logged.messages, "error": ""}
    except Exception as error:
        traceback.print_exc()
        return {"rows": [], "warnings": logged.messages, "error": f"{type(error).__name__}: {error}"}
    finally:
        for logger in loggers:
            logger.removeHandler(logged)


def main(name: str, requests: str, results: str) -> None:
    logging.captureWarnings(True)
    warnings.simplefilter("ignore", FutureWarning)
    tasks = json.loads(Path(requests).read_text(encoding="utf-8"))
    os.chdir(Path(results).parent)
    Path(results).write_text(json.dumps([run(name, task) for task in tasks]), encoding="utf-8")


main(*sys.argv[1:])
