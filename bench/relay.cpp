// SPDX-License-Identifier: Apache-2.0

// The floor of live streaming: two loopback hops and nothing else. Takes a writer, then a reader, and passes on what
// comes until the writer leaves; then the next two. Prints its port as JSON.

#include "support.h"

using namespace sluice::bench;

int main() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), size) != 0) die_of_errno("bind");
  if (::listen(listener, 16) != 0) die_of_errno("listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  fmt::print("{{\"port\": {}}}\n", ntohs(address.sin_port));
  std::fflush(stdout);

  std::string buffer(256 << 10, '\0');
  for (;;) {
    const int writer = ::accept(listener, nullptr, nullptr);
    const int reader = ::accept(listener, nullptr, nullptr);
    if (writer < 0 || reader < 0) die_of_errno("accept");
    const int on = 1;
    ::setsockopt(reader, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (;;) {
      const ssize_t count = ::recv(writer, buffer.data(), buffer.size(), 0);
      if (count <= 0) break;
      send_all(reader, std::string_view(buffer).substr(0, static_cast<std::size_t>(count)));
    }
    ::close(writer);
    ::close(reader);
  }
}
