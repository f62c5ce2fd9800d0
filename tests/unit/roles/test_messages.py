"""What the roles' own sentences repeat of a host's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

from tests.support.ansible_core import templar, trusted

# What a command of a host's has said, by the name under which a role keeps it.
SAID = re.compile(r"\.std(?:out|err)(?:_lines)?\b|\b__backup_loaded_(?:id|platform)\b|\b__backup_image_release\b")
# A condition shows nothing of what it looks at.
CONDITION = re.compile(r"'[^']*' in \S+")
# These make a text safe to show, or a sentence of their own.
SAFE = re.compile(r"scalr\.backup\.(?:printable|reason|agent_result|machine_facts)\b")


def messages(found: Any) -> Iterator[str]:
    """The sentences that tasks fail with or show."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name in ("msg", "fail_msg", "lines"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from messages(value)
    elif isinstance(found, list):
        for one in found:
            yield from messages(one)


def test_no_sentence_repeats_a_hosts_words_as_they_are(checkout: Path) -> None:
    """Whoever is on a host could steer the terminal of the one who reads them."""
    files = sorted(checkout.glob("roles/*/tasks/*.yml"))
    shown = [
        (f"{path.parent.parent.name}/{path.name}", expression)
        for path in files
        for sentence in messages(yaml.safe_load(path.read_text()))
        for expression in re.findall(r"\{\{.*?\}\}", sentence, re.DOTALL)
        if SAID.search(CONDITION.sub("", expression))
    ]
    assert len(shown) >= 8
    assert [one for one in shown if not SAFE.search(one[1])] == []


@pytest.mark.parametrize(
    ("socket", "sentence"),
    [
        (
            "/var/run/docker.sock",
            "No Docker engine answers on web1: start it, or run site.yml, which installs it (gone).",
        ),
        (
            "/run/it.sock",
            "No engine answers on /run/it.sock of web1: start it, or correct backup_engine_socket (gone).",
        ),
    ],
)
def test_site_yml_is_advised_only_for_an_engine_that_it_installs(checkout: Path, socket: str, sentence: str) -> None:
    tasks = yaml.safe_load((checkout / "roles/backup/tasks/preflight.yml").read_text())
    [task] = [task for task in tasks if task["name"] == "Fail if no Docker engine answers"]
    evaluates = templar(DataLoader(), {"scalr.backup.printable": printable})
    evaluates.available_variables = {
        "backup_engine_socket": socket,
        "inventory_hostname": "web1",
        "__backup_engine": {"rc": 1, "stderr": "gone"},
    }
    assert evaluates.template(trusted(task["ansible.builtin.fail"]["msg"])) == sentence
