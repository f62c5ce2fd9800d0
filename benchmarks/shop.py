"""The database that lives for thirty nights: three tables of a shop, and what a day changes in them.

Every row comes out of a seed, and no clock is asked: two runs have the same rows on the same pages. At scale 1 it takes
about 220 MB on disk, of which a plain dump is about 130 MB: users, their orders, and events, each with an identity for its
key. It has been in use for a while: a tenth of the rows has moved since, so that there are holes all over the heap.
"""

from __future__ import annotations

from dataclasses import dataclass

# How many rows there are at first, at scale 1; a day adds a two hundredth of each.
USERS, ORDERS, EVENTS = 200_000, 400_000, 500_000
NEW_SHARE = 0.005
# Of all users, those who log in on a day, wherever they are; of all rows, those that change on a day at random.
LOGIN_SHARE, RANDOM_SHARE = 0.02, 0.01
# The newest orders that may still change, and the newest users who try things out: half of each do so on a day.
RECENT_SHARE, RECENT_CHANGES = 0.01, 0.5
FIRST_SEED = 0.42
FIRST_DAY = "timestamptz '2026-01-01 00:00:00+00'"

SCHEMA = """
CREATE TABLE users (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, name text NOT NULL, password_hash text NOT NULL,
  settings jsonb NOT NULL, created_at timestamptz NOT NULL{last_login}
);
CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL, state text NOT NULL, cents int NOT NULL,
  address text NOT NULL, placed_at timestamptz NOT NULL, changed_at timestamptz NOT NULL
);
CREATE TABLE events (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL, happened_at timestamptz NOT NULL,
  kind text NOT NULL, details jsonb NOT NULL
);
"""
APART = """
CREATE TABLE logins (user_id bigint PRIMARY KEY, last_login timestamptz NOT NULL);
INSERT INTO logins SELECT id, {begin} - random() * interval '90 days' FROM users ORDER BY id;
"""
FOLLOW = """
INSERT INTO logins SELECT id, created_at FROM users WHERE id > (SELECT max(user_id) FROM logins) ORDER BY id;
"""
INDEXES = """
CREATE UNIQUE INDEX ON users (email);
CREATE INDEX ON orders (user_id);
CREATE INDEX ON orders (placed_at);
CREATE INDEX ON events (user_id);
CREATE INDEX ON events (happened_at);
"""
# Rows are random, and a plan with workers would hand out the same numbers in another order.
STEADY = """
SET max_parallel_workers_per_gather = 0; SET max_parallel_maintenance_workers = 0; SET synchronous_commit = off;
SET timezone = 'UTC';
SELECT setseed({seed}) \\g /dev/null
"""

INSERT = """
INSERT INTO users (email, name, password_hash, settings, created_at{login_column})
SELECT left(md5(random()::text), 12) || '@example.com',
       (ARRAY['Ada', 'Bela', 'Chen', 'Dora', 'Emil', 'Fatima', 'Goran', 'Hana'])[1 + floor(random() * 8)::int] || ' '
         || initcap(left(md5(random()::text), 8)),
       '$2b$12$' || left(encode(sha256(random()::text::bytea), 'base64'), 43),
       jsonb_build_object('lang', (ARRAY['de', 'en', 'fr'])[1 + floor(random() * 3)::int], 'newsletter', random() < 0.3,
                          'theme', (ARRAY['light', 'dark'])[1 + floor(random() * 2)::int]),
       {begin} + n * {length} / {users}{login_value}
FROM generate_series(1, {users}) AS n;
INSERT INTO orders (user_id, state, cents, address, placed_at, changed_at)
SELECT 1 + floor(random() * {known_users})::bigint, (ARRAY['paid', 'packed', 'shipped'])[1 + floor(random() * 3)::int],
       floor(random() * 20000)::int, floor(random() * 200)::int || ' ' || initcap(left(md5(random()::text), 10)) || ' Street',
       {begin} + n * {length} / {orders}, {begin} + n * {length} / {orders}
FROM generate_series(1, {orders}) AS n;
INSERT INTO events (user_id, happened_at, kind, details)
SELECT 1 + floor(random() * {known_users})::bigint, {begin} + n * {length} / {events},
       (ARRAY['view', 'search', 'cart', 'checkout'])[1 + floor(random() * 4)::int],
       jsonb_build_object('page', '/products/' || floor(random() * 20000)::int, 'session', left(md5(random()::text), 12))
FROM generate_series(1, {events}) AS n;
"""
# What moved since the rows were made: the new versions lie at the end of the heap, their old places are free.
AGE = """
UPDATE users SET settings = settings || '{"confirmed": true}' WHERE random() < 0.1;
UPDATE orders SET state = 'delivered' WHERE random() < 0.1;
UPDATE events SET kind = 'search' WHERE random() < 0.1;
"""
TIDY = "VACUUM (ANALYZE, PARALLEL 0, TRUNCATE off); CHECKPOINT;"

RECENT = """
UPDATE orders SET state = CASE state WHEN 'paid' THEN 'packed' WHEN 'packed' THEN 'shipped' ELSE 'delivered' END,
                  changed_at = {begin} + random() * {length}
WHERE id > (SELECT max(id) - {recent_orders} FROM orders) AND random() < {changes};
"""
# Who has just registered comes back.
RECENT_LOGINS = """
UPDATE {logins} SET last_login = {begin} + random() * {length}
WHERE {user} > (SELECT max({user}) - {recent_users} FROM {logins}) AND random() < {changes};
"""
LOGINS = "UPDATE {logins} SET last_login = {begin} + random() * {length} WHERE random() < {login_share};"
ANYWHERE = """
UPDATE users SET last_login = {begin} + random() * {length} WHERE random() < {random_share};
UPDATE orders SET cents = floor(random() * 20000)::int, changed_at = {begin} WHERE random() < {random_share};
UPDATE events SET kind = (ARRAY['view', 'search', 'cart', 'checkout'])[1 + floor(random() * 4)::int]
WHERE random() < {random_share};
"""


@dataclass(frozen=True)
class Profile:
    """What a day changes: *name* is what the command line and the results call it."""

    name: str
    words: str
    inserts: bool = True
    recent: bool = False
    # Whether people log in wherever they stand in the table.
    logins: bool = False
    # Whether rows of all tables change wherever they stand.
    anywhere: bool = False
    # Whether the time of the last login has a table of its own, beside the users.
    apart: bool = False


PROFILES = (
    Profile("new", "0.5 % new rows"),
    Profile("recent", "0.5 % new rows, recent rows updated, recent logins", recent=True),
    Profile("logins", "0.5 % new rows, recent rows updated, 2 % of all users log in", recent=True, logins=True),
    Profile("logins_apart", "the same, with last_login in a table of its own", recent=True, logins=True, apart=True),
    Profile("anywhere", "1 % of all rows at random", inserts=False, anywhere=True),
)


def first_day(profile: Profile, scale: float, *, seed: float = FIRST_SEED, aged: bool = True) -> str:
    """SQL that makes the database as it is before the first night; *scale* 1 is 220 MB, *seed* is from -1 to 1.

    Where it is not *aged*, its rows lie as they were made, in the order of their keys.
    """
    login_column, login_value = (
        ("", "") if profile.apart else (", last_login", f", {FIRST_DAY} - random() * interval '90 days'")
    )
    rows = INSERT.format(
        **_rows(scale, 1.0),
        known_users=round(USERS * scale),
        begin=f"{FIRST_DAY} - interval '500 days'",
        length="interval '500 days'",
        login_column=login_column,
        login_value=login_value,
    )
    schema = SCHEMA.format(last_login="" if profile.apart else ", last_login timestamptz NOT NULL")
    apart = APART.format(begin=FIRST_DAY) if profile.apart else ""
    return "\n".join([STEADY.format(seed=seed), schema, rows, apart, INDEXES, AGE if aged else "", TIDY])


def day(profile: Profile, number: int, scale: float) -> str:
    """SQL of what changes between one night and the next; *number* is that of the night that follows, from 2 on."""
    values = {
        **_rows(scale, NEW_SHARE),
        "known_users": round(USERS * scale * (1 + (number - 2) * NEW_SHARE)),
        "begin": f"({FIRST_DAY} + interval '{number} days')",
        "length": "interval '1 day'",
        "recent_orders": round(ORDERS * scale * RECENT_SHARE),
        "recent_users": round(USERS * scale * RECENT_SHARE),
        "changes": RECENT_CHANGES,
        "login_share": LOGIN_SHARE,
        "random_share": RANDOM_SHARE,
        "logins": "logins" if profile.apart else "users",
        "user": "user_id" if profile.apart else "id",
        "login_column": "" if profile.apart else ", last_login",
        "login_value": "" if profile.apart else f", {FIRST_DAY} + interval '{number} days'",
    }
    statements = [
        STEADY.format(seed=round(number / 1000, 3)),
        INSERT.format(**values) if profile.inserts else "",
        FOLLOW if profile.apart else "",
        RECENT.format(**values) + RECENT_LOGINS.format(**values) if profile.recent else "",
        LOGINS.format(**values) if profile.logins else "",
        ANYWHERE.format(**values) if profile.anywhere else "",
        TIDY,
    ]
    return "\n".join(filter(None, statements))


def _rows(scale: float, share: float) -> dict[str, int]:
    """How many rows of each table are made, at least one."""
    counts = {"users": USERS, "orders": ORDERS, "events": EVENTS}
    return {table: max(1, round(count * scale * share)) for table, count in counts.items()}
