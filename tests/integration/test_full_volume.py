"""What the documentation says to do when a volume is full, with a real container."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.containers import DatabaseContainer, docker, running
from tests.support.documented import documented


@pytest.fixture
def house() -> Iterator[DatabaseContainer]:
    house = DatabaseContainer(f"full-{secrets.token_hex(4)}-db")
    with running(house):
        yield house


def test_the_steps_for_a_full_volume_can_be_followed(house: DatabaseContainer) -> None:
    house.sql("CREATE TABLE orders AS SELECT 1 AS id")
    names, larger = {"scalr-foo-db": house.name}, f"{house.name}-larger"

    follow(documented("docker update --restart=no scalr-foo-db && docker stop scalr-foo-db", names))
    assert "shut down" in follow(documented("docker logs --tail 20 scalr-foo-db", names))
    mounts = follow(
        documented(
            """docker inspect --format '{{ range .Mounts }}{{ .Source }} on {{ .Destination }}{{ "\\n" }}{{ end }}' scalr-foo-db""",
            names,
        )
    )
    assert " on /var/lib/postgresql/data" in mounts
    assert "Use%" in follow(documented("df -h /var/lib/docker"))
    try:
        follow(
            documented(
                "docker run --rm --volumes-from scalr-foo-db -v foo-larger:/larger postgres:17 "
                "cp -a /var/lib/postgresql/data/. /larger/",
                {**names, "foo-larger": larger},
            )
        )
        copied = docker("run", "--rm", "--volume", f"{larger}:/larger:ro", house.image, "cat", "/larger/PG_VERSION")
        assert copied.stdout == "17\n"
    finally:
        docker("volume", "rm", "--force", larger)

    start = documented("docker start scalr-foo-db && docker logs --follow --since 1m scalr-foo-db", names)
    # Whoever waits for the sentence ends the log when it has come.
    ready = "database system is ready to accept connections"
    assert ready in follow(f"{{ {start}; }} 2>&1 | grep --line-buffered --max-count=1 '{ready}'")
    house.wait()
    assert house.sql("SELECT id FROM orders").strip() == "1"


def follow(command: str) -> str:
    """Run a command as whoever copies it does; what it printed, on either stream."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
