"""Where figures may be asked for: on the machine itself, and nowhere else."""

import ipaddress
import re

_FORM = re.compile(r"(?:\[([0-9a-f:]+)\]|([0-9.]+)):([0-9]{1,5})", re.ASCII)
_WANTED = "write 127.0.0.1:PORT or [::1]:PORT: figures are for this machine alone"


def check_loopback(address: str) -> str:
    """The address, where it is one of the loopback interface, or empty, which turns the port off.

    Args:
        address: HOST:PORT, the host as a number: a name may come to mean another machine.

    Raises:
        ValueError: it is another one, or has another form.
    """
    if address:
        split_address(address)
    return address


def split_address(address: str) -> tuple[str, int]:
    """Host and port of a loopback address.

    Raises:
        ValueError: it is another one, or has another form.
    """
    found = _FORM.fullmatch(address)
    if found is None:
        raise ValueError(_WANTED)
    host, port = found[1] or found[2], int(found[3])
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(_WANTED)
    if not 0 < port < 1 << 16:
        raise ValueError("a port is a number from 1 to 65535")
    return host, port
