# SPDX-License-Identifier: Apache-2.0
"""Quarantine: content that nobody may see, under any id, until it is released."""

import hashlib
import os

from client import LiveUpload, Reader, create, get, put, request, split_mxc, store
from harness import ADMIN, ALICE, BOB

ADMIN_PATH = "/_matrix/media/unstable/admin/quarantine/"


def by_id(mxc):
    return "/".join(split_mxc(mxc))


def by_hash(body):
    return "hash/" + hashlib.sha256(body).hexdigest()


def quarantine(server, selector):
    response = request(server, "POST", ADMIN_PATH + selector, token=ADMIN, body=b"{}")
    assert response.status == 200, response
    return response.json()["num_quarantined"]


def release(server, selector):
    response = request(server, "DELETE", ADMIN_PATH + selector, token=ADMIN)
    assert response.status == 200, response
    return response.json()["num_released"]


def test_equal_content_disappears_and_stays_away(start_server):
    server = start_server()
    bad = os.urandom(50000)
    mxcs = [store(server, bad), store(server, bad, token=BOB)]
    other = store(server, os.urandom(1000))
    for mxc in (*mxcs, other):
        assert get(server, mxc).status == 200  # hot from now on
    assert quarantine(server, by_id(mxcs[0])) == 2
    for mxc in mxcs:
        get(server, mxc).is_error(404, "M_NOT_FOUND")
    assert get(server, other).status == 200
    refused = create(server)
    put(server, refused, bad).is_error(403, "M_FORBIDDEN")
    request(server, "POST", "/_matrix/media/v3/upload", body=bad).is_error(403, "M_FORBIDDEN")
    assert put(server, refused, b"something else").status == 200
    server.kill()
    server.start()
    get(server, mxcs[1]).is_error(404, "M_NOT_FOUND")
    put(server, create(server), bad).is_error(403, "M_FORBIDDEN")
    assert release(server, by_hash(bad)) == 2
    for mxc in mxcs:
        assert get(server, mxc).body == bad
    assert get(server, store(server, bad)).body == bad


def test_of_a_user(start_server):
    server = start_server()
    alices = [store(server, os.urandom(100)) for _ in range(120)]
    bobs = store(server, b"of bob", token=BOB)
    assert quarantine(server, "user/@alice:example.org") == 120
    for mxc in alices:
        get(server, mxc).is_error(404, "M_NOT_FOUND")
    assert get(server, bobs).body == b"of bob"
    later = store(server, b"later")
    assert get(server, later).body == b"later"
    assert release(server, "user/%40alice%3Aexample.org") == 120
    assert get(server, alices[77]).status == 200


def test_who_follows_an_upload_of_it_sees_a_broken_body(start_server):
    server = start_server()
    bad = os.urandom(100000)
    assert quarantine(server, by_hash(bad)) == 0
    for length in (None, len(bad)):
        mxc = create(server)
        upload = LiveUpload(server, mxc, length=length)
        upload.send(bad[:50000])
        reader = Reader(server, mxc)
        reader.wait_bytes(50000)
        upload.finish(bad[50000:]).is_error(403, "M_FORBIDDEN")
        assert reader.wait_end().broken
    assert not server.blob_files(), "nothing of it is stored"


def test_a_running_download_of_it_ends_whole(start_server):
    server = start_server()
    bad = os.urandom(8 << 20)
    mxc = store(server, bad)
    reader = Reader(server, mxc, receive_buffer=4096)
    reader.wait_bytes(1)
    assert quarantine(server, by_id(mxc)) == 1
    get(server, mxc).is_error(404, "M_NOT_FOUND")
    assert reader.whole() == bad


def test_it_is_for_administrators(server):
    mxc = store(server, b"content")
    for selector in (by_id(mxc), "user/@alice:example.org", by_hash(b"content")):
        for method in ("POST", "DELETE"):
            request(server, method, ADMIN_PATH + selector, token=ALICE).is_error(403, "M_FORBIDDEN")
            request(server, method, ADMIN_PATH + selector, token=None).is_error(401, "M_MISSING_TOKEN")
    assert get(server, mxc).status == 200


def test_what_media_is_told(server):
    mxc = store(server, b"told", content_type="image/png")
    path = f"/_matrix/media/unstable/info/{by_id(mxc)}"
    told = {"content_uri": mxc, "content_type": "image/png", "size": 4,
            "hashes": {"sha256": hashlib.sha256(b"told").hexdigest()}}
    assert request(server, "GET", path).json() == told
    quarantine(server, by_id(mxc))
    request(server, "GET", path).is_error(404, "M_NOT_FOUND")
    of_admin = request(server, "GET", path, token=ADMIN).json()
    assert of_admin == {**told, "user_id": "@alice:example.org", "quarantined": True}
    release(server, by_id(mxc))
    assert request(server, "GET", path).json() == told
