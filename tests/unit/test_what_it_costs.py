# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/explanation/what-it-costs.md: its table follows from its formula and its prices, and its figures are those of other pages."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs/explanation/what-it-costs.md"
COMPRESSED = 0.3
TIMES = "\N{MULTIPLICATION SIGN}"
SIZES = (1, 10, 100)
SHARES = (0.01, 0.05, 0.5)


def prices() -> dict[str, float]:
    """Dollars for a GB and a month, store by store, as the page's table of prices has them."""
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) \| [^|]+ \| <https", PAGE.read_text(), re.MULTILINE)
    return {" ".join(name.replace(",", "").split()[:2]): float(price) for name, price in rows}


def stored(size: float, share: float) -> float:
    """The page's formula, as it stands there."""
    [formula] = re.findall(r"^    stored = (.*)$", PAGE.read_text(), re.MULTILINE)
    known = {"c": COMPRESSED, "D": size, "s": share, "min": min}
    return float(eval(formula.replace(TIMES, "*"), {"__builtins__": {}}, known))  # noqa: S307 (a line of this checkout)


def rows() -> list[str]:
    """The table as it has to be."""
    found = []
    for size in SIZES:
        for share in SHARES:
            kept = stored(size, share)
            cells = [str(size), f"{share:.0%}", f"{kept:.1f}", *(f"{kept * price:.2f}" for price in prices().values())]
            found.append(f"| {' | '.join(cells)} |")
    return found


def test_the_table_follows_from_the_formula_and_the_prices() -> None:
    assert list(prices()) == ["Amazon S3", "Cloudflare R2", "Backblaze B2"]
    table = re.search(r"<!-- what-it-costs begins -->\n(.*)<!-- what-it-costs ends -->", PAGE.read_text(), re.DOTALL)
    assert table
    assert table[1].splitlines()[2:] == rows()


def test_the_formula_is_that_of_the_default_retention() -> None:
    """What is kept of a database that is new each night is one whole dump for each snapshot, and the first."""
    defaults = (CHECKOUT / "roles/backup/defaults/main.yml").read_text()
    keep = re.search(r"^backup_keep: *\n? *\{?(.*?)(?:\}|^\w)", defaults, re.MULTILINE | re.DOTALL)
    assert keep
    counts = dict(re.findall(r"(daily|weekly|monthly): (\d+)", keep[1]))
    assert stored(1, 1) / COMPRESSED == 1 + sum(int(count) for count in counts.values())
    assert stored(1, 0) == COMPRESSED


def test_its_figures_are_those_of_the_measurements() -> None:
    text = " ".join(PAGE.read_text().split())
    order = (CHECKOUT / "docs/row-order.md").read_text()
    # A first night of 37 MiB, of a dump of 127 MiB.
    assert "127 MiB as a dump;" in " ".join(order.split())
    first = re.findall(r"^\| 0.5 % new rows \| heap order \| [^|]+\| (\d+) → ", order, re.MULTILINE)
    assert round(int(first[0]) / 127, 1) == COMPRESSED
    shares = {int(share) for share in re.findall(r" (\d+)% \|$", order, re.MULTILINE)}
    for share in map(int, re.findall(r"(\d+) %\*", text)):
        assert share in shares
    requests = re.search(
        r"^\| a nightly pass \| (\d+) \| (\d+) \|", (CHECKOUT / "docs/stores.md").read_text(), re.MULTILINE
    )
    assert requests
    assert f"makes {int(requests[1]) + int(requests[2])} PUT and LIST requests a night" in text
    # An eighth a week, and 52 weeks in 12 months.
    assert f"0.09 {TIMES} {52 / 12 / 8:.2f} dollars" in text
