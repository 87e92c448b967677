"""What every command has in common: plain help with an example, loading when needed, and one place for errors."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from exchange.cli.frame.errors import BROKEN_PIPE, INTERRUPTED, ExitCode, report

# Messages for people come from here; gRPC's own log, which its core writes to stderr, is for who asks for it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="EXCHANGE_HOME", metavar="DIR", help="The folder of the party that acts."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DEFAULT_HOME = Path("home")


class CommandGroup(TyperGroup):
    """A group of commands; the outermost one turns every error into a message, a hint and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where no command is named."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line, and leave with its exit code."""
        _tolerate_any_text()
        typed = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(args, self.name, complete_var, False, windows_expand_args, **extra)
            sys.stdout.flush()
        except (KeyboardInterrupt, typer.Abort):
            sys.exit(INTERRUPTED)
        except (_PipeClosedError, BrokenPipeError):
            _drop_output()
            sys.exit(BROKEN_PIPE)
        except Exception as error:  # noqa: BLE001 - no person ever sees a traceback unasked
            sys.exit(report(error, self.name or "", as_json="--json" in typed))
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the command line, which may print: the help, or the version."""
        with _telling_closed_pipes():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _telling_closed_pipes():
            return super().invoke(ctx)


class _PipeClosedError(Exception):
    """Whoever read the output has left, as `| head -1` does."""


@contextlib.contextmanager
def _telling_closed_pipes() -> Iterator[None]:
    """Tell that nobody reads the output any more apart from a failure: Typer would end a BrokenPipeError with 1."""
    try:
        yield
    except BrokenPipeError as error:
        raise _PipeClosedError from error


def _tolerate_any_text() -> None:
    """Show what a terminal cannot encode by its number: a result is never lost to LANG=C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Send what is still buffered nowhere, or Python would complain of it on its way out (docs.python.org, signal)."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class LazyCommand(TyperCommand):
    """A command whose module is loaded when it runs: `--help` of the whole needs none of them.

    Args:
        name: of the command.
        help: its line in the list of commands.
        module: has `app`, a `typer.Typer`.
    """

    def __init__(self, name: str, help: str, module: str) -> None:
        super().__init__(name=name, help=help, callback=None)
        self.module = module

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Give way to the real command."""
        real = get_command(import_module(self.module).app)
        return real.make_context(info_name, args, parent, **extra)


def new_group(help: str, *lines: str) -> typer.Typer:
    """A group of commands, also where it has only one.

    Args:
        help: its line in the list of commands.
        lines: examples.
    """
    app = typer.Typer(cls=CommandGroup, help=help, epilog=example(*lines), rich_markup_mode=None, add_completion=False)
    app.callback()(lambda: None)
    return app


def new_command() -> typer.Typer:
    """A command that belongs to no group."""
    return typer.Typer(rich_markup_mode=None, add_completion=False)


def example(*lines: str) -> str:
    """The end of a command's help: what one really types."""
    # \b keeps the lines from being filled.
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
