# SPDX-License-Identifier: Apache-2.0
"""mautrix (Python) behind the line protocol of driver.py."""

import asyncio
import os
from pathlib import Path

from aiohttp import ClientSession
from lines import obey_lines
from mautrix.client import Client
from mautrix.errors import MatrixResponseError


async def pieces(path):
    """A body of unknown length; `path` may be a pipe that somebody still writes to."""
    with open(path, "rb", buffering=0) as file:
        while piece := await asyncio.to_thread(file.read, 1 << 16):
            yield piece


class Verbs:
    def __init__(self, client):
        self.client = client

    async def upload(self, file, name, type):
        mxc = await self.client.upload_media(Path(file).read_bytes(), mime_type=type, filename=name)
        return {"mxc": mxc}

    async def create(self):
        return {"mxc": (await self.client.create_mxc()).content_uri}

    async def fill(self, mxc, file, name, type):
        try:
            await self.client.upload_media(pieces(file), mime_type=type, filename=name, mxc=mxc)
        except MatrixResponseError as error:
            # It looks for a content_uri where the specification answers {}: the upload has succeeded.
            return {"complaint": str(error)}
        return {}

    async def download(self, mxc, to):
        Path(to).write_bytes(await self.client.download_media(mxc))
        return {}

    async def config(self):
        return {"max": (await self.client.get_media_repo_config()).upload_size}


def told(error):
    """MatrixRequestError from uploads, aiohttp's own exceptions from downloads."""
    return {"status": getattr(error, "http_status", getattr(error, "status", None)),
            "errcode": getattr(error, "errcode", None)}


async def main():
    async with ClientSession() as session:
        client = Client(mxid=os.environ["USER_ID"], device_id=os.environ["DEVICE_ID"],
                        base_url=os.environ["HOMESERVER"], token=os.environ["ACCESS_TOKEN"], client_session=session)
        verbs = Verbs(client)
        await obey_lines({name: getattr(verbs, name) for name in ("upload", "create", "fill", "download", "config")},
                         told)


asyncio.run(main())
