# SPDX-License-Identifier: GPL-3.0-or-later
"""Output that a page shows is held to what was printed: what is volatile may differ, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.printed import assert_as_shown

SHOWN = """
```sh
cd playbooks
ansible-playbook backup.yml
```

```text
HOST  RESULT  SNAPSHOT       READ  ROWS  TIME
----  ------  --------  ---------  ----  ----
web1  saved   af85f983  135.4 MiB  2185  27 s
…
1 host: 1 saved.
```
"""
PRINTED = """
TASK [Back up] ****
changed: [web1]

HOST       RESULT  SNAPSHOT     READ  ROWS          TIME
---------  ------  --------  -------  ----  ------------
web1       saved   1b942a53  9.4 GiB  2185  1 min 16 s

web1: something that the page leaves out

1 host: 1 saved.
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(SHOWN)
    return path


def test_another_id_size_time_and_width_are_the_same(page: Path) -> None:
    assert_as_shown(page, "ansible-playbook backup.yml", PRINTED)


@pytest.mark.parametrize(
    ("printed", "instead"),
    [("saved ", "failed"), ("2185", "2186"), ("RESULT", "OUTCOME"), ("1 host: 1 saved.", ""), ("SNAPSHOT", "TIME")],
)
def test_any_other_word_is_a_difference(page: Path, printed: str, instead: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md shows this"):
        assert_as_shown(page, "ansible-playbook backup.yml", PRINTED.replace(printed, instead))


def test_parts_come_in_their_order(page: Path) -> None:
    turned = "1 host: 1 saved.\n" + PRINTED.replace("1 host: 1 saved.", "")
    with pytest.raises(AssertionError, match="1 host: 1 saved"):
        assert_as_shown(page, "ansible-playbook backup.yml", turned)


def test_a_command_without_output_on_the_page_is_a_mistake(page: Path) -> None:
    with pytest.raises(AssertionError, match="shows no output of"):
        assert_as_shown(page, "ansible-playbook status.yml", PRINTED)


def test_which_lines_of_progress_there_are_is_chance_but_there_are_some(page: Path) -> None:
    page.write_text(SHOWN.replace("…\n", "…\nweb1 scalr-foo-db/foo: verify\n…\n"))
    with pytest.raises(AssertionError, match="printed no line of progress"):
        assert_as_shown(page, "ansible-playbook backup.yml", PRINTED)
    told = PRINTED.replace("\n1 host", "\nweb1 scalr-foo-db/foo: indexes and constraints, 3 of 16 (18 %)\n\n1 host")
    assert_as_shown(page, "ansible-playbook backup.yml", told)
