// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/file_system.h"
#include "runtime/signal.h"

namespace sluice::transfer {

class Follower;

/// What a transfer's writer declared before the first byte.
struct Description {
  std::string content_type;           // never empty
  std::string filename;               // empty: none
  std::optional<std::uint64_t> size;  // nothing: unknown until the end
  std::uint64_t attempt = 0;          // names this attempt to fill the id, among all attempts ever
};

enum class State {
  kRunning,
  kWhole,   // every byte is on stable storage and the catalog says so
  kBroken,  // the writer went away; what was readable is not the whole
};

struct Progress {
  std::uint64_t readable = 0;  // bytes from the start that followers may read
  State state = State::kRunning;
  bool has_begun() const { return readable > 0 || state == State::kWhole; }
};

/// One file growing on local disk: one writer appends, any number of followers read behind it, and it ends whole or
/// broken, once. The writer never waits for a follower.
///
/// The last byte of a transfer of declared size becomes readable only when it is whole: a reader that has counted all
/// the bytes it was promised must be able to rely on them, and until the writer's file is sealed they may yet be lost.
/// If all of it comes at once, nothing is readable before: all but the last byte a moment earlier helps nobody, and
/// would wake everybody twice.
///
/// Many followers are woken together once so much has come that the round is worth its cost, while it comes fast.
class Transfer : public std::enable_shared_from_this<Transfer> {
 public:
  /// Without a file, nothing is readable until `set_file`.
  Transfer(Description description, std::shared_ptr<const FileDescriptor> file);
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // From any thread.
  const Description& description() const { return description_; }
  /// Once it has begun.
  const std::shared_ptr<const FileDescriptor>& file() const { return file_; }
  Progress progress() const;

  /// Does nothing to a transfer that has ended. Also from another thread than the writer's, who finds it broken then.
  void break_off() { end(State::kBroken); }

  // For the writer, on its loop (or from one thread at a time that runs none). Whichever is called, followers are woken
  // on their own loops.

  /// At most once, before `advance` and `finish_whole`, for one that was made without.
  void set_file(std::shared_ptr<const FileDescriptor> file);
  /// The file now holds `size` bytes. True when this made the first byte readable. Nothing is after it was broken off.
  bool advance(std::uint64_t size);
  void finish_whole() { end(State::kWhole); }

 private:
  friend class Follower;
  using Hook = boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

  // Progress in one word, so that a follower that is busy sending looks without a lock. With a thousand of them that
  // brought nothing measurable, but there is less to reason about: the state in the two highest bits, what is readable
  // in the others.
  static constexpr unsigned kReadableBits = 62;
  static std::uint64_t pack(Progress progress) {
    return static_cast<std::uint64_t>(progress.state) << kReadableBits | progress.readable;
  }
  static Progress unpack(std::uint64_t word) {
    return {word & ((std::uint64_t{1} << kReadableBits) - 1), static_cast<State>(word >> kReadableBits)};
  }

  void end(State state);
  void wake();
  bool is_worth_gathering(std::uint64_t slice) const;
  void gather();
  void look_after_gathering(std::uint64_t seen, bool is_first);

  const Description description_;
  std::shared_ptr<const FileDescriptor> file_;  // written before progress_ says that it has begun, and never after
  // Written by the writer only.
  std::uint64_t size_ = 0;
  std::uint64_t readable_when_woken_ = 0;  // the followers, the last time
  std::size_t woken_ = 0;                  // how many that were
  bool is_gathering_ = false;              // work is queued that will see to it that nobody is forgotten
  std::atomic<std::uint64_t> progress_{0};
  std::mutex mutex_;  // guards sleeping_
  // Only the followers that sleep: those that are busy sending look for themselves.
  boost::intrusive::list<Follower, boost::intrusive::base_hook<Hook>, boost::intrusive::constant_time_size<false>>
      sleeping_;
};

/// One reader behind a transfer. Used on its signal's loop only. Keeps the transfer, and so the bytes, alive.
class Follower : public Transfer::Hook {
 public:
  /// `count`, if given, is held one higher while the follower lives.
  Follower(std::shared_ptr<Transfer> transfer, std::shared_ptr<Signal> signal,
           std::shared_ptr<std::atomic<std::size_t>> count = nullptr);
  ~Follower();
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  const Transfer& transfer() const { return *transfer_; }
  Progress progress() const { return transfer_->progress(); }

  /// Raises Wake::kProgress, once, as soon as more than `offset` bytes are readable or the transfer has ended; inside
  /// the call if that is so already. Replaces what was asked before.
  void wake_beyond(std::uint64_t offset);

 private:
  friend class Transfer;

  bool is_concerned_by(const Progress& progress) const;  // whether that is what it asked to be woken for

  const std::shared_ptr<Transfer> transfer_;
  const std::shared_ptr<Signal> signal_;
  const std::shared_ptr<std::atomic<std::size_t>> count_;
  std::uint64_t offset_ = 0;  // guarded by the transfer's mutex
};

}  // namespace sluice::transfer
