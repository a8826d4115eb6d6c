"""Fixtures of the executor tests."""

from __future__ import annotations

import pytest

from chatfmt.executors import worker_handle

from ..conftest import START_WORKER


@pytest.fixture(autouse=True)
def fresh_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers as users do: here they are what is tested."""
    monkeypatch.setattr(worker_handle, "start", START_WORKER)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped processes are found within a tenth of a second."""
    monkeypatch.setattr("chatfmt.executors.watchdog.CHECK_EVERY", 0.05)
    monkeypatch.setattr("chatfmt.executors.watchdog.CHECK_AGAIN_AFTER", 0.05)
