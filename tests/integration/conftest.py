"""Fixtures of the integration tests: the agent's image, agents and databases under names of their own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, build_agent_image, with_repository
from tests.support.turns import nothing_labelled


@pytest.fixture(scope="session")
def agent_image() -> str:
    """The agent's image, built from the checkout."""
    return build_agent_image()


@pytest.fixture(scope="module")
def prefix() -> str:
    """The beginning of this module's container names, so that its agent sees nobody else's databases.

    It does not match what the role backs up by default: the demonstration may run at the same time.
    """
    return f"test-{secrets.token_hex(3)}"


@pytest.fixture(scope="module")
def make_database(prefix: str) -> Iterator[Callable[..., DatabaseContainer]]:
    """Start databases whose names the module's agents match; all are removed at the end."""
    made: list[DatabaseContainer] = []

    def make(name: str, **settings: Any) -> DatabaseContainer:
        database = DatabaseContainer(f"{prefix}-{name}-db", **settings)
        made.append(database)
        return database.start()

    yield make
    for database in made:
        database.remove()


@pytest.fixture
def unlabelled() -> Iterator[None]:
    """No other test's container is one of every agent's by its label: the test may look at all that there is."""
    with nothing_labelled():
        yield


@pytest.fixture
def agent(agent_image: str, prefix: str, tmp_path: Path) -> Iterator[AgentContainer]:
    """An agent with an empty local repository, which sees the module's databases."""
    container = AgentContainer(tmp_path / "agent", [f"{prefix}-*-db"], agent_image)
    with with_repository(container):
        yield container


@pytest.fixture(scope="module")
def keeper(agent_image: str, prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentContainer]:
    """The one agent of a whole module, which sees the module's databases."""
    container = AgentContainer(tmp_path_factory.mktemp("keeper"), [f"{prefix}-*-db"], agent_image)
    with with_repository(container):
        yield container
