# SPDX-License-Identifier: GPL-3.0-or-later
"""What the labels of a database container may say to the agent, each in a few words."""

from __future__ import annotations

LABELS = {
    "scalr.backup": "`true`: back it up whatever its name is; `false`: leave it out, without a warning",
    "scalr.backup.name": "the name that its backups are kept under, even if the container is redeployed under another",
    "scalr.backup.service": "the same, where `scalr.backup.name` is not set",
    "scalr.backup.row-order": (
        "which tables are dumped in the order of a key: `auto`, `off`, or the tables that stay as they are, separated by commas"
    ),
    "scalr.backup.user": "the role to log in as",
    "scalr.backup.host": "where the server listens: a name or an address",
    "scalr.backup.socket": "where the server listens: the directory of its socket",
    "scalr.backup.port": "the server's port",
    "scalr.backup.database": "the database to connect to, instead of `postgres`",
    "scalr.backup.password_file": "a file in the container that holds the password",
    "scalr.backup.user_variable": "the container's variable that holds the role, such as `DB_USERNAME`",
    "scalr.backup.password_variable": "the container's variable that holds the password",
    "scalr.backup.database_variable": "the container's variable that holds the database",
    "scalr.backup.system_user": "the container's account to run as, for a server that authenticates by `peer`",
}
