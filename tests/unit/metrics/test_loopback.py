"""Figures are for the machine itself: only loopback addresses are taken, and only loopback hosts answered."""

import json

import pytest
from prometheus_client import CollectorRegistry

from exchange.metrics.address import check_loopback, split_address
from exchange.metrics.serving import Pages, answered


@pytest.mark.parametrize("address", ["", "127.0.0.1:9743", "127.8.9.10:1", "[::1]:65535"])
def test_takes_what_is_loopback(address: str) -> None:
    assert check_loopback(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9743",
        "10.0.0.7:9743",
        "[::]:9743",
        "[::ffff:10.0.0.7]:9743",
        "localhost:9743",
        "broker.city.example:9743",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:9743\n",
        "127.0.0.256:9743",
        ":9743",
        "9743",
        "::1:9743",
    ],
)
def test_refuses_what_is_not(address: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:PORT|a port is a number"):
        check_loopback(address)


def test_splits_an_address() -> None:
    assert split_address("[::1]:9743") == ("::1", 9743)


# --- what the port answers


def reply(request: str, *reasons: str) -> tuple[str, str]:
    pages = Pages(CollectorRegistry(), lambda: reasons)
    head, _, body = answered(request.replace("\n", "\r\n").encode(), pages).decode().partition("\r\n\r\n")
    return head.splitlines()[0], body


def test_ready_says_why_not() -> None:
    assert reply("GET /ready HTTP/1.1\nHost: 127.0.0.1:1\n\n")[0] == "HTTP/1.1 200 OK"
    line, body = reply("GET /ready HTTP/1.1\nHost: 127.0.0.1:1\n\n", "no broker is attached")
    assert line == "HTTP/1.1 503 Service Unavailable"
    assert json.loads(body)["reasons"] == ["no broker is attached"]


def test_what_is_not_ready_is_alive_all_the_same() -> None:
    line, body = reply("GET /health HTTP/1.1\n\n", "no broker is attached")
    assert (line, json.loads(body)["status"]) == ("HTTP/1.1 200 OK", "alive")
    assert json.loads(body)["version"]


def test_a_head_request_gets_no_body() -> None:
    assert reply("HEAD /health HTTP/1.1\n\n") == ("HTTP/1.1 200 OK", "")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9743", "127.0.0.1", "127.0.0.1:9743", "[::1]:9743", "[::1]"])
def test_answers_under_a_loopback_name(host: str) -> None:
    assert reply(f"GET /health HTTP/1.1\nHost: {host}\n\n")[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9743", "127.0.0.1.evil.example", "10.0.0.7:9743"])
def test_a_web_page_cannot_read_it_under_a_name_of_its_own(host: str) -> None:
    assert reply(f"GET /metrics HTTP/1.1\nHost: {host}\n\n")[0] == "HTTP/1.1 421 Misdirected Request"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        ("GET /secrets HTTP/1.1", "404 Not Found"),
        ("GET /metrics", "400 Bad Request"),
        ("nonsense", "400 Bad Request"),
    ],
)
def test_anything_else_is_refused(request_line: str, status: str) -> None:
    assert reply(f"{request_line}\n\n")[0] == f"HTTP/1.1 {status}"
