"""Which tables of other jobs a job reads."""

from landingd.core import tablereads
from landingd.model import ForEach, Job, Place, Task

PLACE = Place("job.yml", 1)


def made(table, sql="SELECT 1"):
    return Task(table.rpartition(".")[2], PLACE, sql=sql, table=table)


def script(sql, key="script"):
    return Task(key, PLACE, sql=sql)


def job(name, *tasks):
    return Job(name, PLACE, tasks)


def test_a_table_reads_what_its_select_reads_and_other_jobs_make():
    jobs = [job("first", made("silver.Events")), job("second", made("gold.daily"), made("gold.top"))]
    reads = {"gold.daily": frozenset({"silver.events", "main.unknown"}), "gold.top": frozenset({"gold.daily"})}
    assert tablereads.by_job(jobs, reads) == {"first": frozenset(), "second": frozenset({"silver.events"})}


def test_a_script_reads_what_it_names():
    loop = Task("loop", PLACE, action=ForEach("[1]", script("SELECT * FROM silver.users", "inner")))
    jobs = [
        job("first", made("silver.events"), made("silver.users"), made("silver.other")),
        job(
            "second", made("gold.mine"), script('INSERT INTO gold.mine FROM "silver"."Events"; -- mysilver.other'), loop
        ),
    ]
    assert tablereads.by_job(jobs, {})["second"] == {"silver.events", "silver.users"}


def test_what_a_script_creates_is_named_in_its_text():
    text = (
        'CREATE TABLE IF NOT EXISTS silver.a AS FROM x.y; create or replace\n  table "Gold"."B" (n INT); DROP TABLE q.r'
    )
    assert tablereads.created(text) == {"silver.a", "gold.b"}
