"""The results of the nights as a picture: a panel for each profile, a line for each arm, each with its last figure.

The picture stands by itself, takes its colours from light or dark surroundings, and no line is known by colour alone.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise

from benchmarks.figures import ARM_WORDS, Course, Results

WIDTH, PANEL_HEIGHT, MARGIN = 720, 150, 16
# Where the lines of a panel are drawn: left of it stand the ratios, right of it what the lines are.
LEFT, RIGHT, TOP, BOTTOM = 44, 150, 34, 22
# A label needs so many pixels of height for itself.
LINE_HEIGHT = 15
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .axis { fill: #59636e }
.grid { stroke: #d1d9e0 } .off { stroke: #bc4c00 } .auto { stroke: #0969da } .line { fill: none; stroke-width: 2 }
.off.line { stroke-dasharray: 6 3 } rect { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .axis { fill: #9198a1 } .grid { stroke: #3d444d } .off { stroke: #f0883e } .auto { stroke: #4493f8 }
  rect { fill: #0d1117 }
}"""


def draw(results: Results) -> str:
    """An SVG document."""
    height = MARGIN + len(results.courses) * (PANEL_HEIGHT + MARGIN)
    panels = [
        f'<g transform="translate(0 {MARGIN + number * (PANEL_HEIGHT + MARGIN)})">\n{_panel(course)}\n</g>'
        for number, course in enumerate(results.courses)
    ]
    words = "The repository as a multiple of the database, night by night"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{words}">\n<title>{words}</title>\n<style>{STYLE}\n</style>\n'
        f'<rect width="{WIDTH}" height="{height}"/>\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(course: Course) -> str:
    lines = {arm: course.ratios(arm) for arm in course.arms}
    highest = nice_ceiling(max(max(ratios) for ratios in lines.values()))
    shapes = [f'<text class="title" x="{LEFT}" y="14">{escape(course.words)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = _y(share * highest, highest)
        shapes.append(f'<line class="grid" x1="{LEFT}" y1="{y:g}" x2="{WIDTH - RIGHT}" y2="{y:g}"/>')
        shapes.append(f'<text class="axis" x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">{share * highest:g}</text>')
    nights = len(course.nights)
    for night in sorted({1, *range(5, nights + 1, 5), nights}):
        x = _x(night, nights)
        shapes.append(f'<text class="axis" x="{x:g}" y="{PANEL_HEIGHT - 4}" text-anchor="middle">{night}</text>')
    heights = apart([_y(ratios[-1], highest) for ratios in lines.values()], LINE_HEIGHT)
    for (arm, ratios), height in zip(lines.items(), heights, strict=True):
        points = " ".join(f"{_x(night, nights):g},{_y(ratio, highest):g}" for night, ratio in enumerate(ratios, 1))
        shapes.append(f'<polyline class="line {escape(arm)}" points="{points}"/>')
        label = f"{ratios[-1]:.2f} {escape(ARM_WORDS.get(arm, arm))}"
        shapes.append(f'<text x="{WIDTH - RIGHT + 8}" y="{height + 4:g}">{label}</text>')
    return "\n".join(shapes)


def _x(night: int, nights: int) -> float:
    return round(LEFT + (night - 1) / max(1, nights - 1) * (WIDTH - RIGHT - LEFT), 1)


def _y(ratio: float, highest: float) -> float:
    return round(PANEL_HEIGHT - BOTTOM - ratio / highest * (PANEL_HEIGHT - BOTTOM - TOP), 1)


def nice_ceiling(value: float) -> float:
    """The least of 0.1, 0.2, 0.5, 1, 2, 4, 6, 8, 10, and so on that is no smaller than a ratio."""
    for step in (0.1, 0.2, 0.5, 1.0):
        if value <= step:
            return step
    ceiling = 2.0
    while ceiling < value:
        ceiling += 2.0
    return ceiling


def apart(heights: list[float], least: float) -> list[float]:
    """Where labels stand that would lie upon each other: as near to where they belong as *least* between them allows."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + least)
    return placed
