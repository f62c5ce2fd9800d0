# SPDX-License-Identifier: GPL-3.0-or-later
"""Apprise: messages through any of its services (https://github.com/caronc/apprise).

An address holds a token or a password, so nothing here ever shows one: a service is named by its scheme and its place in
the list.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.text import readable

if TYPE_CHECKING:
    from apprise import NotifyBase

# Seconds that one service has for one message, whatever its own limits are.
_DELIVERY_SECONDS = 30.0
# Seconds that it has to answer: Apprise's own four are too few for a webhook that wakes up first, which would then get the same
# message again and again.
_ANSWER_SECONDS = 20.0
# Apprise's word for how urgent a message is, by the kinds of ours.
_TYPES = {"failure": "failure", "warning": "warning", "recovery": "success", "success": "success"}


@dataclass(frozen=True)
class Message:
    """What is said, to everybody alike."""

    kind: str
    title: str
    body: str


class Service:
    """One address of ``backup_notify``."""

    def __init__(self, url: str, place: int) -> None:
        self._url = url
        scheme = re.match(r"[a-zA-Z][a-zA-Z0-9+.-]{0,30}(?=://)", url)
        self.name = f"{scheme[0] if scheme else 'address'} (number {place} of backup_notify)"
        # What is on record of it must not tell its token.
        self.id = sha256(url.encode()).hexdigest()[:12]

    def check(self) -> None:
        """Raise ConfigurationError when Apprise cannot make anything of the address."""
        if _instance(self._url) is None:
            raise ConfigurationError(
                f"backup_notify: Apprise does not recognise {self.name}: its scheme, or what follows it, is wrong; "
                "https://github.com/caronc/apprise/wiki lists the addresses of all services."
            )

    def deliver(self, message: Message) -> str | None:
        """Deliver a message; what went wrong as a sentence, None where nothing did. Takes half a minute at most."""
        outcome: list[str | None] = [f"{self.name} did not accept the message within {_DELIVERY_SECONDS:.0f} s."]
        thread = threading.Thread(target=self._try, args=(message, outcome), daemon=True)
        thread.start()
        thread.join(_DELIVERY_SECONDS)
        return outcome[0]

    def _try(self, message: Message, outcome: list[str | None]) -> None:
        try:
            service = _instance(self._url)
            delivered = service is not None and service.notify(
                body=readable(message.body),
                title=readable(message.title),
                notify_type=_TYPES.get(message.kind, "info"),
            )
        except Exception as error:  # noqa: BLE001 (a plug-in's own error may quote the address, so only its kind is told)
            outcome[0] = f"{self.name} failed: {type(error).__name__}."
        else:
            outcome[0] = None if delivered else f"{self.name} refused the message, or did not answer."


def services(urls: Sequence[str]) -> tuple[Service, ...]:
    """The services behind addresses, in their order."""
    return tuple(Service(url, place) for place, url in enumerate(urls, start=1))


def _instance(url: str) -> NotifyBase | None:
    # Apprise brings more than a hundred services: importing them takes longer than most verbs run.
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415

    # What it logs may quote an address.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    # A message that is redirected arrives without its text, since a POST becomes a GET, and counts as delivered.
    asset = AppriseAsset(http_redirects=False)
    instance = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if not instance:
        return None
    instance.socket_read_timeout = max(instance.socket_read_timeout, _ANSWER_SECONDS)
    return instance
