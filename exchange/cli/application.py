"""What every command has in common: plain help with an example, loading when needed, and one place for errors."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from exchange.cli.errors import INTERRUPTED, ExitCode, report

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
        try:
            code = super().main(args, self.name, complete_var, False, windows_expand_args, **extra)
        except (KeyboardInterrupt, typer.Abort):
            sys.exit(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - no person ever sees a traceback unasked
            sys.exit(report(error, self.name or ""))
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)


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
