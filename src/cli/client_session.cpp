// SPDX-License-Identifier: Apache-2.0
#include "cli/client_session.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <stdexcept>
#include <thread>

#include "base/text.h"
#include "base/units.h"

namespace sluice::cli {
namespace {

constexpr std::string_view kDefaultServer = "http://127.0.0.1:8090";
constexpr std::size_t kMaxKeptBody_bytes = 64 * 1024;
constexpr long kReceiveBuffer_bytes = 256 * 1024;
constexpr long kUploadBuffer_bytes = 256 * 1024;
constexpr long kConnectTimeout_ms = 15'000;
constexpr long kMaxRedirects = 5;
// How long a body waits for 100 Continue. Longer than curl's second, since a server may have to ask a homeserver who
// the token belongs to; not for ever, since some servers never answer.
constexpr long kContinueTimeout_ms = 5'000;
// A download may be silent for as long as the upload that it follows; keep-alives still find out a dead peer.
constexpr long kKeepAlive_s = 30;
constexpr int kSourcePoll_ms = 100;
constexpr std::size_t kMaxTokenFile_bytes = 4096;
constexpr Milliseconds kFirstBackoff{500};
constexpr Milliseconds kMaxBackoff{15'000};

template <class Value>
void set(CURL* curl, CURLoption option, Value value) {
  if (const CURLcode code = curl_easy_setopt(curl, option, value); code != CURLE_OK) {
    throw std::runtime_error(
        fmt::format("libcurl refuses option {}: {}", static_cast<int>(option), curl_easy_strerror(code)));
  }
}

// One call of `perform`, as libcurl's callbacks see it.
struct Exchange {
  CURL* curl;
  const HttpRequest& request;
  HttpResponse response{};
  bool head_is_complete = false;
  bool stopped = false;      // by this side
  bool body_is_cut = false;  // of a response whose rest nobody needs
  bool source_paused = false;
};

bool is_success(int status) { return status >= 200 && status < 300; }

void take_status_line(std::string_view line, HttpResponse& response) {
  response.status = 0;
  response.headers.clear();
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return;
  std::from_chars(line.data() + space + 1, line.data() + line.size(), response.status);
}

void take_field(std::string_view line, HttpResponse& response) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  response.headers.emplace_back(std::string(line.substr(0, colon)), std::string(trim(line.substr(colon + 1))));
}

std::string_view without_line_end(std::string_view line) {
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::size_t on_header_line(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  HttpResponse& response = exchange.response;
  const std::string_view line = without_line_end({data, size * count});
  if (line.starts_with("HTTP/")) {
    exchange.head_is_complete = false;
    take_status_line(line, response);
    return size * count;
  }
  if (exchange.head_is_complete) return size * count;  // a trailer
  if (!line.empty()) {
    take_field(line, response);
    return size * count;
  }
  const bool is_interim = response.status < 200;
  const bool is_followed =
      exchange.request.follow_redirects && response.status / 100 == 3 && response.header("Location").has_value();
  if (is_interim || is_followed) return size * count;
  exchange.head_is_complete = true;
  if (exchange.request.on_head && !exchange.request.on_head(response)) {
    exchange.stopped = true;
    return 0;
  }
  return size * count;
}

std::size_t on_body_bytes(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::string_view bytes(data, size * count);
  if (exchange.request.on_body && is_success(exchange.response.status)) {
    if (exchange.request.on_body(std::as_bytes(std::span(bytes)))) return bytes.size();
    exchange.stopped = true;
    return 0;
  }
  std::string& body = exchange.response.body;
  body += bytes.substr(0, kMaxKeptBody_bytes - body.size());
  exchange.body_is_cut = body.size() == kMaxKeptBody_bytes;
  return exchange.body_is_cut ? 0 : bytes.size();
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (exchange.source_paused) {
    exchange.source_paused = false;
    curl_easy_pause(exchange.curl, CURLPAUSE_CONT);
  }
  if (exchange.request.on_tick) exchange.request.on_tick(exchange.response.body_read);
  return 0;
}

enum class SourceEvent { kReadable, kServerSpeaks, kServerLeft };

// A pipe may have nothing to give for hours, during which the server may refuse; and of a refusal that comes while a
// body is sent, a reset connection would be all that is left if it were not read before the next bytes are sent.
SourceEvent await_source(Exchange& exchange, int source, int socket) {
  for (;;) {
    std::array<pollfd, 2> polled = {pollfd{socket, POLLIN, 0}, pollfd{source, POLLIN, 0}};
    const int ready = ::poll(polled.data(), polled.size(), kSourcePoll_ms);
    if (exchange.request.on_tick) exchange.request.on_tick(exchange.response.body_read);
    if (ready <= 0) continue;
    if (polled[0].revents != 0) {
      char byte = 0;
      const bool has_left = ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
      return has_left ? SourceEvent::kServerLeft : SourceEvent::kServerSpeaks;
    }
    if (polled[1].revents != 0) return SourceEvent::kReadable;
  }
}

std::size_t stop_reading(Exchange& exchange, std::string trouble) {
  exchange.stopped = true;
  exchange.response.trouble = std::move(trouble);
  return CURL_READFUNC_ABORT;
}

std::size_t read_source(Exchange& exchange, std::span<char> out, int socket) {
  const UploadBody& body = *exchange.request.upload;
  std::uint64_t& taken = exchange.response.body_read;
  std::size_t wanted = out.size();
  if (body.size) wanted = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, *body.size - taken));
  if (wanted == 0) return 0;
  switch (await_source(exchange, body.descriptor, socket)) {
    case SourceEvent::kServerSpeaks:
      exchange.source_paused = true;  // until curl has read what the server says
      return CURL_READFUNC_PAUSE;
    case SourceEvent::kServerLeft:
      exchange.response.trouble = "the server closed the connection";
      return CURL_READFUNC_ABORT;
    case SourceEvent::kReadable:
      break;
  }
  ssize_t count = 0;
  do {
    count = ::read(body.descriptor, out.data(), wanted);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return stop_reading(exchange, fmt::format("reading failed: {}", std::strerror(errno)));
  if (count == 0 && body.size) return stop_reading(exchange, "the file became shorter while it was sent");
  taken += static_cast<std::uint64_t>(count);
  return static_cast<std::size_t>(count);
}

// A response that was still unread when sending failed: it arrived between curl's last look and its last send.
void take_last_words(std::string_view text, HttpResponse& response) {
  for (;;) {
    const std::size_t end = text.find("\r\n\r\n");
    if (!text.starts_with("HTTP/1.") || end == std::string_view::npos) return;
    std::string_view head = text.substr(0, end + 2);
    text.remove_prefix(end + 4);
    for (bool is_first = true; !head.empty(); is_first = false) {
      const std::size_t line_end = head.find("\r\n");
      if (is_first) {
        take_status_line(head.substr(0, line_end), response);
      } else {
        take_field(head.substr(0, line_end), response);
      }
      head.remove_prefix(line_end + 2);
    }
    if (response.status >= 200) break;
  }
  // Whatever its framing, an error's body is one JSON object.
  const std::size_t open = text.find('{');
  const std::size_t close = text.rfind('}');
  if (open != std::string_view::npos && close != std::string_view::npos && open < close) {
    response.body = text.substr(open, close - open + 1);
  }
}

std::string receive_what_is_there(curl_socket_t socket) {
  std::string text;
  std::array<char, 4096> buffer;
  while (text.size() < kMaxKeptBody_bytes) {
    const ssize_t count = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return text;
}

ExchangeEnd end_of(CURLcode code, const Exchange& exchange) {
  if (exchange.stopped) return ExchangeEnd::kStopped;
  if (exchange.response.status >= 400) return ExchangeEnd::kWhole;
  switch (code) {
    case CURLE_OK:
      return ExchangeEnd::kWhole;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
      return ExchangeEnd::kUnreachable;
    case CURLE_OPERATION_TIMEDOUT: {
      curl_off_t connected_us = 0;
      curl_easy_getinfo(exchange.curl, CURLINFO_CONNECT_TIME_T, &connected_us);
      return connected_us == 0 ? ExchangeEnd::kUnreachable : ExchangeEnd::kBroken;
    }
    default:
      return ExchangeEnd::kBroken;
  }
}

std::optional<boost::json::object> json_object(std::string_view json) {
  boost::system::error_code error;
  boost::json::value value = boost::json::parse(boost::json::string_view(json.data(), json.size()), error);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.as_object());
}

std::optional<Milliseconds> retry_after_of(CURL* curl, const HttpResponse& response) {
  if (response.header("Retry-After")) {
    curl_off_t seconds = 0;  // curl reads the date form too
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds);
    return std::chrono::seconds(seconds);
  }
  // What older servers send with a 429.
  if (response.status != 429) return std::nullopt;
  const std::optional<boost::json::object> error = json_object(response.body);
  if (!error) return std::nullopt;
  const boost::json::value* const member = error->if_contains("retry_after_ms");
  if (member == nullptr || !member->is_int64()) return std::nullopt;
  return Milliseconds(std::clamp<std::int64_t>(member->as_int64(), 0, std::int64_t{1} << 40));
}

bool is_loopback(const std::string& host) {
  in_addr address{};
  const bool is_v4 = ::inet_pton(AF_INET, host.c_str(), &address) == 1;
  return host == "localhost" || host == "[::1]" || (is_v4 && ntohl(address.s_addr) >> 24 == 127);
}

std::string first_line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line(kMaxTokenFile_bytes, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<std::size_t>(file.gcount()));
  line.resize(std::min(line.find_first_of("\r\n"), line.size()));
  return std::string(trim(line));
}

std::string first_of(const std::string& option, const std::optional<std::string>& variable) {
  return option.empty() ? variable.value_or("") : option;
}

}  // namespace

ClientEnvironment ClientEnvironment::of_process() {
  ClientEnvironment environment;
  environment.variable = [](const char* name) -> std::optional<std::string> {
    const char* const value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    return value;
  };
  environment.diagnostics_are_a_terminal = ::isatty(environment.diagnostics) == 1;
  environment.clock = std::make_shared<SystemClock>();
  environment.sleep = [](Milliseconds time) { std::this_thread::sleep_for(time); };
  return environment;
}

std::optional<std::string_view> HttpResponse::header(std::string_view name) const {
  for (const auto& [field, value] : headers) {
    if (equals_ignoring_case(field, name)) return value;
  }
  return std::nullopt;
}

struct ClientSession::Impl {
  std::string server;
  std::string token;
  bool server_is_local = false;
  std::unique_ptr<CURL, void (*)(CURL*)> curl{nullptr, curl_easy_cleanup};
  std::vector<curl_socket_t> sockets;  // while a connection is chosen there may be several, afterwards one
  Exchange* exchange = nullptr;        // the one under way

  HttpResponse perform(const HttpRequest& request);
  void prepare(const HttpRequest& request, Exchange& exchange_under_way);
  curl_slist* field_list(const HttpRequest& request) const;

  static std::size_t on_source(char* data, std::size_t size, std::size_t count, void* user) {
    auto& impl = *static_cast<Impl*>(user);
    return read_source(*impl.exchange, {data, size * count}, impl.sockets.size() == 1 ? impl.sockets.front() : -1);
  }
  static curl_socket_t on_open_socket(void* user, curlsocktype, curl_sockaddr* address) {
    const curl_socket_t socket = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (socket != CURL_SOCKET_BAD) static_cast<Impl*>(user)->sockets.push_back(socket);
    return socket;
  }
  static int on_close_socket(void* user, curl_socket_t socket) {
    auto& impl = *static_cast<Impl*>(user);
    std::erase(impl.sockets, socket);
    if (impl.exchange != nullptr && impl.exchange->request.upload && impl.exchange->response.status < 200) {
      take_last_words(receive_what_is_there(socket), impl.exchange->response);
    }
    return ::close(socket);
  }
};

HttpResponse ClientSession::Impl::perform(const HttpRequest& request) {
  Exchange under_way{.curl = curl.get(), .request = request};
  std::array<char, CURL_ERROR_SIZE> error{};
  prepare(request, under_way);
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> fields(field_list(request), curl_slist_free_all);
  set(curl.get(), CURLOPT_HTTPHEADER, fields.get());
  set(curl.get(), CURLOPT_ERRORBUFFER, error.data());

  exchange = &under_way;
  const CURLcode code = curl_easy_perform(curl.get());
  exchange = nullptr;

  if (under_way.response.status < 200) {  // nothing, or no more than 100 Continue
    under_way.response.status = 0;
    under_way.response.headers.clear();
  }
  const ExchangeEnd end = end_of(code, under_way);
  HttpResponse response = std::move(under_way.response);
  response.end = end;
  if (response.end != ExchangeEnd::kWhole && response.trouble.empty()) {
    response.trouble = error[0] != '\0' ? error.data() : curl_easy_strerror(code);
  }
  response.retry_after = retry_after_of(curl.get(), response);
  // The error buffer and the field list are about to go.
  curl_easy_reset(curl.get());
  return response;
}

void ClientSession::Impl::prepare(const HttpRequest& request, Exchange& under_way) {
  CURL* const handle = curl.get();
  curl_easy_reset(handle);
  set(handle, CURLOPT_URL, (server + request.path).c_str());
  set(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  set(handle, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  set(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(handle, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
  set(handle, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  if (server_is_local) set(handle, CURLOPT_PROXY, "");
  set(handle, CURLOPT_FORBID_REUSE, 1L);
  set(handle, CURLOPT_OPENSOCKETFUNCTION, &Impl::on_open_socket);
  set(handle, CURLOPT_OPENSOCKETDATA, this);
  set(handle, CURLOPT_CLOSESOCKETFUNCTION, &Impl::on_close_socket);
  set(handle, CURLOPT_CLOSESOCKETDATA, this);
  set(handle, CURLOPT_TCP_KEEPALIVE, 1L);
  set(handle, CURLOPT_TCP_KEEPIDLE, kKeepAlive_s);
  set(handle, CURLOPT_TCP_KEEPINTVL, kKeepAlive_s);
  set(handle, CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeout_ms);
  if (request.time_limit) set(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(request.time_limit->count()));
  set(handle, CURLOPT_BUFFERSIZE, kReceiveBuffer_bytes);
  set(handle, CURLOPT_HEADERFUNCTION, &on_header_line);
  set(handle, CURLOPT_HEADERDATA, &under_way);
  set(handle, CURLOPT_WRITEFUNCTION, &on_body_bytes);
  set(handle, CURLOPT_WRITEDATA, &under_way);
  set(handle, CURLOPT_NOPROGRESS, 0L);
  set(handle, CURLOPT_XFERINFOFUNCTION, &on_progress);
  set(handle, CURLOPT_XFERINFODATA, &under_way);
  if (request.follow_redirects) {
    set(handle, CURLOPT_FOLLOWLOCATION, 1L);
    set(handle, CURLOPT_MAXREDIRS, kMaxRedirects);
  }
  if (request.upload) {
    set(handle, CURLOPT_UPLOAD, 1L);
    set(handle, CURLOPT_INFILESIZE_LARGE, request.upload->size ? static_cast<curl_off_t>(*request.upload->size) : -1);
    set(handle, CURLOPT_UPLOAD_BUFFERSIZE, kUploadBuffer_bytes);
    set(handle, CURLOPT_READFUNCTION, &Impl::on_source);
    set(handle, CURLOPT_READDATA, this);
    set(handle, CURLOPT_EXPECT_100_TIMEOUT_MS, kContinueTimeout_ms);
  } else if (request.method == "POST") {
    set(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(handle, CURLOPT_POSTFIELDS, request.body.c_str());
  } else if (request.method == "HEAD") {
    set(handle, CURLOPT_NOBODY, 1L);
  }
}

curl_slist* ClientSession::Impl::field_list(const HttpRequest& request) const {
  curl_slist* list = nullptr;
  const auto add = [&list](const std::string& field) { list = curl_slist_append(list, field.c_str()); };
  if (!token.empty()) add("Authorization: Bearer " + token);
  if (request.upload && !request.upload->size) add("Transfer-Encoding: chunked");
  // Without a word curl chooses by itself.
  add(request.expect_continue ? "Expect: 100-continue" : "Expect:");
  for (const std::string& field : request.headers) add(field);
  return list;
}

ClientSession::ClientSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClientSession::~ClientSession() = default;
ClientSession::ClientSession(ClientSession&&) noexcept = default;
ClientSession& ClientSession::operator=(ClientSession&&) noexcept = default;

Outcome<ClientSession> ClientSession::open(const std::string& server, const std::string& token,
                                           const ClientEnvironment& environment) {
  [[maybe_unused]] static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  auto impl = std::make_unique<Impl>();
  impl->curl.reset(curl_easy_init());
  if (!impl->curl) throw std::bad_alloc();

  impl->server = first_of(server, environment.variable("SLUICE_SERVER"));
  if (impl->server.empty()) impl->server = kDefaultServer;
  while (impl->server.ends_with('/')) impl->server.pop_back();
  const std::unique_ptr<CURLU, void (*)(CURLU*)> url(curl_url(), curl_url_cleanup);
  const bool has_scheme = impl->server.starts_with("http://") || impl->server.starts_with("https://");
  char* host = nullptr;
  if (!has_scheme || curl_url_set(url.get(), CURLUPART_URL, impl->server.c_str(), 0) != CURLUE_OK ||
      curl_url_get(url.get(), CURLUPART_HOST, &host, 0) != CURLUE_OK) {
    return bad_usage(
        fmt::format("'{}' is not a server's URL: give one like {} with --server", impl->server, kDefaultServer));
  }
  impl->server_is_local = is_loopback(host);
  curl_free(host);

  impl->token = first_of(token, environment.variable("SLUICE_TOKEN"));
  // The local server's own token is for the local server: a foreign one must not be shown it.
  if (impl->token.empty() && impl->server_is_local) {
    const std::optional<std::string> data_dir = environment.variable("SLUICE_DATA_DIR");
    impl->token = first_line_of(data_dir ? *data_dir + "/token" : environment.token_file);
  }
  if (has_control_characters(impl->token) || impl->token.find(' ') != std::string::npos) {
    return bad_usage("the token holds blanks or control characters: check --token or SLUICE_TOKEN");
  }
  return ClientSession(std::move(impl));
}

HttpResponse ClientSession::perform(const HttpRequest& request) { return impl_->perform(request); }

const std::string& ClientSession::server() const { return impl_->server; }

std::string download_path(const Mxc& mxc, Milliseconds timeout) {
  return fmt::format("/_matrix/client/v1/media/download/{}/{}?timeout_ms={}", percent_encode(mxc.server_name()),
                     mxc.media_id(), timeout.count());
}

std::optional<std::string> json_string(std::string_view json, const char* member) {
  const std::optional<boost::json::object> object = json_object(json);
  if (!object) return std::nullopt;
  const boost::json::value* const value = object->if_contains(member);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->as_string().data(), value->as_string().size());
}

std::string errcode_of(const HttpResponse& response) { return json_string(response.body, "errcode").value_or(""); }

std::string describe_failure(const HttpResponse& response) {
  if (response.status < 400) {
    if (!response.trouble.empty()) return response.trouble;
    return fmt::format("the server answered HTTP {}", response.status);
  }
  const std::string errcode = errcode_of(response);
  if (errcode.empty()) return fmt::format("the server answered HTTP {}", response.status);
  const std::string message = json_string(response.body, "error").value_or("");
  return fmt::format("{}{}{} (HTTP {})", errcode, message.empty() ? "" : ": ", message, response.status);
}

std::string advice_for(const HttpResponse& response) {
  if (response.end == ExchangeEnd::kUnreachable) return "check that it runs, and --server or SLUICE_SERVER";
  const std::string errcode = errcode_of(response);
  if (response.status == 401) return "give a valid token with --token or SLUICE_TOKEN";
  if (response.status == 403) return "use the token of a user who may do this";
  if (response.status == 413) return "send less, or raise the server's limit for uploads";
  if (response.status == 429) return "try again later";
  if (response.status == 507) return "make room on the server";
  if (response.status / 100 == 3 || errcode == "M_UNRECOGNIZED") {
    return "check that --server is the base URL of a Matrix media server";
  }
  if (response.status >= 500) return "try again later, or look into the server's log";
  if (response.status >= 400) return "check the arguments";
  return "try again";
}

bool is_transient(int status) { return status == 502 || status == 503 || status == 504; }

std::string describe_wait(Milliseconds wait) {
  using std::chrono::ceil;
  if (wait > std::chrono::minutes(90)) return format_duration(ceil<std::chrono::hours>(wait));
  if (wait > std::chrono::seconds(90)) return format_duration(ceil<std::chrono::minutes>(wait));
  if (wait > std::chrono::seconds(1)) return format_duration(ceil<std::chrono::seconds>(wait));
  return format_duration(wait);
}

Milliseconds backoff(int failures) {
  const int doublings = std::clamp(failures - 1, 0, 10);
  return std::min(kMaxBackoff, kFirstBackoff * (1 << doublings));
}

}  // namespace sluice::cli
