# SPDX-License-Identifier: GPL-3.0-or-later
"""How the rows of a database should be ordered: by a label of its container, or by the configuration.

A label is ``auto``, ``off``, or a list of tables that stay in heap order, separated by commas, while the others are ordered. It
takes precedence over the configuration; tables that either names stay in heap order. A table is ``schema.table``, in one
database alone ``database/schema.table``, and in the configuration ``container/database/schema.table`` as well; ``*`` and
``?`` stand for anything in each part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from scalr_backup.core.config import Config
from scalr_backup.core.model import Container
from scalr_backup.core.new_data import NO_HISTORY, OrderHistory
from scalr_backup.core.row_order import OrderWish, table_pattern
from scalr_backup.core.units import printable

LABEL = "scalr.backup.row-order"
# Whoever starts a container writes its labels.
_LONGEST_LABEL = 4096


def order_wish(config: Config, container: Container, database: str, history: OrderHistory = NO_HISTORY) -> OrderWish:
    """What is wanted of one database, by what past nights say of it.

    Where the label makes no sense, that is why nothing is ordered: what its author meant to leave alone is left alone.
    """
    if why := misread_label(container):
        return OrderWish(why_not=why)
    said = container.labels.get(LABEL, "").strip()
    is_on = config.row_order == "auto" if said == "" else said != "off"
    if not is_on:
        return OrderWish(why_not=f"the label {LABEL} is off" if said else "backup_row_order is off")
    if why := history.why_not(container.name, database):
        return OrderWish(why_not=why)
    labelled = [] if said in ("", "auto") else said.split(",")
    return OrderWish(
        exceptions=(
            *_of_database(config.row_order_except, container.names, database),
            *_of_database(labelled, container.names, database),
        ),
        least_bytes=config.row_order_least_bytes,
        before=history.before(container.name, database),
        sorts_at_once=config.parallel,
        nearly_full_percent=config.nearly_full_percent,
    )


def misread_label(container: Container) -> str | None:
    """The sentence about a label that makes no sense; None where it does, or there is none."""
    said = container.labels.get(LABEL, "").strip()
    if said in ("", "auto", "off"):
        return None
    try:
        if len(said) > _LONGEST_LABEL:
            raise ValueError(f"it is longer than {_LONGEST_LABEL} characters")
        for pattern in said.split(","):
            table_pattern(pattern, most_parts=2)
    except ValueError as error:
        return (
            f"{container.name}: the label {LABEL} is invalid: {printable(str(error))}; it must be auto, off, or tables "
            "such as public.events,app/audit.*. Its rows stay in heap order."
        )
    return None


def _of_database(patterns: Sequence[str], containers: Iterable[str], database: str) -> list[str]:
    """The patterns of tables that are about one database, without its name."""
    found = []
    for pattern in patterns:
        container, of, table = table_pattern(pattern)
        if fnmatchcase(database, of) and any(fnmatchcase(name, container) for name in containers):
            found.append(table)
    return found
