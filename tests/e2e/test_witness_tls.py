"""A witness that listens with TLS itself: real processes and certificates, on loopback."""

import http.client
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.core.cosignature import CosignatureVerifier
from exchange.core.policy import Policy, PolicyWitness, open_cosigned
from exchange.witness.config import MEMORY, WitnessHome, new_config
from exchange.witness.memory import WitnessMemory
from tests.component.witness.histories import LOG, History
from tests.e2e.city import City, free_port
from tests.e2e.founding import APPLICATIONS
from tests.e2e.processes import ROOT, TIMEOUT, Program
from tests.e2e.test_witnesses import answered
from tests.e2e.witnessing import certify, new_authority, witnessed

COMMAND = ("-c", "from exchange.cli.audit.main import app; app()", "witness", "run", "--home")
AUTHORITY = new_authority()


class Server:
    """One witness of a log, as a process."""

    def __init__(self, path: Path) -> None:
        self.path = path / "witness"
        self.port = free_port()
        config = new_config("tls.witness.test", f"127.0.0.1:{self.port}", (), f"log {LOG.verifier}\n")
        home = WitnessHome.create(self.path, config)
        WitnessMemory.create(self.path / MEMORY, lambda: 0)
        self.verifier: CosignatureVerifier = home.cosigner(config.name).verifier
        certify(self.path, AUTHORITY)
        self.program = Program([*COMMAND, str(self.path)], path / "witness.log", "is ready on", {})

    def post(self, body: bytes, context: ssl.SSLContext | None, host: str = "127.0.0.1") -> tuple[int, bytes]:
        """One request; without a context, in the clear."""
        if context is None:
            connection = http.client.HTTPConnection(host, self.port, timeout=TIMEOUT)
        else:
            connection = http.client.HTTPSConnection(host, self.port, timeout=TIMEOUT, context=context)
        try:
            connection.request("POST", "/add-checkpoint", body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tls"))
    server.program.start()
    try:
        yield server
        assert server.program.stop() == 0, server.program.output
    finally:
        server.program.kill()


def trusting() -> ssl.SSLContext:
    """What knows the witness by its authority."""
    return ssl.create_default_context(cadata=AUTHORITY.pem.decode())


def test_a_checkpoint_is_cosigned_over_tls(server: Server) -> None:
    assert f"is ready on https://127.0.0.1:{server.port}" in server.program.output
    history = History()
    status, line = server.post(history.request(0, 3), trusting())
    assert status == 200
    policy = Policy(witnesses=(PolicyWitness("tls", server.verifier),), quorum="tls")
    cosigned = open_cosigned(history.note(3) + line, LOG.verifier, policy)
    assert (cosigned.checkpoint.size, cosigned.quorum) == (3, True)


def test_nobody_else_poses_as_the_witness(server: Server) -> None:
    body = History().request(0, 3)
    with pytest.raises(ssl.SSLCertVerificationError):
        server.post(body, ssl.create_default_context(cadata=new_authority().pem.decode()))
    with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
        server.post(body, trusting(), host="localhost")


def test_nothing_is_answered_in_the_clear(server: Server) -> None:
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        server.post(History().request(0, 3), None)


def test_tls_before_1_2_is_refused(server: Server) -> None:
    old = trusting()
    # At security level 0 OpenSSL would still offer it: the refusal is the witness's.
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.post(History().request(0, 3), old)


@pytest.mark.parametrize("name", ["tls.pem", "tls.key"])
def test_a_witness_does_not_fall_back_to_the_clear(tmp_path: Path, name: str) -> None:
    server = Server(tmp_path)
    (server.path / name).write_text("no PEM")
    done = subprocess.run(
        [sys.executable, *COMMAND, str(server.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 3
    assert (done.stdout, "TLS files of" in done.stderr) == ("", True)


async def test_a_broker_has_its_logs_cosigned_over_tls(template: City, tmp_path: Path) -> None:
    with witnessed(template, tmp_path / "city", authority=AUTHORITY) as witnesses:
        assert all(url.startswith("https://") for url in witnesses.urls.values())
        city = witnesses.city
        async with city.client() as client:
            receipt = await client.cosigned(await answered(client), timeout=TIMEOUT)
    cosigned = open_cosigned(receipt.checkpoint, city.home(APPLICATIONS).trust.access_log, witnesses.policy)
    assert cosigned.quorum
