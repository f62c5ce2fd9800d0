"""restic's exit codes, time limits and quirks, played by a script: what a real repository cannot be made to do."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    DumpError,
    InterruptedRunError,
    RepositoryLockedError,
    RepositoryMissingError,
    RepositoryRefusedError,
    RepositoryUnreachableError,
    ResticError,
    ResticVersionError,
    TooManyKeysError,
    UnreadableRepositoryError,
    WrongPasswordError,
)
from scalr_backup.core.secrets import Secrets
from scalr_backup.tools.restic import repository
from scalr_backup.tools.restic.messages import Done, parse_progress
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.store.s3 import S3Files

SUMMARY = (
    '{"message_type":"summary","snapshot_id":"abc123","total_bytes_processed":%d,"data_added":9,"data_added_packed":5}'
)

SSH_SAYS = (
    "@@@@@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@@@@@@\nHost key verification failed.\n"
)


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Make a restic out of a shell script; each call is one line of ``calls``."""

    def make(script, repository="rest:http://user:canary@localhost/x", **settings):
        program = tmp_path / "restic"
        calls = tmp_path / "calls"
        program.write_text(f'#!/bin/bash\necho "$*" >> {calls}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        config = Config(host="h", repository=repository, **settings)
        return Restic(config, Secrets(tmp_path / "password"), cache=tmp_path / "cache")

    return make


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize("version", ["0.16.4", "0.9.0"])
def test_an_old_restic_is_refused_by_name(play, version):
    with pytest.raises(ResticVersionError, match=rf"0\.17\.0 or newer is required, and this is 'restic {version}"):
        play(f"echo restic {version} compiled with go").require_version()


def test_a_new_enough_restic_is_accepted(play):
    assert play("echo restic 0.19.1 compiled with go1.25").require_version() == "0.19.1"


class TestItsVersion:
    """It is asked for once, as long as the program is the same."""

    def test_is_remembered_from_one_call_of_a_verb_to_the_next(self, play, tmp_path):
        script = "echo restic 0.19.1 compiled with go1.25"
        assert play(script).require_version() == "0.19.1"
        before = (tmp_path / "restic").stat()
        again = Restic(Config(host="h", repository="/r"), Secrets(tmp_path / "password"), cache=tmp_path / "cache")
        assert again.require_version() == "0.19.1"
        assert calls(tmp_path) == ["version"]
        assert (tmp_path / "restic").stat().st_ctime_ns == before.st_ctime_ns

    def test_of_another_program_it_is_asked_for_again(self, play):
        assert play("echo restic 0.19.1").require_version() == "0.19.1"
        assert play("echo restic 0.19.22").require_version() == "0.19.22"

    @pytest.mark.parametrize("memory", ["", "null", "[]", '{"program": [], "version": [1]}', '{"version": "9.9.9"}'])
    def test_a_memory_that_is_none_is_no_version(self, play, tmp_path, memory):
        restic = play("echo restic 0.19.1")
        (tmp_path / "cache" / "restic-version.json").write_text(memory)
        assert restic.require_version() == "0.19.1"

    def test_an_old_one_is_refused_each_time(self, play):
        for _call in range(2):
            with pytest.raises(ResticVersionError, match=r"this is '(restic )?0\.16\.4"):
                play("echo restic 0.16.4").require_version()


def test_no_restic_at_all_is_a_sentence(play, monkeypatch, tmp_path):
    restic = play("true")
    (tmp_path / "restic").unlink()
    monkeypatch.setattr("os.defpath", str(tmp_path))
    with pytest.raises(ResticVersionError, match="restic is not on the path"):
        restic.require_version()


@pytest.mark.parametrize(
    ("exit_code", "stderr", "expected"),
    [
        (10, "Fatal: repository does not exist", RepositoryMissingError),
        (11, "Fatal: unable to create lock", RepositoryLockedError),
        (12, "Fatal: wrong password or no key found", WrongPasswordError),
        (1, "Fatal: maximum number of keys reached", TooManyKeysError),
        (1, "Fatal: unable to open repository: Stat: Access Denied.", RepositoryRefusedError),
        (1, "Fatal: server response unexpected: 401 Unauthorized", RepositoryRefusedError),
        (1, "Fatal: dial tcp: lookup s3.test: no such host", RepositoryUnreachableError),
        (1, "Fatal: Stat: The specified bucket does not exist", RepositoryMissingError),
        (1, "Fatal: something else", ResticError),
        (1, "Fatal: Unmarshal: invalid character", UnreadableRepositoryError),
        (1, "unable to create lock in backend: ciphertext verification failed", UnreadableRepositoryError),
        (77, "an exit code of the future", ResticError),
    ],
)
def test_exit_codes(play, exit_code, stderr, expected):
    with pytest.raises(ResticError) as failed:
        play(f"echo '{stderr}' >&2; exit {exit_code}").snapshots()
    assert type(failed.value) is expected
    assert "canary" not in failed.value.message
    assert "\n" not in failed.value.message


PANIC = """panic: runtime error: slice bounds out of range [16:7]

goroutine 1 [running]:
github.com/restic/restic/internal/repository.(*Repository).LoadUnpacked(0x2b9b0313a0e0, {0x19b9e30, 0x2b9b03335a90}, 0x6)
\tgithub.com/restic/restic/internal/repository/repository.go:199 +0x1e8
main.main.func2(0x2b9b031af200, 0x2b9b03271e48)
\tgithub.com/restic/restic/cmd/restic/main.go:188 +0x105
main.main()
\tgithub.com/restic/restic/cmd/restic/main.go:196 +0x2bd
created by golang.org/x/sync/errgroup.(*Group).Go in goroutine 12
\tgolang.org/x/sync@v0.20.0/errgroup/errgroup.go:78 +0x95"""
REFUSED = """Remove(<snapshot/53a5b01491>) failed: unexpected HTTP response (403): 403 Forbidden
failed to remove one or more snapshots
main.init
\tgithub.com/restic/restic/cmd/restic/cmd_forget.go:67
runtime.doInit1
\truntime/proc.go:8103
runtime.goexit
\truntime/asm_amd64.s:1771"""


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (PANIC, "panic: runtime error: slice bounds out of range [16:7]"),
        (REFUSED, "failed to remove one or more snapshots"),
    ],
)
def test_of_a_stack_of_go_only_the_reason_is_told(play, stderr, words):
    with pytest.raises(ResticError) as failed:
        play(f"cat >&2 <<'END'\n{stderr}\nEND\nexit 2").snapshots()
    assert failed.value.message.endswith(words)
    assert "\n" not in failed.value.message


def test_a_call_that_does_not_answer_is_ended_by_us(play):
    started = time.monotonic()
    with pytest.raises(RepositoryUnreachableError, match="did not answer within 5 s while listing the snapshots"):
        play("sleep 60", answer_seconds=5).snapshots()
    assert time.monotonic() - started < 55, "it is ended, not waited for"


def test_a_refusal_that_will_be_the_same_in_a_minute_is_not_retried(play):
    started = time.monotonic()
    said = (
        "Stat(<config/>) returned error, retrying after 577.3ms: Stat: The access key ID you provided does not exist."
    )
    with pytest.raises(RepositoryRefusedError, match="rejects the credentials") as failed:
        play(f"echo '{said}' >&2; sleep 60").repository_id()
    assert time.monotonic() - started < 55
    assert "retrying" not in failed.value.message


def test_a_store_that_cannot_be_reached_is_retried_until_our_limit_and_the_last_words_are_told(play):
    said = 'Stat(<config/>) returned error, retrying after 1.2s: Get "http://x/": dial tcp: lookup x: no such host'
    with pytest.raises(
        RepositoryUnreachableError, match=r"within 5 s while opening .*cannot be resolved.*no such host"
    ):
        play(f"echo '{said}' >&2; sleep 60", answer_seconds=5).repository_id()


@pytest.mark.parametrize(
    "script",
    [
        "echo 'Fatal: create repository failed: mkdir /srv/b/snapshots: permission denied' >&2; exit 1",
        "echo 'Load() returned error, retrying after 1s: open /srv/b/config: permission denied' >&2; sleep 60",
    ],
)
def test_a_directory_of_somebody_else_is_said_to_need_another_owner(play, script):
    with pytest.raises(RepositoryRefusedError, match="on the host, run chown -R 64738:64738 /srv/b "):
        play(script, repository="/srv/b").init()


def test_what_ssh_says_of_a_backups_connection_is_no_word_of_its_producer(play):
    said = "subprocess ssh: Host key verification failed.\nFatal: unable to start the sftp session, error: EOF"
    with pytest.raises(RepositoryRefusedError, match="backup_ssh_known_hosts"):
        play(f"printf '{said}' >&2; exit 1").backup("/c/d.dump", [], ["producer"])


def test_ssh_is_asked_again_when_restic_ended_before_it_had_passed_on_what_ssh_says(play, tmp_path):
    (tmp_path / "ssh").write_text(f"#!/bin/sh\nprintf '{SSH_SAYS}' >&2; exit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    said = "subprocess ssh: @@@@@@@@@@\nFatal: unable to start the sftp session, error: EOF"
    with pytest.raises(RepositoryRefusedError, match="host key is not the one"):
        play(f"printf '{said}' >&2; exit 1", repository="sftp:u@h:/x").snapshots()


def test_what_nobody_can_explain_is_told_in_restics_words_and_in_one_line(play, tmp_path):
    (tmp_path / "ssh").write_text("#!/bin/sh\nprintf 'this is\nodd' >&2; exit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    said = "subprocess ssh: this is\nFatal: unable to start the sftp session, error: EOF"
    with pytest.raises(ResticError, match=r"unable to start the sftp session, error: EOF$") as failed:
        play(f"printf '{said}' >&2; exit 1", repository="sftp:u@h:/x").snapshots()
    assert "\n" not in failed.value.message


def test_a_run_that_is_told_to_stop_ends_its_call(play):
    cancelled = threading.Event()
    restic = play("sleep 60")
    restic._cancelled = cancelled
    threading.Timer(0.5, cancelled.set).start()
    with pytest.raises(InterruptedRunError):
        restic.snapshots()


def test_a_good_backup_needs_exit_0_and_bytes(play, tmp_path):
    saved = play(f"echo '{SUMMARY % 42}'").backup("/c/d.dump", ["c", "run=r"], ["producer"])
    assert (saved.snapshot_id, saved.bytes_read, saved.bytes_added, saved.bytes_stored) == ("abc123", 42, 9, 5)
    assert calls(tmp_path) == [
        "backup --json --force --host h --stdin-filename /c/d.dump --stdin-from-command --retry-lock 900s --tag c --tag run=r -- producer"
    ]


@pytest.mark.parametrize("exit_code", [0, 3])
def test_an_empty_snapshot_is_forgotten_and_a_failure(play, tmp_path, exit_code):
    script = f"""case "$1" in
      backup) echo '{SUMMARY % 0}'; exit {exit_code} ;;
      snapshots) echo '[]' ;;
    esac"""
    with pytest.raises(DumpError, match="empty"):
        play(script).backup("/c/d.dump", [], ["producer"])
    assert any(call.startswith("forget") and "abc123" in call for call in calls(tmp_path))


def test_an_empty_snapshot_stays_where_nothing_is_removed_and_is_a_failure_all_the_same(play, tmp_path):
    with pytest.raises(DumpError, match=r"empty \(its snapshot abc123 stays, because this host is append-only\)"):
        play(f"echo '{SUMMARY % 0}'; exit 3", append_only=True).backup("/c/d.dump", [], ["producer"])
    assert not any(call.startswith("forget") for call in calls(tmp_path))


def test_a_snapshot_with_bytes_and_another_exit_code_is_forgotten_too(play, tmp_path):
    script = f"""case "$1" in
      backup) echo '{SUMMARY % 9}'; echo 'Fatal: odd' >&2; exit 3 ;;
      snapshots) echo '[]' ;;
    esac"""
    with pytest.raises(ResticError):
        play(script).backup("/c/d.dump", [], ["producer"])
    assert any(call.startswith("forget") for call in calls(tmp_path))


def test_a_forget_that_leaves_what_it_should_remove_is_a_failure(play):
    document = '[{"id": "abc123", "time": "2026-11-22T03:00:00Z", "paths": ["/c/d.dump"]}]'
    restic = play(f"""case "$1" in snapshots) echo '{document}' ;; esac""")
    with pytest.raises(ResticError, match="forget left 1 snapshots"):
        restic.forget_snapshots(["abc123"])


@pytest.mark.parametrize(("version", "looks"), [("0.18.1", True), ("0.19.0", False)])
def test_only_a_restic_that_does_not_tell_of_failed_removals_is_looked_after(play, tmp_path, version, looks):
    restic = play(f"""case "$1" in version) echo restic {version} ;; snapshots) echo '[]' ;; esac""")
    restic.require_version()
    restic.forget_snapshots(["abc123"])
    assert any(call.startswith("snapshots") for call in calls(tmp_path)) == looks


def test_a_backup_that_stalls_is_ended_with_its_producer(play, tmp_path):
    marker = tmp_path / "producer-lives"
    script = f'echo \'{{"message_type":"status","bytes_done":1}}\'; (sleep 15; touch {marker}) & sleep 60'
    with pytest.raises(ResticError, match="No data moved for 5 s"):
        play(script, stall_seconds=5).backup("/c/d.dump", [], ["producer"])
    assert not marker.exists()


def test_restic_sees_nothing_of_the_callers_environment(play, monkeypatch, tmp_path):
    monkeypatch.setenv("CANARY", "1")
    play(f"env > {tmp_path}/env; echo '[]'").snapshots()
    seen = (tmp_path / "env").read_text()
    assert "CANARY" not in seen
    assert f"RESTIC_PASSWORD_FILE={tmp_path}/password" in seen


def test_restic_finds_no_settings_but_those_that_the_operator_names(play, tmp_path):
    """What lies in the agent's volumes may have been planted there, and settings may name programs to run."""
    play(f"env > {tmp_path}/env; echo '[]'").snapshots()
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {seen["HOME"], seen["XDG_CONFIG_HOME"]} == {"/nonexistent"}
    assert {seen[name] for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "RCLONE_CONFIG")} == {"/dev/null"}

    secrets = Secrets(tmp_path / "password", {"RCLONE_CONFIG": "/run/mine"})
    Restic(Config(host="h", repository="rclone:a:b"), secrets, cache=tmp_path / "cache").snapshots()
    assert "RCLONE_CONFIG=/run/mine\n" in (tmp_path / "env").read_text()


def test_secrets_are_not_on_argv(play, tmp_path):
    play("echo '[]'").snapshots()
    assert "canary" not in "".join(calls(tmp_path))


LOCK = "ab" * 32


class TestLocks:
    """They are listed past restic, which derives the repository's key each time that it starts."""

    def directory(self, tmp_path, *locks):
        place = tmp_path / "repository" / "locks"
        place.mkdir(parents=True)
        for lock in locks:
            (place / lock).write_bytes(b"x")
        return str(place.parent)

    def test_restic_is_not_started_for_them(self, play, tmp_path):
        restic = play("exit 1", self.directory(tmp_path, LOCK, "rubbish"))
        assert restic.locks() == [LOCK]

    def test_nor_where_there_are_none_to_remove(self, play, tmp_path):
        assert play("exit 1", self.directory(tmp_path)).clear_locks() == (0, [])

    def test_restic_removes_the_stale_ones(self, play, tmp_path):
        repository = self.directory(tmp_path, LOCK, "cd" * 32)
        assert play(f"rm {repository}/locks/{LOCK}", repository).clear_locks() == (1, ["cd" * 32])
        assert calls(tmp_path) == ["unlock"]

    def test_those_that_others_take_meanwhile_are_none_that_went(self, play, tmp_path):
        repository = self.directory(tmp_path, LOCK)
        assert play(f"touch {repository}/locks/{'cd' * 32}", repository).clear_locks() == (0, [LOCK, "cd" * 32])

    def test_of_a_store_that_only_restic_can_ask_restic_is_asked(self, play, tmp_path):
        assert play(f"echo {LOCK}", "sftp:u@h:/r").locks() == [LOCK]
        assert play(f"echo {LOCK}", "s3:https://s3.test/b").locks() == [LOCK], (
            "it may have credentials that we do not see"
        )
        assert all("list locks --no-lock" in call for call in calls(tmp_path))

    def test_restic_lists_them_where_the_store_does_not_answer_in_time(self, play, monkeypatch):
        given = []

        class Slow:
            def listing(self, _kind):
                raise RepositoryUnreachableError("slow")

        monkeypatch.setattr(repository, "open_files", lambda *some: given.append(some) or Slow())
        assert play("echo abc", "rest:http://x/").locks() == ["abc"]
        assert given[0][-1].seconds == 30

    @pytest.mark.parametrize("ask", [Restic.locks, Restic.note_key])
    def test_whoever_is_told_to_stop_asks_nobody_else(self, play, monkeypatch, tmp_path, ask):
        class Told:
            def listing(self, _kind):
                raise InterruptedRunError("Told to stop.")

        monkeypatch.setattr(repository, "open_files", lambda *_given: Told())
        with pytest.raises(InterruptedRunError):
            ask(play("echo abc", "rest:http://x/"))
        assert not (tmp_path / "calls").exists()


class TestTheKey:
    """Of several, restic would try one after the other, each as dear as the right one."""

    LISTED = '[{"current":false,"id":"aaaaaaaa"},{"current":true,"id":"bbbbbbbb"}]'

    def directory(self, tmp_path, count):
        place = tmp_path / "repository" / "keys"
        place.mkdir(parents=True)
        for number in range(count):
            (place / f"{number:064x}").write_bytes(b"x")
        return str(place.parent)

    def hint(self, play, tmp_path, repository):
        play(f"env > {tmp_path}/env", repository).prune()
        return dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines()).get("RESTIC_KEY_HINT")

    def test_that_fits_is_remembered_for_this_repository(self, play, tmp_path):
        repository = self.directory(tmp_path, 2)
        assert self.hint(play, tmp_path, repository) is None
        play(f"echo '{self.LISTED}'", repository).note_key()
        assert self.hint(play, tmp_path, repository) == "bbbbbbbb"
        assert self.hint(play, tmp_path, "/other") is None

    def test_that_is_the_only_one_needs_no_hint_and_no_restic(self, play, tmp_path):
        repository = self.directory(tmp_path, 1)
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "restic-key.json").write_text(f'{{"repository": "{repository}", "key": "aaaaaaaa"}}')
        play("exit 1", repository).note_key()
        assert self.hint(play, tmp_path, repository) is None

    @pytest.mark.parametrize(
        "memory", ["", "[]", '{"repository": "/r", "key": 7}', '{"repository": "/r", "key": "--x"}']
    )
    def test_a_memory_that_is_none_is_no_hint(self, play, tmp_path, memory):
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "restic-key.json").write_text(memory)
        assert self.hint(play, tmp_path, "/r") is None


class TestTheRegion:
    """A store is asked for it once in a pass, not by each restic."""

    @pytest.fixture
    def restic(self, play, monkeypatch, tmp_path):
        class Told(S3Files):
            told_region = "eu-west-7"

            def __init__(self):
                pass

            def listing(self, _kind):
                return {}

        monkeypatch.setattr(repository, "open_files", lambda *_given: Told())
        return play(f"env > {tmp_path}/env", "s3:https://s3.test/b")

    def seen(self, tmp_path):
        return dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines()).get(
            "AWS_DEFAULT_REGION"
        )

    def test_is_told_to_each_restic_once_it_is_known(self, restic, tmp_path):
        restic.prune()
        assert self.seen(tmp_path) is None
        assert restic.locks() == []
        restic.prune()
        assert self.seen(tmp_path) == "eu-west-7"

    def test_is_not_told_to_one_that_reads_another_store_too(self, restic, tmp_path):
        restic.locks()
        other = Restic(
            Config(host="h", repository="s3:https://other.test/b"), Secrets(tmp_path / "p"), cache=tmp_path / "c"
        )
        restic.copy_from(other, ["a"])
        assert self.seen(tmp_path) is None


STATS = '{"total_size":250,"total_uncompressed_size":1000,"snapshots_count":3}'


def test_a_repository_is_measured_without_a_lock(play, tmp_path):
    size = play(f"echo '{STATS}'").size()
    assert (size.stored_bytes, size.uncompressed_bytes, size.snapshots) == (250, 1000, 3)
    assert calls(tmp_path) == ["stats --mode raw-data --json --no-lock"]


def test_the_oldest_lock_is_found_and_one_that_is_gone_by_then_is_none(play):
    restic = play(
        """case $3 in
             a) echo '{"time":"2026-11-22T01:00:00.123456789Z"}';;
             b) echo '{"time":"2026-11-22T02:00:00Z"}';;
             *) echo "no such lock" >&2; exit 1;;
           esac"""
    )
    assert restic.oldest_lock(["b", "gone", "a"]).isoformat() == "2026-11-22T01:00:00.123456+00:00"
    assert restic.oldest_lock(["gone"]) is None
    assert restic.oldest_lock([]) is None


def test_only_a_directory_has_room_that_can_be_measured(play, tmp_path):
    assert play("true").room() is None
    local = Config(host="h", repository=f"local:{tmp_path}")
    free, total = Restic(local, Secrets(tmp_path / "password"), cache=tmp_path / "cache").room()
    assert 0 < free < total
    # What is kept for root is no room that is used: df's percentage leaves it out.
    assert total == pytest.approx(free + shutil.disk_usage(tmp_path).used, rel=0.01)


def test_a_changed_tag_tells_the_new_id(play, tmp_path):
    changed = '{"message_type":"changed","old_snapshot_id":"abc","new_snapshot_id":"def"}'
    assert play(f"echo '{changed}'; echo '{{}}'").tag("abc", add="pinned") == "def"
    assert calls(tmp_path) == ["tag --json --add pinned --retry-lock 300s abc"]


def test_a_tag_that_restic_did_not_change_is_a_failure(play):
    with pytest.raises(ResticError, match="did not change the tags"):
        play("""echo '{"message_type":"summary","changed_snapshots":0}'""").tag("abc", remove="pinned")


def test_restics_own_reasons_are_kept_by_snapshot(play):
    one = '{"id": "abc123", "time": "2026-11-22T03:00:00Z", "paths": ["/c/d.dump"]}'
    reasons = f'[{{"snapshot": {one}, "matches": ["daily snapshot", "weekly snapshot"]}}]'
    (group,) = play(
        f"""echo '[{{"paths": ["/c/d.dump"], "keep": [{one}], "remove": null, "reasons": {reasons}}}]'"""
    ).forget_plan("nightly", {"daily": 1}, "pinned")
    assert group.reasons == {"abc123": ("daily snapshot", "weekly snapshot")}


def test_a_snapshot_without_a_path_is_no_failure_of_retention(play):
    (group,) = play("""echo '[{"paths": null, "keep": null, "remove": null, "reasons": []}]'""").forget_plan(
        "nightly", {"daily": 1}, "pinned"
    )
    assert group.path == ""


def test_a_check_tells_how_far_it_is(play):
    told = []
    play("echo 'load indexes'; echo '[0:01] 49.09%  27 / 55 packs'; sleep 1.2").check("1/8", told.append)
    assert told[-1] == Done(27, 55, "packs")


def test_how_far_restic_is_is_its_last_word():
    said = "[0:00] 100.00%  3 / 3 snapshots\nread all data\n[0:01] 49.09%  27 / 55 packs\n[1:02:03] 100.00%  55 / 55 packs\n"
    assert parse_progress(said) == Done(55, 55, "packs")
    assert parse_progress("load indexes\n") is None


@pytest.mark.parametrize("password", ["p@canary/1", "canary with blanks", 'canary"@#?', "1/canary@x"])
def test_nothing_of_a_password_in_an_address_is_in_a_failure(play, password):
    address = f"rest:http://user:{password}@localhost/x"
    said = f"Fatal: unable to open repository at {address}: it said canary of the key"
    quoted = said.replace("'", "'\"'\"'")
    restic = play(f"echo '{quoted}' >&2; exit 1", repository=address)
    restic._secrets.environment["AWS_SECRET_ACCESS_KEY"] = "canary of the key"

    with pytest.raises(ResticError) as failed:
        restic.snapshots()

    assert "canary" not in failed.value.message
    assert "rest:http://user:***@localhost/x" in failed.value.message
    assert "canary" not in restic.repository


def test_more_snapshots_than_one_command_takes_are_forgotten_and_copied_in_several(play, tmp_path):
    ids = [f"{number:064x}" for number in range(30_001)]
    restic = play("exit 0")
    restic._version = repository._TELLS_FAILED_REMOVALS
    restic.forget_snapshots(ids)
    restic.copy_from(play("exit 0"), ids)
    for verb in ("forget", "copy"):
        named = [
            [word for word in call.split() if len(word) == 64] for call in calls(tmp_path) if call.startswith(verb)
        ]
        assert [one for some in named for one in some] == ids
        assert max(map(len, named)) == 5000


def test_a_command_that_the_kernel_refuses_is_a_failure_of_restic(play):
    with pytest.raises(ResticError, match=r"restic could not be started: Argument list too long\."):
        play("exit 0").check("x" * 200_000)
