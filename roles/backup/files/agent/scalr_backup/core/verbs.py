# SPDX-License-Identifier: GPL-3.0-or-later
"""Which answer each verb gives."""

from __future__ import annotations

from scalr_backup.core.answers import (
    BackupPlanAnswer,
    CheckAnswer,
    DiscoverAnswer,
    DrillAnswer,
    ForgetAnswer,
    HealthAnswer,
    HistoryAnswer,
    NotifyAnswer,
    OpenedAnswer,
    PinAnswer,
    PruneAnswer,
    RehearseAnswer,
    RestoreAnswer,
    ScheduledCheckAnswer,
    SnapshotsAnswer,
    StatusAnswer,
    UnlockAnswer,
    ValidAddressesAnswer,
    ValidAnswer,
)
from scalr_backup.core.doctor_answers import DoctorAnswer
from scalr_backup.core.key_answers import KeyAddedAnswer, KeysAnswer, KeysRemovedAnswer, PasswordAnswer
from scalr_backup.core.records.passes import CopyRecord, PassRecord

# What each verb may answer; a verb that failed before it had an answer has none.
ANSWERS: dict[str, tuple[type, ...]] = {
    "backup": (PassRecord, BackupPlanAnswer),
    "check": (CheckAnswer, ScheduledCheckAnswer),
    "copy": (CopyRecord,),
    "discover": (DiscoverAnswer,),
    "doctor": (DoctorAnswer,),
    "drill": (DrillAnswer,),
    "forget": (ForgetAnswer,),
    "health": (HealthAnswer,),
    "history": (HistoryAnswer,),
    "init": (OpenedAnswer,),
    "key": (KeysAnswer, KeyAddedAnswer, KeysRemovedAnswer),
    "notify": (NotifyAnswer,),
    "password": (PasswordAnswer,),
    "pin": (PinAnswer,),
    "prune": (PruneAnswer,),
    "rehearse": (RehearseAnswer,),
    "restore": (RestoreAnswer,),
    "snapshots": (SnapshotsAnswer,),
    "status": (StatusAnswer,),
    "unlock": (UnlockAnswer,),
    "unpin": (PinAnswer,),
    "validate": (ValidAnswer, ValidAddressesAnswer),
}
