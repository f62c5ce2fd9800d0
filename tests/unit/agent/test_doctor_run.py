# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks as a whole: side by side, each by itself, in a bounded time; and what is shown of them."""

from __future__ import annotations

import io
import json
import threading
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from rich.console import Console
from scalr_backup.actions.doctor import bounded
from scalr_backup.actions.doctor import looks as looking
from scalr_backup.actions.doctor.bounded import CheckUp, NothingToLookAtError, make
from scalr_backup.actions.doctor.examined import FAILED, OK, SKIPPED, WARNING, Examined
from scalr_backup.actions.doctor.looks import Looks, Sources
from scalr_backup.actions.doctor.run import checks, examine
from scalr_backup.actions.health.outbox import Recipients
from scalr_backup.cli import doctor as verb
from scalr_backup.cli.app import app
from scalr_backup.cli.doctor_lines import show_checks
from scalr_backup.cli.wiring import Agent
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    CallRefusedError,
    ConfigurationError,
    ContainerGoneError,
    DockerUnreachableError,
    InterruptedRunError,
    RepositoryUnreachableError,
)
from scalr_backup.core.model import Key
from scalr_backup.core.secrets import Secrets
from scalr_backup.tools import own_container
from scalr_backup.tools.store import clock
from typer.testing import CliRunner

GOOD = Examined(OK, "good")


def run(*wanted, cancelled=None):
    return make(wanted, lambda: "web1", cancelled or threading.Event())


def good(_stop):
    return GOOD


def test_one_that_crashes_is_its_own_failure_and_the_others_are_made():
    def crash(_stop):
        raise ZeroDivisionError("by zero")

    made = run(CheckUp("bad", crash, 60), CheckUp("good", good, 60, ("bad",)))
    assert made.examined["bad"].seen == "Unexpected error: ZeroDivisionError: by zero"
    assert made.examined["good"] == GOOD
    assert list(made.examined) == ["bad", "good"]
    assert not made.hangs


def test_one_that_hangs_is_told_to_stop_and_given_up_and_the_others_are_made(monkeypatch):
    monkeypatch.setattr(bounded, "_LAST_SECONDS", 0.1)
    stopped, release = threading.Event(), threading.Event()

    def hang(stop):
        stop.wait(60)
        stopped.set()
        release.wait(60)
        return GOOD

    made = run(CheckUp("hangs", hang, 0.2), CheckUp("later", good, 60, ("hangs",)))
    assert made.hangs
    assert made.examined["hangs"].verdict == FAILED
    assert "did not finish" in made.examined["hangs"].seen
    assert made.examined["later"] == GOOD
    assert stopped.wait(60)
    release.set()


def test_one_that_takes_too_long_may_end_what_it_has_started(monkeypatch):
    """Else restic would go on without anybody, and a psql in its container."""
    monkeypatch.setattr(bounded, "_LAST_SECONDS", 60.0)
    ended = []

    def tidy(stop):
        stop.wait(60)
        ended.append("restic")
        return GOOD

    made = run(CheckUp("slow", tidy, 0.1))
    assert (made.examined["slow"].verdict, ended, made.hangs) == (FAILED, ["restic"], False)


def test_so_may_one_that_somebody_interrupts(monkeypatch):
    monkeypatch.setattr(bounded, "_LAST_SECONDS", 60.0)
    cancelled, ended = threading.Event(), []

    def tidy(stop):
        cancelled.set()
        stop.wait(60)
        ended.append("restic")
        return GOOD

    with pytest.raises(InterruptedRunError):
        run(CheckUp("x", tidy, 60), cancelled=cancelled)
    assert ended == ["restic"]


def test_what_does_not_build_on_each_other_is_looked_at_side_by_side():
    together = threading.Barrier(2, timeout=60)

    def meet(_stop):
        together.wait()
        return GOOD

    assert set(run(CheckUp("a", meet, 60), CheckUp("b", meet, 60)).examined.values()) == {GOOD}


def test_what_needs_something_that_failed_is_skipped():
    def look(_stop):
        raise NothingToLookAtError("the engine")

    examined = run(CheckUp("x", look, 60)).examined["x"]
    assert (examined.verdict, examined.seen) == (SKIPPED, "Skipped: it needs the engine; see that check.")


def test_who_is_told_to_stop_stops():
    cancelled = threading.Event()

    def told(stop):
        cancelled.set()
        stop.wait(60)
        return GOOD

    with pytest.raises(InterruptedRunError):
        run(CheckUp("x", told, 60), cancelled=cancelled)


def test_every_check_comes_after_what_it_builds_on():
    names = []
    for check in checks(Looks(SimpleNamespace())):
        assert set(check.after) <= set(names), check.name
        names.append(check.name)
    assert len(names) == len(set(names))


# -- the world, in parts that work and parts that do not -----------------------------------------------------


class Engine:
    """An engine behind a proxy: one database, the agent, and its proxy."""

    address = "unix:///run/scalr-backup/docker.sock"

    def __init__(self, *, refuses=True, is_proxy=True):
        self.refuses, self.is_proxy = refuses, is_proxy
        self.inspected = []

    def about(self):
        return SimpleNamespace(name="Docker Engine", version="20.10.24", api="1.41")

    def refused(self):
        return {"begun": "1"} if self.is_proxy else None

    def containers(self):
        own = {"scalr.backup.own": "true"}
        return [
            {"Id": "1", "Names": ["/scalr-shop-db"], "State": "exited", "Image": "postgres:17", "Labels": {}},
            {"Id": "2", "Names": ["/web"], "State": "running", "Image": "nginx", "Labels": {}},
            {"Id": "3", "Names": ["/scalr-backup"], "State": "running", "Image": "agent", "Labels": own},
            {"Id": "4", "Names": ["/orders"], "State": "running", "Image": "postgres:17", "Labels": {}},
        ]

    def inspect(self, container):
        self.inspected.append(container)
        if container == "1":
            return {
                "Id": "1", "Name": "/scalr-shop-db", "Image": "i", "State": {"Status": "exited"},
                "Config": {"Image": "postgres:17", "Labels": {}, "Env": []},
            }  # fmt: skip
        if self.refuses:
            raise CallRefusedError("The agent may not.")
        return {}

    def power(self, _document, *, accepted):
        assert not accepted


class Repository:
    def __init__(self, repository="s3:https://s3.example/b", identity=None):
        self.repository, self._identity = repository, identity or f"id of {repository}"

    def repository_id(self):
        return self._identity

    def format_version(self):
        return 2

    def locks(self):
        return []

    def list_keys(self):
        return [Key("1", "scalr-backup", "web1", "2026", current=True)]

    def require_version(self):
        return "0.19.1"


def state():
    return SimpleNamespace(read=dict, damage=lambda: None, locks=SimpleNamespace(under_way=lambda: None))


def sources(**changes):
    def no_secrets():
        return Secrets(SimpleNamespace())

    return Sources(
        **{
            "config": lambda: Config(host="web1", repository="s3:https://s3.example/b"),
            "secrets": no_secrets,
            "copy_secrets": no_secrets,
            "recipients": Recipients,
            "engine": Engine,
            "restic": lambda _config, _secrets, _stop: Repository(),
            "state": state,
            **changes,
        }
    )


@pytest.fixture(autouse=True)
def nobody_outside_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(looking, "ahead_of_store", lambda *_arguments: 0.3)
    monkeypatch.setattr(own_container, "is_serving", lambda: True)
    monkeypatch.setattr(looking, "STATE_DIRECTORY", tmp_path)
    monkeypatch.setattr(looking, "CACHE_DIRECTORY", tmp_path)


def verdicts(**changes):
    diagnosis = examine(sources(**changes), threading.Event())
    return {name: one.verdict for name, one in diagnosis.made.examined.items()}, diagnosis


def test_a_heartbeat_whose_calls_fail_is_looked_up_where_it_is_on_record():
    deaf = {
        "heartbeat": {
            "failed": 4,
            "since": "2026-11-22T03:00:00+00:00",
            "error": "the heartbeat server a.test answered 404.",
        }
    }
    known = state()
    known.read = lambda: deaf
    switched = {"recipients": lambda: Recipients((), SimpleNamespace())}
    assert verdicts(**switched)[0]["notifications"] == OK
    found, diagnosis = verdicts(**switched, state=lambda: known)
    assert found["notifications"] == WARNING
    assert "4 calls in a row failed" in diagnosis.made.examined["notifications"].seen


def test_which_messages_are_sent_and_whether_metrics_are_written_is_seen(monkeypatch, tmp_path):
    def notifications(services=(), **settings):
        config = Config(host="web1", repository="s3:https://s3.example/b", **settings)
        diagnosis = verdicts(config=lambda: config, recipients=lambda: Recipients(services))[1]
        return diagnosis.made.examined["notifications"]

    monkeypatch.setattr(own_container, "TEXTFILE_DIRECTORY", tmp_path)
    told = (SimpleNamespace(),)
    assert notifications(told).seen == "Failures are reported by: 1 notification service."
    assert "failure is not among" in notifications(told, notify_events=("warning",)).seen
    assert notifications(metrics_textfile="/metrics").seen == "Failures are reported by: metrics."
    assert notifications(metrics_port=9187).seen == "Failures are reported by: metrics."
    monkeypatch.setattr(own_container, "TEXTFILE_DIRECTORY", tmp_path / "nowhere")
    assert "cannot be written to /metrics" in notifications(metrics_textfile="/metrics").seen
    assert notifications(metrics_port=9187).verdict == OK


def raises(error):
    def call(*_arguments):
        raise error

    return call


def test_a_newcomers_host_is_looked_at_from_all_sides():
    found, diagnosis = verdicts()
    # How full this machine is does not matter here.
    assert found | {"room": OK, "memory": OK} == {
        "configuration": OK, "engine": OK, "socket_proxy": OK, "containers": WARNING, "unmatched": WARNING, "servers": OK,
        "repository": OK, "locks": OK, "password": OK, "copy": OK, "place": OK, "append_only": OK, "clock": OK,
        "schedule": OK, "backups": OK, "room": OK, "memory": OK, "versions": OK, "notifications": WARNING,
    }  # fmt: skip
    assert "orders" in diagnosis.made.examined["unmatched"].seen
    assert "scalr-shop-db is stopped" in diagnosis.made.examined["containers"].details[0]
    assert diagnosis.error is None or "room" in diagnosis.failed


def test_without_a_configuration_all_is_looked_at_that_needs_none():
    error = ConfigurationError("/etc/scalr-backup/config.json: nonsense: no such key.")
    found, diagnosis = verdicts(config=raises(error))
    assert {name for name, verdict in found.items() if verdict == SKIPPED} == {
        "socket_proxy", "containers", "unmatched", "servers", "repository", "locks", "password", "copy", "place", "append_only",
        "clock", "schedule", "backups",
    }  # fmt: skip
    assert found["configuration"] == FAILED
    assert "nonsense: no such key" in diagnosis.made.examined["configuration"].seen
    assert {found[name] for name in ("engine", "versions")} == {OK}
    assert found["notifications"] == WARNING
    assert diagnosis.as_dict()["host"] is None
    assert "--limit HOST" in diagnosis.made.examined["configuration"].command


def test_without_an_engine_the_store_is_still_looked_at():
    found, diagnosis = verdicts(engine=raises(DockerUnreachableError("The Docker Engine does not answer: no socket.")))
    assert found["engine"] == FAILED
    assert {found[name] for name in ("socket_proxy", "containers", "unmatched", "servers")} == {SKIPPED}
    assert {found[name] for name in ("repository", "locks", "clock", "schedule")} == {OK}
    assert diagnosis.made.examined["engine"].command == "docker ps"


def test_without_a_store_the_engine_is_still_looked_at():
    def restic(config, _secrets, _stop):
        found = Repository()
        if config.repository.startswith("s3:"):
            found.format_version = raises(RepositoryUnreachableError("It does not answer."))
        return found

    found, diagnosis = verdicts(restic=restic)
    assert found["repository"] == FAILED
    assert {found[name] for name in ("locks", "password")} == {SKIPPED}
    assert {found[name] for name in ("engine", "socket_proxy", "versions")} == {OK}
    assert diagnosis.summary.startswith("web1: ")
    assert "repository" in diagnosis.failed
    assert diagnosis.error.code == "checks_failed"


def test_a_missing_password_is_one_failure_and_not_one_of_each_check_that_needs_it():
    error = ConfigurationError("The repository's password /run/secrets/password cannot be read.")
    given = Config(host="web1", repository="/r", copy={"repository": "s3:https://copy.example/b"})
    found, diagnosis = verdicts(secrets=raises(error), copy_secrets=raises(error), config=lambda: given)
    assert (found["repository"], found["clock"], found["copy"], found["engine"]) == (FAILED, SKIPPED, SKIPPED, OK)
    assert diagnosis.made.examined["repository"].seen == error.message
    assert diagnosis.made.examined["clock"].seen == "Skipped: it needs the secrets of the repository; see that check."
    assert "repository" in diagnosis.failed


def test_a_second_repositorys_own_secrets_are_its_own_failure():
    given = Config(host="web1", repository="/r", copy={"repository": "s3:https://copy.example/b"})
    error = ConfigurationError("The copy's password cannot be read.")
    found, _diagnosis = verdicts(copy_secrets=raises(error), config=lambda: given)
    assert (found["repository"], found["clock"], found["copy"]) == (OK, OK, FAILED)


def test_containers_that_cannot_be_listed_are_one_failure():
    engine = Engine()
    engine.containers = raises(DockerUnreachableError("The Docker Engine does not answer."))
    engine.address = None
    found, _diagnosis = verdicts(engine=lambda: engine)
    assert (found["containers"], found["unmatched"], found["servers"]) == (FAILED, SKIPPED, SKIPPED)


def test_a_probe_is_a_look_into_the_agents_own_container():
    engine = Engine()
    found, _diagnosis = verdicts(engine=lambda: engine)
    assert found["socket_proxy"] == OK
    assert "3" in engine.inspected
    assert "2" not in engine.inspected


def test_a_proxy_that_refuses_nothing_is_found():
    found, diagnosis = verdicts(engine=lambda: Engine(refuses=False))
    assert found["socket_proxy"] == FAILED
    assert "inspect scalr-backup" in diagnosis.made.examined["socket_proxy"].seen


def test_a_container_that_is_gone_is_no_probe():
    engine = Engine()
    engine.inspect = raises(ContainerGoneError("It is gone."))
    found, diagnosis = verdicts(engine=lambda: engine)
    assert found["socket_proxy"] == OK
    assert "no container to test a refusal with" in diagnosis.made.examined["socket_proxy"].seen


def test_an_engine_without_a_proxy_is_asked_for_no_refusal():
    engine = Engine(refuses=False)
    engine.address = None
    found, _diagnosis = verdicts(engine=lambda: engine)
    assert found["socket_proxy"] == WARNING
    assert "3" not in engine.inspected


def test_a_second_repository_is_opened_with_its_own_secrets():
    opened = []

    def restic(config, secrets, _stop):
        opened.append((config.repository, secrets))
        return Repository(config.repository)

    own = Secrets(SimpleNamespace())
    given = Config(host="web1", repository="/r", copy={"repository": "s3:https://copy.example/b"})
    found, _diagnosis = verdicts(config=lambda: given, restic=restic, copy_secrets=lambda: own)
    assert found["copy"] == OK
    assert ("s3:https://copy.example/b", own) in opened


@pytest.mark.parametrize("verdict", [FAILED, OK])
def test_a_second_repository_that_is_the_first_one_is_found(verdict):
    def restic(config, _secrets, _stop):
        found = Repository(config.repository, "aaaa1111")
        if verdict == OK and config.repository == "/r":
            # Why it does not open is said once, by its own check.
            found.format_version = found.repository_id = raises(RepositoryUnreachableError("It does not answer."))
        return found

    given = Config(host="web1", repository="/r", copy={"repository": "s3:https://copy.example/b"})
    found, diagnosis = verdicts(config=lambda: given, restic=restic)
    assert (found["copy"], found["repository"]) == (verdict, FAILED if verdict == OK else OK)
    seen = diagnosis.made.examined["copy"]
    assert seen.code == ("" if verdict == OK else "configuration")
    assert seen.seen.startswith(
        "s3:https://copy.example/b answers"
        if verdict == OK
        else "backup_copy_repository is s3:https://copy.example/b, which is the first repository, /r,"
    )


def test_a_pass_that_the_schedule_has_missed_is_seen():
    document = {"first_started": "2020-01-01T00:00:00+00:00", "nightly_started": "2020-01-02T03:00:00+00:00"}
    lazy = state()
    lazy.read = lambda: document
    found, diagnosis = verdicts(state=lambda: lazy)
    assert found["schedule"] == WARNING
    assert "has not run" in diagnosis.made.examined["schedule"].seen


def test_the_heartbeats_server_tells_the_time_where_the_store_does_not(monkeypatch):
    monkeypatch.setattr(looking, "ahead_of_store", lambda *_arguments: None)
    told = state()
    told.read = lambda: {"clock": {"time": utc_now().isoformat(), "skew_seconds": 300.0}}
    found, diagnosis = verdicts(state=lambda: told)
    assert found["clock"] == WARNING
    assert "5 min ahead of that of the heartbeat server" in diagnosis.made.examined["clock"].seen
    assert verdicts()[0]["clock"] == OK


# -- the store's clock, the agent's container ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("s3:https://s3.example:9000/bucket/path", "https://s3.example:9000/"),
        ("s3:s3.eu-west-1.amazonaws.com/bucket", "https://s3.eu-west-1.amazonaws.com/"),
        ("rest:https://user:secret@rest.example:8000/web1/", "https://rest.example:8000/"),
        ("/repository", None),
        ("sftp:user@host:/srv", None),
        ("b2:bucket:path", None),
    ],
)
def test_a_store_that_speaks_http_is_asked_at_its_own_address(repository, url):
    assert clock.store_url(repository) == url


class Hours(BaseHTTPRequestHandler):
    """A store that refuses everything, and tells the time."""

    told = ""

    def do_HEAD(self):
        self.send_response_only(403)
        if self.told:
            self.send_header("Date", self.told)
        self.end_headers()


@pytest.mark.parametrize(
    ("header", "ahead"),
    [
        ("Sun, 22 Nov 2026 11:50:00 GMT", 599.5),
        ("Sun, 22 Nov 2026 12:00:00 GMT", -0.5),
        ("yesterday", None),
        ("Sun, 22 Nov 2026 12:00:00 +99999999999999", None),
        ("", None),
    ],
)
def test_the_clock_of_a_store_is_read_off_a_refusal(monkeypatch, header, ahead):
    monkeypatch.setattr(Hours, "told", header)
    monkeypatch.setattr(clock, "_CONNECTING", 60.0)
    monkeypatch.setattr(clock, "_PATIENCE", 60.0)
    now = looking.datetime(2026, 11, 22, 12, tzinfo=looking.utc_now().tzinfo)
    with HTTPServer(("127.0.0.1", 0), Hours) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        repository = f"rest:http://127.0.0.1:{server.server_port}/"
        assert clock.ahead_of_store(repository, {}, None, lambda: now) == ahead
        thread.join()
    assert format_datetime(now, usegmt=True) == "Sun, 22 Nov 2026 12:00:00 GMT"


def test_a_store_that_does_not_answer_tells_no_time():
    with HTTPServer(("127.0.0.1", 0), Hours) as server:
        port = server.server_port
    assert clock.ahead_of_store(f"rest:http://127.0.0.1:{port}/", {}, None, utc_now) is None
    assert clock.ahead_of_store("/repository", {}, None, utc_now) is None


@pytest.mark.parametrize(
    ("text", "limit"), [("536870912\n", 536870912), ("max\n", None), ("9223372036854771712\n", None), (None, None)]
)
def test_the_limit_of_memory_is_the_kernels(monkeypatch, tmp_path, text, limit):
    path = tmp_path / "memory"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(own_container, "_LIMITS", (tmp_path / "nowhere", path))
    assert own_container.memory_limit() == limit


@pytest.mark.parametrize(
    ("words", "serving"),
    [
        (["/opt/scalr-backup/bin/python", "-m", "scalr_backup", "serve"], True),
        (["/opt/scalr-backup/bin/python", "-m", "scalr_backup", "doctor"], False),
        (["/sbin/docker-init", "--", "scalr-backup", "serve"], False),
        (["python", "-m", "scalr_backup"], False),
        ([], False),
    ],
)
def test_the_process_of_the_schedule_is_known_by_its_command_line(tmp_path, monkeypatch, words, serving):
    monkeypatch.undo()
    (tmp_path / "17").mkdir()
    (tmp_path / "17/cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (tmp_path / "18").mkdir()
    assert own_container.is_serving(tmp_path) is serving


def test_what_is_written_to_is_measured(tmp_path):
    room = own_container.written_to("the state", str(tmp_path))
    assert room.writable
    assert 0 <= room.free_bytes <= room.total_bytes
    assert room.file_system == tmp_path.stat().st_dev
    assert not own_container.written_to("the state", str(tmp_path / "nowhere")).writable


# -- the verb ------------------------------------------------------------------------------------------------


def call(monkeypatch, *options, **changes):
    monkeypatch.setattr(Agent, "sources", lambda _agent: sources(**changes))
    return CliRunner().invoke(app, ["doctor", *options])


def test_the_verb_answers_and_fails_where_a_check_does(monkeypatch):
    called = call(monkeypatch, "--json", engine=raises(DockerUnreachableError("No engine.")))
    result = json.loads(called.output.splitlines()[-1])
    assert (called.exit_code, result["error"]["code"]) == (1, "checks_failed")
    assert result["data"]["verdict"] == FAILED
    by_name = {check["check"]: check for check in result["data"]["checks"]}
    assert by_name["engine"]["code"] == "docker_unreachable"
    assert by_name["engine"]["help"].endswith("#docker_unreachable")


def test_warnings_are_no_failure(monkeypatch):
    monkeypatch.setattr(Looks, "room", lambda *_arguments: GOOD)
    called = call(monkeypatch, "--json")
    result = json.loads(called.output.splitlines()[-1])
    assert (called.exit_code, result["ok"], result["data"]["verdict"]) == (0, True, WARNING)
    assert result["data"]["warnings"] == 3


def test_who_has_asked_does_not_wait_for_what_hangs(monkeypatch):
    """Python would join its threads before it ends."""
    left = []
    monkeypatch.setattr(verb.os, "_exit", left.append)
    real = verb.examine

    def hanging(*arguments):
        diagnosis = real(*arguments)
        diagnosis.made.hangs = True
        return diagnosis

    monkeypatch.setattr(verb, "examine", hanging)
    monkeypatch.setattr(Looks, "room", lambda *_arguments: GOOD)
    assert call(monkeypatch, "--json").exit_code == 0
    assert call(monkeypatch, "--json", engine=raises(DockerUnreachableError("No."))).exit_code == 1
    assert left == [0, 1]


def test_who_interrupts_does_not_wait_for_what_hangs(monkeypatch):
    left = []
    monkeypatch.setattr(verb.os, "_exit", left.append)
    monkeypatch.setattr(verb, "examine", raises(InterruptedRunError("Told to stop.")))
    called = call(monkeypatch, "--json")
    assert json.loads(called.output.splitlines()[-1])["error"]["code"] == "interrupted"
    assert left == [called.exit_code] == [1]


SHOWN = """\
web1: 1 check failed (repository); 1 warning.

FAILED   repository: Wrong password for the repository
         s3:https://s3.example.com/a-bucket-with-a-name-that-is-rather-long/path.
         Restore the right one from your copy.
         ansible-playbook scalr.backup.site --limit a-host-with-a-name-that-is-longer-than-others.example

warning  unmatched: 1 PostgreSQL container is not backed up: orders.
         - orders: its image is postgres:17; neither backup_containers nor a
         label names it
         Match it.

skipped  password, locks: skipped, because they depend on a check that failed.
ok       append only: This host removes old snapshots itself.
         Make its store append-only.
"""


def test_people_read_what_failed_first_in_80_columns_and_a_command_stays_whole():
    written = io.StringIO()

    def check(name, verdict, seen, **more):
        return {"check": name, "verdict": verdict, "seen": seen, "details": [], "cure": "", "command": "", **more}

    limit = "a-host-with-a-name-that-is-longer-than-others.example"
    address = "s3:https://s3.example.com/a-bucket-with-a-name-that-is-rather-long/path"
    show_checks(
        Console(file=written, width=250),
        {
            "summary": "web1: 1 check failed (repository); 1 warning.",
            "failed": 1,
            "warnings": 1,
            "checks": [
                check("append_only", OK, "This host removes old snapshots itself.", cure="Make its store append-only.", details=["not shown"]),
                check("password", SKIPPED, "Skipped: it needs the repository; see that check."),
                check("locks", SKIPPED, "Skipped: it needs the repository; see that check."),
                check(
                    "unmatched", WARNING, "1 PostgreSQL container is not backed up: orders.", cure="Match it.",
                    details=["orders: its image is postgres:17; neither backup_containers nor a label names it"],
                ),
                check(
                    "repository", FAILED, f"Wrong password for the repository {address}.",
                    cure="Restore the right one from your copy.", command=f"ansible-playbook scalr.backup.site --limit {limit}",
                ),
            ],
        },
    )  # fmt: skip
    assert written.getvalue() == SHOWN
