// SPDX-License-Identifier: Apache-2.0
// matrix-bot-sdk behind the line protocol of ../driver.py. It has no asynchronous uploads and no streams.

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { obeyLines } from "./lines.mjs";

// The library loads its native crypto part as soon as it is imported, and that part is downloaded when it is installed.
// There is no crypto here, so an empty module stands in its place.
const require = createRequire(import.meta.url);
const crypto = require.resolve("@matrix-org/matrix-sdk-crypto-nodejs");
require.cache[crypto] = { id: crypto, filename: crypto, loaded: true, exports: {}, children: [], paths: [] };
const { LogLevel, LogService, MatrixClient } = require("matrix-bot-sdk");

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };
LogService.setLogger(silent);
LogService.setLevel(LogLevel.ERROR);
const client = new MatrixClient(process.env.HOMESERVER, process.env.ACCESS_TOKEN);

await obeyLines(
    {
        async upload({ file, name, type }) {
            return { mxc: await client.uploadContent(await readFile(file), type, name) };
        },

        async download({ mxc, to }) {
            const { data, contentType } = await client.downloadContent(mxc);
            await writeFile(to, data);
            return { type: contentType };
        },
    },
    (error) => ({
        // A refused upload is a MatrixError. A refused download is the raw response, its body not parsed.
        status: error.statusCode ?? null,
        errcode: error.errcode ?? null,
        message: error.message ?? String(error.body),
    }),
);
