# SPDX-License-Identifier: Apache-2.0
"""Who is asking: static tokens, and a homeserver's whoami with all its moods."""

import time

import pytest

from client import LEGACY, create, get, in_parallel, put, request, store
from harness import ALICE, BOB, SERVER_NAME, TOKENS, seconds, wait_until

CREATE = "/_matrix/media/v1/create"
WHOAMI = "/_matrix/client/v3/account/whoami"
TOKEN = "syt_Y2Fyb2w_secret_of_carol"


@pytest.fixture
def asking(start_server, homeserver):
    """Starts a server that asks the fake homeserver, with the given auth settings."""
    def start(**auth):
        entry = {"server_name": SERVER_NAME, "client_api": homeserver.url, "tokens": TOKENS}
        return start_server(homeservers=[entry], auth=auth)
    return start


def test_static_tokens(server):
    assert request(server, "POST", CREATE).status == 200
    request(server, "POST", CREATE, token=None).is_error(401, "M_MISSING_TOKEN")
    request(server, "POST", CREATE, token="tok_nobody").is_error(401, "M_UNKNOWN_TOKEN")
    request(server, "POST", CREATE, token=ALICE + "x").is_error(401, "M_UNKNOWN_TOKEN")
    request(server, "POST", CREATE, token=ALICE[:-1]).is_error(401, "M_UNKNOWN_TOKEN")


def test_a_token_in_the_query(server):
    assert request(server, "POST", CREATE + "?access_token=" + ALICE, token=None).status == 200
    request(server, "POST", CREATE + "?access_token=nobody", token=None).is_error(401, "M_UNKNOWN_TOKEN")
    request(server, "POST", CREATE + "?access_token=", token=None).is_error(401, "M_MISSING_TOKEN")
    mxc = store(server, b"x")
    assert get(server, mxc, token=None, access_token=ALICE).body == b"x"
    assert get(server, mxc, token=None, family=LEGACY, access_token=ALICE).body == b"x"


@pytest.mark.parametrize("value, accepted",
                         [(f"bearer {ALICE}", True), (f"BEARER {ALICE}", True), (f"Basic {ALICE}", False),
                                             ("Bearer", False), ("Bearer ", False), (ALICE, False), ("", False)])
def test_forms_of_the_authorization_field(server, value, accepted):
    response = request(server, "POST", CREATE, token=None, headers={"Authorization": value})
    assert response.status == (200 if accepted else 401)


def test_tokens_work_on_the_legacy_download_paths_or_are_refused(server):
    mxc = store(server, b"x")
    assert get(server, mxc, family=LEGACY, token=BOB).body == b"x"
    get(server, mxc, family=LEGACY, token="tok_nobody").is_error(401, "M_UNKNOWN_TOKEN")


def test_the_homeserver_is_asked_for_tokens_not_listed(asking, homeserver):
    server = asking()
    homeserver.knows(TOKEN, "@carol:example.org", device_id="D")
    mxc = store(server, b"carols", token=TOKEN)
    assert get(server, mxc, token=TOKEN).body == b"carols"
    assert set(homeserver.paths) == {WHOAMI}
    assert set(homeserver.asked) == {(TOKEN, None)}
    put(server, create(server, token=TOKEN), b"x", token=ALICE).is_error(403, "M_FORBIDDEN")
    assert ALICE not in {token for token, _ in homeserver.asked}  # listed here, nobody else's business
    assert TOKEN not in server.log()


def test_the_homeservers_refusals_are_passed_on(asking, homeserver):
    server = asking()
    homeserver.refuses("soft", 401, "M_UNKNOWN_TOKEN", soft_logout=True)
    response = request(server, "POST", CREATE, token="soft").is_error(401, "M_UNKNOWN_TOKEN")
    assert response.json().get("soft_logout") is True
    homeserver.refuses("locked", 401, "M_USER_LOCKED")
    request(server, "POST", CREATE, token="locked").is_error(401, "M_USER_LOCKED")
    homeserver.refuses("gone", 403, "M_USER_DEACTIVATED")
    request(server, "POST", CREATE, token="gone").is_error(403, "M_USER_DEACTIVATED")
    homeserver.answers["limited"] = (429, {"errcode": "M_LIMIT_EXCEEDED", "error": "slow", "retry_after_ms": 3000})
    response = request(server, "POST", CREATE, token="limited").is_error(429, "M_LIMIT_EXCEEDED")
    assert int(response.header("Retry-After")) >= 1


BROKEN = [(500, {"errcode": "M_UNKNOWN", "error": "oops"}), (502, b"<html>"), (200, b"not json"), (200, b""), (200, {}),
          (200, {"user_id": 5}), (200, {"user_id": "no user"}), (200, []), (404, {"errcode": "M_UNRECOGNIZED",
          "error": ""}), (302, b""), (200, b'{"user_id": "@a:example.org"' + b" " * (8 << 20) + b"}")]


@pytest.mark.parametrize("answer", BROKEN, ids=lambda a: f"{a[0]}-{str(a[1])[:20]}")
def test_a_homeserver_that_talks_nonsense_is_not_a_wrong_token(asking, homeserver, answer):
    server = asking()
    homeserver.answers[TOKEN] = answer
    assert request(server, "POST", CREATE, token=TOKEN).status in (502, 503)
    homeserver.knows(TOKEN, "@carol:example.org")
    assert request(server, "POST", CREATE, token=TOKEN).status == 200  # the failure was not remembered


def test_a_homeserver_that_is_down_is_not_a_wrong_token(asking, homeserver):
    server = asking(timeout="2s")
    homeserver.close()
    response = request(server, "POST", CREATE, token=TOKEN)
    assert response.status in (502, 503)
    assert response.errcode != "M_UNKNOWN_TOKEN"
    assert request(server, "POST", CREATE, token=ALICE).status == 200  # listed tokens go on working


def test_a_homeserver_that_is_slow_is_given_up(asking, homeserver):
    server = asking(timeout="300ms")
    homeserver.knows(TOKEN, "@carol:example.org")
    homeserver.hold()
    response = request(server, "POST", CREATE, token=TOKEN)
    assert response.status in (502, 503)
    assert 0.3 <= response.seconds < seconds(3)
    homeserver.release()
    assert request(server, "POST", CREATE, token=TOKEN).status == 200


def test_while_the_homeserver_thinks_others_are_served(asking, homeserver):
    server = asking()
    homeserver.knows(TOKEN, "@carol:example.org")
    homeserver.hold()
    waiting = []

    def slow(_):
        waiting.append(request(server, "POST", CREATE, token=TOKEN).status)

    import threading
    threads = [threading.Thread(target=slow, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: homeserver.asked, "the question")
    assert request(server, "POST", CREATE, token=ALICE).seconds < seconds(1)
    homeserver.release()
    for thread in threads:
        thread.join()
    assert waiting == [200] * 4


def test_guests_may_download_and_not_upload(asking, homeserver):
    server = asking()
    homeserver.knows("guest", "@guest:example.org", is_guest=True)
    mxc = store(server, b"for all")
    assert get(server, mxc, token="guest").body == b"for all"
    request(server, "POST", CREATE, token="guest").is_error(403, "M_GUEST_ACCESS_FORBIDDEN")
    request(server, "POST", LEGACY + "/upload", token="guest", body=b"x").is_error(403, "M_GUEST_ACCESS_FORBIDDEN")
    put(server, create(server), b"x", token="guest").is_error(403, "M_GUEST_ACCESS_FORBIDDEN")


def test_application_services_act_for_their_users(asking, homeserver):
    server = asking()

    def answer(user_id):
        if user_id is None:
            return 200, {"user_id": "@bridge:example.org"}
        if user_id.startswith("@bridge_"):
            return 200, {"user_id": user_id}
        return 403, {"errcode": "M_FORBIDDEN", "error": "not yours"}

    homeserver.answers["as_token"] = answer
    puppet = "?user_id=%40bridge_anna%3Aexample.org"
    mxc = create(server, token="as_token", path=CREATE + puppet)
    put(server, mxc, b"x", token="as_token").is_error(403, "M_FORBIDDEN")  # the bridge itself is someone else
    target = LEGACY + "/upload/" + mxc.removeprefix("mxc://") + puppet
    assert request(server, "PUT", target, token="as_token", body=b"annas").status == 200
    request(server, "POST", CREATE + "?user_id=%40alice%3Aexample.org", token="as_token").is_error(403, "M_FORBIDDEN")
    assert ("as_token", "@bridge_anna:example.org") in homeserver.asked


def test_an_answer_is_asked_for_once(asking, homeserver):
    server = asking()
    homeserver.knows(TOKEN, "@carol:example.org")
    for _ in range(5):
        assert request(server, "POST", CREATE, token=TOKEN).status == 200
    assert len(homeserver.asked) == 1


def test_many_at_once_ask_once(asking, homeserver):
    server = asking()
    homeserver.knows(TOKEN, "@carol:example.org")
    homeserver.hold()
    import threading
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(request(server, "POST", CREATE, token=TOKEN).status))
               for _ in range(20)]
    for thread in threads:
        thread.start()
    server.wait_metric("sluice_connections", 20)
    wait_until(lambda: homeserver.asked, "the question")
    time.sleep(0.1)  # whoever would ask a second time has had the time to
    homeserver.release()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20
    assert len(homeserver.asked) == 1


def test_who_gives_up_does_not_take_the_others_along(asking, homeserver):
    """Joiners of one question do not inherit the fate of the first who asked it."""
    from client import Wire, request_bytes
    server = asking()
    homeserver.knows(TOKEN, "@carol:example.org")
    homeserver.hold()
    first, second = Wire(server), Wire(server)
    first.send(request_bytes("POST", CREATE, token=TOKEN))
    wait_until(lambda: homeserver.asked, "the question")
    second.send(request_bytes("POST", CREATE, token=TOKEN))
    first.reset()
    homeserver.release()
    assert second.read_response().status == 200


def test_an_answer_is_believed_for_a_bounded_time(asking, homeserver):
    server = asking(cache_age="500ms")
    homeserver.knows(TOKEN, "@carol:example.org")
    assert request(server, "POST", CREATE, token=TOKEN).status == 200
    homeserver.refuses(TOKEN, 401, "M_UNKNOWN_TOKEN")  # revoked
    began = time.monotonic()
    wait_until(lambda: request(server, "POST", CREATE, token=TOKEN).status == 401, "the revocation to arrive",
               timeout=5)
    assert time.monotonic() - began < seconds(2)
    assert len(homeserver.asked) >= 2


def test_a_refusal_is_remembered_shortly(asking, homeserver):
    server = asking(refusal_cache_age="500ms")
    for _ in range(5):
        request(server, "POST", CREATE, token=TOKEN).is_error(401, "M_UNKNOWN_TOKEN")
    assert len(homeserver.asked) <= 2
    homeserver.knows(TOKEN, "@carol:example.org")
    wait_until(lambda: request(server, "POST", CREATE, token=TOKEN).status == 200, "the new answer", timeout=5)


def test_a_running_upload_survives_the_end_of_its_answer(asking, homeserver):
    from client import LiveUpload
    server = asking(cache_age="100ms")
    homeserver.knows(TOKEN, "@carol:example.org")
    mxc = create(server, token=TOKEN)
    upload = LiveUpload(server, mxc, length=10, token=TOKEN)
    upload.send(b"01234")
    server.wait_metric("sluice_uploads_running", 1)
    homeserver.refuses(TOKEN, 401, "M_UNKNOWN_TOKEN")
    wait_until(lambda: request(server, "POST", CREATE, token=TOKEN).status == 401, "the revocation to arrive")
    assert upload.finish(b"56789").status == 200


# Several homeservers

@pytest.fixture
def two(start_server):
    return start_server(homeservers=[
        {"server_name": "example.org", "tokens": TOKENS},
        {"server_name": "second.org", "hosts": ["media.second.org"],
         "tokens": [{"token": "tok_second_8812", "user": "@dave:second.org"}]}])


@pytest.mark.parametrize("host",
                         ["second.org", "SECOND.org", "second.org:8448", "media.second.org", "media.second.org:80"])
def test_the_host_picks_the_homeserver(two, host):
    response = request(two, "POST", CREATE, token="tok_second_8812", host=host)
    assert response.json()["content_uri"].startswith("mxc://second.org/")
    request(two, "POST", CREATE, token=ALICE, host=host).is_error(401, "M_UNKNOWN_TOKEN")


@pytest.mark.parametrize("host", ["example.org", "localhost", "unheard.of", "127.0.0.1:8090", "[::1]:80"])
def test_the_first_homeserver_is_the_default(two, host):
    response = request(two, "POST", CREATE, host=host)
    assert response.json()["content_uri"].startswith("mxc://example.org/")
    request(two, "POST", CREATE, token="tok_second_8812", host=host).is_error(401, "M_UNKNOWN_TOKEN")


def test_homeservers_do_not_mix(two):
    mxc = request(two, "POST", CREATE, token="tok_second_8812", host="second.org").json()["content_uri"]
    path = "/upload/" + mxc.removeprefix("mxc://")
    assert request(two, "PUT", LEGACY + path, body=b"x", token=ALICE).status in (403, 404)
    assert request(two, "PUT", LEGACY + path, body=b"x", token="tok_second_8812", host="second.org").status == 200
    download = "/_matrix/client/v1/media/download/" + mxc.removeprefix("mxc://")
    assert request(two, "GET", download, token="tok_second_8812", host="second.org").body == b"x"


def test_parallel_requests_of_many_users_never_mix(asking, homeserver):
    server = asking()
    for n in range(8):
        homeserver.knows(f"user{n}", f"@user{n}:example.org")

    def story(n):
        for turn in range(5):
            body = f"{n}-{turn}".encode() * 100
            mxc = store(server, body, token=f"user{n}")
            assert get(server, mxc, token=f"user{n}").body == body
        return True

    assert all(in_parallel(8, story))
