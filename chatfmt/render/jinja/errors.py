"""What a render may raise, as one error for users."""

from __future__ import annotations

import jinja2

from ...errors import Location, RenderError


class NotReproducible(Exception):
    """A rendered text differs from run to run."""


def render_error(error: Exception, template: str, row: int | None = None, *, fitted: bool = False) -> RenderError:
    """The RenderError for what a render of `template` raised, its text unchanged; the caller raises it `from error`.

    `row` is the index in the batch; what is `fitted` gets no hint of `--fit`. The codes are `template.raised` (the
    template itself refuses), `template.surrogate` (text that UTF-8 cannot hold), `template.unprintable` and
    `template.error`.
    """
    code = "template.error"
    if type(error) is jinja2.TemplateError:
        code = "template.raised"
    elif isinstance(error, UnicodeEncodeError):
        code = "template.surrogate"
    elif isinstance(error, NotReproducible):
        code = "template.unprintable"
    hint = f"`chatfmt templates probe {template}` says what the template takes"
    adapt = f"--fit adapts the data where it can; {hint}"
    if "_message}" in template:  # the plain form is its own name
        hint = "write a field for that role into the template"
        adapt = f"{hint}, or give --fit, which adapts the data where it can"
    return RenderError(
        str(error) or type(error).__name__, hint=hint if fitted else adapt, at=Location(row=row), code=code
    )
