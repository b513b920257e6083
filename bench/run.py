#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark behind `./dev bench`; README.md explains it."""

import argparse
import json
import resource
import signal
import subprocess
import sys

import place  # the first: it tells the other modules where the tests' modules are
import case_serving  # each case_*.py registers its cases, in the order of the table
import case_live
import case_upload
import case_stalled
import case_catalog
import case_programs
import case_thumbnails
import case_instructions
import machine
import record
import usage
from registry import CASES, Bench
from rows import table

assert place and case_serving and case_live and case_upload and case_stalled and case_catalog and case_programs
assert case_instructions


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measures Sluice beside its yardsticks.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="which cases; without any: all")
    parser.add_argument("--list", action="store_true", help="say which cases there are, and stop")
    parser.add_argument("--needs", action="store_true", help="say what the cases need on this machine, and stop")
    parser.add_argument("--quick", action="store_true", help="a few seconds for each case: a look, not a figure")
    parser.add_argument("--rounds", type=int, help="how often each side runs, in turn (5; quick: 2)")
    parser.add_argument("--json", action="store_true", help="every figure of every round, for machines")
    parser.add_argument("--record", action="store_true", help="write bench/RESULTS.md, or the budget of instructions")
    parser.add_argument("--check", action="store_true", help="fail when instructions grew beyond their budget")
    given = parser.parse_args()
    unknown = [name for name in given.cases if name not in CASES]
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if given.record and given.quick:
        parser.error("what is recorded is not measured quickly")
    if given.record and given.cases not in ([], ["instructions"]):
        parser.error("RESULTS.md is written by a run of all cases; of single ones, the budget of instructions only")
    if given.check and given.cases != ["instructions"]:
        parser.error("there is a budget to check for `instructions` only")
    return given


def run_case(bench, case):
    """Its rows; and what went wrong, if it did. One broken case does not take the others with it."""
    say(f"{case.name}: {case.about}")
    try:
        return list(case.function(bench)), None
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        say(f"{case.name} broke off: {error}")
        return [], f"{case.name}: {error}"


def main():
    given = arguments()
    chosen = [CASES[name] for name in given.cases] or list(CASES.values())
    if given.list:
        print("\n".join(f"{case.name:<14} {case.about}" for case in CASES.values()))
        return 0
    if given.needs:
        print(" ".join(sorted({need for case in chosen for need in case.needs})))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers are ended on the way out
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if usage.SERVER_CORE == usage.LOAD_CORE:
        say("there is one core: the load generator takes the server's time, and no ratio means much")
    rows, broken = [], []
    with Bench(quick=given.quick, rounds=given.rounds or (2 if given.quick else 5), check=given.check,
               record=given.record, is_chosen=bool(given.cases)) as bench:
        for case in chosen:
            more, fault = run_case(bench, case)
            rows += more
            broken += [fault] if fault else []
    told = machine.facts()
    if given.json:
        print(json.dumps({"machine": told, "rows": [row.as_json() for row in rows], "broken": broken}, indent=1))
    elif rows:
        print(table(rows))
    if given.record and not given.cases:
        if broken:
            say("nothing is recorded: " + "; ".join(broken))
        else:
            record.write(rows, told)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
