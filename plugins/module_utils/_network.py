# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which network a container needs to reach a store: a bridge of the engine's, unless the store is on this machine.

In the machine's own network a container reaches whatever listens on the machine for nobody else. Only what is known here
decides: the address, the variables of the store, the file of hosts, the name servers, and the machine's own addresses.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Union

    _Ip = Union[IPv4Address, IPv6Address]

#: The machine's own network, and the engine's default one.
OF_MACHINE, OF_ENGINE = "--network=host", "--network=bridge"

_HOSTS, _ROUTES = Path("/etc/hosts"), Path("/proc/net/route")
_RESOLVERS = Path("/etc/resolv.conf")
# What ends so is a server even without a scheme.
_NAMES_A_SERVER = ("_PROXY", "_HOST", "_ENDPOINT")


def network_options(address: str, environment: Mapping[str, object]) -> list[str]:
    """The network of a container that speaks to a store, as options of ``docker run``.

    A name that only this machine's file of hosts knows goes along, and so does one of a private address where the name server
    is on this machine: the engine then asks a public one, which does not know it.
    """
    servers = [*filter(None, [server_of(address)]), *_servers_in(environment)]
    if any(is_here(server) for server in servers):
        return [OF_MACHINE]
    known = _file_of_hosts()
    if _asks_only_itself():
        known = {**{name: place for name in servers for place in _private_address(name)}, **known}
    return [OF_ENGINE, *(f"--add-host={name}:{known[name]}" for name in dict.fromkeys(servers) if name in known)]


def server_of(address: str) -> str | None:
    """The machine that a repository's address names, empty where it names none; None for a directory."""
    store, colon, place = address.partition(":")
    if not colon or store in ("local", "") or "/" in store:
        return None
    if "://" in place or place.startswith("//"):
        return _server(place)
    if store == "sftp":
        machine = place.rpartition("@")[2]
        return (machine[1:].partition("]")[0] if machine.startswith("[") else machine.partition(":")[0]).lower()
    if store in ("s3", "rest"):
        return _server(f"//{place}")
    return ""


def is_on_loopback(server: str) -> bool:
    """Whether a server's name or address means, by itself, whatever machine it is used on."""
    name = server.lower().rstrip(".")
    if name in ("localhost", "localhost.localdomain", "ip6-localhost") or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return _is_own(ip_address(name))
    return False


def is_here(server: str) -> bool:
    """Whether a server is on this machine, or out of reach from the engine's default network."""
    if is_on_loopback(server):
        return True
    addresses = list(_addresses(server))
    if any(_is_own(one) or _is_bound(one) or _is_on_own_bridge(one) for one in addresses):
        return True
    # The engine's default network has no IPv6 unless somebody gives it one.
    return bool(addresses) and all(one.version == 6 for one in addresses)


def _server(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""  # restic has the words for what is wrong with it.


def _servers_in(environment: Mapping[str, object]) -> Iterator[str]:
    for name, value in environment.items():
        text = str(value).strip()
        if "://" in text:
            yield _server(text)
        elif name.upper().endswith(_NAMES_A_SERVER):
            yield _server(f"//{text}")


def _addresses(server: str) -> Iterator[_Ip]:
    with contextlib.suppress(OSError, UnicodeError):
        for *_kind, place in socket.getaddrinfo(server, None, type=socket.SOCK_STREAM):
            # A link-local address has its interface behind a percent sign.
            yield ip_address(str(place[0]).partition("%")[0])


def _is_own(address: _Ip) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_unspecified


def _is_bound(address: _Ip) -> bool:
    """Whether it is one of this machine's own addresses: nobody can listen on another's."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as there:
        there.bind((str(address), 0))
        return True
    return False


def _is_on_own_bridge(address: _Ip) -> bool:
    """Whether it is that of a container in a network of its own, which the default one cannot reach."""
    if address.version != 4:
        return False
    with contextlib.suppress(OSError, ValueError, struct.error):
        for line in _ROUTES.read_text(encoding="utf-8").splitlines()[1:]:
            device, network, gateway, _flags, _count, _use, _metric, mask = line.split()[:8]
            begins, within = _host_order(network), _host_order(mask)
            if device.startswith("br-") and gateway == "00000000" and int(address) & within == begins:
                return True
    return False


def _host_order(number: str) -> int:
    """A number of the kernel's table of routes, whose bytes are those of the processor."""
    return int.from_bytes(struct.pack("=I", int(number, 16)), "big")


def _asks_only_itself() -> bool:
    """Whether every name server of this machine is on it, where no container of a network of its own reaches it."""
    asked: list[str] = []
    with contextlib.suppress(OSError):
        lines = _RESOLVERS.read_text(encoding="utf-8", errors="replace").splitlines()
        asked = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]
    return bool(asked) and all(is_on_loopback(one.partition("%")[0]) for one in asked)


def _private_address(server: str) -> list[str]:
    """The private IPv4 address of a name, where it has one."""
    with contextlib.suppress(ValueError):
        ip_address(server)
        return []
    return [str(one) for one in _addresses(server) if one.version == 4 and one.is_private][:1]


def _file_of_hosts() -> dict[str, str]:
    """The IPv4 addresses that this machine's file of hosts has, by their names."""
    known: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in _HOSTS.read_text(encoding="utf-8", errors="replace").splitlines():
            address, *names = line.partition("#")[0].split() or [""]
            with contextlib.suppress(ValueError):
                for name in names if ip_address(address).version == 4 else ():
                    known.setdefault(name.lower(), address)
    return known
