// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

/// A SHA-256 digest: the name of a content.
struct Sha256Digest {
  std::array<std::byte, 32> bytes{};
  std::string to_hex() const;  // 64 lower-case characters
  /// False, with `out` untouched, unless `hex` is 64 hexadecimal characters.
  static bool from_hex(std::string_view hex, Sha256Digest& out);
  auto operator<=>(const Sha256Digest&) const = default;
};

/// Hashes what it is fed, in order. One thread at a time.
class Sha256Hasher {
 public:
  Sha256Hasher();
  ~Sha256Hasher();
  Sha256Hasher(Sha256Hasher&&) noexcept;
  Sha256Hasher& operator=(Sha256Hasher&&) noexcept;

  void update(std::span<const std::byte> data);
  /// The digest of everything fed so far. Ends the hasher: it may only be destroyed or restarted afterwards.
  Sha256Digest finish();
  /// As if nothing had been fed.
  void restart();

 private:
  struct ContextDeleter {
    void operator()(void* context) const noexcept;
  };
  std::unique_ptr<void, ContextDeleter> context_;
};

Sha256Digest sha256(std::span<const std::byte> data);
Sha256Digest sha256(std::string_view text);

}  // namespace sluice
