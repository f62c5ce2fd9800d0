#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what is stable: ``docs/stability.json``, a sorted list for each part of the public surface.

A unit test compares it with the code. What is new is added by running this. What is gone, or was renamed, or has another type,
breaks somebody's inventory, script or dashboard: it is taken out of the list with ``--remove`` only, which a new major version
(before 1.0.0: a new minor version) needs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
SURFACE = CHECKOUT / "docs/stability.json"
AGENT = CHECKOUT / "roles/backup/files/agent"
ROLES = ("backup", "docker", "monitoring")
# Modules that only the collection's own playbooks and roles call.
INTERNAL_MODULES = {"image_archive", "known_variables", "page", "report"}
# What the role calls things on a host, by the role's names for these names.
ON_HOST = (
    "__backup_container", "__backup_proxy_container", "__backup_socket_volume", "__backup_state_volume",
    "__backup_cache_volume", "__backup_repository_volume",
)  # fmt: skip

Surface = dict[str, list[str]]


def surface() -> Surface:
    """Everything that is stable, by its part; each entry is a line."""
    for path in (AGENT, CHECKOUT / ".ansible/collections"):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    parts = {
        "role variables": _role_variables(),
        "playbooks": (path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")),
        "playbook variables": _playbook_variables(),
        "modules": _modules(),
        "verbs": _verbs(),
        "exit codes": _exit_codes(),
        "error codes": _anchors("troubleshooting"),
        "findings": _anchors("alerts"),
        "doctor's checks": _doctor_checks(),
        "JSON": _json_fields(),
        "metrics": _metrics(),
        "alerts": _alerts(),
        "log": _log(),
        "labels": _labels(),
        "environment": _environment(),
        "repository": _repository(),
        "on the host": _on_host(),
    }
    return {name: sorted(set(lines)) for name, lines in parts.items()}


def _role_variables() -> Iterator[str]:
    for role in ROLES:
        text = (CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text()
        yield from _options(f"{role}: ", yaml.safe_load(text)["argument_specs"]["main"]["options"])


def _options(before: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Each option with its type, whether it must be given, and its choices; an alias is as good as a name."""
    for name, option in options.items():
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        must = ", required" if option.get("required") else ""
        yield f"{before}{name} ({kind}{must})"
        yield from (f"{before}{name} = {choice}" for choice in option.get("choices") or ())
        yield from (f"{before}{alias} (as {name})" for alias in option.get("aliases") or ())
        yield from _options(f"{before}{name}.", option.get("suboptions") or option.get("options") or {})


def _playbook_variables() -> Iterator[str]:
    known = importlib.import_module("ansible_collections.scalr.backup.plugins.plugin_utils._variables")
    for playbook, variables in {**known.PLAYBOOKS, "every playbook": known.EVERYWHERE}.items():
        yield from (f"{playbook}: {name} ({kind})" for name, kind in variables.items())


def _modules() -> Iterator[str]:
    for path in (CHECKOUT / "plugins/modules").glob("*.py"):
        if path.stem not in INTERNAL_MODULES:
            text = path.read_text()
            documentation = yaml.safe_load(_literal(text, "DOCUMENTATION"))
            yield path.stem
            yield from _options(f"{path.stem}: ", documentation.get("options") or {})
            for fragment in documentation.get("extends_documentation_fragment") or ():
                yield from _options(f"{path.stem}: ", _fragment(fragment))
            returned = yaml.safe_load(_literal(text, "RETURN")) or {}
            yield from _returned(f"{path.stem} returns ", returned)


def _literal(text: str, name: str) -> str:
    found = re.search(rf'^\s*{name} = r?"""(.*?)"""', text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _fragment(name: str) -> Mapping[str, Any]:
    _namespace, _collection, file, *part = name.split(".")
    text = (CHECKOUT / f"plugins/doc_fragments/{file}.py").read_text()
    document = yaml.safe_load(_literal(text, part[0].upper() if part else "DOCUMENTATION")) or {}
    return dict(document.get("options") or {})


def _returned(before: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{before}{name} ({value.get('type', '')})"
        yield from _returned(f"{before}{name}.", value.get("contains") or {})


def _verbs() -> Iterator[str]:
    import typer  # noqa: PLC0415

    cli = importlib.import_module("scalr_backup.cli.app")
    for verb, command in dict(typer.main.get_command(cli.app).commands).items():  # type: ignore[attr-defined]
        yield verb
        for option in command.params:
            written = [*option.opts, *option.secondary_opts]
            yield from (f"{verb} {one if one.startswith('-') else one.upper()}" for one in written)


def _exit_codes() -> Iterator[str]:
    errors = importlib.import_module("scalr_backup.core.errors")
    return (f"{int(code)} {code.name.lower()}" for code in errors.ExitCode)


def _anchors(page: str) -> list[str]:
    """The codes of a table; tests hold it to the agent's."""
    return re.findall(r'^\| <a id="([a-z_]+)"></a>`', (CHECKOUT / f"docs/{page}.md").read_text(), re.MULTILINE)


def _doctor_checks() -> Iterator[str]:
    run = importlib.import_module("scalr_backup.actions.doctor.run")
    looks = importlib.import_module("scalr_backup.actions.doctor.looks")
    return (check.name for check in run.checks(looks.Looks(None)))


def _json_fields() -> Iterator[str]:
    """Every field of a verb's last line with its types, and the words that it may have; a question mark ends what may be missing."""
    for path in (CHECKOUT / "docs/schemas").glob("*.json"):
        schema = json.loads(path.read_text())
        yield from _fields(f"{path.stem}: ", schema, schema["$defs"])


def _fields(before: str, schema: Mapping[str, Any], types: Mapping[str, Any]) -> Iterator[str]:
    schema = _resolved(schema, types)
    for variant in schema.get("anyOf", ()):
        yield from _fields(before, variant, types)
    for name, field in schema.get("properties", {}).items():
        missing = "" if name in schema.get("required", ()) else "?"
        yield f"{before}{name}{missing} ({_kind(field, types)})"
        yield from (f"{before}{name} = {value}" for value in _resolved(field, types).get("enum", ()))
        yield from _fields(f"{before}{name}.", field, types)
    if items := schema.get("items"):
        yield from _fields(f"{before.removesuffix('.')}[].", items, types)
    if isinstance(more := schema.get("additionalProperties"), dict):
        yield from _fields(f"{before}*.", more, types)


def _kind(schema: Mapping[str, Any], types: Mapping[str, Any]) -> str:
    schema = _resolved(schema, types)
    if "anyOf" in schema:
        return " or ".join(sorted({_kind(variant, types) for variant in schema["anyOf"]}))
    return str(schema.get("type") or ("value" if "const" in schema or "enum" in schema else "object"))


def _resolved(schema: Mapping[str, Any], types: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = types[schema["$ref"].rpartition("/")[2]]
    return schema


def _metrics() -> Iterator[str]:
    metrics = importlib.import_module("scalr_backup.actions.health.metrics")
    return (
        f"{one.full_name}{{{', '.join(one.labels)}}} {'counter' if one.counts else 'gauge'}" for one in metrics.METRICS
    )


def _alerts() -> Iterator[str]:
    text = (CHECKOUT / "roles/monitoring/files/prometheus/scalr-backup.rules.yml").read_text()
    rules = (rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"])
    return (f"{rule['alert']} ({rule['labels']['severity']})" for rule in rules if "alert" in rule)


def _log() -> Iterator[str]:
    logs = importlib.import_module("scalr_backup.core.logs")
    yield from (f"field {name}" for name in logs.FIELDS)
    yield from (f"level {name}" for name in logs.LEVEL_MEANINGS)


def _labels() -> Iterator[str]:
    documents = importlib.import_module("scalr_backup.actions.documents")
    connection = importlib.import_module("scalr_backup.core.connection")
    order = importlib.import_module("scalr_backup.core.order_wish")
    naming = importlib.import_module("scalr_backup.core.naming")
    yield from (documents.LABEL, order.LABEL, *naming.LABELS)
    yield from (f"{documents.LABEL}.{name}" for name in connection.Connection.model_fields)


def _environment() -> Iterator[str]:
    """The variables that the agent and the compose file read where there is no role; a secret's names its file."""
    module = importlib.import_module("scalr_backup.core.environment")
    yield from (*module.AGENT_VARIABLES, *module.FILE_VARIABLES)
    yield from re.findall(r"\$\{([A-Z_]+)", (CHECKOUT / "compose.yaml").read_text())


def _repository() -> Iterator[str]:
    model = importlib.import_module("scalr_backup.core.model")
    yield f"path {model.dump_path('<container>', '<database>')}"
    yield f"path {model.MANIFEST_PATH}"
    yield from (f"tag {reason}" for reason in model.REASONS)
    yield from (f"tag {model.PINNED_TAG}", "tag <container>", "tag run=<id>", f"tag {model.AGENT_TAG}<id>")


def _on_host() -> Iterator[str]:
    texts = [path.read_text() for path in (CHECKOUT / "roles/backup/vars/main").glob("*.yml")]
    names = {name: value for text in texts for name, value in yaml.safe_load(text).items()}
    yield from (f"{name.strip('_').rpartition('_')[2]} {names[name]}" for name in ON_HOST)
    yield from ("state state.json", "state history.jsonl")


def gone(before: Surface, now: Surface) -> list[str]:
    """What was stable and is not there any more, each with its part."""
    return [f"{part}: {line}" for part, lines in before.items() for line in lines if line not in now.get(part, ())]


def new(before: Surface, now: Surface) -> list[str]:
    """What is there and not written down."""
    return gone(now, before)


def written() -> Surface:
    """What is written down."""
    return dict(json.loads(SURFACE.read_text())) if SURFACE.exists() else {}


def main(arguments: list[str] | None = None) -> int:
    """Write it down; refuse where something is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--remove", action="store_true", help="take out what is gone: that breaks its users")
    options = parser.parse_args(arguments)
    before, now = written(), surface()
    if (lost := gone(before, now)) and not options.remove:
        print(
            "These were stable and are gone (docs/stability.md, How it may change):", *lost, sep="\n  ", file=sys.stderr
        )
        return 1
    SURFACE.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
