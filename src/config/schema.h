// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include "config/config.h"
#include "config/rules.h"
#include "config/value.h"

namespace sluice::config {

// Every key, once. `describe` names the members of a section to a visitor, which is called with the key, the member and
// optionally the rule for its value. A member is a scalar, a section, or an optional or a list of such.

template <class Visitor>
void describe(Visitor&& visit, StaticToken& token) {
  visit("token", token.token, kToken);
  visit("user", token.user, kUserId);
  visit("admin", token.admin);
}

/// A section that holds for all, or one of a homeserver that may differ from it: the keys and their rules are the same.
template <class T, class... Sections>
concept OneOf = (std::same_as<T, Sections> || ...);

template <class Visitor, OneOf<Rate, Homeserver::Uploads::Rate> T>
void describe(Visitor&& visit, T& rate) {
  visit("per_second", rate.per_second, kPositive);
  visit("burst", rate.burst, kAtLeastOne);
}

template <class Visitor, OneOf<ContentTypes, Homeserver::Uploads::ContentTypes> T>
void describe(Visitor&& visit, T& content_types) {
  visit("allow", content_types.allow, kMediaTypePattern);
  visit("deny", content_types.deny, kMediaTypePattern);
}

template <class Visitor, OneOf<ByteRate, Homeserver::Downloads::ByteRate> T>
void describe(Visitor&& visit, T& rate) {
  visit("bytes_per_second", rate.bytes_per_second);
  visit("burst", rate.burst, kPositive);
}

template <class Visitor, OneOf<DownloadRate, Homeserver::Downloads::Rate> T>
void describe(Visitor&& visit, T& rate) {
  visit("per_user", rate.per_user);
  visit("per_address", rate.per_address);
}

template <class Visitor>
void describe(Visitor&& visit, Homeserver::Uploads& uploads) {
  visit("max_size", uploads.max_size, kMediaSize);
  visit("max_pending_per_user", uploads.max_pending_per_user, kPositive);
  visit("create_rate", uploads.create_rate);
  visit("content_types", uploads.content_types);
}

template <class Visitor>
void describe(Visitor&& visit, Homeserver::Downloads& downloads) {
  visit("unauthenticated", downloads.unauthenticated);
  visit("frozen_since", downloads.frozen_since);
  visit("rate", downloads.rate);
}

template <class Visitor>
void describe(Visitor&& visit, Homeserver& homeserver) {
  visit("server_name", homeserver.server_name, kServerName);
  visit("hosts", homeserver.hosts, kHost);
  visit("client_api", homeserver.client_api, kClientApi);
  visit("tokens", homeserver.tokens);
  visit("admins", homeserver.admins, kUserId);
  visit("uploads", homeserver.uploads);
  visit("downloads", homeserver.downloads);
}

template <class Visitor>
void describe(Visitor&& visit, Config::Uploads& uploads) {
  visit("max_size", uploads.max_size, kMediaSize);
  visit("max_pending_per_user", uploads.max_pending_per_user, kPositive);
  visit("unused_expiry", uploads.unused_expiry, kPositive);
  visit("create_rate", uploads.create_rate);
  visit("content_types", uploads.content_types);
}

template <class Visitor>
void describe(Visitor&& visit, Quota::Window& window) {
  visit("bytes", window.bytes);
  visit("per", window.per, kPositive);
}

template <class Visitor>
void describe(Visitor&& visit, Quota& quota) {
  visit("users", quota.users, kNotEmpty);
  visit("max_files", quota.max_files);
  visit("max_bytes", quota.max_bytes);
  visit("window", quota.window);
}

template <class Visitor>
void describe(Visitor&& visit, Config::Downloads& downloads) {
  visit("default_wait", downloads.default_wait);
  visit("max_wait", downloads.max_wait);
  visit("max_waiting", downloads.max_waiting);
  visit("max_waiting_per_media", downloads.max_waiting_per_media);
  visit("max_waiting_per_address", downloads.max_waiting_per_address);
  visit("live", downloads.live);
  visit("unauthenticated", downloads.unauthenticated);
  visit("frozen_since", downloads.frozen_since);
  visit("rate", downloads.rate);
}

template <class Visitor>
void describe(Visitor&& visit, ThumbnailSize& size) {
  visit("width", size.width, kThumbnailSide);
  visit("height", size.height, kThumbnailSide);
  visit("method", size.method);
}

template <class Visitor>
void describe(Visitor&& visit, Config::Thumbnails& thumbnails) {
  visit("sizes", thumbnails.sizes);
  visit("at_upload", thumbnails.at_upload);
  visit("workers", thumbnails.workers, kThumbnailWorkers);
  visit("worker", thumbnails.worker, kNotEmpty);
  visit("max_pixels", thumbnails.max_pixels, kPositive);
  visit("max_frames", thumbnails.max_frames, kPositive);
  visit("max_queued", thumbnails.max_queued, kPositive);
  visit("queue_time", thumbnails.queue_time, kPositive);
  visit("time", thumbnails.time, kPositive);
  visit("memory", thumbnails.memory, kPositive);
  visit("failure_age", thumbnails.failure_age);
  visit("sandbox", thumbnails.sandbox);
}

template <class Visitor>
void describe(Visitor&& visit, Config::Auth& auth) {
  visit("timeout", auth.timeout, kPositive);
  visit("cache_age", auth.cache_age);
  visit("refusal_cache_age", auth.refusal_cache_age);
  visit("cache_entries", auth.cache_entries, kPositive);
}

template <class Visitor>
void describe(Visitor&& visit, Config::Http& http) {
  visit("threads", http.threads, kThreads);
  visit("max_connections", http.max_connections);
  visit("header_timeout", http.header_timeout, kPositive);
  visit("idle_timeout", http.idle_timeout, kPositive);
  visit("body_timeout", http.body_timeout, kPositive);
  visit("min_body_rate", http.min_body_rate);
  visit("write_timeout", http.write_timeout, kPositive);
  visit("trusted_proxies", http.trusted_proxies, kNetwork);
}

template <class Visitor>
void describe(Visitor&& visit, Config::Log& log) {
  visit("format", log.format);
  visit("level", log.level);
}

template <class Visitor>
void describe(Visitor&& visit, Config::Metrics& metrics) {
  visit("listen", metrics.listen);
}

template <class Visitor>
void describe(Visitor&& visit, Config& config) {
  visit("listen", config.listen);
  visit("data_dir", config.data_dir, kNotEmpty);
  visit("homeservers", config.homeservers);
  visit("uploads", config.uploads);
  visit("quotas", config.quotas);
  visit("downloads", config.downloads);
  visit("thumbnails", config.thumbnails);
  visit("auth", config.auth);
  visit("http", config.http);
  visit("log", config.log);
  visit("shutdown_grace", config.shutdown_grace);
  visit("metrics", config.metrics);
  visit("demo", config.demo);
}

/// A struct that has keys of its own.
template <class T>
concept Section = requires(T& section) { describe([](auto&&...) {}, section); };

/// "uploads" and "max_size" make "uploads.max_size"; the outermost section has no name.
inline std::string join_key(std::string_view section, std::string_view key) {
  return section.empty() ? std::string(key) : std::string(section) + "." + std::string(key);
}

/// "homeservers" and 0 make "homeservers[0]".
inline std::string element_key(std::string_view list, std::size_t index) {
  return std::string(list) + "[" + std::to_string(index) + "]";
}

}  // namespace sluice::config
