"""Who makes the agent's image for whom."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import pytest

ENDINGS = ("tar.gz", "tar.gz.ids", "tar.part")
HAS, HAS_NOT = [{"Id": "sha256:5f0c"}], []


NAME, PODMANS = "scalr-backup:1-5f0c", "localhost/scalr-backup:1-5f0c"


def leader(derived: Any, found: dict[str, list | None], alive: list[str], source: str, asked: str = "") -> str:
    """Which host of a batch sees to the archive; *found* is what each has seen of the image, None one that did not look."""
    hostvars = {
        host: {
            "inventory_hostname": host,
            "__backup_image": PODMANS if host.startswith("podman") else NAME,
            **({} if images is None else {"__backup_image_found": {"images": images}}),
        }
        for host, images in found.items()
    }
    play = {"ansible_play_batch": list(found), "ansible_play_hosts": alive, "hostvars": hostvars}
    return derived("__backup_image_leader", backup_image_from=source, **play, **hostvars[asked or alive[0]])


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


def test_each_kind_of_engine_has_an_archive_and_a_leader_of_its_own(derived: Any) -> None:
    found = {"podman1": HAS_NOT, "web1": HAS_NOT, "podman2": HAS_NOT, "web2": HAS_NOT}
    leaders = {host: leader(derived, found, list(found), "controller", asked=host) for host in found}
    assert leaders == {"podman1": "podman1", "web1": "web1", "podman2": "podman1", "web2": "web1"}

    hostvars = {host: {"__backup_image": name} for host, name in (("podman1", PODMANS), ("web1", NAME))}
    hostvars["gone"] = {}
    theirs = [f"{stem}.{end}" for stem in ("scalr-backup-1-5f0c", "localhost-scalr-backup-1-5f0c") for end in ENDINGS]
    others = [f"scalr-backup-0-5f0c.{end}" for end in ENDINGS] + ["scalr-backup-1-5f0c0.tar.gz"]
    files = [{"path": f"/home/me/.cache/scalr-backup/{name}"} for name in theirs + others]
    old = derived(
        "__backup_archives_old", hostvars=hostvars, ansible_play_hosts_all=list(hostvars), __backup_archives={"files": files}
    )  # fmt: skip
    assert [path.rpartition("/")[2] for path in old] == others


@pytest.mark.parametrize(
    ("there", "image", "expected"),
    [
        ({"__backup_image": NAME}, "", NAME),
        # One that is not in this run.
        ({}, "", PODMANS),
        ({}, "registry.example.com/agent:1@sha256:" + "5f0c" * 16, "registry.example.com/agent@sha256:" + "5f0c" * 16),
    ],
)
def test_a_host_is_asked_for_the_image_by_its_own_name(
    derived: Any, there: dict[str, str], image: str, expected: str
) -> None:
    given = {"backup_image": image, "backup_image_from": "web1", "__backup_image": PODMANS}
    assert derived("__backup_image_there", hostvars={"web1": there}, **given) == expected


@pytest.mark.parametrize(("source", "shipped"), [("", False), ("web1", False), ("web2", True), ("controller", True)])
def test_whoever_makes_it_is_sent_nothing(derived: Any, source: str, shipped: bool) -> None:
    assert derived("__backup_is_shipped", "web1", backup_image_from=source) is shipped


DIGEST = "sha256:" + "5f0c" * 16
OTHER = "sha256:" + "0d2f" * 16


@pytest.mark.parametrize(
    ("image", "digest"),
    [
        (f"registry.example.com/agent@{DIGEST}", DIGEST),
        (f"registry.example.com:5000/me/agent:1@{DIGEST}", DIGEST),
        ("registry.example.com/agent:1", ""),
        (f"@{DIGEST}", ""),
        (DIGEST, ""),
        (f"agent@{DIGEST}0", ""),
        ("", ""),
    ],
)
def test_what_fixes_an_image_is_its_digest(derived: Any, image: str, digest: str) -> None:
    assert derived("__backup_image_digest", backup_image=image) == digest
    assert derived("__backup_names_nothing_fixed", backup_image=image) is bool(image and not digest)
    assert derived("__backup_names_nothing_fixed", backup_image=image, backup_image_id=OTHER) is False


def test_what_is_shipped_by_digest_has_a_name_that_a_cleanup_knows(derived: Any) -> None:
    image = f"registry.example.com/agent@{DIGEST}"
    shipped = derived("__backup_registry_image", backup_image=image, backup_image_from="controller")
    assert fnmatch(shipped, "scalr-backup:*-????????????")
    assert shipped.endswith(f"-{DIGEST[7:19]}")
    for source in ("", "web1"):
        assert derived("__backup_registry_image", "web1", backup_image=image, backup_image_from=source) == image
    podman = {"__backup_engine": {"stdout": "5.4.2 Podman Engine"}}
    assert derived("__backup_registry_image", backup_image=image, backup_image_from="controller", **podman) == (
        f"localhost/{shipped}"
    )


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (f"registry.example.com:5000/me/agent:0.8.0@{DIGEST}", f"registry.example.com:5000/me/agent@{DIGEST}"),
        (f"registry.example.com:5000/me/agent@{DIGEST}", f"registry.example.com:5000/me/agent@{DIGEST}"),
        (f"agent:0.8.0@{DIGEST}", f"agent@{DIGEST}"),
        ("registry.example.com:5000/me/agent:0.8.0", "registry.example.com:5000/me/agent:0.8.0"),
    ],
)
def test_an_image_by_tag_and_digest_is_called_what_an_engine_calls_it(derived: Any, given: str, wanted: str) -> None:
    """Docker's modules look for NAME:TAG@DIGEST among the names of images, and none has such a name."""
    assert derived("__backup_registry_image", backup_image=given) == wanted


def test_images_of_earlier_digests_go_and_no_others(derived: Any) -> None:
    there = [
        f"registry.example.com/agent@{OTHER} <none>",
        f"registry.example.com/agent@{DIGEST} <none>",
        f"registry.example.com/agent@{OTHER} 1",  # somebody has given it a tag
        f"registry.example.com/agent-of-others@{OTHER} <none>",
        f"elsewhere.example.com/agent@{OTHER} <none>",
        "scalr-backup@<none> 1",
        "<none>@<none> <none>",
    ]
    for image in (f"registry.example.com/agent@{DIGEST}", f"registry.example.com/agent:0.8.0@{DIGEST}"):
        found = derived("__backup_pulled_before", backup_image=image, __backup_own_images={"stdout_lines": there})
        assert found == [f"registry.example.com/agent@{OTHER}"]
    nothing = derived("__backup_pulled_before", backup_image="", __backup_own_images={"stdout_lines": there})
    assert nothing == []
