// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/temporary_directory_test.h"

namespace sluice::thumbnails {

/// A program that speaks as a worker does (job.h), and does what the first word of its source says: "make TEXT" makes
/// a thumbnail of TEXT that also names the size; "serve" leaves the original; others are below. It notes each job in a
/// file.
class WorkerDouble {
 public:
  explicit WorkerDouble(std::string_view layers = "15", std::string_view version = "1") {
    std::ofstream(program()) << "#!/usr/bin/python3\nLAYERS, VERSION, NOTES = " << layers << ", " << version << ", '"
                             << notes() << "'\n"
                             << kScript;
    std::filesystem::permissions(program(), std::filesystem::perms::owner_all);
  }

  std::string program() const { return directory_ / "worker"; }
  /// What was done: a line for each job, "<process> <kind> <first word>".
  std::vector<std::string> jobs() const {
    std::ifstream file(notes());
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

 private:
  static constexpr std::string_view kScript = R"python(
import os, signal, socket, struct, time
JOB, REPLY = "=BBBBIIIQ", "=BBBBIIII4xQQ48s"
MADE, ORIGINAL, DESCRIBED, UNSUPPORTED, BROKEN, TOO_MANY_PIXELS = range(6)
JPEG, PNG = 1, 2
server = socket.socket(fileno=3)
server.send(struct.pack("=II", VERSION, LAYERS))
while True:
    message, descriptors, _, _ = socket.recv_fds(server, 64, 2)
    if not message:
        break
    kind, method, animated, _, width, height, frames, pixels = struct.unpack(JOB, message)
    source, result = descriptors
    words = os.read(source, 1000).decode().split(" ", 1)
    with open(NOTES, "a") as notes:
        notes.write("%d %d %s\n" % (os.getpid(), kind, words[0]))
    def reply(outcome, picture=b"", shape=JPEG, promised=JPEG, blurhash=b""):
        if picture:
            os.write(result, {JPEG: b"\xff\xd8\xff\xe0", PNG: b"\x89PNG\r\n\x1a\n", 0: b""}[shape] + picture)
        server.send(struct.pack(REPLY, outcome, promised, JPEG, 0, width, height, 640, 480, 1500, len(picture), blurhash))
    if kind == 1:
        reply(DESCRIBED if words[0] != "text" else UNSUPPORTED, blurhash=b"LEHV6nWB2yk8pyo0adR*.7kCMdnj")
    elif words[0] == "make":
        reply(MADE, b"%dx%d%s%s of %s" % (width, height, b" crop" if method else b"", b" animated" if animated else b"", words[1].encode()))
    elif words[0] == "serve":
        reply(ORIGINAL, promised=PNG)
    elif words[0] == "text":
        reply(UNSUPPORTED)
    elif words[0] == "broken":
        reply(BROKEN)
    elif words[0] == "large":
        reply(TOO_MANY_PIXELS)
    elif words[0] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif words[0] == "spin":
        while True:
            pass
    elif words[0] == "hang":
        time.sleep(3600)
    elif words[0] == "lie":  # about the format
        reply(MADE, b"<script>alert(1)</script>", shape=0)
    elif words[0] == "babble":
        server.send(b"?" * 88)
    elif words[0] == "keep":  # a mapping, to change the picture later
        import mmap
        os.ftruncate(result, 4096)
        kept = mmap.mmap(result, 4096)
        reply(MADE, b"picture")
    for descriptor in descriptors:
        if words[0] != "keep":
            os.close(descriptor)
)python";

  std::string notes() const { return directory_ / "notes"; }

  const TemporaryDirectory directory_;
};

}  // namespace sluice::thumbnails
