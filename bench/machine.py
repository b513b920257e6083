# SPDX-License-Identifier: Apache-2.0
"""On what the figures were measured: they mean nothing without it."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

import place


def said_by(*command):
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=place.REPOSITORY)
        return (done.stdout + done.stderr).strip()
    except OSError:
        return ""


def processor_model():
    match = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def disk_of(path):
    """Its file system and the device below it."""
    words = said_by("findmnt", "-n", "-o", "FSTYPE,SOURCE", "--target", path).split()
    return " on ".join(words[:2])


def memory_gib():
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)


def distribution():
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return match.group(1) if match else ""


def commit():
    """With a plus sign when the tree has changes that are not in it."""
    head = said_by("git", "rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and said_by("git", "status", "--porcelain", "--untracked-files=no") else "")


def yardsticks():
    """Those that are installed, each with its version."""
    version_of_synapse = "from importlib.metadata import version; print(version('matrix-synapse'))"
    said = {"nginx": said_by("/usr/sbin/nginx", "-v"), "wrk": said_by("wrk", "-v"),
            "Synapse": said_by(place.SYNAPSE_PYTHON, "-c", version_of_synapse), "OpenSSL": said_by("openssl", "version")}
    for name, text in said.items():
        if version := re.search(r"\d+\.\d+(\.\d+)?", text):
            yield f"{name} {version.group()}"


def facts():
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "processor": f"{processor_model()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory_gib():.0f} GiB",
        "kernel": platform.release(),
        "distribution": distribution(),
        "disk": disk_of(place.DISK),
        "yardsticks": ", ".join(yardsticks()),
    }


def as_list(told):
    return "\n".join(f"- {name}: {value}" for name, value in told.items())
