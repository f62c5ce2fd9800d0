# SPDX-License-Identifier: GPL-3.0-or-later
"""restic: its argv, its exit codes, its JSON and its quirks.

Exit codes (restic documentation, "Scripting"): 0 good, 1 failed, 3 some of the data could not be read,
10 no repository, 11 locked, 12 wrong password, 130 interrupted; an unknown one is a failure.

Quirks that shape this file:

* A producer that prints nothing and exits 0 becomes an empty snapshot with exit code 3; it is forgotten at once.
  A host that only adds cannot do that: what reads snapshots takes no empty one for a backup.
* restic retries a dead store for many minutes, and a wrong key as well; so every call here has a time limit of ours,
  and ends at the first word of a refusal that will be the same in a minute.
* restic takes the credentials of both repositories of a copy from one environment (``store.beside``).
* What ssh says of a session that it cannot open may be lost, because restic ends first; so ssh is asked again.
* ``forget`` of restic before 0.19 may exit 0 although a removal failed; so the snapshots are listed afterwards.
* Retention must be asked for the host by name: a container's own host name is random (restic issue 4380).
"""

from __future__ import annotations

import copy
import json
import os
import re
import select
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from scalr_backup.core.config import Config, Secrets
from scalr_backup.core.errors import (
    DumpError,
    InterruptedRunError,
    RepositoryLockedError,
    RepositoryMissingError,
    RepositoryRefusedError,
    RepositoryUnreachableError,
    ResticError,
    ResticVersionError,
    TooManyKeysError,
    UnknownSnapshotError,
    UnreadableRepositoryError,
    WrongPasswordError,
)
from scalr_backup.core.memory_file import in_memory
from scalr_backup.core.model import Key, RepositorySize, Saved, Snapshot
from scalr_backup.tools.restic import stores

OLDEST_VERSION = (0, 17, 0)
OWN_HOST = ""
CACHE_DIRECTORY = Path(os.environ.get("SCALR_BACKUP_CACHE", "/var/cache/scalr-backup"))

_EXIT_INCOMPLETE, _EXIT_MISSING, _EXIT_LOCKED, _EXIT_PASSWORD = 3, 10, 11, 12
_RETRY_LOCK_SECONDS = 300
_WAIT_FOR_LOCK = ("--retry-lock", f"{_RETRY_LOCK_SECONDS}s")
# Seconds between SIGTERM, on which restic removes its lock, and SIGKILL.
_GRACE_SECONDS = 20.0
# Seconds to open a repository: whoever asks for that waits for the answer.
_OPENING_SECONDS = 30
# Locks that are looked into; each is a call of its own, and a repository has one or none at most times.
_MOST_LOCKS = 10
_RETRYING = re.compile(r"returned error, retrying after [0-9.a-zµ]+: (.*)")
# What restic passes on of a program that it runs: the connection's, or the producer's.
_OF_CONNECTION = re.compile(r"^subprocess (ssh|rclone): (.*)$|^rclone: (.*)$", re.MULTILINE)
_NO_SESSION = "unable to start the sftp session"
_SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# What restic says of a file in the repository that it did not write; on a very short one it panics.
_UNREADABLE = re.compile(
    r"ciphertext verification failed|slice bounds out of range|Unmarshal: invalid character|invalid data returned"
)
# Where Go prints how it got to an error.
_GO_STACK = re.compile(r"\s|goroutine \d+|created by |[\w.]+(/[\w.-]+)*\.[\w.()*]+(\(.*\))?$")
# How far restic says it is, into a pipe too: a line such as "[0:01] 49.09%  27 / 55 packs".
_PROGRESS = re.compile(r"^\[[\d:]+\] +[\d.]+% +(\d+) / (\d+) ([a-z]+)", re.MULTILINE)
_URL_PASSWORD = re.compile(r"(://[^/:@\s]*):[^/@\s]*@")


@dataclass(frozen=True)
class Done:
    """How far restic is with something: so many of so many *unit*, such as packs."""

    count: int
    total: int
    unit: str


@dataclass(frozen=True)
class RetentionGroup:
    """What ``forget --dry-run`` decided for the snapshots of one path.

    *reasons* are restic's own words for the rules by which it keeps a snapshot, by the snapshot's id.
    """

    path: str
    keep: tuple[Snapshot, ...]
    remove: tuple[Snapshot, ...]
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Restic:
    """One repository, seen from one host."""

    def __init__(
        self, config: Config, secrets: Secrets, *, cache: Path | None = None, cancelled: threading.Event | None = None
    ) -> None:
        self._config = config
        self._host = config.host
        self._cache = cache or CACHE_DIRECTORY
        self._cancelled = cancelled or threading.Event()
        self._secrets = secrets
        self._environment = self._build_environment(secrets)

    @property
    def repository(self) -> str:
        """Where the repository is, without a password that its URL may hold."""
        return redact(self._config.repository)

    def require_version(self) -> str:
        """The version of restic on the path.

        Raises ResticVersionError for one before 0.17, which has neither ``--stdin-from-command`` that can be
        trusted nor the exit codes above.
        """
        text = self._call(["version"], "asking restic for its version").strip()
        version = parse_version(text)
        if version is None or version < OLDEST_VERSION:
            raise ResticVersionError(
                f"restic 0.17.0 or newer is needed and this is {text.splitlines()[0] if text else 'none'!r}."
            )
        return ".".join(str(part) for part in version)

    def repository_id(self) -> str:
        """The id of the repository; the cheapest call that proves place and password.

        Raises RepositoryMissingError, WrongPasswordError or RepositoryUnreachableError.
        """
        limit = min(self._config.answer_seconds, _OPENING_SECONDS)
        document = json.loads(self._call(["cat", "config", "--no-lock"], "opening the repository", limit))
        return str(document["id"])

    def init(self, copy_of: Restic | None = None) -> None:
        """Make a repository of format 2, the one that compresses.

        One that is to be the copy of another cuts data as that one does; else what both have would be there twice.
        """
        arguments = ["init", "--repository-version", "2"]
        if copy_of is None:
            self._call(arguments, "making the repository")
        else:
            doing = "making the repository of the copies"
            self._call([*arguments, "--copy-chunker-params"], doing, environment=self._beside(copy_of))

    def copy_from(self, source: Restic, ids: Sequence[str]) -> None:
        """Copy snapshots out of another repository; data that is here already is neither read nor sent again.

        Raises ConfigurationError when restic cannot be given the credentials of both.
        """
        if not ids:
            return
        self._maintain(["copy", *ids], f"copying snapshots from {source.repository}", self._beside(source))

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
    ) -> Saved:
        """Save what *producer* prints as a snapshot that holds the one file *path*.

        Accepted only with exit code 0 and bytes in the summary; any other snapshot is taken back at once.
        *on_bytes* is told how many bytes have been read, now and then; *waiting* is called every half second that restic
        says nothing new.

        Raises DumpError when the producer failed or said nothing, another ResticError when restic did.
        """
        arguments = ["backup", "--json", "--host", self._host, "--stdin-filename", path, "--stdin-from-command"]
        # Somebody may be pruning, for longer than this. Beyond it, waiting would look like a dump that has stalled.
        arguments += ["--retry-lock", f"{self._config.stall_seconds // 2}s"]
        for tag in tags:
            arguments += ["--tag", tag]
        watch = _Watch(on_bytes or (lambda _count: None), waiting or (lambda: None))
        exit_code, messages = self._stream_lines([*arguments, "--", *producer], watch, producer_environment or {})
        summary = watch.summary
        if exit_code == 0 and summary is not None and summary.bytes_read > 0:
            return summary
        remains = self.take_back(summary.snapshot_id) if summary is not None and summary.snapshot_id else ""
        if exit_code == 0 or (exit_code == _EXIT_INCOMPLETE and summary is not None and summary.bytes_read == 0):
            raise DumpError(f"the dump was empty{remains}")
        of_producer = _OF_CONNECTION.sub("", messages)
        if "subprocess" in of_producer or "command" in of_producer:
            raise DumpError(_failure_text(of_producer))
        raise self.failure(exit_code, messages, "saving a snapshot")

    def forget_plan(self, reason: str, keep: Mapping[str, int | str], pinned_tag: str) -> list[RetentionGroup]:
        """What restic's policy would keep and remove of this host's snapshots with one reason, path by path."""
        arguments = ["forget", "--dry-run", "--json", "--no-lock", "--host", self._host, "--group-by", "host,paths"]
        arguments += ["--tag", reason, "--keep-tag", pinned_tag]
        for rule, count in keep.items():
            arguments += [f"--keep-{rule}", str(count)]
        output = self._call(arguments, "asking the retention policy")
        documents = json.loads(output) if output.strip() else []
        return [
            RetentionGroup(
                path=group["paths"][0],
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
        self._call(
            ["forget", "--retry-lock", f"{_RETRY_LOCK_SECONDS}s", *ids],
            "forgetting snapshots",
            self._config.answer_seconds + _RETRY_LOCK_SECONDS + len(ids),
        )
        left = {snapshot.id for snapshot in self.snapshots()} & set(ids)
        if left:
            raise ResticError(f"restic forget left {len(left)} snapshots that it should have removed: {sorted(left)}.")

    def tag(self, snapshot_id: str, *, add: str | None = None, remove: str | None = None) -> str:
        """Give a snapshot a tag, or take one away; returns the id that it has from then on.

        restic writes the snapshot anew and removes the old one, so it waits for a lock of its own.

        Raises ResticError where nothing was changed.
        """
        change = [*(["--add", add] if add else []), *(["--remove", remove] if remove else [])]
        output = self._call(
            ["tag", "--json", *change, *_WAIT_FOR_LOCK, snapshot_id],
            "changing a snapshot's tags",
            self._config.answer_seconds + _RETRY_LOCK_SECONDS,
        )
        for line in output.splitlines():
            document = json.loads(line) if line.startswith("{") else {}
            if document.get("message_type") == "changed":
                return str(document["new_snapshot_id"])
        raise ResticError(f"restic did not change the tags of the snapshot {snapshot_id[:8]}.")

    def take_back(self, snapshot_id: str) -> str:
        """Remove the snapshot of a failed dump; where this host only adds it stays, and the answer says so."""
        if self._config.append_only:
            return f" (its snapshot {snapshot_id[:8]} stays, because this host removes nothing)"
        self.forget_snapshots([snapshot_id])
        return ""

    def prune(self, on_progress: Callable[[Done], None] | None = None) -> None:
        """Delete the data that no snapshot needs; *on_progress* is told how far it is."""
        self._maintain(["prune"], "pruning the repository", on_progress=on_progress)

    def check(self, read_data_subset: str | None = None, on_progress: Callable[[Done], None] | None = None) -> None:
        """Check the repository's structure, and its data or a subset of it when named; *on_progress* is told how far it is.

        Raises ResticError with restic's first error.
        """
        # Without --with-cache: with it, restic would believe its own copy of a pack instead of the repository's.
        arguments = ["check"]
        if read_data_subset is not None:
            arguments.append(f"--read-data-subset={read_data_subset}")
        self._maintain(arguments, "checking the repository", on_progress=on_progress)

    def locks(self) -> list[str]:
        """The ids of the locks on the repository."""
        return self._call(["list", "locks", "--no-lock"], "listing the locks").split()

    def unlock(self) -> int:
        """Remove stale locks, those whose process is gone or that nobody renewed for 30 minutes.

        Returns how many went.
        """
        before = len(self.locks())
        if not before:
            return 0
        self._call(["unlock"], "removing stale locks")
        return before - len(self.locks())

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

    def add_key(self, password: str, user: str, host: str) -> None:
        """Let another password open the repository; *user* and *host* say whose it is. restic tries it before it ends."""
        with in_memory(password.encode()) as path:
            self._call(
                ["key", "add", "--new-password-file", path, "--user", user, "--host", host, *_WAIT_FOR_LOCK],
                "adding a key",
                self._config.answer_seconds + _RETRY_LOCK_SECONDS,
            )

    def remove_key(self, key: str) -> None:
        """Remove a key by its id; restic refuses that of the password that it is called with."""
        self._call(
            ["key", "remove", *_WAIT_FOR_LOCK, key],
            "removing a key",
            self._config.answer_seconds + _RETRY_LOCK_SECONDS,
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
        """Read a file out of a snapshot; whoever leaves early ends restic.

        A *glance* at its beginning takes no lock; a whole file is read under one, so that no prune comes between.
        """
        locking = ["--no-lock"] if glance else ["--retry-lock", f"{_RETRY_LOCK_SECONDS}s"]
        arguments = ["dump", *locking, snapshot_id, path]
        with tempfile.TemporaryFile(dir=self._environment["TMPDIR"]) as messages:
            process = self._start(arguments, stdout=subprocess.PIPE, stderr=messages)
            try:
                yield DumpStream(self, process, messages, self._config.stall_seconds, self._cancelled)
            finally:
                _end_writer(process)

    def clear_spool(self) -> None:
        """Remove what a killed restic left in its spool; only when no restic runs."""
        spool = Path(self._environment["TMPDIR"])
        shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir(parents=True, exist_ok=True)

    def _build_environment(self, secrets: Secrets) -> dict[str, str]:
        """All that restic sees: nothing of the caller's environment but the path."""
        spool = self._cache / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        authorities = [str(file) for file in (_SYSTEM_AUTHORITIES, secrets.authority) if file and file.exists()]
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._cache),
            "LANG": "C.UTF-8",
            **({"RESTIC_CACERT": ",".join(authorities)} if secrets.authority else {}),
            **secrets.environment,
            "TMPDIR": str(spool),
            "RESTIC_REPOSITORY": self._config.repository,
            "RESTIC_PASSWORD_FILE": str(secrets.password_file),
            "RESTIC_CACHE_DIR": str(self._cache / "restic"),
            "RESTIC_PROGRESS_FPS": "1",
        }

    def _options(self, environment: Mapping[str, str]) -> list[str]:
        """What restic is told of a store that needs it; of the secrets, only the paths of their files."""
        addresses = (environment["RESTIC_REPOSITORY"], environment.get("RESTIC_FROM_REPOSITORY", ""))
        if any(stores.kind(address) == "sftp" for address in addresses):
            return stores.ssh_option(self._secrets.ssh_key, self._secrets.known_hosts)
        return []

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

    def _start(
        self,
        arguments: Sequence[str],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        whole = self._environment | dict(environment or {})
        try:
            # A session of its own: whoever ends restic ends its producer too.
            return subprocess.Popen(
                ["restic", *self._options(whole), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=whole,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise ResticVersionError("There is no restic on the path; 0.17.0 or newer is needed.") from None

    def _call(
        self,
        arguments: Sequence[str],
        doing: str,
        limit_seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        on_output: Callable[[str], None] | None = None,
    ) -> str:
        """Run restic to its end and return what it printed; *on_output* sees all of that so far, twice a second."""
        limit = limit_seconds or self._config.answer_seconds
        process = self._start(arguments, subprocess.PIPE, subprocess.PIPE, environment)
        deadline = time.monotonic() + limit
        while True:
            try:
                output, messages = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired as so_far:
                if on_output is not None:
                    on_output((so_far.stdout or b"").decode("utf-8", "replace"))
                said = (so_far.stderr or b"").decode("utf-8", "replace")
                if failed := self._end_of_patience(said, doing, limit, over=time.monotonic() > deadline):
                    _end(process)
                    raise failed from None
        if process.returncode != 0:
            raise self.failure(process.returncode, messages.decode("utf-8", "replace"), doing)
        return output.decode()

    def _end_of_patience(self, said: str, doing: str, limit: float, *, over: bool) -> Exception | None:
        """Why a call that goes on is to be ended now, if it is."""
        if self._cancelled.is_set():
            return InterruptedRunError(f"Told to stop while {doing}.")
        retried = _RETRYING.findall(said)
        refusal = stores.explain(retried[-1]) if retried else None
        if refusal and refusal.verdict != "unreachable":
            return self.failure(1, retried[-1], doing)
        if not over:
            return None
        tried = f"{refusal.reason} ({redact(retried[-1])})" if refusal else "look at the network and at the address"
        return RepositoryUnreachableError(
            f"The repository {self.repository} did not answer within {limit:.0f} s while {doing}: {tried}."
        )

    def _maintain(
        self,
        arguments: Sequence[str],
        doing: str,
        environment: Mapping[str, str] | None = None,
        on_progress: Callable[[Done], None] | None = None,
    ) -> None:
        def tell(output: str) -> None:
            if on_progress is not None and (done := parse_progress(output)):
                on_progress(done)

        whole = [*arguments, *_WAIT_FOR_LOCK]
        self._call(whole, doing, self._config.maintenance_seconds, environment, tell)

    def _stream_lines(self, arguments: Sequence[str], watch: _Watch, environment: Mapping[str, str]) -> tuple[int, str]:
        """Run restic, give each line that it prints to *watch*; its exit code and messages.

        Raises ResticError when it stalls, InterruptedRunError when the run was told to stop.
        """
        with tempfile.TemporaryFile(dir=self._environment["TMPDIR"]) as messages:
            process = self._start(arguments, subprocess.PIPE, messages, environment)
            assert process.stdout is not None
            try:
                for line in _lines(process.stdout):
                    if self._cancelled.is_set():
                        raise InterruptedRunError("Told to stop while saving a snapshot.")
                    if line:
                        watch.add(line)
                    watch.wait()
                    if time.monotonic() - watch.moved > self._config.stall_seconds:
                        raise ResticError(f"No byte moved for {self._config.stall_seconds} s; the dump was ended.")
                exit_code = process.wait()
            finally:
                _end_writer(process)
            return exit_code, _read_all(messages)

    def failure(self, exit_code: int, messages: str, doing: str) -> ResticError:
        """The exception for an exit code, in one sentence."""
        text = redact(_failure_text(messages))
        if exit_code == _EXIT_MISSING:
            return RepositoryMissingError(
                f"There is no repository at {self.repository}; a first deployment with site.yml makes one, "
                "and so does the verb init."
            )
        if exit_code == _EXIT_LOCKED:
            return RepositoryLockedError(
                f"The repository {self.repository} is locked by another process while {doing}: {text}"
            )
        if exit_code == _EXIT_PASSWORD:
            return WrongPasswordError(
                f"The password does not open the repository {self.repository}; it belongs to another password."
            )
        words = (self._words_of_ssh(messages) if _NO_SESSION in text else "") or text
        return self._failure_in_words(words, doing) or ResticError(
            f"restic failed with exit code {exit_code} while {doing}: {text}"
        )

    def _failure_in_words(self, text: str, doing: str) -> ResticError | None:
        """The exception for what has no exit code of its own, by restic's words or the store's."""
        where = f"The repository {self.repository}"
        if _UNREADABLE.search(text):
            return UnreadableRepositoryError(
                f"{where} holds a file that restic cannot read, found while {doing}: it is damaged, or somebody has put "
                "rubbish into it, and then all that was there before can be had back "
                f"(docs/ransomware.md, Coming back): {text}"
            )
        if "maximum number of keys" in text:
            return TooManyKeysError(
                f"The password was not found among the first keys of the repository {self.repository}, and restic tries "
                "no more of them: remove keys that nobody needs."
            )
        if refusal := stores.explain(text):
            last_words = text.rpartition(" failed: ")[2].strip().rpartition("\n")[2].rstrip(".")
            return _REFUSED_AS[refusal.verdict](f"{where} cannot be used: {refusal.reason} ({last_words}).")
        return None

    def _words_of_ssh(self, messages: str) -> str:
        """Why ssh opened no session: what restic passed on of it, or what it says when it is asked again.

        restic may end before it has passed on all of it, in the middle of a line of ornament.
        """
        passed_on = "\n".join(match[2] for match in _OF_CONNECTION.finditer(messages) if match[2])
        if stores.explain(passed_on) or stores.kind(self._config.repository) != "sftp":
            return passed_on
        probe = stores.ssh_probe(self._config.repository, self._secrets.ssh_key, self._secrets.known_hosts)
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                probe, stdin=subprocess.DEVNULL, capture_output=True, env=self._environment, timeout=30, check=False
            )
            return done.stderr.decode("utf-8", "replace").strip() or passed_on
        return passed_on


# The exception for each verdict on a store's words.
_REFUSED_AS: dict[stores.Verdict, type[ResticError]] = {
    "refused": RepositoryRefusedError,
    "unreachable": RepositoryUnreachableError,
    "missing": RepositoryMissingError,
}


class DumpStream:
    """The bytes of a file in a snapshot, as restic reads them."""

    def __init__(
        self,
        restic: Restic,
        process: subprocess.Popen[bytes],
        messages: IO[bytes],
        stall_seconds: float,
        cancelled: threading.Event,
    ) -> None:
        assert process.stdout is not None
        self._stall_seconds = stall_seconds
        self._cancelled = cancelled
        self._restic = restic
        self._process = process
        self._messages = messages
        self._stdout = process.stdout

    def chunks(self, size: int = 1 << 18) -> Iterator[bytes]:
        """Yield the bytes as they come.

        Raises ResticError after the last one when restic did not end well: then they are not the whole file.
        Raises RepositoryUnreachableError when restic is silent for too long, InterruptedRunError when told to stop.
        """
        descriptor = self._stdout.fileno()
        while True:
            self._await_bytes(descriptor)
            chunk = os.read(descriptor, size)
            if not chunk:
                break
            yield chunk
        exit_code = self._process.wait()
        if exit_code != 0:
            text = _read_all(self._messages)
            if "cannot dump" in text or "no matching ID" in text or "not found" in text:
                raise UnknownSnapshotError(f"The snapshot cannot be read: {_failure_text(text)}")
            raise self._restic.failure(exit_code, text, "reading a snapshot")

    def _await_bytes(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._stall_seconds
        while not select.select([descriptor], [], [], 0.5)[0]:
            if self._cancelled.is_set():
                raise InterruptedRunError("Told to stop while reading a snapshot.")
            if time.monotonic() > deadline:
                raise RepositoryUnreachableError(
                    f"The repository {self._restic.repository} sent nothing for {self._stall_seconds:.0f} s while "
                    "reading a snapshot; look at the network and the store."
                )


class _Watch:
    """Follows the JSON lines of ``restic backup``."""

    def __init__(self, on_bytes: Callable[[int], None], wait: Callable[[], None]) -> None:
        """*wait* is called between the lines."""
        self._on_bytes = on_bytes
        self.wait = wait
        self._bytes = -1
        self.moved = time.monotonic()
        self.summary: Saved | None = None

    def add(self, line: bytes) -> None:
        """Take in one line; one that is no JSON is no news."""
        try:
            document = json.loads(line)
        except ValueError:
            return
        if document.get("message_type") == "status":
            self._progress(int(document.get("bytes_done", 0)))
        elif document.get("message_type") == "summary":
            self.summary = Saved(
                snapshot_id=document.get("snapshot_id", ""),
                bytes_read=int(document.get("total_bytes_processed", 0)),
                bytes_added=int(document.get("data_added", 0)),
                bytes_stored=int(document.get("data_added_packed", 0)),
            )

    def _progress(self, count: int) -> None:
        if count != self._bytes:
            self._bytes, self.moved = count, time.monotonic()
            self._on_bytes(count)


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version in what ``restic version`` prints."""
    match = re.match(r"restic (\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def parse_progress(output: str) -> Done | None:
    """How far restic was when it last said so; None before that."""
    lines = _PROGRESS.findall(output)
    return Done(int(lines[-1][0]), int(lines[-1][1]), lines[-1][2]) if lines else None


def parse_snapshot(document: Mapping[str, Any]) -> Snapshot:
    """A snapshot out of restic's JSON; its summary is there since restic 0.17."""
    summary = document.get("summary") or {}
    return Snapshot(
        id=document["id"],
        time=parse_time(document["time"]),
        host=document.get("hostname", ""),
        path=(document.get("paths") or [""])[0],
        tags=tuple(document.get("tags") or ()),
        dump_bytes=summary.get("total_bytes_processed"),
        original=document.get("original"),
    )


def parse_key(document: Mapping[str, Any]) -> Key:
    """A key out of restic's JSON; its time is the local one of whoever lists the keys."""
    return Key(
        id=document["id"],
        user=document.get("userName", ""),
        host=document.get("hostName", ""),
        created=document.get("created", ""),
        current=bool(document.get("current")),
    )


def parse_time(text: str) -> datetime:
    """RFC 3339 with nanoseconds, as Go writes it; Python keeps the microseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def redact(text: str) -> str:
    """*text* without the password that a URL in it may hold."""
    return _URL_PASSWORD.sub(r"\1:***@", text)


def _failure_text(messages: str) -> str:
    """The reason among restic's messages, which are JSON lines or plain ones."""
    reasons = []
    for line in messages.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            if not _GO_STACK.match(line):
                reasons.append(line.strip())
            continue
        if isinstance(document, dict):
            error = document.get("error")
            nested = error.get("message") if isinstance(error, dict) else None
            reasons.append(str(document.get("message") or nested or "").strip())
    reasons = [reason for reason in reasons if reason]
    fatal = [reason for reason in reasons if reason.startswith("Fatal:")]
    return re.sub(r"^(Fatal: )+", "", (fatal or reasons or ["it said nothing"])[-1]).splitlines()[0]


def _lines(stdout: IO[bytes]) -> Iterator[bytes]:
    """Yield each line as it comes, and an empty one every half second of silence."""
    descriptor, pending = stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=0.5):
                yield b""
                continue
            data = os.read(descriptor, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            yield from lines
    yield pending


def _end(process: subprocess.Popen[bytes]) -> None:
    """End restic and its producer: SIGTERM, on which restic removes its lock, then SIGKILL."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        with suppress(ProcessLookupError):
            # Also when restic itself has ended: one that was killed leaves its producer behind.
            os.killpg(process.pid, number)
        if process.poll() is not None:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def _end_writer(process: subprocess.Popen[bytes]) -> None:
    """End a restic whose output is a pipe of ours.

    One that is blocked in writing heeds no signal, and one whose pipe is closed dies of it and leaves its lock:
    so it is told to stop, and what it still writes is read away.
    """
    assert process.stdout is not None
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        for _line in _lines(process.stdout):
            if time.monotonic() > deadline:
                break
    process.stdout.close()
    _end(process)


def _read_all(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
