"""The collection with older lines of ansible-core: the playbooks from a first deployment to the last farewell."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import cores
from tests.support.containers import DatabaseContainer, docker, running
from tests.support.controller import AGENT, CHECKOUT, Controller, agent_set_aside

pytestmark = pytest.mark.timeout(900)

HOST = "web1"
STORE_SECRET = "canary'of\"the$store"
ROWS = "CREATE TABLE goods AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 2000) AS n"
# A database whose name is a template, and would be the number 49 where one was evaluated.
ODD = "{{7*7}}"
OLDEST, *NEWER = cores.older()
LINES = [OLDEST, *(pytest.param(line, marks=pytest.mark.thorough) for line in NEWER)]


@dataclass
class Site:
    """A controller with an older ansible-core, and a database container of its one host."""

    controller: Controller
    shop: DatabaseContainer
    fingerprint: str

    def verb(self, *arguments: str) -> dict:
        """The data of a verb's result."""
        done = docker("exec", AGENT, "scalr-backup", *arguments, "--json")
        return json.loads(done.stdout.splitlines()[-1])["data"]


@pytest.fixture(scope="module", params=LINES)
def line(request: pytest.FixtureRequest) -> str:
    """A line of ansible-core."""
    return request.param


@pytest.fixture(scope="module")
def site(line: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Nothing is deployed yet."""
    directory = tmp_path_factory.mktemp("site")
    prefix = f"scalr-test-{secrets.token_hex(3)}"
    variables = {
        "backup_containers": [f"{prefix}-*-db"],
        "backup_directory": str(directory / "backup"),
        "backup_repository": str(directory / "repository"),
        "backup_repository_on_host_accepted": True,
        "backup_password_directory": str(directory / "passwords"),
        "backup_environment": {"AWS_SECRET_ACCESS_KEY": STORE_SECRET},
    }
    programs = cores.programs(line)
    shop = DatabaseContainer(f"{prefix}-shop-db", environment={"POSTGRES_PASSWORD": "p", "POSTGRES_DB": "shop"})
    with agent_set_aside(), running(shop):
        shop.sql(ROWS, "shop")
        shop.sql(f'CREATE DATABASE "{ODD}"', "shop")
        controller = Controller(directory, HOST, variables, programs=programs)
        yield Site(controller, shop, shop.fingerprint("shop"))


def test_every_playbook_can_be_read(line: str) -> None:
    programs = cores.programs(line)
    playbooks = sorted(path.name for path in (CHECKOUT / "playbooks").glob("*.yml"))
    done = subprocess.run(
        [programs / "ansible-playbook", "--syntax-check", "--inventory=localhost,", *playbooks],
        cwd=CHECKOUT / "playbooks",
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "does not support Ansible version" not in done.stderr


@pytest.mark.thorough
def test_a_host_is_deployed_backed_up_restored_and_left(site: Site) -> None:
    """Each step on the shoulders of the one before, as in a host's life."""
    play, shop = site.controller.play, site.shop.name

    assert play("site", "--check", "--diff").recap(HOST)["failed"] == 0
    play("site")
    assert play("site").recap(HOST)["changed"] == 0
    _configuration_has_numbers(site.controller.directory / "backup/config/config.json")

    assert f"{ODD} " in play("backup").output
    assert len(site.verb("snapshots", f"--db={shop}")["snapshots"]) == 2

    site.shop.sql("DELETE FROM goods", "shop")
    play("restore", "-e", f"db={shop}", "-e", "database=shop", "-e", f"confirm={shop}", "-e", "keep_old=true")
    assert site.shop.fingerprint("shop") == site.fingerprint

    play("check")
    play("prune")
    play("drill", "-e", f"db={shop}", "-e", "database=shop")
    page = site.controller.directory / "status.html"
    assert "1 host: 1 safe." in play("status", "-e", f"report={page}").output
    assert shop in page.read_text()


@pytest.mark.thorough
def test_its_password_is_changed_and_stands_on_a_page(site: Site) -> None:
    file = site.controller.directory / f"passwords/{HOST}.password"
    before = file.read_text()

    site.controller.play("rotate_password")
    assert file.read_text() != before

    page = site.controller.directory / "kit.html"
    site.controller.play("recovery_kit", "-e", f"kit={page}", "-e", "with_credentials=true")
    assert HOST in page.read_text()


@pytest.mark.thorough
def test_in_the_end_the_agent_goes_and_the_repository_stays(site: Site) -> None:
    run = site.controller.play("site", "-e", "backup_state=absent")

    assert "no longer has an agent" in run.text
    assert docker("container", "inspect", AGENT, check=False).returncode != 0
    assert (site.controller.directory / "repository/config").exists()


@pytest.mark.thorough
def test_the_plugins_pass_their_tests(line: str) -> None:
    """Those that need nothing of the agent, whose Python may be newer than the controller's."""
    programs = cores.programs(line)
    agents = ["tests/unit/plugins/test_status_page.py", "tests/unit/roles/test_monitoring.py"]
    done = subprocess.run(
        [programs / "python", "-m", "pytest", "tests/unit/plugins", "tests/unit/roles", "--quiet", "--numprocesses=2",
         "--override-ini=cache_dir=.cache/pytest-cores", *(f"--ignore={path}" for path in agents)],
        cwd=CHECKOUT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]


def _configuration_has_numbers(file: Path) -> None:
    """The agent's configuration is the same whichever line has written it."""
    written = json.loads(file.read_text())
    assert (written["parallel"], written["check_weeks"], written["metrics_port"]) == (2, 8, 0)
    assert (written["row_counts"], written["append_only"], written["copy"]) == (True, False, None)
