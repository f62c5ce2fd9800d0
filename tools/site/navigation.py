# SPDX-License-Identifier: GPL-3.0-or-later
"""Which page stands where: four kinds of pages, kept apart, and what is needed at night before all.

The site's menu, its first page and ``docs/README.md`` are made of this. A page that no section names fails the site.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
# What antsibull-docs makes: a page for each module, filter and role. They are in no checkout, so GitHub has no page of them.
COLLECTION = "collection/index"


@dataclass(frozen=True)
class Section:
    """A part of the menu: what it is for, and its pages in their order, as patterns."""

    title: str
    purpose: str
    patterns: tuple[str, ...]

    def pages(self) -> list[str]:
        """The pages that there are, by their path below ``docs/`` without the suffix, each once."""
        found = {
            path.relative_to(DOCS).with_suffix("").as_posix(): None
            for pattern in self.patterns
            for path in sorted(DOCS.glob(f"{pattern}.md"))
        }
        return list(found)


SECTIONS = (
    Section(
        "In an emergency",
        "Commands to copy while nobody has time to read; print the first one and put it beside the password.",
        ("emergency", "restore-without-us", "runbooks"),
    ),
    Section("Tutorial", "The first host, the first restore, the first drill.", ("tutorial",)),
    Section(
        "How-to guides",
        "One task each, for somebody who knows what they want.",
        (
            "how-to/*",
            "compose",
            "podman",
            "stores",
            "fleet",
            "keys",
            "alerts",
            "monitoring",
            "status-page",
            "ransomware",
            "upgrade",
        ),
    ),
    Section(
        "Reference",
        "What there is, complete and brief; most of it is generated from the code.",
        (
            "reference",
            "reference/playbooks",
            "reference/variables",
            "reference/verbs",
            "reference/*",
            "troubleshooting",
            "logs",
            "stability",
        ),
    ),
    Section(
        "Explanation",
        "Why it is as it is, and what it costs.",
        ("explanation/*", "architecture", "security", "retention", "row-order"),
    ),
)


def title(page: str) -> str:
    """What a page calls itself: its first line."""
    return (DOCS / f"{page}.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def first_page() -> str:
    """``docs/README.md``: the same menu for those who read on GitHub."""
    lines = [
        "<!-- Made by tools/make_reference.py from tools/site/navigation.py. -->",
        "# Documentation",
        "",
        INTRODUCTION,
    ]
    for section in filter(Section.pages, SECTIONS):
        lines += ["", f"## {section.title}", "", section.purpose, ""]
        lines += [f"- [{title(page)}]({page}.md)" for page in section.pages()]
    return "\n".join(lines) + "\n"


INTRODUCTION = (
    "`scalr.backup` backs up every PostgreSQL database in a host's Docker containers with restic, restores it beside the live\n"
    "one, and proves every month that it can."
)


def home(version: str) -> str:
    """The site's first page: the sections, each with its pages."""
    lines = ["# scalr.backup", "", INTRODUCTION, "", f"These pages describe version **{version}**.", ""]
    for section in SECTIONS:
        pages = [*section.pages(), *([COLLECTION] if section.title == "Reference" else [])]
        if pages:
            lines += [f"## {section.title}", "", section.purpose, ""]
            lines += ["```{toctree}", ":maxdepth: 1", f":caption: {section.title}", "", *pages, "```", ""]
    return "\n".join(lines)
