# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository, through restic: each operation on it, and its arguments.

Quirks that shape this file:

* A producer that prints nothing and exits 0 becomes an empty snapshot with exit code 3; it is forgotten at once.
  A host that only adds cannot do that: what reads snapshots takes no empty one for a backup.
* restic takes the credentials of both repositories of a copy from one environment (``stores.beside``).
* ``forget`` of restic before 0.19 may exit 0 although a removal failed; so the snapshots are listed after one of those, and
  after one whose version nobody has asked for.
* ``backup`` looks for a parent snapshot among all of them, which is of no use: what a producer prints is read in any case.
* Retention must be asked for the host by name: a container's own host name is random (restic issue 4380).
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from scalr_backup.core.errors import DumpError, InterruptedRunError, ResticError, ResticVersionError, ScalrBackupError
from scalr_backup.core.memory_file import in_memory
from scalr_backup.core.model import Key, RepositorySize, Saved, Snapshot
from scalr_backup.tools.restic import stores
from scalr_backup.tools.restic.calls import EXIT_INCOMPLETE, OF_CONNECTION, RETRY_LOCK_SECONDS, WAIT_FOR_LOCK, Caller
from scalr_backup.tools.restic.key_hint import remember_key
from scalr_backup.tools.restic.messages import (
    Done,
    failure_text,
    parse_key,
    parse_progress,
    parse_snapshot,
    parse_time,
    parse_version,
)
from scalr_backup.tools.restic.process import BackupWatch, DumpStream, end_writer, kept_words
from scalr_backup.tools.restic.version import Version, version_of
from scalr_backup.tools.store.access import PATIENCE, Access
from scalr_backup.tools.store.files import Files, MissingFileError
from scalr_backup.tools.store.opening import open_files
from scalr_backup.tools.store.s3 import S3Files

OLDEST_VERSION = (0, 17, 0)
# The first one whose forget fails where a removal did (restic issue 5233).
_TELLS_FAILED_REMOVALS = (0, 19, 0)
OWN_HOST = ""
# Seconds to open a repository: whoever asks for that waits for the answer.
_OPENING_SECONDS = 30
# Locks that are looked into; each is a call of its own, and a repository has one or none at most times.
_MOST_LOCKS = 10
# Of more ids in one command, the kernel may say that its arguments are too long (2 MiB on Linux, execve(2)).
_MOST_IDS = 5000


@dataclass(frozen=True)
class RetentionGroup:
    """What ``forget --dry-run`` decided for the snapshots of one path.

    *reasons* are restic's own words for the rules by which it keeps a snapshot, by the snapshot's id.
    """

    path: str
    keep: tuple[Snapshot, ...]
    remove: tuple[Snapshot, ...]
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in as many parts as one command each takes."""
    return (ids[start : start + _MOST_IDS] for start in range(0, len(ids), _MOST_IDS))


class Restic(Caller):
    """One repository, seen from one host."""

    def require_version(self) -> str:
        """The version of restic on the path.

        Raises ResticVersionError for one before 0.17, which has neither ``--stdin-from-command`` that can be
        trusted nor the exit codes of ``calls.py``.
        """
        said: list[str] = []

        def ask() -> Version | None:
            said.append(self._call(["version"], "asking restic for its version").strip())
            return parse_version(said[0])

        memory = self._cache / "restic-version.json"
        self._version = version_of("restic", self._environment["PATH"], memory, ask)
        if self._version is None or self._version < OLDEST_VERSION:
            text = said[0] if said else ".".join(str(part) for part in self._version or ())
            raise ResticVersionError(
                f"restic 0.17.0 or newer is required, and this is {text.splitlines()[0] if text else 'none'!r}."
            )
        return ".".join(str(part) for part in self._version)

    def repository_id(self) -> str:
        """The id of the repository; the cheapest call that proves place and password.

        Raises RepositoryMissingError, WrongPasswordError or RepositoryUnreachableError.
        """
        return str(self._opened()["id"])

    def format_version(self) -> int:
        """The version of the repository's format, from 2 on compressed. Raises what ``repository_id`` raises."""
        return int(self._opened()["version"])

    def _opened(self) -> dict[str, Any]:
        limit = min(self._config.answer_seconds, _OPENING_SECONDS)
        return dict(json.loads(self._call(["cat", "config", "--no-lock"], "opening the repository", limit)))

    def init(self, copy_of: Restic | None = None) -> None:
        """Make a repository of format 2, the one that compresses.

        One that is to be the copy of another cuts data as that one does; else what both have would be there twice.
        """
        arguments = ["init", "--repository-version", "2"]
        if copy_of is None:
            self._call(arguments, "creating the repository")
        else:
            doing = "creating the repository of the copies"
            self._call([*arguments, "--copy-chunker-params"], doing, environment=self._beside(copy_of))

    def copy_from(self, source: Restic, ids: Sequence[str]) -> None:
        """Copy snapshots out of another repository; data that is here already is neither read nor sent again.

        Raises ConfigurationError when restic cannot be given the credentials of both.
        """
        for some in _batches(ids):
            self._maintain(["copy", *some], f"copying snapshots from {source.repository}", self._beside(source))

    def snapshots(self, host: str | None = OWN_HOST) -> list[Snapshot]:
        """A host's snapshots, this one's unless another is named, every host's for None.

        Oldest first, manifests among them.
        """
        name = self._host if host == OWN_HOST else host
        arguments = ["snapshots", "--json", "--no-lock", *(["--host", name] if name else [])]
        documents = json.loads(self._call(arguments, "listing the snapshots")) or []
        return sorted((parse_snapshot(document) for document in documents), key=lambda snapshot: snapshot.time)

    def backup(
        self,
        path: str,
        tags: Iterable[str],
        producer: Sequence[str],
        producer_environment: Mapping[str, str] | None = None,
        on_bytes: Callable[[int], None] | None = None,
        waiting: Callable[[], None] | None = None,
        stall_seconds: float | None = None,
    ) -> Saved:
        """Save what *producer* prints as a snapshot that holds the one file *path*.

        Accepted only with exit code 0 and bytes in the summary; any other snapshot is taken back at once.
        *on_bytes* is told how many bytes have been read, now and then; *waiting* is called every half second that restic
        says nothing new. The producer may print nothing for *stall_seconds*, or as long as is configured.

        Raises DumpError when the producer failed or said nothing, StalledDumpError when it prints nothing for too long, another
        ResticError when restic failed.
        """
        # By force: without a search for a parent.
        arguments = [
            "backup",
            "--json",
            "--force",
            "--host",
            self._host,
            "--stdin-filename",
            path,
            "--stdin-from-command",
        ]
        # Somebody may be pruning, for longer than this. Beyond it, waiting would look like a dump that has stalled.
        arguments += ["--retry-lock", f"{self._config.stall_seconds // 2}s"]
        for tag in tags:
            arguments += ["--tag", tag]
        watch = BackupWatch(on_bytes or (lambda _count: None), waiting or (lambda: None))
        stalls = self._config.stall_seconds if stall_seconds is None else stall_seconds
        exit_code, messages = self._stream_lines(
            [*arguments, "--", *producer], watch, producer_environment or {}, stalls
        )
        summary = watch.summary
        if exit_code == 0 and summary is not None and summary.bytes_read > 0:
            return summary
        remains = self.take_back(summary.snapshot_id) if summary is not None and summary.snapshot_id else ""
        if exit_code == 0 or (exit_code == EXIT_INCOMPLETE and summary is not None and summary.bytes_read == 0):
            raise DumpError(f"the dump was empty{remains}")
        of_producer = OF_CONNECTION.sub("", messages)
        if "subprocess" in of_producer or "command" in of_producer:
            raise DumpError(failure_text(of_producer))
        raise self.failure(exit_code, messages, "saving a snapshot")

    def backup_file(self, path: str, tags: Iterable[str], file: str) -> Saved:
        """Save a *file* of this machine as the snapshot's one file *path*, as ``backup`` does what a producer prints."""
        return self.backup(path, tags, ["cat", file])

    def forget_plan(self, reason: str, keep: Mapping[str, int | str], pinned_tag: str) -> list[RetentionGroup]:
        """What restic's policy would keep and remove of this host's snapshots with one reason, path by path."""
        arguments = ["forget", "--dry-run", "--json", "--no-lock", "--host", self._host, "--group-by", "host,paths"]
        arguments += ["--tag", reason, "--keep-tag", pinned_tag]
        for rule, count in keep.items():
            arguments += [f"--keep-{rule}", str(count)]
        output = self._call(arguments, "applying the retention policy")
        documents = json.loads(output) if output.strip() else []
        return [
            RetentionGroup(
                path=(group["paths"] or [""])[0],
                keep=tuple(parse_snapshot(document) for document in group["keep"] or []),
                remove=tuple(parse_snapshot(document) for document in group["remove"] or []),
                reasons={one["snapshot"]["id"]: tuple(one["matches"] or ()) for one in group.get("reasons") or []},
            )
            for group in documents or []
        ]

    def forget_snapshots(self, ids: Sequence[str]) -> None:
        """Remove snapshots by id and make sure that they are gone."""
        if not ids:
            return
        for some in _batches(ids):
            self._call(
                ["forget", "--retry-lock", f"{RETRY_LOCK_SECONDS}s", *some],
                "forgetting snapshots",
                self._config.answer_seconds + RETRY_LOCK_SECONDS + len(some),
            )
        if self._version is not None and self._version >= _TELLS_FAILED_REMOVALS:
            return
        left = {snapshot.id for snapshot in self.snapshots()} & set(ids)
        if left:
            raise ResticError(f"restic forget left {len(left)} snapshots it should have removed: {sorted(left)}.")

    def tag(self, snapshot_id: str, *, add: str | None = None, remove: str | None = None) -> str:
        """Give a snapshot a tag, or take one away; returns the id that it has from then on.

        restic rewrites the snapshot and removes the old one, so it waits for an exclusive lock.

        Raises ResticError where nothing was changed.
        """
        change = [*(["--add", add] if add else []), *(["--remove", remove] if remove else [])]
        output = self._call(
            ["tag", "--json", *change, *WAIT_FOR_LOCK, snapshot_id],
            "changing a snapshot's tags",
            self._config.answer_seconds + RETRY_LOCK_SECONDS,
        )
        for line in output.splitlines():
            document = json.loads(line) if line.startswith("{") else {}
            if document.get("message_type") == "changed":
                return str(document["new_snapshot_id"])
        raise ResticError(f"restic did not change the tags of the snapshot {snapshot_id[:8]}.")

    def take_back(self, snapshot_id: str) -> str:
        """Remove the snapshot of a failed dump; where this host only adds it stays, and the answer says so."""
        if self._config.append_only:
            return f" (its snapshot {snapshot_id[:8]} stays, because this host is append-only)"
        self.forget_snapshots([snapshot_id])
        return ""

    def prune(self, on_progress: Callable[[Done], None] | None = None) -> None:
        """Delete the data that no snapshot needs; *on_progress* is told how far it has got."""
        self._maintain(["prune"], "pruning the repository", on_progress=on_progress)

    def check(self, read_data_subset: str | None = None, on_progress: Callable[[Done], None] | None = None) -> None:
        """Check the repository's structure, and its data or a subset of it when named; *on_progress* is told how far it has got.

        Raises ResticError with restic's first error.
        """
        # Without --with-cache: with it, restic would believe its own copy of a pack instead of the repository's.
        arguments = ["check"]
        if read_data_subset is not None:
            arguments.append(f"--read-data-subset={read_data_subset}")
        self._maintain(arguments, "checking the repository", on_progress=on_progress)

    def files(self, seconds: float = PATIENCE) -> Files:
        """The repository's files as its store keeps them, past restic; *seconds* are for one question to the store.

        Raises ConfigurationError for a store of a kind that only restic can speak to.
        """
        told = {"AWS_DEFAULT_REGION": self._region} if self._region else {}
        environment = told | self._secrets.environment
        access = Access(environment, self._secrets.authority, seconds, self._cancelled)
        return open_files(self._config.repository, access)

    def _files_at_once(self) -> Files:
        """The same, to look up what an opened repository tells at once."""
        return self.files(min(self._config.answer_seconds, _OPENING_SECONDS))

    def seen_through(self, address: str, environment: Mapping[str, str]) -> Restic:
        """The same repository through something that stands before its store; messages name it as ever."""
        other = copy.copy(self)
        other._environment = self._environment | dict(environment) | {"RESTIC_REPOSITORY": address}  # noqa: SLF001 (our own copy)
        return other

    def index_text(self, name: str, most_bytes: int) -> bytes | None:
        """What an index says, decrypted; None when that is longer than it may be.

        Raises ResticError where restic cannot read it.
        """
        with kept_words() as messages:
            process = self._start(["cat", "index", name, "--no-lock", "--no-cache"], subprocess.PIPE, messages)
            try:
                stream = DumpStream(
                    process, messages, self.repository, self._config.stall_seconds, self._cancelled, self.failure
                )
                text = bytearray()
                for chunk in stream.chunks():
                    text += chunk
                    if len(text) > most_bytes:
                        return None
                return bytes(text)
            finally:
                end_writer(process)

    def read_packs(self, limit_seconds: float, on_progress: Callable[[Done], None] | None = None) -> None:
        """Read every pack that an index names: its bytes against its name, its head against the index, its blobs against theirs.

        Raises ResticError where anything differs. Takes no lock, and believes no cache.
        """

        def tell(output: str) -> None:
            if on_progress is not None and (done := parse_progress(output)):
                on_progress(done)

        arguments = ["check", "--read-data", "--no-lock", "--no-cache"]
        self._call(arguments, "reading packs", limit_seconds, None, tell)

    def locks(self) -> list[str]:
        """The ids of the locks on the repository.

        The store lists them itself where it can be asked past restic, which would derive the key for that and read it before.
        """
        try:
            files = self._files_at_once()
            self._note_region(files)
            return sorted(files.listing("locks"))
        except InterruptedRunError:
            raise
        except (ScalrBackupError, MissingFileError):
            # A store of another kind, credentials that only restic finds, or restic has the better words.
            return self._call(["list", "locks", "--no-lock"], "listing the locks").split()

    def _note_region(self, files: Files) -> None:
        """Spare each restic from now on to ask for the region that the store has just told."""
        if isinstance(files, S3Files) and files.told_region:
            self._region = files.told_region

    def clear_locks(self) -> tuple[int, list[str]]:
        """Remove stale locks, those whose process is gone or that nobody renewed for 30 minutes.

        Returns how many went, and the ids of those that stay.
        """
        before = self.locks()
        if not before:
            return 0, []
        self._call(["unlock"], "removing stale locks")
        left = self.locks()
        # Meanwhile another host may have taken one, or more than were stale.
        return max(0, len(before) - len(left)), left

    def unlock(self) -> int:
        """The same; only how many went."""
        return self.clear_locks()[0]

    def size(self) -> RepositorySize:
        """How much all snapshots of all hosts take up; restic walks through every one of them for that.

        Raises RepositoryUnreachableError when it takes longer than an answer may.
        """
        arguments = ["stats", "--mode", "raw-data", "--json", "--no-lock"]
        document = json.loads(self._call(arguments, "measuring the repository"))
        stored = int(document["total_size"])
        return RepositorySize(
            stored_bytes=stored,
            # A repository of the format before compression says nothing of it.
            uncompressed_bytes=int(document.get("total_uncompressed_size") or stored),
            snapshots=int(document["snapshots_count"]),
        )

    def oldest_lock(self, ids: Sequence[str]) -> datetime | None:
        """When the oldest of these locks was taken; one that is gone by now does not count."""
        times = []
        for lock in ids[:_MOST_LOCKS]:
            with suppress(ResticError):
                text = self._call(["cat", "lock", lock, "--no-lock"], "reading a lock", _OPENING_SECONDS)
                times.append(parse_time(json.loads(text)["time"]))
        return min(times, default=None)

    def room(self) -> tuple[int, int] | None:
        """The free and the total bytes of the file system of a repository in a directory; None for a store elsewhere."""
        if stores.kind(self._config.repository) != "local":
            return None
        try:
            found = os.statvfs(self._config.repository.removeprefix("local:"))
        except OSError as error:
            raise ResticError(
                f"The file system of the repository {self.repository} cannot be measured: {error.strerror}."
            ) from None
        # As df has it: what is kept for root, or by a quota, is neither free nor used.
        there_is = found.f_blocks - found.f_bfree + found.f_bavail
        return found.f_bavail * found.f_frsize, there_is * found.f_frsize

    def list_keys(self) -> list[Key]:
        """The repository's keys: each is another password that opens it. The oldest first."""
        documents = json.loads(self._call(["key", "list", "--json", "--no-lock"], "listing the keys"))
        return sorted((parse_key(document) for document in documents), key=lambda key: key.created)

    def note_key(self) -> None:
        """Remember, where there are several keys, which one the password opens: restic need not try the others from then on.

        Raises ResticError.
        """
        try:
            are_several = len(self._files_at_once().listing("keys")) > 1
        except InterruptedRunError:
            raise
        except (ScalrBackupError, MissingFileError):
            return
        mine = next((key.id for key in self.list_keys() if key.current), "") if are_several else ""
        remember_key(self._key_memory, self._config.repository, mine)

    def add_key(self, password: str, user: str, host: str) -> None:
        """Let another password open the repository; *user* and *host* say whose it is. restic tries it before it ends."""
        with in_memory(password.encode()) as path:
            self._call(
                ["key", "add", "--new-password-file", path, "--user", user, "--host", host, *WAIT_FOR_LOCK],
                "adding a key",
                self._config.answer_seconds + RETRY_LOCK_SECONDS,
            )

    def remove_key(self, key: str) -> None:
        """Remove a key by its id; restic refuses to remove the one in use."""
        self._call(
            ["key", "remove", *WAIT_FOR_LOCK, key],
            "removing a key",
            self._config.answer_seconds + RETRY_LOCK_SECONDS,
        )

    @contextmanager
    def with_password(self, password: str) -> Iterator[Restic]:
        """The same repository, opened with another password, which lies in memory meanwhile."""
        with in_memory(password.encode()) as path:
            other = copy.copy(self)
            other._environment = self._environment | {"RESTIC_PASSWORD_FILE": path}  # noqa: SLF001 (our own copy)
            yield other

    @contextmanager
    def dump(self, snapshot_id: str, path: str, *, glance: bool = False) -> Iterator[DumpStream]:
        """Read a file out of a snapshot; leaving early ends restic.

        A *glance* at its beginning takes no lock; a whole file is read under one, so that no prune comes between.
        """
        locking = ["--no-lock"] if glance else ["--retry-lock", f"{RETRY_LOCK_SECONDS}s"]
        arguments = ["dump", *locking, snapshot_id, path]
        with kept_words() as messages:
            process = self._start(arguments, stdout=subprocess.PIPE, stderr=messages)
            try:
                yield DumpStream(
                    process, messages, self.repository, self._config.stall_seconds, self._cancelled, self.failure
                )
            finally:
                end_writer(process)

    def clear_spool(self) -> None:
        """Remove what a killed restic left in its spool; only when no restic runs."""
        spool = Path(self._environment["TMPDIR"])
        shutil.rmtree(spool, ignore_errors=True)
        with suppress(OSError):
            spool.mkdir(parents=True, exist_ok=True)

    def _beside(self, source: Restic) -> dict[str, str]:
        """The variables by which restic finds another repository beside this one."""
        address, variables = stores.beside(
            source._config.repository,
            source._secrets.environment,
            self._config.repository,
            self._secrets.environment,
        )
        authority = self._secrets.authority
        return {
            **variables,
            "RESTIC_FROM_REPOSITORY": address,
            "RESTIC_FROM_PASSWORD_FILE": str(source._secrets.password_file),
            # rclone is told of no authority by a list; Go's own variable adds a directory to the system's.
            **({"SSL_CERT_DIR": str(authority.parent)} if authority else {}),
        }
