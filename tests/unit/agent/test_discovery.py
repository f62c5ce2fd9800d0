from __future__ import annotations

import threading
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
from scalr_backup.actions import missing
from scalr_backup.actions.credentials import resolve_credentials, ways_in
from scalr_backup.actions.discovery import Discovery, choose
from scalr_backup.actions.documents import FILTERED, UNNAMED, judge, may_match
from scalr_backup.core.config import Config
from scalr_backup.core.connection import Connection
from scalr_backup.core.errors import (
    CallRefusedError,
    ConfigurationError,
    ContainerRefusedError,
    CredentialsError,
    DockerUnreachableError,
    InterruptedRunError,
    PostgresError,
    UnknownDatabaseError,
)
from scalr_backup.core.model import Credentials, Failure
from scalr_backup.core.power import sentence

FILES = {"/run/secrets/password": "from file", "/run/secrets/user": "file_user"}


def config(**changes):
    return Config(host="h", repository="/repository", **changes)


def inspect(name="scalr-shop-db", state="running", labels=None, environment=()):
    return {
        "Id": "0123456789abcdef",
        "Name": f"/{name}",
        "Image": "sha256:1",
        "State": {"Status": state},
        "Config": {"Image": "postgres:17", "Labels": labels, "Env": list(environment)},
    }


def read_file(path):
    if path not in FILES:
        raise CredentialsError(f"{path} cannot be read")
    return FILES[path]


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("scalr-shop-db", {}, True),
        ("scalr-auth-postgres", {}, True),
        ("scalr-shop-db-old", {}, False),
        ("my-scalr-shop-db", {}, False),
        ("scalr-auth-postgres-2", {}, False),
        ("SCALR-shop-db", {}, False),
        ("anything", {"scalr.backup": "true"}, True),
        ("anything", {"scalr.backup": "TRUE"}, True),
        ("anything", {"scalr.backup": "yes please"}, False),
    ],
)
def test_which_containers_may_match(name, labels, expected):
    assert may_match(config(), name, labels) is expected


def test_a_running_match_is_ok_and_keeps_its_environment_to_itself():
    container = judge(config(), inspect(environment=["POSTGRES_PASSWORD=canary=1"]))
    assert container.status == "ok"
    assert container.environment == {"POSTGRES_PASSWORD": "canary=1"}
    assert "canary" not in repr(container)


@pytest.mark.parametrize(
    ("document", "changes", "status"),
    [
        (inspect(state="exited"), {}, "stopped"),
        (inspect(state="paused"), {}, "stopped"),
        (inspect(labels={"scalr.backup": "false"}), {}, "excluded"),
        (inspect(), {"exclude": ["scalr-sh*"]}, "excluded"),
        (inspect(labels={"scalr.backup": "true"}), {"exclude": ["scalr-sh*"]}, "ok"),
        (inspect(), {"filter": "Config.Image == 'postgres:17'"}, "ok"),
        (inspect(labels={"scalr.backup": "true"}), {"filter": "`false`"}, "ok"),
    ],
)
def test_verdicts(document, changes, status):
    assert judge(config(**changes), document).status == status


def test_the_filter_says_what_is_no_database_container():
    assert judge(config(filter="Config.Image == 'mysql'"), inspect()) is None


def test_a_filter_that_fails_on_a_container_is_no_silent_exclusion():
    with pytest.raises(ConfigurationError, match="scalr-shop-db"):
        judge(config(filter="length(State.Nothing)"), inspect())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Credentials("postgres", None, "postgres")),
        ({"POSTGRES_USER": "app"}, Credentials("app", None, "app")),
        (
            {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": "p", "POSTGRES_DB": "shop"},
            Credentials("app", "p", "shop"),
        ),
        (
            {"POSTGRES_USER_FILE": "/run/secrets/user", "POSTGRES_PASSWORD_FILE": "/run/secrets/password"},
            Credentials("file_user", "from file", "file_user"),
        ),
        (
            {"POSTGRESQL_USERNAME": "bn_app", "POSTGRESQL_PASSWORD": "p", "POSTGRESQL_DATABASE": "shop"},
            Credentials("bn_app", "p", "shop"),
        ),
        (
            {
                "POSTGRESQL_USERNAME": "bn_app",
                "POSTGRESQL_PASSWORD": "p",
                "POSTGRESQL_POSTGRES_PASSWORD": "root",
                "POSTGRESQL_DATABASE": "shop",
            },
            Credentials("postgres", "root", "shop"),
        ),
        ({"POSTGRES_USER": "", "POSTGRES_PASSWORD": "p"}, Credentials("postgres", "p", "postgres")),
    ],
)
def test_credentials_by_the_images_documentation(environment, expected):
    assert resolve_credentials(environment, read_file) == expected


def test_a_users_file_that_cannot_be_read_is_an_error():
    with pytest.raises(CredentialsError):
        resolve_credentials({"POSTGRES_USER_FILE": "/nowhere"}, read_file)


def test_a_passwords_file_that_cannot_be_read_is_a_problem_only_where_the_server_asks_for_it():
    found = resolve_credentials({"POSTGRES_USER": "app", "POSTGRES_PASSWORD_FILE": "/nowhere"}, read_file)
    assert (found.user, found.password) == ("app", None)
    assert found.problem


class TestAnotherWayIn:
    """What labels and the configuration say counts before the image's own variables."""

    ENVIRONMENT: ClassVar = {
        "POSTGRES_USER": "app", "POSTGRES_PASSWORD": "p", "DB_USERNAME": "other", "DB_PASSWORD": "q", "PGPASSWORD": "r",
    }  # fmt: skip

    def test_a_label_counts_before_a_rule_and_that_before_the_variables(self):
        rule = Connection(user="ruled", port=5433, socket="/run/db")
        way = rule.under({"scalr.backup.user": "labelled", "scalr.backup": "true", "other": "x"}, "c")
        found = resolve_credentials(self.ENVIRONMENT, read_file, way)
        assert (found.user, found.password, found.port, found.host) == ("labelled", "p", 5433, "/run/db")

    def test_variables_of_other_names_hold_user_and_password(self):
        way = Connection(user_variable="DB_USERNAME", password_variable="DB_PASSWORD", database="shop")
        found = resolve_credentials(self.ENVIRONMENT, read_file, way)
        assert (found.user, found.password, found.home) == ("other", "q", "shop")

    def test_a_password_in_a_file_of_another_name(self):
        way = Connection(password_file="/run/secrets/password")
        assert resolve_credentials(self.ENVIRONMENT, read_file, way).password == "from file"

    def test_a_variable_that_is_not_there_is_an_error(self):
        with pytest.raises(CredentialsError, match="no variable NOTHING"):
            resolve_credentials(self.ENVIRONMENT, read_file, Connection(user_variable="NOTHING"))

    def test_libpqs_own_password_counts_last(self):
        assert resolve_credentials({"PGPASSWORD": "r"}, read_file).password == "r"

    @pytest.mark.parametrize(("label", "value"), [("port", "many"), ("port", "70000"), ("socket", "run/postgresql")])
    def test_a_label_that_makes_no_sense_is_an_error_that_names_it(self, label, value):
        with pytest.raises(CredentialsError, match=f"c: the label scalr.backup.{label} is invalid"):
            Connection().under({f"scalr.backup.{label}": value}, "c")

    def test_where_nothing_is_told_tcp_and_the_accounts_name_are_tried_after_the_socket(self):
        told = Credentials("app", "p")
        ways = [(way.user, way.host, way.system_user) for way in ways_in(told, None, own_network=True)]
        assert ways == [("app", None, None), ("app", "localhost", None), ("app", None, "app")]

    def test_somebody_elses_loopback_interface_is_not_tried(self):
        assert not any(way.host for way in ways_in(Credentials("app"), None, own_network=False))

    @pytest.mark.parametrize("told", [Credentials("app", host="db"), Credentials("app", system_user="app")])
    def test_what_is_told_is_the_only_way(self, told):
        assert ways_in(told, None, own_network=True) == [told]

    def test_libpqs_own_user_is_another_way_where_no_user_is_told(self):
        ways = ways_in(Credentials("postgres"), "admin", own_network=True)
        assert [way.user for way in ways][:2] == ["postgres", "admin"]
        assert all(way.user == "app" for way in ways_in(Credentials("app"), "admin", own_network=True))


class Doors(Discovery):
    """A server that lets in whoever comes some of the ways."""

    def __init__(self, let_in, sqlstate=None):
        super().__init__(config(), None)
        self.let_in, self.sqlstate, self.tried = let_in, sqlstate, []

    def postgres(self, _container, credentials, _application, *, seconds):
        way = credentials.system_user or credentials.host or "socket"
        self.tried.append(way)

        def server_version():
            if way not in self.let_in:
                raise PostgresError(f"not over {way}", self.sqlstate)
            return "17.6"

        return SimpleNamespace(server_version=server_version, kept_open=nullcontext)

    def log_in(self, **told):
        return self._log_in(judge(config(), inspect()), Credentials("app", "p", **told), "look", 60.0, ExitStack())


class TestLoggingIn:
    @pytest.mark.parametrize(
        ("let_in", "tried"),
        [({"socket"}, ["socket"]), ({"localhost"}, ["socket", "localhost"]), ({"app"}, ["socket", "localhost", "app"])],
    )
    def test_takes_the_first_way_that_works(self, let_in, tried):
        doors = Doors(let_in)
        credentials, _postgres, version = doors.log_in()
        assert (version, doors.tried) == ("17.6", tried)
        assert (credentials.system_user or credentials.host or "socket") == tried[-1]

    def test_that_fails_everywhere_is_told_in_the_words_of_the_first_way(self):
        with pytest.raises(PostgresError, match="not over socket"):
            Doors(set()).log_in()

    def test_is_over_when_a_session_of_the_server_has_failed(self):
        doors = Doors({"localhost"}, "53200")
        with pytest.raises(PostgresError):
            doors.log_in()
        assert doors.tried == ["socket"]

    def test_without_a_password_that_could_not_be_read_is_told_so_where_it_fails_and_nowhere_else(self):
        with pytest.raises(CredentialsError, match="/nowhere is missing; without it: not over socket"):
            Doors(set()).log_in(problem="/nowhere is missing")
        assert Doors({"socket"}).log_in(problem="/nowhere is missing")[2] == "17.6"


def test_choosing_by_glob_and_refusing_what_fits_nothing():
    matches = [judge(config(), inspect(name)) for name in ("scalr-a-db", "scalr-b-db")]
    assert [one.name for one in choose(matches, ["scalr-a*"], "h")] == ["scalr-a-db"]
    assert len(choose(matches, [], "h")) == 2
    with pytest.raises(UnknownDatabaseError, match="scalr-a-db, scalr-b-db") as caught:
        choose(matches, ["scalr-a-db", "scalr-c-db"], "h")
    # Whoever asks several hosts has to know that this one has what was asked for, and did nothing.
    assert caught.value.code == "partly_unknown"
    with pytest.raises(UnknownDatabaseError) as caught:
        choose(matches, ["scalr-c-db", "scalr-d-db"], "h")
    assert caught.value.code == "unknown_database"


class Listing:
    """An engine that lists containers and, like the proxy, lets only some of them be looked into."""

    def __init__(self, *summaries):
        self._summaries = summaries
        self.looked_into = []

    def containers(self):
        return self._summaries

    def inspect(self, container):
        self.looked_into.append(container)
        return inspect(name=container)

    def power(self, document, *, accepted):
        return None


def summary(name, state="running", **labels):
    names = ["/app/alias", f"/{name}"]
    return {
        "Id": name, "Names": names, "Image": "postgres:17", "ImageID": "1", "State": state, "Labels": labels,
        "Command": "docker-entrypoint.sh postgres",
    }  # fmt: skip


def test_only_database_containers_are_looked_into():
    engine = Listing(
        summary("scalr-shop-db"),
        summary("scalr-old-db", **{"scalr.backup": "False"}),
        summary("scalr-scratch-db"),
        summary("web"),
    )
    found = Discovery(config(exclude=["*-scratch-*"]), engine).matches()

    assert engine.looked_into == ["scalr-shop-db"]
    assert [(one.name, one.status, one.reason) for one in found] == [
        ("scalr-old-db", "excluded", "its label scalr.backup is false"),
        ("scalr-scratch-db", "excluded", "backup_exclude names it"),
        ("scalr-shop-db", "ok", None),
    ]


class Powerful(Listing):
    """An engine one of whose containers may do all, and another shares the host's network."""

    def power(self, document, *, accepted):
        held = {
            "/scalr-root-db": "it is privileged",
            "/scalr-net-db": None if accepted else "it shares the host's network",
        }
        return held.get(document["Name"])


def test_one_with_power_over_the_host_is_refused_and_the_others_are_found(monkeypatch):
    monkeypatch.setattr(Discovery, "_describe", lambda _self, container, _application, _seconds: container.name)
    engine = Powerful(*(summary(f"scalr-{name}-db", **{"scalr.backup": "true"}) for name in ("a", "root", "net")))
    found = Discovery(config(), engine).clusters()
    assert [(one.name, one.status) for one in found.containers] == [
        ("scalr-a-db", "ok"), ("scalr-net-db", "refused"), ("scalr-root-db", "refused"),
    ]  # fmt: skip
    assert found.clusters == ("scalr-a-db",)
    assert replace(found, clusters=()).warnings[1] == sentence("scalr-root-db", "it is privileged")
    assert [missing.is_failure(one, []) for one in found.containers] == [False, True, True]
    [failed] = missing.failures(found.containers[2], {})
    assert failed.error == Failure("container_refused", sentence("scalr-root-db", "it is privileged"))

    accepting = config(host_namespaces_accepted=["scalr-net-db"])
    assert [one.status for one in Discovery(accepting, engine).matches()] == ["ok", "ok", "refused"]


@pytest.mark.parametrize("anywhere", [False, True])
def test_one_with_power_is_refused_by_its_name_too_and_as_a_target(anywhere):
    for engine in (Powerful(summary("scalr-root-db")), Powerful(summary("scalr-root-db", **{"scalr.backup": "false"}))):
        with pytest.raises(
            ContainerRefusedError if anywhere or not engine.containers()[0]["Labels"] else UnknownDatabaseError
        ):
            Discovery(config(), engine).cluster("scalr-root-db", "test", anywhere=anywhere)


def test_the_products_own_containers_are_never_meant():
    own = [
        summary("scalr-backup"), summary("scalr-backup-socket-proxy", **{"scalr.backup": "true"}),
        summary("scalr-x-db", **{"scalr.backup.own": "true"}), summary("scalr-y-db", **{"scalr.backup.drill": "run"}),
    ]  # fmt: skip
    engine = Listing(*own)
    found = Discovery(config(containers=["*"]), engine).matches()
    assert {one.status for one in found} == {"excluded"}
    assert engine.looked_into == []


def test_postgresql_that_no_rule_matches_is_found_without_looking_into_it():
    engine = Listing(
        summary("scalr-shop-db"), summary("app-postgres-1"), summary("left-out", **{"scalr.backup": "false"})
    )
    found = Discovery(config(), engine).look()
    assert [one.name for one in found.matches] == ["scalr-shop-db"]
    assert [(one.name, one.why) for one in found.unmatched] == [("app-postgres-1", UNNAMED)]
    assert engine.looked_into == ["scalr-shop-db"]


def test_what_the_filter_rejects_is_found_and_what_is_left_out_on_purpose_is_not():
    engine = Listing(summary("scalr-shop-db"), summary("app-postgres-1"))
    assert [(one.name, one.why) for one in Discovery(config(filter="`false`"), engine).look().unmatched] == [
        ("app-postgres-1", UNNAMED), ("scalr-shop-db", FILTERED),
    ]  # fmt: skip
    assert Discovery(config(exclude=["app-*"]), engine).look().unmatched == ()
    assert Discovery(config(report_unmatched=False), engine).look().unmatched == ()


def test_whoever_asks_for_one_by_its_name_is_told_what_to_do():
    engine = Listing(summary("app-postgres-1"))
    with pytest.raises(
        UnknownDatabaseError, match=r"app-postgres-1 on h runs PostgreSQL.*backup_containers.*scalr.backup=true"
    ):
        Discovery(config(), engine).clusters(["app-postgres-1"])
    with pytest.raises(UnknownDatabaseError, match="app-postgres-1 on h runs PostgreSQL"):
        Discovery(config(), engine).cluster("app-postgres-1", "test")


class Hanging(Listing):
    """An engine that does not answer about one container, nor runs a command in another."""

    def __init__(self, *summaries, silent=(), error=None):
        super().__init__(*summaries)
        self._silent = silent
        self._error = error or DockerUnreachableError("The Docker Engine does not answer: it did not answer in time.")

    def inspect(self, container):
        if container in self._silent:
            raise self._error
        return super().inspect(container)


def test_one_that_cannot_be_inspected_is_unreachable_and_the_others_are_found():
    engine = Hanging(summary("scalr-a-db"), summary("scalr-hung-db"), summary("web"), silent={"scalr-hung-db"})
    found = Discovery(config(), engine).look()
    assert [(one.name, one.status) for one in found.matches] == [
        ("scalr-a-db", "ok"), ("scalr-hung-db", "unreachable"),
    ]  # fmt: skip
    assert found.matches[1].reason.startswith("it cannot be inspected: The Docker Engine does not answer")


@pytest.mark.parametrize("error", [CallRefusedError("403"), KeyError("State"), ConfigurationError("no such filter")])
def test_so_is_one_whatever_is_wrong_with_it(error):
    engine = Hanging(summary("scalr-a-db"), summary("scalr-hung-db"), silent={"scalr-hung-db"}, error=error)
    assert {one.name: one.status for one in Discovery(config(), engine).matches()} == {
        "scalr-a-db": "ok", "scalr-hung-db": "unreachable",
    }  # fmt: skip


def test_whoever_asks_for_the_one_that_cannot_be_inspected_is_told_why():
    engine = Hanging(summary("scalr-hung-db"), silent={"scalr-hung-db"})
    with pytest.raises(DockerUnreachableError, match="scalr-hung-db on h: it cannot be inspected"):
        Discovery(config(), engine).cluster("scalr-hung-db", "test")


def test_whoever_asks_for_another_one_does_not_wait_for_it(monkeypatch):
    engine = Hanging(summary("scalr-a-db"), summary("scalr-hung-db"))
    monkeypatch.setattr(Discovery, "_describe", lambda _self, container, _application, _seconds: container.name)
    assert Discovery(config(), engine).cluster("scalr-a-db", "test") == "scalr-a-db"
    assert engine.looked_into == ["scalr-a-db"]


def test_containers_are_inspected_side_by_side_so_that_two_that_hang_cost_the_time_of_one():
    meeting = threading.Barrier(2, timeout=60)

    class Slow(Listing):
        def inspect(self, container):
            meeting.wait()  # Whoever waits here alone fails.
            return super().inspect(container)

    found = Discovery(config(), Slow(summary("scalr-a-db"), summary("scalr-b-db"))).matches()
    assert [one.status for one in found] == ["ok", "ok"]


def test_a_cluster_whose_look_fails_unforeseen_is_unreachable_and_the_others_are_described(monkeypatch):
    def describe(self, container, application, seconds):
        if container.name == "scalr-odd-db":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return container.name

    monkeypatch.setattr(Discovery, "_describe", describe)
    found = Discovery(config(), Listing(summary("scalr-a-db"), summary("scalr-odd-db"))).clusters()
    assert found.clusters == ("scalr-a-db",)
    assert [(one.name, one.status) for one in found.containers] == [
        ("scalr-a-db", "ok"), ("scalr-odd-db", "unreachable"),
    ]  # fmt: skip
    assert "Unexpected error: UnicodeDecodeError" in found.containers[1].reason


def test_being_told_to_stop_is_nobodys_status(monkeypatch):
    def describe(self, container, application, seconds):
        raise InterruptedRunError("told to stop")

    monkeypatch.setattr(Discovery, "_describe", describe)
    with pytest.raises(InterruptedRunError):
        Discovery(config(), Listing(summary("scalr-a-db"))).clusters()
