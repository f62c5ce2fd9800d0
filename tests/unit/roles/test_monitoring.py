"""What role monitoring puts where, what it refuses, and whether the dashboard is one that Grafana can show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
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

    def test_every_unit_and_colour_is_one_that_grafana_knows(self, dashboard: dict[str, Any]) -> None:
        """An unknown unit is shown behind the number as it is written; thresholds below the one before are never reached."""
        known = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
        for title, settings in drawn(dashboard):
            assert {one for one in settings["units"] if one} <= known, title
            steps = settings["thresholds"]
            assert [step["value"] for step in steps[:1]] in ([], [None]), title
            values = [step["value"] for step in steps[1:]]
            assert values == sorted(set(values)), title
            assert {step["color"] for step in steps} <= {"green", "blue", "orange", "red"}, title

    def test_a_unit_fits_what_is_measured(self, dashboard: dict[str, Any]) -> None:
        """Bytes as bytes, ages as times, counts as numbers, and a share of two of them as a share."""
        for panel in dashboard["panels"]:
            unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
            for target in panel.get("targets", []) if unit else ():
                assert unit in units_of(target["expr"]), (panel["title"], unit, target["expr"])

    def test_the_model_is_of_a_grafana_that_is_still_kept(self, dashboard: dict[str, Any]) -> None:
        """39 is of Grafana 11; each Grafana brings older ones up to its own, which is 42 in Grafana 13, and refuses newer ones."""
        assert 36 <= dashboard["schemaVersion"] <= 42
        sources = {one["name"]: one["query"] for one in dashboard["templating"]["list"] if one["type"] == "datasource"}
        assert sources == {"datasource": "prometheus", "logs": "loki"}
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                name = re.fullmatch(r"\$\{(\w+)\}", target["datasource"]["uid"])
                assert name, panel["title"]
                assert target["datasource"]["type"] == sources[name[1]], panel["title"]


def drawn(dashboard: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each panel by its title: the units of its fields, and its thresholds."""
    for panel in dashboard["panels"]:
        config = panel.get("fieldConfig", {})
        defaults = config.get("defaults", {})
        properties = [one for override in config.get("overrides", []) for one in override["properties"]]
        found = [defaults.get("unit"), *(one["value"] for one in properties if one["id"] == "unit")]
        yield panel["title"], {"units": found, "thresholds": defaults.get("thresholds", {}).get("steps", [])}


def units_of(expression: str) -> set[str]:
    """The units in which the outcome of an expression may be shown."""
    metrics = re.findall(r"scalr_backup_\w+", expression)
    if re.search(r"\bcount\b|[<>=]=? *bool\b|(?<![=!])[<>] ", expression) or not metrics:
        return {"none", "short"}
    if re.search(r"[)}\w] */ ", expression):
        return {"percentunit", "none"}
    if all(name.endswith("_ratio") for name in metrics):
        return {"percentunit"}
    if all(name.endswith("_bytes") for name in metrics):
        return {"bytes"}
    if any(name.endswith("_seconds") for name in metrics):
        return {"s", "dateTimeFromNow"}
    return {"none", "short"}
