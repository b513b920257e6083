// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_system.h"

namespace sluice {

/// For tests: a file system that passes calls on to a real one, makes chosen calls fail, and can lose power.
///
/// It keeps a model of what is on stable storage below `root`, at its strictest: the bytes of a file at its last sync,
/// the entries of a directory at its last sync_directory, and nothing else. Syncing a file does not sync its name. What
/// came later is pending, in order, for each file and each directory by itself: a loss of power keeps the first few
/// pending changes of each, as many as the test says, with no order between one directory and another. A rename within
/// a directory is one change. The model stands for the disk: nothing is really synced.
///
/// Callable from any thread, one call at a time. Files are only changed through it.
class FaultyFileSystem final : public FileSystem {
 public:
  enum class Call {
    kCreate,
    kOpenRead,
    kWriteAt,
    kSync,
    kSyncDirectory,
    kLink,
    kRename,
    kRemove,
    kMakeDirectories,
    kList,
    kCount,  // not a call: their number
  };

  /// Told how many changes of a file or directory are pending, says how many of them, the first ones, survive.
  using Survivors = std::function<std::size_t(std::size_t pending)>;

  /// What is below `root` already counts as synced.
  FaultyFileSystem(FileSystem& real, std::string root) : real_(real), root_(std::move(root)) { load(root_, *tree_); }

  /// The `nth` call of this kind from now (1: the next) fails with `error_number` and has no effect. Once.
  void fail_call(Call call, std::size_t nth, int error_number) {
    const std::scoped_lock lock(mutex_);
    faults_[index(call)] = Fault{count_[index(call)] + nth, error_number};
  }

  /// How many calls of a kind were made, failed ones included.
  std::size_t count(Call call) const {
    const std::scoped_lock lock(mutex_);
    return count_[index(call)];
  }

  /// How many calls that change or sync something were made, of any kind.
  std::size_t changes() const {
    const std::scoped_lock lock(mutex_);
    return changes_;
  }

  /// After `changes` more calls that change or sync something, every call fails with EIO and has no effect.
  void cut_power_after(std::size_t changes) {
    const std::scoped_lock lock(mutex_);
    last_change_ = changes_ + changes;
  }

  void restore_power() {
    const std::scoped_lock lock(mutex_);
    last_change_ = std::numeric_limits<std::size_t>::max();
  }

  /// Puts the tree below `root` in the state that the loss of power leaves, and turns the power on again. Descriptors
  /// that are open belong to the time before.
  void drop_unsynced(const Survivors& survivors = [](std::size_t) { return std::size_t{0}; }) {
    const std::scoped_lock lock(mutex_);
    files_.clear();
    std::set<const Node*> visited;
    lose(*tree_, root_, survivors, visited);
    std::map<const Node*, std::string> written;
    write_out(*tree_, root_, written);
    last_change_ = std::numeric_limits<std::size_t>::max();
  }

  SystemResult<FileDescriptor> create(const std::string& path) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kCreate); !open) return std::unexpected(open.error());
    auto file = real_.create(path);
    if (!file) return file;
    auto node = std::make_shared<Node>();
    files_[inode_of(*file)] = node;
    change(path, node);
    return file;
  }

  SystemResult<FileDescriptor> open_read(const std::string& path) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kOpenRead); !open) return std::unexpected(open.error());
    return real_.open_read(path);
  }

  SystemResult<> write_at(const FileDescriptor& file, std::span<const std::byte> data, std::uint64_t offset) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kWriteAt); !open) return open;
    if (auto written = real_.write_at(file, data, offset); !written) return written;
    if (const auto found = files_.find(inode_of(file)); found != files_.end()) {
      found->second->writes.push_back({std::vector(data.begin(), data.end()), static_cast<std::size_t>(offset)});
    }
    return {};
  }

  void begin_sync(const FileDescriptor&) override {}  // what it may have written is among what may survive

  SystemResult<> sync(const FileDescriptor& file) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kSync); !open) return open;
    if (const auto found = files_.find(inode_of(file)); found != files_.end()) {
      found->second->keep_writes(found->second->writes.size());
    }
    return {};
  }

  SystemResult<> sync_directory(const std::string& path) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kSyncDirectory); !open) return open;
    if (const NodePtr node = find(path)) node->keep_changes(node->changes.size());
    return {};
  }

  SystemResult<> link(const std::string& from, const std::string& to) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kLink); !open) return open;
    if (auto linked = real_.link(from, to); !linked) return linked;
    change(to, find(from));
    return {};
  }

  SystemResult<> rename(const std::string& from, const std::string& to) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kRename); !open) return open;
    if (auto renamed = real_.rename(from, to); !renamed) return renamed;
    const NodePtr node = find(from);
    if (parent_of(from) == parent_of(to)) {
      find(parent_of(from))->apply({{name_of(to), node}, {name_of(from), nullptr}});
    } else {
      change(to, node);
      change(from, nullptr);
    }
    return {};
  }

  SystemResult<> remove(const std::string& path) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kRemove); !open) return open;
    if (auto removed = real_.remove(path); !removed) return removed;
    change(path, nullptr);
    return {};
  }

  SystemResult<> make_directories(const std::string& path) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kMakeDirectories); !open) return open;
    if (auto made = real_.make_directories(path); !made) return made;
    for (std::size_t end = root_.size(); end != std::string::npos && is_below_root(path);) {
      end = path.find('/', end + 1);
      const std::string part = path.substr(0, end);
      if (!find(part)) change(part, Node::directory());
    }
    return {};
  }

  SystemResult<std::vector<std::string>> list(const std::string& path) override {
    const std::scoped_lock lock(mutex_);
    if (auto open = gate(Call::kList); !open) return std::unexpected(open.error());
    return real_.list(path);
  }

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using Change = std::vector<std::pair<std::string, NodePtr>>;  // names given to a node, or taken away (null)
  using Entries = std::map<std::string, NodePtr>;

  struct Write {
    std::vector<std::byte> data;
    std::size_t offset;
  };

  /// A file or directory: what is on stable storage, and what is pending.
  struct Node {
    static NodePtr directory() {
      auto node = std::make_shared<Node>();
      node->is_directory = true;
      return node;
    }

    void apply(const Change& change) {
      put(entries, change);
      changes.push_back(change);
    }
    void keep_changes(std::size_t number) {
      for (std::size_t i = 0; i < number; ++i) put(synced_entries, changes[i]);
      changes.clear();
    }
    void keep_writes(std::size_t number) {
      for (std::size_t i = 0; i < number; ++i) {
        const Write& write = writes[i];
        synced_bytes.resize(std::max(synced_bytes.size(), write.offset + write.data.size()));
        std::ranges::copy(write.data, synced_bytes.begin() + static_cast<std::ptrdiff_t>(write.offset));
      }
      writes.clear();
    }
    static void put(Entries& entries, const Change& change) {
      for (const auto& [name, node] : change) {
        if (node) {
          entries[name] = node;
        } else {
          entries.erase(name);
        }
      }
    }

    bool is_directory = false;
    std::vector<std::byte> synced_bytes;
    std::vector<Write> writes;
    Entries entries;  // as the program sees them
    Entries synced_entries;
    std::vector<Change> changes;
  };

  struct Fault {
    std::size_t at = 0;
    int error_number = 0;
  };

  static std::size_t index(Call call) { return static_cast<std::size_t>(call); }
  static std::unexpected<std::error_code> error(int number) {
    return std::unexpected(std::error_code(number, std::generic_category()));
  }

  SystemResult<> gate(Call call) {
    const std::size_t made = ++count_[index(call)];
    const bool is_change = call != Call::kOpenRead && call != Call::kList;
    if (is_change) ++changes_;
    if (is_change ? changes_ > last_change_ : changes_ >= last_change_) return error(EIO);
    if (const Fault fault = faults_[index(call)]; fault.at == made) return error(fault.error_number);
    return {};
  }

  bool is_below_root(const std::string& path) const { return path.starts_with(root_ + '/'); }
  static std::string parent_of(const std::string& path) { return path.substr(0, path.find_last_of('/')); }
  static std::string name_of(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

  NodePtr find(const std::string& path) const {
    if (path == root_) return tree_;
    if (!is_below_root(path)) return nullptr;
    const NodePtr parent = find(parent_of(path));
    if (!parent) return nullptr;
    const auto found = parent->entries.find(name_of(path));
    return found == parent->entries.end() ? nullptr : found->second;
  }

  void change(const std::string& path, const NodePtr& node) {
    if (const NodePtr parent = find(parent_of(path))) parent->apply({{name_of(path), node}});
  }

  using Inode = std::pair<std::uint64_t, std::uint64_t>;
  static Inode inode_of(const FileDescriptor& file) {
    struct stat status{};
    if (::fstat(file.get(), &status) < 0) throw std::system_error(errno, std::generic_category(), "fstat");
    return {status.st_dev, status.st_ino};
  }

  void load(const std::string& path, Node& directory) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      NodePtr node;
      if (entry.is_directory()) {
        node = Node::directory();
        load(entry.path().string(), *node);
      } else {
        const auto file = real_.open_read(entry.path().string());
        if (!file) throw std::system_error(file.error(), entry.path().string());
        NodePtr& known = files_[inode_of(*file)];
        if (!known) known = std::make_shared<Node>();
        node = known;
        std::ifstream in(entry.path(), std::ios::binary);
        const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
        const auto data = std::as_bytes(std::span(bytes));
        node->synced_bytes.assign(data.begin(), data.end());
      }
      directory.entries[entry.path().filename().string()] = node;
    }
    directory.synced_entries = directory.entries;
  }

  // What survives becomes what is there; of the real tree, only directories that survive are left.
  void lose(Node& node, const std::string& path, const Survivors& survivors, std::set<const Node*>& visited) {
    if (!visited.insert(&node).second) return;  // a file that has two names
    node.keep_writes(std::min(survivors(node.writes.size()), node.writes.size()));
    node.keep_changes(std::min(survivors(node.changes.size()), node.changes.size()));
    const Entries before = std::exchange(node.entries, node.synced_entries);
    for (const auto& [name, child] : before) {
      const bool stays = child->is_directory && node.entries.contains(name);
      if (!stays) std::filesystem::remove_all(path + '/' + name);
    }
    for (const auto& [name, child] : node.entries) lose(*child, path + '/' + name, survivors, visited);
  }

  void write_out(const Node& directory, const std::string& path, std::map<const Node*, std::string>& written) {
    for (const auto& [name, node] : directory.entries) {
      const std::string to = path + '/' + name;
      if (node->is_directory) {
        std::filesystem::create_directory(to);
        write_out(*node, to, written);
      } else if (const auto [first, is_new] = written.try_emplace(node.get(), to); is_new) {
        const auto file = real_.create(to);
        if (!file) throw std::system_error(file.error(), to);
        if (auto wrote = real_.write_at(*file, node->synced_bytes, 0); !wrote) {
          throw std::system_error(wrote.error(), to);
        }
        files_[inode_of(*file)] = node;
      } else {
        std::filesystem::create_hard_link(first->second, to);
      }
    }
  }

  FileSystem& real_;
  const std::string root_;
  mutable std::mutex mutex_;  // guards all below
  const NodePtr tree_ = Node::directory();
  std::map<Inode, NodePtr> files_;
  std::array<std::size_t, static_cast<std::size_t>(Call::kCount)> count_{};
  std::array<Fault, static_cast<std::size_t>(Call::kCount)> faults_{};
  std::size_t changes_ = 0;
  std::size_t last_change_ = std::numeric_limits<std::size_t>::max();
};

}  // namespace sluice
