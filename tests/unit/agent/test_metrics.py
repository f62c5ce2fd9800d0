# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics: what the text says of what is on record, and how it is served when things go wrong."""

from __future__ import annotations

import re
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scalr_backup.actions.health.metrics import FRESH, METRICS, TEXTFILE_NAME, MetricFacts, Metrics
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config
from scalr_backup.service import metrics_http
from scalr_backup.service.metrics_http import MetricsServer
from scalr_backup.tools.state import State

from tests.support.containers import wait_until
from tests.support.monitoring import example_facts

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
# Words that Prometheus wants no metric's name to hold: units that are no base units, and kinds of metrics.
ODD_WORDS = {"minutes", "hours", "days", "ms", "kb", "mb", "percent", "gauge", "counter", "count", "sum", "bucket"}


def values(facts: MetricFacts) -> dict[str, dict[tuple[str, ...], float]]:
    """By name, and by the values of the labels in the order in which these are declared."""
    text = Metrics(lambda: facts).render()[0].decode()
    labels = {metric.full_name: metric.labels for metric in METRICS}
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            whose = tuple(sample.labels[label] for label in labels[sample.name])
            found.setdefault(sample.name, {})[whose] = sample.value
    return found


def nothing_yet(installed: datetime = NOW) -> MetricFacts:
    config = Config(host="web1", repository="/repository")
    judged = judge(config, "/repository", {}, installed, NOW)
    return MetricFacts("web1", "/repository", {}, judged.as_dict(), judged.health.ok, installed, judged.first_overdue)


def test_everything_that_is_known_is_told():
    found = values(example_facts(NOW))
    assert set(found) == {metric.full_name for metric in METRICS}
    whose = ("scalr-foo-db", "foo")
    assert (
        found["scalr_backup_database_last_success_timestamp_seconds"][whose] == (NOW - timedelta(hours=9)).timestamp()
    )
    assert found["scalr_backup_database_read_bytes"][whose] == 204010923
    assert found["scalr_backup_database_added_bytes"][whose] == 1048576
    assert found["scalr_backup_database_stored_bytes"][whose] == 400000
    in_heap_order = ("scalr-foo-db", "audit")
    assert found["scalr_backup_database_night_new_bytes"] == {whose: 1048576, in_heap_order: 190000000}
    assert found["scalr_backup_database_night_stored_bytes"][whose] == 400000
    assert found["scalr_backup_database_night_new_ratio"] == {whose: 0.0051, in_heap_order: 0.9313}
    assert found["scalr_backup_database_row_order_ratio"] == {whose: pytest.approx(0.882, abs=0.001), in_heap_order: 0}
    assert found["scalr_backup_database_row_order_pays"] == {whose: 1, in_heap_order: 0}
    assert found["scalr_backup_repository_night_growth_bytes"][()] == pytest.approx((1 << 30) / 8.625)
    assert found["scalr_backup_unmatched_containers"] == {(): 1}
    assert found["scalr_backup_nothing_to_back_up"] == {(): 0}
    assert found["scalr_backup_database_fresh"] == {whose: 1, ("scalr-foo-db", "audit"): 0}
    assert found["scalr_backup_database_error_info"] == {("scalr-foo-db", "audit", "dump_failed"): 1}
    assert found["scalr_backup_volume_free_bytes"] == {("scalr-foo-db",): 20 << 30}
    assert found["scalr_backup_drill_recovery_seconds"] == {whose: 12.5}
    assert found["scalr_backup_repository_info"] == {("s3",): 1}
    assert found["scalr_backup_maintenance_success"] == {("forget",): 1, ("prune",): 0, ("check",): 1}
    assert found["scalr_backup_healthy"][()] == found["scalr_backup_backed_up"][()] == 0
    assert found["scalr_backup_last_pass_success"][()] == 0
    assert found["scalr_backup_notifications_failed_total"][()] == 2
    assert found["scalr_backup_socket_proxy_refused_calls_total"] == {("call",): 0, ("look",): 4}


def test_the_upkeep_of_a_second_repository_that_is_no_more_is_not_told():
    facts = example_facts(NOW)
    failed = {"time": NOW.isoformat(), "ok": False, "last_success": None, "error": None}
    kinds = {"copy_check": {**failed, "repository": "b2:bucket"}, "copy_prune": {**failed, "repository": "b2:before"}}
    found = values(replace(facts, document={**facts.document, "maintenance": kinds}))
    assert found["scalr_backup_maintenance_success"] == {("copy_check",): 0}


@pytest.mark.parametrize(("failure", "good"), [(None, 1), ({"code": "roles_not_saved", "message": "No."}, 0)])
def test_a_pass_that_did_not_save_roles_was_not_good(failure, good):
    facts = nothing_yet()
    last = {
        "error": None, "failed": 0, "retention": {"ok": True}, "roles": {"a": failure}, "finished": NOW.isoformat(),
        "duration_seconds": 1, "warnings": [],
    }  # fmt: skip
    assert values(replace(facts, document={"last_pass": last}))["scalr_backup_last_pass_success"][()] == good


@pytest.mark.parametrize("anew", ["first", "order"])
def test_a_dump_that_had_to_be_all_new_is_no_night(anew):
    """Nor is what was never in order judged by whether that pays."""
    facts = example_facts(NOW)
    night = {
        "time": NOW.isoformat(),
        "dumps": 1,
        "bytes_read": 9,
        "bytes_added": 9,
        "bytes_stored": 9,
        "bytes_ordered": 0,
    }
    document = {
        **facts.document,
        "new_data": {"scalr-foo-db/foo": {"nights": [{**night, "anew": anew}], "layout": {}}},
    }
    judged = judge(Config(host="web1", repository="/repository"), "/repository", document, NOW, NOW)
    found = values(replace(facts, document=document, status=judged.as_dict()))
    assert found["scalr_backup_database_added_bytes"][("scalr-foo-db", "foo")] == 1048576
    assert not [name for name in found if "night" in name or "row_order" in name]


def test_what_is_not_known_yet_has_no_value():
    found = values(nothing_yet())
    assert set(found) == {
        "scalr_backup_build_info", "scalr_backup_installed_timestamp_seconds", "scalr_backup_healthy",
        "scalr_backup_backed_up", "scalr_backup_databases", "scalr_backup_next_pass_timestamp_seconds",
        "scalr_backup_repository_info", "scalr_backup_first_overdue_timestamp_seconds",
        "scalr_backup_schedule_interval_seconds",
    }  # fmt: skip
    assert found["scalr_backup_backed_up"] == {(): 1}
    assert values(nothing_yet(NOW - timedelta(hours=27)))["scalr_backup_backed_up"] == {(): 0}


def test_names_and_labels_follow_prometheus_and_stay_few():
    for metric in METRICS:
        words = metric.name.split("_")
        assert not ODD_WORDS & set(words), metric.name
        assert metric.counts == (words[-1] == "total"), metric.name
        assert ("timestamp" in words) == metric.name.endswith("_timestamp_seconds")
        # Nothing that differs from pass to pass: each value would be a new series for ever.
        assert set(metric.labels) <= {"container", "database", "severity", "code", "kind", "version", "host"}
        assert metric.help.endswith(".")


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "file"])
def test_two_databases_whose_names_are_shown_alike_are_two(tmp_path, accept):
    """One has a byte of no known encoding in its name, and the others' names spell it out."""
    facts = example_facts(NOW)
    names = ["caf\udce9", r"caf\xe9", r"caf\x5cxe9", "caf\\\udce9"]
    status, document, record = facts.status, dict(facts.document), facts.document["databases"]["scalr-foo-db/foo"]
    status["databases"] = [{**status["databases"][0], "database": name} for name in names]
    status["findings"] = [{**status["findings"][0], "container": "scalr-foo-db", "database": name} for name in names]
    document["databases"] = {f"scalr-foo-db/{name}": record for name in names}
    metrics = Metrics(lambda: replace(facts, document=document))
    if accept == "file":
        metrics.write(tmp_path)
    text = (tmp_path / TEXTFILE_NAME).read_bytes() if accept == "file" else metrics.render(accept)[0]
    told = [line.rpartition(" ")[0] for line in text.decode().splitlines() if not line.startswith("#")]
    assert len(set(told)) == len(told)
    assert len([series for series in told if r'database="caf\\' in series and series.startswith(FRESH.full_name)]) == 4
    assert f'{FRESH.full_name}{{container="scalr-foo-db",database="caf\\\\xe9"}}' in told, "no series changes its name"


def test_a_name_that_needs_it_is_escaped():
    facts = example_facts(NOW)
    odd = 'new\nline "and" \\'
    facts.status["databases"][0]["database"] = odd
    assert ("scalr-foo-db", odd) in values(facts)["scalr_backup_database_fresh"]


def test_the_file_is_replaced_in_one_piece(tmp_path):
    """Whoever reads it again and again while it is written sees a whole one each time."""
    metrics = Metrics(lambda: example_facts(NOW))
    metrics.write(tmp_path)
    whole = (tmp_path / "scalr_backup.prom").read_bytes()
    done = threading.Event()

    def write() -> None:
        for _time in range(50):
            metrics.write(tmp_path)
        done.set()

    threading.Thread(target=write).start()
    while not done.is_set():
        assert (tmp_path / "scalr_backup.prom").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["scalr_backup.prom"]
    assert (tmp_path / "scalr_backup.prom").stat().st_mode & 0o777 == 0o644


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def logged(monkeypatch):
    """What the server logs, as (level, event, fields)."""
    lines = []

    class Log:
        def __getattr__(self, level):
            return lambda event, **fields: lines.append((level, event, fields))

    monkeypatch.setattr(metrics_http, "make_logger", Log)
    return lines


def serves(port):
    try:
        return get(port)[0] == HTTPStatus.OK
    except OSError:
        return False


def get(port, path="/metrics", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return answer.status, answer.read(), answer.headers


def config(**settings):
    return Config(host="web1", repository="/repository", **settings)


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_one_answer_is_made_of_one_reading_of_the_record(tmp_path, monkeypatch, path):
    """Two of them could be of two different passes."""
    state, readings = State(tmp_path), []
    state.first_started(NOW)
    read = state.read
    monkeypatch.setattr(state, "read", lambda: readings.append(1) or read())
    MetricsServer(config(), state).answer(path, "")
    assert len(readings) == 1


def test_it_listens_where_the_configuration_says_and_moves_with_it(tmp_path, logged, monkeypatch):
    monkeypatch.setattr(metrics_http, "_TURN_SECONDS", 0.05)
    first, second = free_port(), free_port()
    current = [config(metrics_port=first)]
    monkeypatch.setattr(metrics_http, "load_config", lambda: current[0])
    with MetricsServer(current[0], State(tmp_path)):
        assert get(first)[0] == HTTPStatus.OK
        compressed = get(first, **{"Accept-Encoding": "gzip"})
        assert compressed[2]["Content-Encoding"] == "gzip"
        assert compressed[1].startswith(b"\x1f\x8b")
        current[0] = config(metrics_port=second)
        deadline = datetime.now(UTC) + timedelta(seconds=10)
        while not any(fields.get("port") == second for _level, _event, fields in logged):
            assert datetime.now(UTC) < deadline
        assert get(second, "/healthz")[:2] == (HTTPStatus.OK, b"Waiting for the first pass.\n")
        with pytest.raises(urllib.error.URLError):
            get(first)
    with pytest.raises(urllib.error.URLError):
        get(second)
    assert {level for level, _event, _fields in logged} == {"info"}


def test_a_port_that_is_taken_and_a_file_that_cannot_be_written_are_logged_once_and_stop_nothing(
    tmp_path, logged, monkeypatch
):
    monkeypatch.setattr(metrics_http, "_TURN_SECONDS", 0.02)
    monkeypatch.setattr("scalr_backup.actions.health.metrics.TEXTFILE_DIRECTORY", tmp_path / "not there")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 (as the agent listens)
        taken.listen()
        wrong = config(metrics_port=taken.getsockname()[1], metrics_textfile="/var/lib/node_exporter")
        monkeypatch.setattr(metrics_http, "load_config", lambda: wrong)
        with MetricsServer(wrong, State(tmp_path)) as server:
            wait_until(lambda: len(logged) == 2, "it has tried both")
            # Some turns more, which have nothing new to say.
            threading.Event().wait(0.3)
            assert server.answer("/healthz", "")[0] == HTTPStatus.OK
    assert [event for _level, event, _fields in logged] == [
        f"The metrics cannot be served on port {wrong.metrics_port}.",
        "The metrics cannot be written to /var/lib/node_exporter.",
    ]


def test_what_cannot_be_made_is_an_error_for_the_scraper_and_one_line_of_the_log(tmp_path, logged, monkeypatch):
    port = free_port()
    with MetricsServer(config(metrics_port=port), State(tmp_path)):
        monkeypatch.setattr(metrics_http.status, "judge", lambda *_facts, **_more: {}["nothing"])
        for _time in range(2):
            with pytest.raises(urllib.error.HTTPError, match="500") as failed:
                get(port)
            assert failed.value.read() == b"This failed; see the log.\n"
    errors = [event for level, event, _fields in logged if level == "error"]
    assert errors == ["The metrics cannot be collected."]


def test_too_many_at_once_are_turned_away_and_the_next_is_served(tmp_path, logged, monkeypatch):
    monkeypatch.setattr(metrics_http._MetricsHandler, "timeout", 0.5)
    port = free_port()
    with MetricsServer(config(metrics_port=port), State(tmp_path)):
        idle = [socket.create_connection(("127.0.0.1", port)) for _number in range(20)]
        # They say nothing, so that each keeps its place until its time is over.
        wait_until(lambda: serves(port), "the next one is served")
        for one in idle:
            one.close()


class TestHealth:
    """Every database has a good backup as young as the schedule asks, by default 26 h; nothing else counts."""

    def health(self, *entries, installed=NOW - timedelta(days=9)):
        document = {
            "databases": {f"{one['container']}/{one['database']}": one for one in entries},
            "nightly_started": NOW.isoformat(),
            "last_pass": {"error": {"code": "manifest", "message": "no manifest"}, "retention": {"error": None}},
        }
        return judge(config(), "/repository", document, installed, NOW).health

    def entry(self, hours, container="c", database="d", ok=True):
        time = (NOW - timedelta(hours=hours)).isoformat() if hours is not None else None
        error = None if ok else {"code": "dump_failed", "message": "died"}
        return {
            "container": container, "database": database, "ok": ok, "last_success": time, "last_tried": NOW.isoformat(),
            "error": error,
        }  # fmt: skip

    def test_a_failure_of_tonight_does_not_count_while_last_night_is_good(self):
        assert self.health(self.entry(9), self.entry(25.9, database="e", ok=False)).ok

    def test_one_that_is_too_old_counts_and_so_does_one_that_never_was(self):
        found = self.health(self.entry(26), self.entry(None, database="e", ok=False), self.entry(1, database="f"))
        assert found.sentence == "No good backup as young as the schedule 0 3 * * * asks: c/d, c/e."

    def test_a_cluster_that_does_not_answer_counts_by_what_is_known_of_it(self):
        silent = self.entry(None, database="*", ok=False)
        assert self.health(self.entry(9), silent).ok
        assert not self.health(self.entry(9, container="other"), silent).ok

    def test_an_agent_that_never_found_anything_has_26_hours(self):
        assert self.health(installed=NOW - timedelta(hours=25)).ok
        assert not self.health(installed=NOW - timedelta(hours=27)).ok

    def test_a_sentence_stays_short(self):
        found = self.health(*(self.entry(30, database=f"d{number:03}") for number in range(500)))
        assert found.sentence.endswith(" and 490 more.")
        assert len(re.findall("c/d", found.sentence)) == 10
