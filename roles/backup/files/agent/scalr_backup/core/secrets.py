# SPDX-License-Identifier: GPL-3.0-or-later
"""What opens a repository and its store, and whom to tell: read from files of the container, or given as JSON."""

from __future__ import annotations

import codecs
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scalr_backup.core.config import Config, parse_config
from scalr_backup.core.environment import PUT_BACK, is_configured, secret_file
from scalr_backup.core.errors import ConfigurationError

SECRETS_DIRECTORY = Path(os.environ.get("SCALR_BACKUP_SECRETS", "/run/secrets/scalr-backup"))
# The variable by which the compose file tells what that directory is on the host.
SECRETS_ON_HOST = "SCALR_BACKUP_SECRETS_ON_HOST"

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# What the role writes to the directory of the secrets, and a repository may need.
_SECRET_FILES = {
    "password",
    "environment",
    "ssh_private_key",
    "ssh_known_hosts",
    "ca_certificate",
    "copy_password",
    "copy_environment",
}

# Those of them that a store is reached by.
_ACCESS = {"ssh_key": "ssh_private_key", "known_hosts": "ssh_known_hosts", "authority": "ca_certificate"}


@dataclass(frozen=True)
class Secrets:
    """The repository's password file and the store's credentials; never printed.

    For an SFTP server, the files of the private key and of the host keys that are known; for a store with a private
    authority, the file of that one's certificate.
    """

    password_file: Path
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    authority: Path | None = None


@dataclass(frozen=True)
class Addresses:
    """Where to report problems: Apprise's addresses and a dead man's switch's; both are secrets."""

    notify: tuple[str, ...] = field(default=(), repr=False)
    heartbeat: str = field(default="", repr=False)


@dataclass(frozen=True)
class Given:
    """A configuration that is not in use yet, with the secrets of its repository, and of the second one."""

    config: Config
    secrets: Secrets
    copy_secrets: Secrets


def load_secrets(directory: Path | None = None) -> Secrets:
    """Find the repository's password and read the store's credentials.

    Raises ConfigurationError when there is no password or a line of the environment file is none.
    """
    return Secrets(
        _password(_file(directory, "password")),
        _environment(_file(directory, "environment")),
        **_existing(_access_files(directory)),
    )


def password_place() -> Path:
    """Where the repository's password is looked for, whether there is one or not."""
    return Path(os.environ.get("BACKUP_PASSWORD_FILE") or SECRETS_DIRECTORY / "password")


def place_on_host(path: Path) -> Path:
    """Where a secret's file is on the host, as far as that is known; what lies elsewhere has the container's own path."""
    directory = os.environ.get(SECRETS_ON_HOST)
    if not directory or not path.is_relative_to(SECRETS_DIRECTORY):
        return path
    return Path(directory) / path.relative_to(SECRETS_DIRECTORY)


def load_copy_secrets(directory: Path | None = None) -> Secrets:
    """The same for the second repository: what is not its own is the first one's.

    Raises ConfigurationError as ``load_secrets`` does.
    """
    secrets = load_secrets(directory)
    if _is_there(password := _file(directory, "copy_password")):
        secrets = replace(secrets, password_file=_password(password))
    if _is_there(variables := _file(directory, "copy_environment")):
        secrets = replace(secrets, environment=_environment(variables))
    return secrets


def load_addresses(directory: Path | None = None) -> Addresses:
    """Read whom to tell: one address a line, empty lines and ``#`` lines are skipped; nobody where there is no file.

    Raises ConfigurationError when a file cannot be read.
    """
    beats = _lines(_file(directory, "heartbeat"))
    return Addresses(_lines(_file(directory, "notify")), beats[0] if beats else "")


def parse_addresses(text: str) -> Addresses:
    """The same, given as JSON: ``notify``, a list, and ``heartbeat``. Raises ConfigurationError, never with a part of it."""
    try:
        document = _parsed(text)
        notify, heartbeat = document.get("notify") or [], document.get("heartbeat") or ""
    except (ValueError, AttributeError):
        notify, heartbeat = None, None
    if (
        not isinstance(notify, list)
        or not isinstance(heartbeat, str)
        or not all(isinstance(url, str) for url in notify)
    ):
        raise ConfigurationError("backup_notify must be a list of addresses, and backup_heartbeat_url one address.")
    if any(len(url.splitlines()) != 1 for url in notify):
        raise ConfigurationError("backup_notify: an address must be a single, non-empty line.")
    return Addresses(tuple(url.strip() for url in notify), heartbeat.strip())


def _parsed(text: str) -> Any:
    """A JSON document of text that can be written down. Raises ValueError, also for one that is nested too deeply."""
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError from None
    return document


def _lines(path: Path) -> tuple[str, ...]:
    lines = (line.strip() for line in (_text(path) or "").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _text(path: Path) -> str | None:
    """What a secret's file holds; None where there is none. Raises ConfigurationError, never with a part of it."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}; {_who_opens_it()}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text; write it again.") from None


def _is_there(path: Path) -> bool:
    """Whether there is such a file. Raises ConfigurationError where nobody lets this process see that."""
    try:
        return path.exists()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}; {_who_opens_it()}.") from None


def _who_opens_it() -> str:
    in_group = "it must be a file that the agent's group, 64738, may read, as docs/compose.md shows"
    return in_group if is_configured(os.environ) else "run site.yml"


@contextmanager
def other_secrets(text: str) -> Iterator[Secrets]:
    """What ``parse_secrets`` reads, until the end of the block."""
    descriptors: list[int] = []
    try:
        yield parse_secrets(text, descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def parse_secrets(text: str, descriptors: list[int] | None = None) -> Secrets:
    """The secrets of another repository, given as JSON: ``password``, and its store's ``environment``.

    To reach it, ``ssh_private_key``, ``ssh_known_hosts`` and ``ca_certificate`` may be there too; what is not given is
    what this agent reaches its own store by. What restic takes from a file lies in memory: under *descriptors*, until whoever
    gave them closes them, or this process ends, however it does.

    Raises ConfigurationError, never with a part of the text.
    """
    try:
        document = _parsed(text)
        password, environment = document["password"], document.get("environment") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        document = password = environment = None
    if not (isinstance(password, str) and password.strip() and isinstance(environment, dict)):
        raise ConfigurationError('The other repository\'s secrets must be {"password": …, "environment": {…}}.')
    lines = [f"{name}={value}" for name, value in environment.items()]
    if any("\n" in line for line in lines):
        raise ConfigurationError("The other repository's environment has a value of more than one line.")
    opened: list[int] = [] if descriptors is None else descriptors
    password_file = _in_memory("password", password, opened)
    own = _access_files(None)
    given = {
        field: _in_memory(name, f"{document[name]}".rstrip("\n") + "\n", opened)
        for field, name in _ACCESS.items()
        if document.get(name)
    }
    access = _existing(own) | given
    return Secrets(password_file, parse_environment(lines, "the other repository's environment"), **access)


def parse_given(text: str) -> Given:
    """A configuration that is not in use yet and its secrets, given as JSON: ``config``, and ``secrets``.

    The secrets are the texts of the files that the role would write, by their names; an empty one is no file. They are kept
    in memory, for as long as this process lives.

    Raises ConfigurationError, never with a part of a secret.
    """
    try:
        document = _parsed(text)
        config, files = document["config"], document["secrets"]
        unknown = not set(files) <= _SECRET_FILES or not all(isinstance(content, str) for content in files.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        config, files, unknown = None, {}, True
    if unknown:
        raise ConfigurationError('A rehearsal needs {"config": {…}, "secrets": {…}}, with the secret files by name.')
    configuration = parse_config(json.dumps(config), "The configuration")
    opened: list[int] = []
    # The links lie there for this moment; what they lead to is memory of this process, and goes with it however it ends.
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for name, content in files.items():
            if content:
                # A key's last line is one only with its line break; a password's would be part of it.
                text = content if name.endswith("password") else content.rstrip("\n") + "\n"
                (directory / name).symlink_to(_in_memory(name, text, opened))
        secrets, copy_secrets = _led_to(load_secrets(directory)), _led_to(load_copy_secrets(directory))
    return Given(configuration, secrets, copy_secrets)


def _led_to(secrets: Secrets) -> Secrets:
    """The same, with the places that its links lead to."""

    def target(path: Path) -> Path:
        return path.readlink() if path.is_symlink() else path

    return replace(
        secrets,
        password_file=target(secrets.password_file),
        ssh_key=secrets.ssh_key and target(secrets.ssh_key),
        known_hosts=secrets.known_hosts and target(secrets.known_hosts),
        authority=secrets.authority and target(secrets.authority),
    )


def _file(directory: Path | None, name: str) -> Path:
    """The file of a secret: in a directory where one is given, else where a variable says, else among the agent's.

    Raises ConfigurationError where a variable names a file that is not there.
    """
    if directory is None and (named := secret_file(os.environ, name)):
        return named
    return (directory or SECRETS_DIRECTORY) / name


def _access_files(directory: Path | None) -> dict[str, Path]:
    return {field: _file(directory, name) for field, name in _ACCESS.items()}


def _existing(files: dict[str, Path]) -> dict[str, Path]:
    return {field: path for field, path in files.items() if _is_there(path)}


def _in_memory(name: str, content: str, opened: list[int]) -> Path:
    """Keep a secret in memory that goes with this process, however it ends; whom it starts reads it by the path."""
    descriptor = os.memfd_create(name)
    opened.append(descriptor)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
        file.write(content)
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _password(path: Path) -> Path:
    try:
        has_password = holds_password(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The repository's password {path} cannot be read: {error.strerror}; {_who_writes_it()}."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The repository's password {path} cannot be read: {error.strerror}; {_who_opens_it()}."
        ) from None
    if not has_password:
        raise ConfigurationError(f"The repository's password {path} is empty; {_who_writes_it()}.")
    return path


def holds_password(content: bytes) -> bool:
    """Whether restic finds a password in a file: it takes neither a byte order mark nor white space at both ends for one."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return bool(content.decode("utf-16" if is_utf16 else "utf-8-sig", "replace").strip())


def _who_writes_it() -> str:
    return PUT_BACK if is_configured(os.environ) else "run site.yml"


def _environment(path: Path) -> dict[str, str]:
    return parse_environment((_text(path) or "").splitlines(), str(path))


def parse_password(text: str) -> str:
    """A password of the repository, given as JSON. Raises ConfigurationError, never with a part of the text."""
    try:
        password = _parsed(text)["password"]
    except (ValueError, KeyError, TypeError):
        password = None
    if not isinstance(password, str):
        raise ConfigurationError('The password must be given as {"password": …}.')
    return password


def parse_environment(lines: list[str], source: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` lines, each value verbatim; empty lines and ``#`` lines are skipped.

    Raises ConfigurationError with the number of the line that is none, or that no program can be given, never with its text.
    """
    environment = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _ENVIRONMENT_NAME.match(name):
            raise ConfigurationError(f"{source}: line {number} is not KEY=VALUE.")
        if "\0" in value:
            raise ConfigurationError(f"{source}: line {number} has a NUL character, which no program can be given.")
        environment[name] = value
    return environment
