"""Whatever happens to files, tables and processes: an appended table is its SELECT over the files that are loaded.

Random lists of steps, on a lane that remembers what its tables have to catch up with. What it remembers is held against
the full comparison after each step, and the tables against a model of what is loaded whenever they were refreshed.
"""

import os
import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from landingd.edge.engine import EngineOptions, tables
from landingd.edge.engine.computing import Usual
from landingd.edge.engine.lane import WriteLane
from landingd.edge.engine.remembered import Remembered
from landingd.model import Failed, RefreshMode
from warehouses import CHECKS, Warehouse

UNUSABLE = 99
"""So many rows are said of a file that is not what it was when it is loaded."""
NEVER_SEEN = 9999
CHECKED = replace(CHECKS, changed=lambda file: file.rows_in == UNUSABLE)
STEPS = st.sampled_from([
    "load", "load two", "replace", "reload", "return", "return", "retract", "retract", "again", "unusable",
    "new column", "new column",
    "together", "together", "rolled back", "rolled back after", "silver", "silver", "next", "next", "other",
    "definition", "new process", "script", "drop silver",
])  # fmt: skip


class Shop:
    """A lane, and a model of what its tables hold: a bronze table, two made from it, and one made from one of these."""

    def __init__(self, root, folder):
        self.folder = folder
        (folder / "landing").mkdir()
        self.options = EngineOptions(folder / "no.duckdb", folder / "scratch", folder / "landing")
        self.plans = Warehouse(None, self.options)
        self.root = root
        self.held = {}
        """Of each file version in the bronze table its rows."""
        self.seen = {}
        """The same of every version that was ever loaded."""
        self.definition = 1
        self.file_id = 0
        self.begin()

    def begin(self):
        """A process begins: it remembers nothing."""
        self.lane = WriteLane(self.root.cursor(), self.folder / "scratch", Usual(2, ""))

    def attempt(self, *plans, fails=False):
        done = self.lane.attempt(plans, CHECKED)
        assert isinstance(done, Failed if fails else list), done
        return done

    # -- files --

    def new_file(self, *, price=False, **more):
        self.file_id += 1
        n = self.file_id
        header, cell = (b"id,n,price\n", b",1.5") if price else (b"id,n\n", b"")
        rows = [(n * 10 + k, n % 3 + k) for k in range(3)]
        content = header + b"".join(b"%d,%d%s\n" % (*row, cell) for row in rows)
        return self.plans.file(n, content, b"%d.csv" % n, **more), rows

    def old_file(self, n, **more):
        path = os.fsencode(self.options.landing / f"{n}.csv")
        return self.plans.file(n, Path(os.fsdecode(path)).read_bytes(), b"%d.csv" % n, **more)

    def pick(self, number, among):
        return sorted(among)[number % len(among)] if among else 0

    def ingest(self, *files, retract=()):
        return self.plans.ingest(*files, retract=retract)

    # -- steps --

    def step(self, name, number):
        one = self.pick(number, self.held)
        match name:
            case "load" | "load two" | "new column" | "unusable" | "replace":
                self.load(name, number, one)
            case "definition":
                self.definition += 1
            case "new process":
                self.begin()
            case "script":
                script = ("CREATE OR REPLACE TABLE gold.x AS SELECT 1 AS a", "SELECT count(*) FROM meta.loads")
                self.attempt(self.plans.script(script[number % 2]))
            case "drop silver":
                self.attempt(self.plans.script("DROP TABLE IF EXISTS silver.t"))
            case _ if self.held:
                self.step_with_files(name, number, one)

    def step_with_files(self, name, number, one):
        match name:
            case "reload":
                self.attempt(self.ingest(self.old_file(one, reload=True)))
            case "again":
                self.attempt(self.ingest(self.old_file(one)))
            case "retract":
                gone = one if number % 3 else self.pick(number, self.seen.keys() - self.held) or NEVER_SEEN
                self.attempt(self.ingest(retract=(gone,)))
                self.held.pop(gone, None)
            case "return":
                self.return_of(self.pick(number, self.seen))
            case "together":
                self.together(number)
            case "rolled back" | "rolled back after":
                self.rolled_back(name, one)
            case _:
                self.refresh(name)

    def return_of(self, one):
        """A version that was retracted, or is there: a replay loads it."""
        self.attempt(self.ingest(self.old_file(one, reload=True)))
        self.held[one] = self.seen[one]

    def load(self, name, number, one):
        file, rows = self.new_file(price=name == "new column")
        old = {one} if name == "replace" and one else set()
        entering = {file.file_id: rows}
        files = [replace(file, replaces=tuple(old))]
        if name == "load two":
            second, more = self.new_file()
            entering[second.file_id] = more
            files.append(second)
        if name == "unusable":
            files.append(replace(self.new_file(price=number % 2 == 0)[0], rows_in=UNUSABLE))
        self.attempt(self.ingest(*files))
        for gone in old:
            self.held.pop(gone)
        self.held |= entering
        self.seen |= entering

    def table(self, name):
        above = f"SELECT * REPLACE (id * {self.definition} AS id) FROM bronze.t WHERE n > 0"
        plan = {
            "silver": lambda: self.plans.table(above, RefreshMode.APPEND, definition=str(self.definition)),
            "next": lambda: self.plans.table(
                "SELECT id FROM silver.t", RefreshMode.APPEND, definition=f"{self.definition} next", table="silver.u",
                upstream="silver.t",
            ),
            "other": lambda: self.plans.table("SELECT * FROM bronze.t", RefreshMode.APPEND, table="silver.v"),
        }  # fmt: skip
        return plan[name]()

    def refresh(self, name):
        # In the order of the graph: what is above has run, as in every run of a job.
        plans = [self.table("silver"), self.table("next")] if name == "next" else [self.table(name)]
        self.attempt(*plans)
        self.check_tables(name)

    def together(self, number):
        file, rows = self.new_file()
        gone = self.pick(number, self.held)
        self.attempt(self.ingest(file, retract=(gone,)), self.table("silver"), self.table("next"), self.table("other"))
        del self.held[gone]
        self.held[file.file_id] = self.seen[file.file_id] = rows
        self.check_tables("silver", "next", "other")

    def rolled_back(self, name, one):
        broken = self.plans.table("SELECT error('x') AS a FROM bronze.t", RefreshMode.FULL, table="gold.t")
        work = [self.ingest(self.new_file(price=True)[0], self.old_file(one, reload=True))]
        if name == "rolled back after":
            work += [self.table("silver"), self.table("next")]
        self.attempt(*work, broken, fails=True)

    # -- claims --

    def check_tables(self, *names):
        model = {
            "silver": sorted((f, i * self.definition) for f, rows in self.held.items() for i, n in rows if n > 0),
            "other": sorted((f, i) for f, rows in self.held.items() for i, _ in rows),
        }
        model["next"] = model["silver"]
        tables = {"silver": "silver.t", "next": "silver.u", "other": "silver.v"}
        for name in names:
            assert self.rows(f"SELECT _file_id, id FROM {tables[name]} ORDER BY ALL") == model[name]
            loads = f"SELECT file_id, rows_loaded FROM meta.loads WHERE table_name = '{tables[name]}' ORDER BY 1"
            counted = {f: sum(1 for g, _ in model[name] if g == f) for f in self.held}
            assert dict(self.rows(loads)) == counted

    def check_what_is_remembered(self):
        known = self.lane.remembered
        assert known is not None
        for table, behind in known.behind.items():
            assert tables.compare(self.root, table, behind.upstream) == behind
        now = Remembered.read(self.root)
        assert known.columns.keys() >= {"meta.loads"}
        assert all(known.newest_file[table] >= newest for table, newest in now.newest_file.items())
        assert {t: c for t, c in known.columns.items() if t.startswith(("bronze", "silver"))} == {
            t: c for t, c in now.columns.items() if t.startswith(("bronze", "silver"))
        }

    def rows(self, sql):
        return self.root.execute(sql).fetchall()


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 11)), min_size=5, max_size=30))
def test_whatever_happens_a_table_is_its_select_over_the_loaded_files_and_what_is_remembered_is_so(steps):
    """The oracle is a model of what is loaded, and for what is remembered the full comparison, after each step."""
    schema = resources.files(tables.__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"threads": 2}) as root:
        root.execute(schema)
        shop = Shop(root, Path(folder))
        for name, number in steps:
            shop.step(name, number)
            shop.check_what_is_remembered()
        if shop.held:
            for name in ("silver", "next", "other"):
                shop.refresh(name)
        shop.check_what_is_remembered()
