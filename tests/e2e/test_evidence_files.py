"""Evidence as files, out of processes as people run them: written beside the exchange, verified without it."""

import json
import shutil
from pathlib import Path

from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.founding import AUDITOR
from tests.e2e.test_lying_broker import command
from tests.tile_reader import TileReader, included


# Fourteen commands, each a process that loads everything.
async def test_a_stranger_with_the_trust_file_verifies_what_happened(city: City, tmp_path: Path) -> None:
    async with city.client() as client:
        answers = [await ask(client, number) for number in range(3)]
        await client.settle()
    (tmp_path / "answer.tlog-proof").write_bytes(answers[1].proof)
    city.wait_settled()
    office, stranger = city.path / AUDITOR, tmp_path / "stranger"
    stranger.mkdir()
    shutil.copy(office / "trust.toml", stranger)

    def audit(*arguments: object, home: Path = office) -> str:
        done = command("exchange.cli.audit.main", *map(str, arguments), "--home", str(home))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    audit("sync")
    report = tmp_path / "report.json"
    report.write_text(audit("search", "--json"))
    audit("prove", 2, "--output", tmp_path / "entry.tlog-proof")
    audit("bundle", "--output", tmp_path / "log.tar")
    audit("sign", report, "--output", tmp_path / "report.note")
    audit("tiles", tmp_path / "tiles")
    audit("verify", "head")
    city.close()

    for name in ("answer.tlog-proof", "entry.tlog-proof"):
        assert json.loads(audit("verify", "proof", tmp_path / name, "--json", home=stranger))["kind"] == "released"
    shown = json.loads(audit("verify", "bundle", tmp_path / "log.tar", "--json", home=stranger))
    assert (shown["verified"], shown["ranges_verified"]) == (True, [[0, 3]])
    assert "/audit-office, key " in audit("verify", "report", report, tmp_path / "report.note", home=stranger)
    reader = TileReader(tmp_path / "tiles", str(city.home(AUDITOR).trust.access_log))
    assert all(included(reader, index) for index in range(3))
