# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays the site's sources together, has Sphinx build them, and looks at what came out: tools/docs calls it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import navigation
import page_check
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / ".cache/docs"
SOURCE = BUILD / "source"
SITE = BUILD / "html"
PROGRAMS = Path(sys.executable).parent
_MENU_OF_FILTERS = re.compile(r"^\.\. toctree::\n(?:    :.*\n)+\n(?:    \w+_filter\n)+", re.MULTILINE)
_CONTENTS = re.compile(r"^\.\. contents::\n(?:   .*\n)+", re.MULTILINE)


def galaxy() -> dict[str, str]:
    """What the collection says of itself."""
    described: dict[str, str] = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text(encoding="utf-8"))
    return described


def collection_pages() -> None:
    """Has antsibull-docs make the pages of modules, filters and roles."""
    place, pages = BUILD / "collections", BUILD / "collection"
    link = place / "ansible_collections/scalr/backup"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(CHECKOUT)
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir()
    subprocess.run(
        [PROGRAMS / "antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error",
         "--no-add-antsibull-docs-version", "--dest-dir", pages, "scalr.backup"],
        check=True,
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "ANSIBLE_COLLECTIONS_PATH": str(place)},
    )  # fmt: skip
    # No plugin here reads a variable of the environment.
    (pages / "environment_variables.rst").unlink()
    for path in pages.glob("*.rst"):
        path.write_text(as_ours(path.read_text(encoding="utf-8")), encoding="utf-8")


def as_ours(text: str) -> str:
    """A page of antsibull-docs without its list of contents, which the theme has beside the page, and short in the menu."""
    text = _CONTENTS.sub("", text)
    text = text.replace("Scalr.Backup\n============", "Modules, roles and filters\n==========================")
    # Filters are the playbooks' own: listed on that page, each with its own, and not in the menu of every page.
    text = _MENU_OF_FILTERS.sub("", text)
    return re.sub(r"^    (\w+)_(module|filter|role)$", r"    \1 <\1_\2>", text, flags=re.MULTILINE)


def lay_together() -> None:
    """What Sphinx reads: the pages as they are, with a first page and those of the collection."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(CHECKOUT / "docs", SOURCE)
    (SOURCE / "README.md").unlink(missing_ok=True)
    (SOURCE / "index.md").write_text(navigation.home(galaxy()["version"]), encoding="utf-8")
    shutil.copytree(BUILD / "collection", SOURCE / "collection")


def main() -> int:
    """Build it all; 1 if a page is wrong."""
    collection_pages()
    lay_together()
    shutil.rmtree(SITE, ignore_errors=True)
    # Anew each time: what Sphinx keeps of a page keeps none of its warnings.
    built = subprocess.run(
        [PROGRAMS / "sphinx-build", "--quiet", "--fail-on-warning", "--fresh-env", "--jobs=auto", "--builder=html",
         "--conf-dir", CHECKOUT / "tools/site", "--doctree-dir", BUILD / "doctrees", SOURCE, SITE],
        check=False,
    )  # fmt: skip
    if built.returncode:
        return 1
    problems = page_check.problems(SITE)
    for problem in problems:
        print(f"docs: {problem}", file=sys.stderr)
    if not problems:
        print(f"{SITE.relative_to(CHECKOUT)}/index.html")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
