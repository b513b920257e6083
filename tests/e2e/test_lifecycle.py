# SPDX-License-Identifier: Apache-2.0
"""Start, stop and what an operator sees: exit codes, configuration, health, logs, metrics."""

import json
import os
import re
import resource
import signal
import socket
import stat
import threading
import time

import pytest

from client import BrokenBody, LiveUpload, Reader, Wire, create, get, put, request, store
from harness import ALICE, BINARY, BOB, TOKENS, Metrics, Server, run_binary, seconds, wait_until


# Stopping

def test_sigterm_answers_the_stalled_and_lets_transfers_finish(start_server):
    server = start_server()
    pending, running, running_download = create(server), create(server), create(server)
    stalled = Reader(server, pending, timeout_ms=60000)
    server.wait_stalled(1)
    upload = LiveUpload(server, running, length=10)
    upload.send(b"01234")
    live = Reader(server, running)
    live.wait_bytes(5)
    idle = Wire(server)
    assert idle.exchange("GET", "/health").status == 200

    server.signal(signal.SIGTERM)
    stalled.wait_end()
    assert stalled.head.status in (503, 504)
    assert stalled.response.errcode in ("M_NOT_YET_UPLOADED", "M_UNKNOWN")
    assert idle.ends(timeout=5)

    def refuses_connections():
        try:
            socket.create_connection(server.address, timeout=1).close()
            return False
        except OSError:
            return True

    wait_until(refuses_connections, "new connections to be refused")
    upload.send(b"567")
    live.wait_bytes(8)
    assert upload.finish(b"89").status == 200
    assert live.whole() == b"0123456789"
    assert server.wait() == 0
    server.start()
    assert get(server, running).body == b"0123456789"
    get(server, pending, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
    get(server, running_download, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(start_server, number):
    server = start_server()
    began = time.monotonic()
    server.signal(number)
    assert server.wait() == 0
    assert time.monotonic() - began < seconds(3)
    server.stop()


def test_the_grace_has_an_end(start_server):
    server = start_server(shutdown_grace="500ms")
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=10)
    upload.send(b"01234")
    reader = Reader(server, mxc)
    reader.wait_bytes(5)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert 0.5 <= time.monotonic() - began < seconds(4)
    assert reader.wait_end().broken
    assert not server.spool_files()
    server.start()
    assert put(server, mxc, b"again").status == 200


def test_a_second_signal_ends_at_once(start_server):
    server = start_server(shutdown_grace="60s")
    upload = LiveUpload(server, create(server), length=10)
    upload.send(b"01234")
    server.wait_metric("sluice_uploads_running", 1)
    server.signal(signal.SIGTERM)
    with pytest.raises(Exception):
        server.process.wait(0.3)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait()
    assert time.monotonic() - began < seconds(3)
    server.kill()
    server.start()
    assert not server.spool_files()


def test_a_download_under_way_finishes_within_the_grace(start_server):
    server = start_server()
    body = os.urandom(16 << 20)
    mxc = store(server, body)
    slow = Wire(server, receive_buffer=4096)
    from client import download_path, request_bytes
    slow.send(request_bytes("GET", download_path(mxc)))
    head = slow.read_head()
    server.signal(signal.SIGTERM)
    wait_until(lambda: "listening" in server.log(), "the log")
    assert b"".join(slow.body_pieces(head)) == body
    server.stop()


# Starting

def in_one_line(result):
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize("text, told", [
    ("listen: 127.0.0.1:0\nuplods: {}\n", ("2", "uplods", "uploads")),
    ("listen: 127.0.0.1:0\nuploads:\n  max_sise: 1MiB\n", ("3", "max_sise", "max_size")),
    ("listen: nonsense\n", ("1", "listen")), ("uploads: {max_size: 5 apples}\n", ("1", "max_size")),
    ("homeservers: []\n", ("homeservers",)), ("a: [\n", ()), ("shutdown_grace: 5\n", ("1", "shutdown_grace"))])
def test_a_wrong_configuration_is_told_with_its_line(tmp_path, text, told):
    file = tmp_path / "wrong.yaml"
    base = "homeservers: [{server_name: example.org, tokens: [{token: t0k3n_s3cr3t, user: '@a:example.org'}]}]\n"
    file.write_text(text if "homeservers" in text else text + base)
    serve = run_binary("serve", "--config", file)
    assert serve.returncode == 2, serve
    check = run_binary("check-config", "--config", file)
    assert check.returncode == 1, check
    for output in (serve.stderr, check.stdout + check.stderr):
        assert all(word in output for word in told), output
        assert "t0k3n_s3cr3t" not in output


def test_all_mistakes_are_told_at_once(tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text("listen: x\nuploads: {max_size: y}\ndownloads: {max_wait: z}\n"
                    "homeservers: [{server_name: example.org}]\n")
    check = run_binary("check-config", "--config", file)
    output = check.stdout + check.stderr
    for line, key in ((1, "listen"), (2, "max_size"), (3, "max_wait")):
        assert re.search(rf"{line}: .*{key}", output), output


@pytest.mark.parametrize("arguments",
                         [[], ["dance"], ["serve", "--dance"], ["serve", "--config", "/nowhere/at/all.yaml"],
                                       ["check-config"], ["get"], ["put"]])
def test_bad_usage_is_exit_code_2(arguments):
    result = run_binary(*arguments)
    expected = (1, 2) if arguments[:1] == ["check-config"] else (2,)
    assert result.returncode in expected, result
    assert result.stderr.strip()


def test_version_and_help():
    version, help_text = run_binary("--version"), run_binary("help")
    assert (version.returncode, help_text.returncode) == (0, 0)
    assert re.search(r"\d+\.\d+", version.stdout)
    for command in ("serve", "check-config", "put", "get"):
        assert command in help_text.stdout


def test_check_config_prints_what_is_in_force(tmp_path):
    file = tmp_path / "good.yaml"
    file.write_text("uploads: {max_size: 5MiB}\nhomeservers: [{server_name: example.org, tokens: "
                    "[{token: t0k3n_s3cr3t, user: '@a:example.org'}]}]\n")
    result = run_binary("check-config", "--config", file, environment={"SLUICE_DOWNLOADS_MAX_WAIT": "33s"})
    assert result.returncode == 0, result
    assert "5MiB" in result.stdout and "33s" in result.stdout and "example.org" in result.stdout
    assert "t0k3n_s3cr3t" not in result.stdout + result.stderr


def test_the_environment_overrides(start_server):
    server = start_server(environment={"SLUICE_UPLOADS_MAX_SIZE": "2KiB", "SLUICE_UPLOADS_MAX_PENDING_PER_USER": "1"})
    assert request(server, "GET", "/_matrix/media/v3/config").json() == {"m.upload.size": 2048}
    create(server)
    request(server, "POST", "/_matrix/media/v1/create").is_error(429, "M_LIMIT_EXCEEDED")


def test_a_wrong_environment_is_told(tmp_path):
    for name, value in (("SLUICE_UPLOADS_MAX_SIZE", "many"), ("SLUICE_UPLODS_MAX_SIZE", "1MiB")):
        result = run_binary("serve", environment={name: value, "SLUICE_LISTEN": "127.0.0.1:0"}, cwd=tmp_path)
        assert result.returncode == 2, result
        assert name in result.stderr


def test_without_a_configuration_everything_is_in_one_folder(start_server, tmp_path):
    server = start_server(command=lambda: [str(BINARY), "serve"],
                          environment={"SLUICE_LISTEN": "127.0.0.1:0", "SLUICE_METRICS_LISTEN": "127.0.0.1:0"},
                          data_dir=str(tmp_path / "server0" / "sluice-data"))
    file = server.data_dir / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    assert len(token) >= 24
    wait_until(lambda: token in server.log(), "the token to be printed for its owner")
    mxc = create(server, token=token)
    assert mxc.startswith("mxc://localhost/")
    assert put(server, mxc, b"x", token=token).status == 200
    assert get(server, mxc, token=token).body == b"x"
    server.stop()
    server.start()
    assert file.read_text().strip() == token
    assert get(server, mxc, token=token).body == b"x"


def test_a_port_in_use_is_said_clearly(start_server, tmp_path):
    first = start_server()
    config = {**first.config, "listen": f"127.0.0.1:{first.port}", "data_dir": str(tmp_path / "other"), "metrics": {}}
    file = tmp_path / "second.yaml"
    file.write_text(json.dumps(config))
    result = run_binary("serve", "--config", file)
    assert result.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT), result
    assert str(first.port) in result.stderr
    assert "in use" in result.stderr.lower()


def test_a_taken_metrics_port_ends_the_start_cleanly(start_server, tmp_path):
    """The main port serves already when the other turns out to be taken: nothing may live on that was cut short."""
    first = start_server()
    config = {**first.config, "data_dir": str(tmp_path / "other"), "metrics": {"listen": f"127.0.0.1:{first.port}"}}
    file = tmp_path / "second.yaml"
    file.write_text(json.dumps(config))
    for _ in range(20):
        result = run_binary("serve", "--config", file)
        assert result.returncode == 2, result
        assert str(first.port) in result.stderr


def test_two_servers_on_one_folder_are_refused(start_server, tmp_path):
    first = start_server()
    mxc = create(first)
    upload = LiveUpload(first, mxc, length=10)
    upload.send(b"01234")
    first.wait_metric("sluice_uploads_running", 1)
    file = tmp_path / "second.yaml"
    file.write_text(json.dumps({**first.config, "metrics": {}}))
    result = run_binary("serve", "--config", file)
    assert result.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT), result
    assert str(first.data_dir) in result.stderr
    assert first.spool_files(), "the second server swept the spool of the first"
    assert upload.finish(b"56789").status == 200
    assert get(first, mxc).body == b"0123456789"


def test_a_data_dir_that_cannot_be_is_said_clearly(tmp_path):
    (tmp_path / "file").write_text("")
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"listen": "127.0.0.1:0", "data_dir": str(tmp_path / "file" / "data"),
                                "homeservers": [{"server_name": "example.org", "tokens": TOKENS}]}))
    result = run_binary("serve", "--config", file)
    assert result.returncode > 0, result
    assert str(tmp_path / "file") in result.stderr


# What it shows

def test_health(server):
    response = request(server, "GET", "/health", token=None)
    assert response.status == 200
    assert request(server, "HEAD", "/health", token=None).status == 200


def test_health_tells_what_is_broken(start_server):
    server = start_server()
    spool = server.data_dir / "spool"
    moved = server.data_dir / "moved"
    spool.rename(moved)
    spool.write_text("not a folder")
    try:
        wait_until(lambda: request(server, "GET", "/health", token=None).status != 200, "ill health")
        response = request(server, "GET", "/health", token=None)
        assert response.status == 503
        assert b"store" in response.body or b"spool" in response.body, response.body
    finally:
        spool.unlink()
        moved.rename(spool)
    wait_until(lambda: request(server, "GET", "/health", token=None).status == 200, "health to return")


def test_metrics_have_every_promised_name(server):
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    put(server, mxc, b"x" * 1000)
    reader.whole()
    get(server, mxc)
    put(server, mxc, b"y").is_error(409, "M_CANNOT_OVERWRITE_MEDIA")
    LiveUpload(server, create(server), length=10).break_off()
    names = ["sluice_uploads_total", "sluice_downloads_total", "sluice_stalled_downloads", "sluice_live_followers",
             "sluice_uploads_running", "sluice_connections", "sluice_received_bytes_total", "sluice_sent_bytes_total",
             "sluice_wait_seconds_bucket", "sluice_wait_seconds_sum", "sluice_wait_seconds_count",
             "sluice_refusals_total", "sluice_requests_total", "sluice_request_seconds_bucket"]
    metrics = server.metrics()
    assert [name for name in names if not metrics.has(name)] == []
    assert metrics.value("sluice_refusals_total", errcode="M_CANNOT_OVERWRITE_MEDIA") >= 1
    assert metrics.value("sluice_requests_total", status="409") >= 1
    assert metrics.value("sluice_received_bytes_total") >= 1000
    assert metrics.value("sluice_sent_bytes_total") >= 2000
    for line in metrics.text.splitlines():
        assert line.startswith("#") or Metrics.LINE.match(line), line


def test_metrics_stay_on_their_own_port(server):
    assert request(server, "GET", "/metrics").status == 404
    response = request(("127.0.0.1", server.metrics_port), "GET", "/_matrix/media/v3/config")
    assert response.status == 404


def test_there_are_no_metrics_unless_asked_for(start_server):
    server = start_server(metrics=None)
    assert request(server, "GET", "/health").status == 200
    assert "metrics on" not in server.log()


def request_log(server, mxc):
    return [line for line in server.log().splitlines() if mxc.rsplit("/", 1)[1] in line]


def test_one_json_line_per_request(start_server):
    server = start_server(log={"format": "json"})
    mxc = store(server, b"x" * 1234, filename="a.txt")
    get(server, mxc, token=BOB, access_token=ALICE)
    wait_until(lambda: len(request_log(server, mxc)) >= 3, "three lines")
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert len({line["request"] for line in lines if "request" in line}) >= 3  # each has an id of its own
    # A line is written when its exchange is over, so the next request's line may come before it.
    by_method = {line["method"]: line for line in map(json.loads, request_log(server, mxc))}
    upload, download = by_method["PUT"], by_method["GET"]
    assert (upload["user"], upload["status"], upload["method"]) == ("@alice:example.org", 200, "PUT")
    assert (download["user"], download["status"], download["method"]) == ("@bob:example.org", 200, "GET")
    assert (upload["bytes_in"], download["bytes_out"]) == (1234, 1234)
    assert upload["duration_ms"] >= 0 and upload["time_ms"] / 1000 == pytest.approx(time.time(), abs=60)
    assert ALICE not in server.log() and BOB not in server.log()


def test_one_text_line_per_request(start_server):
    server = start_server()
    mxc = store(server, b"x" * 4321)
    get(server, mxc, access_token=ALICE)
    put(server, mxc, b"again", token=BOB)
    wait_until(lambda: len(request_log(server, mxc)) >= 4, "four lines")
    lines = request_log(server, mxc)
    assert len(lines) == 4

    def has_line(*words):
        return any(all(word in line for word in words) for line in lines)

    assert has_line(" POST ", " 200 ", "@alice:example.org")
    assert has_line(" PUT ", " 200 ", "@alice:example.org", "4321")
    assert has_line(" GET ", " 200 ", "@alice:example.org", "4321")
    assert has_line(" PUT ", " 403 ", "@bob:example.org")


def test_a_log_line_cannot_be_forged(start_server):
    server = start_server()
    request(server, "GET", "/_matrix/a%0aforged%20line")
    get(server, "mxc://example.org/x", name="a\u2028\u001b[31mred")
    with Wire(server) as wire:
        wire.send(b"GET /_matrix/\x1b[31mred HTTP/1.1\r\nHost: h\x1b\r\n\r\n")
        wire.ends(timeout=5)
    wait_until(lambda: "/_matrix/" in server.log(), "the lines")
    assert "\nforged" not in server.log()
    assert "\x1b" not in server.log()


def test_a_burst_of_connections_beyond_the_limit_is_served_in_turn(start_server):
    server = start_server(http={"max_connections": 20})
    statuses = []

    def one():
        statuses.append(request(server, "GET", "/health").status)

    threads = [threading.Thread(target=one) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 100


def test_servers_do_not_inherit_the_suites_settings():
    assert not any(name.startswith("SLUICE_") for name in Server.__init__.__globals__["clean_environment"]())


def test_files_that_are_kept_open_leave_room_for_connections_and_for_work(start_server):
    limit = 1024

    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    server = start_server(preexec=lower, downloads={"max_waiting_per_address": 1000})
    hot = [store(server, b"%d" % number) for number in range(200)]
    assert all(get(server, mxc).status == 200 for mxc in hot)
    idle = [Wire(server) for _ in range(limit - 400)]
    server.wait_metric("sluice_connections", len(idle))
    assert get(server, store(server, b"there is room")).body == b"there is room"
    assert all(get(server, mxc).body == b"%d" % number for number, mxc in enumerate(hot))
    assert request(server, "GET", "/health").status == 200


def test_a_damaged_file_is_healed_by_the_same_content_also_for_those_who_have_seen_it(start_server):
    server = start_server()
    body = os.urandom(5000)
    mxc = store(server, body)
    server.stop()
    os.truncate(server.blob_files()[0], 100)
    server.start()
    with pytest.raises(BrokenBody):
        get(server, mxc)
    store(server, body)
    assert get(server, mxc).body == body
