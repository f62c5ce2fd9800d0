"""What role monitoring puts where, what it refuses, and whether the dashboard is one that Grafana can show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from scalr_backup.actions.health.metrics import METRICS

PLAY = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": {"name": "scalr.backup.monitoring"}}],
    }
]
LOKI = "http://loki.example.com:3100/loki/api/v1/push"


@pytest.fixture
def play(checkout: Path, tmp_path: Path) -> Any:
    """Run the role on this machine; how it ended."""

    def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        playbook = tmp_path / "play.yml"
        playbook.write_text(json.dumps(PLAY))
        program = str(Path(sys.executable).parent / "ansible-playbook")
        command = [program, str(playbook), *options, "-e", json.dumps(variables)]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)

    return run


def test_each_file_goes_where_it_is_wanted_and_a_second_run_changes_nothing(play: Any, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("prometheus_rules", "grafana_dashboards", "alloy")}
    for place in places.values():
        place.mkdir()
    variables = {f"monitoring_{name}": str(place) for name, place in places.items()} | {"monitoring_loki_url": LOKI}

    foretold = play("--check", **variables)
    assert "changed=3 " in foretold.stdout, foretold.stdout
    assert not any(any(place.iterdir()) for place in places.values())
    for changed in (3, 0):
        done = play(**variables)
        assert done.returncode == 0, done.stdout
        assert f"changed={changed} " in done.stdout, done.stdout

    files = {path.name: path for place in places.values() for path in place.iterdir()}
    assert files.keys() == {"scalr-backup.rules.yml", "scalr-backup.json", "scalr-backup.alloy"}
    alloy = files["scalr-backup.alloy"].read_text()
    assert f'url = "{LOKI}"' in alloy
    assert "{{" not in alloy
    assert alloy.count("{") == alloy.count("}")
    # Each component that is spoken of is one that is there.
    declared = {f"{kind}.{name}" for kind, name in re.findall(r'^([\w.]+) "(\w+)" \{', alloy, re.MULTILINE)}
    assert set(re.findall(r"\b((?:discovery|loki)\.\w+\.scalr_backup)\.", alloy)) <= declared


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"monitoring_prometheus_rules": "/not/there"}, "localhost has no such directory"),
        ({"monitoring_alloy": "/tmp"}, "monitoring_alloy needs monitoring_loki_url, which is empty"),
    ],
)
def test_what_cannot_work_is_one_sentence(play: Any, variables: dict[str, str], sentence: str) -> None:
    done = play(**variables)
    assert done.returncode != 0
    assert "changed=0 " in done.stdout
    assert sentence in done.stdout, done.stdout


def lost(given: Any, understood: Any, place: str = "") -> list[str]:
    """What is in the one and not in the other."""
    if isinstance(given, dict) and isinstance(understood, dict):
        return [where for key in given for where in lost(given[key], understood.get(key), f"{place}/{key}")]
    if isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        pairs = enumerate(zip(given, understood, strict=True))
        return [where for number, pair in pairs for where in lost(*pair, f"{place}/{number}")]
    return [] if given == understood else [place]


class TestDashboard:
    """The JSON is what Grafana expects: it cannot be asked here."""

    @pytest.fixture
    def dashboard(self, checkout: Path) -> dict[str, Any]:
        return dict(json.loads((checkout / "roles/monitoring/files/grafana/scalr-backup.json").read_text()))

    def test_it_is_one_by_the_model_of_grafana_itself(self, dashboard: dict[str, Any]) -> None:
        """Every panel, option and query that is written there is one that Grafana has: nothing is lost on the way."""
        register_default_plugins()
        understood = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
        assert lost(dashboard, understood) == []

    def test_panels_are_told_apart_and_do_not_overlap(self, dashboard: dict[str, Any]) -> None:
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        for one, other in combinations([panel["gridPos"] for panel in panels], 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or above, (one, other)
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)

    def test_each_panel_says_what_it_shows_and_asks_a_source_that_can_be_chosen(
        self, dashboard: dict[str, Any]
    ) -> None:
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        for panel in dashboard["panels"]:
            if panel["type"] == "row":
                continue
            assert panel["description"].endswith("."), panel["title"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
            for target in panel["targets"]:
                assert target["datasource"]["uid"] in {"${datasource}", "${logs}"}
                assert set(re.findall(r"\$\{?(\w+)", json.dumps(target))) <= variables

    def test_every_metric_is_one_of_the_agent_and_nearly_all_are_shown(self, dashboard: dict[str, Any]) -> None:
        known = {metric.full_name for metric in METRICS}
        shown = set(re.findall(r"scalr_backup_\w+", json.dumps(dashboard)))
        assert shown <= known
        assert len(shown) >= 25
