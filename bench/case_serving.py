# SPDX-License-Identifier: Apache-2.0
"""Whole files: a small one that everybody wants, a large one, ranges of it; beside nginx and beside Synapse."""

import json
import os
import urllib.request

import load
from client import download_path, store
from harness import ALICE
from registry import case
from rows import Row, ratio_at_least, ratio_at_most

SMALL = 10 << 10
LARGE = 256 << 20
RANGE = 64 << 10


def stored(server, size):
    """A medium with random content of that size; its download target and its content."""
    content = os.urandom(size)
    return download_path(store(server, content)), content


def beside_nginx(server, nginx, size, folder):
    """The same bytes at the same target on both; checked once, so that speed is of the right thing."""
    target, content = stored(server, size)
    source = folder / f"content-{size}"
    source.write_bytes(content)
    nginx.add(target, source)
    for port in (server.port, nginx.port):
        url = f"http://127.0.0.1:{port}{target}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ALICE}"})
        with urllib.request.urlopen(request) as response:
            assert response.read() == content, f"port {port} serves other bytes"
    return target


def small_rows(name, peer, rate, processor, figure=""):
    return (Row(name, f"{figure}requests", "1/s", yardstick=peer, target=rate),
            Row(name, f"{figure}processor time per request", "µs", yardstick=peer, target=processor))


def measure_small(rows, side, server, run):
    result = run(server)
    rate, processor = rows
    getattr(rate, side).append(result.per_second)
    getattr(processor, side).append(result.server_us_per_request)
    rate.note(result.warning(server.name))


@case("hot", "a 10 KiB file, keep-alive, 64 and 512 connections, token checked; beside nginx")
def hot(bench):
    seconds = bench.pick(4, 1)
    every = []
    with bench.sluice() as sluice, bench.nginx(nopush="on") as nginx:
        target = beside_nginx(sluice, nginx, SMALL, bench.folder)
        for connections in (64, 512):
            rows = small_rows("hot", "nginx", ratio_at_least(0.85), ratio_at_most(1.2), f"{connections} connections: ")

            def run(server, connections=connections):
                # Not wrk: it takes as much processor time for a request (16 to 20 µs) as nginx does, and then it is
                # what limits nginx. Ours takes two thirds of that.
                return load.http(server, [target], [ALICE], connections=connections, seconds=seconds)

            bench.in_turn(lambda rows=rows, run=run: measure_small(rows, "ours", sluice, run),
                          lambda rows=rows, run=run: measure_small(rows, "theirs", nginx, run))
            every += rows
    return every


def upload_to_peer(peer, content):
    user = peer.user("alice")
    request = urllib.request.Request(peer.url + "/_matrix/media/v3/upload", data=content, method="POST", headers={
        "Authorization": f"Bearer {user.access_token}", "Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["content_uri"], user.access_token


@case("hot-synapse", "the same on client/v1, 64 connections; beside Synapse", needs=["synapse"])
def hot_synapse(bench):
    seconds = bench.pick(4, 2)
    rows = small_rows("hot-synapse", "Synapse", ratio_at_least(25), None)
    with bench.sluice() as sluice:
        ours, content = stored(sluice, SMALL)
        with bench.peer() as peer:
            mxc, token = upload_to_peer(peer, content)
        theirs = download_path(mxc)

        def measure_peer():
            with bench.peer() as peer:
                measure_small(rows, "theirs", peer, lambda server: load.wrk(server, theirs, token, 64, seconds))

        def measure_ours():
            measure_small(rows, "ours", sluice, lambda server: load.wrk(server, ours, ALICE, 64, seconds))

        bench.in_turn(measure_ours, measure_peer)
    return rows


def measure_bytes(rows, side, server, target, seconds, **values):
    result = load.http(server, [target], [ALICE], connections=4, seconds=seconds, discard=1, **values)
    rate, processor = rows
    getattr(rate, side).append(result.gigabytes_per_second)
    getattr(processor, side).append(result.server_seconds_per_gigabyte)
    rate.note(result.warning(server.name))


def compare_bytes(bench, rows, **values):
    seconds = bench.pick(4, 1)
    with bench.sluice() as sluice, bench.nginx(piece="256k") as nginx:
        target = beside_nginx(sluice, nginx, LARGE, bench.folder)
        bench.in_turn(lambda: measure_bytes(rows, "ours", sluice, target, seconds, **values),
                      lambda: measure_bytes(rows, "theirs", nginx, target, seconds, **values))
    return rows


@case("large", "a file of 256 MiB over 4 connections; beside nginx with sendfile")
def large(bench):
    return compare_bytes(bench, (
        Row("large", "bytes", "GB/s", yardstick="nginx", target=ratio_at_least(0.97)),
        Row("large", "processor time per GB", "s", yardstick="nginx", target=ratio_at_most(1.05))))


@case("range", "64 KiB at random offsets of that file, 4 connections; beside nginx")
def ranges(bench):
    return compare_bytes(bench, (
        Row("range", "bytes", "GB/s", yardstick="nginx", target=ratio_at_least(0.85)),
        Row("range", "processor time per GB", "s", yardstick="nginx")), range=RANGE, size=LARGE)
