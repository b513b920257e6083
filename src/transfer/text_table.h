// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/intrusive/unordered_set.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

namespace sluice::transfer {

/// A text to look up, with its hash, which is reckoned once for the shard and for the table in it. The text must live
/// on elsewhere.
struct TextKey {
  explicit TextKey(std::string_view key_text)
      : text(key_text), hash(static_cast<std::uint32_t>(std::hash<std::string_view>{}(key_text))) {}

  std::string_view text;
  std::uint32_t hash;
};

/// Texts, each with a Value, hashed. Made for a million of them: a text, its value and its
/// place in the table are one allocation, so an entry of 44 bytes of text costs 96 (with std::unordered_map and two
/// strings: 272), and entries stay where they are. For one thread at a time.
template <class Value>
class TextTable {
 public:
  class Entry
      : public boost::intrusive::unordered_set_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
   public:
    Value value;
    std::uint32_t hash() const { return hash_; }
    std::string_view text() const { return {reinterpret_cast<const char*>(this + 1), size_}; }

   private:
    friend class TextTable;
    explicit Entry(const TextKey& key) : hash_(key.hash), size_(static_cast<std::uint32_t>(key.text.size())) {
      std::memcpy(this + 1, key.text.data(), key.text.size());
    }
    const std::uint32_t hash_;
    const std::uint32_t size_;  // of the text, which lies behind the entry
  };

  TextTable() : buckets_(new Bucket[kLeastBuckets]), entries_(Buckets(buckets_.get(), kLeastBuckets)) {}
  TextTable(const TextTable&) = delete;
  TextTable& operator=(const TextTable&) = delete;
  ~TextTable() { entries_.clear_and_dispose(Dispose()); }

  std::size_t size() const { return entries_.size(); }

  Entry* find(const TextKey& key) {
    const auto found = entries_.find(key, HashOf(), IsEqual());
    return found == entries_.end() ? nullptr : &*found;
  }

  /// Requires that the key is not in the table.
  Entry& add(const TextKey& key) {
    void* const place = ::operator new(sizeof(Entry) + key.text.size());
    Entry& entry = *new (place) Entry(key);
    if (entries_.size() >= entries_.bucket_count()) resize(entries_.bucket_count() * 2);
    entries_.insert(entry);
    return entry;
  }

  void remove(Entry& entry) noexcept {
    entries_.erase_and_dispose(entries_.iterator_to(entry), Dispose());
    const std::size_t buckets = entries_.bucket_count();
    // What a crowd has needed is given back when it has left; not at once, so that coming and going at the border
    // costs nothing.
    if (buckets > kLeastBuckets && entries_.size() < buckets / 8) resize(buckets / 4);
  }

  template <class Visit>
  void for_each(Visit visit) {
    for (Entry& entry : entries_) visit(entry);
  }

 private:
  static constexpr std::size_t kLeastBuckets = 16;

  struct HashOf {
    std::size_t operator()(const Entry& entry) const { return entry.hash_; }
    std::size_t operator()(const TextKey& key) const { return key.hash; }
  };
  struct IsEqual {
    bool operator()(const Entry& a, const Entry& b) const { return &a == &b; }
    bool operator()(const TextKey& key, const Entry& entry) const {
      return key.hash == entry.hash_ && key.text == entry.text();
    }
  };
  struct Dispose {
    void operator()(Entry* entry) const {
      const std::size_t size = sizeof(Entry) + entry->size_;
      entry->~Entry();
      ::operator delete(entry, size);
    }
  };
  using Entries =
      boost::intrusive::unordered_multiset<Entry, boost::intrusive::hash<HashOf>, boost::intrusive::equal<IsEqual>,
                                           boost::intrusive::power_2_buckets<true>>;
  using Bucket = typename Entries::bucket_type;
  using Buckets = typename Entries::bucket_traits;

  // Without memory for it the table goes on as it is, with longer chains.
  void resize(std::size_t count) noexcept {
    std::unique_ptr<Bucket[]> buckets(new (std::nothrow) Bucket[count]);
    if (!buckets) return;
    entries_.rehash(Buckets(buckets.get(), count));
    buckets_ = std::move(buckets);
  }

  std::unique_ptr<Bucket[]> buckets_;
  Entries entries_;  // declared after its buckets: it is destroyed before them
};

}  // namespace sluice::transfer
