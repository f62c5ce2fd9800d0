"""Nights of a real agent: what it makes up for, checks, prunes, keeps and tells, and what it never tells."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scalr_backup.core.logs import FIELDS, LEVEL_MEANINGS

from tests.support.containers import WAIT, AgentContainer, DatabaseContainer, docker, far_hour, finish, wait_until
from tests.support.drills import drill

MakeDatabase = Callable[..., DatabaseContainer]

# None of these may be seen anywhere: the repository's password, a store's key, a cluster's password, addresses that alerts
# and heartbeats go to, and a row.
SECRETS = {
    "password": "canary-repository-4711",
    "store": "canary-store-4712",
    "cluster": "canary-cluster-4713",
    "notify": "canary-notify-4714",
    "heartbeat": "canary-heartbeat-4715",
    "row": "canary-row-4716",
}
SHOP = f"""
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO customers SELECT i, '{SECRETS["row"]} ' || md5(i::text) FROM generate_series(1, 20000) AS i;
"""
KEEP = {"last": 2, "daily": 0, "weekly": 0, "monthly": 0}
# A dump that stops halfway until it is let go.
HALTING_DUMP = f'"$real" "$@" | {{ head -c 400000; {WAIT}; cat; }}'
FAILING_DUMP = "echo 'pg_dump: error: no' >&2; exit 1"
EVERY_ARGUMENT = 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline 2>/dev/null; echo; done'


class Town:
    """An agent with two clusters, one of which fails, and all that was printed and shown while it worked."""

    def __init__(self, agent: AgentContainer, shop: DatabaseContainer, broken: DatabaseContainer) -> None:
        self.agent, self.shop, self.broken = agent, shop, broken
        self.shown: list[str] = []

    def call(self, *arguments: str) -> dict[str, Any]:
        """Call a verb as a program would; its result."""
        call = self.agent.call(*arguments)
        self.shown.append(call.output)
        return call.result

    def state(self) -> dict[str, Any]:
        return dict(json.loads(docker("exec", self.agent.name, "cat", "/var/lib/scalr-backup/state.json").stdout))

    def maintenance(self, kind: str) -> dict[str, Any]:
        return dict(self.state()["maintenance"][kind])

    def packs(self) -> set[str]:
        return set(docker("exec", self.agent.name, "find", "/repository/data", "-type", "f").stdout.split())

    def backdate(self, days: int) -> None:
        """Make the agent believe that it was installed so many days ago, and has done nothing by itself since."""
        state = self.state()
        state["first_started"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        state.pop("nightly_started", None)
        state.pop("maintenance", None)
        docker(
            "exec", "-i", self.agent.name, "sh", "-c", "cat > /var/lib/scalr-backup/state.json", stdin=json.dumps(state)
        )

    def drill(self) -> None:
        """Drill as the host does."""
        call = drill(self.agent, "--db", self.shop.name)
        assert call.exit_code == 0, call.output
        self.shown.append(call.output)

    def look(self) -> None:
        """Note what can be seen of the containers from outside, and of their processes from inside."""
        names = (self.agent.name, self.shop.name, self.broken.name)
        self.shown += [docker("exec", name, "sh", "-c", EVERY_ARGUMENT).stdout for name in names]
        self.shown.append(docker("inspect", self.agent.name).stdout)
        self.shown.append(json.dumps(self.state()))


@pytest.fixture(scope="module")
def town(
    agent_image: str, prefix: str, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    """A town after its nights: a pass, one that fails, a restore, a drill, and what the schedule had missed."""
    passwords = {"POSTGRES_PASSWORD": SECRETS["cluster"]}
    shop = make_database("shop", environment={**passwords, "POSTGRES_DB": "shop"})
    shop.sql(SHOP, "shop")
    broken = make_database("broken", environment=passwords)
    broken.sql("CREATE TABLE t (x int)")
    agent = AgentContainer(tmp_path_factory.mktemp("town") / "agent", [f"{prefix}-*-db"], agent_image)
    agent.set_password(SECRETS["password"])
    agent.set_environment(AWS_SECRET_ACCESS_KEY=SECRETS["store"])
    agent.set_secret("notify", f"json://localhost:9/{SECRETS['notify']}\n")
    agent.set_secret("heartbeat", f"http://localhost:9/{SECRETS['heartbeat']}")
    agent.configure(prune_schedule=f"45 {far_hour()} * * *", check_weeks=2, keep=KEEP)
    try:
        agent.start()
        agent.ok("init")
        town = Town(agent, shop, broken)
        assert town.call("backup", "--db", shop.name, "--reason", "nightly")["ok"]
        broken.wrap("pg_dump", f"{WAIT}; {FAILING_DUMP}")
        process = agent.start_call("backup", "--reason", "nightly")
        wait_until(broken.reached, "a dump runs")
        town.look()
        broken.let_go()
        failing = finish(process)
        broken.wrap("pg_dump", FAILING_DUMP)
        assert failing.exit_code == 3
        town.shown.append(failing.output)
        assert town.call("restore", "--db", shop.name, "--confirm", shop.name)["ok"]
        town.drill()
        for verb in (["notify", "--test"], ["forget", "--dry-run"], ["check"], ["status"], ["discover"]):
            done = docker("exec", agent.name, "scalr-backup", *verb, check=False)
            town.shown += [done.stdout, done.stderr]
        town.backdate(days=10)
        docker("restart", agent.name)
        wait_until(lambda: any(line["event"] == "The check has ended." for line in agent.log_lines()), "all is done")
        broken.unwrap("pg_dump")
        yield town
    finally:
        agent.remove()


def of_jobs(town: Town) -> list[dict[str, Any]]:
    return [line for line in town.agent.log_lines() if "job" in line and "exit_code" in line]


class TestTheSchedule:
    def test_makes_up_for_what_was_missed_one_after_the_other(self, town: Town) -> None:
        assert [(line["job"], line["exit_code"]) for line in of_jobs(town)] == [("pass", 3), ("prune", 0), ("check", 0)]
        assert town.maintenance("prune")["ok"]
        assert town.maintenance("forget")["ok"]
        assert set(town.maintenance("check")["rotation"]["read"]) == {"1"}

    def test_reads_the_next_part_with_each_check_until_all_were_read(self, town: Town) -> None:
        read = [town.call("check", "--scheduled")["data"] for _number in range(3)]
        assert [(one["parts"], one["of"]) for one in read] == [([2], 2), ([1], 2), ([2], 2)]

    def test_gives_way_to_a_pass(self, town: Town) -> None:
        town.shop.wrap("pg_dump", HALTING_DUMP)
        process = town.agent.start_call("backup", "--db", town.shop.name)
        wait_until(town.shop.reached, "a dump runs")
        before = town.state()["maintenance"]
        check, prune = town.call("check", "--scheduled"), town.call("prune", "--scheduled")
        town.shop.let_go()
        assert finish(process).exit_code == 0
        town.shop.unwrap("pg_dump")
        assert check["ok"]
        assert prune["ok"]
        assert re.match(r"run \w+-\w+ \(manual\)", check["data"]["deferred"])
        assert prune["data"]["deferred"] == check["data"]["deferred"]
        assert town.state()["maintenance"]["check"] == before["check"]

    def test_of_prunes_is_theirs_and_no_passs(self, town: Town) -> None:
        """A pass forgets what is old, and its data stays until the prune."""
        before = town.packs()
        town.shop.sql("UPDATE customers SET name = md5(random()::text)", "shop")
        data = town.call("backup", "--db", town.shop.name, "--reason", "nightly")["data"]
        assert data["retention"]["removed"]
        assert before <= town.packs(), "the pass has pruned"
        assert town.call("prune", "--scheduled")["changed"]
        assert not before <= town.packs(), "the prune has deleted nothing"

    def test_a_damaged_pack_is_found_by_the_part_that_it_is_in_and_on_record(self, town: Town) -> None:
        good = town.maintenance("check")
        pack = min(town.packs())
        # Its first blob's nonce, which is random: a single byte might be what it was.
        overwrite = f"printf %s {'x' * 16} | dd of={pack} conv=notrunc bs=16"
        damage = f"cp -p {pack} /tmp/pack && chmod u+w {pack} && {overwrite}"
        docker("exec", town.agent.name, "sh", "-c", damage)
        try:
            results = [town.call("check", "--scheduled") for _part in range(2)]
        finally:
            docker("exec", town.agent.name, "sh", "-c", f"cat /tmp/pack > {pack}")
        assert False in [one["ok"] for one in results]
        errors = [one["error"] for one in results if not one["ok"]]
        assert not any("\n" in error["message"] for error in errors)
        entry = town.maintenance("check")
        assert not entry["ok"]
        assert entry["error"] in errors
        assert entry["last_success"] >= good["last_success"]
        # restic sorts packs into parts by the first byte of their names (cmd_check.go, selectPacksByBucket).
        # One that holds directories is read by the check of every part.
        parts = entry["rotation"]["parts"]
        assert int(Path(pack).name[:2], 16) % parts + 1 in entry["rotation"]["damaged"]
        assert town.call("check")["ok"], "it is whole again"
        assert town.maintenance("check")["rotation"]["damaged"] == []


class TestRetention:
    def test_says_why_each_snapshot_stays_and_status_counts_them(self, town: Town) -> None:
        name = f"{town.shop.name}/shop"
        data = town.call("forget", "--dry-run")["data"]
        mine = [one for one in data["decisions"] if one["container"] == town.shop.name and one["reason"] == "nightly"]
        assert mine[0]["why"] == ["newest good backup", "last snapshot"]
        assert all(one["keep"] for one in mine[:2])
        status = {f"{one['container']}/{one['database']}": one for one in town.call("status")["data"]["databases"]}
        assert status[name]["kept"] == town.maintenance("forget")["kept"][name]
        assert status[name]["kept"]["why"]["last"] == 2
        table = docker("exec", town.agent.name, "scalr-backup", "forget", "--dry-run").stdout
        assert "newest good backup, last snapshot" in table

    def test_leaves_a_pinned_snapshot_alone_whose_id_changes(self, town: Town) -> None:
        all_of_it = town.call("snapshots", "--db", town.shop.name)["data"]["snapshots"]
        chosen = next(snapshot for snapshot in all_of_it if "nightly" in snapshot["tags"])
        pinned = town.call("pin", chosen["short_id"])["data"]
        assert pinned["was"] == chosen["id"] != pinned["id"]
        assert not town.call("pin", pinned["id"])["changed"], "it is pinned already"
        town.call("backup", "--db", town.shop.name, "--reason", "nightly")
        kept = {snapshot["id"]: snapshot for snapshot in town.call("snapshots")["data"]["snapshots"]}
        assert kept[pinned["id"]]["pinned"]
        assert town.call("snapshots", "--snapshot", chosen["id"])["data"]["snapshots"][0]["id"] == pinned["id"]
        plan = town.call("restore", "--plan", "--db", town.shop.name, "--snapshot", chosen["short_id"])["data"]["plan"]
        assert plan["databases"][0]["snapshot"]["id"] == pinned["id"], "the id that it had first still finds it"
        unpinned = town.call("unpin", pinned["id"])["data"]
        assert unpinned["id"] in town.call("forget", "--no-prune")["data"]["removed"]

    def test_says_that_there_is_no_such_snapshot(self, town: Town) -> None:
        assert town.call("pin", "ffffffff")["error"]["code"] == "unknown_snapshot"


class TestWhatIsSeen:
    def test_the_first_line_of_a_status_answers(self, town: Town) -> None:
        town.call("backup", "--db", town.broken.name)
        plain = docker("exec", town.agent.name, "scalr-backup", "status").stdout
        assert re.match(r"(Safe: 2 databases, the oldest good backup is (\d+ (h|min|s) ){1,2}old\.|NOT SAFE: )", plain)
        assert "\x1b" not in plain
        on_terminal = docker(
            "exec", "-t", "-e", "TERM=xterm-256color", town.agent.name, "scalr-backup", "status"
        ).stdout
        assert on_terminal.startswith(("\x1b[1;32mSafe", "\x1b[1;31mNOT SAFE"))

    def test_on_a_terminal_a_dump_is_a_bar_with_an_end(self, town: Town, tmp_path: Path) -> None:
        drawn = tmp_path / "drawn"
        command = [
            "docker", "exec", "-t", "-e", "TERM=xterm-256color", "-e", "COLUMNS=140", town.agent.name, "scalr-backup",
            "backup", "--db", town.shop.name,
        ]  # fmt: skip

        def is_drawn() -> bool:
            words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.read_text())
            return re.search(rf"dump {town.shop.name}/shop .* of [\d.]+ KiB \(\d+ %\)", words) is not None

        town.shop.wrap("pg_dump", HALTING_DUMP)
        with drawn.open("w") as file, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file) as running:
            try:
                wait_until(is_drawn, "a bar is drawn")
            finally:
                town.shop.let_go()
                town.shop.unwrap("pg_dump")
            assert running.wait(timeout=300) == 0
        # How many lines are drawn is chance; that they are erased and drawn again is not.
        assert "\x1b[2K" in drawn.read_text(), "it is drawn in its own place"


# Messages and heartbeats leave in their own time, beside whatever runs then.
TOLD_TO_OTHERS = {"The heartbeat was not delivered.", "A message was delivered.", "A message was not delivered."}


class TestTheLog:
    def test_has_no_field_and_no_level_that_is_not_declared(self, town: Town) -> None:
        lines = town.agent.log_lines()
        assert set().union(*lines) <= set(FIELDS)
        assert {line["level"] for line in lines} <= set(LEVEL_MEANINGS)
        assert all({"timestamp", "level", "event"} <= set(line) for line in lines)

    def test_bears_the_runs_id_in_every_line_of_a_run(self, town: Town) -> None:
        lines = town.agent.log_lines()
        within, runs = None, {}
        for line in lines:
            if line["event"].endswith("it runs now."):
                within = line["job"]
            elif within and line["event"] not in TOLD_TO_OTHERS:
                assert line.get("run"), line
                runs.setdefault(within, set()).add(line["run"])
                within = None if line["event"] == f"The {within} has ended." else within
        assert set(runs) == {"pass", "prune", "check"}
        assert all(len(ids) == 1 for ids in runs.values())

    def test_says_with_its_level_what_was_not_done(self, town: Town) -> None:
        errors = [line for line in town.agent.log_lines() if line["level"] == "error"]
        assert {"database NOT backed up", "result", "The pass has ended."} <= {line["event"] for line in errors}
        assert {line["job"] for line in errors if line["event"] != "A message was not delivered."} == {"pass"}


def test_no_secret_shows_in_anything_that_was_printed_logged_or_shown(town: Town) -> None:
    town.look()
    logs = docker("logs", town.agent.name)
    everything = [*town.shown, logs.stdout, logs.stderr]
    for what, secret in SECRETS.items():
        assert not any(secret in text for text in everything), what


def test_a_new_schedule_that_cannot_happen_is_refused_and_the_old_one_stays(town: Town) -> None:
    before = town.agent.config["check_schedule"]
    town.agent.configure(check_schedule="0 0 30 2 *")
    try:
        wait_until(
            lambda: any("check_schedule" in str(line.get("reason")) for line in town.agent.log_lines()), "it is refused"
        )
    finally:
        town.agent.configure(check_schedule=before)
    refused = docker(
        "run", "--rm", "-i", "--network", "none", town.agent.image, "validate", "--json",
        stdin=json.dumps({**town.agent.config, "check_schedule": "0 0 30 2 *"}), check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "check_schedule: '0 0 30 2 *'" in json.loads(refused.stdout)["error"]["message"]
