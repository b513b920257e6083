# SPDX-License-Identifier: Apache-2.0
"""bench/RESULTS.md: the last full run. What people have written in it above the run stays."""

from pathlib import Path

import machine
from rows import table

RESULTS = Path(__file__).with_name("RESULTS.md")
MARK = "<!-- Below this line the file is written by `./dev bench --record`. -->"


def write(rows, told):
    text = RESULTS.read_text() if RESULTS.exists() else ""
    kept = text.split(MARK)[0] if MARK in text else ""
    RESULTS.write_text(f"{kept}{MARK}\n\n## The last full run\n\n{machine.as_list(told)}\n\n{table(rows)}\n")
