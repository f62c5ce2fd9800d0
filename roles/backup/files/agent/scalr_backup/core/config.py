# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration and secrets, read and validated once, at the door."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jmespath
from cronsim import CronSim, CronSimError
from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError, ParseError, UnknownFunctionError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from scalr_backup.core.errors import ConfigurationError

CONFIG_FILE = Path(os.environ.get("SCALR_BACKUP_CONFIG", "/etc/scalr-backup/config.json"))
SECRETS_DIRECTORY = Path(os.environ.get("SCALR_BACKUP_SECRETS", "/run/secrets/scalr-backup"))

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Docker's own rule for container names, and what a glob over them may add to it.
_CONTAINER_GLOB = re.compile(r"[a-zA-Z0-9_.\-*?\[\]!]+\Z")
# restic's notation of a duration: years, months, days and hours, in this order, each at most once.
_DURATION = re.compile(r"(?=\d)(?:(\d{1,5})y)?(?:(\d{1,5})m)?(?:(\d{1,5})d)?(?:(\d{1,5})h)?\Z")
# The stores that restic knows; it takes everything else for a directory, and one that is not absolute lies nobody knows where.
_REPOSITORY = re.compile(r"/|(local:/|s3:|sftp:|rest:|b2:|azure:|gs:|swift:|rclone:)\S", re.ASCII)
# What the role writes to the directory of the secrets, and a repository may need.
_SECRET_FILES = {
    "password",
    "environment",
    "ssh_private_key",
    "ssh_known_hosts",
    "ca_certificate",
    "copy_password",
    "copy_environment",
}
_HOURS_OF_UNITS = (366 * 24, 31 * 24, 24, 1)
# More than anybody can make, and as restic can still read it.
_MOST_KEPT = 1_000_000
# Names that zoneinfo finds on a disk, and that mean the clock of whatever machine it is on: in a container, nobody's.
_CLOCKS_OF_A_MACHINE = {"localtime", "posixrules", "Factory"}


class Keep(BaseModel):
    """How many snapshots of each database ``restic forget`` keeps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    last: int = Field(default=0, ge=0, le=_MOST_KEPT)
    hourly: int = Field(default=0, ge=0, le=_MOST_KEPT)
    daily: int = Field(default=30, ge=0, le=_MOST_KEPT)
    weekly: int = Field(default=4, ge=0, le=_MOST_KEPT)
    monthly: int = Field(default=6, ge=0, le=_MOST_KEPT)
    yearly: int = Field(default=0, ge=0, le=_MOST_KEPT)

    @property
    def rules(self) -> dict[str, int]:
        """The rules that keep something, by restic's names for them."""
        return {name: count for name, count in self.model_dump().items() if count > 0}


class CopyTo(BaseModel):
    """The second repository, and how many snapshots of each database it keeps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: str = Field(min_length=1)
    keep: Keep = Keep()

    @field_validator("repository")
    @classmethod
    def _repository_is_somewhere(cls, repository: str) -> str:
        return _somewhere(repository)

    @field_validator("keep")
    @classmethod
    def _keeps_something(cls, keep: Keep) -> Keep:
        return _something(keep)


class Config(BaseModel):
    """What ``config.json`` may say; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1)
    repository: str = Field(min_length=1)
    containers: tuple[str, ...] = ("scalr-*-db", "scalr-auth-postgres")
    exclude: tuple[str, ...] = ()
    filter: str = ""
    # Whether PostgreSQL containers that nothing backs up are found and told.
    report_unmatched: bool = True
    schedule: str = "0 3 * * *"
    timezone: str = "UTC"
    # Minutes over which the hosts of a fleet are spread: each begins less than that after the schedule's moment.
    spread_minutes: Annotated[int, Field(ge=0, le=720)] = 0
    keep: Keep = Keep()
    # A duration, counted back from the newest snapshot, within which every snapshot stays; none when empty.
    keep_within: str = ""
    # When the data that no snapshot needs is deleted; with every pass when empty.
    prune_schedule: str = ""
    # When the repository is checked and a part of its data read; never by itself when empty.
    check_schedule: str = "30 4 * * 0"
    # Weeks within which scheduled checks have read every pack of the repository.
    check_weeks: Annotated[int, Field(ge=1, le=104)] = 8
    # Whether this host only adds: it forgets and prunes nothing, somebody else with a key of his own does.
    append_only: bool = False
    parallel: Annotated[int, Field(ge=1, le=64)] = 2
    row_counts: bool = True
    # Where /metrics and /healthz are to be had, inside the container; 0 is nowhere.
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    # The host's directory of node_exporter that the metrics are written to; the role mounts a place in it.
    metrics_textfile: str = ""
    # Under the name that it has in the document; pydantic has a method of that name.
    copy_to: CopyTo | None = Field(default=None, alias="copy")
    # What is told to whom backup_notify names.
    notify_events: tuple[Literal["failure", "warning", "recovery", "success", "digest"], ...] = (
        "failure",
        "warning",
        "recovery",
    )
    # By how many percent a dump or its rows must shrink from one pass to the next to be found wrong; 0 for never.
    shrink_percent: Annotated[int, Field(ge=0, le=99)] = 50
    # From how many percent on the file system of the repository, or of a cluster, counts as nearly full.
    nearly_full_percent: Annotated[int, Field(ge=1, le=100)] = 90
    # Hours after which a scheduled pass that still runs is found wrong; 0 for never.
    pass_hours: Annotated[int, Field(ge=0)] = 12
    # The names and addresses that the inventory has for this host, beside its own.
    host_addresses: tuple[str, ...] = ()
    # Whether a repository that is lost with the host is on purpose.
    repository_on_host_accepted: bool = False
    # Days without a passed drill after which a database counts as untested; 0 for never, as where nothing drills by itself.
    drill_overdue_days: Annotated[int, Field(ge=0, le=3660)] = 40
    # Hours after which a lock on the repository is found wrong.
    lock_hours: Annotated[int, Field(ge=1, le=8784)] = 24
    # Seconds after which a restic call that only looks something up counts as unanswered.
    answer_seconds: Annotated[int, Field(ge=5)] = 120
    # Seconds that a dump or a restore waits for a lock that somebody holds in the database.
    lock_wait_seconds: Annotated[int, Field(ge=1)] = 15 * 60
    # Seconds without a byte after which a dump or a restore counts as stalled.
    stall_seconds: Annotated[int, Field(ge=5)] = 1800
    # Seconds after which prune and check are ended, whatever they say.
    maintenance_seconds: Annotated[int, Field(ge=60)] = 6 * 3600

    @field_validator("repository")
    @classmethod
    def _repository_is_somewhere(cls, repository: str) -> str:
        return _somewhere(repository)

    @field_validator("containers", "exclude")
    @classmethod
    def _container_globs(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not _CONTAINER_GLOB.match(pattern):
                raise ValueError(f"{pattern!r} is no container name and no glob over names")
        return patterns

    @field_validator("filter")
    @classmethod
    def _filter_parses(cls, expression: str) -> str:
        if expression:
            try:
                # Whether there is such a function is seen only where it is called.
                with suppress(JMESPathTypeError):
                    jmespath.compile(expression).search({})
            except (UnknownFunctionError, ArityError) as error:
                raise ValueError(f"the JMESPath expression {expression!r} cannot be applied: {error}") from None
            except ParseError as error:
                raise ValueError(
                    f"the JMESPath expression {expression!r} does not parse at position "
                    f"{error.lex_position}: {_first_line(error)}"
                ) from None
            except JMESPathError as error:
                raise ValueError(f"the JMESPath expression {expression!r} does not parse: {error}") from None
        return expression

    @field_validator("schedule", "prune_schedule", "check_schedule")
    @classmethod
    def _schedule_happens(cls, schedule: str, info: ValidationInfo) -> str:
        if not schedule and info.field_name != "schedule":
            return schedule
        # With six, CronSim takes the first for seconds: "0 3 * * * *" would be every hour.
        if len(schedule.split()) != 5:
            raise ValueError(f"{schedule!r} is no cron expression: it must have five fields")
        try:
            next(CronSim(schedule, datetime.now(UTC)))
        except CronSimError as error:
            raise ValueError(f"{schedule!r} is no cron expression: {error}") from None
        except StopIteration:
            raise ValueError(f"{schedule!r} never happens") from None
        return schedule

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, name: str) -> str:
        try:
            if name in _CLOCKS_OF_A_MACHINE:
                raise ValueError
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone of the tz database, such as Europe/Paris or UTC") from None
        return name

    @field_validator("keep")
    @classmethod
    def _keeps_something(cls, keep: Keep) -> Keep:
        return _something(keep)

    @field_validator("metrics_port")
    @classmethod
    def _port_is_for_everybody(cls, port: int) -> int:
        if 0 < port < 1024:
            raise ValueError(
                f"{port} is a port that only root may open, and the agent is not root; take one from 1024 on"
            )
        return port

    @field_validator("metrics_textfile")
    @classmethod
    def _directory_is_absolute(cls, directory: str) -> str:
        # Docker takes a colon for the end of the path.
        if directory and (not Path(directory).is_absolute() or ":" in directory):
            raise ValueError(f"{directory!r} is no absolute path of a directory, without a colon")
        return directory

    @field_validator("keep_within")
    @classmethod
    def _duration_lasts(cls, duration: str) -> str:
        if duration and not duration_hours(duration):
            raise ValueError(f"{duration!r} is no duration such as 30d, 12h or 1y6m")
        return duration

    @model_validator(mode="after")
    def _only_adds_to_what_can_refuse(self) -> Config:
        if self.append_only and self.repository.startswith(("/", "local:")):
            raise ValueError(
                f"append_only: whoever has this host can remove its directory {self.repository}; a host that only adds needs "
                "a store elsewhere that is append-only"
            )
        return self

    @model_validator(mode="after")
    def _only_who_removes_prunes(self) -> Config:
        if self.append_only and self.prune_schedule:
            raise ValueError("prune_schedule: a host that only adds (append_only) prunes nothing; prune.yml does it")
        return self

    @model_validator(mode="after")
    def _copy_is_elsewhere(self) -> Config:
        if self.copy_to and self.copy_to.repository.rstrip("/") == self.repository.rstrip("/"):
            raise ValueError("copy.repository is the repository itself, so that there would be no copy")
        return self


def _somewhere(repository: str) -> str:
    if not _REPOSITORY.match(repository):
        # It is not repeated: what is no address may be a password.
        raise ValueError("it is neither an absolute path nor begins as restic's addresses do, such as s3: or sftp:")
    return repository


def _something(keep: Keep) -> Keep:
    if not keep.rules:
        raise ValueError("every count is 0, which would delete every backup")
    return keep


@dataclass(frozen=True)
class Secrets:
    """The repository's password file and the store's credentials; never printed.

    For an SFTP server, the files of the private key and of the host keys that are known; for a store with a private
    authority, the file of that one's certificate.
    """

    password_file: Path
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    authority: Path | None = None


@dataclass(frozen=True)
class Addresses:
    """Whom to tell what goes wrong: Apprise's addresses, and that of a dead man's switch; both are secrets."""

    notify: tuple[str, ...] = field(default=(), repr=False)
    heartbeat: str = field(default="", repr=False)


@dataclass(frozen=True)
class Given:
    """A configuration that is not in use yet, with the secrets of its repository, and of the second one."""

    config: Config
    secrets: Secrets
    copy_secrets: Secrets


def duration_hours(duration: str) -> int:
    """About how many hours restic's notation of a duration means, never too few; 0 for what is none."""
    match = _DURATION.match(duration)
    return (
        sum(int(count or 0) * hours for count, hours in zip(match.groups(), _HOURS_OF_UNITS, strict=True))
        if match
        else 0
    )


def parse_config(text: str, source: str) -> Config:
    """Validate a configuration document.

    Raises ConfigurationError with the first thing that is wrong, its key and *source*.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{source} is no JSON document: {error}.") from None
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(f"{source}: {_sentence(error)}.") from None


def load_config(path: Path | None = None) -> Config:
    """Read the configuration that the role installed.

    Raises ConfigurationError when it is missing or not valid.
    """
    path = path or CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"The configuration {path} cannot be read: {error.strerror}; run site.yml.") from None
    return parse_config(text, str(path))


def load_secrets(directory: Path | None = None) -> Secrets:
    """Find the repository's password and read the store's credentials.

    Raises ConfigurationError when there is no password or a line of the environment file is none.
    """
    directory = directory or SECRETS_DIRECTORY
    return Secrets(
        _password(directory / "password"),
        _environment(directory / "environment"),
        **_existing(_access_files(directory)),
    )


def load_copy_secrets(directory: Path | None = None) -> Secrets:
    """The same for the second repository: what is not its own is the first one's.

    Raises ConfigurationError as ``load_secrets`` does.
    """
    directory = directory or SECRETS_DIRECTORY
    secrets = load_secrets(directory)
    if (directory / "copy_password").exists():
        secrets = replace(secrets, password_file=_password(directory / "copy_password"))
    if (directory / "copy_environment").exists():
        secrets = replace(secrets, environment=_environment(directory / "copy_environment"))
    return secrets


def load_addresses(directory: Path | None = None) -> Addresses:
    """Read whom to tell: one address a line, empty lines and ``#`` lines are skipped; nobody where there is no file.

    Raises ConfigurationError when a file cannot be read.
    """
    directory = directory or SECRETS_DIRECTORY
    beats = _lines(directory / "heartbeat")
    return Addresses(_lines(directory / "notify"), beats[0] if beats else "")


def parse_addresses(text: str) -> Addresses:
    """The same, given as JSON: ``notify``, a list, and ``heartbeat``. Raises ConfigurationError, never with a part of it."""
    try:
        document = json.loads(text)
        notify, heartbeat = document.get("notify") or [], document.get("heartbeat") or ""
    except (ValueError, AttributeError):
        notify, heartbeat = None, None
    if (
        not isinstance(notify, list)
        or not isinstance(heartbeat, str)
        or not all(isinstance(url, str) for url in notify)
    ):
        raise ConfigurationError("backup_notify must be a list of addresses, and backup_heartbeat_url one address.")
    if any(len(url.splitlines()) != 1 for url in notify):
        raise ConfigurationError("backup_notify: an address must be a single line that is not empty.")
    return Addresses(tuple(url.strip() for url in notify), heartbeat.strip())


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}; run site.yml.") from None
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


@contextmanager
def other_secrets(text: str) -> Iterator[Secrets]:
    """What ``parse_secrets`` reads, until the end of the block."""
    descriptors: list[int] = []
    try:
        yield parse_secrets(text, descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def parse_secrets(text: str, descriptors: list[int] | None = None) -> Secrets:
    """The secrets of another repository, given as JSON: ``password``, and its store's ``environment``.

    To reach it, ``ssh_private_key``, ``ssh_known_hosts`` and ``ca_certificate`` may be there too; what is not given is
    what this agent reaches its own store by. What restic takes from a file lies in memory: under *descriptors*, until whoever
    gave them closes them, or this process ends, however it does.

    Raises ConfigurationError, never with a part of the text.
    """
    try:
        document = json.loads(text)
        password, environment = document["password"], document.get("environment") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        document = password = environment = None
    if not (isinstance(password, str) and password and isinstance(environment, dict)):
        raise ConfigurationError('The other repository\'s secrets must be {"password": …, "environment": {…}}.')
    lines = [f"{name}={value}" for name, value in environment.items()]
    if any("\n" in line for line in lines):
        raise ConfigurationError("The other repository's environment has a value of more than one line.")
    opened: list[int] = [] if descriptors is None else descriptors
    password_file = _in_memory("password", password, opened)
    own = _access_files(SECRETS_DIRECTORY)
    given = {
        field: _in_memory(path.name, f"{document[path.name]}".rstrip("\n") + "\n", opened)
        for field, path in own.items()
        if document.get(path.name)
    }
    access = _existing(own) | given
    return Secrets(password_file, parse_environment(lines, "the other repository's environment"), **access)


def parse_given(text: str) -> Given:
    """A configuration that is not in use yet and its secrets, given as JSON: ``config``, and ``secrets``.

    The secrets are the texts of the files that the role would write, by their names; an empty one is no file. They are kept
    in memory, for as long as this process lives.

    Raises ConfigurationError, never with a part of a secret.
    """
    try:
        document = json.loads(text)
        config, files = document["config"], document["secrets"]
        unknown = not set(files) <= _SECRET_FILES or not all(isinstance(content, str) for content in files.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        config, files, unknown = None, {}, True
    if unknown:
        raise ConfigurationError(
            'What is to be rehearsed must be {"config": {…}, "secrets": {…}}, with the secrets\' files by their names.'
        )
    configuration = parse_config(json.dumps(config), "The configuration")
    opened: list[int] = []
    # The links lie there for this moment; what they lead to is memory of this process, and goes with it however it ends.
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for name, content in files.items():
            if content:
                # A key's last line is one only with its line break; a password's would be part of it.
                text = content if name.endswith("password") else content.rstrip("\n") + "\n"
                (directory / name).symlink_to(_in_memory(name, text, opened))
        secrets, copy_secrets = _led_to(load_secrets(directory)), _led_to(load_copy_secrets(directory))
    return Given(configuration, secrets, copy_secrets)


def _led_to(secrets: Secrets) -> Secrets:
    """The same, with the places that its links lead to."""

    def target(path: Path) -> Path:
        return path.readlink() if path.is_symlink() else path

    return replace(
        secrets,
        password_file=target(secrets.password_file),
        ssh_key=secrets.ssh_key and target(secrets.ssh_key),
        known_hosts=secrets.known_hosts and target(secrets.known_hosts),
        authority=secrets.authority and target(secrets.authority),
    )


def _access_files(directory: Path) -> dict[str, Path]:
    return {
        "ssh_key": directory / "ssh_private_key",
        "known_hosts": directory / "ssh_known_hosts",
        "authority": directory / "ca_certificate",
    }


def _existing(files: dict[str, Path]) -> dict[str, Path]:
    return {field: path for field, path in files.items() if path.exists()}


def _in_memory(name: str, content: str, opened: list[int]) -> Path:
    """Keep a secret in memory that goes with this process, however it ends; whom it starts reads it by the path."""
    descriptor = os.memfd_create(name)
    opened.append(descriptor)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
        file.write(content)
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _password(path: Path) -> Path:
    try:
        has_password = bool(path.read_text(encoding="utf-8").strip("\n"))
    except OSError as error:
        raise ConfigurationError(
            f"The repository's password {path} cannot be read: {error.strerror}; run site.yml."
        ) from None
    if not has_password:
        raise ConfigurationError(f"The repository's password {path} is empty; run site.yml.")
    return path


def _environment(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return parse_environment(lines, str(path))


def parse_password(text: str) -> str:
    """A password of the repository, given as JSON. Raises ConfigurationError, never with a part of the text."""
    try:
        password = json.loads(text)["password"]
    except (ValueError, KeyError, TypeError):
        password = None
    if not isinstance(password, str):
        raise ConfigurationError('The password must be given as {"password": …}.')
    return password


def parse_environment(lines: list[str], source: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` lines, each value verbatim; empty lines and ``#`` lines are skipped.

    Raises ConfigurationError with the number of the line that is none, never with its text.
    """
    environment = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _ENVIRONMENT_NAME.match(name):
            raise ConfigurationError(f"{source}: line {number} is no KEY=VALUE line.")
        environment[name] = value
    return environment


def _sentence(error: ValidationError) -> str:
    problem: Any = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "the document"
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        reason = "no such key"
    return f"{key}: {reason}"


def _first_line(error: ParseError) -> str:
    return str(error).splitlines()[0].split(": Parse error")[0].rstrip(":")
