"""What all layers of the tests share: where the checkout is, the order in which they run, and what runs beside what."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

CHECKOUT = Path(__file__).resolve().parent.parent
# Modules of Ansible that tests start on this machine are compiled once; molecule's machines mount the same directory.
COMPILED = CHECKOUT / "tests" / "support" / "compiled"

# From the cheapest to the dearest; a broken unit test is reported before the minutes that follow it.
LAYERS = ("unit", "integration", "end_to_end", "lint")

# Where workers share the tests, the dearest go first and the many cheap ones fill up, so that all workers end together.
# Groups in the order of their minutes; one that is not among them is as dear as its layer.
DEAREST = (
    "this machine's agent",
    "tests/end_to_end/test_molecule.py",
    "tests/integration/test_agent_restore_anywhere.py",
    "tests/integration/test_agent_restore.py",
    "tests/integration/test_agent_restore_interrupted.py",
    "tests/integration/test_fidelity.py",
    "tests/integration/test_agent_drill.py",
    "tests/integration/test_append_only.py",
    "tests/integration/test_stores.py",
    "tests/integration/test_socket_proxy.py",
    "tests/end_to_end/test_drill_timer.py",
    "tests/integration/test_agent_backup.py",
    "tests/integration/test_live_runs.py",
    "tests/integration/test_keys.py",
    "tests/unit/plugins/test_rotate.py",
)
# End-to-end tests that need no agent on this machine.
APART = ("/test_build.py", "/test_molecule.py", "/test_drill_timer.py", "/test_site.py", "/test_status_page.py")
# How nice the processes of all other groups are.
LATER = 5
DEAR_LAYERS = ("end_to_end", "integration", "lint", "unit")


def layer_of(nodeid: str) -> str:
    """Which layer a test belongs to."""
    return nodeid.split("/")[1]


def group_of(nodeid: str) -> str:
    """Name the group of a test: a worker runs a group from its first test to its last, and nobody else does.

    A file's tests share its fixtures. Most files of the end-to-end tests share the one agent that a machine has, too;
    molecule's scenarios and the drill's timers have machines of their own, and a page needs none. Tools share nothing.
    """
    path = nodeid.partition("::")[0]
    if layer_of(nodeid) == "lint":
        return nodeid
    if layer_of(nodeid) == "end_to_end" and not path.endswith(APART):
        return DEAREST[0]
    return path


def cheapest_first(nodeid: str) -> int:
    """The order of one process; a test outside the known layers runs last."""
    layer = layer_of(nodeid)
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS)


def dearest_first(nodeid: str) -> tuple[int, int]:
    """The order of workers that share the tests; a test outside the known layers runs first."""
    group, layer = group_of(nodeid), layer_of(nodeid)
    return (
        DEAREST.index(group) if group in DEAREST else len(DEAREST),
        DEAR_LAYERS.index(layer) if layer in DEAR_LAYERS else -1,
    )


def pytest_configure() -> None:
    """Whatever the tests start inherits where to find what was compiled before."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(COMPILED), os.environ.get("PYTHONPATH")]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the layers, and keep pytest's own order inside each."""
    shared = hasattr(config, "workerinput")
    items.sort(key=lambda item: dearest_first(item.nodeid) if shared else cheapest_first(item.nodeid))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What shares this machine's one agent runs one after the other, and the whole run takes as long: it goes first."""
    if hasattr(item.config, "workerinput"):
        wanted = 0 if group_of(item.nodeid) == DEAREST[0] else LATER
        if os.getpriority(os.PRIO_PROCESS, 0) != wanted:
            with suppress(PermissionError):  # only root goes back
                os.setpriority(os.PRIO_PROCESS, 0, wanted)


class GroupScheduling(LoadScopeScheduling):
    """Hands out groups in their order.

    Not xdist's own ``--dist=loadgroup``: that would write the group's name behind the name of every test, and a name
    out of the summary could not be given to pytest again.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Whoever shares the tests among workers gets the groups."""
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout."""
    return CHECKOUT
