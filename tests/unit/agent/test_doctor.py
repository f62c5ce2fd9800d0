# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be thought of what the doctor has seen: each branch, with what to do about it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from scalr_backup.actions.doctor.examined import FAILED, OK, WARNING, Examined, of_error
from scalr_backup.actions.doctor.of_engine import (
    Probe,
    ProxyFacts,
    of_containers,
    of_engine,
    of_proxy,
    of_servers,
    of_unmatched,
)
from scalr_backup.actions.doctor.of_host import (
    LEAST_MEMORY,
    ScheduleFacts,
    of_backups,
    of_memory,
    of_recipients,
    of_room,
    of_schedule,
    of_versions,
)
from scalr_backup.actions.doctor.of_store import (
    Skew,
    of_clock,
    of_deletion,
    of_locks,
    of_password,
    of_place,
    of_repository,
)
from scalr_backup.actions.health.finding import FAILURE, Finding
from scalr_backup.actions.health.finding import WARNING as LATER
from scalr_backup.actions.health.outbox import Recipients
from scalr_backup.actions.repository.keys import ESCROW_USER, HOST_USER
from scalr_backup.core.config import Config
from scalr_backup.core.engine_facts import EngineFacts, engine_facts
from scalr_backup.core.errors import WrongPasswordError
from scalr_backup.core.model import Cluster, Container, Credentials, Database, Key
from scalr_backup.core.recognition import Unmatched
from scalr_backup.core.records.host import HeartbeatRecord
from scalr_backup.core.room import WrittenTo

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SITE = "ansible-playbook scalr.backup.site --limit web1"
GIB = 1024**3


def config(**changes):
    return Config(**{"host": "web1", "repository": "/repository", **changes})


def container(name="scalr-shop-db", status="ok", reason=None, code=None):
    return Container("1", name, "postgres:17", "sha256:1", "running", status, reason, code=code)


# -- the engine, its proxy and the containers ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "facts"),
    [
        (
            {"Version": "20.10.24", "ApiVersion": "1.41", "Components": [{"Name": "Engine"}, {"Name": "runc"}]},
            EngineFacts("Docker Engine", "20.10.24", "1.41"),
        ),
        (
            {"Version": "5.4.2", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}, {"Name": "Conmon"}]},
            EngineFacts("Podman", "5.4.2", "1.41"),
        ),
        ({"Version": "1"}, EngineFacts("An engine with Docker's API", "1", "unknown")),
        ({"Components": [7, {"Name": ["x"]}]}, EngineFacts("An engine with Docker's API", "unknown", "unknown")),
        ({"Components": "none"}, EngineFacts("An engine with Docker's API", "unknown", "unknown")),
    ],
)
def test_an_engine_says_who_it_is(document, facts):
    assert engine_facts(document) == facts


@pytest.mark.parametrize(
    ("api", "verdict"), [("1.41", OK), ("1.52", OK), ("2.0", OK), ("unknown", OK), ("1.40", WARNING)]
)
def test_an_engine_that_is_too_old_is_a_warning(api, verdict):
    examined = of_engine(EngineFacts("Docker Engine", "19.03", api))
    assert examined.verdict == verdict
    assert examined.seen.startswith(f"Docker Engine 19.03 answers, API {api}.")
    assert bool(examined.cure) is (verdict == WARNING)


@pytest.mark.parametrize(
    ("facts", "verdict", "word", "command"),
    [
        (ProxyFacts(None, between=False, probe=Probe.NOTHING_TO_REFUSE), WARNING, "no socket proxy", SITE),
        (ProxyFacts("unix:///s", between=True, probe=Probe.REFUSED, container="c"), OK, "inspecting c", ""),
        (ProxyFacts("unix:///s", between=True, probe=Probe.NOTHING_TO_REFUSE), OK, "no container to test", ""),
        (
            ProxyFacts("unix:///s", between=False, probe=Probe.REFUSED, container="c"),
            WARNING,
            "not this product's",
            SITE,
        ),
        (ProxyFacts("unix:///s", between=True, probe=Probe.LET_THROUGH, container="c"), FAILED, "inspect c", SITE),
        (ProxyFacts("unix:///s", between=False, probe=Probe.LET_THROUGH, container="c"), FAILED, "inspect c", SITE),
    ],
)
def test_a_proxy_refuses_what_it_must(facts, verdict, word, command):
    examined = of_proxy(facts, "web1")
    assert (examined.verdict, examined.command) == (verdict, command)
    assert word in examined.seen


def test_containers_that_match_and_run_are_good():
    examined = of_containers([container("a"), container("b"), container("c", "excluded", "…")], ["*"], "web1")
    assert (examined.verdict, examined.seen) == (OK, "2 containers to back up: a, b.")


def test_a_host_without_a_match_says_which_patterns_there_are():
    examined = of_containers([container("c", "excluded", "its label says so")], ["scalr-*-db"], "web1")
    assert examined.verdict == WARNING
    assert "scalr-*-db" in examined.seen
    assert "scalr.backup=true" in examined.cure


def test_a_match_that_does_not_run_is_a_warning_with_the_command_that_starts_it():
    examined = of_containers([container("a"), container("b", "stopped", "its state is exited")], ["*"], "web1")
    assert (examined.verdict, examined.command) == (WARNING, "docker start b")
    assert examined.seen == "1 container of 2 that match is not running."
    assert examined.details == ("b is stopped: its state is exited",)


@pytest.mark.parametrize(
    ("status", "code"), [("refused", "container_refused"), ("unreachable", "unreachable")], ids=lambda value: value
)
def test_a_match_that_cannot_be_backed_up_is_a_failure(status, code):
    found = [container("a"), container("b", "stopped", "exited"), container("c", status, "it is privileged")]
    examined = of_containers(found, ["*"], "web1")
    assert (examined.verdict, examined.code) == (FAILED, code)
    assert examined.details == (f"c is {status}: it is privileged", "b is stopped: exited")
    assert examined.cure


def test_postgresql_that_nothing_matches_is_named_with_the_setting_that_matches_it():
    found = [Unmatched("orders", "postgres:17", "running", "its image is postgres:17", "no pattern names it")]
    examined = of_unmatched(found, ["scalr-*-db"], looked=True)
    assert examined.verdict == WARNING
    assert examined.seen == "1 PostgreSQL container is not backed up: orders."
    assert examined.details == ("orders: its image is postgres:17; no pattern names it",)
    assert 'set backup_containers to ["scalr-*-db", "orders"]' in examined.cure


def test_without_any_unmatched_postgresql_all_is_good_and_what_was_not_looked_for_is_said():
    assert of_unmatched([], ["*"], looked=True).verdict == OK
    assert "backup_report_unmatched" in of_unmatched([], ["*"], looked=False).seen


def test_servers_that_let_the_agent_in_are_listed_with_their_databases():
    cluster = Cluster(
        container("a"),
        Credentials("postgres"),
        "17.2",
        tuple(Database(name, 1, "postgres", "UTF8") for name in ("shop", "app")),
    )
    examined = of_servers([container("a")], [cluster], "web1")
    assert examined == Examined(
        OK, "The agent can log in to 1 server and read 2 databases.", ("a: PostgreSQL 17.2, shop, app",)
    )
    empty = of_servers([container("a")], [replace(cluster, databases=())], "web1")
    assert empty.details == ("a: PostgreSQL 17.2, no database to back up",)
    assert of_servers([], [], "web1").verdict == OK


@pytest.mark.parametrize(
    ("code", "shown", "word"),
    [("credentials", "credentials", "secret is mounted"), (None, "unreachable", "container's log")],
)
def test_a_server_that_does_not_answer_is_a_failure(code, shown, word):
    examined = of_servers([container("a"), container("b", "unreachable", "role does not exist", code)], [], "web1")
    assert (examined.verdict, examined.code) == (FAILED, shown)
    assert examined.details == ("b: role does not exist",)
    assert word in examined.cure
    assert examined.command == "docker logs --tail 20 b"


# -- the store and the clock ---------------------------------------------------------------------------------


def test_a_repository_that_opens_is_good_and_one_of_the_old_format_a_warning():
    assert of_repository("s3:x", 2).verdict == OK
    assert of_repository("s3:x", 1).verdict == WARNING
    assert "migrate" in of_repository("s3:x", 1).cure


def test_what_keeps_a_repository_from_opening_is_a_failure_with_its_cure():
    examined = of_error(WrongPasswordError("Wrong password for the repository /r."), "web1")
    assert examined == Examined(
        FAILED,
        "Wrong password for the repository /r.",
        cure="Restore the right one from your copy.",
        command=SITE,
        code="wrong_password",
    )
    assert examined.as_dict("repository", 0.04)["help"].endswith("troubleshooting.md#wrong_password")


def test_what_nobody_foresaw_is_a_failure_too():
    examined = of_error(ZeroDivisionError("by zero"), "web1")
    assert (examined.verdict, examined.code) == (FAILED, "internal")
    assert examined.seen == "Unexpected error: ZeroDivisionError: by zero"


@pytest.mark.parametrize(
    ("count", "hours", "verdict", "word"),
    [
        (0, None, OK, "no locks"),
        (2, 1, OK, "2 locks on the repository, the oldest 1 h old"),
        (1, None, OK, "1 lock"),
        (1, 25, WARNING, "1 d 1 h old and blocks"),
    ],
)
def test_only_a_lock_that_is_old_is_a_warning(count, hours, verdict, word):
    examined = of_locks(count, NOW - timedelta(hours=hours) if hours else None, NOW, 24)
    assert examined.verdict == verdict
    assert word in examined.seen
    assert examined.command == ("docker exec scalr-backup scalr-backup unlock" if verdict == WARNING else "")


def test_a_lock_that_cannot_be_read_is_not_said_to_be_new():
    assert "of unknown age" in of_locks(2, None, NOW, 24).seen


def test_a_repository_that_is_lost_with_the_host_is_a_warning():
    examined = of_place(config(), lost_with_host=True, on_host=True)
    assert (examined.verdict, examined.command) == (WARNING, SITE)
    assert "losing the host means losing its backups" in examined.seen


def test_where_a_repository_is_that_stays_is_said():
    elsewhere = config(repository="s3:https://key:secret@s3.example/b")
    assert (
        of_place(elsewhere, lost_with_host=False, on_host=False).seen
        == "s3:https://key:***@s3.example/b is not on this host."
    )
    copied = config(copy={"repository": "s3:https://s3.example/b"})
    assert of_place(copied, lost_with_host=False, on_host=True).seen.endswith(
        "its copy is not: s3:https://s3.example/b."
    )
    accepted = config(repository_on_host_accepted=True)
    assert "accepts" in of_place(accepted, lost_with_host=False, on_host=True).seen


def test_whether_a_host_may_remove_is_said_and_no_fault():
    only_adds = config(repository="s3:https://s3.example/b", append_only=True)
    assert of_deletion(only_adds).seen.startswith("This host is append-only")
    assert of_deletion(config()).verdict == OK
    assert "docs/ransomware.md" in of_deletion(config()).cure


def test_who_has_no_page_for_the_safe_is_reminded_of_a_copy_of_the_password():
    own = Key("1", HOST_USER, "web1", "2026", current=True)
    escrow = Key("2", ESCROW_USER, "safe", "2026", current=False)
    assert "off this host" in of_password([own]).cure
    assert of_password([own, replace(own, id="3")]).seen == "2 passwords open the repository."
    assert of_password([own, escrow]).cure == ""
    assert {of_password([own]).verdict, of_password([own, escrow]).verdict} == {OK}


@pytest.mark.parametrize(
    ("seconds", "verdict", "word"),
    [
        (60, OK, "within a minute"),
        (-60, OK, "within a minute"),
        (61, WARNING, "1 min 1 s ahead of that of the store"),
        (-900, WARNING, "15 min behind that of the store"),
        (-901, FAILED, "Stores refuse"),
    ],
)
def test_a_clock_may_be_off_by_a_minute(seconds, verdict, word):
    examined = of_clock(Skew(seconds, "the store"))
    assert examined.verdict == verdict
    assert word in examined.seen
    assert examined.command == ("" if verdict == OK else "timedatectl status")


def test_a_clock_that_nobody_was_asked_about_is_no_fault():
    assert of_clock(None).verdict == OK


# -- the agent's own place -----------------------------------------------------------------------------------


def written(what, *, free=5 * GIB, total=10 * GIB, system=1, writable=True):
    return WrittenTo(what, f"/{what}", system, free, total, writable)


def test_room_is_told_once_for_each_file_system():
    examined = of_room([written("state"), written("cache"), written("repository", system=2)], 90)
    assert examined.verdict == OK
    assert examined.details == (
        "state, cache: 5.0 GiB of 10.0 GiB free",
        "repository: 5.0 GiB of 10.0 GiB free",
    )


@pytest.mark.parametrize(
    ("one", "verdict", "word"),
    [
        (written("cache", writable=False), FAILED, "cannot write to /cache (cache)"),
        (written("cache", free=63 * 1024**2), FAILED, "no space left for cache"),
        (written("cache", free=GIB - 1), WARNING, "little space left for cache"),
        (written("cache", free=GIB, total=10 * GIB), WARNING, "little space left for cache"),
        (written("cache", free=GIB, total=0), OK, "There is enough free space"),
    ],
)
def test_a_place_without_room_is_named(one, verdict, word):
    examined = of_room([written("state", system=2), one], 90)
    assert examined.verdict == verdict
    assert word in examined.seen
    assert bool(examined.cure) is (verdict != OK)


def test_memory_below_what_restic_takes_is_a_warning():
    assert of_memory(None).seen == "The agent's container has no memory limit."
    assert of_memory(LEAST_MEMORY).verdict == OK
    assert of_memory(LEAST_MEMORY - 1).verdict == WARNING


ALIVE = ScheduleFacts(
    serving=True,
    next_pass=NOW + timedelta(hours=15),
    last_started=NOW - timedelta(hours=9),
    missed=None,
    under_way=None,
)


def test_a_schedule_that_lives_tells_the_next_pass_in_its_own_time_zone():
    examined = of_schedule(ALIVE, config(timezone="Europe/Paris"))
    assert examined.verdict == OK
    assert examined.seen == (
        "The schedule runs (0 3 * * *): last pass 2026-11-22 04:00, next pass 2026-11-23 04:00 Europe/Paris."
    )
    assert "last pass none yet" in of_schedule(replace(ALIVE, last_started=None), config()).seen


def test_a_schedule_that_nothing_runs_is_a_failure():
    examined = of_schedule(replace(ALIVE, serving=False, under_way="a pass"), config())
    assert examined.verdict == FAILED
    assert "no process scalr-backup serve" in examined.seen


def test_a_pass_that_did_not_run_is_a_warning_unless_one_is_under_way():
    missed = replace(ALIVE, missed=NOW - timedelta(hours=9))
    assert of_schedule(missed, config()).verdict == WARNING
    assert "2026-11-22 03:00" in of_schedule(missed, config()).seen
    busy = of_schedule(replace(missed, under_way="pass 2026"), config())
    assert busy.verdict == OK
    assert "now: pass 2026" in busy.seen


@pytest.mark.parametrize(("restic", "verdict"), [("0.19.1", OK), ("1.0.0", OK), ("0.18.0", WARNING)])
def test_versions(restic, verdict):
    examined = of_versions("0.8.0", restic)
    assert examined.verdict == verdict
    assert f"Agent 0.8.0, restic {restic};" in examined.seen


def test_somebody_must_be_told():
    service, heartbeat = SimpleNamespace(), SimpleNamespace()
    nobody = of_recipients(Recipients(), scraped=False)
    assert nobody.verdict == WARNING
    assert "backup_notify" in nobody.cure
    for recipients, scraped in (
        (Recipients((), heartbeat), False),
        (Recipients(), True),
        (Recipients((service,)), False),
    ):
        assert of_recipients(recipients, scraped=scraped).verdict == OK
    # Messages alone do not tell of a host that is down.
    assert "backup_heartbeat_url" in of_recipients(Recipients((service,)), scraped=False).cure
    assert of_recipients(Recipients((service, service), heartbeat), scraped=True).seen == (
        "Failures are reported by: 2 notification services, a heartbeat, metrics."
    )


def test_a_service_that_is_sent_no_failures_tells_of_none():
    services, heartbeat = Recipients((SimpleNamespace(),)), Recipients((SimpleNamespace(),), SimpleNamespace())
    silent = of_recipients(services, scraped=False, events=("warning", "recovery"))
    assert silent.verdict == WARNING
    assert silent.seen == "Nobody is notified when backups fail: failure is not among backup_notify_events."
    assert silent.cure == "Add failure to backup_notify_events."
    for recipients, scraped, way in ((heartbeat, False, "a heartbeat"), (services, True, "metrics")):
        examined = of_recipients(recipients, scraped=scraped, events=("digest",))
        assert (examined.verdict, examined.cure) == (WARNING, silent.cure)
        assert examined.seen == f"Failures are reported by: {way}. But failure is not among backup_notify_events."
    # Where there is no service, no message would be sent anyway.
    assert of_recipients(Recipients((), SimpleNamespace()), scraped=False, events=()).verdict == OK


def test_metrics_that_cannot_be_written_tell_of_nothing():
    nobody = of_recipients(Recipients(), scraped=False, unwritten="/var/lib/metrics")
    assert nobody.verdict == WARNING
    assert nobody.seen == "Nobody is notified when backups fail: the metrics cannot be written to /var/lib/metrics."
    assert "backup_metrics_textfile" in nobody.cure
    examined = of_recipients(Recipients(), scraped=True, unwritten="/var/lib/metrics")
    assert examined.verdict == WARNING
    assert examined.seen == "Failures are reported by: metrics. But the metrics cannot be written to /var/lib/metrics."


def test_a_heartbeat_that_nobody_hears_tells_of_nothing():
    deaf = HeartbeatRecord(failed=2, since=NOW.isoformat(), error="the heartbeat server a.test answered 404.")
    examined = of_recipients(Recipients((), SimpleNamespace()), scraped=False, beats=deaf)
    assert examined.verdict == WARNING
    assert examined.seen.startswith("Failures are reported by: a heartbeat. But the dead man's switch does not hear")
    assert "backup_heartbeat_url" in examined.cure
    assert examined.command == "docker exec scalr-backup scalr-backup notify --test"
    once = HeartbeatRecord(failed=1, since=NOW.isoformat(), error="no")
    assert of_recipients(Recipients((), SimpleNamespace()), scraped=False, beats=once).verdict == OK
    # What was on record of a switch that there was before.
    assert of_recipients(Recipients((SimpleNamespace(),)), scraped=False, beats=deaf).verdict == OK
    assert of_backups(status(finding("heartbeat_failed", LATER))).verdict == OK, "it is said once"


def finding(code, severity, **settings):
    return Finding(code, severity, "topic", f"{code} happened", f"command of {code}", **settings)


def status(*findings, verdict="safe"):
    return SimpleNamespace(findings=findings, verdict=verdict, summary="Safe: 1 database.")


def test_what_the_passes_recorded_counts():
    failed = finding("backup_failed", FAILURE, cause="dump_failed")
    later = finding("database_shrank", LATER)
    assert of_backups(status()).seen == "Safe: 1 database."
    assert of_backups(status(verdict="waiting")).seen == "No pass has run yet, and none is overdue."
    one = of_backups(status(later))
    assert (one.verdict, one.command, one.code) == (WARNING, "command of database_shrank", "")
    both = of_backups(status(failed, later))
    assert (both.verdict, both.code) == (FAILED, "dump_failed")
    assert both.command == "docker exec scalr-backup scalr-backup status"
    assert both.details == ("backup_failed happened", "database_shrank happened")
    assert both.seen == "2 findings on record, 1 of them failures."


def test_what_another_check_shows_is_not_told_twice():
    codes = ("clock_skew", "lock_too_old", "postgres_unmatched", "repository_nearly_full", "repository_on_host")
    assert of_backups(status(*(finding(code, LATER) for code in codes))).verdict == OK


def test_what_is_shown_has_no_password_and_steers_no_terminal():
    examined = Examined(OK, "rest:http://u:s3cret@h/ \x1b[2J", ("s3:http://k:s3cret@h/b\n",), "a\nb", "c\rd").harmless()
    assert "s3cret" not in json.dumps(examined.as_dict("x", 1.0))
    assert examined == Examined(OK, "rest:http://u:***@h/ ?[2J", ("s3:http://k:***@h/b?",), "a?b", "c?d")
