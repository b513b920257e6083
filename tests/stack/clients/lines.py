# SPDX-License-Identifier: Apache-2.0
"""The Python clients' side of the line protocol (driver.py): a command per line in, an answer per line out."""

import asyncio
import json
import sys


def say(message):
    print(json.dumps(message), flush=True)


async def obey_lines(verbs, told):
    """`verbs` has a coroutine function for each command; `told` knows the library's exceptions."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        verb = verbs.get(command.pop("do"))
        try:
            say(await verb(**command) if verb else {"unsupported": True})
        except Exception as error:  # whatever the library raises is the answer
            say({"error": {"message": f"{type(error).__name__}: {error}", **told(error)}})
