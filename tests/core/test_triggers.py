import pytest
from hypothesis import given
from hypothesis import strategies as st

from landingd.core import triggers
from landingd.model import FileArrival, Ingest, Job, Place, Task, Trigger


def job(*arrivals, name="shop", takes="*"):
    place = Place("job.yml", 1)
    return Job(
        name, place, (Task("bronze", place, ingest=Ingest(pattern=takes)),), triggers=tuple(map(Trigger, arrivals))
    )


def wanted_by(path, *jobs):
    return [match.job for match in triggers.matching(path, jobs)[0]]


def test_a_file_that_no_ingest_task_takes_is_not_wanted():
    matches, reason = triggers.matching(b"in/a.txt", [job(FileArrival("in"), takes="*.csv")])
    assert matches == []
    assert reason == "no ingest task of job 'shop' takes this name"


# --- what a file is ---------------------------------------------------------------------------------------


# --- who wants it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "path", "wanted"),
    [
        ("shop", b"shop/a.csv", True),
        ("shop/", b"shop/a.csv", True),
        ("/shop", b"shop/a.csv", True),
        ("shop", b"shop/2019/a.csv", True),
        ("shop", b"shopping/a.csv", False),
        ("shop", b"shop", False),
        ("shop", b"other/shop/a.csv", False),
        ("shop/in", b"shop/in/a.csv", True),
        ("shop/in", b"shop/a.csv", False),
        ("", b"a.csv", True),
        (".", b"deep/er/a.csv", True),
        ("/", b"a.csv", True),
        ("caf\udce9", b"caf\xe9/a.csv", True),
    ],
)
def test_a_job_wants_what_lies_below_its_directory(directory, path, wanted):
    assert wanted_by(path, job(FileArrival(directory))) == (["shop"] if wanted else [])


def test_every_job_that_wants_a_path_gets_it():
    jobs = [job(FileArrival("in"), name="a"), job(FileArrival("in"), name="b"), job(FileArrival("out"), name="c")]
    assert wanted_by(b"in/a.csv", *jobs) == ["a", "b"]


def test_a_job_gets_a_path_once_though_several_of_its_triggers_want_it():
    arrivals = [FileArrival("in", pattern="*.txt"), FileArrival("in", pattern="*.csv"), FileArrival("in")]
    matches, _ = triggers.matching(b"in/a.csv", [job(*arrivals)])
    assert matches == [triggers.Matched("shop", arrivals[1], taken_by=("bronze",))]


@pytest.mark.parametrize(
    ("arrival", "path", "reason"),
    [
        (FileArrival("in"), b"elsewhere/a.csv", "no job watches this directory"),
        (FileArrival("in", pattern="*.csv"), b"in/a.txt", "matches no pattern"),
        (FileArrival("in", exclude=("a*",)), b"in/a.csv", "excluded by 'a*'"),
        (FileArrival("in", recursive=False), b"in/deep/a.csv", "in a subdirectory and recursive is off"),
        (FileArrival("in"), b"in/a.csv.part", "temporary name"),
        (FileArrival("in"), b"in/.hidden/a.csv", "in a hidden directory"),
    ],
)
def test_a_path_that_nobody_wants_has_a_reason(arrival, path, reason):
    assert triggers.matching(path, [job(arrival)]) == ([], reason)


# --- keys -------------------------------------------------------------------------------------------------

ids = st.lists(st.integers(1, 10_000), unique=True, min_size=1, max_size=20)


def key(file_ids):
    return triggers.files_key([(file_id, 0) for file_id in file_ids])


@given(ids, st.randoms(use_true_random=False))
def test_the_same_files_in_any_order_have_the_same_key(file_ids, random):
    shuffled = random.sample(file_ids, len(file_ids))
    assert key(shuffled) == key(file_ids)


def test_the_same_files_given_to_a_run_once_more_have_another_key():
    assert triggers.files_key([(1, 0), (2, 0)]) != triggers.files_key([(1, 1), (2, 1)])


@given(ids, ids)
def test_other_files_have_another_key(some, others):
    assert (key(some) == key(others)) == (set(some) == set(others))


def test_a_request_never_has_the_key_of_files():
    assert triggers.request_key(triggers.files_key([(1, 0)])) != triggers.files_key([(1, 0)])
    assert triggers.request_key("x") == triggers.request_key("x") != triggers.request_key("y")


# --- how many ---------------------------------------------------------------------------------------------


def test_the_smallest_limit_of_a_jobs_triggers_holds():
    assert triggers.batch_limit(job(FileArrival("a", max_files_per_trigger=5), FileArrival("b"))) == 5
    assert triggers.batch_limit(job()) > 0


# --- markers and manifests ----------------------------------------------------------------------------------

MARKED = FileArrival("in", marker="{name}.done")
SUCCESS = FileArrival("in", marker="_SUCCESS")
LISTED = FileArrival("in", manifest="*.manifest")


@pytest.mark.parametrize(
    ("arrival", "path", "reason"),
    [
        (MARKED, b"in/a.csv.done", "marker file"),
        (MARKED, b"in/deep/er/a.csv.done", "marker file"),
        (SUCCESS, b"in/_SUCCESS", "marker file"),
        (LISTED, b"in/1.manifest", "manifest"),
        (FileArrival("in", pattern="*.csv", marker="{name}.done"), b"in/a.csv.done", "marker file"),
    ],
)
def test_markers_and_manifests_are_no_data_of_their_job_under_any_pattern(arrival, path, reason):
    assert triggers.matching(path, [job(arrival)]) == ([], reason)
    assert triggers.matching(path, [job(arrival, FileArrival("in"))]) == ([], reason)
    assert wanted_by(path, job(arrival), job(FileArrival("in"), name="other")) == ["other"]


@pytest.mark.parametrize(
    ("path", "spoken_of"),
    [
        (b"in/a.csv.done", b"in/a.csv"),
        (b"in/day1/a.csv.done", b"in/day1/a.csv"),
        (b"in/day1/_SUCCESS", b"in/day1/"),
        (b"in/1.manifest", b"in/"),
        (b"in/a.csv", None),
        (b"elsewhere/a.csv.done", None),
    ],
)
def test_a_marker_or_manifest_says_of_which_files_it_speaks(path, spoken_of):
    assert triggers.spoken_of(path, [job(MARKED, SUCCESS), job(LISTED)]) == spoken_of


def test_what_speaks_of_one_file_to_one_job_and_of_all_to_another_speaks_of_all():
    assert triggers.spoken_of(b"in/a.done", [job(MARKED), job(FileArrival("in", manifest="*.done"))]) == b"in/"


def test_a_marker_in_the_landing_root_speaks_of_the_landing_root():
    assert triggers.spoken_of(b"_SUCCESS", [job(FileArrival(".", marker="_SUCCESS"))]) == b""


def test_a_file_is_checked_for_the_formats_of_those_who_take_it():
    place = Place("job.yml", 1)
    ingests = [Ingest(), Ingest(format="json", pattern="*.json"), Ingest(format="parquet", pattern="*.parquet")]
    tasks = tuple(Task(f"t{n}", place, ingest=ingest) for n, ingest in enumerate(ingests))
    reads = Job("shop", place, tasks, triggers=(Trigger(FileArrival("in")),))
    assert triggers.formats_wanted(b"in/a.json", reads) == {"csv", "json"}
    assert triggers.formats_wanted(b"in/a.csv", reads) == {"csv"}
