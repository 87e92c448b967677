"""What others wrote stands in the log of a service as text, never as a command to the terminal."""

import pytest
import structlog

from exchange.cli.frame.service_log import log_to_stderr


@pytest.fixture(autouse=True)
def logged() -> None:
    """Events go through the processors here, not into a list."""


def test_what_peers_wrote_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        log_to_stderr()
        logger = structlog.get_logger("test")
        logger.info("refused", reason="a\x1b[2Jb", owner="x\u202ey\rz", index=7, missing=None, late=True)
    finally:
        structlog.reset_defaults()
    line = capsys.readouterr().err
    assert "refused" in line
    assert r"a\u001b[2Jb" in line
    assert r"x\u202ey\u000dz" in line
    assert "index=7" in line
    assert line.endswith(" late\n")
    assert line.count("\n") == 1
    assert line.rstrip("\n").isprintable()
