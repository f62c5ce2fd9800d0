"""The documentation is held to the code, and the code to the documentation.

Every command that is shown is run by a test (``tests/support/documented.py``) or stands below with the reason why not.
Every verb, playbook, module, role variable and error code is documented, and none is that does not exist.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
import yaml
from scalr_backup.actions.doctor.looks import Looks, Sources
from scalr_backup.actions.doctor.run import checks
from scalr_backup.actions.health.metrics import METRICS
from scalr_backup.actions.retention import policy as retention
from scalr_backup.cli import app as cli
from scalr_backup.cli import health
from scalr_backup.core import remedies
from scalr_backup.core.archive.head import VERSIONS
from scalr_backup.core.config import Config
from scalr_backup.core.errors import COMPOSED, ExitCode, ScalrBackupError
from scalr_backup.core.labels import LABELS
from scalr_backup.core.schedule import overdue_at
from scalr_backup.core.units import human_age

from tests.support import cores
from tests.support.role_variables import role_variables, variable_files
from tests.unit.agent.test_floors import FLOORS, FOLDERS, PACKAGE

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"
REFERENCE = CHECKOUT / "docs/reference.md"
PAPERS = [CHECKOUT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")]
PAGES = [README, *PAPERS, *sorted((CHECKOUT / "docs").rglob("*.md"))]
ROLE_PAGES = sorted((CHECKOUT / "roles").glob("*/README.md"))

# Shown, and not run by a test of their own.
NOT_RUN = {
    "make test": "it is what runs the tests",
    "make setup": "make test begins with it",
    "make lint": "make test runs the same folder of tests",
    "make sanity": "a test of that folder runs it",
    ".venv/bin/pytest tests/unit/agent/test_schedule.py": "this is such a run",
    ".venv/bin/pytest tests/unit -n 4": "this is such a run",
    "apt-get install --no-install-recommends podman catatonit nftables docker-cli": "the machine of tests/integration/test_podman.py has them",
    "apt-get install --no-install-recommends podman catatonit nftables docker-cli uidmap passt dbus-user-session": "the same",
    "systemctl enable --now podman.socket": "that machine has no systemd",
    "systemctl enable podman-restart.service": "that machine has no systemd",
    "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 app": "useradd has given that machine's user its numbers",
    "loginctl enable-linger app": "that machine has no systemd",
    "systemctl --user --machine app@.host enable --now podman.socket": "that machine has no systemd",
    "systemctl --user --machine app@.host enable podman-restart.service": "that machine has no systemd",
}
# Words of the documentation that begin like a variable of the role, and are none.
NOT_VARIABLES = {"backup_hosts", "backup_serial", "backup_failed", "backup_in_future", "backup_too_old"}
# Codes that no finding is made of, or that say no more than their sentence; every other one has its cure in remedies.py.
CODES_OF_AN_ANSWER = {
    "ambiguous_snapshot", "append_only", "checks_failed", "databases_failed", "failed",
    "key_in_use", "no_image", "no_memory", "no_room", "no_room_left", "room_unknown",
    "drill_refused", "not_confirmed", "not_safe", "partly_unknown", "restore_incomplete", "prepared_transactions", "retention", "throwaway_container",
    "unknown_database", "unknown_key", "unknown_run", "unknown_snapshot", "usage",
}  # fmt: skip


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, those within a list too."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _indent, block in found]


def commands() -> dict[str, Path]:
    """Every command that is shown, a line each; changing into a directory is no command of its own."""
    shown = {line: page for page in PAGES for block in blocks(page, "sh") for line in block.splitlines() if line}
    return {line: page for line, page in shown.items() if not line.startswith("cd ")}


def calls_of_documented() -> set[str]:
    """The commands that tests take from the documentation, read out of the tests' source."""
    found = set()
    for path in (CHECKOUT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "documented":
                first = node.args[0]
                assert isinstance(first, ast.Constant), f"{path}:{node.lineno}: documented() wants the command itself"
                found.add(first.value)
    return found


def table(page: Path, first_column: str) -> set[str]:
    """The code in the first column of the table that has this heading."""
    lines = page.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows: set[str] = set()
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.update(re.findall(r"`([^`]+)`", line.split("|")[1]) or {line.split("|")[1].strip()})
    return rows


def everything_written() -> str:
    return "\n".join(page.read_text() for page in [*PAGES, *ROLE_PAGES])


def galaxy() -> dict:
    return yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())


def anchors(page: Path) -> set[str]:
    """What places of a page can be reached by: its headings, as GitHub names them, and the anchors that it sets itself."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = set(re.findall(r'<a id="([^"]+)"></a>', text))
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w -]", "", words.lower()).replace(" ", "-")
        taken = sum(1 for other in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
        found.add(f"{name}-{taken}" if name in found else name)
    return found


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its kind."""
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)[1]


def pinned_cores() -> list[str]:
    """The lines of ansible-core that the tests run with, the oldest first."""
    pins = "".join((CHECKOUT / "requirements" / name).read_text() for name in ("cores.txt", "controller.txt"))
    found = set(re.findall(r"^ansible-core==(\d+\.\d+)", pins, re.MULTILINE))
    return sorted(found, key=lambda line: [int(part) for part in line.split(".")])


def role_options(role: str) -> dict[str, dict]:
    return yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]


def verbs() -> set[str]:
    return {command.name or command.callback.__name__ for command in cli.app.registered_commands}


def error_classes(base: type[ScalrBackupError] = ScalrBackupError) -> Iterator[type[ScalrBackupError]]:
    yield base
    for derived in base.__subclasses__():
        yield from error_classes(derived)


def test_every_command_that_is_shown_is_run_by_a_test() -> None:
    run = calls_of_documented() | set(NOT_RUN)
    unproved = {command: str(page.relative_to(CHECKOUT)) for command, page in commands().items() if command not in run}
    assert unproved == {}


def test_no_test_claims_a_command_that_is_not_shown() -> None:
    assert (calls_of_documented() | set(NOT_RUN)) - set(commands()) == set()


def test_yaml_that_is_shown_can_be_read_and_names_real_variables() -> None:
    for page in [*PAGES, *ROLE_PAGES]:
        for block in blocks(page, "yaml"):
            assert yaml.safe_load(block), page
            named = set(re.findall(r"\bbackup_\w+(?=:)", block))
            assert named <= set(role_options("backup")), page


def test_the_verbs_are_those_of_the_agent() -> None:
    assert table(REFERENCE, "verb") == verbs()


def test_verbs_in_the_text_exist() -> None:
    assert set(re.findall(r"scalr-backup scalr-backup ([a-z]\w*)", everything_written())) <= verbs()


def test_the_playbooks_are_those_of_the_collection() -> None:
    existing = {path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")}
    assert {name for name in table(REFERENCE, "playbook") if name} == existing


def test_every_variable_of_a_playbook_is_documented() -> None:
    """What a playbook takes with -e is in its table, and nothing else is."""
    page = CHECKOUT / "docs/reference/playbooks.md"
    for name in ("backup", "restore", "drill", "status", "check", "prune", "rotate_password", "recovery_kit"):
        documented = set(re.findall(r"^\| `(\w+)` \|", section(page, name), re.MULTILINE))
        # What its plays share is in a file of its own.
        files = [CHECKOUT / f"playbooks/{name}.yml", *(CHECKOUT / "playbooks/vars").glob(f"{name}.yml")]
        text = "".join(file.read_text() for file in files)
        taken = set(re.findall(r"{{ (\w+) \| default\(", text)) | set(
            re.findall(r"(?<![.\w])(\w+) \| default\(true\)", text)
        )
        taken = {variable for variable in taken if not variable.startswith((f"{name}_", "backup_"))}
        assert taken <= documented, name
        assert documented <= set(re.findall(r"\w+", text)), name


@pytest.mark.parametrize("role", ["backup", "docker", "monitoring"])
def test_the_variables_are_those_of_the_role(role: str) -> None:
    page = CHECKOUT / f"roles/{role}/README.md"
    assert table(page, "variable") == set(role_options(role))


def test_variables_in_the_text_exist() -> None:
    known = set(role_options("backup")) | NOT_VARIABLES
    assert set(re.findall(r"(?<![\w.])backup_[a-z_]+\b", everything_written())) - known == set()


@pytest.mark.parametrize("page", ["README.md", "roles/backup/README.md"])
def test_the_defaults_are_those_of_the_role(page: str) -> None:
    """A default that the table shows is the role's, unless the cell is empty and so is the default."""
    options = role_options("backup")
    for line in (CHECKOUT / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and cells[1].startswith("`backup_") and "," not in cells[1]:
            shown, default = cells[2].strip("`"), options[cells[1].strip("`")]["default"]
            assert (shown or "") == default or yaml.safe_load(shown) == default, line


def test_the_metrics_are_those_of_the_agent() -> None:
    """With their labels, each with what it says of itself."""
    text = (CHECKOUT / "docs/monitoring.md").read_text()
    rows = re.findall(r"^\| `(scalr_backup_\w+)`(?: by ([\w, ]+))? \| (.+) \|$", text, re.MULTILINE)
    assert rows == [
        (metric.full_name, ", ".join(metric.labels), metric.help[0].lower() + metric.help[1:].rstrip("."))
        for metric in METRICS
    ]


def test_the_alerts_are_those_of_the_rules() -> None:
    rules = yaml.safe_load((CHECKOUT / "roles/monitoring/files/prometheus/scalr-backup.rules.yml").read_text())
    rows = re.findall(r"^\| `(Scalr\w+)` \| (\w+) \|", (CHECKOUT / "docs/monitoring.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((one["alert"], one["labels"]["severity"]) for one in rules["groups"][0]["rules"])


def test_every_alert_leads_to_what_to_do() -> None:
    rules = yaml.safe_load((CHECKOUT / "roles/monitoring/files/prometheus/scalr-backup.rules.yml").read_text())
    blob = "https://github.com/scalr/ansible-backup/blob/main/"
    for rule in rules["groups"][0]["rules"]:
        page, _hash, place = rule["annotations"]["runbook_url"].removeprefix(blob).partition("#")
        text = (CHECKOUT / page).read_text()
        headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
        # A code of a finding or a failure has its place in a table: see the tests of these.
        assert place == "{{ $labels.code }}" or place in headings, rule["alert"]
    anchors = re.findall(r'<a id="([a-z_]+)"></a>`([a-z_]+)`', (CHECKOUT / "docs/alerts.md").read_text())
    assert {anchor for anchor, _code in anchors} == table(CHECKOUT / "docs/alerts.md", "finding")
    assert all(anchor == code for anchor, code in anchors)


def test_the_modules_are_documented() -> None:
    modules = {path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py")}
    # What only the collection's own playbooks use needs no place in the user's documentation.
    internal = {"image_archive", "known_variables", "page", "report"}
    playbooks = {path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")}
    named = set(re.findall(r"`scalr\.backup\.(\w+)`", everything_written()))
    assert modules - internal <= named
    # A container's labels have names of that form, too.
    labels = {label.removeprefix("scalr.backup.") for label in LABELS if re.fullmatch(r"scalr\.backup\.\w+", label)}
    assert named <= modules | playbooks | {"backup", "docker", "monitoring"} | labels
    assert labels <= named


def test_the_demo_does_the_tutorials_steps_that_the_tutorial_says_it_does() -> None:
    """Each playbook of the tutorial is in the demo, or its step is left out of that sentence."""
    page = CHECKOUT / "docs/tutorial.md"
    demo = (CHECKOUT / "demo/run").read_text()
    steps = re.findall(r"^## (\d)\. .*?\n(.*?)(?=^## )", page.read_text(), re.MULTILINE | re.DOTALL)
    played = {int(step): set(re.findall(r"^ansible-playbook (\w+\.yml)", text, re.MULTILINE)) for step, text in steps}
    done = {step for step, books in played.items() if books and all(f"play {book}" in demo for book in books)}
    assert {step for step, books in played.items() if books} - done == {7}
    assert "`make demo` does steps 2 to 6 and 8" in page.read_text()


def test_every_explanation_and_every_recipe_is_on_its_index() -> None:
    for folder in ("explanation", "how-to"):
        index = CHECKOUT / "docs" / folder / "README.md"
        linked = set(re.findall(r"\]\(([\w-]+\.md)\)", index.read_text()))
        assert {path.name for path in index.parent.glob("*.md")} - {"README.md"} == linked, folder


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.read_text().split()) <= 1200


def test_what_is_needed_is_what_the_code_asks_for() -> None:
    """Each requirement, and where it is enforced or tested."""
    text = section(README, "What it needs")
    oldest, *_, newest = pinned_cores()

    assert f"ansible-core {oldest} or newer" in text
    assert f"ansible-core {', '.join(pinned_cores()[:-1])} and {newest}, and" in text
    assert yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())["requires_ansible"] == f">={oldest}.0"
    for role in ("backup", "docker", "monitoring"):
        meta = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/main.yml").read_text())
        assert meta["galaxy_info"]["min_ansible_version"] == oldest
    assert f"with Python {cores.PYTHONS[oldest][0]} or newer" in text
    assert f"`community.docker`, `{galaxy()['dependencies']['community.docker']}`" in text

    assert "Python 3.9 or newer" in text
    assert "version('3.9', '<')" in (CHECKOUT / "roles/backup/tasks/machine.yml").read_text()
    memory = role_variables(CHECKOUT / "roles/backup")["__backup_least_memory_mb"]
    assert f"{memory} MiB of memory" in text


def test_the_versions_of_postgresql_are_those_that_are_read_and_tested() -> None:
    text = section(README, "What it needs")
    # pg_dump 12 to 15 write 1.14, 16 writes 1.15, 17 and 18 write 1.16.
    assert {version[:2] for version in VERSIONS} == {(1, 14), (1, 15), (1, 16)}
    assert "PostgreSQL 12 to 18" in text
    tests = "".join(path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py"))
    assert set(re.search(r"with PostgreSQL (\d+), (\d+) and (\d+)", text).groups()) <= set(
        re.findall(r"postgres:(\d+)", tests)
    )


# What the section says is not done, and what would stand in the agent if it were.
NOT_DONE = {
    "No point-in-time recovery": "recovery_target",
    "A pass reads every database in full": "--incremental",
}


def test_what_it_does_not_do_is_not_done() -> None:
    text = section(README, "What it does not do yet")
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    for sentence, trace in NOT_DONE.items():
        assert sentence in text
        assert not re.search(trace, source), sentence


def test_every_way_to_be_told_stands_where_nobody_is_told() -> None:
    """The section says that nobody is told before somebody is named: by these variables, which name nobody by default."""
    text = section(README, "What it does not do yet")
    options = role_options("backup")
    ways = {name for name in options if re.match(r"backup_(notify|heartbeat_url|metrics_\w+)$", name)}
    assert ways == set(re.findall(r"`(backup_(?:notify|heartbeat|metrics)\w*)`", text))
    assert not any(options[name]["default"] for name in ways)


def test_the_health_check_is_described_by_what_it_asks() -> None:
    night = datetime(2026, 11, 22, 3, tzinfo=UTC)
    hours = int((overdue_at(Config(host="h", repository="/r"), night) - night).total_seconds() // 3600)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", REFERENCE.read_text(), re.MULTILINE))
    assert f"younger than {hours} hours" in rows["health"]
    assert f"younger than {hours} hours" in health.health.__doc__


def test_what_an_hourly_pass_asks_of_a_store_is_what_is_counted() -> None:
    """The table is held to what a proxy counts (tests/integration); the sentence about hours follows from it."""
    row = re.search(r"^\| an hourly pass \| (\d+) \| (\d+) \|", (CHECKOUT / "docs/stores.md").read_text(), re.MULTILINE)
    assert row
    billed = int(row[1]) + int(row[2])
    text = " ".join((CHECKOUT / "docs/retention.md").read_text().split())
    assert f"puts or lists something {billed} times, {round(billed * 24 * 30, -3):,} times a month" in text


def test_what_the_page_says_of_ages_is_what_the_schedule_makes() -> None:
    text = (CHECKOUT / "docs/monitoring.md").read_text().split("### How old a good backup may be")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)`[^|]*\| ([^|;]+?)(?:;[^|]*)? \|$", text, re.MULTILINE)
    night = datetime(2026, 11, 22, 3, tzinfo=UTC)
    told = {cron: words for cron, words in rows if cron != "backup_schedule"}
    assert len(told) == 6
    for cron, words in told.items():
        # On a Tuesday, at the moment of a pass, and on a Sunday for a weekly one.
        good = night if cron.endswith("0") else night + timedelta(days=2, hours=9)
        good = good.replace(hour=3) if " 3 " in cron else good
        overdue = overdue_at(Config(host="h", repository="/r", schedule=cron), good)
        assert human_age((overdue - good).total_seconds()) == _short(words), cron


def _short(words: str) -> str:
    """An age as the agent says it."""
    return words.replace("7 days and 2 h", "7 d 2 h").replace("26 h", "1 d 2 h")


def test_the_days_that_snapshots_stay_are_those_of_the_retention_rules() -> None:
    text = " ".join(REFERENCE.read_text().split())
    assert f"every manual one stays for {retention._KEEP_EVERY_MANUAL.removesuffix('d')} days" in text
    assert f"`pre-restore`, stays for {retention._KEEP_EVERY_PRE_RESTORE.removesuffix('d')} days" in text


def test_things_on_a_host_are_where_the_role_puts_them() -> None:
    text = section(REFERENCE, "Where things are on a host")
    variables = "".join(path.read_text() for path in variable_files(CHECKOUT / "roles/backup"))
    directory = role_options("backup")["backup_directory"]["default"]
    for path in re.findall(r"`(/opt/[^`]+)`", text):
        assert path.startswith(f"{directory}/"), path
        assert Path(path).name in variables, path
    for name in re.findall(r"(?:container|volume) `([\w-]+)`", text):
        assert re.search(rf": {name}$", variables, re.MULTILINE), name


def test_the_error_codes_are_those_of_the_agent() -> None:
    codes = {derived.code for derived in error_classes()} | set(COMPOSED)
    assert table(CHECKOUT / "docs/troubleshooting.md", "code") == codes


def test_the_cures_are_those_that_findings_tell() -> None:
    rows = re.findall(
        r'^\| <a id="(\w+)"></a>`(\w+)` \| .*? \| (.*?) \|$',
        (CHECKOUT / "docs/troubleshooting.md").read_text(),
        re.MULTILINE,
    )
    assert all(anchor == code for anchor, code, _cure in rows)
    written = {code: re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cure).replace("`", "") for _anchor, code, cure in rows}
    assert {derived.code for derived in error_classes()} | set(COMPOSED) == set(written)
    told = {code: remedies.cure(code) for code in written}
    assert {code: cure for code, cure in told.items() if cure} == {
        code: f"{cure[:1].upper()}{cure[1:]}." for code, cure in written.items() if told[code]
    }
    # Nothing is ever found wrong by these: they answer somebody who is there and has asked, or say no more than their sentence.
    assert {code for code, cure in told.items() if not cure} == CODES_OF_AN_ANSWER


def test_composed_codes_are_in_the_agent() -> None:
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert all(f'"{code}"' in source for code in COMPOSED)


def test_the_checks_of_the_doctor_are_those_of_the_agent() -> None:
    looks = Looks(cast(Sources, None))
    assert table(REFERENCE, "check") == {check.name for check in checks(looks)}


def test_the_exit_codes_are_those_of_the_agent() -> None:
    assert table(CHECKOUT / "docs/reference/errors.md", "exit code") == {str(int(code)) for code in ExitCode}


@pytest.mark.parametrize("page", [*PAGES, *ROLE_PAGES], ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
    for target in re.findall(rf"\]\({re.escape(galaxy()['repository'])}/blob/main/([^)#]+)", page.read_text()):
        assert (CHECKOUT / target).exists(), target


@pytest.mark.parametrize("page", [PAGES[0], *ROLE_PAGES], ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_pages_that_galaxy_shows_have_no_relative_links(page: Path) -> None:
    """Galaxy and an installed copy know nothing of the files beside them."""
    relative = re.findall(r"\]\((?!https://|#)([^)]*)\)", page.read_text())
    assert relative == []


def test_anchors_lead_to_a_heading() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text()):
            there = (
                CHECKOUT / target.removeprefix(f"{galaxy()['repository']}/blob/main/")
                if "://" in target
                else (page.parent / target if target else page)
            )
            assert anchor in anchors(there), f"{page.relative_to(CHECKOUT)}: {target}#{anchor}"


def test_every_law_is_proved_by_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d) \| (.*?) \| (.*?) \|$", (CHECKOUT / "docs/architecture.md").read_text(), re.MULTILINE)
    assert [row[0] for row in rows] == [str(number) for number in range(1, 9)]
    for number, _law, proofs in rows:
        assert_tests_exist(number, proofs)


def test_every_guard_of_passes_is_proved_by_tests_that_exist() -> None:
    text = section(CHECKOUT / "docs/architecture.md", "Guards of passes, and which test proves each")
    _heading, _line, *rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert rows
    for danger, _guard, proofs in rows:
        assert_tests_exist(danger, proofs)


def assert_tests_exist(what: str, proofs: str) -> None:
    names = re.findall(r"`(\S+)::(\w+)`", proofs)
    assert names, what
    for path, name in names:
        tree = ast.parse((CHECKOUT / path).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


def test_files_that_are_named_exist() -> None:
    text = (CHECKOUT / "docs/architecture.md").read_text()
    for path in re.findall(r"`((?:roles|plugins|playbooks|tests|molecule)/[\w/._]*)`", text):
        assert (CHECKOUT / path.split("::")[0]).exists(), path


def test_every_folder_of_the_agent_is_shown_with_its_floor() -> None:
    text = section(CHECKOUT / "docs/architecture.md", "Inside the agent")
    shown = re.findall(r"^\| `([\w/]+)/` \|", text, re.MULTILINE)
    assert shown == sorted(shown, key=lambda folder: (-FLOORS.index(folder.split("/")[0]), folder))
    assert set(shown) == {folder.relative_to(PACKAGE).as_posix() for folder in FOLDERS} - {"."}
