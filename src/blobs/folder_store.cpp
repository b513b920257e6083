// SPDX-License-Identifier: Apache-2.0
#include "blobs/folder_store.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace sluice::blobs {
namespace {

constexpr std::size_t kIdBytes = 16;
constexpr std::size_t kIdLength = 22;   // of kIdBytes in base64url
constexpr std::size_t kHexLength = 64;  // of a SHA-256
// A larger blob's name is synced in publish, a smaller one's later: after a crash a sweep may have to read it to
// compare its digest, and at most some thousands of them, so less than a second's work.
constexpr std::uint64_t kMaxRestoredBytes = 256 * 1024;

bool is_id(std::string_view text) {
  return text.size() == kIdLength && std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
         });
}

/// A name in the spool: an id, after the digest and a dot once the file is a mark.
struct SpoolName {
  std::string id;
  std::optional<Sha256Digest> sha256;
};

std::string to_text(const SpoolName& name) { return name.sha256 ? name.sha256->to_hex() + '.' + name.id : name.id; }

/// Nothing when the store makes no such names.
std::optional<SpoolName> parse_spool_name(std::string_view text) {
  if (is_id(text)) return SpoolName{std::string(text), {}};
  Sha256Digest sha256;
  if (text.size() != kHexLength + 1 + kIdLength || text[kHexLength] != '.') return {};
  if (!Sha256Digest::from_hex(text.substr(0, kHexLength), sha256) || !is_id(text.substr(kHexLength + 1))) return {};
  return SpoolName{std::string(text.substr(kHexLength + 1)), sha256};
}

bool is_missing(std::error_code code) { return code == std::errc::no_such_file_or_directory; }

SystemResult<> unless_missing(SystemResult<> removed) {
  if (!removed && is_missing(removed.error())) return {};
  return removed;
}

/// A name in the spool of a file that came whole, and its content.
struct Mark {
  std::string path;
  Sha256Digest sha256;
};

/// The contents that are published and not tidied, with the number of their uploads: of some of them the catalog has
/// yet to hear.
class OnTheirWay {
 public:
  void add(const Sha256Digest& sha256) {
    const std::lock_guard lock(mutex_);
    ++uploads_[sha256];
  }
  void remove(const Sha256Digest& sha256) {
    const std::lock_guard lock(mutex_);
    if (const auto found = uploads_.find(sha256); --found->second == 0) uploads_.erase(found);
  }
  /// Does `work` if no upload has this content, besides `own` of the caller; none can publish it meanwhile.
  template <class Work>
  void do_if_alone(const Sha256Digest& sha256, std::size_t own, Work work) {
    const std::lock_guard lock(mutex_);
    const auto found = uploads_.find(sha256);
    if ((found == uploads_.end() ? 0 : found->second) == own) work();
  }

 private:
  std::mutex mutex_;
  std::map<Sha256Digest, std::size_t> uploads_;
};

class FolderSpoolFile final : public SpoolFile {
 public:
  FolderSpoolFile(FileSystem& fs, OnTheirWay& on_their_way, const std::string& spool, SpoolName name,
                  FileDescriptor file)
      : fs_(fs),
        on_their_way_(on_their_way),
        spool_(spool),
        name_(std::move(name)),
        file_(std::make_shared<const FileDescriptor>(std::move(file))),
        has_name_(true) {}
  /// Held: has neither name nor file before it is marked.
  FolderSpoolFile(FileSystem& fs, OnTheirWay& on_their_way, const std::string& spool, std::string id,
                  std::vector<std::byte> content)
      : fs_(fs), on_their_way_(on_their_way), spool_(spool), name_{std::move(id), {}}, held_(std::move(content)) {}

  /// The mark of a content that is to be removed: it stays, whatever happens, until `release`.
  FolderSpoolFile(FileSystem& fs, OnTheirWay& on_their_way, const std::string& spool, SpoolName name)
      : fs_(fs),
        on_their_way_(on_their_way),
        spool_(spool),
        name_(std::move(name)),
        has_name_(true),
        is_needed_mark_(true) {}

  ~FolderSpoolFile() override {
    if (!is_needed_mark_) remove_name();
    arrive();
  }

  const std::shared_ptr<const FileDescriptor>& descriptor() const override {
    static const std::shared_ptr<const FileDescriptor> kNone;
    return held_ ? kNone : file_;
  }

  /// Null for one that is held, unless it is just being published.
  const FileDescriptor* file() const { return file_.get(); }
  std::string path() const { return spool_ + '/' + to_text(name_); }
  bool is_marked() const { return name_.sha256.has_value(); }
  const Sha256Digest& sha256() const { return *name_.sha256; }

  SystemResult<> mark(const Sha256Digest& sha256) {
    on_their_way_.add(sha256);
    on_its_way_ = sha256;
    SpoolName marked{name_.id, sha256};
    if (held_) {
      SystemResult<FileDescriptor> created = fs_.create(spool_ + '/' + to_text(marked));
      if (!created) return std::unexpected(created.error());
      file_ = std::make_shared<const FileDescriptor>(std::move(*created));
      has_name_ = true;
    } else if (auto renamed = fs_.rename(path(), spool_ + '/' + to_text(marked)); !renamed) {
      return renamed;
    }
    name_ = std::move(marked);
    return held_ ? fs_.write_at(*file_, *held_, 0) : SystemResult<>();
  }

  /// What is held was published, or cannot be: nobody reads its file.
  void close_held() {
    if (!held_) return;
    file_.reset();
    held_.emplace();
  }

  /// From here on, only the catalog knows whether the blob may go.
  void keep_mark() { is_needed_mark_ = true; }

  /// The catalog knows of it, or never will.
  void arrive() {
    if (on_its_way_) on_their_way_.remove(*std::exchange(on_its_way_, std::nullopt));
  }

  void remove_name() {
    if (!std::exchange(has_name_, false)) return;
    (void)fs_.remove(path());  // what stays is swept later
  }

  /// The name is somebody else's to remove from now on, and the content to take off its way.
  Mark release() {
    has_name_ = false;
    on_its_way_.reset();
    return {path(), sha256()};
  }

 private:
  FileSystem& fs_;
  OnTheirWay& on_their_way_;
  std::optional<Sha256Digest> on_its_way_;
  const std::string& spool_;
  SpoolName name_;
  std::optional<std::vector<std::byte>> held_;
  std::shared_ptr<const FileDescriptor> file_;
  bool has_name_ = false;
  bool is_needed_mark_ = false;
};

/// The blobs that somebody reads now: all readers of one share a descriptor, or a file that thousands have waited for
/// would cost as many. From any thread.
class OpenFiles {
 public:
  using File = std::shared_ptr<const FileDescriptor>;

  File find(const Sha256Digest& sha256) {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(sha256);
    return found == files_.end() ? nullptr : found->second.lock();
  }

  void forget(const Sha256Digest& sha256) {
    const std::lock_guard lock(mutex_);
    files_.erase(sha256);
  }

  File add(const Sha256Digest& sha256, File file) {
    const std::lock_guard lock(mutex_);
    if (files_.size() >= forget_at_size_) {
      std::erase_if(files_, [](const auto& entry) { return entry.second.expired(); });
      forget_at_size_ = std::max<std::size_t>(kForgetAtLeast, files_.size() * 2);
    }
    files_[sha256] = file;
    return file;
  }

 private:
  static constexpr std::size_t kForgetAtLeast = 256;

  std::mutex mutex_;
  std::map<Sha256Digest, std::weak_ptr<const FileDescriptor>> files_;
  std::size_t forget_at_size_ = kForgetAtLeast;  // doubles with what stays, so that forgetting costs a constant share
};

class FolderStore final : public BlobStore {
 public:
  FolderStore(FileSystem& fs, RandomSource& random, const std::string& directory)
      : fs_(fs), random_(random), blobs_(directory + "/blobs"), spool_(directory + "/spool") {}

  SystemResult<> make_folders() {
    constexpr std::string_view kDigits = "0123456789abcdef";
    if (auto made = fs_.make_directories(blobs_); !made) return made;
    if (auto made = fs_.make_directories(spool_); !made) return made;
    const SystemResult<std::vector<std::string>> names = fs_.list(blobs_);
    if (!names) return std::unexpected(names.error());
    const std::set<std::string> present(names->begin(), names->end());
    for (const char high : kDigits) {
      for (const char low : kDigits) {
        const std::string name{high, low};
        if (present.contains(name)) continue;
        if (auto made = fs_.make_directories(blobs_ + '/' + name); !made) return made;
      }
    }
    if (auto synced = fs_.sync_directory(spool_); !synced) return synced;
    return sync_upwards(blobs_);
  }

  Result<std::unique_ptr<SpoolFile>> create_spool() override {
    SpoolName name{random_id(random_, kIdBytes), {}};
    SystemResult<FileDescriptor> file = fs_.create(spool_ + '/' + to_text(name));
    if (!file) return fail::from_system(file.error(), "Receiving a file");
    return std::make_unique<FolderSpoolFile>(fs_, on_their_way_, spool_, std::move(name), std::move(*file));
  }

  std::unique_ptr<SpoolFile> hold(std::vector<std::byte> content) override {
    return std::make_unique<FolderSpoolFile>(fs_, on_their_way_, spool_, random_id(random_, kIdBytes),
                                             std::move(content));
  }

  Result<> write_at(SpoolFile& file, std::span<const std::byte> data, std::uint64_t offset) override {
    if (auto written = fs_.write_at(*file.descriptor(), data, offset); !written) {
      return fail::from_system(written.error(), "Writing a file");
    }
    return {};
  }

  void begin_sync(const FileDescriptor& spool_file) override { fs_.begin_sync(spool_file); }

  using BlobStore::publish;

  void publish(std::span<Publication* const> group) override {
    std::vector<Publication*> running(group.begin(), group.end());
    // Takes out of the running what fails.
    const auto each = [&running](auto step) {
      std::erase_if(running, [&step](Publication* one) {
        const SystemResult<> done = step(file_of(*one), one->sha256);
        if (!done) one->outcome = fail::from_system(done.error(), "Storing a file");
        return !done;
      });
    };

    // The mark must not be lost while the blob is kept. Renaming before the file's own fsync costs least: on a
    // journalling file system the one commit then carries both, and the directory's fsync finds nothing left to write.
    // What was held is made under this name, and needs no renaming.
    each([](FolderSpoolFile& file, const Sha256Digest& sha256) { return file.mark(sha256); });
    // All files' bytes before the first fsync, whose journal commit then carries them all: 64 files of 10 KiB took 250
    // ms otherwise, each with a commit of its own, and 22 ms so (ext4).
    if (running.size() > 1) {
      for (const Publication* one : running) fs_.begin_sync(*file_of(*one).file());
    }
    each([this](FolderSpoolFile& file, const Sha256Digest&) { return fs_.sync(*file.file()); });
    const SystemResult<> marks_synced = running.empty() ? SystemResult<>() : fs_.sync_directory(spool_);
    each([&](FolderSpoolFile&, const Sha256Digest&) { return marks_synced; });

    each([this](FolderSpoolFile& file, const Sha256Digest& sha256) { return put_in_place(file, sha256); });
    for (const Publication* one : group) file_of(*one).close_held();
  }

  void settle(SpoolFile& file) override {
    auto& settled = static_cast<FolderSpoolFile&>(file);
    assert(settled.is_marked());
    // Not taken off its way here: for that it might have to wait for a discard, which reads and syncs.
    const std::lock_guard lock(settled_mutex_);
    settled_.push_back(settled.release());
  }

  bool tidy(const IsReferenced& is_referenced) override {
    std::vector<Mark> settled;
    std::vector<Mark> removals;
    {
      const std::lock_guard lock(settled_mutex_);
      settled.swap(settled_);
      removals.swap(removals_);
    }
    sync_and_unmark(settled);
    for (const Mark& mark : settled) on_their_way_.remove(mark.sha256);

    // What was settled just now is on its way no more.
    const auto undecided = std::ranges::partition(
        removals, [&](const Mark& mark) { return remove_unless_needed(mark.sha256, is_referenced); });
    const std::vector<Mark> waiting(undecided.begin(), undecided.end());
    removals.erase(undecided.begin(), undecided.end());
    sync_and_unmark(removals);
    const std::lock_guard lock(settled_mutex_);
    removals_.insert(removals_.end(), waiting.begin(), waiting.end());
    return !waiting.empty();
  }

  void discard(SpoolFile& file, const IsReferenced& is_referenced) override {
    auto& discarded = static_cast<FolderSpoolFile&>(file);
    assert(discarded.is_marked());
    on_their_way_.do_if_alone(discarded.sha256(), 1, [&] {
      const Result<bool> referenced = is_referenced(discarded.sha256());
      if (!referenced) return;
      // Equal content that somebody refers to may have been linked by this one, and not be synced.
      const SystemResult<> done =
          *referenced ? fs_.sync_directory(blob_folder(discarded.sha256())) : remove_blob(discarded.sha256());
      if (done) discarded.remove_name();
    });
    discarded.arrive();
  }

  Result<std::unique_ptr<SpoolFile>> begin_removal(const Sha256Digest& sha256) override {
    SpoolName name{random_id(random_, kIdBytes), sha256};
    const SystemResult<> linked = fs_.link(blob_path(sha256), spool_ + '/' + to_text(name));
    if (!linked && is_missing(linked.error())) return nullptr;
    if (!linked) return fail::from_system(linked.error(), "Removing a file");
    auto mark = std::make_unique<FolderSpoolFile>(fs_, on_their_way_, spool_, std::move(name));
    if (auto synced = fs_.sync_directory(spool_); !synced) {
      finish_removal(*mark);
      return fail::from_system(synced.error(), "Removing a file");
    }
    return mark;
  }

  void finish_removal(SpoolFile& file) override {
    const std::lock_guard lock(settled_mutex_);
    removals_.push_back(static_cast<FolderSpoolFile&>(file).release());
  }

  Result<std::shared_ptr<const FileDescriptor>> open(const Sha256Digest& sha256) override {
    if (auto shared = open_files_.find(sha256)) return shared;
    SystemResult<FileDescriptor> file = fs_.open_read(blob_path(sha256));
    if (file) return open_files_.add(sha256, std::make_shared<const FileDescriptor>(std::move(*file)));
    if (is_missing(file.error())) return fail::not_found("The content of this media is missing");
    return fail::from_system(file.error(), "Opening a file");
  }

  Result<std::size_t> sweep(const IsReferenced& is_referenced) override {
    const SystemResult<std::vector<std::string>> names = fs_.list(spool_);
    if (!names) return fail::from_system(names.error(), "Reading the spool");
    std::vector<std::string> paths;
    std::set<std::string> changed_folders;
    for (const std::string& text : *names) {
      const std::optional<SpoolName> name = parse_spool_name(text);
      if (!name) continue;  // not made by a store, so not ours to remove
      paths.push_back(spool_ + '/' + text);
      if (!name->sha256) continue;
      const Result<bool> referenced = is_referenced(*name->sha256);
      if (!referenced) return Failure(referenced.error());
      const SystemResult<> done =
          *referenced ? restore({paths.back(), *name->sha256}) : unless_missing(fs_.remove(blob_path(*name->sha256)));
      if (!done) return fail::from_system(done.error(), "Sweeping a file");
      changed_folders.insert(blob_folder(*name->sha256));
    }
    // What was linked must be there for good before its mark goes, and what was removed must be gone for good.
    for (const std::string& folder : changed_folders) {
      if (auto synced = fs_.sync_directory(folder); !synced)
        return fail::from_system(synced.error(), "Sweeping a file");
    }
    for (const std::string& path : paths) {
      if (auto gone = unless_missing(fs_.remove(path)); !gone) {
        return fail::from_system(gone.error(), "Sweeping the spool");
      }
    }
    return paths.size();
  }

  Result<> check() override {
    if (auto created = create_spool(); !created) return Failure(created.error());
    return {};
  }

 private:
  std::string blob_folder(const Sha256Digest& sha256) const { return blobs_ + '/' + sha256.to_hex().substr(0, 2); }
  std::string blob_path(const Sha256Digest& sha256) const { return blob_folder(sha256) + '/' + sha256.to_hex(); }

  static FolderSpoolFile& file_of(const Publication& publication) {
    return static_cast<FolderSpoolFile&>(*publication.file);
  }

  /// Gives the content of a synced and marked file its name.
  SystemResult<> put_in_place(FolderSpoolFile& file, const Sha256Digest& sha256) {
    const std::optional<std::uint64_t> size = file_size(*file.file());
    if (auto linked = fs_.link(file.path(), blob_path(sha256)); linked) {
      file.keep_mark();
    } else if (linked.error() != std::errc::file_exists) {
      return linked;
    } else if (!is_sound(blob_path(sha256), size)) {
      // Ours is whole and synced, so it heals the older ids of this content too. The mark goes with it: who made the
      // damaged file has left one, or has committed.
      if (auto replaced = fs_.rename(file.path(), blob_path(sha256)); !replaced) return replaced;
      open_files_.forget(sha256);
      return fs_.sync_directory(blob_folder(sha256));
    }
    // Also when the content was in place already: another upload may have linked it and not have come to this line.
    if (size > kMaxRestoredBytes) return fs_.sync_directory(blob_folder(sha256));
    return {};
  }

  /// Sees to it that a blob which the catalog refers to has its name, not yet synced. A mark may be on stable storage
  /// before its bytes are, when there was equal content before: so the bytes decide.
  SystemResult<> restore(const Mark& mark) {
    if (auto blob = fs_.open_read(blob_path(mark.sha256)); blob || !is_missing(blob.error())) {
      return blob ? SystemResult<>() : std::unexpected(blob.error());
    }
    const SystemResult<FileDescriptor> file = fs_.open_read(mark.path);
    if (!file) return std::unexpected(file.error());
    const SystemResult<Sha256Digest> sha256 = digest_of(*file);
    if (!sha256) return std::unexpected(sha256.error());
    if (*sha256 != mark.sha256) return {};
    return fs_.link(mark.path, blob_path(mark.sha256));
  }

  static SystemResult<Sha256Digest> digest_of(const FileDescriptor& file) {
    Sha256Hasher hasher;
    std::vector<std::byte> buffer(64 * 1024);
    for (off_t offset = 0;;) {
      const ssize_t got = ::pread(file.get(), buffer.data(), buffer.size(), offset);
      if (got < 0) return std::unexpected(std::error_code(errno, std::generic_category()));
      if (got == 0) return hasher.finish();
      hasher.update(std::span(buffer).first(static_cast<std::size_t>(got)));
      offset += got;
    }
  }

  // A repaired file system or a partial backup may have left less than was stored; its digest would say so for certain,
  // but reading every duplicate is too dear.
  bool is_sound(const std::string& path, std::optional<std::uint64_t> size) const {
    const SystemResult<FileDescriptor> file = fs_.open_read(path);
    return file && file_size(*file) == size;
  }

  // The blob must be gone for good before its mark goes.
  SystemResult<> remove_blob(const Sha256Digest& sha256) {
    if (auto gone = remove_blob_name(sha256); !gone) return gone;
    return fs_.sync_directory(blob_folder(sha256));
  }

  SystemResult<> remove_blob_name(const Sha256Digest& sha256) {
    open_files_.forget(sha256);  // equal content that comes later is another file
    return unless_missing(fs_.remove(blob_path(sha256)));
  }

  /// False when that cannot be decided now. The bytes go with the last name, the mark, so no lock is held for long.
  bool remove_unless_needed(const Sha256Digest& sha256, const IsReferenced& is_referenced) {
    bool is_decided = false;
    on_their_way_.do_if_alone(sha256, 0, [&] {
      const Result<bool> referenced = is_referenced(sha256);
      is_decided = referenced && (*referenced || remove_blob_name(sha256));
    });
    return is_decided;
  }

  /// Removes marks, once what has changed in the folders of their blobs is there, or gone, for good. A thousand small
  /// uploads cost 256 of these syncs, not one each.
  void sync_and_unmark(const std::vector<Mark>& marks) {
    std::map<std::string, SystemResult<>> synced;
    for (const Mark& mark : marks) synced.try_emplace(blob_folder(mark.sha256));
    for (auto& [folder, outcome] : synced) outcome = fs_.sync_directory(folder);
    for (const Mark& mark : marks) {
      if (synced.at(blob_folder(mark.sha256))) (void)fs_.remove(mark.path);
    }
  }

  // Makes a folder's entries durable, its own entry in its parent, and so on up to the folders that we may not read,
  // which cannot be ones that we made.
  SystemResult<> sync_upwards(std::string path) {
    for (;;) {
      auto synced = fs_.sync_directory(path);
      if (!synced && synced.error() == std::errc::permission_denied) return {};
      if (!synced) return synced;
      const std::size_t slash = path.find_last_of('/');
      if (path == "." || path == "/") return {};
      path = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
    }
  }

  FileSystem& fs_;
  RandomSource& random_;
  const std::string blobs_;
  const std::string spool_;
  OpenFiles open_files_;
  OnTheirWay on_their_way_;
  std::mutex settled_mutex_;  // guards the next two: what `tidy` has to do
  std::vector<Mark> settled_;
  std::vector<Mark> removals_;
};

}  // namespace

Result<std::unique_ptr<BlobStore>> open_folder_store(FileSystem& fs, RandomSource& random,
                                                     const std::string& directory) {
  auto store = std::make_unique<FolderStore>(fs, random, directory);
  if (auto made = store->make_folders(); !made) return fail::from_system(made.error(), "Preparing the blob folder");
  return store;
}

}  // namespace sluice::blobs
