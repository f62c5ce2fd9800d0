# SPDX-License-Identifier: GPL-3.0-or-later
"""What extensions need of a restore beyond CREATE EXTENSION, as their documentation has it; all of it is here.

An extension that is not listed needs nothing. To add one: name what has to be set while its database is filled, what has
to be called afterwards, and what settings of its server decide whether it can be created at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ExtensionNeeds:
    """What one extension needs.

    *while_filling* are settings of the new database until it is full. *after* are functions of
    the extension without arguments, called once it is. *home* is the server's setting that names the only database in which
    the extension can be created. *settings* are others of the server that it cannot be created or restored without.
    """

    while_filling: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    home: str | None = None
    settings: tuple[str, ...] = ()


NOTHING = ExtensionNeeds()
NEEDS: Mapping[str, ExtensionNeeds] = {
    # https://www.tigerdata.com/docs: timescaledb_pre_restore() sets this and ends its workers, of which a new database has
    # none. It has to be set before the extension is created, whose event triggers and catalogs act otherwise.
    "timescaledb": ExtensionNeeds(while_filling={"timescaledb.restoring": "on"}, after=("timescaledb_post_restore",)),
    # https://github.com/citusdata/pg_cron: one database of a cluster has it.
    "pg_cron": ExtensionNeeds(home="cron.database_name"),
    # Its script refuses to run while pgaudit logs everything, as that takes hours.
    "postgis": ExtensionNeeds(while_filling={"pgaudit.log": "none"}),
    "postgis_raster": ExtensionNeeds(while_filling={"pgaudit.log": "none"}),
    "postgis_topology": ExtensionNeeds(while_filling={"pgaudit.log": "none"}),
    "postgis_tiger_geocoder": ExtensionNeeds(while_filling={"pgaudit.log": "none"}),
}

# Those that need nothing and do not look at their database's name: PostgreSQL's own (documentation, "Additional Supplied
# Modules and Extensions", and the procedural languages), and others that many have.
HARMLESS = frozenset(
    """
    amcheck autoinc bloom bool_plperl bool_plperlu btree_gin btree_gist citext cube dblink dict_int dict_xsyn earthdistance
    file_fdw fuzzystrmatch hstore hstore_plperl hstore_plperlu hstore_plpython3u insert_username intagg intarray isn
    jsonb_plperl jsonb_plperlu jsonb_plpython3u lo ltree ltree_plpython3u moddatetime old_snapshot pageinspect
    pg_buffercache pg_freespacemap pg_logicalinspect pg_prewarm pg_stat_statements pg_surgery pg_trgm pg_visibility
    pg_walinspect pgcrypto pgrowlocks pgstattuple plperl plperlu plpgsql plpython3u pltcl pltclu postgres_fdw refint seg
    sslinfo tablefunc tcn tsm_system_rows tsm_system_time unaccent uuid-ossp xml2
    address_standardizer address_standardizer_data_us age hll hypopg pg_partman pg_repack pg_stat_kcache pgaudit pgmq
    pgrouting pgtap rum vector
    """.split()  # noqa: SIM905 (seventy words)
)

# Settings of a server, beside those that extensions name, that decide whether what it holds can be restored: libraries
# that bring security labels and hooks, and how constants are read.
_OF_ANY_SERVER = (
    "local_preload_libraries", "session_preload_libraries", "max_locks_per_transaction", "temp_file_limit", "TimeZone",
)  # fmt: skip
SHARED_SETTINGS = (
    *_OF_ANY_SERVER,
    *sorted({name for needs in NEEDS.values() for name in (*needs.settings, *([needs.home] if needs.home else ()))}),
)
# A setting is a line, and what a manifest says of one goes on a command line.
_MOST_CHARACTERS = 1000


def settings_while_filling(extensions: Iterable[str]) -> dict[str, str]:
    """What to set in a new database until it is full."""
    return {name: value for one in extensions for name, value in NEEDS.get(one, NOTHING).while_filling.items()}


def calls_after(extensions: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The functions to call in a full database, each with the extension that it belongs to."""
    return tuple((one, function) for one in extensions for function in NEEDS.get(one, NOTHING).after)


def homes(extensions: Iterable[str]) -> dict[str, str]:
    """The extensions that only one database of a cluster can have, with the setting that names it."""
    return {one: home for one in extensions if (home := NEEDS.get(one, NOTHING).home)}


def is_known(extension: str) -> bool:
    """Whether it is known what an extension needs of a restore."""
    return extension in NEEDS or extension in HARMLESS


def settings_of_a_drill(known: Mapping[str, str], extensions: Iterable[str], database: str) -> dict[str, str]:
    """The settings that the server of a drill has in common with its source, where they are *known*.

    Whoever wrote the manifest may have written anything: only these names are taken from it.
    """
    taken = {
        name: value
        for name in SHARED_SETTINGS
        if (value := known.get(name)) and len(value) <= _MOST_CHARACTERS and value.isprintable()
    }
    # Earlier versions noted none of them, and an extension that was there had its home there.
    return dict.fromkeys(homes(extensions).values(), database) | taken
