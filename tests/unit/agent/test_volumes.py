# SPDX-License-Identifier: GPL-3.0-or-later
"""What df and stat say of the file systems below a container."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
from scalr_backup.core.errors import RoomUnknownError, SilentCommandError
from scalr_backup.core.room import Place
from scalr_backup.tools.docker import volumes
from scalr_backup.tools.docker.exec_stream import ExecResult

HEAD = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"


@pytest.mark.parametrize(
    ("told", "found"),
    [
        # GNU's df, BusyBox' df, and a device and a mount point with blanks.
        (f"{HEAD}overlay 100 40 50 45% /\n", ("overlay", "/", 50, 90)),
        (f"{HEAD}/dev/sda1   103081248  63840 34234 66% /pg/data\n", ("/dev/sda1", "/pg/data", 34234, 98074)),
        (f"{HEAD}//nas/a b 9 4 5 45% /pg data\nstat 1f 4096 9 9 9\n", ("//nas/a b", "/pg data", 5, 9)),
        # Where df does not tell, stat may.
        (f"{HEAD}none - - - - /data\nstat 1f 1024 100 60 50\n", ("file system 1f", "", 50, 90)),
        ("stat 1f 1024 100 60 50\n", ("file system 1f", "", 50, 90)),
        (f"{HEAD}none - - - - /data\n", None),
        ("", None),
    ],
)
def test_a_file_system(told, found):
    expected = found and Place("/pg data", found[0], found[1], found[2] * 1024, found[3] * 1024)
    assert volumes.read(f"{told}--\n", ["/pg data"]) == [expected]


def test_each_directory_has_its_own_answer():
    told = f"log 5\t/a\n{HEAD}a 9 4 5 45% /a\n--\n--\n{HEAD}c 9 4 3 45% /c\n--\n"
    found = volumes.read(told, ["/a", "/b", "/c"])
    assert [one and one.free_bytes for one in found] == [5 * 1024, None, 3 * 1024]


def test_an_answer_that_is_cut_short_knows_nothing_of_the_rest():
    assert volumes.read(f"{HEAD}a 9 4 5 45% /a\n--\n", ["/a", "/b"])[1] is None
    assert volumes.read("", ["/a", "/b"]) == [None, None]


def a_shell(path=None):
    """An engine that runs what it is given in a shell here."""

    def run(_container, argv, **_options):
        done = subprocess.run(argv, check=False, capture_output=True, env={"PATH": path or "/usr/bin:/bin"})
        return ExecResult(done.returncode, done.stdout, "")

    return SimpleNamespace(run=run)


def test_the_script_asks_df_and_says_what_stat_would(tmp_path):
    (tmp_path / "a b").mkdir()
    directories = [str(tmp_path / "a b"), "/", str(tmp_path / "nothing")]
    [here, root, nothing] = volumes.look(a_shell(), "c", directories)
    assert nothing is None
    assert here.total_bytes >= here.free_bytes > 0
    assert root.directory == "/"
    places, log_bytes, processors = volumes.survey(a_shell(), "c", directories[0], ["/"])
    assert [place.directory for place in places] == [directories[0], "/"]
    assert log_bytes >= 0
    assert processors >= 1


def test_without_df_stat_tells_and_without_either_nobody(tmp_path):
    for name in ("stat", "sh"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    [place] = volumes.look(a_shell(str(tmp_path)), "c", ["/"])
    assert place.device.startswith("file system")
    assert place.free_bytes > 0
    (tmp_path / "stat").unlink()
    assert volumes.look(a_shell(str(tmp_path)), "c", ["/"]) == [None]


def test_a_mount_that_hangs_is_not_waited_for():
    limits = []

    def run(_container, _argv, *, silence_seconds, most_bytes):
        limits.append(silence_seconds)
        raise SilentCommandError("nothing came.")

    with pytest.raises(
        RoomUnknownError, match=r"Cannot determine the free space of c: df of /data did not answer within 10 s"
    ):
        volumes.look(SimpleNamespace(run=run), "c", ["/data"])
    assert limits == [volumes.ANSWER_SECONDS]
