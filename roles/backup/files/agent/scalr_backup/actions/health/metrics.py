# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus: what the agent knows, as metrics in its text formats.

Names and units follow Prometheus' own advice (https://prometheus.io/docs/practices/naming/): base units, the unit last,
``_total`` for what only grows. A time is a timestamp and never an age, so that it stays true however late it is read;
what does not exist yet has no sample rather than a zero. Labels are bounded by what there is on a host: its containers
and databases, and words that this program chooses. The host's name is a label of ``scalr_backup_build_info`` alone, since
Prometheus' own ``instance`` tells hosts apart.

Everything is read from the state and the status at the moment of a scrape; no store is asked, and nothing is kept here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from scalr_backup import __version__
from scalr_backup.actions.health.upkeep import on_record
from scalr_backup.core.answers import FindingAnswer, JudgedCopy, JudgedDatabase, StatusAnswer
from scalr_backup.core.new_data_answers import NewDataAnswer
from scalr_backup.core.records.databases import DatabaseRecord
from scalr_backup.core.records.host import BoxRecord
from scalr_backup.core.records.maintenance import MaintenanceRecord
from scalr_backup.core.records.passes import PassRecord
from scalr_backup.core.records.repository import RepositoryRecord
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.text import distinct
from scalr_backup.tools.own_container import TEXTFILE_DIRECTORY
from scalr_backup.tools.restic import stores

PREFIX = "scalr_backup_"

# The file that node_exporter's textfile collector reads.
TEXTFILE_NAME = "scalr_backup.prom"


@dataclass(frozen=True)
class Metric:
    """One metric: its name without the prefix, what it says, and its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    counts: bool = False

    @property
    def full_name(self) -> str:
        """The name that Prometheus knows it by."""
        return PREFIX + self.name


@dataclass(frozen=True)
class Sample:
    """One value of a metric, with the values of its labels."""

    metric: Metric
    value: float | None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricFacts:
    """All that metrics are made of: the recorded state, the status that was judged from it, and the host's own.

    Repositories by their addresses, of which only the kind of store is shown.
    """

    host: str
    repository: str
    document: StateRecord
    status: StatusAnswer
    # Whether every database has a good backup as young as the schedule asks: what the health check says.
    backed_up: bool
    installed: datetime
    # By when an agent that has backed up nothing so far should have.
    first_overdue: datetime


_OF_DATABASE = ("container", "database")

BUILD_INFO = Metric(
    "build_info", "The agent's version and the host's name in the inventory; always 1.", ("version", "host")
)
INSTALLED = Metric("installed_timestamp_seconds", "When the agent first saw its state.")
FIRST_OVERDUE = Metric(
    "first_overdue_timestamp_seconds", "When an agent that has backed up nothing so far becomes overdue."
)
HEALTHY = Metric("healthy", "Whether the status finds no failure, warnings aside.")
BACKED_UP = Metric(
    "backed_up", "Whether every database has a good backup as young as the schedule asks, as the health check says."
)
FINDINGS = Metric(
    "findings", ("How many problems of a kind there are now."), ("severity", "code", "container", "database")
)

UNMATCHED = Metric(
    "unmatched_containers",
    "Containers with PostgreSQL that are neither backed up nor left out on purpose.",
)
IDLE = Metric(
    "nothing_to_back_up",
    ("Whether there is nothing to back up: no container matches, and none was found that runs PostgreSQL."),
)
DATABASES = Metric("databases", "How many databases the agent is responsible for.")
FRESH = Metric("database_fresh", "Whether the database has a good backup as young as the schedule asks.", _OF_DATABASE)
SUCCEEDED = Metric("database_last_attempt_success", "Whether the last backup of the database was good.", _OF_DATABASE)
ATTEMPTED = Metric(
    "database_last_attempt_timestamp_seconds", "When a backup of the database was last tried.", _OF_DATABASE
)
LAST_SUCCESS = Metric(
    "database_last_success_timestamp_seconds", "When the last good backup of the database ended.", _OF_DATABASE
)
OVERDUE = Metric(
    "database_overdue_timestamp_seconds",
    "When the last good backup becomes too old, unless another one is made.",
    _OF_DATABASE,
)
DURATION = Metric("database_duration_seconds", "How long the last good backup of the database took.", _OF_DATABASE)
READ = Metric("database_read_bytes", "Size of the dump of the last good backup.", _OF_DATABASE)
ADDED = Metric("database_added_bytes", "How much of the last good dump was new to the repository.", _OF_DATABASE)
STORED = Metric(
    "database_stored_bytes", "How much the last good dump added to the repository, compressed.", _OF_DATABASE
)
NIGHT_NEW = Metric(
    "database_night_new_bytes", "New data of the database on its last whole night, a day in UTC.", _OF_DATABASE
)
NIGHT_STORED = Metric(
    "database_night_stored_bytes", "The new data of that night in the repository, compressed.", _OF_DATABASE
)
NIGHT_RATIO = Metric(
    "database_night_new_ratio", "The new data of that night as a ratio of the size of one dump.", _OF_DATABASE
)
IN_ORDER = Metric(
    "database_row_order_ratio", "How much of that night's dumps was rows in the order of a key.", _OF_DATABASE
)
ORDER_PAYS = Metric(
    "database_row_order_pays", "Whether rows in order save anything, as far as the record says.", _OF_DATABASE
)
ROWS = Metric("database_rows", "Rows in the last good dump, if they are counted.", _OF_DATABASE)
ERROR = Metric(
    "database_error_info", "Why the last backup of the database failed, if it did; always 1.", (*_OF_DATABASE, "code")
)

VOLUME_FREE = Metric(
    "volume_free_bytes", "Space left for the container's server when it was last backed up.", ("container",)
)
VOLUME_SIZE = Metric(
    "volume_size_bytes", "Size of the file system that the container's server keeps its data on.", ("container",)
)

DRILL_SUCCESS = Metric("drill_success", "Whether the last drill of the database was good.", _OF_DATABASE)
DRILL_TIME = Metric("drill_timestamp_seconds", "When the last drill of the database ended.", _OF_DATABASE)
RECOVERY = Metric("drill_recovery_seconds", "How long the restore of the last drill took.", _OF_DATABASE)

PASS_SUCCESS = Metric("last_pass_success", "Whether the last pass ended without any error.")
PASS_TIME = Metric("last_pass_timestamp_seconds", "When the last pass ended.")
PASS_DURATION = Metric("last_pass_duration_seconds", "How long the last pass took.")
PASS_FAILED = Metric("last_pass_failed_databases", "Databases that were not backed up in the last pass.")
PASS_WARNINGS = Metric("last_pass_warnings", "Warnings of the last pass.")
NEXT_PASS = Metric("next_pass_timestamp_seconds", "When the next pass is due.")
INTERVAL = Metric("schedule_interval_seconds", "Time from the last pass that was due to the next one.")

REPOSITORY_INFO = Metric("repository_info", "The kind of store that the repository is in; always 1.", ("kind",))
REPOSITORY_TIME = Metric("repository_measured_timestamp_seconds", "When the repository's size was last measured.")
SIZE = Metric("repository_size_bytes", "What all snapshots of all hosts take up in the repository.")
UNCOMPRESSED = Metric("repository_uncompressed_bytes", "What all snapshots of all hosts take up before compression.")
GROWTH = Metric("repository_night_growth_bytes", "By how much the repository grows a night, over two weeks at most.")
SNAPSHOTS = Metric("repository_snapshots", "Snapshots in the repository, including manifests and those of other hosts.")
LOCKS = Metric("repository_locks", "Locks on the repository when the last pass began.")
OLDEST_LOCK = Metric("repository_oldest_lock_timestamp_seconds", "When the oldest of these locks was taken.")
FREE = Metric("repository_filesystem_free_bytes", "Space left, if the repository is a directory.")
TOTAL = Metric("repository_filesystem_size_bytes", "Size of the file system, if the repository is a directory.")

COPY_SUCCESS = Metric("copy_success", "Whether the last copy to the second repository was good.")
COPY_LAST_SUCCESS = Metric("copy_last_success_timestamp_seconds", "When the last good copy ended.")
COPY_OVERDUE = Metric(
    "copy_overdue_timestamp_seconds", "When the last good copy becomes too old, unless another one is made."
)

_OF_MAINTENANCE = ("kind",)
MAINTENANCE_SUCCESS = Metric(
    "maintenance_success", "Whether the last forget, prune or check of the repository was good.", _OF_MAINTENANCE
)
MAINTENANCE_TIME = Metric(
    "maintenance_timestamp_seconds", "When the last forget, prune or check ended.", _OF_MAINTENANCE
)
MAINTENANCE_LAST_SUCCESS = Metric(
    "maintenance_last_success_timestamp_seconds", "When the last good forget, prune or check ended.", _OF_MAINTENANCE
)

REFUSED = Metric("socket_proxy_refused_calls_total", "Calls that the socket proxy has refused.", ("kind",), counts=True)

NOTIFIED = Metric("notifications_sent_total", "Messages that were delivered.", counts=True)
NOT_NOTIFIED = Metric("notifications_failed_total", "Failed attempts to deliver a message.", counts=True)
PENDING = Metric("notifications_pending", "Messages waiting to be sent again.")

# In the order of their declaration, which is the order of the text.
METRICS = tuple(thing for thing in tuple(globals().values()) if isinstance(thing, Metric))


class Metrics(Collector):
    """The metrics of an agent; *read* gives the facts of the moment."""

    def __init__(self, read: Callable[[], MetricFacts]) -> None:
        self._read = read
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: no other collector is registered whose names could clash."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Every metric that has a value now."""
        return families(samples(self._read()))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the format that a scraper accepts, and that format's content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def write(self, directory: Path | None = None) -> None:
        """Replace node_exporter's file in one piece, so that it never reads half of one.

        Raises OSError where that cannot be done.
        """
        place = (directory or TEXTFILE_DIRECTORY) / TEXTFILE_NAME
        # Not named *.prom, which node_exporter would read.
        new = place.with_suffix(".new")
        new.write_bytes(generate_latest(self._registry))
        new.chmod(0o644)
        new.replace(place)


def families(found: Iterable[Sample]) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """Samples under their metrics, in the order in which these are declared."""
    by_metric: dict[Metric, list[Sample]] = {}
    for sample in found:
        by_metric.setdefault(sample.metric, []).append(sample)
    for metric in METRICS:
        present = [(sample.labels, sample.value) for sample in by_metric.get(metric, ()) if sample.value is not None]
        if present:
            make = CounterMetricFamily if metric.counts else GaugeMetricFamily
            family = make(metric.full_name, metric.help, labels=metric.labels)
            for labels, value in present:
                family.add_metric([distinct(label) for label in labels], value)
            yield family


def samples(facts: MetricFacts) -> Iterator[Sample]:
    """Every value, in no order; None where there is none yet."""
    yield Sample(BUILD_INFO, 1, (__version__, facts.host))
    yield Sample(INSTALLED, facts.installed.timestamp())
    yield Sample(FIRST_OVERDUE, facts.first_overdue.timestamp())
    yield Sample(HEALTHY, facts.status["healthy"])
    yield Sample(BACKED_UP, facts.backed_up)
    yield from _findings(facts.status["findings"])
    if facts.document.get("look"):
        yield Sample(UNMATCHED, len(facts.status["unmatched"]))
        yield Sample(IDLE, facts.status["verdict"] == "nothing_to_back_up")
    yield Sample(DATABASES, len(facts.status["databases"]))
    for judged in facts.status["databases"]:
        recorded = facts.document.get("databases", {}).get(f"{judged['container']}/{judged['database']}")
        yield from _database(judged, recorded)
    answered_for = {judged["container"] for judged in facts.status["databases"]}
    for container, volume in facts.document.get("volumes", {}).items():
        if container in answered_for:
            yield Sample(VOLUME_FREE, volume["free_bytes"], (container,))
            yield Sample(VOLUME_SIZE, volume["total_bytes"], (container,))
    yield from _pass(facts.document.get("last_pass"))
    yield Sample(NEXT_PASS, _timestamp(facts.status["next_pass"]))
    yield Sample(INTERVAL, facts.status["schedule_interval_seconds"])
    yield Sample(REPOSITORY_INFO, 1, (stores.kind(facts.repository),))
    yield from _repository(facts.document.get("repository"))
    if growth := facts.status.get("repository_growth"):
        yield Sample(GROWTH, growth["bytes_a_night"])
    yield from _copy(facts.status["copy"])
    for kind, entry in on_record(facts.document, facts.status["copy"]).items():
        yield from _maintenance(kind, entry)
    for kind, count in (facts.document.get("refused") or {"total": {}})["total"].items():
        yield Sample(REFUSED, count, (kind,))
    yield from _notifications(facts.document.get("notifications"))


def _findings(findings: Iterable[FindingAnswer]) -> Iterator[Sample]:
    counted = Counter((one["severity"], one["code"], one["container"], one["database"]) for one in findings)
    for values, count in counted.items():
        yield Sample(FINDINGS, count, values)


def _database(judged: JudgedDatabase, recorded: DatabaseRecord | None) -> Iterator[Sample]:
    whose = (judged["container"], judged["database"])
    yield Sample(FRESH, judged["fresh"], whose)
    yield Sample(SUCCEEDED, judged["ok"], whose)
    yield Sample(LAST_SUCCESS, _timestamp(judged["last_success"]), whose)
    yield Sample(OVERDUE, _timestamp(judged["overdue_at"]), whose)
    if recorded is not None:
        yield Sample(ATTEMPTED, _timestamp(recorded["last_tried"]), whose)
        yield Sample(DURATION, recorded.get("seconds"), whose)
        yield Sample(READ, recorded.get("bytes_read"), whose)
        yield Sample(ADDED, recorded.get("bytes_added"), whose)
        yield Sample(STORED, recorded.get("bytes_stored"), whose)
        yield Sample(ROWS, recorded.get("rows"), whose)
    if new_data := judged.get("new_data"):
        yield from _new_data(whose, new_data)
    if judged["error"]:
        yield Sample(ERROR, 1, (*whose, judged["error"]["code"]))
    if drill := judged["drill"]:
        yield Sample(DRILL_SUCCESS, drill["ok"], whose)
        yield Sample(DRILL_TIME, _timestamp(drill["time"]), whose)
        yield Sample(RECOVERY, drill["recovery_seconds"], whose)


def _new_data(whose: tuple[str, str], known: NewDataAnswer) -> Iterator[Sample]:
    night, order = known["night"], known["row_order"]
    if night is not None:
        yield Sample(NIGHT_NEW, night["bytes_added"], whose)
        yield Sample(NIGHT_STORED, night["bytes_stored"], whose)
        yield Sample(NIGHT_RATIO, night["share"], whose)
        if night["bytes_read"]:
            yield Sample(IN_ORDER, night["bytes_ordered"] / night["bytes_read"], whose)
    if order["given_up"] or (night and night["bytes_ordered"]):
        yield Sample(ORDER_PAYS, order["pays"], whose)


def _pass(last_pass: PassRecord | None) -> Iterator[Sample]:
    if last_pass is None:
        return
    copy = last_pass.get("copy")
    good = (
        not last_pass["error"]
        and not last_pass["failed"]
        and not any((last_pass.get("roles") or {}).values())
        and last_pass["retention"]["ok"]
        and (not copy or copy["ok"])
    )
    yield Sample(PASS_SUCCESS, good)
    yield Sample(PASS_TIME, _timestamp(last_pass["finished"]))
    yield Sample(PASS_DURATION, last_pass.get("duration_seconds"))
    yield Sample(PASS_FAILED, last_pass["failed"])
    yield Sample(PASS_WARNINGS, len(last_pass.get("warnings", ())))


def _repository(measured: RepositoryRecord | None) -> Iterator[Sample]:
    if measured is None:
        return
    if measured.get("size_bytes") is not None:
        yield Sample(REPOSITORY_TIME, _timestamp(measured.get("sized", measured["time"])))
    yield Sample(SIZE, measured.get("size_bytes"))
    yield Sample(UNCOMPRESSED, measured.get("uncompressed_bytes"))
    yield Sample(SNAPSHOTS, measured.get("snapshots"))
    yield Sample(LOCKS, measured.get("locks"))
    yield Sample(OLDEST_LOCK, _timestamp(measured.get("oldest_lock")))
    yield Sample(FREE, measured.get("free_bytes"))
    yield Sample(TOTAL, measured.get("total_bytes"))


def _copy(copy: JudgedCopy | None) -> Iterator[Sample]:
    if copy is not None:
        yield Sample(COPY_SUCCESS, copy["ok"])
        yield Sample(COPY_LAST_SUCCESS, _timestamp(copy["last_success"]))
        yield Sample(COPY_OVERDUE, _timestamp(copy["overdue_at"]))


def _maintenance(kind: str, entry: MaintenanceRecord) -> Iterator[Sample]:
    yield Sample(MAINTENANCE_SUCCESS, entry["ok"], (kind,))
    yield Sample(MAINTENANCE_TIME, _timestamp(entry["time"]), (kind,))
    yield Sample(MAINTENANCE_LAST_SUCCESS, _timestamp(entry.get("last_success")), (kind,))


def _notifications(counters: BoxRecord | None) -> Iterator[Sample]:
    if counters is None:
        return
    yield Sample(NOTIFIED, counters.get("sent", 0))
    yield Sample(NOT_NOTIFIED, counters.get("failed", 0))
    yield Sample(PENDING, len(counters.get("pending", ())))


def _timestamp(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None
