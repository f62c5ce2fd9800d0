"""An agent that is watched: its metrics and health, and a real Prometheus and Alertmanager that tell when it breaks."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from scalr_backup.actions.health.metrics import Metrics

from tests.support.containers import AgentContainer, DatabaseContainer, docker, gateway_of, wait_until
from tests.support.monitoring import (
    ALERTMANAGER,
    CHECKOUT,
    ROLE,
    RULES,
    Monitoring,
    Webhook,
    address_of,
    build_monitoring_image,
    example_facts,
)

PORT = 9797
FIXTURES = CHECKOUT / "tests/integration/fixtures"
RULES_TESTS = ("scalr-backup.rules.test.yml", "scalr-backup.rules.days.test.yml")
DASHBOARD = ROLE / "files/grafana/scalr-backup.json"
JOBS = ("scalr-backup", "node")
OUTPUT = CHECKOUT / "tests/output"

# Sets the last good backup of every database back by 27 hours, as if the nights since had not been.
AGE = """
import datetime, json, pathlib
path = pathlib.Path("/var/lib/scalr-backup/state.json")
document = json.loads(path.read_text())
for entry in document["databases"].values():
    entry["last_success"] = (datetime.datetime.fromisoformat(entry["last_success"]) - datetime.timedelta(hours=27)).isoformat()
new = path.with_suffix(".aged")
new.write_text(json.dumps(document))
new.replace(path)
"""


@dataclass
class House:
    """An agent with a database, and who watches it."""

    agent: AgentContainer
    address: str
    database: DatabaseContainer
    textfile: Path
    prometheus: Monitoring
    webhook: Webhook

    def get(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        """What the agent answers over HTTP."""
        request = urllib.request.Request(f"http://{self.address}:{PORT}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)

    def hears(self, status: str, alert: str, seconds: float = 40) -> dict[str, Any]:
        """Wait until the webhook was told of an alert by the metrics of both ways; the one of the agent's own port."""
        for job in JOBS:
            wait_until(
                lambda job=job: self.webhook.alerts(status, alertname=alert, job=job),
                f"{alert} {status}: {job}",
                seconds,
            )
        return self.webhook.alerts(status, alertname=alert, job=JOBS[0])[-1]


@pytest.fixture(scope="module")
def textfile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of node_exporter, as the role prepares it for the agent."""
    directory = tmp_path_factory.mktemp("node-exporter")
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.include_role": {"name": "scalr.backup.backup", "tasks_from": "textfile.yml"},
                    "vars": {"backup_metrics_textfile": f"{directory}/"},
                }
            ],
        }
    ]
    playbook = tmp_path_factory.mktemp("play") / "play.yml"
    playbook.write_text(json.dumps(play))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook)]
    for changed in (2, 0):
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"changed={changed} " in done.stdout, done.stdout
    return directory


@pytest.fixture(scope="module")
def house(
    agent_image: str,
    prefix: str,
    make_database: Callable[..., DatabaseContainer],
    textfile: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    """An agent on a network with a Prometheus; its database is backed up once."""
    build_monitoring_image()
    network = f"{prefix}-monitoring"
    docker("network", "create", network)
    webhook = Webhook(gateway_of(network), Metrics(lambda: example_facts(datetime.now(UTC))).render()[0])
    directory = tmp_path_factory.mktemp("watched")
    mount = f"{textfile}/.scalr-backup:/run/scalr-backup-textfile"
    agent = AgentContainer(
        directory / "agent", [f"{prefix}-*-db"], agent_image, options=("--network", network, "--volume", mount)
    )
    prometheus = Monitoring(f"{prefix}-prometheus", directory / "prometheus", textfile)
    try:
        agent.configure(metrics_port=PORT, metrics_textfile=str(textfile))
        agent.start()
        agent.make_repository()
        database = make_database("shop", environment={"POSTGRES_PASSWORD": secrets.token_hex(8), "POSTGRES_DB": "shop"})
        database.sql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) AS i", "shop")
        agent.ok("backup", "--reason", "nightly")
        address = address_of(agent.name, network)
        prometheus.start(network, f"{address}:{PORT}", webhook)
        yield House(agent, address, database, textfile, prometheus, webhook)
    finally:
        prometheus.remove()
        agent.remove()
        webhook.close()
        docker("network", "rm", network, check=False)


def in_monitoring(*command: str, mounts: dict[Path, str] | None = None, stdin: str | None = None) -> str:
    """Run a tool of the image; what it says."""
    volumes = [part for path, place in (mounts or {}).items() for part in ("--volume", f"{path}:{place}:ro")]
    run = ["run", "--rm", "-i", "--network", "none", *volumes, "--entrypoint", command[0]]
    done = docker(*run, build_monitoring_image(), *command[1:], stdin=stdin, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def samples(text: str) -> dict[str, float]:
    """The values of an exposition, by their names with labels."""
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _space, value in lines}


def test_prometheus_own_tools_find_nothing_wrong_with_metrics_rules_and_example(house: House) -> None:
    _code, text, _headers = house.get("/metrics")
    said = {
        "promtool check metrics": in_monitoring("promtool", "check", "metrics", stdin=text),
        "promtool check rules": in_monitoring("promtool", "check", "rules", "/r.yml", mounts={RULES: "/r.yml"}),
        "promtool test rules": in_monitoring(
            "promtool", "test", "rules", *(f"/test/{name}" for name in RULES_TESTS),
            mounts={**{FIXTURES / name: f"/test/{name}" for name in RULES_TESTS}, RULES: f"/test/{RULES.name}"},
        ),
        "amtool check-config": in_monitoring("amtool", "check-config", "/a.yml", mounts={ALERTMANAGER: "/a.yml"}),
    }  # fmt: skip
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "promtool.txt").write_text("".join(f"$ {command}\n{text}\n" for command, text in said.items()))
    assert said["promtool check metrics"] == ""
    assert f"{len(rules())} rules found" in said["promtool check rules"]
    assert said["promtool test rules"].count("SUCCESS") == len(RULES_TESTS)


def test_every_alert_is_tested_and_says_what_to_run_next() -> None:
    tested = "\n".join((FIXTURES / name).read_text() for name in RULES_TESTS)
    playbooks = {path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")}
    for alert, rule in rules().items():
        assert f"alertname: {alert}, exp_alerts: []" in tested, alert
        assert re.search(rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels", tested), alert
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "command", "runbook_url"}, alert
        program, _space, words = rule["annotations"]["command"].partition(" ")
        assert program == "docker" or set(re.findall(r"\w+", words)) & playbooks, alert


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_metrics_tell_what_the_pass_did_over_http_and_in_the_file(house: House) -> None:
    status, text, headers = house.get("/metrics")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    found = samples(text)
    whose = f'{{container="{house.database.name}",database="shop"}}'
    entry = house.agent.ok("status")["databases"][0]
    assert found[f"scalr_backup_database_rows{whose}"] == 20000
    assert found[f"scalr_backup_database_read_bytes{whose}"] == entry["bytes_read"]
    assert 0 < found[f"scalr_backup_database_stored_bytes{whose}"] < found[f"scalr_backup_database_added_bytes{whose}"]
    assert found[f"scalr_backup_database_last_attempt_success{whose}"] == found["scalr_backup_backed_up"] == 1
    assert found["scalr_backup_repository_snapshots"] == 2
    assert found["scalr_backup_repository_locks"] == 0
    size = int(docker("exec", house.agent.name, "du", "-sb", "/repository/data").stdout.split()[0])
    assert found["scalr_backup_repository_size_bytes"] == pytest.approx(size, rel=0.5)
    assert (
        0
        < found["scalr_backup_repository_filesystem_free_bytes"]
        < found["scalr_backup_repository_filesystem_size_bytes"]
    )
    assert found['scalr_backup_repository_info{kind="local"}'] == 1

    _status, openmetrics, headers = house.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.endswith("# EOF\n")

    wait_until(lambda: "scalr_backup_database_rows" in (house.textfile / "scalr_backup.prom").read_text(), "the file")
    written = samples((house.textfile / "scalr_backup.prom").read_text())
    assert written.keys() == found.keys()
    assert written[f"scalr_backup_database_rows{whose}"] == 20000
    # What it replaces itself with is never a file that node_exporter would read.
    assert {path.name for path in house.textfile.glob("**/*.prom")} == {"scalr_backup.prom"}


def test_only_what_is_there_can_be_had_and_only_read(house: House) -> None:
    assert house.get("/")[0] == house.get("/state.json")[0] == house.get("/../metrics")[0] == 404
    request = urllib.request.Request(f"http://{house.address}:{PORT}/metrics", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(request, timeout=10)  # noqa: S310
    # What others ask is no line of the log, and what they get wrong is none either.
    assert all(line["level"] != "error" for line in house.agent.log_lines())


@pytest.mark.usefixtures("unlabelled")
def test_a_backup_that_breaks_is_an_alert_and_one_that_works_again_resolves_it(house: House) -> None:
    wait_until(lambda: len(house.prometheus.query("scalr_backup_last_pass_success")) == 3, "all are scraped")
    # The last look may have seen another test's container.
    house.agent.ok("discover")
    wait_until(lambda: firing(house) == set(), "nothing fires")

    house.database.wrap("pg_dump", "echo 'pg_dump: error: the disk is on fire' >&2; exit 1")
    assert house.agent.call("backup", "--reason", "nightly").exit_code == 3
    alert = house.hears("firing", "ScalrBackupFailed")
    assert alert["labels"]["host"] == "test-host"
    assert alert["path"] == "/by-day"
    assert alert["annotations"]["summary"] == (
        f"The last backup of {house.database.name}/shop on test-host failed: {alert['labels']['code']}"
    )
    assert alert["annotations"]["command"] == "ansible-playbook scalr.backup.status --limit test-host"
    assert alert["annotations"]["runbook_url"].endswith(f"/docs/troubleshooting.md#{alert['labels']['code']}")
    # The good backup of a moment ago is still there: nobody is woken.
    assert house.get("/healthz")[0] == 200
    assert not any(house.webhook.alerts("firing", severity="critical", job=job) for job in JOBS)

    house.database.unwrap("pg_dump")
    house.agent.ok("backup", "--reason", "nightly")
    house.hears("resolved", "ScalrBackupFailed")
    wait_until(lambda: firing(house) == set(), "nothing fires any more")
    save_messages(house.webhook)


def test_health_is_the_age_of_the_last_good_backup_also_after_a_restart(house: House) -> None:
    asked = f"as young as the schedule {house.agent.config['schedule']} asks"
    assert house.get("/healthz")[:2] == (200, f"Good backups {asked}: all 1 database.\n")
    docker("exec", house.agent.name, "/opt/scalr-backup/bin/python", "-c", AGE)
    sentence = f"No good backup {asked}: {house.database.name}/shop.\n"
    assert house.get("/healthz")[:2] == (503, sentence)
    docker("restart", "--time", "20", house.agent.name)
    wait_until(lambda: reached(house), "the agent serves again")
    assert house.get("/healthz")[:2] == (503, sentence)
    assert docker("exec", house.agent.name, "scalr-backup", "health", check=False).returncode == 1
    alert = house.hears("firing", "ScalrBackupTooOld")
    assert alert["path"] == "/on-call"
    assert re.match(r"The last good backup is 1d 3h \d+m", alert["annotations"]["description"])

    house.agent.ok("backup", "--reason", "nightly")
    assert house.get("/healthz")[0] == 200
    assert docker("exec", house.agent.name, "scalr-backup", "health").returncode == 0
    house.hears("resolved", "ScalrBackupTooOld")
    save_messages(house.webhook)


def firing(house: House) -> set[str]:
    """The alerts that fire now for this agent."""
    return {alert for alert, job in house.prometheus.firing() if job in JOBS}


def reached(house: House) -> bool:
    try:
        return house.get("/healthz")[0] > 0
    except OSError:
        return False


def save_messages(webhook: Webhook) -> None:
    """Keep the text of the alerts, as they were received, for people to look at."""
    OUTPUT.mkdir(exist_ok=True)
    lines = [
        f"{alert['status']:8} {alert['labels']['severity']:8} {alert['labels']['alertname']}: "
        f"{alert['annotations']['summary']}. {alert['annotations']['description']} Run: {alert['annotations']['command']}"
        for status in ("firing", "resolved")
        for alert in webhook.alerts(status, job=JOBS[0])
    ]
    (OUTPUT / "alertmanager.txt").write_text("\n".join(dict.fromkeys(lines)) + "\n")


def test_every_query_of_the_dashboard_runs_and_finds_something(house: House) -> None:
    """Against this agent and one of which everything is known; only a day's growth takes a day to be seen."""
    variables = {"$instance": ".*", "$container": ".*"}
    found: dict[str, list[int]] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            if target["datasource"]["type"] == "prometheus":
                expression = target["expr"]
                for variable, value in variables.items():
                    expression = expression.replace(variable, value)
                assert "$" not in expression, expression
                found.setdefault(panel["title"], []).append(len(house.prometheus.query(expression)))
    assert len(found) > 30
    assert {title for title, counts in found.items() if not all(counts)} == {"Growth in a day"}
