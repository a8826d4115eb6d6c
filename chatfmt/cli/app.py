"""The commands, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import ChatfmtError, OutputError, ReaderGone, UsageError, exhausted, explain_disk_error, is_panic, nearest
from ..whole_files import CHECK_ACCESS
from . import terminal
from .command_class import Command, Group
from .completion import typed_words
from .settings import MOST_TYPED_WRONG

EXIT_BUG = 70
EXIT_PIPE = 141
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

COMMANDS = {
    "convert": "convert:convert",
    "plan": "job_array:plan",
    "run": "job_array:run",
    "commit": "job_array:commit",
    "inspect": "inspect:inspect",
    "preview": "preview:preview",
    "check": "inspect:check",
    "stats": "stats:stats",
    "report": "report:report",
    "templates": "templates:templates",
    "recipes": "recipes:recipes",
    "dialects": "lists:list_dialects",
    "transforms": "lists:list_transforms",
    "checks": "lists:list_checks",
    "verify": "verify:verify",
    "push": "push:push",
    "loader": "loader:loader",
    "guide": "guide:guide",
    "doctor": "doctor:doctor",
}
"""The commands in the order of the help, each with the module and name of its function or group."""
EXAMPLES = {
    "convert": (
        "chatfmt convert data.jsonl -t chatml -o out/",
        "chatfmt convert gsm8k --split all --for trl-sft -o gsm8k-sft/",
        "cat data.jsonl | chatfmt convert - -t qwen3 > text.jsonl",
    ),
    "inspect": ("chatfmt inspect data.jsonl", "chatfmt inspect openai/gsm8k --name main"),
    "preview": (
        "chatfmt preview data.jsonl -t qwen3 -n 1",
        "chatfmt preview data.jsonl --for trl-sft --sample 5 --explain",
        "chatfmt preview data.jsonl -t qwen3 --diff-template llama3 --row 7",
    ),
    "stats": (
        "chatfmt stats data.jsonl -t qwen3 --tokenizer Qwen/Qwen3-0.6B",
        "chatfmt stats data.jsonl --fail-if 'rejected / rows > 0.01 or duplicates > 100' --json",
    ),
    "report": ("chatfmt report data.jsonl -t qwen3 -o report.html", "chatfmt report out/"),
    "check": ("chatfmt check data.jsonl -t llama-3.1",),
    "loader": ("chatfmt loader out/ --for trl-sft --model Qwen/Qwen3-0.6B | python -",),
    "push": ("chatfmt push out/ OWNER/NAME",),
}
"""Examples in the help of a command."""
WITHOUT_ARGUMENTS = {"dialects", "transforms", "checks", "guide", "doctor"}
"""Commands that need no argument; the others print their help if they get none."""


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the command line with the one command that `arguments` begin with, or with all of them.

    Building all commands takes as long as the rest of the start.
    """
    completed = typed_words()
    named = [one for one in (completed[:-1] or arguments)[:1] if one in COMMANDS]
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        cls=Group,
        add_completion=not (named or completed),
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Convert any chat or instruction dataset to training-ready files, byte-identical to transformers.",
        epilog="Start with `chatfmt inspect data.jsonl`, then `chatfmt convert data.jsonl -t chatml -o out/`.",
    )
    app.callback()(root)
    if completed:  # the options to install completion would know the shells too, and cost more
        import_module("typer.completion").completion_init()
    for name in named or COMMANDS:
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(import_module(f"{__package__}.commands.{module}"), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            examples = "\n".join(EXAMPLES.get(name, ()))
            app.command(name, no_args_is_help=name not in WITHOUT_ARGUMENTS, cls=Command, epilog=examples)(found)
    return app


@cache
def command_line(*first: str) -> Callable[..., object]:
    """Return the command line for arguments that begin with `first`, built once per process."""
    return typer.main.get_command(application(first))


def root(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        terminal.print_out(f"chatfmt {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; every failure ends here, with a message and a code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _terminate_again
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        code = command_line(*arguments[:1])(arguments, prog_name="chatfmt", standalone_mode=False)
        _flush()
        if code == EXIT_INTERRUPTED:  # Typer caught the KeyboardInterrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        text = _usage(error)
        if text.startswith("usage: "):  # no arguments: the text is the help of the command
            terminal.print_err(str(getattr(error, "message", text)))
            return UsageError.exit_code
        return _fail(UsageError(text, hint=_usage_hint(error, arguments))) if text else UsageError.exit_code
    except ChatfmtError as error:
        return _fail(error)
    except (BrokenPipeError, ReaderGone):
        return _reader_gone()
    except OSError as error:  # such as too many open files, a name that is too long
        _leave_stdout()
        return _fail(exhausted(error) or _system_error(error))
    except _Terminated:
        terminal.print_err("error: stopped by SIGTERM")
        return EXIT_TERMINATED
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # which Typer takes for the end of a prompt
            return _unexpected(error.__cause__)
        terminal.print_err("error: interrupted")
        return EXIT_INTERRUPTED
    except BaseException as error:
        return _unexpected(error)


def _system_error(error: OSError) -> OutputError:
    named = f" (`{error.filename}`)" if error.filename else ""
    hint = explain_disk_error(error)[1]
    if isinstance(error, PermissionError):  # of reading or of writing
        hint = f"{CHECK_ACCESS}, or {hint}"
    return OutputError(f"system error: {error.strerror or error}{named}", hint=hint)


def _unexpected(error: BaseException) -> int:
    """Say what is exhausted, or that there is a bug."""
    if not (isinstance(error, Exception) or is_panic(error)):
        raise error
    looped = re.fullmatch("Symlink loop from '(.*)'", str(error))
    if looped:  # as `Path.resolve` says it
        return _fail(_system_error(OSError(errno.ELOOP, os.strerror(errno.ELOOP), looped[1])))
    if known := exhausted(error):
        return _fail(known)
    terminal.print_err("".join(traceback.format_exception(error)).rstrip())
    terminal.print_err("error: this is a bug in chatfmt: please report the lines above")
    return EXIT_BUG


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread so that unfinished output is cleaned up."""


def _terminate(signum: int, frame: object) -> None:
    signal.signal(signum, signal.SIG_IGN)  # `timeout` sends it twice: the second must not stop the clean-up
    raise _Terminated


def _terminate_again(lost: sys.UnraisableHookArgs) -> None:
    """Send SIGTERM once more if it came where Python drops exceptions, as while it forks."""
    if not isinstance(lost.exc_value, _Terminated):
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGTERM, _terminate)
    _thread.start_new_thread(_send_sigterm, ())  # a Thread waits until it runs: SIGTERM could come in this function


def _send_sigterm() -> None:
    time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def _usage(error: Exception) -> str:
    """Return the message of an error of Typer; an option that does not exist has a hint of its own."""
    message: Callable[[], str] = getattr(error, "format_message", lambda: str(error))
    text = (str(getattr(error, "message", "")) if hasattr(error, "possibilities") else message()).removesuffix(".")
    text = re.sub(r"(No such command) '(.*?)'.*", r"\1 `\2`", text)
    return text[:1].lower() + text[1:]


def _usage_hint(error: Any, arguments: Sequence[str] | None) -> str:
    """Return the option that a wrong one begins with or resembles, else the help that lists all."""
    ctx, named = getattr(error, "ctx", None), [name for name in (arguments or ())[:1] if name in COMMANDS]
    commands: Any = getattr(command_line(*named), "commands", {}) if named else {}
    command = ctx.command if ctx else commands.get(*named, None) if named else None
    if arguments and arguments[0] not in COMMANDS and Path(arguments[0]).exists():
        return f"chatfmt inspect {shlex.quote(arguments[0])}"
    if meant := re.search(r"command .* Did you mean '(.+?)'", str(getattr(error, "message", ""))):
        return f"did you mean `{meant[1]}`?"
    if command is None:
        return "chatfmt --help"
    path = ctx.command_path if ctx else f"chatfmt {named[0]}"
    every = f"{path} {getattr(command, 'every_option', '--help')}"
    if getattr(getattr(error, "param", None), "name", "") == "source":
        return f"name a file, a folder, a Hub id, or - for stdin; {every} has all options"
    if not hasattr(error, "possibilities"):
        return every
    converts: Any = command_line("convert")
    if any(error.option_name in each.opts for each in converts.commands["convert"].params):
        return f"`chatfmt convert` has this option; {every} has those of this command"
    known = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
    begun = sorted((name for name in known if error.option_name.startswith(f"{name}-")), key=len, reverse=True)
    close = nearest(error.option_name, known, 1) or begun or nearest(error.option_name, known, MOST_TYPED_WRONG)
    return f"did you mean `{close[0]}`?" if close else every


def _fail(error: ChatfmtError) -> int:
    for note in getattr(error, "__notes__", ()):
        terminal.print_note(note)
    terminal.print_error(error)
    return error.exit_code


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _reader_gone() -> int:
    """Exit quietly after a broken pipe (`| head`)."""
    _leave_stdout()
    return EXIT_PIPE


def _leave_stdout() -> None:
    """Point stdout at /dev/null: at exit Python flushes it, and would report a second failure."""
    with contextlib.suppress(OSError):  # too many open files
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
