#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the pages of ``docs/reference/`` from the code, and ``docs/README.md`` from the site's navigation.

A test compares what is there with what belongs there, so that a page cannot say something else than the code does.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = CHECKOUT / "docs"
RULES = CHECKOUT / "roles/monitoring/files/prometheus/scalr-backup.rules.yml"
ROLES = ("backup", "docker", "monitoring")
sys.path[:0] = [str(CHECKOUT / path) for path in ("roles/backup/files/agent", ".ansible/collections", "tools/site")]

_MADE = "<!-- Made by tools/make_reference.py: do not edit. -->"


def page(title: str, *parts: str) -> str:
    """A page of these paragraphs, tables and headings."""
    return "\n\n".join([f"# {title}", _MADE, *parts]) + "\n"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what would end a cell is escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(_cell(one) for one in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def plain(text: str) -> str:
    """A docstring's or a help's words, as Markdown shows them: nothing of it becomes a tag or emphasis."""
    text = text.replace("``", "`")
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([<>*\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts
    )


def code(text: object) -> str:
    """The same letters, as code; nothing where there is nothing."""
    return f"`{text}`" if str(text) else ""


def verbs() -> str:
    """Each verb: what it does, its options with their defaults, an example."""
    import typer  # noqa: PLC0415 (only this page needs it)
    from scalr_backup.cli.app import app  # noqa: PLC0415 (the agent's path is known only now)
    from scalr_backup.cli.options import EXAMPLE  # noqa: PLC0415
    from scalr_backup.core.verbs import ANSWERS  # noqa: PLC0415

    program: Any = typer.main.get_command(app)
    parts = [
        "The agent's program is called in its container: `docker exec scalr-backup scalr-backup`, then the verb. With `--json`, it prints "
        "events, and last one line with the result. [Exit codes and error codes](errors.md) are the same for all verbs."
    ]
    for name, verb in program.commands.items():
        context = verb.make_context(name, [], resilient_parsing=True)
        options = [one for one in verb.get_params(context) if one.name != "help"]
        parts += [f"## {name}", plain(" ".join((verb.help or "").split()))]
        if options:
            parts.append(table(("option", "does", "default"), [_option(one, context) for one in options]))
        parts.append(f"Example: `{verb.epilog.removeprefix(EXAMPLE)}`")
        if name in ANSWERS:
            parts.append(f"Its result: [{name}.json](../schemas/{name}.json), a JSON Schema.")
    return page("Verbs of the agent", *parts)


def _option(option: Any, context: Any) -> tuple[str, str, str]:
    written, words = option.get_help_record(context)
    words = re.sub(r"\s*\[default: [^\]]*\]", "", words)
    is_off = option.default is None or option.default is False or option.default == ()
    return code(written), plain(words), "" if is_off else code(option.default)


def errors() -> str:
    """Exit codes, and each error code with its exit code and its cure."""
    from scalr_backup.core import remedies  # noqa: PLC0415
    from scalr_backup.core.errors import COMPOSED, ExitCode  # noqa: PLC0415

    meanings = {
        ExitCode.GOOD: "all good",
        ExitCode.FAILED: "failed",
        ExitCode.USAGE: "wrong usage or configuration; nothing was changed",
        ExitCode.SOME_DATABASES_FAILED: "some databases failed, the others succeeded",
    }
    rows = {
        **{name: (words, "") for name, words in COMPOSED.items()},
        **{kind.code: (_first_sentence(kind), str(int(kind.exit_code))) for kind in _error_classes()},
    }
    return page(
        "Exit codes and error codes",
        "Every verb, and the scripts and playbooks that call one, ends with one of these:",
        table(("exit code", "means"), [(str(int(one)), meanings[one]) for one in ExitCode]),
        "A failure has a code, `error.code` in `--json` and `code` in a module's result. Codes are stable; the sentences may "
        "change between releases. [Troubleshooting](../troubleshooting.md#the-codes) has more on each.",
        table(
            ("error code", "what happened", "exit", "what helps"),
            [
                (f"[`{name}`](../troubleshooting.md#{name})", plain(words), exit_code, plain(remedies.cure(name)))
                for name, (words, exit_code) in sorted(rows.items())
            ],
        ),
        "Where no exit code stands, it is that of the verb: 3 if others succeeded, else 1. Where nothing helps, the message "
        "itself says what to do.",
    )


def _error_classes() -> list[type[Any]]:
    """One class for each code: the one that others are derived from."""
    import scalr_backup  # noqa: PLC0415
    from scalr_backup.core.errors import ScalrBackupError  # noqa: PLC0415

    for module in pkgutil.walk_packages(scalr_backup.__path__, "scalr_backup."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def derived(base: type[Any]) -> Iterator[type[Any]]:
        yield base
        for one in base.__subclasses__():
            yield from derived(one)

    def named_like_its_code(kind: type[Any]) -> bool:
        return bool(kind.__name__ == f"{kind.code.title().replace('_', '')}Error")

    # The last one of a code stays: of several, the one that the others are derived from, or else the one with its name.
    found = sorted(derived(ScalrBackupError), key=lambda kind: (-len(kind.__mro__), named_like_its_code(kind)))
    return list({kind.code: kind for kind in found}.values())


def _first_sentence(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def findings() -> str:
    """What a status may find wrong."""
    from scalr_backup.core.kinds import KINDS  # noqa: PLC0415

    rows = [(f"[`{name}`](../alerts.md#{name})", kind.severity, kind.meaning) for name, kind in sorted(KINDS.items())]
    return page(
        "Findings",
        "What `status`, the metric `scalr_backup_findings`, the status page and the agent's messages report. A failure makes "
        "`status` exit with 1; a warning does not. [Alerts](../alerts.md#what-counts-as-wrong) says who is told.",
        table(("finding", "severity", "means"), rows),
    )


def metrics() -> str:
    """What Prometheus reads."""
    from scalr_backup.actions.health.metrics import METRICS  # noqa: PLC0415

    rows = [
        (code(one.full_name), "counter" if one.counts else "gauge", ", ".join(map(code, one.labels)), plain(one.help))
        for one in METRICS
    ]
    return page(
        "Metrics",
        "How Prometheus gets them, and what to make of them: [monitoring](../monitoring.md). A time is a Unix timestamp in "
        "seconds; what does not exist yet has no sample. Prometheus adds `job` and `instance`.",
        table(("metric", "type", "labels", "says"), rows),
    )


def alerts() -> str:
    """The rules that the role monitoring installs."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    rows = []
    for rule in rules:
        told = rule["annotations"]
        rows.append(
            (
                f"[`{rule['alert']}`](../runbooks.md#{rule['alert'].lower()})",
                rule["labels"]["severity"],
                rule.get("for", "at once"),
                plain(_without_templates(told["summary"])),
                code(_without_templates(told["command"])),
            )
        )
    return page(
        "Alerts",
        "The rules of Prometheus that the role `scalr.backup.monitoring` installs. Each links to its runbook, here and in its "
        "annotation `runbook_url`. Words in capitals are labels of the alert.",
        table(("alert", "severity", "for", "says", "first command"), rows),
    )


def _without_templates(text: str) -> str:
    """What an annotation says: labels by their names in capitals, what is said of some only in brackets, one of two with "or"."""
    text = re.sub(r"{{ (?!if )[^}]*\$labels\.(\w+) }}", lambda label: label[1].upper(), text)
    said, before = r"((?:(?!{{).)*)", ""
    while text != before:  # From the innermost condition on.
        before = text
        text = re.sub(rf"{{{{ if [^}}]*}}}}{said}{{{{ else }}}}{said}{{{{ end }}}}", r"(\1 or \2)", text)
        text = re.sub(rf"{{{{ if [^}}]*}}}}{said}{{{{ end }}}}", r"[\1]", text)
    return re.sub(r"{{[^}]*}}", "…", text)


def log() -> str:
    """The fields and the levels of a line."""
    from scalr_backup.core import logs  # noqa: PLC0415

    return page(
        "Log lines",
        "`docker logs scalr-backup` prints one JSON object a line. What a night looks like, and how to search it: "
        "[the agent's log](../logs.md).",
        table(("level", "means"), [(code(name), words) for name, words in logs.LEVEL_MEANINGS.items()]),
        table(("field", "means"), [(code(name), words) for name, words in logs.FIELDS.items()]),
    )


def labels() -> str:
    """What a container may say."""
    from scalr_backup.core.labels import LABELS  # noqa: PLC0415

    return page(
        "Container labels",
        "A database container's labels take precedence over the role's variables, and those over what the container's own "
        "environment says.",
        table(("label", "says"), [(code(name), words) for name, words in LABELS.items()]),
    )


def variables() -> str:
    """The variables of all roles."""
    parts = []
    for role in ROLES:
        specs = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text(encoding="utf-8"))
        options = specs["argument_specs"]["main"]["options"]
        parts += [f"## Role scalr.backup.{role}", specs["argument_specs"]["main"]["short_description"] + "."]
        parts.append(table(("variable", "type", "default", "means"), [_variable(*one) for one in options.items()]))
    return page(
        "Role variables",
        "Every variable, from the roles' argument specifications; unknown ones with the same prefix are rejected.",
        *parts,
    )


def _variable(name: str, option: dict[str, Any]) -> tuple[str, str, str, str]:
    kind = option.get("type", "str") + (f" of {option['elements']}" if option.get("elements") else "")
    default = option.get("default", "")
    shown = "" if default in ("", None) else code(_as_yaml(default))
    words = option["description"] if isinstance(option["description"], list) else [option["description"]]
    if choices := option.get("choices"):
        words = [*words, f"One of {', '.join(map(str, choices))}."]
    return code(name), kind, shown, " ".join(_markup(one) for one in words)


def _as_yaml(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _markup(text: str) -> str:
    """Ansible's markup as Markdown."""
    text = re.sub(r"[COVMI]\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"[LU]\(([^,)]*), *([^)]*)\)", r"[\1](\2)", text)
    return plain(re.sub(r"[BE]\(([^)]*)\)", r"\1", text))


def playbooks() -> str:
    """Each playbook with its extra variables."""
    from ansible_collections.scalr.backup.plugins.plugin_utils import _variables  # noqa: PLC0415

    def rows(names: Iterable[tuple[str, str]], playbook: str = "") -> list[tuple[str, str, str]]:
        return [(code(name), kind, _meaning(_variables.MEANINGS, playbook, name)) for name, kind in names]

    words = _variables.WITH_E_ONLY - _variables.OLD_NAMES
    parts = [
        "Every playbook takes these with `-e`:",
        table(("variable", "type", "does"), rows(_variables.EVERYWHERE.items())),
        f"Inventories use some words for their own purposes: {', '.join(map(code, sorted(words)))}. These count only with `-e`; "
        "`restore` and `prune` reject them in an inventory, the other playbooks ignore them there with a warning. The other "
        "variables may also be set in the inventory, such as another `new_password` for each host.",
    ]
    for name, own in _variables.PLAYBOOKS.items():
        known = [one for one in own.items() if one[0] not in _variables.OLD_NAMES]
        parts += [f"## {name}", _purpose(name)]
        parts.append(table(("variable", "type", "does"), rows(known, name)))
        if name == "site":
            parts.append("It also takes [the roles' variables](variables.md).")
    return page(
        "Playbooks",
        "In a checkout, `ansible-playbook NAME.yml` in `playbooks/`; once the collection is installed, "
        "`ansible-playbook scalr.backup.NAME -i INVENTORY`. Unknown extra variables are rejected.",
        *parts,
    )


def _meaning(meanings: Any, playbook: str, name: str) -> str:
    words: str = meanings.get(f"{playbook}.{name}") or meanings[name]
    return words


def _purpose(playbook: str) -> str:
    """The comment that the playbook begins with."""
    text = (CHECKOUT / f"playbooks/{playbook}.yml").read_text(encoding="utf-8")
    lines = re.search(r"\A---\n((?:# .*\n)+)", text)
    if not lines:
        sys.exit(f"{playbook}.yml begins without a comment: say in one what it does.")
    return plain(" ".join(line.removeprefix("# ") for line in lines[1].splitlines()))


def schemas() -> str:
    """The index of JSON Schemas."""
    from scalr_backup.core.verbs import ANSWERS  # noqa: PLC0415

    return page(
        "JSON Schemas",
        "The last line that each verb prints with `--json`, for programs that read it. They are made from the types that the "
        "agent answers in. [What is stable](../stability.md) says how they may change.",
        table(
            ("verb", "schema"),
            [(f"[`{verb}`](verbs.md#{verb})", f"[{verb}.json](../schemas/{verb}.json)") for verb in sorted(ANSWERS)],
        ),
    )


def texts() -> dict[str, str]:
    """What belongs into each file, by its path below ``docs/``."""
    pages = (alerts, errors, findings, labels, log, metrics, playbooks, schemas, variables, verbs)
    return {f"reference/{one.__name__}.md": one() for one in pages}


def first_page() -> str:
    """``docs/README.md``, once all other pages are there."""
    import navigation  # noqa: PLC0415

    return navigation.first_page()


def main() -> None:
    """Write them all, and remove those that are no more."""
    wanted = texts()
    (DOCS / "reference").mkdir(exist_ok=True)
    for old in (DOCS / "reference").glob("*.md"):
        if f"reference/{old.name}" not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    (DOCS / "README.md").write_text(first_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
