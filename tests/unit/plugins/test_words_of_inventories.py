# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks over an inventory that uses their words for something else, or gives a text instead of a mapping."""

from __future__ import annotations

from tests.unit.plugins.test_playbooks import can_restore, has_containers, restores_of, saved


def test_an_inventorys_own_words_neither_stop_nor_narrow_a_backup(fleet):
    web1 = fleet.host("web1")
    web1.agent_returns({"databases": [saved("scalr-foo-db", "foo")]}, changed=True)
    # As amazon.aws.aws_ec2 does it, and as operators do.
    fleet.hosts["web1"] |= {"tags": {"Name": "web1"}, "db": "shop"}

    run = fleet.run("backup")

    assert run.returncode == 0, run.stdout + run.stderr
    assert web1.verb == ["backup", "--reason=manual"]
    warning = "db comes from the inventory (host web1), but backup.yml takes it only with -e: it is ignored."
    assert warning in " ".join(run.stderr.split())


def test_where_a_playbook_of_ones_own_says_it_it_counts(fleet, tmp_path):
    web1 = fleet.host("web1")
    web1.agent_returns({"databases": [saved("scalr-foo-db", "foo")]}, changed=True)
    mine = tmp_path / "mine.yml"
    mine.write_text("- import_playbook: scalr.backup.backup\n  vars: {db: scalr-foo-db}\n")

    run = fleet.run(str(mine).removesuffix(".yml"))

    assert run.returncode == 0, run.stdout + run.stderr
    assert web1.verb == ["backup", "--db=scalr-foo-db", "--reason=manual"]


def test_an_inventorys_own_words_decide_nothing_about_a_restore(fleet):
    web1 = fleet.host("web1")
    has_containers(web1, "scalr-foo-db")
    can_restore(web1, "scalr-foo-db")
    fleet.hosts["web1"] |= {"snapshot": {"taken": True}, "tags": {"Name": "web1"}}

    done = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")
    fleet.hosts["web1"]["confirm"] = "scalr-foo-db"
    refused = fleet.run("restore", db="scalr-foo-db")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "--snapshot=5f0c8e1b" in restores_of(web1)[0]
    assert "confirm comes from the inventory (host web1), but restore.yml takes it only with -e" in refused.stdout
    assert len(restores_of(web1)) == 1


def test_a_text_instead_of_a_mapping_is_a_sentence_without_the_text(fleet):
    web1 = fleet.host("web1")
    text = 'backup_environment={"AWS_SECRET_ACCESS_KEY":"canary"}'

    run = fleet.run("prune", "-e", text)

    assert run.returncode != 0
    assert "backup_environment is not a mapping: with -e, pass JSON, such as" in " ".join(run.stdout.split())
    assert "canary" not in run.stdout + run.stderr
    assert [call for call in web1.calls if "forget" in call] == []
