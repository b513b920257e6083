# SPDX-License-Identifier: Apache-2.0
"""Where things are: the repository, the binaries, the folder on the disk that is measured. Import this first: it lets
the cases use what the tests have (tests/e2e, tests/stack)."""

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path += [str(REPOSITORY / "tests/e2e"), str(REPOSITORY / "tests/stack")]

BINARY = Path(os.environ.setdefault("SLUICE_BINARY", str(REPOSITORY / "build/release/sluice"))).resolve()
PROGRAMS = Path(os.environ.get("SLUICE_BENCH_PROGRAMS") or BINARY.parent)
# All servers and `dd` write here: the same disk for each.
DISK = Path(os.environ.get("SLUICE_BENCH_DIR") or REPOSITORY / "build/bench").resolve()
MEMORY = Path("/dev/shm")
SYNAPSE_PYTHON = Path(os.environ.get("SLUICE_BENCH_SYNAPSE") or REPOSITORY / "build/stack/venv/bin/python")


def program(name):
    return PROGRAMS / f"bench_{name}"
