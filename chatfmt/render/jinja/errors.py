"""Turn whatever a render raises into one error for users."""

from __future__ import annotations

import re

import jinja2

from ...errors import Location, RenderError, TemplateError
from .determinism import without_addresses

_OPEN_BLOCK = re.compile(r"The innermost block that needs to be closed is '(\w+)'")


class NotReproducible(Exception):
    """A rendered text would differ from run to run."""


def render_error(error: Exception, template: str, row: int | None = None) -> RenderError:
    """Return the RenderError for `error`, raised by a render of `template`, with its text but for addresses.

    `row` is the index in the batch. Codes are `template.raised` (the template refuses the row), `template.surrogate`
    (text that UTF-8 cannot encode), `template.unprintable` and `template.error`. The caller raises it `from error`.
    """
    code = "template.error"
    if type(error) is jinja2.TemplateError:
        code = "template.raised"
    elif isinstance(error, UnicodeEncodeError):
        code = "template.surrogate"
    elif isinstance(error, NotReproducible):
        code = "template.unprintable"
    hint = f"`chatfmt templates probe {template}` shows what the template accepts"
    if "alternate" in str(error):
        hint += (
            ", `chatfmt templates list --supports calls` those that take tool calls and results between the turns; "
            "--on-error skip leaves out such rows"
        )
    if str(error) == "'dict object' has no attribute 'content'":
        hint = "a message has no content: `chatfmt templates list --supports calls` shows those that print tool calls"
    if str(error).startswith("can only concatenate") and "list" in str(error):
        hint = (
            "content may be a list of parts: --transform parts=flatten joins text parts, "
            "`chatfmt templates list --supports images` shows the templates that read others"
        )
    if str(error) == "Object of type Undefined is not JSON serializable":
        hint = "a call has no `arguments`, or another key is missing: --transform arguments=object writes empty ones"
    if "_message}" in template:  # an inline template is its own name
        hint = "add a field for that role to the template"
    return RenderError(
        without_addresses(str(error)) or type(error).__name__, hint=hint, at=Location(row=row), code=code
    )


def syntax_error(template: str, message: str, line: int | None = None) -> TemplateError:
    """Return the error for a template that does not compile, with the message of Jinja and the line it names."""
    where = f", line {line}" if line else ""
    hint = f"close it with `{{% end{found[1]} %}}`" if (found := _OPEN_BLOCK.search(message)) else ""
    return TemplateError(
        f"the template `{template}` does not compile{where}: {message}", hint=hint, code="template.syntax"
    )
