# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to objects that cannot be created as they were saved: they stop the restore, or it continues without them.

It goes on only where the operator says so, and never without rows. A condition that rows do not fulfil any more is taken
away while they are loaded and is NOT VALID afterwards. A function that finds things by a search path has one meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scalr_backup.core.archive.checks import violated_check
from scalr_backup.core.archive.head import ArchiveHead, TocEntry
from scalr_backup.core.archive.mending import (
    LEFT_OUT,
    MENDED,
    NOT_VALID,
    UNREACHABLE,
    as_not_valid,
    described,
    is_unreachable,
    may_be_left_out,
    needed,
    paths,
)
from scalr_backup.core.archive.trouble import Trouble
from scalr_backup.core.errors import PostgresError, RestoreError, UnrestorableError
from scalr_backup.core.records.failures import ObjectRecord
from scalr_backup.core.units import counted
from scalr_backup.tools.postgres.cluster import Postgres

# So many of those objects that cannot be made are named in one sentence.
_MOST_NAMED = 5


@dataclass(frozen=True)
class Loosening:
    """What is changed in a half-made database before its rows come, and afterwards; and what is told of it."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    record: ObjectRecord


class LoosenedError(RestoreError):
    """Rows that could not be loaded can be, once more is loosened: the database is to be filled again."""


class Lenience:
    """The fate of one database's objects; *skip* tells whether the restore may go on without some.

    One that is *alone* has no other database beside it, and goes on without what reads from another.
    """

    def __init__(self, database: str, *, skip: bool, alone: bool = False) -> None:
        self.skip = skip
        self._alone = alone
        self._database = database
        self._left_out: list[ObjectRecord] = []
        self._gone: list[TocEntry] = []
        # The statements that make what another database is needed for.
        self.unreachable: list[str] = []
        self._loosened: list[Loosening] = []

    def begin(self) -> None:
        """The database is filled from the beginning."""
        self._left_out, self._gone, self.unreachable = [], [], []

    def goes_on(self, head: ArchiveHead) -> bool:
        """Whether the pg_restore that loads the data is to go on after an error.

        Of an archive of an unknown format it makes what follows the data as well, which may read from another database.
        """
        return self.skip or (self._alone and not head.is_known)

    @property
    def before(self) -> list[str]:
        """What to run when the tables are there and have no rows: of what several tables have in common, once."""
        return list(dict.fromkeys(statement for one in self._loosened for statement in one.before))

    @property
    def after(self) -> list[str]:
        """What to run when all is there."""
        return list(dict.fromkeys(statement for one in self._loosened for statement in one.after))

    @property
    def objects(self) -> list[ObjectRecord]:
        """What is not as it was saved."""
        return [one.record for one in self._loosened] + self._left_out

    def judge_loaded(self, found: Sequence[Trouble], head: ArchiveHead, postgres: Postgres, new: str) -> None:
        """Decide about what could not be made before the data, or loaded; of an archive of an unknown format, about all.

        Raises LoosenedError where another try may load all rows, UnrestorableError where none does.
        """
        if not head.is_known:
            # It does not tell what comes before the data and what after it.
            rest = [one for one in found if one.entry.desc != "TABLE DATA"]
            self._loosen([one for one in found if one.entry.desc == "TABLE DATA"], head)
            self.judge_finished(rest, head, postgres, new)
            return
        self._loosen(needed(found, self._gone), head, found)
        self._leave_out(found, [described(one, head, LEFT_OUT) for one in found])

    def _loosen(self, rows: Sequence[Trouble], head: ArchiveHead, found: Sequence[Trouble] = ()) -> None:
        """Find out what is in the way of these, which a restore may not do without, or refuse *found*.

        What was loosened before and is in the way once more, is not loosened for ever.
        """
        if not self.skip and (found or rows):
            raise self.refusal(found or rows, head)
        done = set(self.before)
        loosenings = [_loosening(one, head) for one in rows]
        if any(one is None or done.issuperset(one.before) for one in loosenings):
            raise self.refusal(rows, head)
        self._loosened += [one for one in loosenings if one is not None]
        if rows:
            raise LoosenedError(rows[0].sentence)

    def _leave_out(self, found: Sequence[Trouble], records: Sequence[ObjectRecord]) -> None:
        self._left_out += records
        self._gone += [one.entry for one, record in zip(found, records, strict=True) if record["outcome"] == LEFT_OUT]

    def judge_finished(self, found: Sequence[Trouble], head: ArchiveHead, postgres: Postgres, new: str) -> None:
        """Decide about what could not be made after the data.

        Raises UnrestorableError.
        """
        if self._alone:
            found = self._without_others(found, head, postgres, new)
        needs = needed(found, self._gone)
        if found and (needs or not self.skip):
            raise self.refusal(needs or found, head)
        self._leave_out(found, [described(one, head, _make_otherwise(one, head, postgres, new)) for one in found])

    def _without_others(
        self, found: Sequence[Trouble], head: ArchiveHead, postgres: Postgres, new: str
    ) -> list[Trouble]:
        """What remains of troubles without those that come from a connection to somewhere else."""
        remain = []
        for one in found:
            if may_be_left_out(one.entry) and _is_unreachable(one, postgres, new):
                self._left_out.append(described(one, head, UNREACHABLE))
                self.unreachable.append(_statement(one))
            else:
                remain.append(one)
        return remain

    def refusal(self, found: Sequence[Trouble], head: ArchiveHead, words: str | None = None) -> UnrestorableError:
        """What an archive holds and this server cannot make, the first few of them, and what would mend it."""
        objects = [described(one, head) for one in found]
        more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        named = "; ".join(one.sentence for one in found[:_MOST_NAMED])
        sentence = words or f"{counted(len(found), 'object')} of {self._database} cannot be restored: {named}{more}"
        if mends := [one["mend"] for one in objects[:_MOST_NAMED] if one["mend"]]:
            sentence = f"{sentence.rstrip('.')}. In the database that was backed up, this fixes it: {' '.join(mends)}"
        if not self.skip and all(_loosening(one, head) for one in needed(found, self._gone)):
            sentence = f"{sentence.rstrip('.')}. To restore without it, use on_error=skip."
        return UnrestorableError(sentence, objects)


def _loosening(trouble: Trouble, head: ArchiveHead) -> Loosening | None:
    """What lets the rows of a table be loaded nevertheless; None where nothing is known to."""
    if trouble.entry.desc != "TABLE DATA":
        return None
    if check := violated_check(trouble, head):
        return Loosening(check.drops, check.adds, described(trouble, head, NOT_VALID))
    if found := paths(trouble, head):
        return Loosening(
            tuple(one.set_path for one in found),
            tuple(one.reset_path for one in found),
            described(trouble, head, MENDED),
        )
    return None


def _make_otherwise(trouble: Trouble, head: ArchiveHead, postgres: Postgres, new: str) -> str:
    """Make an object in another way than the archive does, where there is one; what became of it."""
    found = paths(trouble, head)
    if not_valid := as_not_valid(trouble.entry):
        return NOT_VALID if _alter(postgres, new, [not_valid]) else LEFT_OUT
    if not found or not trouble.entry.defn:
        return LEFT_OUT
    is_made = _alter(postgres, new, [*(one.set_path for one in found), _statement(trouble)])
    _alter(postgres, new, [one.reset_path for one in found])
    return MENDED if is_made else LEFT_OUT


def _alter(postgres: Postgres, new: str, statements: Sequence[str]) -> bool:
    try:
        postgres.alter(new, statements)
    except PostgresError:
        return False
    return True


def _is_unreachable(trouble: Trouble, postgres: Postgres, new: str) -> bool:
    """Whether what keeps an object from being made lies somewhere else; pg_restore does not tell its code."""
    if not (statement := _statement(trouble)):
        return False
    try:
        postgres.alter(new, [statement])
    except PostgresError as error:
        return is_unreachable(error.sqlstate, error.reporter)
    return False


def _statement(trouble: Trouble) -> str:
    return (trouble.entry.defn or "").strip().rstrip(";")


def in_words(one: ObjectRecord) -> str:
    """What became of an object, for people."""
    fate = {
        NOT_VALID: "restored, but its condition does not hold for all rows (NOT VALID)",
        MENDED: "restored with a search path that it does not set itself",
        UNREACHABLE: "left out, because it reads from another database that could not be reached (a drill has only this one)",
    }.get(one["outcome"], "left out")
    mends = f" In the database that was backed up, this fixes it: {one['mend']}" if one["mend"] else ""
    return f"{one['object']} was {fate}: {one['cause'].rstrip('.')}.{mends}"
