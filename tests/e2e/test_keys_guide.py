"""The chapter of docs/operator.md on keys and certificates, command by command, against a running broker."""

from pathlib import Path

import pytest

from examples.city.stage import Stage
from tests.e2e.test_guides import Office, founded, office

__all__ = ["founded", "office"]

# The broker outlives whoever started it; the fixture ends it by its process id.
pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_the_chapter_on_keys_can_be_followed(office: Office, tmp_path: Path) -> None:
    (office.folder / "operator").symlink_to(Stage(tmp_path / "city").operator)
    (office.folder / "applications").symlink_to(office.folder / "housing-applications")
    printed = office.follow("operator.md", "Keys and certificates")
    assert len(printed) >= 20
    told = "\n".join(printed)
    assert "in use" in told
    assert "takes effect after 72 hours in public view" in told
    assert "never takes effect" in told
    # What it promises of the end: everybody has a key that works.
    for home in ("housing", "applications"):
        office.must(f"exchange key renew --home ./{home}")
    assert "No key stands in public view" in office.must("exchange key pending --home ./population")
