"""The benchmarks' own parts: what a day changes, how turns are taken, and what becomes of the results."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import figures, plot, shop, timing
from benchmarks.figures import MIB, Arm, Course, Night, Results
from benchmarks.sides import in_turn, show, write_whole
from benchmarks.timing import Contest, Spent

CHECKOUT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def profile(name: str) -> shop.Profile:
    return next(profile for profile in shop.PROFILES if profile.name == name)


def night(number: int, heap: float, ordered: float) -> Night:
    """A night of a database of 100 MiB, whose repositories have so many."""
    arms = {
        "off": Arm(50 * MIB, 25 * MIB, 10 * MIB, round(heap * MIB)),
        "auto": Arm(50 * MIB, 5 * MIB, 2 * MIB, round(ordered * MIB)),
    }
    return Night(number, 100 * MIB, arms)


@pytest.fixture
def results() -> Results:
    """Three nights of one profile."""
    nights = (night(1, 40, 40), night(2, 60, 44), night(3, 90, 46))
    return Results({"restic": "restic 0"}, 1.0, (Course("recent", "rows & <logins>", nights),))


class TestADay:
    @pytest.mark.parametrize("name", [profile.name for profile in shop.PROFILES])
    def test_is_the_same_in_every_run_and_unlike_the_day_before(self, name: str) -> None:
        assert shop.day(profile(name), 2, 1) == shop.day(profile(name), 2, 1)
        seeds = [re.findall(r"setseed\((.*?)\)", shop.day(profile(name), number, 1)) for number in range(2, 32)]
        assert len({tuple(seed) for seed in seeds}) == 30
        assert all(len(seed) == 1 and -1 <= float(seed[0]) <= 1 for seed in seeds)

    @pytest.mark.parametrize("name", [profile.name for profile in shop.PROFILES])
    def test_asks_no_clock_and_leaves_nothing_to_a_moment(self, name: str) -> None:
        for sql in (shop.first_day(profile(name), 1), shop.day(profile(name), 2, 1)):
            assert not re.search(r"\b(now|clock_timestamp|gen_random_uuid)\(|\bcurrent_", sql)
            assert "max_parallel_workers_per_gather = 0" in sql
            assert "VACUUM" in sql

    def test_changes_what_its_profile_says(self) -> None:
        changed = {
            one.name: set(re.findall(r"(?:UPDATE|INSERT INTO) (\w+)", shop.day(one, 2, 1))) for one in shop.PROFILES
        }
        assert changed == {
            "new": {"users", "orders", "events"},
            "recent": {"users", "orders", "events"},
            "logins": {"users", "orders", "events"},
            "logins_apart": {"users", "orders", "events", "logins"},
            "anywhere": {"users", "orders", "events"},
        }
        assert "UPDATE" not in shop.day(profile("new"), 2, 1)
        assert "INSERT" not in shop.day(profile("anywhere"), 2, 1)
        assert "WHERE random() < 0.02" not in shop.day(profile("recent"), 2, 1)
        assert "UPDATE users SET last_login" in shop.day(profile("logins"), 2, 1)
        assert "UPDATE users" not in shop.day(profile("logins_apart"), 2, 1)
        assert (
            "last_login"
            not in re.search(r"CREATE TABLE users \(.*?\);", shop.first_day(profile("logins_apart"), 1), re.DOTALL)[0]
        )

    def test_adds_half_a_percent_of_each_table_at_any_scale(self) -> None:
        counts = re.findall(r"generate_series\(1, (\d+)\)", shop.day(profile("new"), 2, 1))
        assert counts == ["1000", "2000", "2500"]
        assert re.findall(r"generate_series\(1, (\d+)\)", shop.day(profile("new"), 2, 0.1)) == ["100", "200", "250"]
        assert re.findall(r"generate_series\(1, (\d+)\)", shop.day(profile("new"), 2, 1e-9)) == ["1", "1", "1"]

    def test_begins_with_rows_that_have_moved_unless_they_shall_lie_in_order(self) -> None:
        assert "UPDATE" in shop.first_day(profile("new"), 1)
        assert "UPDATE" not in shop.first_day(profile("new"), 1, aged=False)


class TestTheFigures:
    def test_come_back_out_of_their_document(self, results: Results) -> None:
        assert figures.from_json(figures.to_json(results)) == results

    def test_have_a_line_for_each_night(self, results: Results) -> None:
        lines = figures.to_json(results).splitlines()
        assert sum('"number"' in line for line in lines) == 3

    def test_of_a_profile_take_the_place_of_its_old_ones(self, results: Results) -> None:
        other = Course("new", "new rows", results.courses[0].nights[:2])
        anew = Course("recent", "anew", results.courses[0].nights[:2])
        both = results.with_course(other).with_course(anew)
        assert [course.words for course in both.courses] == ["anew", "new rows"]

    def test_that_are_none_are_refused(self) -> None:
        with pytest.raises(TypeError):
            figures.from_json(
                '{"machine": {}, "scale": 1, "courses": [{"name": "a", "words": "b", "nights": [{"number": "1", "database_bytes": 1, "arms": {}}]}]}'
            )

    def test_make_a_table(self, results: Results) -> None:
        heap, ordered = figures.table(results).splitlines()[2:]
        assert heap == "| rows & <logins> | heap order | 100 → 100 | 40 → 90 | **0.90** | 25.0 | 50% |"
        assert ordered == "| rows & <logins> | key order | 100 → 100 | 40 → 46 | **0.46** | 3.0 | 10% |"


class TestThePicture:
    def test_has_a_line_and_its_last_figure_for_each_arm(self, results: Results) -> None:
        root = ET.fromstring(plot.draw(results))  # noqa: S314 (of our own making)
        lines = {line.get("class"): (line.get("points") or "").split() for line in root.iter(f"{SVG}polyline")}
        assert {name: len(points) for name, points in lines.items()} == {"line off": 3, "line auto": 3}
        words = [text.text for text in root.iter(f"{SVG}text")]
        assert {"0.90 heap order", "0.46 key order", "rows & <logins>"} <= set(words)

    def test_draws_more_above_less_and_stays_inside(self, results: Results) -> None:
        root = ET.fromstring(plot.draw(results))  # noqa: S314 (of our own making)
        heights = {
            line.get("class"): [float(point.split(",")[1]) for point in (line.get("points") or "").split()]
            for line in root.iter(f"{SVG}polyline")
        }
        assert heights["line off"] == sorted(heights["line off"], reverse=True)
        assert all(plot.TOP <= y <= plot.PANEL_HEIGHT - plot.BOTTOM for line in heights.values() for y in line)

    def test_keeps_labels_off_each_other(self) -> None:
        assert plot.apart([50.0, 52.0, 10.0], 15) == [50.0, 65.0, 10.0]

    @pytest.mark.parametrize(
        ("value", "ceiling"), [(0.07, 0.1), (0.34, 0.5), (1.0, 1.0), (1.74, 2), (5.3, 6), (8.1, 10)]
    )
    def test_ends_its_axis_at_a_round_number(self, value: float, ceiling: float) -> None:
        assert plot.nice_ceiling(value) == ceiling


class TestTurns:
    def test_each_side_is_the_first_as_often_as_the_others(self) -> None:
        assert [in_turn("abc", turn) for turn in range(3)] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]

    def test_the_first_one_is_not_counted(self) -> None:
        contest, ran = Contest("words", "a"), []
        sides = {"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}
        for turn in range(3):
            timing.take_turn(contest, sides, turn)
        assert ran == ["a", "b", "b", "a", "a", "b"]
        assert {side: len(spent) for side, spent in contest.spent.items()} == {"a": 2, "b": 2}

    def test_ratios_are_of_what_stood_side_by_side(self) -> None:
        contest = Contest("1 GB", "pipe")
        contest.spent = {
            "pipe": [Spent(1, 2), Spent(10, 20), Spent(2, 4)],
            "pass": [Spent(1.2, 2), Spent(12, 30), Spent(4, 4)],
        }
        assert contest.ratio("pass", "pipe", "wall") == pytest.approx(1.2)
        assert contest.ratio("pass", "pipe", "processor") == 1
        assert timing.table([contest]).splitlines()[2:] == [
            "| 1 GB | pipe | 2.0 |  | 4.0 |  |",
            "| 1 GB | pass | 4.0 | 1.20 | 4.0 | 1.00 |",
        ]
        assert timing.from_json(timing.to_json([contest], {})) == [contest]

    def test_the_processors_time_leaves_out_what_they_idle_and_what_guests_take_twice(self) -> None:
        stat = "cpu  100 10 50 9000 700 5 20 15 40 4\ncpu0 1 2 3\n"
        assert timing.processor_seconds(stat) == pytest.approx(2.0)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a", "new\udc80")
    assert (tmp_path / "a").read_text() == "old"


def test_a_table_goes_where_its_page_has_a_mark_for_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    show(page, "one", "| new |\n")
    assert not page.exists()
    marked = "before\n<!-- one begins -->\n{}<!-- one ends -->\nafter\n"
    page.write_text(marked.format("| old |\n| old |\n"))
    show(page, "other", "| new |\n")
    show(page, "one", "| new |\n")
    assert page.read_text() == marked.format("| new |\n")


class TestTheDocumentation:
    PAGE = CHECKOUT / "docs/row-order.md"
    RESULTS = CHECKOUT / "docs/row-order"

    def test_shows_the_nights_as_they_were_measured(self) -> None:
        results = figures.from_json((self.RESULTS / "nights.json").read_text())

        assert {course.name for course in results.courses} <= {profile.name for profile in shop.PROFILES}
        assert all(len(course.nights) == 30 and course.arms == ["off", "auto"] for course in results.courses)
        assert figures.table(results) in self.PAGE.read_text()
        assert (self.RESULTS / "nights.svg").read_text() == plot.draw(results)
        assert "](row-order/nights.svg)" in self.PAGE.read_text()

    def test_shows_every_pass_that_was_timed(self) -> None:
        for document in self.RESULTS.glob("pass*.json"):
            assert timing.table(timing.from_json(document.read_text())) in self.PAGE.read_text()
