#include "server/dispatch/curl_transport.h"

#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/clip.h"

namespace goad::server {
namespace {

struct Transfer {
  CallId id{};
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  HttpRequest request;
  std::shared_ptr<const std::string> ca_pem;  // read by curl when it connects
  HttpListener* listener = nullptr;
  std::vector<CallId>* heard = nullptr;  // Impl's
  char error[CURL_ERROR_SIZE] = {};
  size_t head_bytes = 0;
  std::string body;   // what came of it and is not reported yet
  std::string fault;  // what is wrong with it, where curl does not know
  bool head_reported = false;
  bool paused = false;
  bool on_new_connection = false;  // asked for
};

constexpr size_t kMaxHead = 128 << 10;  // of all heads of an answer together, informational ones and trailers included
constexpr size_t kShownBytes = 48;
constexpr long kIdleConnections = 1024;  // kept for the next calls; by default curl closes some as soon as calls end
constexpr size_t kIdleHandles = 256;
constexpr long kBytesPerTurn = 8 << 10;    // of one connection, so that none has the thread for itself
constexpr size_t kMostUnpacked = 1 << 20;  // that what is read in a turn may unpack to; events of tokens shrink to a
                                           // thirtieth. Without packing curl itself reads no more than some MB at once

std::string Header(const Transfer& transfer, const char* name) {
  curl_header* header = nullptr;  // of the last answer, so not of a 103 before it
  const bool found = curl_easy_header(transfer.easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK;
  return found ? header->value : "";
}

// Of an answer that begins with no head.
std::string NoHttp(std::string_view bytes) {
  const bool tls = bytes.size() >= 2 && bytes[0] == 0x15 && bytes[1] == 3;  // an alert record (RFC 8446, 5.1)
  if (tls) return "the server speaks TLS: use https://";
  const size_t end = bytes.find_last_not_of("\r\n") + 1;
  return absl::StrCat("the server does not speak HTTP: first bytes \"", Clip(bytes.substr(0, end), kShownBytes), "\"");
}

void ReportHead(Transfer& transfer, MonotonicTime now) {
  if (std::exchange(transfer.head_reported, true)) return;
  long status = 0;
  curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
  curl_off_t retry_after_s = 0;  // in seconds or as a date, which curl turns into seconds
  curl_easy_getinfo(transfer.easy, CURLINFO_RETRY_AFTER, &retry_after_s);
  HttpHead head;
  head.status = static_cast<int>(status);
  head.retry_after = absl::Seconds(retry_after_s);
  head.says_when_to_retry = !Header(transfer, "Retry-After").empty();
  head.content_type = absl::AsciiStrToLower(Header(transfer, "Content-Type"));
  head.content_type.resize(std::min(head.content_type.find_first_of("; "), head.content_type.size()));
  head.framed = !Header(transfer, "Content-Length").empty() || !Header(transfer, "Transfer-Encoding").empty();
  if (status >= 300 && status < 400) head.location = Header(transfer, "Location");
  transfer.listener->OnHead(head, now);
}

// What was wrong.
std::string Words(const Transfer& transfer, CURLcode code) {
  if (!transfer.fault.empty()) return transfer.fault;
  std::string words = transfer.error[0] != 0 ? transfer.error : curl_easy_strerror(code);
  if (words.find("wrong version number") != words.npos) words += " (does the server speak TLS? if not, use http://)";
  return words;
}

size_t OnHeadLine(char*, size_t size, size_t count, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  transfer.head_bytes += size * count;
  return transfer.head_bytes > kMaxHead ? 0 : size * count;
}

// curl calls it for every chunk, and a server sends a token in each: they are reported together.
size_t OnWrite(char* bytes, size_t size, size_t count, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  if (transfer.head_bytes == 0) {
    transfer.fault = NoHttp(std::string_view(bytes, size * count));
    return 0;
  }
  if (transfer.body.size() + size * count > kMostUnpacked && !Header(transfer, "content-encoding").empty()) {
    transfer.fault = "the body unpacks to more than 1 MiB at once";
    return 0;
  }
  if (transfer.body.empty()) transfer.heard->push_back(transfer.id);
  transfer.body.append(bytes, size * count);
  return size * count;
}

}  // namespace

struct CurlTransport::Impl {
  CURLM* multi = nullptr;
  int epoll_fd = -1;
  int wake_fd = -1;
  uint64_t last_id = 0;
  MonotonicTime now;  // of the Poll under way
  std::unordered_map<CallId, std::unique_ptr<Transfer>> transfers;
  std::vector<CURL*> idle;       // handles for the next calls: to make one costs some 25 us
  std::unordered_set<int> kept;  // sockets of connections that no call is on
  std::vector<CallId> heard;     // have a body to report; not within curl's callbacks, where it takes no other calls
  std::vector<CallId> resumed;   // what was held back is reported by the next Poll
  MonotonicTime timer = MonotonicTime::Infinite();

  static int OnSocket(CURL* easy, curl_socket_t socket, int what, void* user, void*) {
    auto* self = static_cast<Impl*>(user);
    epoll_event event{};
    event.data.fd = socket;
    if (what == CURL_POLL_REMOVE) {
      Transfer* transfer = nullptr;
      curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
      if (transfer != nullptr && transfer->paused) {
        epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, socket, nullptr);
        return 0;
      }
      self->kept.insert(socket);  // or closed soon
      event.events = EPOLLIN | EPOLLRDHUP;
      epoll_ctl(self->epoll_fd, EPOLL_CTL_MOD, socket, &event);
      return 0;
    }
    self->kept.erase(socket);
    if (what & CURL_POLL_IN) event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_MOD, socket, &event) != 0) {
      epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, socket, &event);
    }
    return 0;
  }
  // What comes on a connection while nobody asks is of another request, or of none (a 408, an answer given twice), and
  // whoever asked next would be told it. Nothing can be sent there any more, so curl lets it go; it looks itself when
  // it uses a connection again, but only for an end.
  void GiveUp(int socket) {
    char bytes[4096];
    [[maybe_unused]] const ssize_t unasked = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
    shutdown(socket, SHUT_RDWR);
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, socket, nullptr);
    kept.erase(socket);
  }

  static int OnTimer(CURLM*, long timeout_ms, void* user) {
    static_cast<Impl*>(user)->timer =
        timeout_ms < 0 ? MonotonicTime::Infinite() : MonotonicTime::Now() + absl::Milliseconds(timeout_ms);
    return 0;
  }

  CURL* NewHandle() {
    if (idle.empty()) idle.push_back(curl_easy_init());
    CURL* const easy = idle.back();
    idle.pop_back();
    return easy;
  }

  void Free(Transfer& transfer) {
    curl_multi_remove_handle(multi, transfer.easy);
    curl_easy_reset(transfer.easy);
    if (idle.size() < kIdleHandles) {
      idle.push_back(transfer.easy);
    } else {
      curl_easy_cleanup(transfer.easy);
    }
    curl_slist_free_all(transfer.headers);
  }

  static bool IsOnKeptConnection(const Transfer& transfer) {
    long connections_made = 0;
    curl_easy_getinfo(transfer.easy, CURLINFO_NUM_CONNECTS, &connections_made);
    return connections_made == 0 && !transfer.on_new_connection;
  }
  // A 408 that a server said of the silence before the request (RFC 9110, 15.5.9).
  static bool IsOfAnother(const Transfer& transfer) {
    long status = 0;
    curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    return status == 408 && !transfer.head_reported && IsOnKeptConnection(transfer);
  }

  // Each report may start and abort calls, its own among them.
  void ReportBodies() {
    for (const CallId id : std::exchange(heard, {})) {
      auto found = transfers.find(id);
      if (found == transfers.end()) continue;
      if (IsOfAnother(*found->second)) continue;
      ReportHead(*found->second, now);
      found = transfers.find(id);
      if (found == transfers.end()) continue;
      const std::string body = std::exchange(found->second->body, {});
      found->second->listener->OnBody(body, now);
    }
  }

  // A server, or a proxy before it, may end a connection that was kept just when it is used again. libcurl then tries
  // others, five at most, which may be as dead: a restart ends all of them. True when the call is on its way again.
  bool TryNewConnection(Transfer& transfer, CURLcode code) {
    const bool is_dead = code != CURLE_OK && code != CURLE_OPERATION_TIMEDOUT && transfer.head_bytes == 0;
    if (!IsOnKeptConnection(transfer) || !(is_dead || IsOfAnother(transfer))) return false;
    transfer.on_new_connection = true;
    transfer.head_bytes = 0;
    transfer.body.clear();
    curl_multi_remove_handle(multi, transfer.easy);
    curl_easy_setopt(transfer.easy, CURLOPT_FRESH_CONNECT, 1L);
    transfer.fault.clear();
    transfer.error[0] = 0;
    curl_multi_add_handle(multi, transfer.easy);
    return true;
  }

  void ReportEnded() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      Transfer* transfer = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
      const CURLcode code = message->data.result;
      const auto found = transfers.find(transfer->id);
      if (found == transfers.end() || TryNewConnection(*transfer, code)) continue;
      std::unique_ptr<Transfer> ended = std::move(found->second);
      transfers.erase(found);
      if (code == CURLE_OK) ReportHead(*ended, now);
      TransportEnd end = TransportEnd::kComplete;
      if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_SSL_CONNECT_ERROR ||
          code == CURLE_PEER_FAILED_VERIFICATION || (code == CURLE_OPERATION_TIMEDOUT && !ended->head_reported)) {
        end = TransportEnd::kConnectFailed;
      } else if (code != CURLE_OK) {
        end = TransportEnd::kBroken;
      }
      const std::string detail = Words(*ended, code);
      Free(*ended);
      ended->listener->OnEnd(end, detail, now);
    }
  }
};

CurlTransport::CurlTransport() : impl_(std::make_unique<Impl>()) {}

absl::StatusOr<std::unique_ptr<CurlTransport>> CurlTransport::Open() {
  auto transport = std::unique_ptr<CurlTransport>(new CurlTransport());
  Impl* const impl = transport->impl_.get();
  curl_global_init(CURL_GLOBAL_DEFAULT);
  impl->multi = curl_multi_init();
  impl->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  impl->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (impl->multi == nullptr || impl->epoll_fd < 0 || impl->wake_fd < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("dispatch: no descriptors or memory for HTTP: ", std::strerror(errno)));
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = impl->wake_fd;
  epoll_ctl(impl->epoll_fd, EPOLL_CTL_ADD, impl->wake_fd, &event);
  curl_multi_setopt(impl->multi, CURLMOPT_SOCKETFUNCTION, &Impl::OnSocket);
  curl_multi_setopt(impl->multi, CURLMOPT_SOCKETDATA, impl);
  curl_multi_setopt(impl->multi, CURLMOPT_TIMERFUNCTION, &Impl::OnTimer);
  curl_multi_setopt(impl->multi, CURLMOPT_TIMERDATA, impl);
  curl_multi_setopt(impl->multi, CURLMOPT_MAXCONNECTS, kIdleConnections);
  return transport;
}

CurlTransport::~CurlTransport() {
  for (auto& [id, transfer] : impl_->transfers) impl_->Free(*transfer);
  for (CURL* easy : impl_->idle) curl_easy_cleanup(easy);
  if (impl_->multi != nullptr) curl_multi_cleanup(impl_->multi);
  if (impl_->epoll_fd >= 0) close(impl_->epoll_fd);
  if (impl_->wake_fd >= 0) close(impl_->wake_fd);
}

CallId CurlTransport::Start(HttpRequest request, HttpListener* listener) {
  const CallId id{++impl_->last_id};
  auto transfer = std::make_unique<Transfer>();
  transfer->id = id;
  transfer->request = std::move(request);
  transfer->listener = listener;
  transfer->heard = &impl_->heard;
  CURL* easy = transfer->easy = impl_->NewHandle();
  const BackendConfig& backend = *transfer->request.backend;
  const auto add_header = [&](const std::string& line) {
    transfer->headers = curl_slist_append(transfer->headers, line.c_str());
  };
  curl_easy_setopt(easy, CURLOPT_URL, absl::StrCat(backend.url, transfer->request.path).c_str());
  curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer.get());
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(absl::ToInt64Milliseconds(transfer->request.connect_timeout)));
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                   CURL_HTTP_VERSION_1_1);             // one answer at a time on a connection: closing it aborts it
  curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 1L);  // what is no HTTP comes as a body without a head, to be told
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kBytesPerTurn);
  // Not asked for, as it would hold tokens back; decoded where a gateway sends it all the same, and then counted.
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
  add_header("Accept-Encoding: identity");
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &OnHeadLine);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer.get());
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &OnWrite);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer.get());
  if (backend.ca_pem != nullptr) {
    transfer->ca_pem = backend.ca_pem;
    curl_blob blob{const_cast<char*>(backend.ca_pem->data()), backend.ca_pem->size(), CURL_BLOB_NOCOPY};
    curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
  }
  if (!backend.api_key.empty()) add_header(absl::StrCat("Authorization: Bearer ", backend.api_key));
  if (!transfer->request.traceparent.empty()) add_header(absl::StrCat("traceparent: ", transfer->request.traceparent));
  if (!transfer->request.body.empty()) {
    add_header("Content-Type: application/json");
    add_header("Accept: text/event-stream");
    add_header("Expect:");
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(transfer->request.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->request.body.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
  curl_multi_add_handle(impl_->multi, easy);
  impl_->transfers[id] = std::move(transfer);
  return id;
}

void CurlTransport::Abort(CallId id) {
  const auto found = impl_->transfers.find(id);
  if (found == impl_->transfers.end()) return;
  impl_->Free(*found->second);
  impl_->transfers.erase(found);
}

void CurlTransport::SetPaused(CallId id, bool paused) {
  const auto found = impl_->transfers.find(id);
  if (found == impl_->transfers.end()) return;
  std::vector<CallId>& resumed = impl_->resumed;
  resumed.erase(std::remove(resumed.begin(), resumed.end(), id), resumed.end());
  if (paused) found->second->paused = true;
  if (paused) {
    curl_easy_pause(found->second->easy, CURLPAUSE_RECV);
  } else {
    resumed.push_back(id);
    impl_->timer = MonotonicTime();
  }
}

void CurlTransport::Poll(MonotonicTime until) {
  const absl::Duration wait = std::min(until, impl_->timer) - MonotonicTime::Now();
  const int64_t wait_us = std::clamp<int64_t>(absl::ToInt64Microseconds(wait), 0, 1000000);
  epoll_event events[64];
  const int count = epoll_wait(impl_->epoll_fd, events, 64, static_cast<int>((wait_us + 999) / 1000));
  impl_->now = MonotonicTime::Now();
  for (const CallId id : std::exchange(impl_->resumed, {})) {
    const auto found = impl_->transfers.find(id);
    if (found == impl_->transfers.end()) continue;
    found->second->paused = false;
    curl_easy_pause(found->second->easy, CURLPAUSE_CONT);
  }
  impl_->ReportBodies();
  int running = 0;
  for (int k = 0; k < count; ++k) {
    if (events[k].data.fd == impl_->wake_fd) {
      uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t got = read(impl_->wake_fd, &ignored, sizeof ignored);
      continue;
    }
    if (impl_->kept.count(events[k].data.fd) > 0) {
      impl_->GiveUp(events[k].data.fd);
      continue;
    }
    int mask = 0;
    if (events[k].events & EPOLLIN) mask |= CURL_CSELECT_IN;
    if (events[k].events & EPOLLOUT) mask |= CURL_CSELECT_OUT;
    if (events[k].events & (EPOLLERR | EPOLLHUP)) mask |= CURL_CSELECT_ERR;
    curl_multi_socket_action(impl_->multi, events[k].data.fd, mask, &running);
    impl_->ReportBodies();
  }
  if (impl_->timer <= MonotonicTime::Now()) {
    impl_->timer = MonotonicTime::Infinite();
    curl_multi_socket_action(impl_->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    impl_->ReportBodies();
  }
  impl_->ReportEnded();
}

void CurlTransport::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(impl_->wake_fd, &one, sizeof one);
}

}  // namespace goad::server
