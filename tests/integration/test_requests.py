# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests a pass makes to a store that bills each: at most as many as docs/stores.md says, by a real S3 server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import CHECKOUT
from tests.support.containers import AgentContainer, DatabaseContainer, docker
from tests.support.requests_counted import CountingProxy, counted
from tests.support.stores import store_network

pytestmark = pytest.mark.timeout(300)

# As if the agent had done by the last night at the same time what it does once a day.
A_DAY_LATER = """
import json
from datetime import datetime, timedelta

path = "/var/lib/scalr-backup/state.json"
document = json.load(open(path))
for record in (*document["maintenance"].values(), document["repository"]):
    for name in {"time", "last_success", "sized"} & record.keys():
        record[name] = (datetime.fromisoformat(record[name]) - timedelta(days=1)).isoformat()
json.dump(document, open(path, "w"))
"""
KINDS = ("PUT", "LIST", "GET", "DELETE")


def figures_of_the_page() -> dict[str, dict[str, int]]:
    """The table of docs/stores.md: the requests of each kind by the kind of pass."""
    text = (CHECKOUT / "docs/stores.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (an? [^|]+?) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    return {name: dict(zip(KINDS, map(int, counts), strict=True)) for name, *counts in rows}


@dataclass
class House:
    """An agent behind the proxy, and its database of one table."""

    agent: AgentContainer
    database: DatabaseContainer
    proxy: CountingProxy
    rows: int = 0

    def add_rows(self, count: int) -> None:
        """New data, which shares nothing with the old."""
        last, self.rows = self.rows, self.rows + count
        self.database.sql(
            f"INSERT INTO orders SELECT i, md5(i::text) FROM generate_series({last + 1}, {self.rows}) AS i"
        )

    def let_a_day_go_by(self) -> None:
        docker("exec", "-i", self.agent.name, "/opt/scalr-backup/bin/python", "-", stdin=A_DAY_LATER)

    def back_up(self) -> tuple[Counter[str], dict[str, Any]]:
        """A nightly pass: the requests of each kind, and what it came to."""
        self.proxy.clear()
        done = self.agent.ok("backup", "--reason", "nightly")
        # A HEAD costs what a GET does.
        return self.proxy.counts + Counter(GET=self.proxy.counts["HEAD"]), done


@pytest.fixture(scope="module")
def house(
    agent_image: str,
    prefix: str,
    make_database: Callable[..., DatabaseContainer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    database = make_database("orders")
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, what text)")
    agent = AgentContainer(tmp_path_factory.mktemp("agent") / "agent", [f"{prefix}-*-db"], agent_image)
    with store_network() as network:
        s3 = network.s3()
        s3.make_bucket()
        try:
            agent.start()
            network.connect(agent.name)
            with counted(network.name, s3.container, 8333) as proxy:
                agent.configure(
                    repository=proxy.repository("backups/web1"), keep={"last": 2, "daily": 0, "weekly": 0, "monthly": 0}
                )
                agent.set_environment(**s3.environment("least"))
                agent.ok("init")
                yield House(agent, database, proxy)
        finally:
            agent.remove()


def test_a_pass_asks_for_no_more_than_is_documented(house: House) -> None:
    limits, seen, removed = figures_of_the_page(), {}, {}

    def back_up(name: str) -> None:
        seen[name], done = house.back_up()
        removed[name] = len(done["retention"]["removed"])

    house.add_rows(100_000)
    back_up("a first pass")
    back_up("a pass with nothing new")
    # The dump before the last one, and the manifest of its pass.
    house.add_rows(100_000)
    back_up("an hourly pass")
    house.let_a_day_go_by()
    house.add_rows(100_000)
    back_up("a nightly pass")

    assert removed == {"a first pass": 0, "a pass with nothing new": 0, "an hourly pass": 2, "a nightly pass": 2}
    assert limits.keys() == seen.keys(), "docs/stores.md tells of each"
    too_many = {
        f"{name}: {kind}": (counts[kind], limits[name][kind])
        for name, counts in seen.items()
        for kind in KINDS
        if counts[kind] > limits[name][kind]
    }
    assert not too_many, seen
    # What the documentation says is what it costs, and not what it may have cost once.
    assert sum(sum(limit.values()) for limit in limits.values()) <= 1.15 * sum(
        counts[kind] for counts in seen.values() for kind in KINDS
    )


@pytest.mark.thorough
def test_only_the_pass_of_the_night_prunes(house: House) -> None:
    """A prune is what lists the packs."""

    def packs_listed() -> bool:
        house.back_up()
        return any(line.startswith("LIST") and line.endswith("/data/") for line in house.proxy.log)

    house.add_rows(1000)
    assert not packs_listed()
    house.let_a_day_go_by()
    assert packs_listed()
    assert not packs_listed()
