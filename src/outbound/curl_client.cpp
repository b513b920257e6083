// SPDX-License-Identifier: Apache-2.0
#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <coroutine>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "base/text.h"
#include "outbound/client.h"
#include "runtime/loop.h"

namespace sluice::outbound {
namespace {

using SteadyClock = std::chrono::steady_clock;

// As many requests are under way at once; more wait for their turn, within their own timeout.
constexpr std::size_t kMaxConnections = 64;
// Beyond this many waiting for their turn a request fails at once: they would time out anyway.
constexpr std::size_t kMaxWaiting = 1024;
// A peer that takes longer to connect to is down; the rest of the timeout is for its answer.
constexpr std::chrono::milliseconds kMaxConnectTime = std::chrono::seconds(5);
// Of a response's head. libcurl 7.88 sets no limit of its own on the number of header lines.
constexpr std::size_t kMaxHeaderBytes = 64 * 1024;
// After this long without traffic a pooled connection is probed, so that a dead one is not kept.
constexpr long kKeepaliveSeconds = 30;
// How long the thread sleeps when nothing is due; arrivals wake it.
constexpr std::chrono::milliseconds kIdlePoll = std::chrono::minutes(1);

struct EasyDeleter {
  void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
};
struct MultiDeleter {
  void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};

// One request from its hand-over to its outcome. Lives in the frame of the coroutine that awaits it; until that is
// resumed it belongs to the client's thread.
struct Exchange {
  explicit Exchange(Request the_request) : request(std::move(the_request)) {}

  Request request;
  SteadyClock::time_point deadline{};
  std::expected<Response, Failure> outcome = Response{};

  std::unique_ptr<CURL, EasyDeleter> easy{};
  std::unique_ptr<curl_slist, ListDeleter> headers{};
  std::array<char, CURL_ERROR_SIZE> error_text{};
  std::size_t header_bytes = 0;
  bool too_large = false;

  Loop* loop = nullptr;
  std::coroutine_handle<> waiter{};
};

std::chrono::milliseconds time_left(const Exchange& exchange) {
  return std::chrono::ceil<std::chrono::milliseconds>(exchange.deadline - SteadyClock::now());
}

template <class Value>
void set_option(CURL* easy, CURLoption option, Value value) {
  const CURLcode code = curl_easy_setopt(easy, option, value);
  if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (code != CURLE_OK) throw std::logic_error(curl_easy_strerror(code));
}

std::size_t count_header(char*, std::size_t, std::size_t length, void* context) noexcept {
  Exchange& exchange = *static_cast<Exchange*>(context);
  exchange.header_bytes += length;
  exchange.too_large |= exchange.header_bytes > kMaxHeaderBytes;
  return exchange.too_large ? 0 : length;  // anything but `length` ends the transfer
}

std::size_t take_body(char* data, std::size_t, std::size_t length, void* context) noexcept {
  Exchange& exchange = *static_cast<Exchange*>(context);
  std::string& body = exchange.outcome->body;
  exchange.too_large |= length > exchange.request.max_response_bytes - body.size();
  if (exchange.too_large) return 0;
  body.append(data, length);
  return length;
}

// A line break would let a header's value begin a header of its own.
bool is_sendable(const Request& request) {
  return !has_control_characters(request.url) && std::ranges::none_of(request.headers, [](const auto& header) {
    return has_control_characters(header.first) || has_control_characters(header.second);
  });
}

std::unique_ptr<curl_slist, ListDeleter> to_list(const std::vector<std::pair<std::string, std::string>>& headers) {
  std::unique_ptr<curl_slist, ListDeleter> list;
  for (const auto& [name, value] : headers) {
    // libcurl's notation for a header with an empty value is "Name;": "Name:" would remove it.
    const std::string line = value.empty() ? name + ";" : name + ": " + value;
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    static_cast<void>(list.release());
    list.reset(longer);
  }
  return list;
}

void prepare(Exchange& exchange) {
  exchange.easy.reset(curl_easy_init());
  if (!exchange.easy) throw std::bad_alloc();
  exchange.headers = to_list(exchange.request.headers);
  CURL* easy = exchange.easy.get();

  set_option(easy, CURLOPT_PRIVATE, &exchange);
  set_option(easy, CURLOPT_ERRORBUFFER, exchange.error_text.data());
  set_option(easy, CURLOPT_URL, exchange.request.url.c_str());
  set_option(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set_option(easy, CURLOPT_HTTPHEADER, exchange.headers.get());
  set_option(easy, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
  set_option(easy, CURLOPT_FOLLOWLOCATION, 0L);
  set_option(easy, CURLOPT_PROXY, "");  // none, whatever the environment says

  // Zero would mean no limit.
  const auto timeout = std::max(time_left(exchange), std::chrono::milliseconds(1));
  set_option(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  set_option(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(timeout, kMaxConnectTime).count()));
  set_option(easy, CURLOPT_NOSIGNAL, 1L);
  set_option(easy, CURLOPT_QUICK_EXIT, 1L);  // else giving up on a slow name lookup would hold every other request
  set_option(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set_option(easy, CURLOPT_TCP_KEEPIDLE, kKeepaliveSeconds);
  set_option(easy, CURLOPT_TCP_KEEPINTVL, kKeepaliveSeconds);

  set_option(easy, CURLOPT_HEADERFUNCTION, &count_header);
  set_option(easy, CURLOPT_HEADERDATA, &exchange);
  set_option(easy, CURLOPT_WRITEFUNCTION, &take_body);
  set_option(easy, CURLOPT_WRITEDATA, &exchange);
}

// The text that libcurl gives names hosts, ports and numbers, never a header that was sent.
Failure describe(CURLcode code, const Exchange& exchange) {
  if (exchange.too_large) {
    return {false, fmt::format("the response is longer than {} bytes of head or {} of body", kMaxHeaderBytes,
                               exchange.request.max_response_bytes)};
  }
  const std::string_view text(exchange.error_text.data());
  return {code == CURLE_OPERATION_TIMEDOUT, std::string(text.empty() ? curl_easy_strerror(code) : text)};
}

void read_response(Exchange& exchange) {
  Response& response = *exchange.outcome;
  long status = 0;
  curl_easy_getinfo(exchange.easy.get(), CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  curl_header* header = nullptr;
  if (curl_easy_header(exchange.easy.get(), "Retry-After", 0, CURLH_HEADER, -1, &header) == CURLHE_OK) {
    response.retry_after = header->value;
  }
}

class CurlClient final : public Client {
 public:
  CurlClient();
  ~CurlClient() override;

  Task<std::expected<Response, Failure>> get(Request request) override;

 private:
  // Sleeps until the exchange has its outcome.
  struct Completion {
    CurlClient& client;
    Exchange& exchange;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      exchange.loop = &Loop::current();
      exchange.waiter = waiter;
      client.hand_over(exchange);
    }
    void await_resume() const noexcept {}
  };

  void hand_over(Exchange& exchange);

  // Below: on the client's own thread.
  void serve();
  bool take_arrivals();
  void start_waiting();
  void collect_finished();
  void give_up_waiting();
  std::chrono::milliseconds time_to_sleep() const;
  void start(Exchange& exchange);
  static void resume(Exchange& exchange);

  std::unique_ptr<CURLM, MultiDeleter> multi_;

  std::mutex mutex_;
  std::vector<Exchange*> arrivals_;  // guarded by mutex_
  bool stopping_ = false;            // guarded by mutex_

  std::deque<Exchange*> waiting_;  // for one of kMaxConnections to come free
  std::size_t active_ = 0;

  std::thread thread_;
};

CurlClient::CurlClient() {
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (global != CURLE_OK) throw std::runtime_error(curl_easy_strerror(global));
  multi_.reset(curl_multi_init());
  if (!multi_) throw std::bad_alloc();
  curl_multi_setopt(multi_.get(), CURLMOPT_MAX_TOTAL_CONNECTIONS, static_cast<long>(kMaxConnections));
  thread_ = std::thread([this] { serve(); });
}

CurlClient::~CurlClient() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  curl_multi_wakeup(multi_.get());
  thread_.join();
}

Task<std::expected<Response, Failure>> CurlClient::get(Request request) {
  if (!is_sendable(request)) co_return std::unexpected(Failure{false, "a control character in the URL or a header"});
  Exchange exchange(std::move(request));
  co_await Completion{*this, exchange};
  co_return std::move(exchange.outcome);
}

void CurlClient::hand_over(Exchange& exchange) {
  exchange.deadline = SteadyClock::now() + exchange.request.timeout;
  {
    const std::lock_guard lock(mutex_);
    arrivals_.push_back(&exchange);
  }
  curl_multi_wakeup(multi_.get());
}

void CurlClient::serve() {
  pthread_setname_np(pthread_self(), "outbound");
  while (take_arrivals()) {
    start_waiting();
    int running = 0;
    curl_multi_perform(multi_.get(), &running);
    collect_finished();
    give_up_waiting();
    curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(time_to_sleep().count()), nullptr);
  }
  assert(active_ == 0 && waiting_.empty());
}

bool CurlClient::take_arrivals() {
  std::vector<Exchange*> arrived;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    arrived.swap(arrivals_);
  }
  for (Exchange* exchange : arrived) {
    if (waiting_.size() < kMaxWaiting + kMaxConnections - active_) {
      waiting_.push_back(exchange);
    } else {
      exchange->outcome = std::unexpected(Failure{false, "too many requests are waiting for their turn"});
      resume(*exchange);
    }
  }
  return true;
}

void CurlClient::start_waiting() {
  while (active_ < kMaxConnections && !waiting_.empty()) {
    Exchange& exchange = *waiting_.front();
    waiting_.pop_front();
    start(exchange);
  }
}

void CurlClient::start(Exchange& exchange) {
  try {
    prepare(exchange);
    const CURLMcode code = curl_multi_add_handle(multi_.get(), exchange.easy.get());
    if (code != CURLM_OK) throw std::runtime_error(curl_multi_strerror(code));
    ++active_;
  } catch (const std::exception& error) {
    exchange.outcome = std::unexpected(Failure{false, error.what()});
    resume(exchange);
  }
}

void CurlClient::collect_finished() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    CURL* easy = message->easy_handle;  // the message itself does not outlive the removal
    Exchange* exchange = nullptr;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &exchange);

    if (code == CURLE_OK) {
      read_response(*exchange);
    } else {
      exchange->outcome = std::unexpected(describe(code, *exchange));
    }
    curl_multi_remove_handle(multi_.get(), easy);
    exchange->easy.reset();
    --active_;
    resume(*exchange);
  }
}

void CurlClient::give_up_waiting() {
  std::erase_if(waiting_, [](Exchange* exchange) {
    if (time_left(*exchange).count() > 0) return false;
    exchange->outcome = std::unexpected(Failure{true, "timed out while waiting for a free connection"});
    resume(*exchange);
    return true;
  });
}

std::chrono::milliseconds CurlClient::time_to_sleep() const {
  if (!waiting_.empty() && active_ < kMaxConnections) return {};
  std::chrono::milliseconds time = kIdlePoll;
  for (const Exchange* exchange : waiting_) time = std::min(time, time_left(*exchange));
  return std::max(time, std::chrono::milliseconds(0));
}

// The exchange must not be touched afterwards: its coroutine may already be gone.
void CurlClient::resume(Exchange& exchange) {
  exchange.loop->post([waiter = exchange.waiter] { waiter.resume(); });
}

}  // namespace

std::unique_ptr<Client> make_curl_client() { return std::make_unique<CurlClient>(); }

}  // namespace sluice::outbound
