# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers are taken for PostgreSQL servers, and which only look like one, as the engine lists them."""

from __future__ import annotations

from typing import Any

import pytest
from scalr_backup.core.recognition import sentence, server_evidence

ENTRY = "docker-entrypoint.sh postgres"
ANONYMOUS = "dbdd663cb245e17fcbbbe62df3e84469569263c366d3fde9bb9eb76148bc01e3"
ID = "sha256:75807044259846a452dce289cf43b9767b13e65efa18c23aa739a8ada190a59d"


def listed(
    image: str, command: Any = "/start.sh", *, name="app-1", state="running", volume="", at="", port=None, **labels
):
    """A container as ``GET /containers/json`` lists it."""
    return {
        "Id": "1", "Names": [f"/{name}"], "Image": image, "Command": command, "State": state,
        "Labels": {label.replace("__", "."): value for label, value in labels.items()},
        "Mounts": [{"Type": "volume", "Name": volume, "Destination": at, "RW": True}] if at else [],
        "Ports": [{"PrivatePort": port, "Type": "tcp"}] if port else [],
    }  # fmt: skip


SERVERS = {
    "official": listed("postgres:17", ENTRY, name="myapp-postgres-1", volume=ANONYMOUS, at="/var/lib/postgresql/data"),
    "official with settings": listed("postgres", f"{ENTRY} -c shared_buffers=1GB -c log_statement=all"),
    "official, options only": listed("postgres:17", "docker-entrypoint.sh -c shared_buffers=1GB"),
    "official by digest": listed("docker.io/library/postgres@sha256:0123", ENTRY),
    "official whose tag has moved": listed(ID, ENTRY),
    "from a mirror with a port": listed("registry.example:5000/mirror/postgres:16-alpine", ENTRY),
    "restarting": listed("postgres:17", ENTRY, state="restarting"),
    "paused": listed("postgres:17", ENTRY, state="paused"),
    "behind tini": listed("postgres:17", f"/usr/bin/tini -s -- {ENTRY}"),
    "by a user": listed(ID, "gosu postgres postgres -D /data"),
    "an init script": listed("postgres:17", "sh -c 'chown postgres /tls && exec docker-entrypoint.sh postgres -c ssl=on'"),
    "a loop before it": listed(ID, "bash -ec 'until test -f /ready; do sleep 1; done; exec postgres -D /data'"),
    "a variable before it": listed(ID, "sh -c 'PGDATA=/data exec postgres'"),
    "a quote that docker does not close": listed("postgres:17", "sh -c 'echo it's; postgres"),
    "postgis": listed("postgis/postgis:17-3.5", ENTRY),
    "postgis of kartoza": listed("kartoza/postgis:17-3.5", "/bin/sh -c /scripts/docker-entrypoint.sh"),
    "timescale": listed("timescale/timescaledb:latest-pg17", ENTRY),
    "timescale with Patroni": listed("timescale/timescaledb-ha:pg17", "/docker-entrypoint.sh postgres"),
    "pgvector": listed("pgvector/pgvector:pg17", ENTRY),
    "citus": listed("citusdata/citus:13", ENTRY),
    "supabase": listed("supabase/postgres:17.4", "docker-entrypoint.sh postgres -c config_file=/etc/postgresql/postgresql.conf"),
    "immich": listed("ghcr.io/immich-app/postgres:16-vectorchord0.4", "/usr/local/bin/immich-docker-entrypoint.sh postgres"),
    "vchord": listed("tensorchord/vchord-postgres:pg17-v0.4", ENTRY),
    "apache age": listed("apache/age:PG17", "docker-entrypoint.sh"),
    "bitnami": listed(
        "bitnami/postgresql:17", "/opt/bitnami/scripts/postgresql/entrypoint.sh /opt/bitnami/scripts/postgresql/run.sh"
    ),
    "bitnami with replication": listed(
        "bitnamilegacy/postgresql-repmgr:17",
        "/opt/bitnami/scripts/postgresql-repmgr/entrypoint.sh /opt/bitnami/scripts/postgresql-repmgr/run.sh",
    ),
    "bitnami by id": listed(ID, "/entry.sh", org__opencontainers__image__title="postgresql"),
    "spilo": listed("ghcr.io/zalando/spilo-17:4.0-p2", "/bin/sh /launch.sh init"),
    "crunchy": listed("registry.example/crunchydata/crunchy-postgres-gis-ha:ubi9-17", "/opt/crunchy/bin/uid_postgres.sh"),
    "red hat": listed("registry.redhat.io/rhel9/postgresql-16:1", "container-entrypoint run-postgresql"),
    "cloudnative": listed("ghcr.io/cloudnative-pg/postgresql:17.5", "/controller/manager"),
    "own image, its command": listed("myapp-db", "/usr/lib/postgresql/17/bin/postgres -D /data"),
    "own image, named after its service": listed("myapp-postgres", ENTRY),
    "own image, a named volume": listed("corp/db:1", volume="myapp_pgdata", at="/var/lib/postgresql/data"),
    "own image, PostgreSQL 18's place": listed("corp/db:1", volume="pg", at="/var/lib/postgresql"),
    "own image, bitnami's place": listed("corp/db:1", volume="pg", at="/bitnami/postgresql"),
    "own image, its port": listed("corp/db:1", port=5432),
    "own image, its service": listed("corp/db:1", com__docker__compose__service="postgres"),
    "Podman's list": listed("localhost/postgres:17", ["docker-entrypoint.sh", "postgres"]),
}  # fmt: skip

OTHERS = {
    "pgadmin": listed("dpage/pgadmin4:9", "/entrypoint.sh", name="postgres-admin", port=80),
    "exporter": listed("quay.io/prometheuscommunity/postgres-exporter", "/bin/postgres_exporter", port=9187),
    "exporter by id": listed(ID, "/bin/postgres_exporter --web.listen-address=:9187"),
    "pgbouncer": listed("edoburu/pgbouncer:1.24", "/entrypoint.sh /usr/bin/pgbouncer /etc/pgbouncer/pgbouncer.ini", port=5432),
    "pgbouncer by id": listed(ID, "/entrypoint.sh /usr/bin/pgbouncer /etc/pgbouncer.ini", port=5432),
    "pgpool": listed("bitnami/pgpool:4", "/opt/bitnami/scripts/pgpool/entrypoint.sh /opt/bitnami/scripts/pgpool/run.sh", port=5432),
    "a proxy": listed("alpine/socat", "socat tcp-listen:5432,fork tcp:db:5432", port=5432),
    "postgrest": listed("postgrest/postgrest:v13", "postgrest", port=3000),
    "supabase's meta": listed("supabase/postgres-meta:v0.91", "docker-entrypoint.sh node dist/server/server.js"),
    "an app called so": listed("corp/shop:3", "node server.js", name="postgres-demo"),
    "an app's image called so": listed("corp/postgres-demo-app:3", name="postgres"),
    "an app that is told where it is": listed("corp/shop:3", "/app --database postgres --host postgres"),
    "an app that waits for it": listed("corp/shop:3", "/wait-for-it.sh postgres:5432 -- ./server"),
    "a script that waits for it": listed("corp/shop:3", "sh -c 'while ! nc -z postgres 5432; do sleep 1; done; ./server'"),
    "the agent": listed("scalr-backup:0.3.0", "scalr-backup serve", name="scalr-backup"),
    "the agent's proxy": listed("scalr-backup:0.3.0", "haproxy -db -f /opt/scalr-backup/socket-proxy/haproxy.cfg"),
    "psql from its image": listed("postgres:17", "docker-entrypoint.sh psql -h db -U postgres postgres", port=5432),
    "a shell in its image": listed("postgres:17", "bash", port=5432),
    "nothing but sleep": listed("postgres:17", "docker-entrypoint.sh sleep infinity", port=5432),
    "dumps from its image": listed("postgres:17", "sh -c 'while true; do pg_dump -h db postgres > /b; sleep 86400; done'", port=5432),
    "a script in its image": listed("postgres:17", "docker-entrypoint.sh /scripts/backup.sh", port=5432),
    "a tool made from it": listed("prodrigestivill/postgres-backup-local:17", "/init.sh", volume=ANONYMOUS, at="/var/lib/postgresql/data", port=5432),
    "a sidecar with its volume": listed("corp/wal-g:3", "wal-g daemon", volume="pgdata", at="/var/lib/postgresql/data"),
    "an inherited volume": listed("corp/job:1", volume=ANONYMOUS, at="/var/lib/postgresql/data"),
    "stopped": listed("postgres:17", ENTRY, state="exited"),
    "made and not started": listed("postgres:17", ENTRY, state="created"),
    "a test's": listed("postgres:17", ENTRY, org__testcontainers="true", org__testcontainers__lang="java"),
    "a CI job's": listed("postgres:17", ENTRY, com__gitlab__gitlab_runner="1") | {"Labels": {"com.gitlab.gitlab-runner.type": "service"}},
    "mysql": listed("mysql:9", "docker-entrypoint.sh mysqld", port=3306),
    "the build of an image": listed(ID, "/bin/sh -c 'apt-get update && apt-get install -y postgresql postgis'"),
    "a list without anything": {},
    "a list with other things in it": {"State": "running", "Command": 3, "Labels": [], "Mounts": {"a": 1}, "Ports": [None], "Image": None},
}  # fmt: skip


@pytest.mark.parametrize("which", SERVERS)
def test_a_server_is_recognised_whatever_it_is_called(which: str) -> None:
    assert server_evidence(SERVERS[which])


@pytest.mark.parametrize("which", OTHERS)
def test_what_only_looks_like_one_is_not(which: str) -> None:
    assert server_evidence(OTHERS[which]) is None


def test_a_directory_that_may_only_be_read_is_nobodys_data() -> None:
    container = listed("corp/db:1", volume="pg", at="/var/lib/postgresql/data")
    container["Mounts"][0]["RW"] = False
    assert server_evidence(container) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "1 PostgreSQL container is not backed up: a"),
        (["a", "b"], "2 PostgreSQL containers are not backed up: a, b"),
        ([f"c{number}" for number in range(12)], "12 PostgreSQL containers are not backed up: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more"),
    ],
)  # fmt: skip
def test_they_are_said_in_one_sentence(names: list[str], said: str) -> None:
    assert sentence(names) == said
