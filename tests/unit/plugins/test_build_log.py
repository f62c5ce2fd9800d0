# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of an image's build, the end of the log tells why it failed, and its head tells nothing."""

from __future__ import annotations

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils._reason import reason

COMMAND = "The command '/bin/sh -c apt-get update && apt-get install -y python3' returned a non-zero code: 100"
# As Docker 20.10 and newer print it: in pieces, with colours, and each step with what the engine did.
OFFLINE = [
    "Step 1/31 : ARG BASE_IMAGE=debian", "", "Step 7/31 : FROM debian AS libraries", "", " ---> 6f776120287c",
    "Step 8/31 : RUN apt-get update && apt-get install -y python3", "", " ---> Running in 71f44595a219",
    "Ign:1 http://deb.example.org/debian trixie InRelease", "Reading package lists...", "",
    "\x1b[91mW:\x1b[0m", "\x1b[91m \x1b[0m",
    "\x1b[91mFailed to fetch http://deb.example.org/debian/dists/trixie/InRelease  Temporary failure resolving 'deb.example.org'",
    "\x1b[0m", "Building dependency tree...", "\x1b[91mE: Unable to locate package python3", "\x1b[0m",
    "Removing intermediate container 71f44595a219",
]  # fmt: skip


def failed(message: str, logs: list[str]) -> str:
    """The sentence for a build; the module puts all of its log into the message."""
    return reason({"msg": f"Error building agent:1 - code: 1, message: {message}, logs: {logs}"}, "Build the image")


def test_what_apt_has_said_is_the_reason() -> None:
    assert failed(COMMAND, OFFLINE) == (
        "Build the image: it ended with: Ign:1 http://deb.example.org/debian trixie InRelease W: Failed to fetch "
        "http://deb.example.org/debian/dists/trixie/InRelease Temporary failure resolving 'deb.example.org' "
        "E: Unable to locate package python3."
    )


def test_of_a_long_log_the_end_is_kept_by_whole_words() -> None:
    said = failed(COMMAND, [*OFFLINE[:8], *["E: Unable to locate package number"] * 400, "E: This is why"])
    assert said.startswith("Build the image: it ended with: …")
    assert said.endswith(" E: Unable to locate package number E: This is why.")
    assert said.partition("…")[2].split()[0] in {"E:", "Unable", "to", "locate", "package", "number"}
    assert len(said) < 450


@pytest.mark.parametrize(
    ("message", "logs"),
    [
        # The step itself could not begin, such as FROM without a registry.
        ("dial tcp: lookup registry-1.docker.io: no such host", [*OFFLINE[:4], "Step 7/31 : FROM debian:13", ""]),
        # Podman prints steps in another way.
        ('building at STEP "RUN false": exit status 1', ["STEP 1/2: FROM debian", "--> 6f776120287c", "STEP 2/2: RUN false"]),
        ("no space left on device", []),
    ],
)  # fmt: skip
def test_where_the_last_step_has_printed_nothing_the_engine_says_why(message: str, logs: list[str]) -> None:
    assert failed(message, logs) == f"Build the image: it ended with: {message}."


def test_a_log_that_cannot_be_read_is_still_shown_from_its_end() -> None:
    said = reason({"msg": f"Error building agent:1 - message: x, logs: ['{'a ' * 300}', E: This is why"})
    assert said.endswith("E: This is why.")


def test_a_log_neither_steers_the_terminal_nor_tells_what_opens_a_store() -> None:
    said = failed(COMMAND, ["\x1b]0;mine\x07E: http://me:p@canary/1@proxy.test/ \x9b2J\u202e denied"])
    assert "canary" not in said
    assert said.isprintable()
