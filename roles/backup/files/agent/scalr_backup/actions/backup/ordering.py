# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a dump is to be in order, and what came of it: for the producer, the counts and the manifest."""

from __future__ import annotations

from collections.abc import Mapping

from scalr_backup.actions.backup.order import choose, volumes_of
from scalr_backup.actions.backup.producer import Report
from scalr_backup.core.errors import InterruptedRunError, ScalrBackupError
from scalr_backup.core.records.row_order import RowOrderRecord
from scalr_backup.core.row_order import HeapTable, OrderedTable, OrderPlan, OrderWish
from scalr_backup.core.text import readable
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.queries import enter_exported_snapshot, relation_of
from scalr_backup.tools.postgres.session import ANSWER_SECONDS

# Why a dump is a plain one from the beginning.
SPARING = OrderWish(why_not="this dump takes no more connections than it needs")
RAW = OrderWish(why_not="some of its names have no equivalent in UTF8")
AGAIN = OrderWish(why_not="it could not be read in order")


def plan_order(
    postgres: Postgres, database: str, exported: str, size_bytes: int | None, wish: OrderWish
) -> tuple[OrderPlan, str | None]:
    """What of an exported snapshot is to be in order; and what kept us from finding out, if something did.

    That fails in a session of its own, and costs no backup. Raises InterruptedRunError.
    """
    if wish.why_not is not None:
        return OrderPlan(why_not=wish.why_not), None
    if size_bytes is not None and size_bytes < wish.least_bytes:
        return OrderPlan(), None
    try:
        with postgres.session(database, silence_seconds=ANSWER_SECONDS, watched=False) as session:
            enter_exported_snapshot(session, exported)
            return choose(session, wish, volumes_of(postgres)), None
    except InterruptedRunError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, it is no reason to have no backup)
        why = error.message if isinstance(error, ScalrBackupError) else f"{type(error).__name__}: {error}"
        return OrderPlan(why_not=f"its tables could not be examined: {why}"), why


def planned_relations(plan: OrderPlan) -> dict[str, int]:
    """The oids of the tables that are to be in order, by their names among row counts."""
    return {relation_of(table.namespace, table.name): table.oid for table in plan.ordered}


def counted_rows(report: Report) -> dict[str, int]:
    """The rows of the tables that are in order."""
    return {one["relation"]: one["rows"] for one in report.ordered}


def order_record(plan: OrderPlan, report: Report) -> RowOrderRecord:
    """What the manifest says of the order of a dump's rows."""
    left: Mapping[str, str] = dict(report.left_in_heap)
    done = counted_rows(report)
    why_not = report.plain or plan.why_not
    heap: list[tuple[HeapTable | OrderedTable, str, str | None]] = [(one, one.reason, one.cure) for one in plan.heap]
    for table in plan.ordered:
        relation = relation_of(table.namespace, table.name)
        if relation not in done:
            heap.append((table, left.get(relation, why_not or "it was not read in order"), None))
    return {
        "ordered": [
            {**one, "key": [readable(column) for column in one["key"]], "index": readable(one["index"])}
            for one in report.ordered
        ],
        "heap": [
            {
                "relation": relation_of(table.namespace, table.name),
                "bytes": table.bytes,
                "reason": readable(reason),
                "cure": cure and readable(cure),
            }
            for table, reason, cure in heap
        ],
        "why_not": why_not and readable(why_not),
    }
