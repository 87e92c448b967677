"""The chapter of docs/operator.md on keys and certificates, command by command, against a running broker."""

import re
from pathlib import Path

import pytest

from examples.city.stage import Stage
from tests.e2e.test_guides import _BLOCK, ROOT, Office, office

__all__ = ["office"]

# The broker outlives whoever started it; the fixture ends it by its process id.
pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(300),
]
_PRINT = re.compile(r"^fingerprint +((?:[0-9a-f]{4} ?){16})$", re.MULTILINE)


def chapter(name: str) -> str:
    """One chapter of the operator's guide."""
    [text] = re.findall(
        rf"^## {name}$(.*?)(?=^## |\Z)", (ROOT / "docs" / "operator.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(text)


def test_the_chapter_on_keys_can_be_followed(office: Office, tmp_path: Path) -> None:
    (office.folder / "operator").symlink_to(Stage(tmp_path / "city").operator)
    (office.folder / "applications").symlink_to(office.folder / "housing-applications")
    printed: list[str] = []
    for block in _BLOCK.finditer(chapter("Keys and certificates")):
        assert block["kind"] == "sh"
        for line in block["text"].splitlines():
            printed.append(office.must(line, int(block["code"] or 0)))
            if found := _PRINT.search(printed[-1]):
                # What is read out by telephone.
                office.ids["FINGERPRINT"] = found[1]
    assert len(printed) >= 20
    told = "\n".join(printed)
    assert "in use" in told
    assert "takes effect after 72 hours in public view" in told
    assert "never takes effect" in told
    # What it promises of the end: everybody has a key that works.
    for home in ("housing", "applications"):
        office.must(f"exchange key renew --home ./{home}")
    assert "No key stands in public view" in office.must("exchange key pending --home ./population")
