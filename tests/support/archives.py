"""Archives and manifests that somebody else than pg_dump wrote, put into a repository by whoever may write there."""

from __future__ import annotations

import base64
import json

from tests.support.containers import AgentContainer, DatabaseContainer, docker


def dumped(server: DatabaseContainer, database: str, *options: str) -> bytes:
    """What pg_dump writes of a database, as an agent saves it."""
    argv = ["pg_dump", "-U", server.user, "-Fc", "-Z0", *options, "-d", f"dbname='{database}'"]
    script = f"{' '.join(_quoted(one) for one in argv)} | base64"
    return base64.b64decode(docker("exec", server.name, "sh", "-c", script).stdout)


def with_text(archive: bytes, begins: str, text: str) -> bytes:
    """The same archive with another text in place of the only one of its table of contents that begins so."""
    place = archive.index(begins.encode())
    assert archive.find(begins.encode(), place + 1) == -1, begins
    length = int.from_bytes(archive[place - 4 : place], "little")
    new = text.encode()
    return archive[: place - 4] + len(new).to_bytes(4, "little") + new + archive[place + length :]


def text_of(archive: bytes, begins: str) -> str:
    """The text of the table of contents that begins so."""
    place = archive.index(begins.encode())
    length = int.from_bytes(archive[place - 4 : place], "little")
    return archive[place : place + length].decode()


def save_as_dump(agent: AgentContainer, container: str, database: str, archive: bytes, run: str) -> str:
    """Add a dump to a run; the new snapshot's id."""
    restic = (
        "base64 -d | restic backup --json --stdin --stdin-filename "
        f"{_quoted(f'/{container}/{database}.dump')} --host test-host --tag {_quoted(container)} --tag {_quoted(f'run={run}')}"
    )
    saved = docker(
        "exec", "-i", "-e", "RESTIC_REPOSITORY=/repository", "-e", "HOME=/tmp",
        "-e", "RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password", agent.name, "sh", "-c", restic,
        stdin=base64.b64encode(archive).decode(),
    ).stdout.splitlines()[-1]  # fmt: skip
    return str(json.loads(saved)["snapshot_id"])


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
