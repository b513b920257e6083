# SPDX-License-Identifier: Apache-2.0
"""Who is asking, as a real Synapse tells it: logout, refresh, guests, locked users, application services, bad days."""

import threading
import time
import uuid

import pytest

import client
from client import LiveUpload, Reader, request, request_bytes
from harness import seconds, wait_until
from homeserver import SERVER_NAME, MatrixError, Synapse

CONFIG = "/_matrix/client/v1/media/config"  # needs a token and does nothing else
WHOAMI = "/_matrix/client/v3/account/whoami"
CACHE_AGE_SECONDS = 1
SHORT_CACHE = {"cache_age": f"{CACHE_AGE_SECONDS}s", "refusal_cache_age": "100ms"}
IMPATIENT = {"timeout": "1s", "cache_age": "100ms", "refusal_cache_age": "100ms"}


def fresh(name="user"):
    return f"{name}_{uuid.uuid4().hex[:8]}"


def ask(server, token, **options):
    return request(server, "GET", CONFIG, token=token, **options)


def token_of(synapse, user):
    """A token that nobody has used yet."""
    return synapse.login(user)["access_token"]


def wait_refused(server, token, errcode, status=401):
    """Polls until the token is refused; returns the answer and the seconds that it took."""
    began = time.monotonic()
    answer = wait_until(lambda: (a := ask(server, token)).status != 200 and a, "the token to be refused")
    return answer.is_error(status, errcode), time.monotonic() - began


# ---- tokens that come and go ----


def test_a_user_of_synapse_uploads_and_downloads(stack):
    alice, bob = stack.user("alice"), stack.user("bob")
    body = b"\x00\xff" * 50_000
    mxc = client.store(stack, body, token=alice.access_token, content_type="application/x-thing", filename="ding.bin")
    answer = client.get(stack, mxc, token=bob.access_token)
    assert (answer.status, answer.body, answer.header("Content-Type")) == (200, body, "application/x-thing")
    ask(stack, "syt_nobody_knows_this").is_error(401, "M_UNKNOWN_TOKEN")
    request(stack, "GET", CONFIG, token=None).is_error(401, "M_MISSING_TOKEN")


def test_a_logged_out_token_stops_within_the_cache_age(start_sluice, synapse):
    sluice = start_sluice(auth=SHORT_CACHE)
    user = synapse.user(fresh())
    one, other = token_of(synapse, user), token_of(synapse, user)
    assert ask(sluice, one).status == ask(sluice, other).status == 200
    synapse.call("POST", "/_matrix/client/v3/logout", one, {})
    answer, took = wait_refused(sluice, one, "M_UNKNOWN_TOKEN")
    assert took < seconds(CACHE_AGE_SECONDS + 1)
    assert not answer.json().get("soft_logout")
    assert ask(sluice, other).status == 200
    synapse.call("POST", "/_matrix/client/v3/logout/all", other, {})
    wait_refused(sluice, other, "M_UNKNOWN_TOKEN")


def test_a_token_that_ran_out_is_a_soft_logout_and_its_successor_works_at_once(start_sluice, synapse):
    sluice = start_sluice(auth=SHORT_CACHE)
    user = synapse.user(fresh())
    login = synapse.login(user, refresh_token=True)
    assert ask(sluice, login["access_token"]).status == 200
    answer, _ = wait_refused(sluice, login["access_token"], "M_UNKNOWN_TOKEN")
    assert answer.json()["soft_logout"] is True
    renewed = synapse.call("POST", "/_matrix/client/v3/refresh", body={"refresh_token": login["refresh_token"]})
    assert ask(sluice, renewed["access_token"]).status == 200


def test_a_changed_password_ends_the_other_sessions(start_sluice, synapse):
    sluice = start_sluice(auth=SHORT_CACHE)
    user = synapse.user(fresh())
    other = token_of(synapse, user)
    assert ask(sluice, other).status == 200
    synapse.call("POST", "/_matrix/client/v3/account/password", user.access_token, {
        "new_password": "another", "logout_devices": True,
        "auth": {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user.user_id},
                 "password": user.password}})
    wait_refused(sluice, other, "M_UNKNOWN_TOKEN")
    assert ask(sluice, user.access_token).status == 200


# ---- who may ----


def test_guests_read_and_do_not_write(stack):
    guest = stack.synapse.call("POST", "/_matrix/client/v3/register?kind=guest", body={})["access_token"]
    mxc = client.store(stack, b"for everyone", token=stack.user("alice").access_token)
    assert client.get(stack, mxc, token=guest).body == b"for everyone"
    request(stack, "POST", "/_matrix/media/v1/create", token=guest).is_error(403, "M_GUEST_ACCESS_FORBIDDEN")
    request(stack, "POST", "/_matrix/media/v3/upload", token=guest, body=b"x").is_error(
        403, "M_GUEST_ACCESS_FORBIDDEN")


def test_a_locked_user_is_told_so_and_comes_back(start_sluice, synapse):
    sluice = start_sluice(auth=SHORT_CACHE)
    user, root = synapse.user(fresh()), synapse.user("root", admin=True)
    path = f"/_synapse/admin/v2/users/{user.user_id}"
    assert ask(sluice, user.access_token).status == 200
    synapse.call("PUT", path, root.access_token, {"locked": True})
    answer, _ = wait_refused(sluice, user.access_token, "M_USER_LOCKED")
    assert answer.json()["soft_logout"] is True
    synapse.call("PUT", path, root.access_token, {"locked": False})
    wait_until(lambda: ask(sluice, user.access_token).status == 200, "the user to be let in again")


def test_a_deactivated_user_is_unknown(start_sluice, synapse):
    sluice = start_sluice(auth=SHORT_CACHE)
    user, root = synapse.user(fresh()), synapse.user("root", admin=True)
    assert ask(sluice, user.access_token).status == 200
    synapse.call("POST", f"/_synapse/admin/v1/deactivate/{user.user_id}", root.access_token, {"erase": False})
    answer, _ = wait_refused(sluice, user.access_token, "M_UNKNOWN_TOKEN")
    with pytest.raises(MatrixError) as told:
        synapse.call("GET", WHOAMI, user.access_token)
    assert answer.json()["error"] == told.value.body["error"], "what Synapse itself says, word for word"


def test_an_application_service_acts_for_its_users_and_no_others(stack):
    token = stack.bridge.as_token
    stack.user("alice")
    ghosts = [f"@bridge_{fresh()}:{stack.server_name}" for _ in range(2)]
    for ghost in ghosts:
        stack.synapse.call("POST", "/_matrix/client/v3/register", token,
                           {"type": "m.login.application_service", "username": ghost[1:].split(":")[0]})

    def create_as(user, path="/_matrix/media/v1/create"):
        return request(stack, "POST", path + client.query_of({"user_id": user}), token=token)

    def put_as(user, mxc):
        return request(stack, "PUT", client.upload_path(mxc, user_id=user), token=token, body=b"from afar")

    mxc = create_as(ghosts[0]).json()["content_uri"]
    put_as(ghosts[1], mxc).is_error(403, "M_FORBIDDEN")  # each ghost owns its own
    assert put_as(ghosts[0], mxc).status == 200
    assert client.get(stack, mxc, token=token).body == b"from afar"
    assert ask(stack, token).status == 200  # as its own sender

    for stranger in (f"@alice:{stack.server_name}", f"@bridge_{fresh()}:{stack.server_name}"):
        with pytest.raises(MatrixError) as told:
            stack.synapse.call("GET", WHOAMI + client.query_of({"user_id": stranger}), token)
        assert told.value.status == 403
        answer = create_as(stranger).is_error(403, told.value.errcode)
        assert answer.json()["error"] == told.value.body["error"]


def test_a_hundred_users_of_one_bridge_come_at_once(start_sluice, synapse):
    """All from its one address, and each of them is a question of its own."""
    sluice, token = start_sluice(), synapse.bridge.as_token
    ghosts = [f"bridge_{fresh()}" for _ in range(100)]
    client.in_parallel(len(ghosts), lambda i: synapse.call(
        "POST", "/_matrix/client/v3/register", token,
        {"type": "m.login.application_service", "username": ghosts[i], "inhibit_login": True}))

    def ask_as(ghost):
        path = CONFIG + client.query_of({"user_id": f"@{ghost}:{SERVER_NAME}"})
        return request(sluice, "GET", path, token=token, headers={"X-Forwarded-For": "203.0.113.9"}).status

    assert client.in_parallel(len(ghosts), lambda i: ask_as(ghosts[i])) == [200] * len(ghosts)


def test_admins_are_those_of_the_configuration(start_sluice, synapse):
    root, user = synapse.user("root", admin=True), synapse.user(fresh())
    sluice = start_sluice(homeserver={"admins": [root.user_id]})
    for who in (root, user):
        assert ask(sluice, who.access_token).status == 200

    def line_of(who):
        return next(line for line in sluice.log().splitlines() if f"user={who.user_id}" in line)

    assert " admin" in line_of(root)
    assert " admin" not in line_of(user)


# ---- what the homeserver is asked, and how often ----


def test_hundreds_of_requests_with_a_new_token_ask_once(start_sluice, synapse):
    sluice = start_sluice()
    token = token_of(synapse, synapse.user(fresh()))
    agent = f"counted/{uuid.uuid4()}"
    answers = client.in_parallel(300, lambda _: ask(sluice, token, headers={"User-Agent": agent}).status)
    assert answers == [200] * 300
    assert synapse.requests(agent) == [("GET", WHOAMI)]


def test_nothing_but_whoami_is_asked(start_sluice, synapse):
    """So any homeserver will do, and any service that hands its tokens out."""
    sluice = start_sluice()
    user, agent = synapse.user(fresh()), f"everything/{uuid.uuid4()}"
    headers = {"User-Agent": agent}
    mxc = client.create(sluice, token=user.access_token, headers=headers)
    assert client.put(sluice, mxc, b"bytes", token=user.access_token, headers=headers).status == 200
    assert client.get(sluice, mxc, token=user.access_token, headers=headers).body == b"bytes"
    client.get(sluice, mxc, token="syt_unknown", headers=headers).is_error(401, "M_UNKNOWN_TOKEN")
    assert set(synapse.requests(agent)) == {("GET", WHOAMI)}
    before = synapse.requests("sluice/")
    assert ask(sluice, token_of(synapse, user)).status == 200
    assert synapse.requests("sluice/") == [*before, ("GET", WHOAMI)], "for those who name no agent of theirs"


def test_the_homeserver_learns_where_a_session_was_used(start_sluice, synapse):
    user = synapse.user(fresh())
    login = synapse.login(user)
    as_the_proxy_says = {"X-Forwarded-For": "203.0.113.9", "User-Agent": "Phone/1.0"}
    assert ask(start_sluice(), login["access_token"], headers=as_the_proxy_says).status == 200

    def last_seen():
        devices = synapse.call("GET", "/_matrix/client/v3/devices", user.access_token)["devices"]
        return next(d for d in devices if d["device_id"] == login["device_id"]).get("last_seen_ip")

    wait_until(lambda: last_seen() == "203.0.113.9", "the client's address in its list of sessions")
    assert ("GET", WHOAMI) in synapse.requests("Phone/1.0")
    assert "lacks an x-forwarded-proto header" not in synapse.log(), "or every question would be a warning there"


# ---- a homeserver that has a bad day ----


class Transfers:
    """An upload with a live reader, and a stalled download, begun while all was well."""

    def __init__(self, server, token):
        self.slices = [bytes([i]) * 10_000 for i in range(3)]
        self.mxc, self.later = client.create(server, token=token), client.create(server, token=token)
        self.server, self.token = server, token
        self.upload = LiveUpload(server, self.mxc, length=30_000, token=token)
        self.upload.send(self.slices[0])
        self.reader = Reader(server, self.mxc, token=token)
        self.reader.wait_bytes(10_000)
        self.stalled = Reader(server, self.later, token=token)

    def finish(self):
        self.upload.send(self.slices[1])
        self.reader.wait_bytes(20_000)
        assert self.upload.finish(self.slices[2]).status == 200
        assert self.reader.whole() == b"".join(self.slices)

    def fill_the_other(self):
        assert client.put(self.server, self.later, b"at last", token=self.token).status == 200
        assert self.stalled.whole() == b"at last"


@pytest.fixture
def impatient(start_sluice, synapse):
    """A Sluice that forgets tokens at once, and gives up on its homeserver soon."""
    sluice = start_sluice(auth=IMPATIENT)
    yield sluice
    if synapse.process.poll() is None:
        synapse.resume()
    else:
        synapse.start()


def expect_unavailable(server, token):
    answer = ask(server, token).is_error(503, "M_UNKNOWN")
    assert int(answer.header("Retry-After")) >= 1
    return answer


@pytest.mark.parametrize("goes, comes_back", [(Synapse.pause, Synapse.resume), (Synapse.stop, Synapse.start)],
                         ids=["hangs", "is_down"])
def test_a_homeserver_that_gives_no_answer(impatient, synapse, goes, comes_back):
    user = synapse.user(fresh())
    transfers = Transfers(impatient, user.access_token)
    impatient.wait_stalled(1)
    goes(synapse)
    wait_until(lambda: ask(impatient, user.access_token).status == 503, "the remembered answer to be too old")
    answer = expect_unavailable(impatient, "syt_never_seen")
    assert answer.seconds < seconds(3), "its timeout, not the client's"
    transfers.finish()
    comes_back(synapse)
    wait_until(lambda: ask(impatient, user.access_token).status == 200, "service to return", timeout=30)
    transfers.fill_the_other()


def test_a_restart_in_the_middle_of_an_upload_goes_unnoticed(impatient, synapse):
    """The token was looked at when the upload began; how long the bytes take is nobody's business."""
    user = synapse.user(fresh())
    mxc = client.create(impatient, token=user.access_token)
    upload = LiveUpload(impatient, mxc, length=200_000, token=user.access_token)
    stopped = threading.Event()

    def keep_sending():
        sent = 0
        while sent < 190_000:
            upload.send(b"u" * 1000)
            sent += 1000
            if not stopped.wait(0.005):
                continue

    sender = threading.Thread(target=keep_sending)
    sender.start()
    synapse.restart()
    stopped.set()
    sender.join()
    assert upload.finish(b"u" * 10_000).status == 200
    assert client.get(impatient, mxc, token=user.access_token).body == b"u" * 200_000


def test_remembered_tokens_work_while_the_homeserver_hangs(start_sluice, synapse):
    """With the default cache age a short pause is not felt by those who are there."""
    sluice = start_sluice()
    token = token_of(synapse, synapse.user(fresh()))
    assert ask(sluice, token).status == 200
    synapse.pause()
    try:
        with client.Wire(sluice) as wire:
            wire.send(request_bytes("GET", CONFIG, token=token))
            assert wire.read_response().status == 200
    finally:
        synapse.resume()
