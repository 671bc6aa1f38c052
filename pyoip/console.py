"""How the command line speaks: errors as one line, exit codes, progress.

Exit codes: 0 done, 1 engines disagree (`pyoip check`), 2 an error (one line on stderr), 130
interrupted.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from .errors import DataError, InvalidArgument, ModelError, PyoipError
from .kinds import kind_of
from .progress import NAME, one_line, say

DISAGREEMENT = 1
ERROR = 2
INTERRUPTED = 130

# What typer raises when it cannot read a command line: the base of its public
# BadParameter, wherever the installed version keeps that class.
UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError"
)


class Program(TyperGroup):
    """The command group; it ends every run with the exit codes above."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run one command line and leave."""
        given = list(sys.argv[1:] if args is None else args)
        extra = {**extra, "prog_name": NAME, "standalone_mode": False}
        try:
            code = super().main(args=given or ["--help"], **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_stdout()
            sys.exit(1)
        except (KeyboardInterrupt, typer.Abort):
            say("interrupted")
            sys.exit(INTERRUPTED)
        except (PyoipError, UsageError, OSError, MemoryError) as error:
            fail(explain(error))
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C is told apart from typer's own ending of it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            say(str(stop) or "interrupted")
            raise typer.Exit(INTERRUPTED) from stop

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say what was probably meant."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            fail(_no_command(args, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A command; its errors name options as they are typed, not as Python's arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read its words; what is wrong with them is told of this command."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            vars(error)["ctx"] = getattr(error, "ctx", None) or ctx
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except PyoipError as error:
            fail(as_typed(error, _options(self)))


def _options(command: TyperCommand) -> dict[str, str]:
    """Python's names of a command's options, and how each is typed."""
    typed: dict[str, str] = {}
    for param in command.params:
        long = [name for name in param.opts if name.startswith("--")]
        if param.name and long:
            typed[param.name] = long[0]
    return typed


_LITERAL = r"'(?:[^'\\]|\\.)*'|\([^()]*\)|\[[^\[\]]*\]|[-+]?\d[\w.+-]*"
_VALUE = rf"{_LITERAL}|[A-Z]\w*\([^()]*\)|[^\s:;,()\[\]]+"


def as_typed(error: PyoipError, options: Mapping[str, str]) -> str:
    """Return an error's line with options for arguments.

    ``step_size=0.0`` becomes ``--step-size 0``, wherever it stands, and ``engine='x'`` is an item
    of ``--engines`` where there is no ``--engine``; a line of `InvalidArgument` may also begin
    with a name, and with the value behind it.

    Parameters
    ----------
    error : PyoipError
    options : mapping of str to str
        Names in Python, and options on the command line.

    Examples
    --------
    >>> as_typed(InvalidArgument("step_size=0.0: must be …"), {"step_size": "--step-size"})
    '--step-size 0: must be …'
    """
    if not options:
        return str(error)
    each = {**{name.removesuffix("s"): options[name] for name in options}, **options}
    names, items = "|".join(options), "|".join(each)
    # what is no valid file begins with its name, which may look like anything
    begin = r"(?<=[\s(])" if isinstance(error, ModelError | DataError) else r"(?<![\w./'\"-])"
    told = re.sub(
        rf"{begin}({items})=({_VALUE})", lambda at: _option(each[at[1]], at[2]), str(error)
    )
    if not isinstance(error, InvalidArgument):
        return told
    told = re.sub(rf"^({names}) ({_LITERAL})", lambda at: _option(options[at[1]], at[2]), told)
    return re.sub(rf"^({names})(?=:| of )", lambda at: options[at[1]], told)


def _option(name: str, text: str) -> str:
    """An option with its value, which a message has as Python writes it."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # "(C, H, W)", or no literal at all
        plain = text[1:-1].replace(" ", "") if text.startswith("(") else text
        return f"{name} {plain}"
    return name if value is True else f"{name} {_word(value)}"


def _word(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_word, value))
    if isinstance(value, str):
        return value if re.fullmatch(r"[^\s'\"]+", value) else repr(value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _no_command(args: list[str], commands: list[str]) -> str:
    near = difflib.get_close_matches(args[0], commands, n=1, cutoff=0.5)
    if near:
        meant = f"did you mean '{NAME} {near[0]}'?"
    elif args[0].endswith(".onnx") or args[0] == "mnist":
        meant = f"did you mean '{NAME} ascend {' '.join(args)}'?"
    elif kind := kind_of(args[0]):
        meant = f"it is {kind.told}"
    else:
        meant = f"there are {', '.join(commands)}"
    return f"no command {args[0]!r}: {meant}"


def _drop_stdout() -> None:
    """The reader is gone (`pyoip layers x | head -1`): nothing more to say, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> NoReturn:
    """Write an error line to stderr and leave with exit code 2."""
    say(f"error: {message}")
    sys.exit(ERROR)


def explain(error: BaseException) -> str:
    """Return an error as a line that says what to do."""
    if isinstance(error, UsageError):
        return _explain_usage(error)
    if isinstance(error, MemoryError):
        return "not enough memory: ask for fewer maps, starts or candidates at a time"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return str(error)


_NO_NUMBER = re.compile(r"Input should be a valid (\w+).*")
"""What the library says that reads numbers for typer, at length."""


def _explain_usage(error: Any) -> str:
    message = one_line(error.format_message()).rstrip(".")
    path = error.ctx.command_path if error.ctx else NAME
    extra = re.fullmatch(r"Got unexpected extra argument\S* \((.*)\)", message)
    kind = type(error).__name__
    if extra:
        text = extra[1]
        message = f"{text!r} is one word too many"
        options = [name for param in error.ctx.command.params for name in param.opts]
        if f"--{text.split()[0]}" in options:
            message = f"{text!r} needs two dashes: did you mean --{text}?"
    elif kind == "MissingParameter" and error.param is not None and error.param.name == "model":
        message = f"which model? As in '{path} mnist'"
    elif kind == "NoSuchOption":
        near = sorted(error.possibilities or ())
        message = f"no option {error.option_name}"
        message += f": did you mean {' or '.join(near)}?" if near else ""
    else:
        message = _NO_NUMBER.sub(r"must be a valid \1", message[:1].lower() + message[1:])
    return f"{message} ('{path} --help' lists the options)"
