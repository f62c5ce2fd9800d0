# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status page says: the figures behind it, its sentences, its markup, and the playbook that writes it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.scalr.backup.plugins.filter.status_page import status_page
from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, tag
from ansible_collections.scalr.backup.plugins.plugin_utils._status_charts import nights_in_words, strip
from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import Series, fleet
from ansible_collections.scalr.backup.plugins.plugin_utils._status_problems import Problem, cards, together
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
    assert figures(answer(findings=[finding(database=None)])).databases[0].condition == "warning"
    assert figures(answer(findings=[finding(database="other")])).databases[0].condition == "safe"


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
    known = figures(answer("web3", "not reached"), silent)
    assert {one.command for one in known.problems} == {
        "ansible web3 -m ansible.builtin.ping",
        "ansible-playbook scalr.backup.site --limit 'web 9'",
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
        ([answer(findings=[finding()])], "The database is safe, 1 issue needs attention."),
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
    assert details(bad).startswith("The other one has a good backup younger than 26 hours. 1 host did not answer.")


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


def test_a_database_shows_its_newest_snapshots_and_the_command_that_restores_it():
    listed = [snapshot(number) for number in range(1, 31)] + [snapshot(40, pinned=True), snapshot(2, container="other")]
    shown = section(status_page([answer(snapshots=listed)], NOW.isoformat()), "restore")
    assert "31 snapshots, the newest of Sat 21 Nov, 12:00 UTC" in shown
    assert [f"{number:08d}" in shown for number in (1, 5, 6, 40)] == [True, True, False, True]
    assert "pinned" in shown
    assert "ansible-playbook scalr.backup.restore --limit web1 -e db=scalr-shop-db -e database=shop" in shown
    assert "docker exec scalr-backup scalr-backup snapshots --db=scalr-shop-db" in shown


@pytest.mark.parametrize(("snapshots", "said"), [(None, "did not list its snapshots"), ([], "There is no snapshot.")])
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
    assert len(status_page(make(500), fleets.NOW.isoformat()).encode()) < 1_100_000


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
    assert "31 snapshots, the newest of" in page
    assert "5 hosts: 1 not reached, 1 without an answer, 1 not safe, 2 safe." in run.stdout
    assert fleet.run("status", "--limit", "web1").returncode == 0


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
