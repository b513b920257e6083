# SPDX-License-Identifier: Apache-2.0
"""Deleting: the id is gone for everybody at once and for good, its bytes as soon as nobody needs them."""

import os
import threading

import pytest

from client import (BrokenBody, Closed, LiveUpload, Reader, create, get, in_parallel, put, request,
                    split_mxc, store)
from harness import ADMIN, ALICE, BOB, wait_until

MIB = 1 << 20


def delete(server, mxc, token=ALICE):
    server_name, media_id = split_mxc(mxc)
    return request(server, "DELETE", f"/_matrix/media/unstable/download/{server_name}/{media_id}", token=token)


def deleted(server, mxc, token=ALICE):
    response = delete(server, mxc, token)
    assert (response.status, response.json()) == (200, {"purged": True}), response


def is_gone(server, mxc):
    get(server, mxc).is_error(404, "M_NOT_FOUND")
    assert get(server, mxc, method="HEAD").status == 404
    get(server, mxc, headers={"If-None-Match": "*"}).is_error(404, "M_NOT_FOUND")
    put(server, mxc, b"anew").is_error(404, "M_NOT_FOUND")
    delete(server, mxc).is_error(404, "M_NOT_FOUND")


def disk_is_free(server):
    wait_until(lambda: not server.blob_files() and not server.spool_files(), "the bytes to be freed")


def test_the_owner_deletes_and_the_disk_is_freed(start_server):
    server = start_server()
    mxc = store(server, os.urandom(3 * MIB))
    assert get(server, mxc).status == 200
    assert len(server.blob_files()) == 1
    deleted(server, mxc)
    is_gone(server, mxc)
    disk_is_free(server)
    assert server.descriptors()["file"] == 0, "a deleted file is kept open"


def test_who_may_delete(server):
    mxc = store(server, b"content")
    delete(server, mxc, token=BOB).is_error(403, "M_FORBIDDEN")
    delete(server, mxc, token=None).is_error(401, "M_MISSING_TOKEN")
    assert get(server, mxc).body == b"content"
    deleted(server, mxc, token=ADMIN)
    is_gone(server, mxc)


def test_equal_content_stays_while_an_id_refers_to_it(start_server):
    server = start_server()
    body = os.urandom(100000)
    mxcs = [store(server, body) for _ in range(3)]
    for left in (2, 1, 0):
        deleted(server, mxcs.pop())
        wait_until(lambda: not server.spool_files(), "the deletion to be tidied up")
        assert len(server.blob_files()) == (1 if left else 0)
        for mxc in mxcs:
            assert get(server, mxc).body == body
    again = store(server, body)
    assert get(server, again).body == body


def test_a_running_download_of_it_ends_whole(start_server):
    server = start_server()
    body = os.urandom(16 * MIB)
    mxc = store(server, body)
    readers = [Reader(server, mxc, receive_buffer=4096) for _ in range(3)]
    for reader in readers:
        reader.wait_bytes(1)
    deleted(server, mxc)
    is_gone(server, mxc)
    wait_until(lambda: not server.blob_files(), "the name to go")
    for reader in readers:
        assert reader.whole() == body


def test_who_waits_for_it_is_answered_at_once(server):
    mxc = create(server)
    readers = [Reader(server, mxc, timeout_ms=60000) for _ in range(5)]
    server.wait_stalled(5)
    deleted(server, mxc)
    for reader in readers:
        reader.wait_end(timeout=5)
        reader.response.is_error(404, "M_NOT_FOUND")
    is_gone(server, mxc)


def test_an_upload_to_it_is_broken_off_and_so_are_its_readers(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=200000)
    upload.send(b"x" * 100000)
    reader = Reader(server, mxc)
    reader.wait_bytes(100000)
    deleted(server, mxc)
    assert reader.wait_end(timeout=5).broken, "it must not look whole"
    is_gone(server, mxc)
    upload.send(b"x" * 1000)
    upload.wire.read_response().is_error(404, "M_NOT_FOUND")
    is_gone(server, mxc)


def test_what_was_deleted_stays_deleted_through_a_crash(start_server):
    server = start_server()
    kept = store(server, b"kept")
    mxcs = [store(server, os.urandom(1000 + number)) for number in range(20)]
    for mxc in mxcs:
        deleted(server, mxc)
    server.kill()  # before or after the bytes have gone
    server.start()
    for mxc in mxcs:
        is_gone(server, mxc)
    assert get(server, kept).body == b"kept"
    assert len(server.blob_files()) == 1
    assert not server.spool_files()


@pytest.mark.slow(4)
def test_kill_at_any_moment_of_uploads_and_deletions(start_server):
    """Equal contents come and go at the same time; every acknowledged state survives kill -9."""
    server = start_server()
    contents = [bytes([number]) * (1000 + 100000 * (number % 2)) for number in range(4)]
    gate = threading.Event()
    stop = threading.Event()
    stored, gone, unsure, failures = {}, set(), set(), []
    lock = threading.Lock()

    def work(index):
        number = index
        while not stop.is_set():
            gate.wait()
            number += 1
            body = contents[number % len(contents)]
            mxc = None
            try:
                mxc = create(server)
                with lock:
                    unsure.add(mxc)
                if put(server, mxc, body).status != 200:
                    continue
                with lock:
                    stored[mxc] = body
                if number % 3:
                    with lock:
                        del stored[mxc]
                    deleted(server, mxc)
                    with lock:
                        gone.add(mxc)
                with lock:
                    unsure.discard(mxc)
            except (OSError, Closed, BrokenBody):
                pass  # the server was killed
            except Exception as error:
                failures.append(error)
                return

    gate.set()
    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        before = len(gone)
        wait_until(lambda: len(gone) > before + 5, "deletions")
        gate.clear()
        server.kill()
        server.start()
        gate.set()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not failures, failures[0]
    for mxc, body in stored.items():
        assert get(server, mxc).body == body, f"{mxc} is damaged"
    for mxc in gone:
        get(server, mxc).is_error(404, "M_NOT_FOUND")
    referred = {get(server, mxc, timeout_ms=0).body for mxc in {*stored, *unsure}}
    expected = sum(body in referred for body in contents)
    wait_until(lambda: len(server.blob_files()) == expected and not server.spool_files(),
               f"{expected} blobs; there are {len(server.blob_files())}")


def test_deleting_the_same_id_at_once(server):
    for _ in range(20):
        mxc = store(server, b"content")
        statuses = sorted(response.status for response in in_parallel(4, lambda _: delete(server, mxc)))
        assert statuses[0] == 200 and set(statuses) <= {200, 404}, statuses
        is_gone(server, mxc)
