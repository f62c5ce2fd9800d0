"""Who makes the agent's image for whom."""

from __future__ import annotations

from typing import Any

import pytest

HAS, HAS_NOT = [{"Id": "sha256:5f0c"}], []


def leader(derived: Any, found: dict[str, list | None], alive: list[str], source: str) -> str:
    """Which host of a batch sees to the archive; *found* is what each has seen of the image, None one that did not look."""
    hostvars = {
        host: {"inventory_hostname": host, **({} if images is None else {"__backup_image_found": {"images": images}})}
        for host, images in found.items()
    }
    play = {"ansible_play_batch": list(found), "ansible_play_hosts": alive, "hostvars": hostvars}
    return derived("__backup_image_leader", backup_image_from=source, **play)


@pytest.mark.parametrize(
    ("found", "alive", "source", "expected"),
    [
        ({"web1": HAS_NOT, "web2": HAS_NOT}, ["web1", "web2"], "controller", "web1"),
        ({"web1": HAS, "web2": HAS_NOT, "web3": HAS_NOT}, ["web1", "web2", "web3"], "controller", "web2"),
        ({"web1": HAS_NOT, "web2": HAS_NOT}, ["web2"], "controller", "web2"),
        ({"web1": None, "web2": HAS_NOT}, ["web1", "web2"], "controller", "web2"),
        # What the maker has seen was before it made the image.
        ({"web1": HAS_NOT, "web2": HAS_NOT}, ["web1", "web2"], "web1", "web2"),
    ],
)
def test_one_host_that_needs_the_image_sees_to_it(
    derived: Any, found: dict[str, list | None], alive: list[str], source: str, expected: str
) -> None:
    assert leader(derived, found, alive, source) == expected


@pytest.mark.parametrize(("source", "shipped"), [("", False), ("web1", False), ("web2", True), ("controller", True)])
def test_whoever_makes_it_is_sent_nothing(derived: Any, source: str, shipped: bool) -> None:
    assert derived("__backup_is_shipped", "web1", backup_image_from=source) is shipped
