# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_restore could not make, found in its words, and what one job tries again after several."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore.finish import Finisher, TogetherError
from scalr_backup.core.archive.head import PostData, Section
from scalr_backup.core.archive.trouble import are_all_named, errors_of, troubles
from scalr_backup.core.errors import DamagedRelationsError, InterruptedRunError, RestoreError
from scalr_backup.core.model import Credentials
from scalr_backup.tools.docker.exec_stream import STDERR, ExecResult
from scalr_backup.tools.postgres.cluster import Postgres


def entry(number, desc, tag, oid):
    return SimpleNamespace(
        dump_id=number, desc=desc, tag=tag, namespace="public", tableoid=2606, oid=oid, section=Section.POST_DATA,
        defn=None, copy_stmt=None, owner="app",
    )  # fmt: skip


KEY, VIEW = entry(3215, "FK CONSTRAINT", "c bad", 16401), entry(3363, "MATERIALIZED VIEW DATA", "mv", 16407)
HEAD = SimpleNamespace(entries=(KEY, VIEW), post_data=PostData((3215, 3363), ()))
KEY_FAILS = """pg_restore: from TOC entry 3215; 2606 16401 FK CONSTRAINT c bad postgres
pg_restore: error: could not execute query: ERROR:  insert or update on table "c" violates foreign key constraint "bad"
DETAIL:  Key (q)=(3) is not present in table "p".
Command was: ALTER TABLE ONLY public.c
    ADD CONSTRAINT bad FOREIGN KEY (q) REFERENCES public.p(id);


"""
VIEW_FAILS = """pg_restore: von Inhaltsverzeichniseintrag 3363; 2606 16407 MATERIALIZED VIEW DATA mv postgres
pg_restore: Fehler: konnte Anfrage nicht ausführen: FEHLER:  Verklemmung entdeckt
Die Anweisung war: REFRESH MATERIALIZED VIEW public.mv;

pg_restore: creating INDEX "public.i1"
"""


def ignored(count):
    return f"pg_restore: warning: errors ignored on restore: {count}"


# -- what it says ------------------------------------------------------------------------------------------


def test_what_could_not_be_made_is_named_with_the_servers_words_in_any_language():
    found = troubles(f"pg_restore: creating X\n{KEY_FAILS}{VIEW_FAILS}{ignored(2)}", HEAD)
    assert [one.entry for one in found] == [KEY, VIEW]
    assert found[0].sentence == (
        'FK CONSTRAINT public.c bad: ERROR:  insert or update on table "c" violates foreign key constraint "bad"'
    )
    assert found[1].words == "FEHLER:  Verklemmung entdeckt"
    assert "(3)" not in found[0].sentence, "a row's values are nobody's business"


@pytest.mark.parametrize(
    "said",
    [
        KEY_FAILS.replace("16401", "16499"),
        KEY_FAILS.replace("3215", "77"),
        KEY_FAILS.replace("3215", "9" * 5000),
        "pg_restore: error: connection to server failed: 1; 2 3",
        "",
    ],
)
def test_what_the_archive_does_not_have_is_not_believed(said):
    assert troubles(said, HEAD) == ()


@pytest.mark.parametrize(
    ("last", "found", "jobs", "all_named"),
    [
        (ignored(2), 2, 1, True),
        (ignored(3), 2, 1, False),
        # Each job counts, and the first process once more.
        (ignored(4), 2, 3, True),
        (ignored(3), 2, 3, False),
        (ignored("9" * 5000), 2, 3, False),
        ("pg_restore: Warnung: bei Wiederherstellung ignorierte Fehler: 2", 2, 1, True),
        ("pg_restore: fatal: a worker process died unexpectedly", 2, 3, False),
        ("", 0, 1, False),
    ],
)
def test_the_count_at_the_end_tells_whether_all_errors_are_known(last, found, jobs, all_named):
    assert are_all_named(f"{KEY_FAILS}{last}\n", found, jobs) is all_named


# As PostgreSQL 15 says it: the entry is named once, and its owner is another error of it.
TRIGGER = entry(3411, "EVENT TRIGGER", "watch", 16431)
OWNED = SimpleNamespace(entries=(KEY, VIEW, TRIGGER), post_data=PostData((3215, 3363, 3411), ()))
OWNER_FAILS = """pg_restore: from TOC entry 3411; 2606 16431 EVENT TRIGGER watch app
pg_restore: error: could not execute query: ERROR:  function public.gone() does not exist
Command was: CREATE EVENT TRIGGER watch ON ddl_command_end
   EXECUTE FUNCTION public.gone();


pg_restore: error: could not execute query: ERROR:  event trigger "watch" does not exist
Command was: ALTER EVENT TRIGGER watch OWNER TO app;


"""


@pytest.mark.parametrize("jobs", [1, 4])
def test_an_object_that_cannot_be_given_to_its_owner_either_is_one_object_with_two_errors(jobs):
    said = f"{KEY_FAILS}{OWNER_FAILS}{ignored(3 * min(jobs, 2))}"
    found = troubles(said, OWNED, jobs)
    assert [(one.entry, one.errors) for one in found] == [(KEY, 1), (TRIGGER, 2)]
    assert "public.gone()" in found[1].words, "what is told is why it could not be made"
    assert are_all_named(said, errors_of(found), jobs)


def test_an_error_of_another_job_is_not_taken_for_the_entrys_before():
    # Another job has written into the line that names the view.
    torn = VIEW_FAILS.replace("pg_restore: von", "pg_restore: pg_restore: creating X\nvon")
    said = f"{KEY_FAILS}{torn}{ignored(4)}"
    found = troubles(said, HEAD, 4)
    assert [one.entry for one in found] == [KEY]
    assert not are_all_named(said, errors_of(found), 4)


def test_an_object_and_its_owner_do_not_cost_a_second_filling():
    runs = Runs(OWNER_FAILS + ignored(4), OWNER_FAILS + ignored(2))
    plan = SimpleNamespace(database="shop", tablespaces=True)
    finished = Finisher(runs, plan, "new", OWNED, b"head", lambda: None).finish(9, lambda _items: None)
    assert [trouble.entry for trouble in finished.troubles] == [TRIGGER]


# -- who makes it, and who tries again ---------------------------------------------------------------------


class Runs:
    """A server whose pg_restores say and end as they are told, one after the other."""

    def __init__(self, *said, room=True):
        self.said = list(said)
        self.room = room
        self.calls = []
        self.lists = {}

    def put_head(self, _name, _head):
        return ("/dev/shm/head", 4) if self.room else (None, 4)

    def put_list(self, name, dump_ids):
        self.lists[name] = list(dump_ids)
        return name

    def remove_heads(self, _name):
        self.calls.append("removed")

    @contextmanager
    def start_post_data(self, _new, path, use_list, jobs, _seconds, *, tablespaces, frugal):
        self.calls.append((self.lists.get(use_list), jobs, frugal))
        said = self.said.pop(0)
        yield SimpleNamespace(
            frames=lambda: iter([(STDERR, said.encode())]),
            wait=lambda: 1 if said else 0,
            how_it_ended=lambda words, _known: words or "it ended",
            write=lambda *_arguments: None,
            end_input=lambda: None,
        )


def finish(runs, most_jobs=9, stop=lambda: None):
    plan = SimpleNamespace(database="shop", tablespaces=True)
    return Finisher(runs, plan, "new", HEAD, b"head", stop).finish(most_jobs, lambda _items: None)


def test_what_several_jobs_could_not_make_is_made_by_one_that_has_no_helpers():
    runs = Runs(KEY_FAILS + ignored(2), "")
    finished = finish(runs)
    assert runs.calls == [(None, 2, False), ([3215], 1, True), "removed"]
    assert finished.troubles == []
    assert finished.jobs == 1
    [warning] = finished.warnings
    assert warning.startswith("Several jobs at once could not create 1 object of shop; one job then did: FK")


def test_what_one_job_cannot_make_either_is_left_and_told():
    runs = Runs(KEY_FAILS + VIEW_FAILS + ignored(4), KEY_FAILS + ignored(1))
    finished = finish(runs)
    assert [trouble.entry for trouble in finished.troubles] == [KEY]
    assert "MATERIALIZED VIEW DATA public.mv" in finished.warnings[0]


@pytest.mark.parametrize("said", ["pg_restore: fatal: a worker process died unexpectedly", KEY_FAILS + ignored(7)])
def test_an_end_that_does_not_tell_what_was_made_asks_for_all_of_it_again_by_one(said):
    with pytest.raises(TogetherError):
        finish(Runs(said))
    with pytest.raises(RestoreError) as caught:
        finish(Runs(said), most_jobs=1)
    assert not isinstance(caught.value, TogetherError), "one that was alone is not tried again"


def test_a_server_that_was_brought_down_is_not_judged_by_its_recovery():
    with pytest.raises(TogetherError):
        finish(Runs(KEY_FAILS + ignored(2), "pg_restore: error: FATAL:  the database system is in recovery mode"))


def test_one_job_alone_is_frugal_from_the_start_and_its_errors_are_final():
    runs = Runs(KEY_FAILS + ignored(1))
    assert [trouble.entry for trouble in finish(runs, most_jobs=1).troubles] == [KEY]
    assert runs.calls == [(None, 1, True), "removed"]


def test_a_failure_of_one_that_was_told_to_stop_is_not_tried_again():
    def stop():
        raise InterruptedRunError("told to stop")

    with pytest.raises(InterruptedRunError):
        finish(Runs("pg_restore: fatal: terminating connection"), stop=stop)


# -- pg_amcheck --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "jobs", "good"),
    [([0], [4], True), ([1, 0], [4, 1], True), ([1, 1], [4, 1], False), ([2], [4], False)],
)
def test_a_look_that_several_jobs_could_not_take_is_taken_by_one(codes, jobs, good):
    asked = []

    def run(_container, argv, *_arguments, **_options):
        asked.append(int(next(one for one in argv if one.startswith("--jobs=")).partition("=")[2]))
        return ExecResult(codes[len(asked) - 1], b"", "too many connections")

    docker = SimpleNamespace(run=run, how_it_ended=lambda *_arguments: "too many connections")
    facts = {("c", "limits"): ""}
    postgres = Postgres(docker, "c", Credentials("postgres"), "scalr-backup r", facts=facts)
    if good:
        postgres.check_relations("new", 4)
    else:
        with pytest.raises(DamagedRelationsError):
            postgres.check_relations("new", 4)
    assert asked == jobs
