# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of restic: its environment, its exit codes, its time limits, and its failures in one sentence.

Exit codes (restic documentation, "Scripting"): 0 good, 1 failed, 3 some of the data could not be read,
10 no repository, 11 locked, 12 wrong password, 130 interrupted; an unknown one is a failure.

Quirks that shape this file:

* restic retries a dead store for many minutes, and a wrong key as well; so every call here has a time limit of ours,
  and ends at the first word of a refusal that will be the same in a minute.
* What ssh says of a session that it cannot open may be lost, because restic ends first; so ssh is asked again.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from scalr_backup.core.address import HIDDEN, password_in, redact, redact_address
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    InterruptedRunError,
    RepositoryLockedError,
    RepositoryMissingError,
    RepositoryRefusedError,
    RepositoryUnreachableError,
    ResticError,
    ResticVersionError,
    StalledDumpError,
    TooManyKeysError,
    UnreadableRepositoryError,
    WrongPasswordError,
)
from scalr_backup.core.secrets import Secrets
from scalr_backup.tools.restic import stores
from scalr_backup.tools.restic.key_hint import recall_key
from scalr_backup.tools.restic.messages import Done, failure_text, parse_progress
from scalr_backup.tools.restic.process import BackupWatch, end, end_writer, kept_words, lines_of, read_all
from scalr_backup.tools.restic.refusals import RefusalKind, explain
from scalr_backup.tools.restic.ssh import ssh_option, ssh_probe
from scalr_backup.tools.restic.version import Version

CACHE_DIRECTORY = Path(os.environ.get("SCALR_BACKUP_CACHE", "/var/cache/scalr-backup"))

EXIT_INCOMPLETE, _EXIT_MISSING, _EXIT_LOCKED, _EXIT_PASSWORD = 3, 10, 11, 12
RETRY_LOCK_SECONDS = 300
WAIT_FOR_LOCK = ("--retry-lock", f"{RETRY_LOCK_SECONDS}s")
_RETRYING = re.compile(r"returned error, retrying after [0-9.a-zµ]+: (.*)")
# What restic passes on of a program that it runs: the connection's, or the producer's.
OF_CONNECTION = re.compile(r"^subprocess (ssh|rclone): (.*)$|^rclone: (.*)$", re.MULTILINE)
_NO_SESSION = "unable to start the sftp session"
# Variables whose values are no words of an answer, and from how many characters on: a shorter one is part of many words.
_NAMES_A_SECRET = re.compile(r"PASS|SECRET|TOKEN|_KEY$", re.IGNORECASE)
_SHORTEST_SECRET = 6
_SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Where restic, the libraries of its stores, rclone and ssh find no settings: a file of theirs may name a program to run, and
# what lies in the agent's volumes may have been put there by anybody who has ever taken the agent over.
_NO_SETTINGS = {
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "MINIO_SHARED_CREDENTIALS_FILE": os.devnull,
    "AZURE_CONFIG_DIR": "/nonexistent",
    "CLOUDSDK_CONFIG": "/nonexistent",
    # rclone keeps its settings in memory then.
    "RCLONE_CONFIG": os.devnull,
}
# What restic says of a file in the repository that it did not write; on a very short one it panics.
_UNREADABLE = re.compile(
    r"ciphertext verification failed|slice bounds out of range|Unmarshal: invalid character|invalid data returned"
)
# The exception for each verdict on a store's words.
_REFUSED_AS: dict[RefusalKind, type[ResticError]] = {
    "refused": RepositoryRefusedError,
    "unreachable": RepositoryUnreachableError,
    "missing": RepositoryMissingError,
}


class Caller:
    """restic, called for one repository by one host: what it sees, how long it may take, and what its failures are."""

    def __init__(
        self, config: Config, secrets: Secrets, *, cache: Path | None = None, cancelled: threading.Event | None = None
    ) -> None:
        self._config = config
        self._host = config.host
        self._cache = cache or CACHE_DIRECTORY
        self._key_memory = self._cache / "restic-key.json"
        self._cancelled = cancelled or threading.Event()
        self._secrets = secrets
        self._environment = self._build_environment(secrets)
        # Of the restic that is called, once somebody has asked for it.
        self._version: Version | None = None
        # Of the bucket, once its store has told it; where another store is read from too, it may have another one.
        self._region = ""

    @property
    def repository(self) -> str:
        """Where the repository is, without a password that its URL may hold."""
        return redact_address(self._config.repository)

    def _shown(self, said: str) -> str:
        """What restic or a store said, without what opens the store, also where that would end an address."""
        address, environment = self._config.repository, self._secrets.environment
        secrets = [value for name, value in environment.items() if _NAMES_A_SECRET.search(name)]
        said = said.replace(address, redact_address(address))
        for secret in sorted((password_in(address), *secrets), key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                said = said.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
        return redact(said)

    def _build_environment(self, secrets: Secrets) -> dict[str, str]:
        """All that restic sees: nothing of the caller's environment but the path, and no settings but the operator's own."""
        spool = self._cache / "spool"
        with suppress(OSError):  # Where it cannot be made, restic says so in its own words.
            spool.mkdir(parents=True, exist_ok=True)
        authorities = [str(file) for file in (_SYSTEM_AUTHORITIES, secrets.authority) if file and file.exists()]
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            **_NO_SETTINGS,
            **({"RESTIC_CACERT": ",".join(authorities)} if secrets.authority else {}),
            **secrets.environment,
            "TMPDIR": str(spool),
            "RESTIC_REPOSITORY": self._config.repository,
            "RESTIC_PASSWORD_FILE": str(secrets.password_file),
            "RESTIC_CACHE_DIR": str(self._cache / "restic"),
            "RESTIC_PROGRESS_FPS": "1",
            **({"RESTIC_KEY_HINT": key} if (key := recall_key(self._key_memory, self._config.repository)) else {}),
        }

    def _options(self, environment: Mapping[str, str]) -> list[str]:
        """What restic is told of a store that needs it; of the secrets, only the paths of their files."""
        addresses = (environment["RESTIC_REPOSITORY"], environment.get("RESTIC_FROM_REPOSITORY", ""))
        if any(stores.kind(address) == "sftp" for address in addresses):
            return ssh_option(self._secrets.ssh_key, self._secrets.known_hosts)
        return []

    def _start(
        self,
        arguments: Sequence[str],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        whole = self._environment | dict(environment or {})
        if self._region and "RESTIC_FROM_REPOSITORY" not in whole:
            whole.setdefault("AWS_DEFAULT_REGION", self._region)
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
            raise ResticVersionError("restic is not on the path; 0.17.0 or newer is required.") from None
        except OSError as error:
            raise ResticError(f"restic could not be started: {error.strerror}.") from None

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
                    end(process)
                    raise failed from None
        if process.returncode != 0:
            raise self.failure(process.returncode, messages.decode("utf-8", "replace"), doing)
        return output.decode()

    def _end_of_patience(self, said: str, doing: str, limit: float, *, over: bool) -> Exception | None:
        """Why a call that goes on is to be ended now, if it is."""
        if self._cancelled.is_set():
            return InterruptedRunError(f"Told to stop while {doing}.")
        retried = _RETRYING.findall(said)
        refusal = explain(retried[-1], self._config.repository) if retried else None
        if refusal and refusal.verdict != "unreachable":
            return self.failure(1, retried[-1], doing)
        if not over:
            return None
        tried = f"{refusal.reason} ({self._shown(retried[-1])})" if refusal else "check the network and the address"
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

        whole = [*arguments, *WAIT_FOR_LOCK]
        self._call(whole, doing, self._config.maintenance_seconds, environment, tell)

    def _stream_lines(
        self, arguments: Sequence[str], watch: BackupWatch, environment: Mapping[str, str], stall_seconds: float
    ) -> tuple[int, str]:
        """Run restic, give each line that it prints to *watch*; its exit code and messages.

        Raises StalledDumpError when no data moves for so many seconds, InterruptedRunError when the run was told to stop.
        """
        with kept_words() as messages:
            process = self._start(arguments, subprocess.PIPE, messages, environment)
            assert process.stdout is not None
            try:
                for line in lines_of(process.stdout):
                    if self._cancelled.is_set():
                        raise InterruptedRunError("Told to stop while saving a snapshot.")
                    if line:
                        watch.add(line)
                    watch.wait()
                    if time.monotonic() - watch.moved > stall_seconds:
                        raise StalledDumpError(f"No data moved for {stall_seconds:.0f} s, so the dump was stopped.")
                exit_code = process.wait()
            finally:
                end_writer(process)
            return exit_code, read_all(messages)

    def failure(self, exit_code: int, messages: str, doing: str) -> ResticError:
        """The exception for an exit code, in one sentence."""
        text = self._shown(failure_text(messages))
        if exit_code == _EXIT_MISSING:
            return RepositoryMissingError(
                f"There is no repository at {self.repository}; a first deployment with site.yml creates one, and so "
                "does scalr-backup init."
            )
        if exit_code == _EXIT_LOCKED:
            return RepositoryLockedError(
                f"The repository {self.repository} is locked by another process while {doing}: {text}"
            )
        if exit_code == _EXIT_PASSWORD:
            return WrongPasswordError(f"Wrong password for the repository {self.repository}.")
        words = (self._words_of_ssh(messages) if _NO_SESSION in text else "") or text
        return self._failure_in_words(words, doing) or ResticError(
            f"restic failed with exit code {exit_code} while {doing}: {text}"
        )

    def _failure_in_words(self, text: str, doing: str) -> ResticError | None:
        """The exception for what has no exit code of its own, by restic's words or the store's."""
        where = f"The repository {self.repository}"
        last_words = text.rpartition(" failed: ")[2].strip().rpartition("\n")[2].rstrip(".")
        if (spool := self._environment["TMPDIR"]) in text:
            return ResticError(
                f"restic cannot keep what it sends in the agent's cache, {spool}: free space on its disk, or make it writable "
                f"({last_words})."
            )
        if _UNREADABLE.search(text):
            return UnreadableRepositoryError(
                f"{where} holds a file that restic cannot read, found while {doing}: it is damaged, or somebody has "
                "planted files in it, and then everything that was there before can be recovered "
                f"(docs/ransomware.md, Coming back): {text}"
            )
        if "maximum number of keys" in text:
            return TooManyKeysError(
                f"The password fits none of the first keys of the repository {self.repository}, and restic tries no "
                "more: remove unneeded keys."
            )
        if refusal := explain(text, self._config.repository):
            return _REFUSED_AS[refusal.verdict](f"{where} cannot be used: {refusal.reason} ({last_words}).")
        return None

    def _words_of_ssh(self, messages: str) -> str:
        """Why ssh opened no session: what restic passed on of it, or what it says when it is asked again.

        restic may end before it has passed on all of it, in the middle of a line of ornament.
        """
        passed_on = "\n".join(match[2] for match in OF_CONNECTION.finditer(messages) if match[2])
        if explain(passed_on) or stores.kind(self._config.repository) != "sftp":
            return passed_on
        probe = ssh_probe(self._config.repository, self._secrets.ssh_key, self._secrets.known_hosts)
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                probe, stdin=subprocess.DEVNULL, capture_output=True, env=self._environment, timeout=30, check=False
            )
            return done.stderr.decode("utf-8", "replace").strip() or passed_on
        return passed_on
