"""Counters: a costly template is refused before it computes."""

from __future__ import annotations

import time

import pytest

from chatfmt.render.sandbox.limits import OverLimit, compile_limited
from tests.render.sandbox.samples import CHAT, CHEAP, COSTLY, PROCESS


@pytest.mark.parametrize("name", [name for name in COSTLY if name not in PROCESS])
def test_costly_templates_are_refused_by_counting(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(OverLimit, match="the template "):
        compile_limited(COSTLY[name], CHEAP).render(messages=CHAT[0])
    assert time.process_time() - begun < 3
