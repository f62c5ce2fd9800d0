# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages on the controller: who can read them, from the first byte on, and where they go."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils import _page_file as page_file
from ansible_collections.scalr.backup.plugins.plugin_utils._page_file import PageError, parse_mode, write_page


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("0600", 0o600), ("640", 0o640), ("0444", 0o444), ("u=rw", 0o600), ("u=rw,g=r", 0o640), ("a+r", 0o644),
        ("go=r", 0o644), ("u-w", 0o400), ("u=rw,go=", 0o600),
    ],
)  # fmt: skip
def test_permissions_are_octal_or_symbolic(given, mode):
    assert parse_mode("report_mode", given) == mode


@pytest.mark.parametrize(
    "given",
    [416, 0o600, "", "0755", "4600", "u+x", "u=rwx", "0200", "u-r", "rw", "0899", "u=rw g=r", None, "u=rw,", ["0600"]],
)
def test_what_are_none_is_a_sentence(given):
    with pytest.raises(PageError, match=r"^report_mode is .*: it must be the octal permissions of a file"):
        parse_mode("report_mode", given)


def test_a_number_without_quotation_marks_is_told_so():
    with pytest.raises(PageError, match="in quotation marks"):
        parse_mode("report_mode", 0o644)


@pytest.mark.parametrize("before", [None, 0o644])
def test_nobody_else_can_read_it_at_any_moment(tmp_path, monkeypatch, before):
    path, seen = tmp_path / "page.html", []
    if before:
        path.write_text("an older one")
        path.chmod(before)
    replace, write = os.fsync, Path.replace

    def look(*_arguments):
        seen.extend(mode_of(one) for one in tmp_path.iterdir() if one != path)

    monkeypatch.setattr(page_file.os, "fsync", lambda descriptor: (look(), replace(descriptor)))
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (look(), write(self, target), seen.append(mode_of(target)))
    )
    old = os.umask(0)
    try:
        assert write_page(path, "canary", 0o600)
    finally:
        os.umask(old)

    assert seen == [0o600, 0o600, 0o600]
    assert (path.read_text(), mode_of(path), list(tmp_path.iterdir())) == ("canary", 0o600, [path])


def test_what_is_so_already_is_left_alone_and_an_open_one_is_closed(tmp_path):
    path = tmp_path / "page.html"
    assert write_page(path, "ü\ud800", 0o640)
    assert not write_page(path, "ü\ud800", 0o640)
    assert write_page(path, "ü\ud800", 0o600)
    assert (mode_of(path), path.read_text()) == (0o600, "ü\\ud800")
    assert write_page(path, "other", 0o600, dry_run=True)
    assert path.read_text() == "ü\\ud800"


def test_a_link_that_somebody_else_may_have_placed_is_refused_and_leads_nowhere(tmp_path):
    shared, victim = tmp_path / "shared", tmp_path / "authorized_keys"
    shared.mkdir()
    shared.chmod(0o1777)
    victim.write_text("mine")
    (shared / "page.html").symlink_to(victim)

    with pytest.raises(PageError, match="is a symbolic link in a directory that others can write to"):
        write_page(shared / "page.html", "canary", 0o600)

    assert victim.read_text() == "mine"


def test_a_link_of_my_own_is_followed(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "www").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "www/index.html")

    assert write_page(tmp_path / "page.html", "page", 0o644)

    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "www/index.html").read_text() == "page"


def test_another_name_of_a_file_is_not_written_through(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "page.html"
    victim.write_text("mine")
    path.hardlink_to(victim)

    write_page(path, "canary", 0o600)

    assert (victim.read_text(), path.read_text()) == ("mine", "canary")


def test_where_it_cannot_be_written_nothing_is_left(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(PageError, match=r"^Cannot write .*page.html: Is a directory; nothing was changed there\.$"):
        write_page(tmp_path / "page.html", "x", 0o600)
    with pytest.raises(PageError, match=r"^Cannot write /proc/page.html: "):
        write_page(Path("/proc/page.html"), "x", 0o600)
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
