# SPDX-License-Identifier: Apache-2.0
"""The house rules of ARCHITECTURE.md, as tests: they read the sources and nothing else."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"

# What each room may include besides itself. Arrows run down only; the table is the one in ARCHITECTURE.md.
MAY_USE = {
    "base": set(),
    "runtime": {"base"},
    "config": {"base"},
    "transfer": {"runtime", "base"},
    "catalog": {"base"},
    "blobs": {"base"},
    "outbound": {"runtime", "base"},
    "auth": {"outbound", "config", "runtime", "base"},
    "thumbnails": {"runtime", "base"},
    "thumbnailer": {"thumbnails", "base"},
    "repository": {"thumbnails", "transfer", "catalog", "blobs", "auth", "config", "runtime", "base"},
    "http": {"runtime", "base"},
    "telemetry": {"http", "runtime", "config", "base"},
    "demo": {"http", "base"},
    "api": {"repository", "thumbnails", "auth", "demo", "http", "transfer", "config", "runtime", "base"},
    "cli": {"api", "auth", "base", "blobs", "catalog", "config", "demo", "http", "outbound", "repository", "runtime",
            "telemetry", "thumbnails", "transfer"},
}

# Where the headers of a library may be included; the first pattern that fits an include decides. What fits none may be
# used anywhere (fmt, spdlog, the containers of boost).
LIBRARIES = [
    (r"boost/asio\b.*|boost/beast\b.*", r"http/request_parser\.cpp"),
    (r"boost/json\b.*", r".*\.cpp|.*_test\.h"),
    (r"boost/(intrusive|container)/.*", r".*"),
    (r"boost/.*", r".*\.cpp"),
    (r"sqlite3\.h", r"catalog/.*"),
    (r"curl/.*", r"outbound/.*|cli/.*"),
    (r"yaml-cpp/.*", r"config/.*"),
    (r"openssl/.*", r"base/sha256\.cpp"),
    (r"prometheus/.*", r"telemetry/.*\.cpp"),
    (r"CLI/.*", r"main\.cpp"),
    (r"vips/.*|glib.*", r"thumbnailer/picture\.cpp"),
    (r"lib(av|sw)\w+/.*", r"thumbnailer/movie\.cpp"),
    (r"seccomp\.h", r"thumbnailer/sandbox\.cpp"),
    (r"(gtest|gmock)/.*", r".*_test\.(cpp|h)"),
]

# An include that breaks a rule above for a reason that is written down here.
EXCEPTIONS = {
    # (file, include)
}

MAX_LINES = 600

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def sources(*suffixes):
    return sorted(p for p in SOURCE.rglob("*") if p.suffix in suffixes)


def texts():
    """Every text file of the project that people write: what git would track."""
    folders = ["src", "tests", "fuzz", "bench", "docs", "deploy", "cmake", ".ci"]
    files = [p for p in ROOT.iterdir() if p.is_file() and p.name != "sluice"]
    for folder in folders:
        files += [p for p in (ROOT / folder).rglob("*") if p.is_file()]
    for path in sorted(files):
        if "__pycache__" in path.parts or "corpus" in path.parts or ".pytest_cache" in path.parts:
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            pass  # a picture


def name(path):
    return str(path.relative_to(SOURCE))


def includes(path):
    """Pairs of (is_ours, included) in their order."""
    return [(quote == '"', included) for quote, included in INCLUDE.findall(path.read_text())]


def is_test(path):
    return path.stem.endswith("_test")


def room_of(path_name):
    return path_name.split("/")[0] if "/" in path_name else ""


def report(faults):
    assert not faults, "\n" + "\n".join(faults)


# ---- arrows ----


def test_every_room_is_known():
    assert {p.name for p in SOURCE.iterdir() if p.is_dir()} == set(MAY_USE)


def test_the_table_has_no_cycle():
    visited, path = set(), []

    def visit(room):
        assert room not in path, " -> ".join([*path, room])
        if room in visited:
            return
        path.append(room)
        for below in MAY_USE[room]:
            visit(below)
        path.pop()
        visited.add(room)

    for room in MAY_USE:
        visit(room)


def test_arrows_run_down_only():
    faults = []
    for path in sources(".h", ".cpp"):
        room = room_of(name(path))
        if not room:
            continue  # main.cpp wires everything
        for is_ours, included in includes(path):
            if not is_ours or (name(path), included) in EXCEPTIONS:
                continue
            # Tests may borrow the doubles of other rooms.
            if is_test(path) and included.endswith("_test.h"):
                continue
            target = room_of(included)
            if target != room and target not in MAY_USE[room]:
                faults.append(f"{name(path)} includes {included}: {room} may use {sorted(MAY_USE[room])}")
    report(faults)


def test_nothing_but_tests_includes_a_test():
    report([f"{name(p)} includes {included}" for p in sources(".h", ".cpp") if not is_test(p)
            for _, included in includes(p) if included.endswith("_test.h")])


def test_our_includes_are_found():
    report([f"{name(p)} includes {included}" for p in sources(".h", ".cpp")
            for is_ours, included in includes(p) if is_ours and not (SOURCE / included).is_file()])


def test_libraries_stay_in_their_rooms():
    faults = []
    for path in sources(".h", ".cpp"):
        for is_ours, included in includes(path):
            if is_ours or (name(path), included) in EXCEPTIONS:
                continue
            for header, where in LIBRARIES:
                if re.fullmatch(header, included):
                    if not re.fullmatch(where, name(path)):
                        faults.append(f"{name(path)} includes <{included}>, which belongs in {where}")
                    break
    report(faults)


# ---- files ----


def test_a_source_includes_its_header_first():
    faults = []
    for path in sources(".cpp"):
        # A test comes with the header that it tests, or with a double that it defines.
        own = [path.with_suffix(".h"), path.with_name(path.name.removesuffix("_test.cpp") + ".h")]
        own = [name(header) for header in own if header.is_file()]
        first = next((included for _, included in includes(path)), None)
        if own and first not in own:
            faults.append(f"{name(path)} includes {first} first, not {own[0]}")
    report(faults)


def test_a_header_is_included_once():
    report([name(p) for p in sources(".h") if "\n#pragma once\n" not in p.read_text()])


def test_a_source_begins_with_its_licence():
    faults = []
    for path, text in texts():
        comment = {".h": "//", ".cpp": "//", ".py": "#", ".sh": "#"}.get(path.suffix)
        if comment is None and text.startswith("#!"):
            comment = "#"
        if comment is None:
            continue
        lines = [line for line in text.splitlines()[:2] if not line.startswith("#!")]
        if not lines or lines[0] != f"{comment} SPDX-License-Identifier: Apache-2.0":
            faults.append(str(path.relative_to(ROOT)))
    report(faults)


def test_no_file_is_long():
    lengths = {name(p): len(p.read_text().splitlines()) for p in sources(".h", ".cpp")}
    report([f"{file}: {length} lines, more than {MAX_LINES}" for file, length in lengths.items() if length > MAX_LINES])


def test_every_room_says_what_it_is():
    faults = []
    for room in MAY_USE:
        readme = SOURCE / room / "README.md"
        if not readme.is_file():
            faults.append(f"{room} has no README.md")
        elif f"# {room}" not in readme.read_text().splitlines()[:2]:
            faults.append(f"{room}/README.md does not begin with its name")
    report(faults)


def test_source_names_are_of_one_kind():
    of_other_kinds = sources(".c", ".cc", ".cxx", ".hpp", ".hh", ".inc")
    report([name(p) for p in [*of_other_kinds, *sources(".h", ".cpp")]
            if not re.fullmatch(r"[a-z0-9_]+\.(h|cpp)", p.name)])


# ---- words ----

# Written in pieces, so that this file is not among its own finds.
FORBIDDEN = [
    (r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", "what is left to do belongs in an issue, or is done"),
    (r"/" r"work/|/root" r"/|/home/[a-z]+/", "a path of somebody's machine"),
    (r"/tmp/(build|core|bash)", "a path of somebody's machine"),
]


@pytest.mark.parametrize("pattern, reason", FORBIDDEN, ids=["unfinished", "machine", "temporary"])
def test_no_forbidden_word(pattern, reason):
    faults = []
    for path, text in texts():
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(pattern, line):
                faults.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}: {reason}")
    report(faults)


def test_no_blank_at_the_end_of_a_line():
    faults = []
    for path, text in texts():
        if path.suffix == ".md" or not text:
            continue
        if not text.endswith("\n"):
            faults.append(f"{path.relative_to(ROOT)}: the last line has no end")
        faults += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(text.splitlines(), 1)
                   if line != line.rstrip()]
    report(faults)
