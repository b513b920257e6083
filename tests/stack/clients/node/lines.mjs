// SPDX-License-Identifier: Apache-2.0
// The node clients' side of the line protocol (../driver.py): a command per line in, an answer per line out.

import { createInterface } from "node:readline";

export function say(message) {
    process.stdout.write(JSON.stringify(message) + "\n");
}

/** `verbs` maps a command's name to what carries it out; `told` makes status, errcode and message of an error. */
export async function obeyLines(verbs, told) {
    for await (const line of createInterface({ input: process.stdin })) {
        const command = JSON.parse(line);
        const verb = verbs[command.do];
        try {
            say(verb ? await verb(command) : { unsupported: true });
        } catch (error) {
            say({ error: told(error) });
        }
    }
    process.exit(0); // libraries keep connections open
}
