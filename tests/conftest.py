"""What all layers of the tests share: where the checkout is, and the order in which they run."""

from __future__ import annotations

from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

# From the cheapest to the dearest; a broken unit test is reported before the minutes that follow it.
LAYERS = ("unit", "integration", "end_to_end", "lint")


def layer_of(path: Path) -> int:
    """Say how late a test runs; one outside the known layers runs last."""
    names = path.relative_to(CHECKOUT / "tests").parts
    return LAYERS.index(names[0]) if names[0] in LAYERS else len(LAYERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the layers, and keep pytest's own order inside each."""
    items.sort(key=lambda item: layer_of(item.path))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout."""
    return CHECKOUT
