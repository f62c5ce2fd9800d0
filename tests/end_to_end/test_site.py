"""The documentation as a site: it is built from this checkout by the one command, strictly, and asks nobody for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.documented import documented

SITE = ".cache/docs/html"


@pytest.fixture(scope="module")
def site(checkout: Path) -> Path:
    done = subprocess.run(
        documented("make docs").split(),
        cwd=checkout,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"the site cannot be built:\n{done.stdout}", pytrace=False)
    return checkout / SITE


def page_check(checkout: Path):
    sys.path.insert(0, str(checkout / "tools/site"))
    import page_check

    return page_check


def test_a_browser_fetches_nothing_from_elsewhere(site: Path) -> None:
    """No font, no script, no picture: the page for the night opens from a stick, too."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 80
    for page in pages:
        for tag in re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*>", page.read_text()):
            assert not re.search(r"""\b(?:href|src|srcset)=["']?(?:https?:)?//""", tag), f"{page.name}: {tag}"
    for style in site.rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", style.read_text()), style.name


def test_every_page_says_the_version_that_it_describes(site: Path, checkout: Path) -> None:
    version = yaml.safe_load((checkout / "galaxy.yml").read_text())["version"]
    for page in site.rglob("*.html"):
        assert f"scalr.backup {version}" in page.read_text(), page.name


def test_every_page_fits_a_phone_and_is_found(site: Path, checkout: Path) -> None:
    for page in site.rglob("*.html"):
        assert '<meta name="viewport" content="width=device-width' in page.read_text(), page.name
    index = (site / "searchindex.js").read_text()
    for page in (checkout / "docs").rglob("*.md"):
        name = page.relative_to(checkout / "docs").with_suffix("").as_posix()
        assert name == "README" or f'"{name}"' in index, name


def test_every_anchor_of_the_pages_is_one_of_the_site(site: Path, checkout: Path) -> None:
    """Messages, alerts and runbooks lead to these."""
    for name in ("troubleshooting", "alerts"):
        written = set(re.findall(r'<a id="(\w+)">', (checkout / f"docs/{name}.md").read_text()))
        assert written
        assert written <= set(re.findall(r' id="([^"]+)"', (site / f"{name}.html").read_text()))


def test_what_is_broken_fails_the_site(site: Path, checkout: Path, tmp_path: Path) -> None:
    """Sphinx with the site's own settings, on pages that are wrong in every way that it is to notice."""
    (tmp_path / "index.md").write_text("# Index\n\n```{toctree}\na\n```\n")
    (tmp_path / "a.md").write_text("# A\n\n[gone](gone.md), [no such place](index.md#gone), ![no picture](gone.png)\n")
    (tmp_path / "b.md").write_text("# B\n\nIn no menu.\n")

    done = subprocess.run(
        [checkout / ".cache/docs/venv/bin/sphinx-build", "--quiet", "--fail-on-warning", "--builder=dummy", "--conf-dir",
         checkout / "tools/site", tmp_path, tmp_path / "built"],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    assert done.returncode == 1
    for problem in (
        "target not found: 'gone.md'",
        "id not found in doc 'index': 'gone'",
        "not readable: gone.png",
        "b.md: WARNING",
    ):
        assert problem in done.stdout, done.stdout


def test_what_is_installed_is_pinned_with_hashes_and_what_is_asked_for(checkout: Path) -> None:
    """docs.txt is made of docs.in by hand: nothing of that is missing, and ansible-core is the controller's."""
    pins = (checkout / "requirements/docs.txt").read_text()
    packages = re.findall(r"^([a-z][\w.-]*)==(\S+)(.*)\n    --hash=sha256:", pins, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[a-z]", pins, re.MULTILINE)) > 40
    asked = re.findall(r"^([a-z][\w-]*)", (checkout / "requirements/docs.in").read_text(), re.MULTILINE)
    assert set(asked) <= {name for name, _version, _rest in packages}
    controller = (checkout / "requirements/controller.txt").read_text()
    for name, version, _rest in packages:
        if name == "ansible-core":
            assert f"ansible-core=={version}" in controller


def test_the_theme_has_nothing_to_say(site: Path) -> None:
    """It writes its objections into the pages, where no warning tells of them."""
    for page in site.rglob("*.html"):
        assert "ERROR: " not in page.read_text(), page.name


def test_what_is_wrong_with_a_page_is_found(tmp_path: Path, checkout: Path) -> None:
    """The check that ends each build, on a site that is wrong in every way that it knows."""
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example.com/x.js"></script><img src="gone.png"><a href="b.html#gone">b</a>'
        '<a href="b.html#here">fine</a><a href="https://example.com">fine</a>'
    )
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    (tmp_path / "a.css").write_text('@import "https://fonts.example.com/x.css";')

    assert page_check(checkout).problems(tmp_path) == [
        "a.css imports from elsewhere",
        "a.html fetches https://cdn.example.com/x.js",
        "a.html: b.html#gone leads nowhere",
        "a.html: gone.png leads nowhere",
    ]
