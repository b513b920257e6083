# SPDX-License-Identifier: Apache-2.0
"""matrix-nio behind the line protocol of driver.py. It knows no asynchronous uploads."""

import asyncio
import contextlib
import os
from pathlib import Path

from lines import obey_lines, say
from nio import AsyncClient, AsyncClientConfig, ErrorResponse


class Refused(Exception):
    """nio returns errors instead of raising them."""

    def __init__(self, response):
        super().__init__(str(response))
        self.errcode = response.status_code  # nio's name for the errcode
        self.status = response.transport_response.status


def checked(response):
    if isinstance(response, ErrorResponse):
        raise Refused(response)
    return response


async def tell_first_byte(path):
    """nio streams to a file; when there is something in it, it has begun."""
    while not (path.exists() and path.stat().st_size):
        await asyncio.sleep(0.01)
    say({"event": "first_byte"})


class Verbs:
    def __init__(self, client):
        self.client = client

    async def upload(self, file, name, type):
        response, _ = await self.client.upload(lambda *_: file, content_type=type, filename=name,
                                               filesize=os.path.getsize(file))
        return {"mxc": checked(response).content_uri}

    async def download(self, mxc, to):
        watcher = asyncio.create_task(tell_first_byte(Path(to)))
        try:
            response = checked(await self.client.download(mxc, save_to=to))
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        in_memory = isinstance(response.body, bytes)  # as it keeps JSON files, whatever was asked
        if in_memory:
            Path(to).write_bytes(response.body)
        return {"type": response.content_type, "name": response.filename, "in_memory": in_memory}

    async def config(self):
        return {"max": checked(await self.client.content_repository_config()).upload_size}


def told(error):
    return {"status": getattr(error, "status", None), "errcode": getattr(error, "errcode", None)}


async def main():
    retries = {"max_limit_exceeded": 0, "max_timeouts": 0} if "NO_RETRIES" in os.environ else {}
    client = AsyncClient(os.environ["HOMESERVER"], os.environ["USER_ID"], os.environ["DEVICE_ID"],
                         config=AsyncClientConfig(**retries))
    client.access_token = os.environ["ACCESS_TOKEN"]
    client.user_id = os.environ["USER_ID"]
    verbs = Verbs(client)
    await obey_lines({name: getattr(verbs, name) for name in ("upload", "download", "config")}, told)
    await client.close()


asyncio.run(main())
