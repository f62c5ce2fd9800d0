"""A real Prometheus, with Alertmanager and node_exporter, and somebody whom it alerts.

All three are Debian's, in one container of the image ``scalr-test-monitoring:trixie``. They have the rules and the example
configuration that the role ``monitoring`` brings; only the waiting is shorter.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scalr_backup.actions.health.metrics import MetricFacts
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config

from tests.support.containers import docker, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
ROLE = CHECKOUT / "roles/monitoring"
RULES = ROLE / "files/prometheus/scalr-backup.rules.yml"
ALERTMANAGER = ROLE / "files/alertmanager/alertmanager.example.yml"
IMAGE = "scalr-test-monitoring:trixie"

PROMETHEUS = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [/etc/monitoring/scalr-backup.rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["127.0.0.1:9093"]}]}]}
scrape_configs:
  - job_name: scalr-backup
    static_configs: [{targets: ["%(agent)s"]}]
  - job_name: node
    static_configs: [{targets: ["127.0.0.1:9100"]}]
  # An agent of which everything is known, played by the test.
  - job_name: example
    static_configs: [{targets: ["%(example)s"]}]
"""
# How long the example lets Alertmanager wait, and how long a test does.
SHORTER = {"group_wait: 1m": "group_wait: 1s", "group_interval: 15m": "group_interval: 1s"}


def example_facts(now: datetime) -> MetricFacts:
    """Everything that an agent can tell, as recorded and judged by it, with one of two databases in trouble."""

    def ago(**duration: float) -> str:
        return (now - timedelta(**duration)).isoformat()

    good = {
        "container": "scalr-foo-db", "database": "foo", "ok": True, "error": None, "run": "r", "snapshot_id": "aa",
        "last_tried": ago(hours=9), "last_success": ago(hours=9), "seconds": 6.6, "bytes_read": 204010923,
        "bytes_added": 1048576, "bytes_stored": 400000, "rows": 1250000,
    }  # fmt: skip
    failure = {"code": "dump_failed", "message": "pg_dump ended with exit code 1."}
    bad = {**good, "database": "audit", "ok": False, "error": failure, "last_success": ago(hours=33)}
    drill = {
        "container": "scalr-foo-db", "ok": True, "time": ago(days=3), "snapshot_id": "aa", "recovery_seconds": 12.5,
        "error": None,
    }  # fmt: skip
    config = Config.model_validate(
        {"host": "web1", "repository": "s3:https://s3.example.com/backups", "copy": {"repository": "b2:bucket"}}
    )
    night = {
        "time": ago(hours=9), "dumps": 1, "bytes_read": 204010923, "bytes_added": 1048576, "bytes_stored": 400000,
        "bytes_ordered": 180000000,
    }  # fmt: skip
    in_heap_order = {**night, "time": ago(hours=33), "bytes_added": 190000000, "bytes_ordered": 0}
    document = {
        "new_data": {
            "scalr-foo-db/foo": {"nights": [night], "layout": {}},
            "scalr-foo-db/audit": {
                "nights": [in_heap_order], "layout": {}, "given_up": {"time": ago(days=9), "share": 0.83, "dumps": 9},
            },
        },
        "sizes": {
            "repository": config.repository,
            "sizes": [{"time": ago(days=9), "size_bytes": 4 << 30}, {"time": ago(hours=9), "size_bytes": 5 << 30}],
        },
        "databases": {"scalr-foo-db/foo": good, "scalr-foo-db/audit": bad},
        "drills": {"scalr-foo-db/foo": {**drill, "database": "foo"}},
        "nightly_started": ago(hours=9),
        "look": {
            "time": ago(hours=1), "matching": ["scalr-foo-db"],
            "unmatched": [{"name": "wiki-postgres-1", "image": "postgres:17", "state": "running", "evidence": "e", "why": "w"}],
        },
        "volumes": {"scalr-foo-db": {"directory": "/var/lib/postgresql/data", "free_bytes": 20 << 30, "total_bytes": 80 << 30}},
        "last_pass": {
            "started": ago(hours=9.1), "finished": ago(hours=9), "duration_seconds": 360.5, "failed": 1,
            "warnings": ["scalr-bar-db matches but was not backed up: it is stopped."], "error": None, "copy": None,
            "retention": {"ok": True, "removed": [], "error": None}, "databases": [],
        },
        "repository": {
            "time": ago(hours=9), "size_bytes": 5 << 30, "uncompressed_bytes": 20 << 30, "snapshots": 80, "locks": 1,
            "oldest_lock": ago(hours=30), "free_bytes": 8 << 30, "total_bytes": 100 << 30,
        },
        "copy": {
            "repository": "b2:bucket", "ok": True, "time": ago(hours=9), "last_success": ago(hours=9), "copied": 2,
            "removed": [], "error": None,
        },
        "maintenance": {
            kind: {"time": ago(days=2), "ok": kind != "prune", "last_success": ago(days=2), "error": None}
            for kind in ("forget", "prune", "check")
        },
        "refused": {"begun": "a", "counted": {"look": 1}, "total": {"call": 0, "look": 4}},
        "notifications": {"sent": 7, "failed": 2, "pending": [{"title": "one that waits"}], "last_error": None},
    }  # fmt: skip
    judged = judge(config, config.repository, document, now - timedelta(days=90), now)
    # What the agent itself finds wrong, beside what follows from the numbers.
    findings = [{"severity": "failure", "code": "stale", "container": "scalr-foo-db", "database": "audit"}]
    status = {"findings": findings, **judged.as_dict()}
    return MetricFacts(
        "web1", config.repository, document, status, judged.health.ok, now - timedelta(days=90), judged.first_overdue
    )


def build_monitoring_image() -> str:
    """Build the image; unchanged layers come from Docker's cache. Of several at once, one builds."""
    build = CHECKOUT / "tests/platform/images/monitoring/build"
    with (Path(tempfile.gettempdir()) / "scalr-test-monitoring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([str(build), IMAGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return IMAGE


def address_of(container: str, network: str) -> str:
    """A container's address, which this machine reaches, too."""
    template = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return docker("inspect", "--format", template, container).stdout.strip()


class Webhook:
    """Keeps what Alertmanager sends, and has *metrics* for whoever scrapes it."""

    def __init__(self, address: str, metrics: bytes) -> None:
        self.messages: list[dict[str, Any]] = []
        keep = self.messages

        class Receive(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                keep.append({"path": self.path, **body})
                self.send_response(200)
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(metrics)

            def log_message(self, *_what: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Receive)
        self.url = f"http://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def alerts(self, status: str, **labels: str) -> list[dict[str, Any]]:
        """What was received of alerts that have these labels, with this status."""
        return [
            {**alert, "path": message["path"]}
            for message in self.messages
            for alert in message["alerts"]
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        ]

    def close(self) -> None:
        """Receive no more."""
        self._server.shutdown()
        self._server.server_close()


class Monitoring:
    """The container: it scrapes an agent at its address, and node_exporter, which reads *textfile*."""

    def __init__(self, name: str, directory: Path, textfile: Path) -> None:
        self.name = name
        self._directory = directory
        self._textfile = textfile
        self._address = ""

    def start(self, network: str, agent: str, webhook: Webhook) -> Monitoring:
        """Run it and wait until Prometheus is ready."""
        example = ALERTMANAGER.read_text()
        for long, short in {**SHORTER, "http://127.0.0.1:9094": webhook.url}.items():
            assert long in example
            example = example.replace(long, short)
        self._directory.mkdir()
        (self._directory / "alertmanager.yml").write_text(example)
        (self._directory / "prometheus.yml").write_text(
            PROMETHEUS % {"agent": agent, "example": webhook.url.removeprefix("http://")}
        )
        (self._directory / RULES.name).write_text(RULES.read_text())
        docker(
            "run", "--detach", "--name", self.name, "--network", network, "--init",
            "--volume", f"{self._directory}:/etc/monitoring:ro", "--volume", f"{self._textfile}:/textfile:ro", IMAGE,
        )  # fmt: skip
        self._address = f"http://{address_of(self.name, network)}:9090"
        wait_until(self._is_ready, "Prometheus is ready")
        return self

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/-/ready", timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def api(self, path: str, **parameters: str) -> Any:
        """What Prometheus' API answers; an error is one of the test."""
        url = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression finds now."""
        return list(self.api("query", query=expression)["result"])

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire now, and the job whose metrics they come from."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("job", ""))
            for alert in self.api("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def remove(self) -> None:
        """Remove it."""
        docker("rm", "--force", "--volumes", self.name, check=False)
