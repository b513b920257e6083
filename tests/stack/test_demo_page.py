# SPDX-License-Identifier: Apache-2.0
"""The demo page in Chromium. Its screenshots go to the folder that STACK_SCREENSHOTS names."""

import base64
import os
import random
import re
import struct
import urllib.parse
import zlib
from pathlib import Path

import pytest
from browsing import chromium, other_origin, tabs, video_file  # noqa: F401  (fixtures)
from browsing import keep_figures, needs_chromium, try_to_run
from client import AUTHED, create, download_path, get, put
from harness import wait_until
from playwright.sync_api import expect

DEMO = "/_sluice/demo"
SLOW_BYTES_PER_SECOND = 120_000  # so that there is time to look; set free when it has been looked at
UNICODE_NAME = "Ferien – été 海 🏖.bin"

pytestmark = needs_chromium


@pytest.fixture
def screenshot(tmp_path):
    folder = Path(os.environ.get("STACK_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png", full_page=True)


def sign_in(tabs, url, user, fragment="", **options):
    """A page of the demo with the token given as the welcome text gives it."""
    token = urllib.parse.quote(user.access_token, safe="")
    page = tabs.open(f"{url}{DEMO}#token={token}{fragment}", **options)
    wait_until(lambda: user.access_token not in page.evaluate("location.href"), "the token to leave the address")
    return page


class Uplink:
    """What the page sends goes at this pace."""

    def __init__(self, page, bytes_per_second=SLOW_BYTES_PER_SECOND):
        self.session = page.context.new_cdp_session(page)
        self.session.send("Network.enable")
        self.set(bytes_per_second)

    def set(self, bytes_per_second):
        self.session.send("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second})

    def free(self):
        self.set(-1)


def drop(page, name, content_type, content):
    """As a hand does it: the file comes with a drop event. Returns the link to share and the mxc URI."""
    transfer = page.evaluate_handle("""async ({name, type, base64}) => {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, {type}));
        return transfer;
    }""", {"name": name, "type": content_type, "base64": base64.b64encode(content).decode()})
    page.locator("#drop").wait_for()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    return link_of(page)


def link_of(page):
    page.locator("#share").wait_for()
    return page.input_value("#share"), page.inner_text("#mxc")


def points(page, series):
    """The points of a curve, in pixels from the upper left."""
    line = page.locator(f"#timeline polyline.{series}")
    text = line.get_attribute("points") if line.count() else ""
    return [tuple(map(float, point.split(","))) for point in text.split()]


def figures(page):
    """Label to seconds, as the page tells them."""
    labels = page.locator("#figures dt").all_inner_texts()
    values = page.locator("#figures dd").all_inner_texts()
    return {label: float(value.removesuffix(" s")) for label, value in zip(labels, values)}


def is_a_curve(page, series, at_least=4):
    line = points(page, series)
    assert len(line) >= at_least, f"{series}: {line}"
    assert line == sorted(line), f"{series} goes back in time: {line}"
    assert all(before[1] >= after[1] for before, after in zip(line, line[1:])), f"{series} loses bytes: {line}"


def saved(page):
    """What the page offers to save, and under which name."""
    page.locator("#save").wait_for()
    with page.expect_download() as download:
        page.click("#save")
    return Path(download.value.path()).read_bytes(), download.value.suggested_filename


def picture():
    """A PNG of 1.4 MB that no compression makes smaller."""
    width, height = 800, 600
    noise = random.Random(7)
    rows = b"".join(b"\0" + noise.randbytes(3 * width) for _ in range(height))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_the_page_shows_both_ends_of_a_transfer(stack, tabs, screenshot):
    sender = sign_in(tabs, stack.url, stack.user("brenda"))
    link_speed = Uplink(sender)
    content = random.Random(1).randbytes(1_500_000)
    link, mxc = drop(sender, UNICODE_NAME, "application/octet-stream", content)
    assert link == f"{stack.url}{DEMO}#mxc={mxc}"

    # Somebody else, who has only the link, and a token of their own.
    reader = tabs.open(link, color_scheme="dark")
    reader.fill("#token", stack.user("carol").access_token)
    reader.click("#token-form button")
    expect(reader.locator("#receive-state")).to_contain_text("Receiving")
    wait_until(lambda: len(points(reader, "here")) > 5, "a curve")
    expect(sender.locator("#send-state")).to_contain_text("Sending")
    assert get(stack, mxc, "HEAD", token=stack.user("carol").access_token).header("Cache-Control") == "private, no-cache"
    expect(reader.locator("#save")).to_be_hidden()
    screenshot(sender, "sending-light")
    screenshot(reader, "receiving-dark")

    link_speed.free()
    expect(sender.locator("#send-state")).to_have_text(re.compile("safely stored"))
    assert saved(reader) == (content, UNICODE_NAME)
    for page, series in ((sender, ("sent", "server")), (reader, ("server", "here"))):
        for name in series:
            wait_until(lambda page=page, name=name: len(points(page, name)) > 3, f"the curve {name}")
            is_a_curve(page, name)
    told, heard = figures(sender), figures(reader)
    assert told["link made"] <= told["first byte at the server"] < told["stored by the server"]
    assert heard["first byte here"] < heard["all received"]
    screenshot(sender, "sent-light")
    screenshot(reader, "received-dark")
    assert reader.url == link
    with sender.context.expect_page() as tab:
        sender.click("#open-tab")
    assert saved(tab.value) == (content, UNICODE_NAME), "a tab that it opens has its token"
    keep_figures("demo page, binary", {"sender": told, "reader": heard})


def test_the_page_plays_a_video_while_it_is_sent(stack, tabs, video_file, screenshot):
    """The service worker adds the token to the player's requests, ranges and all."""
    user = stack.user("brenda")
    sender = sign_in(tabs, stack.url, user)
    link_speed = Uplink(sender, 600_000)
    data = video_file("mp4")
    sender.locator("#drop").wait_for()
    sender.set_input_files("#file", files=[{"name": "holiday.mp4", "mimeType": "video/mp4", "buffer": data}])
    link, mxc = link_of(sender)
    reader = sign_in(tabs, stack.url, user, "&mxc=" + mxc, viewport={"width": 412, "height": 900})
    assert reader.url == link
    requests = []
    reader.on("request", lambda request: requests.append(request))
    expect(reader.locator("#figures")).to_contain_text("first frame")
    expect(sender.locator("#send-state")).to_contain_text("Sending")
    screenshot(reader, "video-phone")
    link_speed.free()
    assert saved(reader) == (data, "holiday.mp4")
    heard = figures(reader)
    assert heard["first frame"] < heard["all received"]
    # Sought to the end, with the token still in no address.
    reader.evaluate("""() => new Promise((resolve) => {
        const video = document.querySelector('#viewer video');
        video.requestVideoFrameCallback(function look(now, {mediaTime}) {
            if (mediaTime > 5.5) resolve();
            else video.requestVideoFrameCallback(look);
        });
        video.pause();
        video.currentTime = 5.8;
    })""")
    assert requests
    assert not [request.url for request in requests if user.access_token in request.url]
    screenshot(reader, "video-phone-end")
    keep_figures("demo page, video", {"reader": heard})


def test_the_page_shows_a_text_and_a_picture_while_they_arrive(stack, tabs, screenshot):
    user = stack.user("brenda")
    sender = sign_in(tabs, stack.url, user, color_scheme="dark")
    link_speed = Uplink(sender)
    text = "".join(f"Zeile {number}: Grüße aus München 🥨\n" for number in range(30000))
    _, mxc = drop(sender, "Grüße.txt", "text/plain", text.encode())
    sender.click("#follow")  # in the same page: one timeline for all
    expect(sender.locator("#viewer pre")).to_contain_text("Zeile 99: Grüße aus München 🥨\n")
    expect(sender.locator("#send-state")).to_contain_text("Sending")
    screenshot(sender, "text-dark")
    link_speed.free()
    assert saved(sender) == (text.encode(), "Grüße.txt")
    for name in ("sent", "server", "here"):
        is_a_curve(sender, name, at_least=2)

    sender.click("#send-another")
    Uplink(sender).free()
    content = picture()
    _, mxc = drop(sender, "picture.png", "image/png", content)
    reader = sign_in(tabs, stack.url, user, "&mxc=" + mxc)
    expect(reader.locator("#figures")).to_contain_text("whole picture")
    assert reader.evaluate("document.querySelector('#viewer img').naturalWidth") == 800
    assert saved(reader) == (content, "picture.png")
    screenshot(reader, "picture-light")


def test_the_page_shows_a_cancelled_upload_as_broken(stack, tabs, screenshot):
    user = stack.user("brenda")
    sender = sign_in(tabs, stack.url, user)
    link_speed = Uplink(sender)
    content = random.Random(2).randbytes(1_500_000)
    _, mxc = drop(sender, "broken.bin", "", content)
    reader = sign_in(tabs, stack.url, user, "&mxc=" + mxc, color_scheme="dark")
    expect(reader.locator("#receive-state")).to_contain_text("Receiving")
    wait_until(lambda: len(points(reader, "here")) > 2, "a curve")
    sender.click("#cancel")
    expect(sender.locator("#send-state")).to_contain_text("You cancelled the upload")
    expect(reader.locator("#receive-state")).to_contain_text("The upload broke off after")
    expect(reader.locator("#save")).to_be_hidden()
    assert "broken off" in figures(reader)
    screenshot(sender, "cancelled-light")
    screenshot(reader, "broken-dark")

    # The id is still there to be filled, and to be waited for.
    reader.click("#receive-again")
    expect(reader.locator("#receive-state")).to_contain_text("Waiting for the upload")
    link_speed.free()
    sender.click("#send-again")
    assert saved(reader) == (content, "broken.bin")


def test_the_page_tells_what_the_server_refuses(start_sluice, stack, tabs, tmp_path, screenshot):
    sluice = start_sluice(demo=True, uploads={"max_size": "1MiB", "max_pending_per_user": 1})
    user = stack.user("brenda")
    page = tabs.open(sluice.url + DEMO)
    screenshot(page, "token-light")
    page.fill("#token", "not a token")
    page.click("#token-form button")
    expect(page.locator("#notices")).to_contain_text("M_UNKNOWN_TOKEN")
    screenshot(page, "wrong-token-light")
    page.fill("#token", user.access_token)
    page.click("#token-form button")
    expect(page.locator("#limit")).to_contain_text("1 MiB")
    expect(page.locator("#notices")).to_be_empty()

    big = tmp_path / "big.bin"
    big.write_bytes(bytes((1 << 20) + 1))
    page.set_input_files("#file", big)
    expect(page.locator("#notices")).to_contain_text("M_TOO_LARGE")
    screenshot(page, "too-large-light")

    create(sluice, token=user.access_token)  # the one that may be pending
    page.set_input_files("#file", files=[{"name": "a", "mimeType": "", "buffer": b"a"}])
    expect(page.locator("#notices")).to_contain_text("M_LIMIT_EXCEEDED")

    page.goto(f"{sluice.url}{DEMO}#mxc=mxc://{stack.server_name}/nosuchmedia")
    expect(page.locator("#receive-state")).to_contain_text("M_NOT_FOUND")


def test_the_page_takes_no_other_path_for_an_mxc_uri(stack, tabs):
    """What is no server name or no media id is asked for nowhere: as a path it could lead elsewhere."""
    page = sign_in(tabs, stack.url, stack.user("brenda"))
    page.locator("#drop").wait_for()
    asked = []
    for uri in ("http://example.org/", "mxc://../config", "mxc://%2e%2e/config", "mxc://./config", "mxc://..:80/config",
                "mxc://example.org/..", "mxc://example.org/a/b", "mxc://example.org", "mxc://a@b/c", "mxc://[::1/a",
                "mxc://example.org:/a", "mxc://example.org/a.b", "mxc://example.org\\a/b"):
        page.goto("about:blank")
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{stack.url}{DEMO}#mxc={urllib.parse.quote(uri, safe='')}")
        expect(page.locator("#receive-state")).to_have_text(f"This is no mxc URI: {uri}")
    assert not [url for url in asked if "/download/" in url or "/progress/" in url]
    limits = {url for url in asked if "/_matrix/" in url}
    assert limits == {f"{stack.url}/_matrix/client/v1/media/config"}, "only what the page asks for itself"
    for uri in ("mxc://example.org:8448/a_B-1", "mxc://[2001:db8::1]:80/a", "mxc://192.0.2.1/a"):
        page.goto("about:blank")
        page.goto(f"{stack.url}{DEMO}#mxc={urllib.parse.quote(uri, safe='')}")
        expect(page.locator("#receive-state")).to_contain_text("M_NOT_FOUND")


# ---- who one is ----

SIGNED_IN_BY_LINK = "This link signed you in"
LINK_WAS_NOT_TAKEN = "brought another token"


def kept_token(page):
    return page.evaluate("sessionStorage.getItem('sluice-demo-token')")


def test_the_page_says_that_a_link_signed_one_in(stack, tabs, screenshot):
    user = stack.user("brenda")
    page = sign_in(tabs, stack.url, user)
    notice = page.locator("#link-notice")
    expect(notice).to_contain_text(SIGNED_IN_BY_LINK)
    screenshot(page, "signed-in-by-link-light")
    page.set_input_files("#file", files=[{"name": "a", "mimeType": "", "buffer": b"a"}])
    expect(page.locator("#send-state")).to_have_text(re.compile("safely stored"))
    expect(notice).to_contain_text(SIGNED_IN_BY_LINK)
    page.click("#send-another")  # a page of its own, which knows no link any more
    page.locator("#drop").wait_for()
    expect(notice).to_contain_text(SIGNED_IN_BY_LINK)

    page.click("#change-token")
    page.fill("#token", user.access_token)
    page.click("#token-form button")
    page.locator("#drop").wait_for()
    expect(notice).to_be_hidden()


def test_a_link_does_not_replace_a_token(stack, tabs, screenshot):
    mine, others = stack.user("brenda").access_token, stack.user("carol").access_token
    link = f"{stack.url}{DEMO}#token={urllib.parse.quote(others, safe='')}"
    page = tabs.open(stack.url + DEMO)
    page.fill("#token", mine)
    page.click("#token-form button")
    page.locator("#drop").wait_for()
    notice = page.locator("#link-notice")
    expect(notice).to_be_hidden()

    page.goto(link)  # in the page that is there: only the fragment changes
    expect(page.locator("#notices")).to_contain_text("not taken")
    assert page.url == stack.url + DEMO
    assert kept_token(page) == mine
    page.goto(f"{link}&mxc=mxc://{stack.server_name}/nosuchmedia")
    expect(page.locator("#receive-state")).to_contain_text("M_NOT_FOUND")
    assert page.url == f"{stack.url}{DEMO}#mxc=mxc://{stack.server_name}/nosuchmedia"
    assert kept_token(page) == mine

    page.goto("about:blank")
    page.goto(link)
    expect(notice).to_contain_text(LINK_WAS_NOT_TAKEN)
    assert page.url == stack.url + DEMO
    assert kept_token(page) == mine
    screenshot(page, "link-not-taken-light")
    notice.get_by_role("button").click()
    expect(notice).to_contain_text(SIGNED_IN_BY_LINK)
    assert kept_token(page) == others


def test_who_opened_the_page_cannot_steer_it(stack, tabs, other_origin):
    """A page of another origin keeps no handle of the demo that it opens: it could give it a token later."""
    mine, others = stack.user("brenda").access_token, stack.user("carol").access_token
    opener = tabs.open(f"{other_origin}/player.html")
    with opener.expect_popup() as opened:
        opener.evaluate("address => { window.opened = window.open(address); }", stack.url + DEMO)
    page = opened.value
    page.fill("#token", mine)
    page.click("#token-form button")
    page.locator("#drop").wait_for()
    assert page.evaluate("window.opener") is None
    assert opener.evaluate("window.opened.closed")
    opener.evaluate("address => { window.opened.location = address; }", f"{stack.url}{DEMO}#token={others}")
    page.reload()
    page.locator("#drop").wait_for()
    assert (page.url, kept_token(page)) == (stack.url + DEMO, mine)


def test_the_page_runs_no_media(stack, tabs):
    """An upload is of the page's own origin: as a module or a worker it would be the page. Not even from the cache."""
    user = stack.user("brenda")
    mxc = create(stack, token=user.access_token)
    script = b"self.hasRun = true; self.postMessage?.(1); self.onconnect = (event) => event.ports[0].postMessage(1);"
    put(stack, mxc, script, token=user.access_token, content_type="text/javascript")
    page = sign_in(tabs, stack.url, user)
    page.locator("#drop").wait_for()
    address = download_path(mxc, AUTHED, access_token=user.access_token)
    ways = ["import", "script", "worker", "sharedworker", "style", "serviceworker"]
    assert try_to_run(page, address, ways) == {"fetch": 200, "hasRun": False, **dict.fromkeys(ways, "refused")}
    scopes = page.evaluate("navigator.serviceWorker.getRegistrations().then((all) => all.map(({scope}) => scope))")
    assert scopes == [stack.url + DEMO]


def test_the_page_does_without_a_service_worker(stack, tabs, screenshot):
    """From an address that is no secure context: the token goes into the address of the picture, and the page says so."""
    user, content = stack.user("brenda"), picture()
    mxc = create(stack, token=user.access_token)
    put(stack, mxc, content, token=user.access_token, content_type="image/png", filename="picture.png")
    page = sign_in(tabs, stack.url.replace("127.0.0.1", "elsewhere.test"), user, "&mxc=" + mxc)
    expect(page.locator("#figures")).to_contain_text("whole picture")
    expect(page.locator("#notices")).to_contain_text("no service worker")
    assert saved(page) == (content, "picture.png")
    screenshot(page, "no-worker-light")
    assert user.access_token not in stack.sluice.log()
