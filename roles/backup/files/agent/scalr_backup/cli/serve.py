# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that keeps running: scheduled passes, metrics, and alerts."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any, cast

from scalr_backup.actions.health import alerts
from scalr_backup.actions.health.outbox import Courier, Recipients
from scalr_backup.actions.health.status import Status
from scalr_backup.cli.wiring import judge, recipients_of
from scalr_backup.core.config import Config, load_config
from scalr_backup.core.errors import ConfigurationError, ExitCode, ScalrBackupError
from scalr_backup.core.logs import LEVELS, make_logger
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.secrets import Addresses, load_addresses, load_secrets
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import State


def serve_verb() -> None:
    """Run passes on schedule until stopped; log JSON lines."""
    # No other verb needs these: the libraries for metrics and logs, and an HTTP server.
    from scalr_backup.service import server  # noqa: PLC0415
    from scalr_backup.service.lookout import Lookout  # noqa: PLC0415
    from scalr_backup.service.metrics_http import MetricsServer  # noqa: PLC0415

    try:
        config, state = load_config(), State()
        # A restic killed with the container left its spool. Only a drill, in its own container, may run now.
        restic = Restic(config, load_secrets())
        if not state.runs.any_alive():
            restic.clear_spool()
        recipients_of(load_addresses())  # Reject a bad address now, not at three in the morning.
        with MetricsServer(config, state), Lookout(state), _watch(config, state) as looker:
            exit_code = server.Server(config, state, [looker]).run()
        sys.exit(exit_code)
    except ScalrBackupError as error:
        make_logger().error("The agent cannot start.", code=error.code, reason=error.message)
        sys.exit(int(error.exit_code))
    except Exception as error:  # noqa: BLE001 (whatever it is, the log is one JSON object a line)
        make_logger().error("The agent has to end.", code="internal", reason=f"{type(error).__name__}: {error}")
        sys.exit(int(ExitCode.FAILED))


def _watch(config: Config, state: State) -> alerts.AlertWatch:
    """What watches while the agent serves; it re-reads the configuration, as the server does."""
    known = {"config": config, "addresses": Addresses(), "recipients": Recipients()}
    logger = make_logger()
    # The courier's threads ask, and so does the server's.
    asking = threading.Lock()

    def latest() -> Config:
        with asking, suppress(ConfigurationError):  # The server logs it; the previous one stays in force.
            known["config"] = load_config()
        return cast(Config, known["config"])

    def recipients() -> Recipients:
        with asking:
            try:
                if (addresses := load_addresses()) != known["addresses"]:
                    known.update(recipients=recipients_of(addresses), addresses=addresses)
            except ConfigurationError as error:
                if error.message != known.get("refused"):
                    known["refused"] = error.message
                    logger.error("The addresses are invalid; the previous ones stay in force.", reason=error.message)
            return cast(Recipients, known["recipients"])

    def say(level: str, text: str, **facts: Any) -> None:
        logger.log(LEVELS[level], text, **facts)

    def judged(config: Config, document: StateRecord) -> Status:
        return judge(config, document, state)

    return alerts.AlertWatch(state, latest, Courier(state, recipients, say), judged)
