// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <openssl/evp.h>

#include <stdexcept>

#include "base/text.h"

namespace sluice {
namespace {

EVP_MD_CTX* as_context(void* context) { return static_cast<EVP_MD_CTX*>(context); }

// Fetching the algorithm costs a lock and several lookups in OpenSSL 3; one fetch serves the process.
const EVP_MD* algorithm() {
  static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return fetched;
}

}  // namespace

std::string Sha256Digest::to_hex() const {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    hex.push_back(kDigits[std::to_integer<unsigned>(byte) >> 4]);
    hex.push_back(kDigits[std::to_integer<unsigned>(byte) & 15]);
  }
  return hex;
}

bool Sha256Digest::from_hex(std::string_view hex, Sha256Digest& out) {
  Sha256Digest digest;
  if (hex.size() != digest.bytes.size() * 2) return false;
  for (std::size_t i = 0; i < digest.bytes.size(); ++i) {
    const int high = hex_value(hex[2 * i]);
    const int low = hex_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    digest.bytes[i] = static_cast<std::byte>(high * 16 + low);
  }
  out = digest;
  return true;
}

void Sha256Hasher::ContextDeleter::operator()(void* context) const noexcept { EVP_MD_CTX_free(as_context(context)); }

Sha256Hasher::Sha256Hasher() : context_(EVP_MD_CTX_new()) {
  if (!context_ || EVP_DigestInit_ex(as_context(context_.get()), algorithm(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL cannot start a SHA-256");
  }
}
Sha256Hasher::~Sha256Hasher() = default;
Sha256Hasher::Sha256Hasher(Sha256Hasher&&) noexcept = default;
Sha256Hasher& Sha256Hasher::operator=(Sha256Hasher&&) noexcept = default;

void Sha256Hasher::restart() {
  if (EVP_DigestInit_ex(as_context(context_.get()), nullptr, nullptr) != 1) {
    throw std::runtime_error("OpenSSL cannot start a SHA-256");
  }
}

void Sha256Hasher::update(std::span<const std::byte> data) {
  if (EVP_DigestUpdate(as_context(context_.get()), data.data(), data.size()) != 1) {
    throw std::runtime_error("OpenSSL cannot continue a SHA-256");
  }
}

Sha256Digest Sha256Hasher::finish() {
  Sha256Digest digest;
  if (EVP_DigestFinal_ex(as_context(context_.get()), reinterpret_cast<unsigned char*>(digest.bytes.data()), nullptr) !=
      1) {
    throw std::runtime_error("OpenSSL cannot end a SHA-256");
  }
  return digest;
}

Sha256Digest sha256(std::span<const std::byte> data) {
  // One context for each thread: making one took longer than hashing a token.
  thread_local Sha256Hasher hasher;
  hasher.restart();
  hasher.update(data);
  return hasher.finish();
}

Sha256Digest sha256(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

}  // namespace sluice
