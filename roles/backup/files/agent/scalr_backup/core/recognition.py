# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers run a PostgreSQL server, whatever they are called.

Judged by the engine's list of containers alone: its image, command, labels, mounts and ports. What no rule matches is never
inspected, since an inspect document holds the environment with its passwords, and the socket proxy refuses it.

The command counts first, because images of tools are often made from a server's image and inherit its volume and port. A
command that says nothing, such as /start.sh, leaves it to the image's name, a mounted data directory, port 5432 or the name
of the compose service.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scalr_backup.core.records.passes import UnmatchedRecord

# A stopped container changes nothing and cannot be backed up; one that is paused or restarts all the time holds live data.
_ALIVE = {"running", "restarting", "paused"}
_PORT = 5432

# Names of images of servers are made of these words ...
_SERVERS = {
    "postgres", "postgresql", "postgis", "timescaledb", "timescale", "pgvector", "citus", "spilo", "patroni", "paradedb",
    "pgroonga", "pgrouting", "alloydbomni", "orioledb", "pgautoupgrade", "vchord", "vectorchord",
}  # fmt: skip
# ... and of these, and of versions; with any other word the name may be that of a tool, or of an app.
_VARIANTS = {
    "pg", "ha", "repmgr", "oss", "gis", "ssl", "tls", "all", "db", "database", "server", "main", "primary", "replica",
    "standby", "alpine", "debian", "bookworm", "trixie", "bullseye", "ubi", "crunchy", "percona", "distribution", "edb",
    "advanced", "enterprise", "bitnami", "documentdb", "vector", "cron", "partman", "age", "contrib", "extensions", "suite",
}  # fmt: skip
_VERSION = re.compile(r"v?\d[a-z0-9]*\Z|(?:pg|ubi|c|el|rhel|centos|debian)\d+[a-z]*\Z")
_AS_A_WHOLE = {"apache/age"}
# A word in the name of an image, or a part of a program's path, that is no server's: it inherits nothing as evidence.
_TOOLS = {
    "backup", "backups", "backrest", "pgbackrest", "barman", "wal", "walg", "dump", "restore", "exporter", "pgadmin", "pgadmin4",
    "pgbouncer", "bouncer", "pgpool", "pgpool2", "pgcat", "pgdog", "odyssey", "supavisor", "proxy", "haproxy", "socat",
    "postgrest", "postgraphile", "meta", "migrate", "migration", "migrations", "operator", "client", "cli", "pgweb", "pghero",
    "adminer", "dbeaver", "cloudbeaver", "pgbadger", "pgwatch", "mcp", "liquibase", "flyway",
}  # fmt: skip

# Programs that are a server, or start one and nothing else.
_SERVER_PROGRAM = re.compile(
    r"(?:.*/)?(?:postgres|postmaster|run-postgresql|patroni|pg_autoctl)\Z|.*/postgresql(?:-repmgr)?/run\.sh\Z"
)
# Programs that start the one that follows them.
_WRAPPER = re.compile(
    r"(?:.*/)?(?:[\w.-]*entrypoint[\w.-]*|tini(?:-static)?|dumb-init|catatonit|docker-init|exec|env|nohup|nice|timeout|gosu|su-exec|setpriv)\Z"
)
# What some of them take before it: how many words that are no options.
_WORDS_OF_WRAPPERS = {"gosu": 1, "su-exec": 1, "timeout": 1}
_SHELL = re.compile(r"(?:.*/)?(?:sh|bash|ash|dash)\Z")
_OTHER_PROGRAM = re.compile(
    r"(?:.*/)?(?:psql|pg_dump|pg_dumpall|pg_restore|pg_isready|pg_basebackup|pg_receivewal|createdb|dropdb|pgbench|vacuumdb|sleep|"
    r"tail|cat|true|false|crond?|go-cron|supercronic|python3?|node|java|ruby|php|nginx|curl|wget|nc|sh|bash|ash|dash)\Z"
)
_PARTS_OF_SCRIPTS = re.compile(r"&&|\|\||[;|&\n]|\b(?:do|then|else)\b")
WHAT_TO_DO = (
    "To back up such a container, match it with backup_containers or label it scalr.backup=true; to leave it out on "
    "purpose, label it scalr.backup=false or name it in backup_exclude."
)

# What starts a server stands near the beginning; a command may be of two megabytes.
_MOST_CHARACTERS = 8192
# Shells within shells that are followed.
_DEPTH = 3
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")

# Where images keep the data directory.
_DATA_DIRECTORY = re.compile(
    r"/(?:var/lib/(?:postgresql|postgres|pgsql)|bitnami/postgresql|home/postgres|pgdata|opt/bitnami/postgresql/data)(?:/.*)?\Z"
)
# Docker's name for an anonymous volume: the image declares it, which tools inherit.
_ANONYMOUS = re.compile(r"[0-9a-f]{64}\Z")

# What other programs mark containers with that live as long as a test.
_OF_TESTS = ("org.testcontainers", "com.gitlab.gitlab-runner")
_COMPOSE_SERVICE = "com.docker.compose.service"
_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True)
class Unmatched:
    """A PostgreSQL container that nothing backs up: *evidence* is what shows the server, *why* what keeps it out."""

    name: str
    image: str
    state: str
    evidence: str
    why: str

    def as_dict(self) -> UnmatchedRecord:
        """The container as the JSON contract shows it."""
        return {
            "name": self.name, "image": self.image, "state": self.state, "evidence": self.evidence, "why": self.why,
        }  # fmt: skip


class _Program(Enum):
    """What a command starts."""

    SERVER = "a server"
    OTHER = "something else"
    UNKNOWN = "nobody knows"


def server_evidence(summary: Mapping[str, Any]) -> str | None:
    """What shows that a container of the engine's list runs a PostgreSQL server, in a few words; None where nothing does.

    Never raises: what the list says is whatever somebody has made of a container.
    """
    labels = _texts(summary.get("Labels"))
    if str(summary.get("State")) not in _ALIVE or any(label.startswith(_OF_TESTS) for label in labels):
        return None
    program = _program(_words(summary.get("Command")))
    if program is _Program.SERVER:
        return "its command starts postgres"
    names = [_repository(str(summary.get("Image") or "")), labels.get(_TITLE, "").lower()]
    if program is _Program.OTHER or any(_TOOLS & set(_tokens(name)) for name in names):
        return None
    return _circumstances(summary, labels, names)


def sentence(names: Sequence[str], *, most: int = 10) -> str:
    """Say that these are not backed up."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    count = "1 PostgreSQL container is" if len(names) == 1 else f"{len(names)} PostgreSQL containers are"
    return f"{count} not backed up: {', '.join(names[:most])}{more}"


def _circumstances(summary: Mapping[str, Any], labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    """What shows a server where the command says nothing."""
    if any(_is_server(name) for name in names):
        return f"its image is {summary.get('Image')}"
    if place := next(_data_directories(summary.get("Mounts")), None):
        return f"it keeps data in {place}"
    if any(port.get("PrivatePort") == _PORT for port in _documents(summary.get("Ports"))):
        return f"it listens on port {_PORT}"
    if labels.get(_COMPOSE_SERVICE, "").lower() in _SERVERS:
        return f"its compose service is {labels[_COMPOSE_SERVICE]}"
    return None


def _repository(image: str) -> str:
    """An image's name without registry, tag and digest; the last two components of its path."""
    path = image.partition("@")[0].lower().split("/")
    return "/".join([*path[-2:-1], path[-1].partition(":")[0]])


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[-_.\s]", name.rpartition("/")[2]) if token]


def _is_server(name: str) -> bool:
    """Whether a name of an image says PostgreSQL and nothing besides."""
    tokens = _tokens(name)
    known = all(token in _SERVERS | _VARIANTS or _VERSION.match(token) for token in tokens)
    return name in _AS_A_WHOLE or (known and any(token in _SERVERS for token in tokens))


def _words(command: object) -> list[str]:
    """A command's words; the engine's list joins them to one text, Podman's does not."""
    if isinstance(command, list):
        return [str(word)[:_MOST_CHARACTERS] for word in command[:_MOST_CHARACTERS]]
    text = command[:_MOST_CHARACTERS] if isinstance(command, str) else ""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _program(words: Sequence[str], depth: int = 0) -> _Program:
    """What a command starts, behind wrappers and within a shell's script."""
    rest = _behind_wrappers(words)
    if not rest or rest[0].startswith("-"):
        return _Program.UNKNOWN
    if _SERVER_PROGRAM.match(rest[0]):
        return _Program.SERVER
    if _SHELL.match(rest[0]) and len(rest) > 1 and depth < _DEPTH:
        return _of_shell(rest[1:], depth)
    if _OTHER_PROGRAM.match(rest[0]) or _TOOLS & set(re.split(r"[/_.-]", rest[0].lower())):
        return _Program.OTHER
    return _Program.UNKNOWN


def _behind_wrappers(words: Sequence[str]) -> list[str]:
    """The words from the first program on that is not a wrapper."""
    rest = list(words)
    while rest and (_WRAPPER.match(rest[0]) or _ASSIGNMENT.match(rest[0])):
        wrapper = rest.pop(0).rpartition("/")[2]
        # docker-entrypoint.sh has options only for the server that it starts; others take theirs before the program.
        if "entrypoint" in wrapper:
            continue
        while rest and rest[0].startswith("-"):
            rest.pop(0)
        del rest[: _WORDS_OF_WRAPPERS.get(wrapper, 0)]
    return rest


def _of_shell(arguments: Sequence[str], depth: int) -> _Program:
    """What a shell starts: with -c the commands of a script, else the program in a file; by itself it waits for a human."""
    for number, argument in enumerate(arguments):
        if re.match(r"-[a-z]*c\Z", argument):
            return _of_script(" ".join(arguments[number + 1 : number + 2]), depth)
        if not argument.startswith("-"):
            return _program(arguments[number:], depth + 1)
    return _Program.OTHER


def _of_script(script: str, depth: int) -> _Program:
    """What a shell's script starts: a server if any of its commands does."""
    found = {_program(_words(part.strip()), depth + 1) for part in _PARTS_OF_SCRIPTS.split(script) if part.strip()}
    return next((kind for kind in (_Program.SERVER, _Program.OTHER) if kind in found), _Program.UNKNOWN)


def _data_directories(mounts: object) -> Iterator[str]:
    """Where a writable data directory is mounted."""
    for mount in _documents(mounts):
        place, name = str(mount.get("Destination") or ""), str(mount.get("Name") or "")
        if _DATA_DIRECTORY.match(place) and mount.get("RW") is not False and not _ANONYMOUS.match(name):
            yield place


def _documents(things: object) -> list[Mapping[str, Any]]:
    return [thing for thing in things if isinstance(thing, Mapping)] if isinstance(things, list) else []


def _texts(labels: object) -> dict[str, str]:
    return {str(name): str(value) for name, value in labels.items()} if isinstance(labels, Mapping) else {}
