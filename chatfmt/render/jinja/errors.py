"""Turn whatever a render raises into one error for users."""

from __future__ import annotations

import jinja2

from ...errors import Location, RenderError


class NotReproducible(Exception):
    """A rendered text would differ from run to run."""


def render_error(error: Exception, template: str, row: int | None = None, *, fitted: bool = False) -> RenderError:
    """Return the RenderError for `error`, raised by a render of `template`, with its text unchanged.

    `row` is the index in the batch; after `--fit` (`fitted`) the hint does not suggest it again. Codes are
    `template.raised` (the template refuses the row), `template.surrogate` (text that UTF-8 cannot encode),
    `template.unprintable` and `template.error`. The caller raises it `from error`.
    """
    code = "template.error"
    if type(error) is jinja2.TemplateError:
        code = "template.raised"
    elif isinstance(error, UnicodeEncodeError):
        code = "template.surrogate"
    elif isinstance(error, NotReproducible):
        code = "template.unprintable"
    hint = f"`chatfmt templates probe {template}` shows what the template accepts"
    adapt = f"--fit adapts the data where it can; {hint}"
    if "_message}" in template:  # an inline template is its own name
        hint = "add a field for that role to the template"
        adapt = f"{hint}, or add --fit, which adapts the data where it can"
    return RenderError(
        str(error) or type(error).__name__, hint=hint if fitted else adapt, at=Location(row=row), code=code
    )
