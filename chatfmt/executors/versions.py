"""The versions of what can change a byte of an output, to compare this machine with others that run its tasks."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from .. import __version__

PACKAGES = ("pyarrow", "jinja2", "orjson", "zstandard", "tokenizers")
"""The packages that read, render or write rows. One that a machine lacks is reported where it is needed."""


@cache
def versions() -> dict[str, str]:
    """Return the versions on this machine, by name; that of chatfmt has a hash of its files, as checkouts share one."""
    from importlib.metadata import PackageNotFoundError, version

    folder, code = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".jinja")):
        code.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    found = {
        "chatfmt": f"{__version__}+{code.hexdigest()[:8]}",
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def difference(theirs: Mapping[str, str], *, there: bool) -> tuple[str, str] | None:
    """Return what differs between another machine and this one, and what to do about it; None if nothing does.

    The words are for an error that begins with what has the other versions: `has pyarrow 25.0.0, and this machine …`.
    With `there`, it is the other machine that is to change.
    """
    for name, mine in versions().items():
        other = theirs.get(name, mine)
        if other != mine:
            wanted = mine if there else other
            install = f'pip install "{name}=={wanted.partition("+")[0]}"'
            hint = f"use Python {wanted}" if name == "Python" else install
            return f"has {name} {other}, and this machine {mine}", f"{hint} {'there' if there else 'here'}"
    return None
