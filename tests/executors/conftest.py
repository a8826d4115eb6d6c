"""Fixtures of the executor tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped processes are found within a tenth of a second."""
    monkeypatch.setattr("chatfmt.executors.watchdog.CHECK_EVERY", 0.05)
    monkeypatch.setattr("chatfmt.executors.watchdog.CHECK_AGAIN_AFTER", 0.05)
