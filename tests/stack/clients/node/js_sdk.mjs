// SPDX-License-Identifier: Apache-2.0
// matrix-js-sdk behind the line protocol of ../driver.py. It uploads by itself and leaves downloads to the application:
// mxcUrlToHttp and fetch with the token, as Element does.

import { once } from "node:events";
import { createWriteStream, openAsBlob } from "node:fs";

import { createClient, parseErrorResponse } from "matrix-js-sdk";

import { obeyLines, say } from "./lines.mjs";

// In a browser the SDK uploads by XMLHttpRequest, and writes the URL in another way than here.
class LikeABrowser {
    upload = {};
    readyState = 0;
    fields = {};
    open(method, url) {
        Object.assign(this, { method, url });
    }
    setRequestHeader(name, value) {
        this.fields[name] = value;
    }
    async send(body) {
        const response = await fetch(this.url, { method: this.method, headers: this.fields, body });
        this.responseText = await response.text();
        Object.assign(this, { status: response.status, readyState: LikeABrowser.DONE });
        this.onreadystatechange();
    }
    getResponseHeader() {
        return "application/json";
    }
    getAllResponseHeaders() {
        return "";
    }
    static DONE = 4;
}
if (process.env.LIKE_A_BROWSER) {
    globalThis.XMLHttpRequest = LikeABrowser;
}

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };
const token = process.env.ACCESS_TOKEN;
const client = createClient({
    baseUrl: process.env.HOMESERVER,
    userId: process.env.USER_ID,
    deviceId: process.env.DEVICE_ID,
    accessToken: token,
    logger: quiet,
});

await obeyLines(
    {
        async upload({ file, name, type }) {
            const { content_uri } = await client.uploadContent(await openAsBlob(file), { name, type });
            return { mxc: content_uri };
        },

        async download({ mxc, to }) {
            const url = client.mxcUrlToHttp(mxc, undefined, undefined, undefined, false, true, true);
            const response = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
            if (!response.ok) {
                throw parseErrorResponse(response, await response.text());
            }
            const out = createWriteStream(to);
            let begun = false;
            for await (const piece of response.body) {
                if (!begun) {
                    begun = true;
                    say({ event: "first_byte" });
                }
                if (!out.write(piece)) {
                    await once(out, "drain");
                }
            }
            await new Promise((done) => out.end(done));
            return { type: response.headers.get("content-type") };
        },

        async config() {
            return { max: (await client.getMediaConfig(true))["m.upload.size"] };
        },
    },
    (error) => ({
        status: error.httpStatus ?? null,
        errcode: error.errcode ?? null,
        message: `${error.message}: ${error.cause ?? ""}`,
    }),
);
