"""Settings out of the environment, which stand above a configuration file's: PREFIX and the setting in upper case.

EXCHANGE_BROKER_LISTEN=0.0.0.0:7443               what broker.toml has under `listen`
EXCHANGE_BROKER_DATABASE_FILE=/run/secrets/log    what broker.toml has under `database_file`
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

MOST_BYTES = 64 * 1024


class OverrideError(Exception):
    """The environment says something that it cannot say; the text names the variable.

    Args:
        message: what is wrong, without the variable's value.
        hint: what to do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def variable_of(prefix: str, setting: str) -> str:
    """The variable that stands above a setting."""
    return prefix + setting.upper()


def overrides(prefix: str, settings: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment says, by setting.

    Args:
        prefix: EXCHANGE_BROKER_; every variable that begins with it has to be a setting's.
        settings: all there are, in lower case.
        environment: variables and their values.

    Raises:
        OverrideError: a variable is no setting's.
    """
    known = {variable_of(prefix, setting): setting for setting in settings}
    for name in sorted(environment):
        if name.startswith(prefix) and name not in known:
            near = difflib.get_close_matches(name.removeprefix(prefix).lower(), known.values(), n=1)
            hint = f"did you mean {variable_of(prefix, near[0])}?" if near else f"known are {', '.join(known)}"
            raise OverrideError(f"{name}: unknown variable", hint)
    return {setting: environment[name] for name, setting in known.items() if name in environment}


def read_secret(path: Path) -> str:
    """A secret that a file holds: one line, as container engines mount it.

    Args:
        path: of a file that its owner and group alone can read.

    Raises:
        OverrideError: it cannot be read, is not one line of text, or is everybody's to read; nothing of it is repeated.
    """
    try:
        if path.stat().st_mode & 0o007:
            raise OverrideError(f"{path} holds a secret, and can be read by everybody", f"chmod 400 {path}")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode()
    except OSError as error:
        raise OverrideError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise OverrideError(f"{path} holds no text") from None
    line = text.removesuffix("\n").removesuffix("\r")
    if not line or not line.isprintable() or len(text) > MOST_BYTES:
        raise OverrideError(f"{path}: one line is expected, and nothing else")
    return line
