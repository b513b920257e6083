# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: the configuration is read anew, and nothing that runs is disturbed."""

import json
import signal
import threading

import pytest

from client import AUTHED, LEGACY, LiveUpload, Reader, Wire, create, get, put, request, store, upload_path
from harness import ALICE, BINARY, BOB, IS_SANITIZED, SERVER_NAME, TOKENS, seconds, wait_until

CREATE = "/_matrix/media/v1/create"
CONFIG = AUTHED + "/config"


def max_upload_size(server, **options):
    return request(server, "GET", CONFIG, **options).json()["m.upload.size"]


def test_nothing_that_runs_is_dropped(start_server):
    server = start_server(uploads={"max_size": "10MiB"})
    running, pending = create(server), create(server)
    upload = LiveUpload(server, running, length=1000)
    upload.send(b"a" * 400)
    live = Reader(server, running)
    live.wait_bytes(400)
    stalled = Reader(server, pending, timeout_ms=60000)
    server.wait_stalled(1)
    kept_alive = [Wire(server) for _ in range(8)]  # some on each loop
    for wire in kept_alive:
        assert wire.exchange("GET", "/health").status == 200
    large = store(server, b"b" * (8 << 20))
    slow = Reader(server, large, receive_buffer=4096)
    slow.wait_head()

    log = server.reload(uploads={"max_size": "500B"})
    assert "info reload: uploads.max_size: now 500B, was 10MiB\n" in log
    assert max_upload_size(server) == 500
    put(server, create(server), b"x" * 501).is_error(413, "M_TOO_LARGE")

    upload.send(b"a" * 500)
    live.wait_bytes(900)
    assert upload.finish(b"a" * 100).status == 200  # what began is held to what it was told
    assert live.whole() == b"a" * 1000
    put(server, pending, b"short")
    assert stalled.whole() == b"short"
    assert slow.whole(timeout=60) == b"b" * (8 << 20)
    for wire in kept_alive:
        assert wire.exchange("GET", CONFIG).json() == {"m.upload.size": 500}


def test_a_broken_file_keeps_the_old_one_in_force(start_server):
    server = start_server(uploads={"max_size": "1MiB"})
    good = server.config_file.read_text()
    log = server.reload(text="""\
homeservers:
  - server_name: example.org
uploads:
  max_sise: 5
downloads:
  default_wait: 3 days
""")
    assert f"error reload: {server.config_file}:4: uploads.max_sise: unknown key; did you mean max_size?\n" in log
    assert f"error reload: {server.config_file}:6: downloads.default_wait: must be a time" in log
    assert log.endswith("error reload: the configuration stays as it was\n")
    assert max_upload_size(server) == 1 << 20
    assert request(server, "POST", CREATE).status == 200  # the tokens too
    assert ":1: " in server.reload(text="{")
    server.config_file.unlink()
    before = len(server.log())
    server.signal(signal.SIGHUP)
    wait_until(lambda: "cannot be read" in server.log()[before:], "the missing file to be told")
    assert max_upload_size(server) == 1 << 20
    assert "changes in force: 0, needing a restart: 0\n" in server.reload(text=good)


def test_what_needs_a_restart_is_named_and_stays(start_server):
    server = start_server(log={"level": "info"})
    other = {"listen": "127.0.0.1:1", "data_dir": "/nowhere", "http": {"threads": 7}, "log": {"format": "json"},
             "metrics": {"listen": "127.0.0.1:2"}, "demo": True, "auth": {"cache_age": "1s"}}
    # The harness goes on with what is in force.
    log = server.reload(text=json.dumps({**server.config, **other, "shutdown_grace": "11s"}))
    for key in ("listen", "data_dir", "http.threads", "log.format", "metrics.listen", "demo", "auth.cache_age"):
        assert f"warning reload: {key}: now " in log
    assert log.count("; this needs a restart\n") == len(other)
    assert "info reload: shutdown_grace: now 11s, was 10s\n" in log
    assert request(server, "GET", "/_sluice/demo").status == 404
    assert server.metric("sluice_connections") >= 0
    assert get(server, store(server, b"x")).body == b"x"


def test_homeservers_that_come_or_go_need_a_restart(start_server):
    server = start_server()
    entry = {"server_name": "second.org", "tokens": [{"token": "tok_second_8812", "user": "@dave:second.org"}]}
    log = server.reload(homeservers=[entry])
    assert "warning reload: homeservers: now [second.org], was [example.org]; this needs a restart\n" in log
    assert request(server, "POST", CREATE).json()["content_uri"].startswith("mxc://example.org/")
    server.config["homeservers"] = [{"server_name": SERVER_NAME, "tokens": TOKENS}]


def test_tokens_come_and_go(start_server):
    server = start_server()
    kept_alive = Wire(server)
    assert kept_alive.exchange("POST", CREATE, token=BOB).status == 200
    new = {"token": "tok_new_93ab10c7", "user": "@new:example.org"}
    log = server.reload(homeservers=[{"server_name": SERVER_NAME, "tokens": [TOKENS[0], new],
                                      "admins": ["@alice:example.org"]}])
    assert "info reload: homeservers[example.org].tokens: changed\n" in log
    assert "info reload: homeservers[example.org].admins: now [@alice:example.org], was []\n" in log
    kept_alive.exchange("POST", CREATE, token=BOB).is_error(401, "M_UNKNOWN_TOKEN")
    assert kept_alive.exchange("POST", CREATE, token=new["token"]).status == 200
    assert kept_alive.exchange("POST", CREATE, token=ALICE).status == 200
    wait_until(lambda: " user=@alice:example.org admin" in server.log(), "alice to be an administrator")
    assert BOB not in server.log() and new["token"] not in server.log()


def test_waits_and_the_log_follow(start_server):
    server = start_server()
    mxc = create(server)
    log = server.reload(downloads={"default_wait": "100ms", "max_waiting": 0}, log={"level": "debug"})
    assert "downloads.default_wait: now 100ms, was 20s" in log
    get(server, mxc, timeout_ms=60000).is_error(504, "M_NOT_YET_UPLOADED")  # no place to wait
    server.reload(downloads={"max_waiting": 10})
    assert get(server, mxc).is_error(504, "M_NOT_YET_UPLOADED").seconds < seconds(5)
    request(server, "GET", "/health")
    wait_until(lambda: "debug" in server.log() and "/health" in server.log(), "the health check in the log")


def test_the_environment_still_wins(start_server, tmp_path):
    server = start_server()
    server.stop()
    server.environment["SLUICE_UPLOADS_MAX_SIZE"] = "1234B"
    server.start()
    server.reload(uploads={"max_size": "99B"})
    assert max_upload_size(server) == 1234


def test_a_reload_while_it_stops_is_no_second_signal(start_server):
    server = start_server()
    upload = LiveUpload(server, create(server), length=10)
    upload.send(b"01234")
    server.wait_metric("sluice_uploads_running", 1)
    server.signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in server.log(), "the server to stop")
    server.signal(signal.SIGHUP)
    assert upload.finish(b"56789").status == 200
    server.wait()
    server.stop()  # it has ended by itself, with 0


def test_without_a_file_a_closed_terminal_ends_it(start_server):
    """There is nothing to read anew: what runs in a terminal ends with it, in good order."""
    server = start_server()
    server.stop()
    server.command = lambda: [str(BINARY), "serve"]
    server.config["metrics"] = {}
    server.environment["SLUICE_LISTEN"] = "127.0.0.1:0"
    server.start()
    server.signal(signal.SIGHUP)
    server.wait()
    server.stop()  # it has ended by itself, with 0


@pytest.mark.slow(4)
def test_many_reloads_under_load(start_server):
    """Every request sees one configuration or the other, and memory does not grow with the reloads."""
    server = start_server(uploads={"max_size": "1000B"})
    mxc = store(server, b"x" * 100)
    over, faults = threading.Event(), []

    def keep_asking():
        with Wire(server) as wire:
            while not over.is_set():
                if wire.exchange("GET", CONFIG).json()["m.upload.size"] not in (1000, 2000):
                    faults.append("a size that nobody has set")
                path = LEGACY + "/download/" + mxc.removeprefix("mxc://")
                if wire.exchange("GET", path, token=None).status not in (200, 404):
                    faults.append("a download that was neither allowed nor frozen")

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(60):
            rule = {"unauthenticated": "frozen" if turn % 2 else "allow"}
            server.reload(uploads={"max_size": "2000B" if turn % 2 else "1000B"}, downloads=rule)
            if turn == 20:
                settled = server.memory_kib("VmRSS")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not faults, faults[:3]
    assert IS_SANITIZED or server.memory_kib("VmRSS") - settled < 8 * 1024
    assert put(server, create(server), b"x" * 1500).status == 200
    assert request(server, "PUT", upload_path(create(server)), body=b"x" * 2001).status == 413
