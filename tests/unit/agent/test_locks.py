# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of locks: whatever a container is called, its lock has a file."""

from __future__ import annotations

import pytest
from scalr_backup.core.errors import BusyError
from scalr_backup.tools.locks import Locks, container_lock


@pytest.mark.parametrize("name", ["a" * 249, "a" * 255, "a" * 4000, "ü" * 200])
def test_a_container_of_any_name_can_be_locked(tmp_path, name):
    locks = Locks(tmp_path)
    with locks.hold(container_lock(name), "me"):
        with pytest.raises(BusyError, match="is in use: me"), locks.hold(container_lock(name), "you"):
            pass
        with locks.hold(container_lock(name + "b"), "you"):
            pass  # Names that begin alike are not one.


def test_a_short_name_stands_as_it_is():
    assert container_lock("scalr-shop-db") == "container-scalr-shop-db"
    assert container_lock("a" * 200) == f"container-{'a' * 200}"


def test_locks_of_long_names_are_forgotten_with_their_container(tmp_path):
    locks = Locks(tmp_path)
    with locks.hold(container_lock("scalr-gone-" + "x" * 250), "me"):
        pass
    locks.forget_containers("scalr-gone-")
    assert list((tmp_path / "locks").iterdir()) == []
