# SPDX-License-Identifier: GPL-3.0-or-later
"""The compose file and the role deploy the same: field by field, and variable by variable."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible_collections.scalr.backup.plugins.plugin_utils._variables import MUST_HOLD
from scalr_backup.core import environment
from scalr_backup.core.config import Config, config_of_environment, parse_config

from tests.support.ansible_core import load_variables, templar
from tests.support.compose import as_docker_container, compose, variables
from tests.support.role_variables import variable_files
from tests.unit.roles.conftest import collection_filters

CHECKOUT = Path(__file__).resolve().parents[3]
ROLE = CHECKOUT / "roles/backup"
GIVEN = {"BACKUP_HOST": "web1", "DOCKER_GROUP": "999"}
# What the role has looked up by the time it makes the containers.
FOUND = {
    "inventory_hostname": "web1",
    "groups": {"all": ["web1"]},
    "__backup_socket_found": {"stat": {"exists": True, "gid": 999}},
    "__backup_mounted": {"results": []},
    "__backup_image": "ghcr.io/scalr/scalr-backup:0.8.0",
    "__backup_machine": {"stdout_lines": ["controller=0", "clock=0", "MemTotal: 2796203 kB", "python=3.11"]},
}
# What the role's task says to Ansible, and not to Docker.
OF_THE_MODULE = {"pull", "state", "comparisons", "published_ports"}
# Where the two differ, and why.
DIFFER = {
    "agent": {
        "memory": "a compose file cannot name a share of the host's memory",
        "labels": "they tell the role that a mounted directory was made anew; the image has a label of its own",
        "volumes": "the agent's configuration is no file here",
        "compose: build": "the role builds the image in a task of its own",
        "compose: env_file": "the agent's configuration",
        "compose: depends_on": "the role makes the proxy first",
    },
    "socket-proxy": {
        "labels": "they tell the role that a mounted directory was made anew; the image has a label of its own",
        "volumes": "the proxy's configuration is no file of the host here",
        "tmpfs": "the proxy writes its configuration there",
        "entrypoint": "it writes the proxy's configuration, and becomes HAProxy",
        "compose: env_file": "the proxy's configuration",
    },
}


@pytest.fixture(scope="module")
def of_role():
    """What the role's tasks give docker_container, with the role's defaults: the agent's and the proxy's."""
    loader = DataLoader()
    known: dict[str, Any] = {}
    for file in (ROLE / "defaults/main.yml", *variable_files(ROLE)):
        known.update(load_variables(loader, str(file)))
    filters = {f"scalr.backup.{name}": function for name, function in collection_filters().items()}
    evaluates = templar(loader, filters)

    def arguments(file: str, name: str) -> dict[str, Any]:
        tasks = load_variables(loader, str(ROLE / "tasks" / file))
        task = next(task for task in tasks if task["name"] == name)
        evaluates.available_variables = {**known, **FOUND, **task.get("vars", {})}
        told = evaluates.template(task["community.docker.docker_container"])
        return {key: value for key, value in told.items() if key not in OF_THE_MODULE}

    return {
        "agent": arguments("container.yml", "Check whether the agent's container would change"),
        "socket-proxy": arguments("socket_proxy.yml", "Run the socket proxy"),
    }


@pytest.mark.parametrize("service", ["agent", "socket-proxy"])
def test_both_make_the_same_container(of_role, service):
    role, file = of_role[service], as_docker_container(compose(GIVEN), service)
    if not role.get("groups"):
        role.pop("groups", None)
    differ = {field for field in {*role, *file} if role.get(field) != file.get(field)}
    assert differ == set(DIFFER[service]), {field: (role.get(field), file.get(field)) for field in differ}


def test_their_mounts_differ_by_the_configuration_alone(of_role):
    document = compose(GIVEN)
    for service in ("agent", "socket-proxy"):
        role, file = of_role[service]["volumes"], as_docker_container(document, service)["volumes"]
        assert sorted(role) == sorted([*file, "/opt/scalr/services/backup/config:/etc/scalr-backup:ro"])


def test_the_proxy_becomes_the_roles(of_role):
    proxy = compose(GIVEN)["services"]["socket-proxy"]
    start = (ROLE / "files/agent/socket-proxy/start").read_text()
    assert proxy["entrypoint"] == ["sh", "/opt/scalr-backup/socket-proxy/start"]
    assert start.rstrip().endswith(f'exec {of_role["socket-proxy"]["entrypoint"][0]} "$@"')


def test_the_image_is_built_as_the_role_builds_it():
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    (build,) = [service["build"] for service in compose(GIVEN)["services"].values() if "build" in service]
    assert build == {
        "context": "roles/backup/files/agent",
        "args": {
            "BASE_IMAGE": defaults["backup_base_image"],
            "RESTIC_IMAGE": defaults["backup_restic_image"],
            "APT_SNAPSHOT": defaults["backup_apt_snapshot"],
        },
    }


def test_its_version_is_that_of_the_collection():
    version = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["version"]
    assert {service["image"] for service in compose(GIVEN)["services"].values()} == {
        f"ghcr.io/scalr/scalr-backup:{version}"
    }


def test_the_password_is_generated_with_nothing_else_in_reach():
    told = compose(GIVEN)["services"]["password"]
    assert told["network_mode"] == "none"
    assert told["volumes"] == ["/opt/scalr/services/backup/secrets:/run/secrets/scalr-backup"]
    assert (told["user"], told["cap_drop"], told["profiles"]) == ("0:64738", ["ALL"], ["setup"])


def test_no_secret_is_in_the_compose_file():
    for service in compose(GIVEN)["services"].values():
        assert not {name for name in service.get("environment", {}) if re.search("PASS|KEY|TOKEN|NOTIFY", name)}


# --- variables


def test_both_refuse_the_same_values_that_would_mean_no_backups():
    assert set(environment._MUST_HOLD) == {name.upper() for name in MUST_HOLD}
    for name, consequence in MUST_HOLD.items():
        assert environment._MUST_HOLD[name.upper()] == consequence.replace("daily: 30", '{"daily": 30}')


def options() -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
    return specs["argument_specs"]["main"]["options"]


# The inventory's name, which is no variable of the role, and one of the podman side that may come later.
BESIDE = {"BACKUP_HOST", "BACKUP_ENGINE_SOCKET"}


def test_every_variable_of_the_role_has_its_place_and_the_reverse():
    places = [
        set(environment.AGENT_VARIABLES),
        {name.removesuffix("_FILE") for name in environment.FILE_VARIABLES},
        set(environment.OF_COMPOSE),
        set(environment.OF_ROLE),
    ]
    together = set().union(*places)
    assert sum(map(len, places)) == len(together), "each has one place"
    assert {name.upper() for name in options()} | BESIDE == together


def test_the_compose_file_reads_the_variables_that_are_its_own():
    assert variables() == environment.OF_COMPOSE | {"BACKUP_HOST", "DOCKER_GROUP", "DOCKER_SOCKET"}


# Of each variable of the agent, what may be said, as an inventory has it.
SAID: dict[str, Any] = {
    "backup_repository": "s3:https://s3.example.com/b",
    "backup_repository_on_host_accepted": True,
    "backup_containers": ["shop-db", "crm-*"],
    "backup_exclude": ["old-db"],
    "backup_filter": "contains(Name, 'x')",
    "backup_host_namespaces_accepted": ["host-db"],
    "backup_connections": {"crm-*": {"port": 5433}},
    "backup_report_unmatched": False,
    "backup_row_counts": False,
    "backup_row_order": "off",
    "backup_row_order_except": ["public.events"],
    "backup_schedule": "15 2 * * *",
    "backup_timezone": "Europe/Paris",
    "backup_schedule_spread": "45",
    "backup_keep": {"hourly": 48, "daily": 7},
    "backup_keep_within": "12h",
    "backup_prune_schedule": "0 5 * * 6",
    "backup_check_schedule": "",
    "backup_check_weeks": 4,
    "backup_parallel": 3,
    "backup_metrics_port": 9797,
    "backup_metrics_textfile": "/var/lib/node",
    "backup_notify_events": ["failure", "digest"],
    "backup_shrink_percent": 40,
    "backup_dump_size_factor": 8,
    "backup_nearly_full_percent": 80,
    "backup_pass_hours": 6,
    "backup_lock_hours": 12,
    "backup_append_only": True,
    "backup_copy_repository": "/copies",
    "backup_copy_keep": {"weekly": 9},
}
# Without which the one above means nothing, or is refused.
WITH = {
    "backup_append_only": {"backup_repository": "rest:https://s3.example.com/"},
    "backup_copy_keep": {"backup_copy_repository": "/copies"},
}


def in_environment(said: dict[str, Any]) -> dict[str, str]:
    """Variables as .env has them."""
    return {name.upper(): value if isinstance(value, str) else json.dumps(value) for name, value in said.items()} | {
        "BACKUP_HOST": "web1"
    }


def test_a_value_is_tried_of_each_of_the_agents_variables():
    assert {name.upper() for name in SAID} | {"BACKUP_HOST"} == set(environment.AGENT_VARIABLES)


@pytest.mark.parametrize("said", [
    {}, *({name: value} | WITH.get(name, {}) for name, value in SAID.items()),
    {name: value for name, value in SAID.items() if name != "backup_append_only"},
], ids=lambda said: next(iter(said), "nothing") if len(said) < 9 else "everything")  # fmt: skip
def test_both_tell_the_agent_the_same(derived, said):
    told = derived("__backup_config", groups=FOUND["groups"], **{"backup_drill": False, **said})
    by_role = parse_config(json.dumps(told), "config.json")
    by_variables = config_of_environment(in_environment(said))
    assert by_variables == by_role
    nothing = Config(host="web1", repository="/repository", drill_overdue_days=0)
    assert (by_variables == nothing) is not bool(said)


@pytest.mark.parametrize("name", ["backup_containers", "backup_exclude", "backup_notify_events"])
def test_a_list_may_be_a_line_for_both(derived, name):
    line = ",".join(SAID[name])
    told = derived("__backup_config", groups=FOUND["groups"], backup_drill=False, **{name: line})
    assert config_of_environment(in_environment({name: line})) == parse_config(json.dumps(told), "config.json")


# --- the page

PAGE = (CHECKOUT / "docs/compose.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the page's table with this first column: the code in it, and the other cells."""
    _before, _heading, after = PAGE.partition(f"| {heading} |")
    body = after.split("\n\n")[0].splitlines()[2:]
    cells = [line.strip("|").split("|") for line in body]
    return {first.strip(" `"): [cell.strip(" `") for cell in others] for first, *others in cells}


def test_the_page_lists_every_variable():
    assert set(rows("setting")) == set(environment.AGENT_VARIABLES)
    assert set(rows("of the compose file")) == environment.OF_COMPOSE | {"DOCKER_GROUP", "DOCKER_SOCKET"}
    assert {name: cells[0] for name, cells in rows("secret").items()} == dict(environment.FILE_VARIABLES)
    assert {name: cells[0] for name, cells in rows("of the role only").items()} == dict(environment.OF_ROLE)


@pytest.mark.parametrize("name", [name for name in environment.AGENT_VARIABLES if name != "BACKUP_HOST"])
def test_a_default_on_the_page_is_the_agents(name):
    default = rows("setting")[name][0]
    beside = WITH.get(name.lower(), {})
    without = in_environment(beside)
    if default:
        assert config_of_environment({**without, name: default}) == config_of_environment(without)
    else:
        assert not options()[name.lower()]["default"]


def test_the_defaults_of_the_compose_file_on_the_page_are_its_own():
    text = (CHECKOUT / "compose.yaml").read_text()
    for name, (default, _what) in rows("of the compose file").items():
        said = set(re.findall(rf"\$\{{{name}:-([^}}]*)\}}", text))
        assert said == ({default} if default != "required" else set()), name


def test_the_one_container_is_the_agents_with_the_engines_socket():
    """What the page's long command says is what the compose file says, but for the way to Docker."""
    words = re.search(r"^docker run --detach (.*)$", PAGE, re.MULTILINE)[1]
    told = as_docker_container(compose(GIVEN), "agent")
    assert words.endswith(f" {told['image']}")
    for option in (
        f"--name {told['name']}", "--init", f"--restart {told['restart_policy']}", f"--stop-timeout {told['stop_timeout']}",
        "--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", f"--tmpfs {told['tmpfs'][0]}",
        f"--memory {told['memory']}", f"--cpu-shares {told['cpu_shares']}", f"--pids-limit {told['pids_limit']}",
    ):  # fmt: skip
        assert option in words, option
    socket = "/var/run/docker.sock:/var/run/docker.sock"
    assert sorted(re.findall(r"--volume (\S+)", words)) == sorted(
        [*(mount for mount in told["volumes"] if not mount.startswith("scalr-backup-socket:")), socket]
    )
