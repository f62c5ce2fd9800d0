# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration, read and validated once, at the door."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jmespath
from cronsim import CronSim, CronSimError
from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError, ParseError, UnknownFunctionError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from scalr_backup.core import environment
from scalr_backup.core.clock import utc_now
from scalr_backup.core.connection import Connection
from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.one_place import one_spelling
from scalr_backup.core.row_order import LEAST_BYTES, table_pattern
from scalr_backup.core.values import Number, each_key_once

CONFIG_FILE = Path(os.environ.get("SCALR_BACKUP_CONFIG", "/etc/scalr-backup/config.json"))
# Docker's own rule for container names, and what a glob over them may add to it.
_CONTAINER_GLOB = re.compile(r"[a-zA-Z0-9_.\-*?\[\]!]+\Z")
# restic's notation of a duration: years, months, days and hours, in this order, each at most once.
_DURATION = re.compile(r"(?=\d)(?:(\d{1,5})y)?(?:(\d{1,5})m)?(?:(\d{1,5})d)?(?:(\d{1,5})h)?\Z", re.ASCII)
# What no name of a host has, but what a shell or docker compose would take from it. Quotes in it would make it another host.
_NOT_OF_A_HOST = frozenset(" \"'`#$\\")
# More than a domain name may have.
_LONGEST_HOST = 255
# The stores that restic knows; it takes everything else for a directory, and a relative one could be anywhere.
_REPOSITORY = re.compile(r"/|(local:/|s3:|sftp:|rest:|b2:|azure:|gs:|swift:|rclone:)\S", re.ASCII)
_HOURS_OF_UNITS = (366 * 24, 31 * 24, 24, 1)
# More than anybody can make, and as restic can still read it.
_MOST_KEPT = 1_000_000
# Names that zoneinfo finds on a disk, and that mean the clock of whatever machine it is on: in a container, nobody's.
_CLOCKS_OF_A_MACHINE = {"localtime", "posixrules", "Factory"}


Patterns = TypeVar("Patterns", tuple[str, ...], dict[str, Connection])


class Keep(BaseModel):
    """How many snapshots of each database ``restic forget`` keeps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    last: Number = Field(default=0, ge=0, le=_MOST_KEPT)
    hourly: Number = Field(default=0, ge=0, le=_MOST_KEPT)
    daily: Number = Field(default=30, ge=0, le=_MOST_KEPT)
    weekly: Number = Field(default=4, ge=0, le=_MOST_KEPT)
    monthly: Number = Field(default=6, ge=0, le=_MOST_KEPT)
    yearly: Number = Field(default=0, ge=0, le=_MOST_KEPT)

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
        return _somewhere(_without_nul(repository))

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
    # Names of containers that may share the host's namespaces, such as its network, and are backed up nevertheless.
    host_namespaces_accepted: tuple[str, ...] = ()
    # How clusters are reached whose containers do not say it themselves; the first glob that fits a container's name counts.
    connections: dict[str, Connection] = {}
    # Whether PostgreSQL containers that nothing backs up are reported.
    report_unmatched: bool = True
    schedule: str = "0 3 * * *"
    timezone: str = "UTC"
    # Minutes over which the hosts of a fleet are spread: each begins less than that after the schedule's moment.
    spread_minutes: Annotated[Number, Field(ge=0, le=720)] = 0
    keep: Keep = Keep()
    # A duration, counted back from the newest snapshot, within which every snapshot stays; none when empty.
    keep_within: str = ""
    # Whether this host only adds: it neither forgets nor prunes; someone else with another key does.
    append_only: bool = False
    # When the data that no snapshot needs is deleted; when empty, at the end of a pass that finds it due.
    prune_schedule: str = ""
    # When the repository is checked and a part of its data read; never by itself when empty.
    check_schedule: str = "30 4 * * 0"
    # Weeks within which scheduled checks have read every pack of the repository.
    check_weeks: Annotated[Number, Field(ge=1, le=104)] = 8
    parallel: Annotated[Number, Field(ge=1, le=64)] = 2
    row_counts: bool = True
    # Whether large tables are dumped in the order of a key.
    row_order: Literal["auto", "off"] = "auto"
    # Tables that stay in heap order, as container/database/schema.table, with the first parts left out where they do not matter.
    row_order_except: tuple[str, ...] = ()
    # Smaller tables stay in heap order.
    row_order_least_bytes: Annotated[Number, Field(ge=0)] = LEAST_BYTES
    # Where /metrics and /healthz are to be had, inside the container; 0 is nowhere.
    metrics_port: Annotated[Number, Field(ge=0, le=65535)] = 0
    # The host's directory of node_exporter that the metrics are written to; the role mounts a place in it.
    metrics_textfile: str = ""
    # Under the name that it has in the document; pydantic has a method of that name.
    copy_to: CopyTo | None = Field(default=None, alias="copy")
    # Which events are sent to the addresses of backup_notify.
    notify_events: tuple[Literal["failure", "warning", "recovery", "success", "digest"], ...] = (
        "failure",
        "warning",
        "recovery",
    )
    # By how many percent a dump or its rows must shrink from one pass to the next to be found wrong; 0 for never.
    shrink_percent: Annotated[Number, Field(ge=0, le=99)] = 50
    # How many times what a database takes up its dump may have, beside 1 GiB; 0 for no limit.
    dump_size_factor: Annotated[Number, Field(ge=0, le=10_000)] = 16
    # From how many percent on the file system of the repository, or of a cluster, counts as nearly full.
    nearly_full_percent: Annotated[Number, Field(ge=1, le=100)] = 90
    # Hours after which a scheduled pass that still runs is found wrong; 0 for never.
    pass_hours: Annotated[Number, Field(ge=0)] = 12
    # The names and addresses that the inventory has for this host, beside its own.
    host_addresses: tuple[str, ...] = ()
    # Whether a repository that is lost with the host is on purpose.
    repository_on_host_accepted: bool = False
    # Days without a passed drill after which a database counts as untested; 0 for never, as where nothing drills by itself.
    drill_overdue_days: Annotated[Number, Field(ge=0, le=3660)] = 40
    # Hours after which a lock on the repository is found wrong.
    lock_hours: Annotated[Number, Field(ge=1, le=8784)] = 24
    # Seconds after which a restic call that only looks something up counts as unanswered.
    answer_seconds: Annotated[Number, Field(ge=5)] = 120
    # Seconds within which a database container says what it holds; one that does not is asked again when the others are saved.
    look_seconds: Annotated[Number, Field(ge=1)] = 60
    # Seconds that a dump or a restore waits for a lock that somebody holds in the database.
    lock_wait_seconds: Annotated[Number, Field(ge=1)] = 15 * 60
    # Seconds that a pass, when all else is saved, waits for servers that are just starting or recovering.
    start_wait_seconds: Annotated[Number, Field(ge=0, le=3600)] = 60
    # Seconds without a byte after which a dump or a restore counts as stalled.
    stall_seconds: Annotated[Number, Field(ge=5)] = 1800
    # Seconds after which prune and check are ended, whatever they say.
    maintenance_seconds: Annotated[Number, Field(ge=60)] = 6 * 3600

    @field_validator("host", "repository", "metrics_textfile")
    @classmethod
    def _can_be_passed_on(cls, text: str) -> str:
        return _without_nul(text)

    @field_validator("repository")
    @classmethod
    def _repository_is_somewhere(cls, repository: str) -> str:
        return _somewhere(repository)

    @field_validator("host")
    @classmethod
    def _is_a_hosts_name(cls, host: str) -> str:
        if len(host) > _LONGEST_HOST:
            raise ValueError(f"a name of {len(host)} characters is too long: {_LONGEST_HOST} are the most")
        if not host.isprintable() or _NOT_OF_A_HOST & set(host):
            raise ValueError(
                f"{host!r} must have no quotes, spaces, control characters, #, $ or backslashes; docker run --env-file "
                "takes even quotes and comments as part of the name"
            )
        return host

    @field_validator("containers", "exclude", "connections")
    @classmethod
    def _container_globs(cls, patterns: Patterns) -> Patterns:
        for pattern in patterns:
            if not _CONTAINER_GLOB.match(pattern):
                raise ValueError(f"{pattern!r} is neither a container name nor a glob")
        return patterns

    @field_validator("row_order_except")
    @classmethod
    def _tables(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            table_pattern(pattern)
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
            raise ValueError(f"{schedule!r} is not a cron expression: it must have five fields")
        try:
            next(CronSim(schedule, utc_now()))
        except CronSimError as error:
            raise ValueError(f"{schedule!r} is not a cron expression: {error}") from None
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
            raise ValueError(f"{name!r} is not a time zone of the tz database, such as Europe/Paris or UTC") from None
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
                f"{port} is a port that only root may open, and the agent is not root; choose 1024 or higher"
            )
        return port

    @field_validator("metrics_textfile")
    @classmethod
    def _directory_is_absolute(cls, directory: str) -> str:
        # Docker takes a colon for the end of the path.
        if directory and (not Path(directory).is_absolute() or ":" in directory):
            raise ValueError(f"{directory!r} must be an absolute path without a colon")
        return directory

    @field_validator("keep_within")
    @classmethod
    def _duration_lasts(cls, duration: str) -> str:
        if duration and not duration_hours(duration):
            raise ValueError(f"{duration!r} is not a duration such as 30d, 12h or 1y6m")
        return duration

    # What a field must not be beside others is said of that field, which has to be declared after them: so the sentence names it.
    @field_validator("append_only")
    @classmethod
    def _only_adds_to_what_can_refuse(cls, append_only: bool, info: ValidationInfo) -> bool:
        repository = info.data.get("repository", "")
        if append_only and repository.startswith(("/", "local:")):
            raise ValueError(
                f"whoever controls this host can remove its directory {repository}; an append-only host needs an append-only "
                "store elsewhere"
            )
        return append_only

    @field_validator("prune_schedule")
    @classmethod
    def _only_who_removes_prunes(cls, schedule: str, info: ValidationInfo) -> str:
        if schedule and info.data.get("append_only"):
            raise ValueError("an append-only host does not prune, prune.yml does it: leave it empty")
        return schedule

    @field_validator("copy_to")
    @classmethod
    def _copy_is_elsewhere(cls, copy_to: CopyTo | None, info: ValidationInfo) -> CopyTo | None:
        if copy_to and one_spelling(copy_to.repository) == one_spelling(info.data.get("repository", "")):
            same = PydanticCustomError(
                "same_place",
                "it is the same place as the first repository, so there would be no copy: choose another one",
            )
            line = InitErrorDetails(type=same, loc=("repository",), input=copy_to.repository)
            raise ValidationError.from_exception_data("CopyTo", [line])
        return copy_to


def _somewhere(repository: str) -> str:
    if not _REPOSITORY.match(repository):
        # It is not repeated: what is not an address may be a password.
        raise ValueError("it must be an absolute path or a restic address, such as s3:… or sftp:…")
    return repository


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it has a NUL character, which no program can be given")
    return text


def _something(keep: Keep) -> Keep:
    if not keep.rules:
        raise ValueError("every count is 0, which would delete every backup")
    return keep


def duration_hours(duration: str) -> int:
    """About how many hours restic's notation of a duration means, never too few; 0 for anything else."""
    match = _DURATION.match(duration)
    return (
        sum(int(count or 0) * hours for count, hours in zip(match.groups(), _HOURS_OF_UNITS, strict=True))
        if match
        else 0
    )


def parse_config(text: str, source: str, named: Callable[[str], str] = environment.role_variable_of) -> Config:
    """Validate a configuration document.

    Raises ConfigurationError with the first thing that is wrong, *source*, and what its key is *named* by whoever wrote it.
    """
    try:
        document = json.loads(text, object_pairs_hook=each_key_once(source))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{source} is not valid JSON: {error}.") from None
    except RecursionError:
        raise ConfigurationError(f"{source} is nested too deeply.") from None
    except ValueError:
        raise ConfigurationError(f"{source} has a number with too many digits.") from None
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        key, reason = _fault(error)
        raise ConfigurationError(f"{source}: {named(key) or 'the document'}: {reason}.") from None


def load_config(path: Path | None = None) -> Config:
    """Read the configuration: what the role installed, or where there is no such file, what environment variables say.

    Raises ConfigurationError when it is missing, in both places, or not valid.
    """
    told = path is None and environment.is_configured(os.environ)
    path = path or CONFIG_FILE
    if not told:
        return _of_file(path)
    if path.exists():
        raise ConfigurationError(
            f"There are two configurations, {path} and variables such as {_first_of_environment()}: remove one of them."
        )
    return config_of_environment(os.environ)


def _of_file(path: Path) -> Config:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"The configuration {path} cannot be read: {error.strerror}; run site.yml, or without Ansible, set BACKUP_HOST "
            f"({environment.PAGE})."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"The configuration {path} is not UTF-8 text; run site.yml.") from None
    return parse_config(text, str(path))


def config_of_environment(variables: Mapping[str, str]) -> Config:
    """Validate what environment variables say.

    Raises ConfigurationError with the first variable that is wrong.
    """
    try:
        return Config.model_validate(environment.settings_of(variables))
    except ValidationError as error:
        key, reason = _fault(error)
        variable, within = environment.variable_of(key)
        raise ConfigurationError(f"{variable} is not valid: {within}{reason}.") from None


def _first_of_environment() -> str:
    return min(name for name in os.environ if name.startswith(environment.PREFIX))


def _fault(error: ValidationError) -> tuple[str, str]:
    """The first thing that is wrong: its key, empty for the whole, and why."""
    problem: Any = error.errors(include_url=False, include_context=False)[0]
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        reason = "no such key"
    return ".".join(str(part) for part in problem["loc"]), reason


def _first_line(error: ParseError) -> str:
    return str(error).splitlines()[0].split(": Parse error")[0].rstrip(":")
