"""Take the collections that requirements/collections.yml pins out of PyPI's package `ansible`, without Galaxy.

Usage: collections_from_wheel.py REQUIREMENTS DESTINATION
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

# The release of the package that bundles exactly the versions of requirements/collections.yml.
ANSIBLE_PACKAGE = "ansible==12.3.0"


def download_wheel(directory: Path) -> Path:
    """Fetch the package without its dependencies; only its files are wanted."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(directory), ANSIBLE_PACKAGE], check=True)
    return next(directory.glob("ansible-*.whl"))


def extract(wheel: zipfile.ZipFile, collection: str, version: str, destination: Path) -> None:
    """Unpack one collection, after a look at its manifest: another version than the pinned one is an error."""
    prefix = f"ansible_collections/{collection.replace('.', '/')}/"
    bundled = json.loads(wheel.read(f"{prefix}MANIFEST.json"))["collection_info"]["version"]
    if bundled != version:
        sys.exit(f"{ANSIBLE_PACKAGE} bundles {collection} {bundled}, but {version} is pinned.")
    wheel.extractall(destination, [name for name in wheel.namelist() if name.startswith(prefix)])


def main(requirements: Path, destination: Path) -> None:
    """Extract every pinned collection below the destination."""
    pinned = yaml.safe_load(requirements.read_text())["collections"]
    with tempfile.TemporaryDirectory() as directory, zipfile.ZipFile(download_wheel(Path(directory))) as wheel:
        for collection in pinned:
            extract(wheel, collection["name"], collection["version"], destination)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
