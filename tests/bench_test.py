# SPDX-License-Identifier: Apache-2.0
"""What the benchmark makes of its figures: a wrong ratio would be a wrong claim. Nothing is measured here."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import place  # noqa: E402  the first: it tells the others where the tests' modules are
import case_catalog  # noqa: E402
import case_programs  # noqa: E402
import load  # noqa: E402
import record  # noqa: E402
import usage  # noqa: E402
from harness import wait_until  # noqa: E402
from rows import Row, at_most, number, ratio_at_least, ratio_at_most, table  # noqa: E402

assert place


def run(*arguments):
    return subprocess.run([sys.executable, "-B", str(BENCH / "run.py"), *arguments], capture_output=True, text=True,
                          check=False)


# ---- rows ----


def test_a_ratio_is_taken_within_each_round():
    # The machine was three times as slow in the second round, for both.
    row = Row("c", "f", "1/s", ours=[90, 30, 100], theirs=[100, 33, 100])
    assert row.ratio == pytest.approx(30 / 33)


def test_a_ratio_of_sides_with_other_numbers_of_rounds_is_that_of_the_medians():
    assert Row("c", "f", "1/s", ours=[10, 20, 30], theirs=[10]).ratio == 2


@pytest.mark.parametrize("row", [Row("c", "f", "s"), Row("c", "f", "s", ours=[1]), Row("c", "f", "s", theirs=[1]),
                                 Row("c", "f", "s", ours=[1], theirs=[0])])
def test_without_both_sides_there_is_no_ratio(row):
    assert row.ratio is None


@pytest.mark.parametrize("target, ours, is_met", [
    (ratio_at_least(0.85), 85, True), (ratio_at_least(0.85), 84, False),
    (ratio_at_most(1.2), 120, True), (ratio_at_most(1.2), 121, False),
    (at_most(50), 50, True), (at_most(50), 51, False),
])
def test_a_target_is_met_up_to_its_limit(target, ours, is_met):
    assert Row("c", "f", "ms", ours=[ours], theirs=[100], target=target).is_met is is_met


def test_a_case_that_measured_nothing_has_met_nothing():
    assert Row("c", "f", "ms", target=at_most(50)).is_met is None
    assert Row("c", "f", "ms", ours=[1], target=ratio_at_least(1)).is_met is None


@pytest.mark.parametrize("value, text", [(0, "0"), (12345.6, "12,346"), (99.96, "100"), (1.234, "1.23"),
                                         (0.01234, "0.0123")])
def test_numbers_have_three_digits_that_count(value, text):
    assert number(value) == text


def test_the_table_names_what_was_missed_and_each_note_once():
    rows = [Row("hot", "requests", "1/s", ours=[1, 2, 3], theirs=[4, 4, 4], yardstick="nginx",
                target=ratio_at_least(0.85)),
            Row("hot", "time", "µs", ours=[1])]
    for row in rows:
        row.note("the generator was busy")
        row.note("the generator was busy")
    lines = table(rows).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "hot", "requests, 1/s [1]", "2 (1 – 3)", "nginx", "4 (4 – 4)", "0.5", "≥ 0.85 ×", "**no**"]
    assert "\n".join(lines).count("the generator was busy") == 1
    assert len({len(line) for line in lines[:4]}) == 1, "the columns are not aligned"


# ---- what a generator says ----


@pytest.mark.parametrize("said", [{"requests": 5, "refused": {"404": 1}}, {"requests": 5, "broken": 1},
                                  {"requests": 0, "bytes": 0}])
def test_a_run_in_which_something_was_refused_is_no_figure(said):
    with pytest.raises(AssertionError):
        load.check(said)


def test_a_busy_generator_is_told_of():
    said = {"requests": 10, "seconds": 2.0, "bytes": 4e9}
    result = load.Load(said, server_seconds=1.0, generator_seconds=1.9)
    assert result.warning("nginx") and not load.Load(said, 1.0, 1.7).warning("nginx")
    assert (result.per_second, result.gigabytes_per_second) == (5, 2)
    assert (result.server_us_per_request, result.server_seconds_per_gigabyte) == (100_000, 0.25)


def test_processor_time_counts_threads_and_children():
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_until(lambda: usage.processor_seconds(parent.pid) > 0.5, "the child to have used its core")
        *_, child = usage.family(parent.pid)
        assert child != parent.pid
        assert usage.processor_seconds(child) > 0.2
    finally:
        for member in reversed(list(usage.family(parent.pid))):
            os.kill(member, 9)
        parent.wait()


# ---- the generated catalog ----


def test_a_catalog_is_multiplied_whatever_its_columns_are(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as database:
        database.execute("CREATE TABLE media (media_id TEXT PRIMARY KEY, stored_at INTEGER, anything TEXT) WITHOUT ROWID")
        database.execute("CREATE INDEX by_anything ON media (anything)")
        database.executemany("INSERT INTO media VALUES (?, ?, ?)", [("a", 1, "x"), ("b", 2, "y"), ("reserved", None, "z")])
        database.commit()
    case_catalog.multiply(tmp_path / "catalog.sqlite", 1000)
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as database:
        assert database.execute("SELECT anything, count(*) FROM media GROUP BY 1 ORDER BY 1").fetchall() == [
            ("x", 501), ("y", 501), ("z", 1)]
        ids = {row[0] for row in database.execute("SELECT media_id FROM media")}
        assert {case_catalog.media_id(number_of, 1000) for number_of in range(1000)} < ids
        assert database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'by_anything'").fetchone() == (1,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# ---- programs that are cases ----


def test_what_a_program_prints_becomes_figures():
    told = {"loops": 2, "each": {"bytes_each": 250.5, "wake_us": {"median": 3}},
            "memory": [{"downloads": 10000, "private_bytes_each": 9}]}
    assert dict(case_programs.figures(told)) == {
        "each: bytes_each": 250.5, "each: wake_us: median": 3, "memory: 10,000 downloads: private_bytes_each": 9}
    assert case_programs.row_of("waiting-room", "each: bytes_each").target.limit == 300
    assert case_programs.row_of("waiting-room", "each: signal_bytes_each").target is None
    assert case_programs.row_of("crowd", "memory: 10,000 downloads: private_bytes_each").target.limit == 3072


# ---- the record and the command line ----


def test_a_record_keeps_what_people_wrote(tmp_path, monkeypatch):
    results = tmp_path / "RESULTS.md"
    results.write_text(f"# Results\n\nraised, because of x\n\n{record.MARK}\n\nold figures\n")
    monkeypatch.setattr(record, "RESULTS", results)
    for _ in range(2):
        record.write([Row("hot", "requests", "1/s", ours=[7])], {"commit": "abc"})
    text = results.read_text()
    assert text.startswith("# Results\n\nraised, because of x\n\n" + record.MARK)
    assert "- commit: abc" in text and "old figures" not in text and text.count("| hot") == 1


def test_the_results_can_be_recorded():
    assert record.MARK in record.RESULTS.read_text()


def test_every_case_of_the_readme_is_there_and_the_other_way_about():
    listed = [line.split()[0] for line in run("--list").stdout.splitlines()]
    readme = (BENCH / "README.md").read_text()
    assert len(listed) > 10 and not [name for name in listed if f"`{name}`" not in readme]


def test_an_unknown_case_is_refused_before_anything_starts():
    refused = run("--needs", "hott")
    assert (refused.returncode, refused.stdout) == (2, "") and "hott" in refused.stderr


def test_what_a_case_needs_is_told():
    assert run("--needs", "hot").stdout.split() == []
    assert run("--needs", "hot", "create").stdout.split() == ["synapse"]
