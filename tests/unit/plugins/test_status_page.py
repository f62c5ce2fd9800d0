# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status page says: the figures behind it, its sentences, its markup, and the playbook that writes it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shlex
import stat
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.scalr.backup.plugins.filter.status_page import status_page
from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, tag
from ansible_collections.scalr.backup.plugins.plugin_utils._status_charts import (
    hours,
    hours_in_words,
    legend,
    nights_in_words,
    strip,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import fleet
from ansible_collections.scalr.backup.plugins.plugin_utils._status_problems import Problem, cards, together
from ansible_collections.scalr.backup.plugins.plugin_utils._status_series import Series
from ansible_collections.scalr.backup.plugins.plugin_utils._status_snapshots import (
    list_on_host,
    restore_from_controller,
    restore_on_host,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_words import (
    details,
    headline,
    percent,
    ratio,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._units import human_bytes
from scalr_backup.actions.backup.result import PassResult
from scalr_backup.actions.health.finding import Finding
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config
from scalr_backup.core.model import DatabaseBackup, Failure
from scalr_backup.tools.state import State

from tests.support import fleets
from tests.support.documented import documented

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def ago(**duration):
    return (NOW - timedelta(**duration)).isoformat()


def backup(days, ok=True, database="shop", error="dump_failed", **changes):
    """What a pass so many days ago has left in the history of one database."""
    begun = NOW.replace(hour=3) - timedelta(days=days)
    return {
        "kind": "backup",
        "time": (begun + timedelta(minutes=2)).isoformat(),
        "started": begun.isoformat(),
        "run": f"r{days}",
        "container": "scalr-shop-db",
        "database": database,
        "ok": ok,
        "bytes_read": 1000 if ok else 0,
        "bytes_added": 10 if ok else 0,
        "error": None if ok else error,
        **changes,
    }


def a_pass(days, **changes):
    begun = (NOW.replace(hour=3) - timedelta(days=days)).isoformat()
    return {"kind": "pass", "time": begun, "started": begun, "run": f"r{days}", "ok": True, "error": None, **changes}


def database(name="shop", **changes):
    entry = {"container": "scalr-shop-db", "database": name, "ok": True, "fresh": True, "last_success": ago(hours=9)}
    entry |= {
        "age_seconds": 9 * 3600,
        "snapshot_id": "5f0c",
        "bytes_read": 1000,
        "rows": 3,
        "error": None,
        "drill": None,
    }
    return entry | changes


def answer(name="web1", outcome="safe", databases=None, history=(), **status):
    """What one host has answered."""
    known = {
        "repository": "/repository",
        "problems": [],
        "databases": [database()] if databases is None else databases,
        "next_pass": "2026-11-23T03:00:00+00:00",
        "last_pass": None,
        "timezone": "UTC",
        "history": list(history),
        **status,
    }
    said = "The host was not reached." if outcome == "not reached" else "A sentence."
    return {"name": name, "outcome": outcome, "summary": said, "status": None if outcome == "not reached" else known}


def figures(*answers, now=NOW):
    return fleet(answers, now)


def the_database(*history, **status):
    return figures(answer(history=history, **status)).databases[0]


# -- nights ------------------------------------------------------------------------------------------------------


def test_each_night_is_good_failed_missed_or_not_on_record():
    one = the_database(backup(5), backup(4, ok=False), backup(2), backup(1), backup(0))
    assert one.nights[-7:] == "ugfmggg"
    assert set(one.nights[:-6]) == {"u"}
    assert one.first_night == date(2026, 8, 25)
    assert one.recorded_since == date(2026, 11, 17)
    assert nights_in_words(one) == "4 of 6 nights good; failed on 18 Nov (dump failed); no backup on 19 Nov."


def test_a_second_try_that_succeeds_makes_a_night_good():
    assert the_database(backup(1), backup(0, ok=False), backup(0, run="later")).nights[-2:] == "gg"


def test_a_pass_that_failed_as_a_whole_is_a_failed_night_of_every_database():
    one = the_database(backup(2), a_pass(1, ok=False, error="wrong_password"), backup(0))
    assert one.nights[-3:] == "gfg"
    assert one.codes == {date(2026, 11, 21): "wrong_password"}


def test_a_container_that_did_not_answer_is_a_failed_night_of_its_databases():
    one = the_database(backup(1), backup(0, ok=False, database="*", error="unreachable"))
    assert one.nights[-2:] == "gf"


def test_a_pass_that_is_still_to_come_today_is_due_and_not_missed():
    assert the_database(backup(1), next_pass="2026-11-22T23:00:00+00:00").nights[-2:] == "gd"
    assert the_database(backup(1), next_pass="2026-11-23T03:00:00+00:00").nights[-2:] == "gm"


# Half past one at night in Berlin, before and after summer time ends: two nights there, and in UTC one in between is missed.
@pytest.mark.parametrize(("zone", "nights"), [("Europe/Berlin", "gg"), ("UTC", "mg"), ("Nowhere/Land", "mg")])
def test_a_night_is_a_date_in_the_time_zone_of_the_schedule(zone, nights):
    begun = ("2026-10-24T23:30:00+00:00", "2026-10-26T00:30:00+00:00")
    history = [backup(0, started=moment, run=moment) for moment in begun]
    known = figures(answer(history=history, timezone=zone), now=datetime(2026, 10, 26, 12, tzinfo=timezone.utc))
    assert known.databases[0].nights[-2:] == nights


def hourly(passes, failed=(), missed=(), **changes):
    """The history of so many hourly passes until eleven today, and what the agent says was due; moments are hours ago."""
    begun = {back: NOW - timedelta(hours=back) for back in range(passes, 0, -1)}
    history = [
        backup(0, ok=back not in failed, started=moment.isoformat(), run=f"h{back}")
        for back, moment in begun.items()
        if back not in missed
    ]
    days: dict[str, int] = {}
    for moment in begun.values():
        days[moment.date().isoformat()] = days.get(moment.date().isoformat(), 0) + 1
    lately = [moment.isoformat() for back, moment in begun.items() if back <= 48]
    return {"history": history, "due_days": days, "due_lately": lately, "next_pass": NOW.isoformat(), **changes}


def test_a_day_of_many_passes_is_good_only_if_all_of_them_are():
    one = figures(answer(**hourly(72, failed={30}, missed={5, 6}))).databases[0]
    assert one.nights[-4:] == "ggpp"
    assert one.past.counts[date(2026, 11, 21)] == (23, 24)
    assert one.past.counts[date(2026, 11, 22)] == (10, 12)
    said = "2 of 4 nights good; not every pass on 22 Nov (10 of 12 good), 21 Nov (23 of 24 good, dump failed)."
    assert nights_in_words(one) == said
    assert 'data-c="88:23/24 89:10/12"' in strip(one)
    assert "Not every pass" in legend(figures(answer(**hourly(72))))
    assert "Not every pass" not in legend(figures(answer()))


def test_a_day_of_many_passes_without_a_good_one_is_failed_or_missed():
    whole = set(range(13, 37))  # The 21st, from midnight to midnight.
    assert figures(answer(**hourly(72, failed=whole))).databases[0].nights[-2:] == "fg"
    assert figures(answer(**hourly(72, missed=whole))).databases[0].nights[-2:] == "mg"


def test_a_try_by_hand_makes_no_day_of_many_passes_good_that_missed_one():
    status = hourly(24, failed={4})
    status["history"].append(backup(0, started=(NOW - timedelta(hours=3, minutes=30)).isoformat(), run="by hand"))
    assert figures(answer(**status)).databases[0].nights[-1] == "p"


def test_the_passes_of_two_days_are_drawn_one_by_one():
    one = figures(answer(**hourly(72, failed={30}, missed={5, 6}))).databases[0]
    assert one.past.lately == "g" * 18 + "f" + "g" * 23 + "mm" + "gggg"
    words = "45 of the last 48 passes good; failed at Sat 06:00; none at Sun 07:00, Sun 06:00."
    assert hours_in_words(one) == words
    drawn = hours(one)
    assert 'viewBox="0 0 48 20"' in drawn
    assert f"<title>{words}</title>" in drawn
    assert hours(the_database(backup(0))) is None


def test_a_pass_that_began_late_is_that_of_the_hour_that_it_was_due():
    status = hourly(3)
    status["history"][1]["started"] = (NOW - timedelta(hours=1, minutes=2)).isoformat()
    assert figures(answer(**status)).databases[0].past.lately == "ggg"


def test_a_day_without_any_pass_due_is_neither_good_nor_missed():
    due = {"2026-11-19": 1, "2026-11-20": 1}  # A Thursday and a Friday; nothing is due at weekends.
    one = the_database(backup(3), backup(2), due_days=due, next_pass="2026-11-23T03:00:00+00:00")
    assert one.nights[-4:] == "ggnn"
    assert nights_in_words(one) == "2 of 2 nights good."
    # Of days before the schedule was what it is nobody knows what was due.
    assert the_database(backup(5), backup(2), due_days={"2026-11-20": 1}).nights[-6:] == "gmmgnn"


def test_what_is_due_this_minute_may_still_come():
    assert the_database(backup(1), due_days={"2026-11-21": 1, "2026-11-22": 0}).nights[-2:] == "gd"


def test_a_line_that_stands_for_a_day_counts_as_that_many():
    day = {"good": 23, "failed": 1, "bytes_read": 23000, "bytes_added": 230, "bytes_stored": 92, "error": "dump_failed"}
    known = figures(answer(history=[backup(1, day=day), backup(0)], due_days={"2026-11-21": 24, "2026-11-22": 24}))
    one = known.databases[0]
    assert one.past.counts[date(2026, 11, 21)] == (23, 24)
    assert one.nights[-2:] == "pp"
    assert (known.bytes_read, known.bytes_stored) == (24000, 102)


def test_a_day_counts_among_good_nights_by_its_passes():
    known = figures(answer(**hourly(36, failed={1, 2, 3})))
    assert known.good_share == pytest.approx((1 + 9 / 12) / 2)


def test_a_fleet_of_many_passes_stays_a_small_page():
    """Two hundred databases, of which every hour of a week and every day before is on record."""
    answers = fleets.healthy(200)
    nightly = len(status_page(answers, NOW.isoformat()))
    for one in answers:
        status, past = one["status"], hourly(7 * 24, failed=range(7, 7 * 24, 31))
        lines = past.pop("history")
        status |= past
        status["history"] += [
            {**line, "container": entry["container"], "database": entry["database"]}
            for entry in status["databases"]
            for line in lines
        ]
    assert len(status_page(answers, NOW.isoformat())) < 1.5 * nightly


def test_a_page_is_of_use_until_the_first_backup_on_it_is_too_old():
    soon = {"fresh": True, "overdue_at": "2026-11-22T13:30:00+00:00"}
    later = {"fresh": True, "overdue_at": "2026-11-23T05:00:00+00:00"}
    old = {**OLD, "overdue_at": "2026-11-20T05:00:00+00:00"}
    databases = [database(**later), database("wiki", **soon), database("blog", **old)]
    page = status_page([answer(databases=databases)], NOW.isoformat())
    assert 'data-until="2026-11-22T13:30:00+00:00"' in page
    assert "data-until" not in status_page([answer()], NOW.isoformat())


def test_the_hosts_table_says_the_schedule_below_the_next_pass():
    assert "0 8-18 * * 1-5" in status_page([answer(schedule="0 8-18 * * 1-5")], NOW.isoformat())


def test_many_failed_nights_are_not_all_named():
    one = the_database(backup(40), *(backup(days, ok=False) for days in range(20)))
    assert "and 14 more" in nights_in_words(one)


def test_a_strip_of_equal_nights_is_a_single_line():
    drawn = strip(the_database(*(backup(days) for days in range(89, -1, -1))))
    assert drawn.count("<path") == 1
    assert 'd="M0 10h90"' in drawn
    assert 'aria-label="90 of 90 nights good."' in drawn


# -- sizes -------------------------------------------------------------------------------------------------------


def test_growth_needs_a_week_and_a_beginning():
    first = date(2026, 11, 1)
    assert Series(first, (100.0, *[None] * 6, 150.0)).growth == 0.5
    assert Series(first, (100.0, 150.0)).growth is None
    assert Series(first, (0.0, *[None] * 6, 150.0)).growth is None
    assert Series(first, (None, None)).growth is None


def test_the_size_of_a_night_without_a_measurement_is_that_of_the_night_before():
    assert Series(date(2026, 11, 1), (None, 5.0, None, 7.0)).filled().values == (None, 5.0, 5.0, 7.0)


@pytest.mark.parametrize(("nights_ago", "says"), [(0, False), (2, True)])
def test_a_size_that_was_not_measured_in_the_last_night_says_when(nights_ago, says):
    history = [a_pass(days, size_bytes=100 if days == nights_ago else None) for days in (2, 1, 0)]
    page = status_page([answer(history=history)], NOW.isoformat())
    assert ("measured 2026-11-20" in page) == says
    assert ("measured 2026" in page) == says


def test_a_repository_that_hosts_share_counts_once_and_a_directory_is_each_hosts_own():
    sized = [a_pass(1, size_bytes=70), a_pass(0, size_bytes=100, snapshots=4)]
    shared = [answer(name, history=sized, repository="s3:https://s3/b") for name in ("web1", "web2")]
    own = [answer(name, history=sized) for name in ("web3", "web4")]
    known = figures(*shared, *own)
    assert known.stored.known[-1] == (date(2026, 11, 22), 300)
    assert set(known.repositories) == {"s3:https://s3/b", "web3:/repository", "web4:/repository"}
    assert known.hosts[0].snapshots == 4


def test_the_ratio_is_what_was_dumped_beside_what_had_to_be_stored():
    known = figures(answer(history=[backup(days) for days in range(10)]))
    assert (known.bytes_read, known.bytes_stored, known.dedup_ratio) == (10000, 100, 100)
    compressed = figures(answer(history=[backup(days, bytes_stored=4) for days in range(10)]))
    assert (compressed.bytes_stored, compressed.dedup_ratio) == (40, 250)
    assert figures(answer()).dedup_ratio is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (human_bytes(None), "\N{EN DASH}"),
        (human_bytes(0), "0 B"),
        (human_bytes(1023), "1023 B"),
        (human_bytes(123 * 2**20), "123.0 MiB"),
        (human_bytes(5.5 * 2**40), "5.5 TiB"),
        (percent(0.0004), "no change"),
        (percent(0.0712), "+7.1 %"),
        (percent(-0.5), "\N{MINUS SIGN}50 %"),
        (ratio(3.25), "3.2\N{MULTIPLICATION SIGN}"),
        (ratio(106.4), "106\N{MULTIPLICATION SIGN}"),
        (ratio(None), "\N{EN DASH}"),
    ],
)
def test_numbers_are_said_in_few_letters(said, words):
    assert said == words


# -- what is new -------------------------------------------------------------------------------------------------


def new_data(added=70, share=0.07, why_not=None, night=True):
    """What the agent says of a database's last whole night."""
    return {"night": {"bytes_added": added, "share": share} if night else None, "row_order": {"why_not": why_not}}


def test_the_passes_of_a_night_add_up_and_dumps_that_had_to_be_all_new_are_no_night():
    first = backup(4, bytes_added=1000, anew="first")
    hourly = [backup(3, run=f"r{hour}", bytes_added=20, anew=None) for hour in range(5)]
    moved, last = backup(2, bytes_added=950, anew="order"), backup(0, bytes_added=70, anew=None)
    one = the_database(first, *hourly, moved, last, databases=[database(new_data=new_data())])
    assert one.new.nights.values[-5:] == (None, 100, None, None, 70)
    assert (one.new.last_bytes, one.new.last_share, one.new.out_of_order) == (70, 0.07, None)


def test_a_line_that_stands_for_a_day_tells_the_sum_of_its_dumps():
    day = {"good": 24, "failed": 0, "bytes_read": 24000, "bytes_added": 480, "bytes_stored": 100, "error": None}
    one = the_database(backup(9, anew="first"), backup(8, bytes_added=20, day=day, anew=None))
    assert one.new.nights.values[-9:-7] == (480, None)


def test_the_first_backup_on_record_of_an_older_agent_is_no_night_either():
    one = the_database(backup(3, ok=False), backup(2, bytes_added=1000), backup(1), backup(0))
    assert one.new.nights.values[-4:] == (None, None, 10, 10)
    assert (one.new.last_bytes, one.new.last_share) == (None, None)


def test_the_trend_is_the_last_two_weeks():
    one = the_database(*(backup(days, anew=None, bytes_added=days) for days in range(40, -1, -1)))
    assert one.new.recent.values == tuple(range(13, -1, -1))
    assert one.new.recent.first == date(2026, 11, 9)


def test_a_row_says_what_is_new_a_night_and_beside_a_dump():
    history = [backup(days, anew=None) for days in range(20, -1, -1)]
    page = status_page(
        [answer(history=history, databases=[database(new_data=new_data(7130316, 0.035))])], NOW.isoformat()
    )
    cell = re.search(r'<td class="new" role="cell">(.*?)</td>', page)[1]
    assert '<span>6.8 MiB<span class="sub">4 %</span></span>' in cell
    assert '<path d="M0,10 13,10"/>' in cell, "what does not change is a line of two points"


def test_a_database_before_its_first_night_shows_none():
    page = status_page([answer(databases=[database(new_data=new_data(night=False))])], NOW.isoformat())
    assert '<td class="new" role="cell"><div class="sizes"><span>\N{EN DASH}</span></div></td>' in page
    assert "Most new data per night" not in page


def test_a_host_says_by_how_much_its_repository_grows_a_night():
    grown = {"since": ago(days=9), "bytes_a_night": 2411724}
    host = figures(answer(history=[a_pass(0, size_bytes=100, snapshots=4)], repository_growth=grown)).hosts[0]
    assert host.grows == 2411724
    page = status_page(
        [answer(history=[a_pass(0, size_bytes=100, snapshots=4)], repository_growth=grown)], NOW.isoformat()
    )
    assert "4 snapshots, +2.3 MiB a night" in page
    shrunk = answer(history=[a_pass(0, size_bytes=100)], repository_growth={**grown, "bytes_a_night": -2411724})
    assert "\N{MINUS SIGN}2.3 MiB a night" in status_page([shrunk], NOW.isoformat())


def test_what_costs_most_is_listed_and_so_is_where_auto_gave_up():
    why = "auto gave up on 2026-11-06: 83 % of each dump was new"
    databases = [
        database("a", new_data=new_data(10, 0.01)),
        database("b", new_data=new_data(900, 1.2, why_not=why)),
        database("c"),
    ]
    history = [
        backup(days, database=name, bytes_read=1000 + 10 * (20 - days), anew=None)
        for name in "abc"
        for days in range(20, -1, -1)
    ]
    page = status_page([answer(history=history, databases=databases)], NOW.isoformat())
    growth = page[page.index('id="growth"') : page.index('id="drills"')]
    newest = growth[growth.index("Most new data per night") :]
    assert newest.index("<b>b</b>") < newest.index("<b>a</b>")
    assert "120 % of a dump" in newest
    assert 'width="100.0%"' in newest
    assert growth.count(why) == 1
    assert "30 B on 2 Nov, 30 B on 22 Nov, no change." in growth


# -- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "condition", "verdict"),
    [
        ({}, "safe", "Safe"),
        ({"last_success": None, "age_seconds": None, "ok": False, "fresh": False}, "bad", "Never backed up"),
        ({"fresh": False}, "bad", "No recent backup"),
        ({"ok": False}, "bad", "Last try failed"),
        ({"drill": {"ok": False, "error": {"code": "verification_failed", "message": "."}}}, "bad", "Drill failed"),
        ({"drill": {"ok": False, "error": {"code": "no_memory", "message": "."}}}, "safe", "Safe"),
        ({"drill": {"ok": False, "error": {"code": "call_refused", "message": "."}}}, "safe", "Safe"),
    ],
)
def test_a_database_is_as_its_backups_are(changes, condition, verdict):
    one = figures(answer(databases=[database(**changes)])).databases[0]
    assert (one.condition, one.verdict) == (condition, verdict)


def finding(severity="warning", **changes):
    entry = {"code": "shrunk", "severity": severity, "container": "scalr-shop-db", "database": "shop"}
    entry |= {"message": "scalr-shop-db/shop shrank.", "since": ago(days=1), "last_good_age_seconds": 32400}
    return entry | {"command": "docker exec scalr-backup scalr-backup snapshots"} | changes


def test_findings_decide_about_a_database_where_the_agent_has_them():
    assert figures(answer(findings=[finding()])).databases[0].condition == "warning"
    assert figures(answer(findings=[finding("failure")])).databases[0].condition == "bad"
    assert figures(answer(findings=[finding(database="other")])).databases[0].condition == "safe"


@pytest.mark.parametrize(
    ("severity", "container", "verdict"),
    [
        ("failure", "scalr-shop-db", "Not safe"),
        ("warning", "scalr-shop-db", "Warning"),
        ("failure", "scalr-wiki-db", "Safe"),
        # What is wrong with the whole host is said of the host.
        ("failure", "", "Safe"),
    ],
)
def test_what_the_agent_finds_wrong_with_a_container_is_wrong_with_its_databases(severity, container, verdict):
    found = Finding("roles_not_saved", severity, "roles", "Its roles were not saved.", "x", container).as_dict()
    assert figures(answer(findings=[found])).databases[0].verdict == verdict


def test_failures_go_before_warnings_and_say_what_to_run_and_where():
    page = status_page(
        [answer(findings=[finding(), finding("failure", message="scalr-shop-db/shop is lost.")])], NOW.isoformat()
    )
    todo = page[page.index('id="todo"') : page.index('id="nights"')]
    assert todo.index("Is lost.") < todo.index("Shrank.")
    assert "Since Sat 21 Nov, 12:00 UTC. The last good backup is 9 h old." in todo
    assert "On web1:" in todo
    assert "docker exec scalr-backup scalr-backup snapshots" in todo


def test_an_agent_without_findings_is_believed_by_its_sentences():
    known = figures(answer(outcome="not safe", problems=["Retention failed: locked"]))
    assert [(one.severity, one.message) for one in known.problems] == [("failure", "Retention failed: locked")]


def test_hosts_that_say_nothing_are_problems_with_a_command_each():
    silent = {**answer("web 9", "without an answer"), "status": {}}
    known = figures(answer("web3", "not reached"), silent, {"name": "web10"})
    assert {one.command for one in known.problems} == {
        "ansible web3 -m ansible.builtin.ping",
        "ansible-playbook scalr.backup.site --limit 'web 9'",
        "ansible-playbook scalr.backup.site --limit web10",
    }


UNMATCHED = {
    "unmatched": [{"name": "app-postgres-1"}, {"name": "wiki"}],
    "findings": [finding(code="postgres_unmatched", severity="warning", container="", database="")],
}
OLD = {"fresh": False, "age_seconds": 99 * 3600}


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([answer()], "The database is safe."),
        ([answer(databases=[database(), database("wiki")])], "All 2 databases are safe."),
        ([answer(findings=[finding()])], "The database is safe, but 1 issue needs attention."),
        ([answer(databases=[database(**OLD)])], "The database is not safe."),
        ([answer(databases=[database(), database("wiki", **OLD)])], "1 of 2 databases is not safe."),
        ([answer(), answer("web2", "not reached")], "1 of 2 hosts did not answer."),
        (
            [answer(outcome="not safe", problems=["Retention failed."])],
            "Every database has a good backup, but 1 host has a problem.",
        ),
        ([answer(databases=[])], "There is nothing to back up yet."),
        ([answer(databases=[], outcome="not safe", problems=["No database."])], "1 host has a problem."),
        ([answer(databases=[], outcome="nothing to back up")], "There is nothing to back up yet."),
        (
            [answer(outcome="not complete", **UNMATCHED)],
            "The database is safe, but 2 PostgreSQL containers are not backed up.",
        ),
        ([answer(outcome="not complete", databases=[], **UNMATCHED)], "2 PostgreSQL containers are not backed up."),
        ([], "There is nothing to back up yet."),
    ],
)
def test_the_first_sentence_says_how_the_fleet_is(answers, sentence):
    assert headline(figures(*answers)) == sentence


def test_the_second_sentence_adds_what_matters_next():
    assert details(figures(answer())) == "The good backup is 9 h old. The next pass starts in 15 h."
    bad = figures(answer(databases=[database(), database("wiki", **OLD)]), answer("web2", "not reached"))
    assert details(bad).startswith(
        "The other one has a good backup as recent as its schedule requires. 1 host did not answer."
    )


def test_the_worst_and_oldest_go_first_and_names_are_ordered_as_people_count():
    rows = [database("ok"), database("old", **OLD), database("older", **{**OLD, "age_seconds": 999 * 3600})]
    known = figures(answer("web10"), answer("web2"), answer("web1", databases=rows))
    assert [(one.host, one.name) for one in known.databases] == [
        ("web1", "older"), ("web1", "old"), ("web1", "ok"), ("web2", "shop"), ("web10", "shop"),
    ]  # fmt: skip
    assert [host.name for host in known.hosts] == ["web1", "web2", "web10"]


def test_a_host_says_what_nothing_backs_up_and_where_there_is_nothing():
    hosts = answer(outcome="not complete", **UNMATCHED), answer("web2", "nothing to back up", databases=[])
    page = status_page(hosts, NOW.isoformat())
    assert "Not complete, 1 database" in section(page, "hosts")
    assert "Nothing to back up" in section(page, "hosts")
    assert "Safe" not in section(page, "hosts").partition("web2")[2]
    assert details(figures(hosts[1])).startswith(
        "A database appears here once its container matches backup_containers."
    )


def test_the_nights_are_drawn_once_more_whatever_the_database_is_called():
    """A browser looks for the name as it is when nothing in it is escaped."""
    named = [database(name) for name in ("shop", "the shop", "läden/100%=x")]
    page = status_page([answer(databases=named)], NOW.isoformat())
    drawn = re.findall(r'<use href="#(n/[^"]+)"', page)
    assert len(set(drawn)) == 3
    for name in drawn:
        assert unquote(name) == name
        assert f'id="{name}"' in page


# -- one cause, one card -------------------------------------------------------------------------------------------


def section(page, name):
    """The markup of one section."""
    return page[page.index(f'<section id="{name}"') :].partition("</section>")[0]


def failed(host, container, reason="The store does not answer.", code="backup_failed"):
    command = f"ansible-playbook scalr.backup.backup --limit {host} -e db={container}"
    message = f"{container}/shop failed in its last pass: {reason}"
    return Problem("failure", host, f"{container}/shop", message, command=command, code=code, reason=reason)


def test_one_cause_on_many_hosts_is_one_card_with_one_command():
    found = cards([failed(f"web{number}", "scalr-shop-db") for number in range(1, 41)])
    assert len(found) == 1
    assert found[0].hosts == [f"web{number}" for number in range(1, 41)]
    hosts = ",".join(found[0].hosts)
    assert found[0].commands == [f"ansible-playbook scalr.backup.backup --limit {hosts} -e db=scalr-shop-db"]


def test_a_reason_that_names_its_own_host_and_container_is_the_same_cause():
    one = failed("web1", "scalr-a-db", "pg_dump in scalr-a-db on web1 ended with 1.")
    other = failed("web2", "scalr-b-db", "pg_dump in scalr-b-db on web2 ended with 1.")
    assert len(cards([one, other])) == 1
    assert len(cards([one, failed("web2", "scalr-b-db", "pg_dump in scalr-b-db on web2 ended with 2.")])) == 2
    # A name counts as a word, not as letters: "db" is in many words.
    assert len(cards([failed("a", "b", "a bad cat"), failed("c", "b", "c bad bat")])) == 2


def test_failures_of_different_kinds_stay_apart_and_go_before_warnings():
    warned = Problem("warning", "web1", "web1", "The store does not answer.", code="clock_skew")
    found = cards([warned, failed("web1", "a"), failed("web2", "a", code="backup_too_old")])
    assert [(one.first.severity, one.first.code) for one in found] == [
        ("failure", "backup_failed"), ("failure", "backup_too_old"), ("warning", "clock_skew"),
    ]  # fmt: skip


def test_sentences_that_differ_in_their_numbers_are_one_cause_where_no_reason_is_known():
    old = [
        Problem("failure", f"web{age}", f"c{age}/shop", f"c{age}/shop has no good backup younger than {age} h.")
        for age in (30, 56)
    ]
    assert len(cards(old)) == 1


@pytest.mark.parametrize(
    ("commands", "merged"),
    [
        (["docker start a", "docker start a"], ["docker start a"]),
        (["docker start a", "docker start b"], ["docker start a", "docker start b"]),
        (
            ["ansible-playbook scalr.backup.backup --limit w1 -e db=a", "ansible-playbook scalr.backup.backup --limit w2 -e db=b"],
            ["ansible-playbook scalr.backup.backup --limit w1,w2"],
        ),
        (
            ["ansible-playbook scalr.backup.site --limit w1", "ansible-playbook scalr.backup.backup --limit w1"],
            ["ansible-playbook scalr.backup.site --limit w1", "ansible-playbook scalr.backup.backup --limit w1"],
        ),
        (["ansible web1 -m ansible.builtin.ping"], ["ansible web1 -m ansible.builtin.ping"]),
        (["ansible-playbook", "echo 'open", ""], ["ansible-playbook", "echo 'open", ""]),
    ],
)  # fmt: skip
def test_calls_of_one_playbook_become_one_and_other_commands_stay(commands, merged):
    assert together(commands) == merged


def test_a_card_of_several_names_them_all_and_says_what_helps():
    findings = [
        finding(
            "failure", container=f"scalr-{number}-db", message=f"scalr-{number}-db/shop failed: no.", reason="no.",
            remedy="Give it a role.", help="https://example.com/help#postgres",
        )
        for number in range(5)
    ]  # fmt: skip
    todo = section(status_page([answer(findings=findings)], NOW.isoformat()), "todo")
    assert todo.count("<li") == 1
    assert "5 databases" in todo
    assert all(f"scalr-{number}-db/shop on web1" in todo for number in range(5))
    assert 'Give it a role. <a href="https://example.com/help#postgres"' in todo


def test_an_agent_cannot_slip_a_link_into_the_page():
    nasty = finding("failure", remedy="Click.", help="javascript:alert(1)")
    assert "javascript:" not in status_page([answer(findings=[nasty])], NOW.isoformat())


# -- restore -----------------------------------------------------------------------------------------------------


def snapshot(number, **changes):
    entry = {"id": f"{number:02d}" * 32, "short_id": f"{number:08d}", "time": ago(days=number), "reason": "nightly"}
    entry |= {"container": "scalr-shop-db", "database": "shop", "dump_bytes": 2**20, "pinned": False}
    return entry | changes


def test_an_address_of_an_older_agent_shows_nothing_of_its_password():
    page = status_page([answer(repository="rest:https://web1:***@canary/1@rest.test/")], NOW.isoformat())
    assert "rest:https://web1:***@rest.test/" in page
    assert "canary" not in page


def test_a_database_shows_its_newest_snapshots_and_the_command_that_restores_it():
    listed = [snapshot(number) for number in range(1, 31)] + [snapshot(40, pinned=True), snapshot(2, container="other")]
    shown = section(status_page([answer(snapshots=listed)], NOW.isoformat()), "restore")
    assert "31 snapshots, the newest from Sat 21 Nov, 12:00 UTC" in shown
    assert [f"{number:08d}" in shown for number in (1, 5, 6, 40)] == [True, True, False, True]
    assert "pinned" in shown
    assert "ansible-playbook scalr.backup.restore --limit web1 -e db=scalr-shop-db -e database=shop" in shown
    assert "docker exec scalr-backup scalr-backup snapshots --db=scalr-shop-db" in shown


@pytest.mark.parametrize(("snapshots", "said"), [(None, "did not list its snapshots"), ([], "There are no snapshots.")])
def test_unknown_snapshots_and_none_are_told_apart(snapshots, said):
    assert said in section(status_page([answer(snapshots=snapshots)], NOW.isoformat()), "restore")


@pytest.mark.parametrize("name", ["my shop", "o'brien", 'a"b', "a=b c", "$HOME", "Größe"])
def test_a_command_to_restore_means_exactly_that_database(name):
    command = restore_from_controller("web 1", "scalr-shop-db", name)
    words = shlex.split(command)
    assert words[:4] == ["ansible-playbook", "scalr.backup.restore", "--limit", "web 1"]
    assert json.loads(words[5]) == {"db": "scalr-shop-db", "database": name}
    assert f"--database={name}" in shlex.split(restore_on_host("scalr-shop-db", name))
    assert shlex.split(list_on_host(name))[-1] == f"--db={name}"


def test_a_name_that_ansible_would_read_as_a_template_is_restored_on_the_host():
    assert restore_from_controller("web1", "scalr-shop-db", "{{ lookup('pipe', 'id') }}") is None
    shown = section(status_page([answer(databases=[database("{{ x }}")], snapshots=[])], NOW.isoformat()), "restore")
    assert "restore --db=scalr-shop-db &#x27;--database={{ x }}&#x27;" in shown


# -- many --------------------------------------------------------------------------------------------------------


def test_among_many_databases_and_hosts_those_that_need_nobody_are_behind_a_click():
    page = status_page(fleets.failing(500), fleets.NOW.isoformat())
    for name in ("nights", "hosts"):
        in_the_open, _details, folded = section(page, name).partition("<details")
        assert 'class="bad"' in in_the_open
        assert 'class="safe"' not in in_the_open or name == "hosts"
        assert 'class="bad"' not in folded
    assert "safe databases</summary>" in section(page, "nights")


def test_the_fleet_has_its_name_in_the_title_and_at_the_head():
    page = status_page([answer()], NOW.isoformat(), "production <eu>")
    assert "<title>The database is safe. Backups of production &lt;eu&gt;</title>" in page
    assert '<span class="brand">Backups of production &lt;eu&gt;</span>' in page
    assert "<title>The database is safe. Backups</title>" in status_page([answer()], NOW.isoformat())


# -- markup ------------------------------------------------------------------------------------------------------


def test_text_is_never_markup():
    assert tag("p", '<b>&"', title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;&quot;</p>'
    assert tag("p", Html("<b>"), None, hidden=True, title=None) == "<p hidden><b></p>"
    assert tag("p", "a\u202eb\x1b[2J\n") == "<p>a?b?[2J?</p>"


def test_a_text_in_the_skeleton_is_as_harmless_as_one_in_an_element():
    name = "<b>'A&B'\x1b"
    page = status_page([answer()], NOW.isoformat(), name)
    assert "Backups of &lt;b&gt;&#x27;A&amp;B&#x27;?</title>" in page
    assert "<b>'A" not in page


def test_names_and_messages_of_strangers_stay_text():
    nasty = "</script><script>alert(1)</script>"
    page = status_page(
        [
            answer(
                nasty, repository=nasty, databases=[database(nasty, container=nasty)], next_pass=None,
                findings=[finding(message=nasty, command=nasty, container=nasty)],
                history=[backup(0, container=nasty, database=nasty, ok=False, error=nasty)],
            )
        ],
        NOW.isoformat(),
    )  # fmt: skip
    assert page.count("<script>") == page.count("</script>") == 1
    assert "alert(1)" in page


def test_the_policy_lets_in_what_is_in_the_page_and_nothing_else():
    page = status_page([answer()], NOW.isoformat())
    policy = re.search(r'content="(default-src[^"]*)"', page)[1].replace("&#x27;", "'")
    for element in ("style", "script"):
        text = re.search(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"(?:src|href)=\"(?!#|data:image/svg)", page)
    assert " style=" not in page
    assert not re.search(r" on\w+=", page)


@pytest.mark.parametrize("make", [fleets.healthy, fleets.failing, fleets.empty])
def test_a_page_of_five_hundred_stays_small(make):
    assert len(status_page(make(500), fleets.NOW.isoformat()).encode()) < 1_500_000


ODD: dict[str, Any] = {
    "an age without an end": {"databases": [database(age_seconds=math.inf)]},
    "an age that is no number": {"databases": [database(age_seconds=math.nan)]},
    "an age in words": {"databases": [database(age_seconds="12")]},
    "a dump without an end": {"databases": [database(bytes_read=math.inf)]},
    "a share without an end": {"databases": [database(new_data={"night": {"bytes_added": 1, "share": math.inf}})]},
    "a repository that no store could hold": {"history": [a_pass(days, size_bytes=10**400) for days in (1, 0)]},
    "a dump of an earlier night in words": {"history": [backup(1, bytes_read="many"), backup(0)]},
    "a pass at the end of all days": {"next_pass": "9999-12-31T23:59:59+00:00", "timezone": "Asia/Tokyo"},
    "a backup before all days": {"history": [backup(0, started="0001-01-01T00:00:00+00:00")], "timezone": "America/Lima"},
    "a time that is none": {"next_pass": "tomorrow"},
    "a time without a zone": {"databases": [database(fresh=True, overdue_at="2026-11-23T05:00:00")]},
    "an age of the last good backup in words": {"findings": [finding(last_good_age_seconds="9")]},
    "a time to restore in words": {"databases": [database(drill={"ok": True, "recovery_seconds": "8"})]},
    "a list in place of a record": {"databases": [database(drill=[1])]},
    "a record in place of a list": {"findings": {"code": "x"}},
    "a number in place of a record": {"databases": [7]},
    "a record without a word": {"databases": [{"container": "scalr-shop-db"}]},
}  # fmt: skip


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_answer_that_cannot_be_read_costs_no_other_host_its_place(odd, place):
    """It is shown like that of a host which gave none, whether it stands before the others or behind them."""
    answers = [answer("web1", findings=[finding()]), answer("web3", history=[a_pass(0, size_bytes=10), backup(0)])]
    answers.insert(place, answer("web2", **odd))
    page = status_page(answers, NOW.isoformat())
    assert "1 of 3 hosts did not answer." in page
    assert "0 of 2 databases passed the last drill." in section(page, "drills")
    todo = section(page, "todo")
    assert "The answer of this host cannot be read (" in todo
    assert "ansible-playbook scalr.backup.site --limit web2" in todo
    assert re.findall(r"<b>(web\d)</b></span><span class=\"sub\">(.*?)</span>", section(page, "hosts")) == [
        ("web2", "Without an answer"),
        ("web1", "Warning, 1 database"),
        ("web3", "Safe, 1 database"),
    ]


def test_answers_that_are_none_are_an_error_in_one_sentence():
    with pytest.raises(AnsibleFilterError, match="Failed to build the page from the hosts' answers: KeyError: 'name'"):
        status_page([{}])


def test_the_page_understands_the_agent(tmp_path):
    """Not as this file makes its words up, but as the agent itself writes and tells them."""
    state, config = State(tmp_path), Config(host="web1", repository="/repository", timezone="Europe/Berlin")
    for days in range(8, -1, -1):
        begun = NOW.replace(hour=3) - timedelta(days=days)
        shop = DatabaseBackup("scalr-shop-db", "shop", ok=days != 4, bytes_read=900 + days, bytes_added=9, rows=3)
        shop = shop if shop.ok else replace(shop, error=Failure("dump_failed", "pg_dump ended with exit code 1."))
        result = PassResult(f"r{days}", "nightly", "web1", begun, begun + timedelta(minutes=1), [shop])
        state.record_pass(result.as_dict(), result.databases)
    drill = {"container": "scalr-shop-db", "database": "shop", "ok": True, "snapshot_id": "5f0c", "error": None}
    state.record_drill({**drill, "run": "d", "time": ago(days=1), "recovery_seconds": 8.9})
    status = judge(config, "/repository", state.read(), NOW - timedelta(days=30), NOW).as_dict()
    history = state.history.read(NOW - timedelta(days=91))

    told = answer(**{**status, "timezone": config.timezone}, history=json.loads(json.dumps(history)))

    one = figures(told).databases[0]
    assert (one.nights[-10:], one.verdict) == ("uggggfgggg", "Safe")
    assert one.codes == {date(2026, 11, 18): "dump_failed"}
    assert [number for _night, number in one.dumps.known] == [908, 907, 906, 905, 903, 902, 901, 900]
    assert one.recovery_seconds == 8.9
    page = status_page([told], NOW.isoformat())
    assert "The database is safe." in page
    assert "The good backup is 8 h 59 min old." in page


# -- the playbook ------------------------------------------------------------------------------------------------


@pytest.fixture
def page_of(fleet, tmp_path):
    """Run the playbook as it is documented, with a path of the test's own."""

    def run(path=tmp_path / "backups.html", *arguments):
        command = documented("ansible-playbook status.yml -e report=~/backups.html", {"~/backups.html": str(path)})
        _program, _playbook, *others = shlex.split(command)
        return fleet.run("status", *others, *arguments)

    return run


def told(docker, made_up):
    """The agent of a host answers as one that is made up."""
    status = dict(made_up["status"])
    entries, zone, listed = status.pop("history"), status.pop("timezone"), status.pop("snapshots")
    docker.agent_returns({"snapshots": listed}, to="snapshots")
    docker.agent_returns({**status, "summary": made_up["summary"]}, to="status")
    docker.agent_returns({"host": "h", "timezone": zone, "entries": entries}, to="history")


def test_the_playbook_writes_the_page_of_all_hosts(fleet, page_of, tmp_path):
    good, bad = fleets.healthy(1)[0], fleets.failing(1)[0]
    told(fleet.host("web1"), good)
    told(fleet.host("web2"), {**bad, "status": {**bad["status"], "healthy": False}})
    fleet.host("web3").agent_is_missing()
    fleet.unreachable_host("web4")
    older = fleet.host("web5")
    told(older, fleets.healthy(1)[0])
    older.agent_prints("No such command 'history'.\n", rc=2, to="history")

    run = page_of()

    assert run.returncode == 2, run.stdout
    assert f"The page was written to {tmp_path}/backups.html." in run.stdout
    page = (tmp_path / "backups.html").read_text()
    assert "1 of 3 databases is not safe." in page
    shown = fleets.failing(1)[0]["status"]["findings"][0]
    assert f"\nweb2: {shown['message']}\n    {shown['command']}\n" in run.stdout
    assert "The agent keeps no history" in " ".join((run.stdout + run.stderr).split())
    assert "2 hosts did not answer." in page
    assert "ansible web4 -m ansible.builtin.ping" in page
    assert "ansible-playbook scalr.backup.site --limit web3" in page
    assert 'data-n="' in page
    assert "31 snapshots, the newest from" in page
    assert "5 hosts: 1 not reached, 1 without an answer, 1 not safe, 2 safe." in run.stdout
    assert stat.S_IMODE((tmp_path / "backups.html").stat().st_mode) == 0o600

    run = page_of(tmp_path / "backups.html", "--limit", "web1", "-e", "report_mode=0644")

    assert run.returncode == 0, run.stdout
    assert stat.S_IMODE((tmp_path / "backups.html").stat().st_mode) == 0o644


def test_a_page_that_cannot_be_written_there_is_refused_before_any_host_is_asked(fleet, page_of, tmp_path):
    docker = fleet.host("web1")

    for path, reason in ((tmp_path, "it is a directory"), (tmp_path / "no/page.html", "there is no directory")):
        run = page_of(path)
        assert run.returncode == 2
        assert f"Cannot write the page to {path}: {reason}" in " ".join(run.stdout.split())
    assert docker.calls == []


def test_in_check_mode_no_page_is_written(fleet, page_of, tmp_path):
    told(fleet.host("web1"), fleets.healthy(1)[0])
    run = page_of(tmp_path / "backups.html", "--check")
    assert run.returncode == 0, run.stdout
    assert "Check mode writes no page." in run.stdout
    assert not (tmp_path / "backups.html").exists()
