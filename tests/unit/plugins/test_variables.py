# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks and roles refuse among variables: unknown names, empty values, what does not go together."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible_collections.scalr.backup.plugins.action.known_variables import names_within
from ansible_collections.scalr.backup.plugins.plugin_utils._variables import (
    EVERYWHERE,
    NOTED,
    OLD_NAMES,
    PLAYBOOKS,
    WITH_E_ONLY,
    Known,
    from_inventory,
    names_used,
    playbooks_alone,
    refuse_extra,
    refuse_unknown_of_host,
    refuse_values_of_host,
)
from jinja2 import meta

from tests.support.role_variables import role_variables

CHECKOUT = Path(__file__).resolve().parents[3]
ROLE_VARIABLES = set(
    chain.from_iterable(
        entry.get("options", {})
        for path in CHECKOUT.glob("roles/*/meta/argument_specs.yml")
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values()
    )
)


def known_to(playbook, used=(), others=()):
    return Known(PLAYBOOKS[playbook], ROLE_VARIABLES, used, others)


def refused(playbook, given, *, alone=True, used=(), others=()):
    return " ".join(refuse_extra(playbook, given, known_to(playbook, used, others), alone=alone))


@pytest.mark.parametrize(
    ("playbook", "name", "meant"),
    [
        ("restore", "databse", "database"),
        ("restore", "datbase", "database"),
        ("restore", "DB", "db"),
        ("restore", "bd", "db"),
        ("restore", "snapshto", "snapshot"),
        ("restore", "targt", "target"),
        ("restore", "keepold", "keep_old"),
        ("restore", "from-host", "from_host"),
        ("restore", "safety_snapshots", "safety_snapshot"),
        ("restore", "comfirm", "confirm"),
        ("backup", "extra_tag", "extra_tags"),
        ("backup", "dbs", "db"),
        ("drill", "snapshots", "snapshot"),
        ("check", "read_data_subsets", "read_data_subset"),
        ("prune", "removes", "remove"),
        ("prune", "acept_late", "accept_late"),
        ("status", "reprot", "report"),
        ("rotate_password", "new_pasword", "new_password"),
        ("recovery_kit", "excrow", "escrow"),
        ("site", "backup_shedule", "backup_schedule"),
        ("site", "backup_container", "backup_containers"),
        ("site", "bakup_keep", "backup_keep"),
        ("site", "schedule", "backup_schedule"),
        ("site", "docker_package_sorce", "docker_package_source"),
        ("site", "backup_host", "backup_hosts"),
    ],
)
def test_a_typing_error_is_refused_and_the_near_miss_named(playbook, name, meant):
    sentence = f"{playbook}.yml does not know the variable {name}: did you mean {meant}?"
    assert refused(playbook, {name: "x"}) == sentence


def test_an_unknown_variable_that_is_near_to_none_is_refused_with_what_there_is_and_the_way_out():
    sentence = refused("backup", {"container": "scalr-foo-db"})

    assert sentence == (
        "backup.yml does not know the variable container: it knows backup_serial, db, extra_tags and the variables of the roles. "
        "If container is your own variable, add it to backup_extra_variables."
    )


@pytest.mark.parametrize(
    "name",
    [
        "db",
        "backup_schedule",
        "ansible_user",
        "awx_job_id",
        "tower_user_name",
        "vault_key",
        "env",
        "app_v",
    ],
)
def test_what_somebody_knows_is_not_refused(name):
    assert not refused("restore", {name: "x"}, used={"env"}, others=["app_*"])


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS))
def test_who_goes_through_all_hosts_at_once_does_not_promise_otherwise(playbook):
    plays = yaml.safe_load((CHECKOUT / f"playbooks/{playbook}.yml").read_text())
    in_batches = any("backup_serial" in str(play.get("serial")) for play in plays)

    assert bool(refused(playbook, {"backup_serial": 5})) is not in_batches


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [("version", False), ("image", False), ("dc", False), ("databse", True), ("backup_foo", True), ("keepold", True)],
)
def test_where_a_playbook_of_the_operator_runs_too_only_what_looks_like_ours_is_refused(name, is_refused):
    assert bool(refused("restore", {name: "x"}, alone=False)) is is_refused


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS))
def test_an_empty_value_is_refused_for_it_would_mean_everything_or_nothing(playbook):
    # An empty confirmation is answered as a wrong one is.
    for name in {*PLAYBOOKS[playbook], *EVERYWHERE} - {"confirm"}:
        for value in ("", " ", None, [], {}, "[]", "None", "null"):
            assert refused(playbook, {name: value}) == f"{name} is empty: give it a value, or leave it out."
    assert refused("restore", {"db": "c", "confirm": ""}) == ""


@pytest.mark.parametrize(
    ("playbook", "given", "sentence"),
    [
        ("restore", {"db": "scalr-*-db"}, "db is scalr-*-db, but globs are not allowed here: name one container."),
        (
            "restore",
            {"db": "a", "target": "b[12]"},
            "target is b[12], but globs are not allowed here: name one container.",
        ),
        ("restore", {"db": ["a", "b"]}, "db must be a single value, not a list."),
        ("restore", {"db": {"a": "b"}}, "db must be a single value, not a mapping."),
        ("restore", {"db": "a", "safety_snapshot": "ture"}, "safety_snapshot is ture, but must be true or false."),
        ("prune", {"accept_late": "maybe"}, "accept_late is maybe, but must be true or false."),
        (
            "restore",
            {"db": "a", "from_host": "w", "from_password": "p", "from_environment": '{"NAME": "canary"}'},
            """from_environment is not a mapping: with -e, pass JSON, such as -e '{"from_environment": {"NAME": "value"}}', """
            "or a file, as -e @FILE.",
        ),
        ("backup", {"db": "a,,b"}, "db has an empty item: remove it."),
        ("backup", {"db": ["a", ""]}, "db has an empty item: remove it."),
        ("prune", {"remove": ","}, "remove has an empty item: remove it."),
        (
            "status",
            {"report": "p.html", "report_mode": 420},
            "report_mode is 420: it must be the octal permissions of a file that its owner can read and nobody can execute in "
            'quotation marks, such as "0640", or symbolic ones, such as u=rw,g=r.',
        ),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(playbook, given, sentence):
    assert refused(playbook, given) == sentence


@pytest.mark.parametrize(
    ("playbook", "given"),
    [
        ("restore", {"db": "c", "keep_old": "no", "safety_snapshot": "yes", "confirm": "c", "database": "*"}),
        ("restore", {"undo": "r", "db": "c", "confirm": "c", "keep_old": False, "safety_snapshot": True}),
        ("restore", {"db": "c", "from_host": "web9", "from_password": "p", "from_environment": {"A": "b"}}),
        ("backup", {"db": ["a", "b*"], "extra_tags": "x,y"}),
        ("recovery_kit", {"kit": "k", "escrow": "true", "replace": "true"}),
        ("drill", {"db": 1}),
    ],
)
def test_values_that_can_be_meant_pass(playbook, given):
    assert refused(playbook, given) == ""


def test_what_the_inventory_gives_counts_where_variables_do_not_go_together():
    known = known_to("restore")
    elsewhere = {"on_error": "skip", "target": "t", "port": 5}

    found = refuse_extra("restore", {"undo": "r"}, known, alone=True, elsewhere=elsewhere)

    assert len(found) == 1
    assert found[0].startswith("undo cannot be combined with on_error: ")


FOUND = "db comes from the inventory (host web2), but"


@pytest.mark.parametrize(
    ("playbook", "given", "of_web2", "refused_with", "warned_of"),
    [
        ("restore", [], {"db": "shop"}, f"{FOUND} restore.yml takes it only with -e: pass it there, or use ", ""),
        ("restore", ["db"], {"db": "shop"}, "", ""),
        ("prune", [], {"remove": ["5f0c"]}, "remove comes from the inventory (host web2), but prune.yml takes it", ""),
        ("backup", [], {"db": "shop"}, "", f"{FOUND} backup.yml takes it only with -e: it is ignored."),
        ("backup", [], {"db": ["shop"]}, "", FOUND),
        ("drill", [], {"image": "linode/debian12"}, "", "image comes from the inventory (host web2), but drill.yml"),
        # What clouds set on each host.
        ("backup", [], {"tags": {"Name": "web2"}}, "", ""),
        ("backup", [], {"tags": ["prod"]}, "", ""),
        ("backup", [], {"tags": "prod"}, "", "tags comes from the inventory (host web2), but backup.yml"),
        ("drill", [], {"image": {"offer": "debian"}, "snapshot": {}}, "", ""),
        ("restore", [], {"snapshot": [], "database": "", "db": None}, "", ""),
        # What other playbooks take, and what may be different for each host.
        ("check", [], {"db": "shop", "from_copy": True}, "", ""),
        ("rotate_password", [], {"new_password": "p", "gone": "web9", "keep_old": True}, "", ""),
        ("status", [], {"report": "/srv/page.html", "report_mode": "0644"}, "", ""),
    ],
)
def test_words_that_inventories_use_count_only_with_e(playbook, given, of_web2, refused_with, warned_of):
    refusals, warnings = from_inventory(playbook, given, {"web1": {}, "web2": of_web2, "web3": of_web2})

    assert [sentence[: len(refused_with)] for sentence in refusals] == ([refused_with] if refused_with else [])
    assert [sentence[: len(warned_of)] for sentence in warnings] == ([warned_of] if warned_of else [])


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS))
def test_a_playbook_does_not_see_what_the_inventory_means_by_such_a_word(playbook):
    """A play's variables beat the inventory's, and extra variables beat the play's."""
    # Old names are asked for by name (a play cannot have reserved words), and to confirm is to be given anything at all.
    wanted = (WITH_E_ONLY & set(PLAYBOOKS[playbook])) - OLD_NAMES - {"confirm"}
    plays = yaml.safe_load((CHECKOUT / f"playbooks/{playbook}.yml").read_text())
    known = next(number for number, play in enumerate(plays) if "known_variables" in str(play))
    # Those that only report do so about what was given.
    at_work = plays[known:] if playbook == "restore" else [plays[known]]
    for play in at_work:
        blank = {name for name, value in play.get("vars", {}).items() if value == ""}
        assert wanted <= blank


def test_a_text_that_should_be_a_mapping_is_refused_without_its_value():
    values = {
        "backup_keep": '{"daily": 7}',
        "backup_environment": '{"AWS_SECRET_ACCESS_KEY": "canary"}',
        "backup_a": {},
    }

    found = refuse_values_of_host(values, ["backup_environment", "backup_keep", "backup_a", "backup_b"])

    assert found == [
        """backup_environment is not a mapping: with -e, pass JSON, such as -e '{"backup_environment": {"NAME": "value"}}', """
        "or a file, as -e @FILE.",
        """backup_keep is not a mapping: with -e, pass JSON, such as -e '{"backup_keep": {"daily": 7}}', """
        "or a file, as -e @FILE.",
    ]


@pytest.mark.parametrize(
    ("role", "name", "sentence"),
    [
        ("backup", "backup_shedule", "does not know the variable backup_shedule: did you mean backup_schedule?"),
        ("backup", "bakup_keep", "does not know the variable bakup_keep: did you mean backup_keep?"),
        ("backup", "Backup_Keep", "does not know the variable Backup_Keep: did you mean backup_keep?"),
        ("backup", "backups_keep", "does not know the variable backups_keep: did you mean backup_keep?"),
        (
            "backup",
            "backup_colour",
            "does not know the variable backup_colour: if it is your own, add it to backup_extra_variables.",
        ),
        ("docker", "docker_pakages", "does not know the variable docker_pakages: did you mean docker_packages?"),
        ("monitoring", "monitoring_loki_ulr", "does not know the variable monitoring_loki_ulr: did you mean"),
    ],
)
def test_the_inventorys_unknown_variables_are_refused(role, name, sentence):
    found = refuse_unknown_of_host(role, [name], Known(roles=ROLE_VARIABLES))

    assert len(found) == 1
    assert found[0].startswith(f"The role scalr.backup.{role} {sentence}")


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("backup", "backup_bucket"),
        ("backup", "backup_of_others"),
        ("backup", "backup_rows"),
        ("backup", "lockup_keep"),
        ("backup", "docker_users"),
        ("backup", "__backup_image"),
        ("docker", "docker_users"),
        ("docker", "docker_edition"),
        ("monitoring", "monitoring_enabled"),
    ],
)
def test_the_inventorys_other_variables_are_nobodys_business(role, name):
    known = Known(roles=ROLE_VARIABLES, used={"backup_bucket"}, others=["backup_of_*"])
    assert refuse_unknown_of_host(role, [name], known) == []


def test_where_a_variable_is_set_is_said():
    found = refuse_unknown_of_host(
        "backup", ["backup_kepe"], Known(roles=ROLE_VARIABLES), {"backup_kepe": "/etc/ansible/group_vars/all.yml:3"}
    )
    assert (
        "the variable backup_kepe, which /etc/ansible/group_vars/all.yml:3 sets: did you mean backup_keep?" in found[0]
    )


@pytest.mark.parametrize("value", [[], "", "[]", " ", "None"])
def test_a_role_variable_that_backs_up_nothing_is_refused(value):
    assert "backup_containers is empty, so no container" in refuse_values_of_host({"backup_containers": value})[0]
    assert "backup_keep is empty, so no snapshot would be kept" in refuse_values_of_host({"backup_keep": value})[0]


def test_a_role_variable_without_a_value_is_refused():
    assert refuse_values_of_host({"backup_keep": None}) == ["backup_keep has no value: give it one, or leave it out."]


@pytest.mark.parametrize("value", ["*", ["*"], ["a", "**"], "a, *"])
def test_excluding_everything_is_refused(value):
    assert "which excludes every container" in refuse_values_of_host({"backup_exclude": value})[0]


def test_role_variables_that_can_be_meant_pass():
    defaults = yaml.safe_load((CHECKOUT / "roles/backup/defaults/main.yml").read_text())
    assert refuse_values_of_host(defaults) == []
    assert refuse_values_of_host({"backup_exclude": ["scalr-*"]}) == []


def test_the_words_of_templates_are_found_wherever_they_stand():
    value = {"a": ["{{ env }}-x", {"b": "{% if dark %}y{% endif %}"}], "c": "plain words", "d": 5}
    assert names_used(value) >= {"env", "dark"}
    assert not names_used(value) & {"plain", "words"}


@pytest.mark.parametrize(
    ("arguments", "alone"),
    [
        (["scalr.backup.restore"], True),
        (["/c/playbooks/restore.yml"], True),
        (["/c/playbooks/restore.yml", "scalr.backup.status"], True),
        (["/somewhere/restore.yml"], False),
        (["/c/playbooks/mine.yml"], False),
        (["/c/playbooks/restore.yml", "/somewhere/site.yml"], False),
        (["scalr.backup.mine"], False),
    ],
)
def test_whether_only_playbooks_of_the_collection_run(arguments, alone):
    assert playbooks_alone(arguments, "/c/playbooks") is alone


# What a playbook finds without being given it.
_MAGIC = {
    "ansible_check_mode",
    "ansible_limit",
    "ansible_play_hosts",
    "ansible_play_hosts_all",
    "ansible_failed_result",
    "hostvars",
}
_MAGIC |= {"ansible_failed_task", "inventory_hostname", "omit", "lookup", "query", "now", "item", "vars", "groups", "_"}


class AnyName(dict):
    """Filters or tests, of any name."""

    def __contains__(self, name):
        return True

    def get(self, name, default=None):
        return len

    __getitem__ = get


def texts(value, *, bare=False):
    """Every template of a playbook; conditions are templates without braces."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, bare=key in {"when", "failed_when", "changed_when"})
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, bare=bare)
    elif isinstance(value, str):
        yield f"{{{{ {value} }}}}" if bare else value


def names_made(value):
    """The names that a playbook gives values to by itself."""
    if isinstance(value, list):
        return set().union(*map(names_made, value))
    if not isinstance(value, dict):
        return set()
    made = set(value.get("vars") or {}) | set(value.get("ansible.builtin.set_fact") or {})
    made |= {value["register"]} if "register" in value else set()
    return made.union(*map(names_made, value.values()))


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS))
def test_a_playbook_is_known_to_take_exactly_what_it_uses(playbook):
    plays = yaml.safe_load((CHECKOUT / f"playbooks/{playbook}.yml").read_text())
    files = {file for play in plays for file in play.get("vars_files", [])}
    plays += [{"vars": yaml.safe_load((CHECKOUT / "playbooks" / file).read_text())} for file in files]
    environment = jinja2.Environment(autoescape=True)
    # Which filters and tests there are is Ansible's business.
    environment.filters = environment.tests = AnyName()
    # Jinja unescapes texts by itself, and says that it should not.
    used = set().union(
        *(meta.find_undeclared_variables(environment.parse(text.replace("\\Z", ""))) for text in texts(plays))
    )

    # A play blanks some of them, which changes nothing about who gives them.
    blank = {name for play in plays for name, value in play.get("vars", {}).items() if value == ""}
    taken = (
        used - (names_made(plays) - blank) - _MAGIC - ROLE_VARIABLES - {name for name in used if name.startswith("__")}
    )

    assert taken == {*PLAYBOOKS[playbook], *(used & EVERYWHERE.keys())}


def test_what_playbooks_note_under_names_like_the_roles_is_known():
    made = names_made([yaml.safe_load(path.read_text()) for path in (CHECKOUT / "playbooks").glob("*.yml")])
    assert made >= NOTED
    assert {name for name in made if name.startswith("backup_")} - ROLE_VARIABLES - NOTED <= {
        "backup_databases",
        "backup_asked",
        "backup_objection",
    }


@pytest.mark.parametrize("role", ["backup", "docker", "monitoring"])
def test_what_a_role_keeps_for_itself_is_no_typing_error(role):
    """A role's own variables stand among those of the host while it runs, and what an earlier run of it noted, too."""
    directory = CHECKOUT / "roles" / role
    own = names_within(directory, DataLoader())
    assert own == set(role_variables(directory))
    noted = names_made([yaml.safe_load(path.read_text()) for path in directory.glob("tasks/*.yml")])
    assert refuse_unknown_of_host(role, own | noted, Known(roles=ROLE_VARIABLES, used=own)) == []


@pytest.mark.parametrize(
    "files",
    [
        {"vars/main.yml": "__a: 1\n__b: 2\n"},
        {"vars/main/one.yml": "---\n# Of one topic.\n__a: 1\n", "vars/main/two.yml": "__b: 2\n"},
        # A directory goes before a file.
        {"vars/main/one.yml": "__a: 1\n__b: 2\n", "vars/main.yml": "__c: 3\n"},
        {"vars/main/one.yml": "__a: 1\n__b: 2\n", "vars/main/empty.yml": "---\n", "vars/main/note~": "__c: 3\n"},
    ],
)
def test_a_roles_own_variables_are_those_that_ansible_reads(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert names_within(tmp_path, DataLoader()) == {"__a", "__b"}


def test_a_role_without_own_variables_has_none(tmp_path):
    assert names_within(tmp_path, DataLoader()) == set()


@pytest.mark.parametrize("name", ["backup_repository", "backup_copy_repository", "backup_prune_repository"])
def test_an_address_of_a_host_with_a_password_in_it_is_refused_and_not_repeated(name):
    (sentence,) = refuse_values_of_host({name: "rest:https://web1:p@canary/1@rest.test/"})
    assert sentence.startswith(f"The address in {name} contains a password")
    assert "canary" not in sentence
    assert refuse_values_of_host({name: "rest:https://web1@rest.test:8000/web1/"}) == []


@pytest.mark.parametrize("where", ["given", "elsewhere"])
def test_so_is_one_of_a_playbook(where):
    address = {"from_repository": "rest:https://web1:p@canary/1@rest.test/"}
    known = Known(own=PLAYBOOKS["restore"])
    given, elsewhere = (address, {}) if where == "given" else ({}, address)
    (sentence,) = refuse_extra("restore", given, known, alone=True, elsewhere=elsewhere)
    assert "RESTIC_REST_PASSWORD in from_environment" in sentence
    assert "canary" not in sentence
