# SPDX-License-Identifier: GPL-3.0-or-later
"""One exception class per failure; each knows its code in the JSON contract and its exit code.

A message is one sentence for a tired operator: what is wrong, where, and what to do.
It never holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar

from scalr_backup.core.records.failures import ObjectRecord
from scalr_backup.core.records.row_order import DamagedIndexRecord


class ExitCode(IntEnum):
    """Exit codes of every verb."""

    GOOD = 0
    FAILED = 1
    USAGE = 2
    SOME_DATABASES_FAILED = 3


# Codes that no class has: made where several failures become one.
COMPOSED = {
    "checks_failed": "The verb `doctor` found a check that failed.",
    "container_paused": "A matching container is paused, and its databases cannot be saved.",
    "container_restarting": "A matching container keeps restarting, or stopped while it was inspected.",
    "databases_failed": "A pass did not save every database.",
    "internal": "An unexpected error; if it concerned one database or container, the others were processed.",
    "manifest": "The dumps are saved, the manifest is not.",
    "not_safe": "The verb `status` found a failure.",
    "nothing_saved": "A pass saved nothing although there was something to save.",
    "retention": "The dumps are saved, old snapshots could not be removed.",
    "unreachable": "A matching container runs, and its PostgreSQL does not answer or refuses the login.",
}


class ScalrBackupError(Exception):
    """The base of every failure that the agent explains by itself."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    @property
    def message(self) -> str:
        """The sentence that the operator reads."""
        return str(self)


class ConfigurationError(ScalrBackupError):
    """The configuration is not valid."""

    code = "configuration"
    exit_code = ExitCode.USAGE


class UsageError(ScalrBackupError):
    """A verb was called with options that do not fit together."""

    code = "usage"
    exit_code = ExitCode.USAGE


class UnknownDatabaseError(ScalrBackupError):
    """No database container or database has this name."""

    code = "unknown_database"


class PartlyUnknownError(UnknownDatabaseError):
    """Of several names, this host has a database container for some, and none for others: nothing was done."""

    code = "partly_unknown"


class UnknownSnapshotError(ScalrBackupError):
    """The repository has no such snapshot of this database."""

    code = "unknown_snapshot"


class UnknownKeyError(ScalrBackupError):
    """The repository has no such key."""

    code = "unknown_key"


class AmbiguousSnapshotError(ScalrBackupError):
    """A snapshot prefix fits several snapshots."""

    code = "ambiguous_snapshot"


class ContainerStoppedError(ScalrBackupError):
    """The container exists and does not run."""

    code = "container_stopped"


class ContainerGoneError(ScalrBackupError):
    """The container vanished a moment ago."""

    code = "container_gone"


class DockerUnreachableError(ScalrBackupError):
    """The Docker Engine does not answer."""

    code = "docker_unreachable"


class CommandLostError(DockerUnreachableError):
    """A command's outcome is unknown, because its container was stopped in the meantime."""

    code = "command_lost"


class LateAnswerError(DockerUnreachableError):
    """A container did not answer in time."""

    code = "late_answer"


class SilentCommandError(LateAnswerError):
    """A command in a container was silent for longer than allowed."""


class CallRefusedError(ScalrBackupError):
    """The socket proxy does not let this call through to the Docker Engine."""

    code = "call_refused"


class ContainerRefusedError(ScalrBackupError):
    """The container has power over the host, so no command is run in it."""

    code = "container_refused"


class PostgresError(ScalrBackupError):
    """PostgreSQL refused something, in its own words."""

    code = "postgres"

    def __init__(self, message: str, sqlstate: str | None = None, reporter: str | None = None) -> None:
        """*sqlstate* is the server's own code for it (PostgreSQL documentation, "Error Codes"), where it gave one.

        *reporter* is the function of the server, or of an extension, that reported it.
        """
        super().__init__(message)
        self.sqlstate = sqlstate
        self.reporter = reporter


class InvalidAnswerError(PostgresError):
    """A container's answer cannot be understood, or is larger than allowed."""

    code = "invalid_answer"


class CredentialsError(ScalrBackupError):
    """The credentials of a database container cannot be read."""

    code = "credentials"


class DumpError(ScalrBackupError):
    """A dump did not reach the repository completely; no snapshot of it remains."""

    code = "dump_failed"

    def __init__(self, message: str, *, begun: bool = True, waited_for: str | None = None) -> None:
        """*begun* says that pg_dump had written something, and *waited_for* who held a lock that it needed."""
        super().__init__(message)
        self.begun = begun
        self.waited_for = waited_for


class InvalidDumpError(DumpError):
    """pg_dump's output is not an archive; reading stopped at the first wrong byte."""


class UnintelligibleDumpError(DumpError):
    """pg_dump complains endlessly, or its messages cannot be understood."""

    code = "invalid_answer"


class RowOrderError(DumpError):
    """Rows could not be read in the order of a key; those of a plain dump can be."""

    code = "row_order"

    def __init__(
        self,
        message: str,
        *,
        begun: bool = True,
        waited_for: str | None = None,
        damage: DamagedIndexRecord | None = None,
    ) -> None:
        """*damage* is the index that is to blame."""
        super().__init__(message, begun=begun, waited_for=waited_for)
        self.damage = damage


class DumpTooLargeError(DumpError):
    """A dump has more bytes than a database of that size can have."""

    code = "dump_too_large"


class UnreadableArchiveError(ScalrBackupError):
    """The target's pg_restore cannot read this archive."""

    code = "unreadable_archive"


class UnreadableManifestError(ScalrBackupError):
    """The manifest of a run exists but cannot be read: what it records is unknown, which is not the same as nothing."""

    code = "unreadable_manifest"


class RolesNotSavedError(ScalrBackupError):
    """The databases of a cluster are saved and its roles are not, so that a restore would make them without passwords."""

    code = "roles_not_saved"


class OlderServerError(ScalrBackupError):
    """The target runs an older major version of PostgreSQL than the dump's server."""

    code = "older_server"


class MissingExtensionError(ScalrBackupError):
    """The target's image lacks an extension that the snapshot needs."""

    code = "missing_extension"


class MissingRoleError(ScalrBackupError):
    """The snapshot needs a role that the target lacks and that cannot be created."""

    code = "missing_role"


class PreparedTransactionsError(ScalrBackupError):
    """A prepared transaction holds the database."""

    code = "prepared_transactions"


class UnknownRunError(ScalrBackupError):
    """No restore with this id kept what it replaced."""

    code = "unknown_run"


class NoRoomError(ScalrBackupError):
    """The volume has no space for a second copy of the database."""

    code = "no_room"


class NoRoomLeftError(ScalrBackupError):
    """A restore gave up because the live server would have run out of space; the half-made database is dropped."""

    code = "no_room_left"


class RoomUnknownError(ScalrBackupError):
    """A volume's free space cannot be determined, so nothing is written to it."""

    code = "room_unknown"


class NotConfirmedError(ScalrBackupError):
    """A restore was requested but not confirmed."""

    code = "not_confirmed"


class RestoreError(ScalrBackupError):
    """A restore failed before the swap; the live database is as it was."""

    code = "restore_failed"


class IncompleteError(RestoreError):
    """A database is restored and live, but lacks what it reads from other databases."""

    code = "restore_incomplete"


class UnrestorableError(RestoreError):
    """The archive holds objects that this server cannot make; each with what is known of it."""

    def __init__(self, message: str, objects: Sequence[ObjectRecord] = ()) -> None:
        super().__init__(message)
        self.objects = list(objects)


class VerificationError(ScalrBackupError):
    """The restored rows are not those that the manifest counted; nothing was swapped."""

    code = "verification_failed"


class NotTriedError(ScalrBackupError):
    """A drill that could not be tried: it says nothing about the backup, neither good nor bad."""

    exit_code = ExitCode.USAGE


class DrillRefusedError(NotTriedError):
    """The Docker Engine, or its proxy, does not let this agent create containers."""

    code = "drill_refused"


class NoMemoryError(NotTriedError):
    """The host has too little memory for a drill, which keeps every row in memory."""

    code = "no_memory"


class NoImageError(NotTriedError):
    """The image for a drill is not on this host and cannot be pulled."""

    code = "no_image"


class ThrowawayError(NotTriedError):
    """The throwaway container of a drill cannot be created, would write to a disk, or its server does not answer."""

    code = "throwaway_container"


class DamagedRelationsError(ScalrBackupError):
    """pg_amcheck found damage in a restored database, or could not check it."""

    code = "amcheck_failed"


class AssertionsError(ScalrBackupError):
    """A restored database does not match the operator's assertions."""

    code = "assertions_failed"


class AppendOnlyError(ScalrBackupError):
    """An append-only host was asked to remove something."""

    code = "append_only"
    exit_code = ExitCode.USAGE


class ForgedSnapshotsError(ScalrBackupError):
    """Snapshots have impossible times; nothing is removed because of them."""

    code = "forged_snapshots"


class ForgedFilesError(ScalrBackupError):
    """A repository is not as its trusted place left it, beyond what a backup adds; nothing is removed."""

    code = "forged_files"


class UnfinishedLookError(ScalrBackupError):
    """Not everything new in a repository was read in time; nothing is removed."""

    code = "look_unfinished"


class TwoHostsError(ScalrBackupError):
    """Another agent backs up under this host's name into the same repository."""

    code = "two_hosts"


class CopyError(ScalrBackupError):
    """The second repository lacks what it should have."""

    code = "copy_failed"


class UnwritableRecordError(ScalrBackupError):
    """The agent's own record cannot be written: the disk of its volume is full, read-only, or not its own."""

    code = "record_unwritable"


class BusyError(ScalrBackupError):
    """Another run holds a lock that this one needs."""

    code = "busy"


class InterruptedRunError(ScalrBackupError):
    """The run was told to stop and has cleaned up after itself."""

    code = "interrupted"


class ResticError(ScalrBackupError):
    """restic failed, in its own words."""

    code = "restic"


class StalledDumpError(ResticError):
    """restic received nothing of a dump for longer than allowed."""


class ResticVersionError(ResticError):
    """The restic on the path is too old to be trusted."""

    code = "restic_version"


class WrongPasswordError(ResticError):
    """The repository does not open with this password."""

    code = "wrong_password"


class KeyInUseError(ScalrBackupError):
    """A repository key that somebody may still need was about to be removed."""

    code = "key_in_use"


class TooManyKeysError(ResticError):
    """The repository has more keys than restic tries."""

    code = "too_many_keys"


class RepositoryMissingError(ResticError):
    """There is no repository at this place."""

    code = "repository_missing"


class RepositoryUnreachableError(ResticError):
    """The repository's store does not answer."""

    code = "repository_unreachable"


class UnreadableRepositoryError(ResticError):
    """The repository holds a file that restic did not write, or that is damaged."""

    code = "repository_unreadable"


class RepositoryRefusedError(RepositoryUnreachableError):
    """The repository's store answers and refuses: a key, permission, clock or certificate is wrong."""

    code = "repository_refused"


class RepositoryLockedError(ResticError):
    """Another program's lock on the repository was not released in time."""

    code = "repository_locked"


# Codes under which earlier versions recorded drills that could not be tried as failures.
CODES_OF_DRILLS_NOT_TRIED = frozenset(
    kind.code for kind in (NoMemoryError, NoImageError, ThrowawayError, CallRefusedError, DockerUnreachableError)
)
