# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's own settings mean for the space that a restore takes."""

from __future__ import annotations

from scalr_backup.core.room import DEFAULT_TABLESPACE, NOWHERE, LogSettings, Survey
from scalr_backup.tools.postgres.shapes import RoomRow


def unknown_room(known: RoomRow, container: str, user: str) -> Survey:
    """What is to be had where nobody says where the server's volumes are."""
    return Survey(
        log=NOWHERE,
        tablespaces={DEFAULT_TABLESPACE: NOWHERE, **dict.fromkeys(known["tablespaces"], NOWHERE)},
        settings=log_settings(known),
        log_bytes=0,
        sort_memory_bytes=known["sort_bytes"],
        processors=1,
        unknown=f"The user {user} of {container} may not read data_directory (GRANT pg_read_all_settings TO {user} allows it)",
    )


def log_settings(known: RoomRow) -> LogSettings:
    """How the server treats its log, by what it says of itself."""
    kept, hoards = int(known["kept_bytes"]), None
    if known["archive_fails"]:
        hoards = "archive_mode is on but nothing is archived, so the server keeps all of it"
    elif known["slots"] and (known["kept_for_slots"] or 0) < 0:
        hoards = f"the replication slot {known['slots'][0]} is not in use, so the server keeps all of it"
    elif known["slots"]:
        kept += known["kept_for_slots"] or 0
    return LogSettings(int(known["limit_bytes"]), kept, bool(known["checksums"]), hoards)
