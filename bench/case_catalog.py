# SPDX-License-Identifier: Apache-2.0
"""A catalog of ten million media: what it costs to work with it, and to start with it."""

import contextlib
import hashlib
import http.client
import os
import random
import shutil
import sqlite3
import time
from pathlib import Path

import load
import place
import servers
import usage
from case_serving import SMALL
from client import create, put
from harness import ALICE
from registry import case
from rows import Row, at_most, ratio_at_least

SMALL_CATALOG = 1_000
BLOBS = 16
TARGETS = 100_000
GENERATION = b"5"  # to be raised when `multiply` makes other rows: what was kept is made again
MIB = 1 << 20
SPREAD = 2_654_435_761  # stands in for what is random in an id


def large_catalog(bench):
    return bench.pick(10_000_000, 200_000)


def media_id(number, count):
    """The ids of a generated catalog, in their order: as long as those that the server makes, and older than its next."""
    return f"-{number:07x}{number * SPREAD & 0xFFFFFFFF:08x}{number * ((1 << 63) // count):016x}"


def spacing(count):
    """The media whose number is a multiple of it have content that is there: as many as are downloaded. The others have
    digests that come once, as they would; or the index by digest would have its new rows all in one place."""
    return max(1, count // TARGETS)


def columns_of(database, table):
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def multiply(catalog, count):
    """Fills a catalog that the server has made with `count` rows like those that are stored in it, whatever the schema
    is: only the id differs, and the digest of most. The indexes are made again when most rows are there, which is much
    quicker than to keep them up to date; but it leaves their pages full, which they are in no catalog in use, and each
    new row would then change five. The last rows are added one by one, and make room."""
    database = sqlite3.connect(catalog, isolation_level=None)
    with contextlib.closing(database):
        database.execute("PRAGMA cache_size = -500000")
        database.execute("PRAGMA synchronous = OFF")  # the file is worth nothing until it is whole
        database.execute("PRAGMA journal_mode = OFF")
        columns = columns_of(database, "media")
        copied = ", ".join(name for name in columns if name != "media_id")
        copies = copied.replace("sha256", f"CASE n % {spacing(count)} WHEN 0 THEN sha256 ELSE randomblob(32) END")
        indexes = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'media' "
                                   "AND sql IS NOT NULL").fetchall()
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        database.execute(f"CREATE TEMP TABLE pattern AS SELECT {copied} FROM media WHERE stored_at IS NOT NULL")
        patterns = database.execute("SELECT count(*) FROM pattern").fetchone()[0]
        step = (1 << 63) // count
        packed = count - count // 25

        def add(first, end):
            database.execute(f"""
                WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {end})
                INSERT INTO media (media_id, {copied})
                SELECT printf('-%07x%08x%016x', n, (n * {SPREAD}) & 4294967295, n * {step}), {copies} FROM numbers
                JOIN pattern ON pattern.rowid = n % {patterns} + 1""")

        add(0, packed)
        for _, sql in indexes:
            database.execute(sql)
        add(packed, count)
        database.execute("PRAGMA journal_mode = WAL")


def prepared(count):
    """A folder with a catalog of that many media, made once for each schema and kept."""
    schema = (place.REPOSITORY / "src/catalog/sqlite_schema.cpp").read_bytes() + GENERATION
    folder = place.DISK / f"catalog-{count}-{hashlib.sha256(schema).hexdigest()[:12]}"
    if (folder / "whole").exists():
        return folder
    for older in place.DISK.glob(f"catalog-{count}-*"):
        shutil.rmtree(older)
    server = servers.Sluice(folder).start()
    with servers.ending(server):
        for _ in range(BLOBS):
            mxc = create(server)
            assert put(server, mxc, os.urandom(SMALL)).status == 200
        server.stop(timeout=60)
    multiply(server.data_dir / "catalog.sqlite", count)
    os.sync()
    (folder / "whole").touch()
    return folder


@contextlib.contextmanager
def serving(folder):
    server = servers.Sluice(folder).start()
    try:
        yield server
        server.stop(timeout=60)  # a start after a clean end is what is measured
    finally:
        server.kill()


def read_once(path):
    """What is not in memory costs a read of the disk, which is not what is compared."""
    with open(path, "rb") as file:
        while file.read(4 * MIB):
            pass


def some_targets(count, wanted):
    """Downloads of that many different media, or of all, from all over the catalog, in no order."""
    numbers = range(0, count, spacing(count))
    ids = [media_id(number, count) for number in random.Random(4).sample(numbers, min(wanted, len(numbers)))]
    return [f"/_matrix/client/v1/media/download/example.org/{name}" for name in ids]


@case("catalog", "download, create and upload with 10 million media; beside the same with 1,000")
def catalog(bench):
    seconds = bench.pick(3, 1)
    large = large_catalog(bench)
    folders = {size: prepared(size) for size in (large, SMALL_CATALOG)}
    posted = {"create": {"targets": ["/_matrix/media/v1/create"], "method": "POST"},
              "upload": {"targets": ["/_matrix/media/v3/upload"], "method": "POST", "body": SMALL}}
    # What a cache of ours can hold, and what it cannot.
    wanted = {f"download of {SMALL_CATALOG:,}": SMALL_CATALOG, "download of any": TARGETS}
    # A bound on requests per second: 1.3 times the time is 1 / 1.3 of the rate.
    rows = {name: (Row("catalog", f"{name}, with {large:,} media", "1/s", yardstick=f"{SMALL_CATALOG:,} media",
                       target=ratio_at_least(round(1 / 1.3, 2))),
                   Row("catalog", f"{name}: processor time", "µs", yardstick=f"{SMALL_CATALOG:,} media"))
            for name in (*wanted, *posted)}
    tokens = [user["token"] for user in servers.USERS]

    def measure(side, size):
        read_once(folders[size] / "data/catalog.sqlite")
        work = {name: {"targets": some_targets(size, number)} for name, number in wanted.items()} | posted
        with serving(folders[size]) as server:
            for name, values in work.items():
                said = load.http(server, tokens=tokens, connections=64, seconds=seconds, **values)
                rate, processor = rows[name]
                getattr(rate, side).append(said.per_second)
                getattr(processor, side).append(said.server_us_per_request)
                rate.note(said.warning(f"{size:,} media"))

    bench.in_turn(lambda: measure("ours", large), lambda: measure("theirs", SMALL_CATALOG))
    return [row for pair in rows.values() for row in pair]


def first_answer_ms(server, target):
    """From exec to the first answer; the server is running afterwards."""
    began = time.monotonic()
    server.spawn()
    port = int(server.config["listen"].rsplit(":", 1)[1])
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", target, headers={"Authorization": f"Bearer {ALICE}"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            connection.close()
            return (time.monotonic() - began) * 1000
        except ConnectionError:
            server.has_ended()
            time.sleep(0.0005)


@case("start", "exec to the first download, and memory at rest, with 10 million media; beside Synapse", needs=["synapse"])
def start(bench):
    size = large_catalog(bench)
    folder = prepared(size)
    first = Row("start", f"first answer with {size:,} media", "ms", yardstick="Synapse", target=at_most(100))
    resident = Row("start", "resident memory at rest", "MiB", yardstick="Synapse", target=at_most(25))
    private = Row("start", "private memory at rest", "MiB", yardstick="Synapse")
    target = some_targets(size, 1)[0]

    def rest(side, pid):
        time.sleep(1)  # at rest: what the start has set in motion is over
        getattr(resident, side).append(usage.resident_bytes(pid) / MIB)
        getattr(private, side).append(usage.private_bytes(pid) / MIB)

    def ours():
        server = servers.Sluice(folder)
        try:
            first.ours.append(first_answer_ms(server, target))
            rest("ours", server.pid)
            server.stop()
        finally:
            server.kill()

    def theirs():
        peer = servers.Peer(Path(bench.folder) / f"synapse-start-{len(first.theirs)}")
        with servers.ending(peer):
            peer.start()  # its keys and its database are made once, which does not count
            peer.stop()
            began = time.monotonic()
            peer.start()
            first.theirs.append((time.monotonic() - began) * 1000)
            rest("theirs", peer.pid)
        peer.end()

    bench.in_turn(ours, theirs)
    return [first, resident, private]
