# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass would do about the order of rows, shown in advance: one look at each database, within limits.

It takes one connection of a server at a time, waits for no lock, and what it cannot find out concerns that database alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from scalr_backup.actions.backup.order import choose, volumes_of
from scalr_backup.actions.discovery import Discovery, side_by_side
from scalr_backup.core.config import Config
from scalr_backup.core.errors import InterruptedRunError
from scalr_backup.core.left_out import relation_name
from scalr_backup.core.model import Cluster, Failure
from scalr_backup.core.new_data import NO_HISTORY, OrderHistory
from scalr_backup.core.order_answers import RowOrderAnswer
from scalr_backup.core.order_wish import order_wish
from scalr_backup.core.row_order import HeapTable, OrderedTable, OrderPlan, OrderWish
from scalr_backup.core.text import readable
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import ANSWER_SECONDS, LOOK, converted_or_raw

# The databases of one cluster have so many times as long as one look at the cluster.
_PATIENT = 5
# No table is locked by it: the size of one that somebody has just taken for himself may be waited for, for a moment.
_LOCK_WAIT = "-c lock_timeout=1000"

RowOrders = dict[tuple[str, str], RowOrderAnswer]


def row_orders(
    config: Config, discovery: Discovery, clusters: Sequence[Cluster], history: OrderHistory = NO_HISTORY
) -> RowOrders:
    """The order of rows of each database, by container and database.

    Raises InterruptedRunError.
    """

    def of_cluster(cluster: Cluster) -> RowOrders:
        postgres = discovery.postgres(
            cluster.container, cluster.credentials, LOOK, seconds=float(_PATIENT * config.look_seconds)
        )
        name = cluster.container.name
        return {
            (name, one.name): _look(postgres, one.name, order_wish(config, cluster.container, one.name, history))
            for one in cluster.databases
        }

    return {key: answer for found in side_by_side(of_cluster, clusters) for key, answer in found.items()}


def _look(postgres: Postgres, database: str, wish: OrderWish) -> RowOrderAnswer:
    def plan(raw: bool) -> OrderPlan:
        with postgres.session(database, _LOCK_WAIT, silence_seconds=ANSWER_SECONDS, watched=False, raw=raw) as session:
            session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")
            return choose(session, wish, volumes_of(postgres))

    try:
        return answer(OrderPlan(why_not=wish.why_not) if wish.why_not else converted_or_raw(plan))
    except InterruptedRunError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the others are looked at)
        return {"ordered": [], "heap": [], "why_not": None, "error": Failure.of(error).record}


def answer(plan: OrderPlan) -> RowOrderAnswer:
    """A plan as the JSON contract shows it; an error takes its place where there is none."""
    return {
        "ordered": [
            {
                "table": _name(table),
                "bytes": table.bytes,
                "key": [readable(column) for column in table.key],
                "descending": table.descending,
                "index": readable(table.index),
                "scan": table.scan.value,
                "reason": readable(table.reason),
            }
            for table in plan.ordered
        ],
        "heap": [
            {
                "table": _name(table),
                "bytes": table.bytes,
                "reason": readable(table.reason),
                "cure": None if table.cure is None else readable(table.cure),
            }
            for table in plan.heap
        ],
        "why_not": plan.why_not,
        "error": None,
    }


def _name(table: OrderedTable | HeapTable) -> str:
    return readable(relation_name(table.namespace, table.name))
