"""Texts that people type into options, checked before anything is signed."""

from exchange.cli.frame.errors import WrongUsageError
from exchange.core.state import MAX_TEXT


def check_text(option: str, text: str) -> str:
    """A text of an option, which must say something and fit.

    Args:
        option: where it was typed, for the error.
        text: what was typed.

    Raises:
        WrongUsageError: empty, too long, or not Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # What was typed in another encoding reaches Python as lone surrogates.
        hint = "the terminal's encoding is not UTF-8: set LANG, or type it in UTF-8"
        raise WrongUsageError(f"{option}: not valid Unicode", hint) from error
    if not text.strip():
        raise WrongUsageError(f"{option}: nothing is said", f"write 1 to {MAX_TEXT:,} characters")
    if len(text) > MAX_TEXT:
        raise WrongUsageError(f"{option}: {len(text):,} characters", f"write 1 to {MAX_TEXT:,} characters")
    return text
