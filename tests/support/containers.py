"""Real containers for tests: databases, and the agent as the role runs it."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.restic_keys import cheap_key

# The product names its images by digest, which only a registry knows: tests take what this machine has by the same names.
STAND_INS = {"BASE_IMAGE": "debian:trixie-slim", "RESTIC_IMAGE": "restic/restic:0.19.1"}
AGENT_CONTEXT = Path(__file__).resolve().parents[2] / "roles" / "backup" / "files" / "agent"
# Not the role's own name: the role takes away images of that name which it does not need.
AGENT_IMAGE = "scalr-backup-test"
# The engine's socket on this machine, and where a container that may use it has it. With DOCKER_HOST it is another engine's, such
# as Podman's, which runs beside it.
_AT_SOCKET = "/var/run/docker.sock"
SOCKET = os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or _AT_SOCKET
PASSWORD = "correct horse battery staple"
# Of an engine beside it, the processes may have other numbers.
NSENTER = shutil.which("nsenter") if SOCKET == _AT_SOCKET else None
# Each process that Docker starts in a container costs its filter of system calls anew, a fifth of what the start costs, and
# the agent starts many in databases. It accepts such containers; molecule's and the demonstration's databases have the filter.
UNFILTERED = ("--security-opt", "seccomp=unconfined")
# Part of a script that wraps a program of a database container: it says how far it is, and waits until it is let go.
WAIT = "touch /tmp/reached; while [ ! -e /tmp/go-on ]; do sleep 0.1; done"


def docker(
    *arguments: str, stdin: str | bytes | None = None, check: bool = True, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the docker CLI; a failure that was not expected shows what it said."""
    if isinstance(stdin, bytes):
        stdin = stdin.decode()
    done = subprocess.run(
        ["docker", *arguments],
        input=stdin,
        text=True,
        errors="replace",
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)} exited with {done.returncode}: {done.stdout}{done.stderr}")
    return done


# The first processes of containers that have been run something inside of, by their names.
_FIRST_PROCESSES: dict[str, tuple[str, int]] = {}


def inside(
    name: str, *command: str, stdin: str | None = None, check: bool = True, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command in a container: as ``docker exec`` does, which takes a processor a tenth of a second each time.

    Where the tests are root beside the engine, nsenter(1) goes there by itself, with the first process's environment.
    """
    process = _first_process(name) if os.geteuid() == 0 and NSENTER else 0
    environment = _environment(process) if process else {}
    if not environment:
        options = [] if stdin is None else ["-i"]
        return docker("exec", *options, name, *command, stdin=stdin, check=check, timeout=timeout)
    done = subprocess.run(
        [str(NSENTER), f"--target={process}", "--all", "--root", "--wd", "--", *command],
        env=environment,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        text=True,
        errors="replace",
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{command} in {name} exited with {done.returncode}: {done.stdout}{done.stderr}")
    return done


def _first_process(name: str) -> int:
    """The process of this machine that is the first one of a running container, 0 where it cannot be seen from here."""
    container, process = _FIRST_PROCESSES.get(name, ("", 0))
    with suppress(OSError):
        # A number may belong to another process by now; a control group belongs to one container.
        if process and container in Path(f"/proc/{process}/cgroup").read_text():
            return process
    shown = docker("inspect", "--format", "{{.Id}} {{.State.Pid}} {{.State.Paused}}", name, check=False).stdout.split()
    if len(shown) != 3 or shown[1] == "0" or shown[2] == "true" or not Path(f"/proc/{shown[1]}/environ").exists():
        return 0
    _FIRST_PROCESSES[name] = (shown[0], int(shown[1]))
    return int(shown[1])


def _environment(process: int) -> dict[str, str]:
    """The variables that a process began with; none where it has just ended, as when its container restarts."""
    try:
        content = Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return {}
    pairs = content.decode(errors="surrogateescape").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def gateway_of(network: str) -> str:
    """The host's own address in a network of the engine; one that has just made its first bridge does not tell it."""
    [config] = json.loads(docker("network", "inspect", "--format", "{{json .IPAM.Config}}", network).stdout)
    return config.get("Gateway") or str(next(ipaddress.ip_network(config["Subnet"]).hosts()))


def socket_group() -> str:
    """The group of Docker's socket, which whoever is not root needs to speak to it."""
    return str(Path(SOCKET).stat().st_gid)


def far_hour() -> int:
    """The hour (UTC) that is as far away as any: what is scheduled then does not begin by itself while tests run."""
    return (datetime.now(UTC).hour + 12) % 24


def wait_until(condition: Any, what: str, seconds: float = 180) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        # What is asked is a process in a container more often than not, which takes a processor a tenth of a second.
        time.sleep(0.3)


@dataclass
class DatabaseContainer:
    """A PostgreSQL container; it is made with ``start`` and gone after ``remove``."""

    name: str
    image: str = "postgres:17"
    environment: Mapping[str, str] = field(default_factory=lambda: {"POSTGRES_PASSWORD": "s3cret"})
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    user: str = "postgres"
    command: Sequence[str] = ()

    def start(self) -> DatabaseContainer:
        """Run it and wait until it answers over TCP: the entry point's first, temporary server does not."""
        arguments = ["run", "--detach", "--name", self.name, *UNFILTERED, *self.options]
        for name, value in self.environment.items():
            arguments += ["--env", f"{name}={value}"]
        for name, value in self.labels.items():
            arguments += ["--label", f"{name}={value}"]
        docker(*arguments, self.image, *self.command)
        self.wait()
        return self

    def wait(self) -> None:
        """Wait until it answers; it is not asked before its port is open, which costs nothing to see."""
        wait_until(self._listens, f"{self.name} listens")
        wait_until(
            lambda: inside(self.name, "pg_isready", "-q", "-h", "127.0.0.1", check=False).returncode == 0,
            f"{self.name} answers",
            # An engine within an engine starts its containers late on a busy machine.
            seconds=180 if SOCKET == _AT_SOCKET else 300,
        )

    def _listens(self) -> bool:
        """Whether something listens on TCP port 5432 in its network; true where that cannot be seen from here."""
        shown = docker("inspect", "--format", "{{.State.Pid}}", self.name, check=False).stdout.strip()
        tables = [path for table in ("tcp", "tcp6") if (path := Path(f"/proc/{shown}/net/{table}")).exists()]
        if not tables or not NSENTER:
            return True
        rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
        # Port 5432, and the state LISTEN (proc(5)).
        return any(row[1].endswith(":1538") and row[3] == "0A" for row in rows)

    def remove(self) -> None:
        """Remove it with its volumes."""
        docker("rm", "--force", "--volumes", self.name, check=False)

    def sql(self, text: str, database: str = "postgres", *, check: bool = True, timeout: float = 300) -> str:
        """Run SQL; what it returns, unaligned."""
        arguments = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", self.user, "-d"]
        escaped = database.replace("\\", "\\\\").replace("'", "\\'")
        return inside(
            self.name, *arguments, f"dbname='{escaped}'", stdin=text, check=check, timeout=timeout
        ).stdout.rstrip("\n")

    def databases(self) -> set[str]:
        """The names of its databases, templates left out."""
        names = self.sql("SELECT to_json(datname) FROM pg_database WHERE NOT datistemplate")
        return {json.loads(line) for line in names.splitlines()}

    def fingerprint(self, database: str) -> dict[str, str]:
        """An order-independent hash over each table's rows."""
        rows = self.sql(
            r"""
            SELECT format('SELECT jsonb_build_array(%L, count(*) || '' '' || coalesce(sum(hashtextextended(t::text, 0)), 0)'
                          ') FROM %s AS t', relation, relation)
            FROM (SELECT format('%I.%I', schemaname, tablename) AS relation FROM pg_tables
                  WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1) AS tables \gexec
            """,
            database,
        )
        return dict(json.loads(row) for row in rows.splitlines())

    def sessions_of_agent(self) -> int:
        """How many sessions of a run of the agent are open."""
        return int(self.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^scalr-backup [0-9]{8}T'"))

    def processes(self, name: str) -> int:
        """How many processes of a program run in it."""
        script = 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline 2>/dev/null; echo; done'
        lines = inside(self.name, "sh", "-c", script).stdout.splitlines()
        return sum(line.split(" ")[0].rpartition("/")[2] == name for line in lines if line)

    def wrap(self, program: str, script: str) -> None:
        """Put a shell script before a client program of the container; ``$real`` is the program itself.

        The script may ``touch /tmp/reached`` to tell the test how far it is, and wait there as ``WAIT`` does.
        """
        find_real = f"type -aP {program} | grep -v ^/usr/local/sbin | head -1"
        place = f"/usr/local/sbin/{program}"
        docker("exec", self.name, "rm", "-f", "/tmp/reached", "/tmp/go-on")
        write = f"cat > {place} && chmod 755 {place}"
        docker("exec", "-i", self.name, "sh", "-c", write, stdin=f"#!/bin/bash\nreal=$({find_real})\n{script}\n")

    def reached(self) -> bool:
        """Whether a wrapping script has come to its mark."""
        return inside(self.name, "test", "-e", "/tmp/reached", check=False).returncode == 0

    def let_go(self) -> None:
        """Let wrapping scripts go on that wait, and those to come; until the next one is put there."""
        inside(self.name, "touch", "/tmp/go-on")

    def unwrap(self, program: str) -> None:
        """Take the script away."""
        docker("exec", self.name, "rm", "-f", f"/usr/local/sbin/{program}")


@dataclass(frozen=True)
class Call:
    """How a verb ended: its exit code, its result line, the events before it, and all it printed."""

    exit_code: int
    result: dict[str, Any]
    events: list[dict[str, Any]]
    output: str

    @property
    def data(self) -> dict[str, Any]:
        """The result's data."""
        return dict(self.result["data"])

    @property
    def error(self) -> dict[str, str]:
        """The result's error."""
        return dict(self.result["error"])


# What ``make_repository`` has made in this process, packed.
_EMPTY_REPOSITORY: list[str] = []


class AgentContainer:
    """The agent, run as the role runs it, on volumes and directories of its own.

    It has the Docker socket itself, as with ``backup_socket_proxy: false``; *proxied*, it has the proxy's.
    """

    def __init__(
        self,
        directory: Path,
        containers: Sequence[str],
        image: str,
        *,
        proxied: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self.name = f"scalr-test-agent-{secrets.token_hex(4)}"
        self.image = image
        self.proxy = f"{self.name}-socket-proxy" if proxied else None
        # Further options of docker run, such as what else is mounted.
        self.options = options
        self.config: dict[str, Any] = {
            "host": "test-host",
            "repository": "/repository",
            "containers": list(containers),
            # As it is for almost every test; it is said where it is what the test is about.
            "repository_on_host_accepted": True,
            # Other tests run databases on the same engine, which are nobody's business here.
            "report_unmatched": False,
            # A server that does not answer is often what a test is about: only where it is one that starts, it is waited for.
            "start_wait_seconds": 0,
            # What begins by itself would be in a test's way.
            "schedule": f"0 {far_hour()} * * *",
            "check_schedule": f"30 {far_hour()} * * 0",
        }
        self._has_repository = False
        self._config_directory = directory / "config"
        self._secrets_directory = directory / "secrets"
        # The agent is not root: it reads these files as anybody can who comes as far, past pytest's own directory.
        directory.mkdir(parents=True, exist_ok=True)
        for made in (self._config_directory, self._secrets_directory):
            made.mkdir()
            made.chmod(0o755)
        self.configure()
        self.set_password(PASSWORD)

    def configure(self, **changes: Any) -> None:
        """Change configuration keys; the agent reads them by itself."""
        self.config.update(changes)
        new = self._config_directory / "config.json.new"
        new.write_text(json.dumps(self.config))
        new.rename(self._config_directory / "config.json")

    def set_password(self, password: str) -> None:
        """Give the agent a repository password."""
        (self._secrets_directory / "password").write_text(password)

    def set_environment(self, **variables: str) -> None:
        """Give the agent the store's credentials."""
        (self._secrets_directory / "environment").write_text("".join(f"{k}={v}\n" for k, v in variables.items()))

    def set_secret(self, name: str, content: str) -> None:
        """Give the agent another of its secret files; an empty one is none."""
        path = self._secrets_directory / name
        path.unlink(missing_ok=True)
        if content:
            path.write_text(content)

    def start(self) -> AgentContainer:
        """Run it."""
        if self.proxy:
            self.start_proxy()
        docker(
            "run", "--detach", "--name", self.name, "--hostname", "test-host", "--init", "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:size=64m",
            *self._way_to_docker(),
            "--volume", f"{self._config_directory}:/etc/scalr-backup:ro",
            "--volume", f"{self._secrets_directory}:/run/secrets/scalr-backup:ro",
            "--volume", f"{self.name}-state:/var/lib/scalr-backup",
            "--volume", f"{self.name}-cache:/var/cache/scalr-backup",
            "--volume", f"{self.name}-repository:/repository",
            *self.options, self.image,
        )  # fmt: skip
        return self

    def start_proxy(self, *options: str) -> None:
        """Run the proxy before the Docker socket, as the role does."""
        assert self.proxy
        docker(
            "run", "--detach", "--name", self.proxy, "--network", "none", "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--no-healthcheck",
            "--memory", "512m", "--cpu-shares", "512", "--pids-limit", "32",
            "--group-add", socket_group(), "--volume", f"{SOCKET}:{_AT_SOCKET}",
            "--volume", f"{self._config_directory}:/etc/scalr-backup:ro",
            "--volume", f"{self.name}-socket:/run/scalr-backup", *options,
            "--entrypoint", "haproxy", self.image, "-db", "-f", "/opt/scalr-backup/socket-proxy/haproxy.cfg",
        )  # fmt: skip

    def _way_to_docker(self) -> list[str]:
        if self.proxy is None:
            return ["--group-add", socket_group(), "--volume", f"{SOCKET}:{_AT_SOCKET}"]
        socket = "DOCKER_HOST=unix:///run/scalr-backup/docker.sock"
        return ["--env", socket, "--volume", f"{self.name}-socket:/run/scalr-backup:ro"]

    def remove(self) -> None:
        """Remove it with its volumes, and its proxy."""
        docker("rm", "--force", "--volumes", self.name, *([self.proxy] if self.proxy else []), check=False)
        volumes = (f"{self.name}-{what}" for what in ("state", "cache", "repository", "socket"))
        docker("volume", "rm", "--force", *volumes)

    def call(self, *arguments: str, stdin: str | None = None, timeout: float = 300) -> Call:
        """Call a verb with ``--json`` and hold it to the contract."""
        with self._short_of_processor() if arguments[0] == "init" and not self._has_repository else nullcontext():
            done = docker(
                "exec", "-i", self.name, "scalr-backup", *arguments, "--json", stdin=stdin, check=False, timeout=timeout
            )
        return parse_call(done)

    @contextmanager
    def _short_of_processor(self) -> Iterator[None]:
        """Give the container a fifth of a processor for a while.

        restic makes the key of a repository as dear as the machine affords within half a second, and pays that again each
        time that it opens it: hundreds of times in a run of the tests. One that was made so is cheap.
        """
        docker("update", "--cpus", "0.2", self.name, check=False)
        try:
            yield
        finally:
            docker("update", "--cpus", str(os.cpu_count()), self.name, check=False)

    def make_repository(self) -> None:
        """Give it an empty repository as the verb ``init`` makes it, and let the verb find that.

        It is made once in a process, by a restic that is short of processor, with a key that costs next to nothing to open,
        and copied for all others: they have one password and one identity. Who needs repositories of their own calls the
        verb.
        """
        if not _EMPTY_REPOSITORY:
            with self._short_of_processor():
                self.restic("init", "--repository-version", "2")
            key = docker("exec", self.name, "sh", "-c", "cat /repository/keys/*").stdout
            name, content = cheap_key(key, PASSWORD)
            replace = (
                f"rm -f /repository/keys/* && cat > /repository/keys/{name} && tar -cf - -C /repository . | base64"
            )
            _EMPTY_REPOSITORY.append(docker("exec", "-i", self.name, "sh", "-c", replace, stdin=content).stdout)
        else:
            docker(
                "exec", "-i", self.name, "sh", "-c", "base64 -d | tar -xf - -C /repository", stdin=_EMPTY_REPOSITORY[0]
            )
        self._has_repository = True
        self.ok("init")

    def ok(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Call a verb that has to succeed; its data."""
        call = self.call(*arguments, **options)
        # That a host is not safe is an answer, too.
        is_answered = call.exit_code == 0 or (call.result["error"] or {}).get("code") == "not_safe"
        assert is_answered, call.output
        return call.data

    def start_call(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a verb that goes on while the test does something to it."""
        return subprocess.Popen(
            ["docker", "exec", self.name, "scalr-backup", *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def restic(self, *arguments: str) -> str:
        """Run plain restic in the agent's container, as somebody without this software would."""
        script = (
            "export RESTIC_REPOSITORY=/repository RESTIC_CACHE_DIR=/var/cache/scalr-backup/restic HOME=/tmp "
            'RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password; exec restic "$@"'
        )
        return docker("exec", self.name, "sh", "-c", script, "restic", *arguments).stdout

    def kill_processes(self, pattern: str, signal: str = "KILL") -> None:
        """Kill processes of the agent's container by a word of their command line."""
        script = (
            'for p in /proc/[0-9]*; do [ "${p#/proc/}" = $$ ] || [ "${p#/proc/}" = 1 ] || '
            f'if tr "\\0" " " < $p/cmdline 2>/dev/null | grep -q -- "{pattern}"; then kill -{signal} "${{p#/proc/}}"; fi; done'
        )
        docker("exec", self.name, "sh", "-c", script, check=False)

    def log_lines(self) -> list[dict[str, Any]]:
        """What the container logged: each line has to be a JSON object."""
        return [json.loads(line) for line in docker("logs", self.name).stdout.splitlines()]


@contextmanager
def with_repository(agent: AgentContainer) -> Iterator[AgentContainer]:
    """Start an agent and make its empty repository; it is removed at the end."""
    try:
        agent.start()
        agent.make_repository()
        yield agent
    finally:
        agent.remove()


def finish(process: subprocess.Popen[str], timeout: float = 300) -> Call:
    """Wait for a verb that was started."""
    output, _nothing = process.communicate(timeout=timeout)
    return parse_call(subprocess.CompletedProcess(process.args, process.returncode, output, ""))


def parse_call(done: subprocess.CompletedProcess[str]) -> Call:
    """Hold what a verb printed to the contract: JSON lines, the last one the only result."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, f"no line of JSON, but: {done.stderr}"
    assert [line["event"] for line in lines].count("result") == 1, done.stdout
    result = lines[-1]
    assert result["event"] == "result", done.stdout
    assert result["exit_code"] == done.returncode, done.stdout
    return Call(done.returncode, result, lines[:-1], done.stdout + done.stderr)


@contextmanager
def running(*databases: DatabaseContainer) -> Iterator[None]:
    """Run database containers for a while."""
    try:
        for database in databases:
            database.start()
        yield
    finally:
        for database in databases:
            database.remove()


def build_agent_image() -> str:
    """Build the agent's image out of the checkout; unchanged layers come from Docker's cache.

    Its tag says what it was built from: checkouts that are tested beside each other never get each other's agent.
    Of several that want the same image at once, one builds it and the others find it in the cache.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in AGENT_CONTEXT.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(f"{file.relative_to(AGENT_CONTEXT)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    image = f"{AGENT_IMAGE}:{digest.hexdigest()[:12]}"
    # What another engine has of this name was given to it.
    if SOCKET != _AT_SOCKET and docker("image", "inspect", image, check=False).returncode == 0:
        return image
    with (Path(tempfile.gettempdir()) / "scalr-test-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The role and the compose file name all of them: only a build that is given the same ones shares their layers.
        given = {**STAND_INS, "APT_SNAPSHOT": ""}
        arguments = [f"--build-arg={name}={value}" for name, value in given.items()]
        own = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
        build = ["docker", "build", "--quiet", *arguments, "--tag", image, str(AGENT_CONTEXT)]
        subprocess.run(build, env=own, check=True, timeout=900, stdout=subprocess.DEVNULL)
        if SOCKET != _AT_SOCKET:
            packed = subprocess.run(["docker", "save", image], env=own, check=True, timeout=300, capture_output=True)
            subprocess.run(
                ["docker", "load", "--quiet"], input=packed.stdout, check=True, timeout=300, capture_output=True
            )
    return image
