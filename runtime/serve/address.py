"""Where a server listens, and what its clients may call it."""

import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from ...controller.errors import InputError
from .access import ANY, KEY_VARIABLE, LOOPBACK_NAMES


def listen(host: str, port: int, *, has_key: bool = False) -> socket.socket:
    """A socket that has the port, before models are loaded for nothing; InputError where there is none to have, or
    where others would reach it without a key."""
    if not 0 <= port <= 65535:
        raise InputError(f"port is between 0 and 65535, got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"host {host!r} has no address here ({error}); use 127.0.0.1") from error
    if not (has_key or ip_of(str(address[0])).is_loopback):
        raise InputError(
            f"host {host!r} is not a loopback address, and others are served with an API key only; give keys as "
            f"server.key_file or in the environment as {KEY_VARIABLE}, or use 127.0.0.1"
        )
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"port {port} on {host} is not available ({reason}); stop what listens there or choose another port"
        ) from error


def host_names(host: str, listener: socket.socket) -> tuple[str, ...]:
    """What requests may call a server that listens there, for the `host` that was asked for."""
    address = str(listener.getsockname()[0])
    if ip_of(address).is_unspecified:
        return (ANY,)
    return (*LOOPBACK_NAMES, *(f"[{name}]" if ":" in name else name for name in (host, address)))


def ip_of(address: str) -> IPv4Address | IPv6Address:
    """An address without its scope."""
    return ip_address(address.partition("%")[0])


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
