"""What is concluded from a probe, a mount and an empty directory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core.roots import (
    POLL_REST,
    Listening,
    Mode,
    Sight,
    Standing,
    availability,
    decide_mode,
    latency_s,
    rest_s,
)

NFS = "nfs4 srv:/x /landing/in"
DISK = "ext4 /dev/vda /"
INOTIFY, POLL = Mode(Listening.INOTIFY, ""), Mode(Listening.POLL, "")
seconds = st.floats(0, 1e5)


def mode(kind="ext4", *, elsewhere=False, heard=None, trouble=None) -> Mode:
    return decide_mode(kind, written_elsewhere=elsewhere, probe_heard=heard, watch_trouble=trouble)


def test_a_local_file_system_is_believed_until_a_probe_says_otherwise():
    assert mode().listening is Listening.INOTIFY
    assert mode(heard=True).listening is Listening.INOTIFY
    assert mode(heard=False) == Mode(Listening.POLL, "ext4: the event of a test file did not come")


def test_a_file_system_nobody_has_heard_of_is_believed_only_after_a_probe():
    assert mode("newfs") == Mode(Listening.POLL, "newfs: no test file was written")
    assert mode("newfs", heard=True).listening is Listening.INOTIFY
    assert mode("") == Mode(Listening.POLL, "an unknown file system: no test file was written")


@pytest.mark.parametrize("heard", [None, True, False])
def test_where_others_write_a_probe_that_is_heard_proves_nothing(heard):
    # What this machine does on a share raises events on this machine; what another one does raises none.
    assert mode("nfs4", elsewhere=True, heard=heard).listening is Listening.POLL
    assert mode("overlay", heard=heard).listening is Listening.POLL


@given(st.sampled_from(["ext4", "nfs4", "overlay", ""]), st.booleans(), st.sampled_from([None, True, False]))
def test_what_is_not_watched_is_polled_and_the_reason_is_the_watchs(kind, elsewhere, heard):
    assert mode(kind, elsewhere=elsewhere, heard=heard, trouble="not readable") == Mode(Listening.POLL, "not readable")


# --- how often --------------------------------------------------------------------------------------------


@given(took=seconds, poll=seconds, scan=seconds)
def test_polling_takes_at_most_a_sixth_of_the_time_unless_scans_would_come_sooner(took, poll, scan):
    rest = rest_s(POLL, took_s=took, poll_interval_s=poll, scan_interval_s=scan)
    assert rest >= poll
    assert rest >= took
    assert rest >= POLL_REST * took or rest >= scan
    assert rest <= max(poll, scan, took)


@given(took=seconds, poll=seconds, scan=seconds, quiet=seconds)
def test_the_latency_of_polling_is_a_rest_a_poll_and_the_silence(took, poll, scan, quiet):
    intervals = {"took_s": took, "poll_interval_s": poll, "scan_interval_s": scan}
    assert latency_s(POLL, **intervals, quiet_s=quiet) == rest_s(POLL, **intervals) + took + quiet
    assert latency_s(INOTIFY, **intervals, quiet_s=0.0) == 0.0


def test_an_inotify_root_is_scanned_at_the_general_interval():
    assert rest_s(INOTIFY, took_s=2.0, poll_interval_s=1.0, scan_interval_s=30.0) == 30.0


# --- whether it is there ----------------------------------------------------------------------------------

FINE = Standing(available=True, certain=True)


@given(
    recorded=st.sampled_from([None, NFS, DISK]),
    current=st.sampled_from([None, NFS, DISK]),
    has=st.booleans(),
    knows=st.booleans(),
    recognised=st.booleans(),
)
def test_what_cannot_be_listed_is_unavailable_whatever_else_is_seen(recorded, current, has, knows, recognised):
    assert availability(Sight("missing", recorded, current, has, knows, recognised)) == Standing(
        available=False, certain=False, because="missing"
    )


@given(st.booleans(), st.booleans())
def test_on_the_mount_on_which_it_was_an_empty_directory_is_empty(has, knows):
    assert availability(Sight(None, NFS, NFS, has, knows)) == FINE
    assert availability(Sight(None, None, NFS, has, knows)) == FINE


def test_an_empty_directory_on_another_mount_is_not_the_one_that_was_full():
    assert availability(Sight(None, NFS, DISK, has_files=False, knows_files=True)) == Standing(
        available=False, certain=False, because=f"was on {NFS}, is now on {DISK}"
    )


def test_another_mount_is_accepted_where_nothing_can_be_lost():
    assert availability(Sight(None, NFS, DISK, has_files=False, knows_files=False)) == FINE
    assert availability(Sight(None, NFS, DISK, has_files=True, knows_files=False)) == FINE


def test_another_mount_with_a_file_that_is_recognised_is_the_same_directory():
    assert availability(Sight(None, NFS, DISK, has_files=True, knows_files=True, recognised=True)) == FINE


def test_a_stray_file_on_another_mount_is_taken_and_says_nothing_of_the_others():
    standing = availability(Sight(None, NFS, DISK, has_files=True, knows_files=True))
    assert standing.available
    assert not standing.certain
    assert f"was on {NFS}, is now on {DISK}" in standing.because
