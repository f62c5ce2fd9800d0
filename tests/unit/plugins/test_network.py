# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which network the container that prunes for another host gets: the machine's own only where it cannot do without."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.scalr.backup.plugins.module_utils import _network as network

KNOWN = {"store.test": ["192.0.2.7"], "six.test": ["2001:db8::7"], "both.test": ["192.0.2.7", "2001:db8::7"], "me.test": ["127.0.1.1"],
         "beside.test": ["172.30.0.5"], "hosts.test": ["192.0.2.8"], "inside.test": ["2001:db8::9", "10.9.8.7"],
         "outside.test": ["93.184.215.14"]}  # fmt: skip
ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0
br-0123456789ab\t00001EAC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0
"""
S3 = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine that knows some names."""

    def look_up(name, *_rest, **_options):
        addresses = KNOWN.get(name, [name])
        try:
            return [(0, 0, 0, "", (str(network.ip_address(one)), 0)) for one in addresses]
        except ValueError:
            raise socket.gaierror from None

    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n192.0.2.8 hosts.test alias # x\n::1 six\nodd\n")
    monkeypatch.setattr(network, "_ROUTES", tmp_path / "route")
    monkeypatch.setattr(network, "_HOSTS", tmp_path / "hosts")
    monkeypatch.setattr(network, "_RESOLVERS", tmp_path / "resolv.conf")
    monkeypatch.setattr(network.socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("address", "environment"),
    [
        ("rest:https://store.test:8000/web1/", {}), ("rest:http://192.0.2.7:8000/", {}), ("s3:https://store.test/b", S3),
        ("s3:store.test/b", S3), ("sftp:u@store.test:/srv", {}), ("sftp://u@store.test:2222//srv", {}),
        ("rest:https://both.test/", {}), ("rest:https://unknown.test/", {}), ("b2:bucket:path", {"B2_ACCOUNT_ID": "x"}),
        ("rclone:remote:path", {"RCLONE_CONFIG_REMOTE_HOST": "store.test"}),
        ("rest:https://store.test/", {"HTTPS_PROXY": "http://store.test:3128"}), ("rest:https://[broken/", {}),
        ("rest:https://localhost.store.test/", {}), ("rest:https://store.test/localhost", {}),
        ("rest:https://127.0.0.1@store.test/", {}), ("azure:c:/", {"AZURE_ACCOUNT_NAME": "x"}),
        ("s3:https://store.test/b", {}),  # the trusted place takes no credentials from the cloud's own server
    ],
)  # fmt: skip
def test_a_store_elsewhere_needs_none_of_the_machines(address, environment):
    assert network.network_options(address, environment) == ["--network=bridge"]


@pytest.mark.parametrize(
    ("address", "environment"),
    [
        ("rest:http://localhost:8000/", {}), ("rest:http://LOCALHOST:8000/", {}), ("rest:http://x.localhost/", {}),
        ("rest:http://127.9.8.7:8000/", {}), ("rest:http://[::1]:8000/", {}), ("rest:http://0.0.0.0:8000/", {}),
        ("rest:http://[::ffff:127.0.0.1]/", {}), ("rest:http://me.test/", {}), ("s3:http://localhost:9000/b", S3),
        ("s3:localhost:9000/b", S3), ("sftp:u@localhost:/srv", {}), ("sftp:u@[::1]:/srv", {}),
        ("sftp://u@127.0.0.1:2222//srv", {}), ("rclone:r:p", {"RCLONE_CONFIG_R_ENDPOINT": "http://127.0.0.1:9000"}),
        ("rclone:r:p", {"RCLONE_CONFIG_R_HOST": "localhost"}), ("rest:https://store.test/", {"https_proxy": "localhost:3128"}),
        ("rest:http://beside.test/", {}),  # a container in a network of its own
        ("rest:http://six.test/", {}),  # the default network has no IPv6
    ],
)  # fmt: skip
def test_one_on_the_machine_itself_does(address, environment):
    assert network.network_options(address, environment) == ["--network=host"]


def test_an_address_of_the_machine_itself_is_on_it(monkeypatch):
    monkeypatch.setattr(network, "_is_bound", lambda address: str(address) == "192.0.2.7")
    assert network.network_options("rest:http://store.test/", {}) == ["--network=host"]


def test_nobody_listens_on_an_address_of_another():
    assert network._is_bound(network.ip_address("127.0.0.1"))
    assert not network._is_bound(network.ip_address("192.0.2.1"))


def test_a_name_that_only_the_file_of_hosts_knows_goes_along():
    expected = ["--network=bridge", "--add-host=hosts.test:192.0.2.8"]
    assert network.network_options("rest:http://hosts.test/", {"HTTP_PROXY": "http://hosts.test:1"}) == expected


@pytest.mark.parametrize(
    ("resolvers", "goes_along"),
    [
        ("nameserver 127.0.0.53\noptions edns0\n", True), ("nameserver 127.0.0.1\nnameserver ::1\n", True),
        ("nameserver 10.0.0.2\nnameserver 127.0.0.1\n", False), ("# nameserver 127.0.0.1\nnameserver\n", False), (None, False),
    ],
)  # fmt: skip
def test_a_private_name_that_only_this_machine_can_look_up_goes_along(tmp_path, resolvers, goes_along):
    if resolvers is not None:
        (tmp_path / "resolv.conf").write_text(resolvers)
    expected = ["--network=bridge", *(["--add-host=inside.test:10.9.8.7"] if goes_along else [])]
    assert network.network_options("rest:http://inside.test/", {}) == expected
    assert network.network_options("rest:http://outside.test/", {}) == ["--network=bridge"]
    assert network.network_options("rest:http://10.9.8.7/", {}) == ["--network=bridge"]


def test_a_directory_has_no_server():
    assert network.server_of("/srv/x:y") is network.server_of("local:/srv") is None
    assert network.server_of("gs:bucket:/") == ""
