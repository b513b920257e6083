# SPDX-License-Identifier: Apache-2.0
"""A bridge and a user at the other end, in libraries that real bridges and clients use.

Twenty messages arrive from a remote network, one after another; three of them are large files on a slow link. The
bridge (mautrix, as an application service) carries them into a room; a user (matrix-nio) sees them there and downloads
the files. Everything passes through the reverse proxy. Three ways to upload are measured:

    live      the bridge creates an mxc URI, sends the event at once, uploads in the background (the library's own
              async_upload)
    in_order  the bridge uploads before it sends, one message after the other: the only plain way that keeps the order
    parallel  the bridge uploads each file before it sends its event, but lets later messages overtake
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from mautrix.appservice import AppService
from mautrix.appservice.state_store.file import FileASStateStore
from mautrix.types import FileInfo, MediaMessageEventContent, MessageType, TextMessageEventContent, UserID
from nio import AsyncClient, AsyncClientConfig, DiskDownloadResponse, RoomMessage, RoomMessageMedia

from harness import seconds

MESSAGES = 20
LARGE = (2, 7, 13)  # which of them are files
MESSAGE_INTERVAL_SECONDS = 0.1
FILE_BYTES = 6_000_000
LINK_BYTES_PER_SECOND = 1_500_000  # of each file: a phone's upload, a slow remote server
SLICE_BYTES = 30_000

WAYS = ("live", "in_order", "parallel")


def file_content(number):
    """Different for each message, and no two slices alike."""
    seed = hashlib.sha256(b"file %d" % number).digest()
    return b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range(FILE_BYTES // 32 + 1))[
        :FILE_BYTES]


async def remote_file(number, may_end):
    """The bytes of a file, as fast as the remote network has them; the last of them not before it may end."""
    content, began = file_content(number), time.monotonic()
    for at in range(0, len(content), SLICE_BYTES):
        await asyncio.sleep(began + at / LINK_BYTES_PER_SECOND - time.monotonic())
        if at + SLICE_BYTES >= len(content):
            await may_end.wait()
        yield content[at:at + SLICE_BYTES]


@dataclass
class Message:
    """What became of one message; times in seconds since the first one arrived at the bridge."""

    number: int
    arrived: float = 0
    uploaded: float | None = None  # files only, from here on; their last byte left the bridge
    seen: float | None = None  # at the user, as are those that follow
    first_byte: float | None = None
    downloaded: float | None = None
    digest: str | None = None


@dataclass
class Run:
    way: str
    messages: list
    order: list = field(default_factory=list)  # numbers, as the user saw them

    @property
    def files(self):
        return [self.messages[number] for number in LARGE]

    @property
    def out_of_place(self):
        """How many messages stand behind one that came after them."""
        return sum(any(later > number for later in self.order[:at]) for at, number in enumerate(self.order))

    @property
    def last_seen(self):
        return max(message.seen for message in self.messages)

    @property
    def last_downloaded(self):
        return max(message.downloaded for message in self.files)

    @property
    def first_uploaded(self):
        return min(message.uploaded for message in self.files)


class Bridge:
    """The remote friend is a ghost; what it says is sent by the library's own calls."""

    def __init__(self, stack, directory, may_end):
        self.stack = stack
        self.may_end = may_end
        log = logging.getLogger("mau")
        log.setLevel(logging.ERROR)
        self.service = AppService(
            server=stack.url, domain=stack.server_name, as_token=stack.bridge.as_token,
            hs_token=stack.bridge.hs_token, bot_localpart="bridge", id="bridge", log=log,
            state_store=FileASStateStore(path=str(Path(directory) / "mx-state.json"), binary=False))
        self.friend = None
        self.room = None

    async def start(self):
        await self.service.start("127.0.0.1", self.stack.bridge.port)

    async def invite(self, user_id):
        self.friend = self.service.intent.user(UserID(f"@bridge_friend:{self.stack.server_name}"))
        self.room = await self.friend.create_room(invitees=[UserID(user_id)])

    async def stop(self):
        await self.service.stop()

    async def carry(self, way, run, now):
        """Takes the messages as they arrive; ends when all of them are sent."""
        tasks = []
        for message in run.messages:
            message.arrived = message.number * MESSAGE_INTERVAL_SECONDS  # whether or not the bridge is ready for it
            await asyncio.sleep(message.arrived - now())
            if message.number not in LARGE:
                await self._send(message, None)
            elif way == "live":
                await self._send(message, await self._upload(message, now, async_upload=True))
            elif way == "in_order":
                await self._send(message, await self._upload(message, now))
            else:
                tasks.append(asyncio.create_task(self._upload_then_send(message, now)))
        await asyncio.gather(*tasks)

    async def _upload_then_send(self, message, now):
        await self._send(message, await self._upload(message, now))

    async def _upload(self, message, now, **options):
        async def content():
            async for piece in remote_file(message.number, self.may_end):
                yield piece
            message.uploaded = now()

        return await self.friend.upload_media(content(), mime_type="application/octet-stream",
                                              filename=f"{message.number}.bin", size=FILE_BYTES, **options)

    async def _send(self, message, mxc):
        if mxc is None:
            content = TextMessageEventContent(msgtype=MessageType.TEXT, body=str(message.number))
        else:
            content = MediaMessageEventContent(
                msgtype=MessageType.FILE, body=str(message.number), url=mxc,
                info=FileInfo(mimetype="application/octet-stream", size=FILE_BYTES))
        await self.friend.send_message(self.room, content)


class Watcher:
    """Syncs, notes what it sees and downloads every file as soon as it sees its event."""

    def __init__(self, stack, user, directory, may_end):
        self.directory = Path(directory)
        self.may_end = may_end
        self.client = AsyncClient(stack.url, user.user_id, device_id=user.device_id,
                                  config=AsyncClientConfig(encryption_enabled=False, store_sync_tokens=False))
        self.client.access_token = user.access_token
        self.downloads = []

    async def join(self, room):
        await self.client.sync(timeout=0)
        await self.client.join(room)
        await self.client.sync(timeout=0)

    async def watch(self, run, now):
        """Ends when all the messages were seen and all the files are there."""

        async def note(_, event):
            message = run.messages[int(event.body)]
            message.seen = now()
            run.order.append(message.number)
            if isinstance(event, RoomMessageMedia):
                self.downloads.append(asyncio.create_task(self._download(run, message, event.url, now)))
            self._look_whether_all_has_begun(run)

        self.client.add_event_callback(note, RoomMessage)
        while len(run.order) < MESSAGES:
            await self.client.sync(timeout=5000)
        await asyncio.gather(*self.downloads)

    def _look_whether_all_has_begun(self, run):
        if len(run.order) == MESSAGES and all(message.first_byte is not None for message in run.files):
            self.may_end.set()

    async def _download(self, run, message, mxc, now):
        path = self.directory / f"{message.number}.bin"
        looking = asyncio.create_task(self._note_first_byte(run, message, path, now))
        try:
            answer = await self.client.download(mxc, save_to=path)
            message.downloaded = now()
            await looking
        finally:
            looking.cancel()
        assert isinstance(answer, DiskDownloadResponse), answer
        message.digest = hashlib.sha256(path.read_bytes()).hexdigest()

    async def _note_first_byte(self, run, message, path, now):
        while not (path.exists() and path.stat().st_size):
            await asyncio.sleep(0.005)
        message.first_byte = now()
        self._look_whether_all_has_begun(run)

    async def close(self):
        await self.client.close()


async def _run(stack, way, user, directory, holds_ends):
    may_end = asyncio.Event()
    if not holds_ends:
        may_end.set()
    run = Run(way, [Message(number) for number in range(MESSAGES)])
    async with contextlib.AsyncExitStack() as at_the_end:
        bridge = Bridge(stack, directory, may_end)
        await bridge.start()
        at_the_end.push_async_callback(bridge.stop)
        watcher = Watcher(stack, user, directory, may_end)
        at_the_end.push_async_callback(watcher.close)
        await bridge.invite(user.user_id)
        await watcher.join(bridge.room)
        began = time.monotonic()

        def now():
            return time.monotonic() - began

        async with asyncio.timeout(seconds(90)), asyncio.TaskGroup() as group:
            group.create_task(watcher.watch(run, now))
            group.create_task(bridge.carry(way, run, now))
    return run


def run_bridge(stack, way, user, directory, holds_ends=False):
    """One run; the files are in `directory` afterwards.

    With `holds_ends` no file comes to its end before the user has seen all messages and the first byte of each file. A
    run that ends has shown then that nobody waits for a file; its times say nothing.
    """
    Path(directory).mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(stack, way, user, directory, holds_ends))
