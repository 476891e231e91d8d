"""The sample is the same everywhere and has every weak spot that the daemon is shown on."""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from ecommerce_oracle import expected
from landingd.cli import sample

SHA256 = "6f7578e12e082b6452bdcbb1060120b36c44c2acb4f88d838f14faf4adf090f4"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return sample.write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def tables(files):
    return expected(files)


def lines_of(files):
    return [line for path in files for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def fields_of(files):
    return [line.split(",") for line in lines_of(files) if line.count(",") == 8]


def test_a_seed_gives_the_same_bytes_on_every_machine(files):
    assert hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() == SHA256


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_hash_seed_of_the_process_has_no_say(hash_seed, files):
    program = (
        "import sys; from landingd.cli import sample;"
        "sys.stdout.buffer.write(b''.join(sample.generate('2019-12-01.csv', rows=300)))"
    )
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(sample.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout == b"".join(sample.generate("2019-12-01.csv", rows=300))


def test_another_seed_gives_other_rows():
    assert b"".join(sample.generate("2019-12-01.csv", seed=1, rows=50)) != b"".join(
        sample.generate("2019-12-01.csv", seed=2, rows=50)
    )


def test_the_files_are_those_of_the_plan_and_nothing_is_left_beside_them(files):
    plan = sample.plan()
    assert [(path.name, len(lines_of([path]))) for path in files] == plan
    assert sorted(path.name for path in files[0].parent.iterdir()) == sorted(name for name, _ in plan)


def test_a_small_scale_keeps_every_file_and_shrinks_it(tmp_path):
    assert [rows for _, rows in sample.plan(scale=0.01)][:2] == [200, 240]
    assert len(sample.write_sample(tmp_path, scale=0.0)) == 9


def test_about_one_row_in_a_hundred_is_repeated_within_its_file(files):
    for path in files[:2]:
        lines = lines_of([path])
        assert 0.005 < 1 - len(set(lines)) / len(lines) < 0.015


def test_neighbouring_deliveries_share_rows(files):
    for earlier, later in itertools.pairwise(files):
        assert len(set(lines_of([earlier])) & set(lines_of([later]))) == 3


def test_some_brands_and_some_users_are_missing(files):
    rows = fields_of(files)
    assert 0.1 < sum(row[5] == "" for row in rows) / len(rows) < 0.25
    assert 0.005 < sum(row[7] == "" for row in rows) / len(rows) < 0.05


def test_every_kind_of_malformed_row_is_in_each_month(files):
    for path in files[:2]:
        lines = lines_of([path])
        unquoted = [line for line in lines if '"' not in line]
        assert any(",n/a," in line for line in lines)
        assert any(line.startswith("yesterday,") for line in lines)
        assert any(line.endswith(",surprise") for line in lines)
        assert any(line.count(",") == 7 for line in unquoted)


def test_every_day_has_exactly_one_malformed_row(files):
    assert [expected([path]).rejected_rows for path in files[2:]] == [1] * 7


def test_the_months_have_one_malformed_row_in_2500(tables):
    assert tables.rejected_rows == 20_000 // 2_500 + 24_000 // 2_500 + 7


def test_a_product_keeps_its_category_and_brand_and_nearly_its_price(files):
    seen = {}
    for _, _, product, category, code, brand, price, *_ in fields_of(files):
        if price == "n/a" or '"' in brand:
            continue
        first = seen.setdefault(product, (category, code, brand, float(price)))
        assert first[:3] == (category, code, brand)
        assert abs(float(price) - first[3]) <= 0.03 * first[3] + 0.01


def test_every_layer_of_the_expected_tables_has_something_to_lose(tables):
    assert tables.bronze_rows > len(tables.silver) > 40_000
    assert len(tables.gold) > 20
    assert sum(brand.purchases for brand in tables.gold.values()) > 500


@pytest.mark.parametrize("n_bytes", [1_000, 100_000, 3_000_000])
def test_rows_of_a_size_are_clean_distinct_and_of_that_size(n_bytes, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(sample.rows_of_size(1, n_bytes))
    assert n_bytes - 200 < path.stat().st_size <= n_bytes
    lines = lines_of([path])
    assert len(set(lines)) == len(lines)
    assert expected([path]).rejected_rows == 0


def test_rows_of_a_size_differ_between_seeds():
    assert not set(sample.rows_of_size(1, 5_000).splitlines()[1:]) & set(sample.rows_of_size(2, 5_000).splitlines())
