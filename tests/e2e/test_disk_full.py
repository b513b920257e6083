# SPDX-License-Identifier: Apache-2.0
"""A full disk is a 507 with an errcode; the server lives on and the space comes back."""

import os
import resource
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from client import LiveUpload, Reader, Wire, create, get, put, request, request_bytes, store, upload_path
from harness import BINARY, wait_until

MIB = 1 << 20
DISK = 8 * MIB


def can_mount():
    probe = subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False)
    return probe.returncode == 0


@pytest.fixture
def small_disk(start_server, tmp_path):
    """A server whose data folder is a file system of 8 MiB that only it can see; and the way there for the test."""
    if not can_mount():
        pytest.skip("mounting a small file system needs root and a mount namespace")
    mount_point = tmp_path / "server0" / "data"
    mount_point.mkdir(parents=True)
    config = mount_point.parent / "sluice.yaml"

    def command():
        script = f"mount -t tmpfs -o size={DISK} none {mount_point} && exec {BINARY} serve --config {config}"
        return ["unshare", "-m", "sh", "-c", script]

    server = start_server(command=command)
    server.data_dir = Path(f"/proc/{server.pid}/root{mount_point}")
    return server


def free_bytes(server):
    status = os.statvfs(server.data_dir)
    return status.f_bavail * status.f_frsize


def send_and_read(server, mxc, body):
    with Wire(server) as wire:
        try:
            wire.send(request_bytes("PUT", upload_path(mxc), body=body))
        except OSError:
            pass
        return wire.read_response()


def is_507(response):
    assert (response.status, response.errcode[:2]) == (507, "M_"), response


def test_an_upload_that_does_not_fit(small_disk):
    server = small_disk
    kept = store(server, b"kept")
    before = free_bytes(server)
    for _ in range(3):
        mxc = create(server)
        is_507(send_and_read(server, mxc, os.urandom(DISK + MIB)))
        wait_until(lambda: not server.spool_files(), "the spool file to go")
        wait_until(lambda: free_bytes(server) > before - MIB, "the space to come back")
        assert get(server, kept).body == b"kept"
        assert request(server, "GET", "/health", token=None).status == 200
        body = os.urandom(100000)
        assert put(server, mxc, body).status == 200  # the same id, with something that fits
        assert get(server, mxc).body == body


def test_readers_of_an_upload_that_does_not_fit(small_disk):
    server = small_disk
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc)
    with pytest.raises(OSError):
        for _ in range(4 * DISK // 65536):
            upload.send(os.urandom(65536))
        raise OSError("everything was taken")
    is_507(upload.wire.read_response())
    assert reader.wait_end().broken
    assert reader.body
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")


def test_nothing_at_all_fits(small_disk):
    server = small_disk
    kept, pending = store(server, b"kept"), create(server)
    filler = server.data_dir / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    try:
        for attempt in (send_and_read(server, pending, os.urandom(200000)),
                        request(server, "POST", "/_matrix/media/v3/upload", body=os.urandom(200000))):
            is_507(attempt)
        for _ in range(200):  # the catalog may have a few pages left
            response = request(server, "POST", "/_matrix/media/v1/create")
            if response.status != 200:
                break
        assert response.status in (500, 507), response
        assert response.errcode.startswith("M_")
        assert get(server, kept).body == b"kept"
        get(server, pending, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
        assert request(server, "GET", "/health", token=None).status in (200, 503)
    finally:
        filler.unlink()
    body = os.urandom(200000)
    assert put(server, pending, body).status == 200
    assert get(server, pending).body == body
    create(server)
    assert request(server, "GET", "/health", token=None).status == 200


def test_a_file_beyond_the_limit_of_the_process(start_server):
    """RLIMIT_FSIZE: the portable way to make write() fail in the middle of a file."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, 8 * MIB))

    server = start_server(preexec=limit)
    mxc = create(server)
    is_507(send_and_read(server, mxc, os.urandom(12 * MIB)))
    wait_until(lambda: not server.spool_files(), "the spool file to go")
    body = os.urandom(MIB)
    assert put(server, mxc, body).status == 200
    assert get(server, mxc).body == body


# UndefinedBehaviorSanitizer opens a pipe to look at a vptr; without a descriptor for it, it takes any object for none.
@pytest.mark.skipif(BINARY.exists() and b"__ubsan_" in BINARY.read_bytes(), reason="UBSan itself needs descriptors")
def test_a_server_without_descriptors_recovers(start_server):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    server = start_server(preexec=limit)
    mxc = store(server, b"kept")
    wires = []
    for _ in range(150):
        wires.append(Wire(server))
        wires[-1].send(request_bytes("GET", "/health"))

    def answered():  # which of them have been accepted is for the kernel to say, which has a queue for each loop
        readable = select.select([wire.socket for wire in wires], [], [], 0)[0]
        return [wire for wire in wires if wire.socket in readable]

    wait_until(lambda: len(answered()) >= 5, "five answers")
    for wire in answered():
        assert wire.read_response().status in (200, 503)
    for wire in wires:
        wire.close()
    wait_until(lambda: get(server, mxc).body == b"kept", "the server to recover")


def test_a_lost_blob_is_an_error_and_not_a_crash(start_server):
    server = start_server()
    mxc, other = store(server, b"lost"), store(server, b"other")
    for file in server.blob_files():
        if file.read_bytes() == b"lost":
            file.unlink()
    response = get(server, mxc)
    assert response.status in (404, 500)
    assert response.errcode.startswith("M_")
    assert get(server, other).body == b"other"


def test_a_spool_that_cannot_be_written(start_server):
    server = start_server()
    mxc = create(server)
    shutil.rmtree(server.data_dir / "spool")
    response = put(server, mxc, b"x")
    assert response.status in (200, 500, 507)  # it may make itself a new one
    assert response.status == 200 or response.errcode.startswith("M_")
    (server.data_dir / "spool").mkdir(exist_ok=True)
    if response.status != 200:
        assert put(server, mxc, b"x").status == 200
    assert get(server, mxc).body == b"x"


