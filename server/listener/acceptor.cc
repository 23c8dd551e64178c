#include "server/listener/acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/listener/bound_sockets.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr int kReserve =
    64;  // descriptors kept for files, backends and the admin listener; a quarter where there are few
constexpr absl::Duration kWordEvery = absl::Seconds(10);  // of the log about refused connections
constexpr absl::Duration kLookEvery = absl::Milliseconds(10);
constexpr int kLongestWaitMs = 100;
constexpr absl::Duration kPause = absl::Milliseconds(5);  // while enough handshakes are at it
constexpr absl::Duration kNoDescriptors = absl::Milliseconds(100);

// As gRPC names a peer, for PeerKey.
std::string PeerName(const sockaddr_storage& from) {
  char text[INET6_ADDRSTRLEN] = {};
  if (from.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(from);
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    return absl::StrCat("ipv4:", text, ":", ntohs(in.sin_port));
  }
  if (from.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(from);
    inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
    return absl::StrCat("ipv6:[", text, "]:", ntohs(in.sin6_port));
  }
  return "";
}

// Whether the peer's address is the one it came to: nobody else's can be.
bool FromThisMachine(int fd, const sockaddr_storage& from) {
  sockaddr_storage to{};
  socklen_t size = sizeof to;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&to), &size) != 0) return false;
  return !AddressOfPeer(PeerName(from)).empty() && AddressOfPeer(PeerName(from)) == AddressOfPeer(PeerName(to));
}

std::optional<TcpCounters> Count(const Connection& connection) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(connection.control_fd(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  return TcpCounters{info.tcpi_bytes_received, info.tcpi_bytes_acked, info.tcpi_data_segs_in, info.tcpi_notsent_bytes};
}

}  // namespace

int RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 30));
}

namespace {
int WithoutReserve(int descriptors) { return descriptors - std::min(kReserve, descriptors / 4); }
}  // namespace

int DescriptorsNeeded(int connections, int backend_requests) { return 2 * connections + backend_requests + kReserve; }

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Bind(const char* field, const std::string& address,
                                                         const ListenerLimits& limits, const ListenerMetrics& metrics) {
  auto bound = BindSockets(field, address);
  if (!bound.ok()) return bound.status();
  auto acceptor = std::unique_ptr<Acceptor>(
      new Acceptor(std::move(bound->fds), std::move(bound->unix_path), address, bound->port, limits, metrics));
  acceptor->epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  acceptor->wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (acceptor->epoll_fd_ < 0 || acceptor->wake_fd_ < 0) return BindFailed(field, address, std::strerror(errno));
  return acceptor;
}

Acceptor::Acceptor(std::vector<int> listening, std::string unix_path, std::string address, int port,
                   const ListenerLimits& limits, const ListenerMetrics& metrics)
    : listening_(std::move(listening)),
      unix_path_(std::move(unix_path)),
      address_(std::move(address)),
      port_(port),
      metrics_(metrics),
      descriptor_limit_(WithoutReserve(RaiseDescriptorLimit())),
      table_(limits) {}

Acceptor::~Acceptor() {
  Stop();
  for (const int fd : {epoll_fd_, wake_fd_}) {
    if (fd >= 0) close(fd);
  }
  for (const int fd : listening_) close(fd);
  if (!unix_path_.empty()) unlink(unix_path_.c_str());
}

void Acceptor::Start(std::function<void(int)> take, std::function<bool()> memory_short) {
  take_ = std::move(take);
  memory_short_ = std::move(memory_short);
  accepting_ = std::thread([this] { Run(); });
  looking_ = std::thread([this] { LookAgainAndAgain(); });
}

void Acceptor::Stop() {
  if (!accepting_.joinable()) return;
  stop_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(wake_fd_, &one, sizeof one);
  accepting_.join();
  {
    MutexLock lock(mutex_);
    is_over_ = true;
  }
  over_.notify_all();
  looking_.join();
}

void Acceptor::Refuse(ConnectionRefusal why) {
  metrics_.Refused(static_cast<size_t>(why));
  ++refused_since_;
  const MonotonicTime now = MonotonicTime::Now();
  if (now < next_word_) return;
  spdlog::warn("connections refused or cut off at {}: {} in all, the last for {}", address_, refused_since_,
               ToString(why));
  refused_since_ = 0;
  next_word_ = now + kWordEvery;
}

void Acceptor::AcceptAll(int listening, MonotonicTime now) {
  for (int k = 0; k < 64 && !stop_; ++k) {
    if (table_.EnoughBegin(now)) {
      paused_until_ = now + kPause;
      return;
    }
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    const int fd = accept4(listening, reinterpret_cast<sockaddr*>(&from), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN) return;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        Refuse(ConnectionRefusal::kDescriptors);
        paused_until_ = now + kNoDescriptors;
        return;
      }
      continue;  // of that connection alone (ECONNABORTED and what accept(2) lists)
    }
    const std::string name = PeerName(from);
    const uint64_t knocker = knocker_.load();
    if (knocker != 0 && knocker == static_cast<uint64_t>(PortOf(from)) + 1 && FromThisMachine(fd, from)) {
      take_(fd);  // our own look at the port: it ends by itself
      continue;
    }
    std::optional<ConnectionRefusal> why;
    if (fd >= descriptor_limit_) why = ConnectionRefusal::kDescriptors;
    const std::string address = AddressOfPeer(name);
    if (!why) why = table_.Admit(address, now);
    const int control = why ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (!why && (control < 0 || control >= descriptor_limit_)) why = ConnectionRefusal::kDescriptors;
    if (why) {
      if (control >= 0) close(control);
      close(fd);
      Refuse(*why);
      continue;
    }
    const int one = 1;
    if (!name.empty()) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const auto connection = std::make_shared<Connection>(control, address, now);
    epoll_event event{};
    event.events = EPOLLHUP | EPOLLERR;  // both directions are at an end: the library has let go of it
    event.data.ptr = connection.get();
    table_.Add(PeerKey(name), connection);
    if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, control, &event) != 0) {
      table_.Remove(connection.get(), now);
      close(fd);
      Refuse(ConnectionRefusal::kDescriptors);
      continue;
    }
    take_(fd);
  }
}

void Acceptor::Run() {
  pthread_setname_np(pthread_self(), "goad-acceptor");
  const auto watch = [this](int fd, bool on) {
    epoll_event event{};
    event.events = on ? uint32_t{EPOLLIN} : uint32_t{0};
    event.data.u64 = static_cast<uint64_t>(fd) << 1 | 1;  // pointers are even
    if (epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) != 0) epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event);
  };
  watch(wake_fd_, true);
  bool listening = false;
  while (!stop_) {
    MonotonicTime now = MonotonicTime::Now();
    const bool may = paused_until_ <= now;
    if (may != listening) {
      for (const int fd : listening_) watch(fd, may);
      listening = may;
    }
    const int64_t pause_ms = may ? kLongestWaitMs : absl::ToInt64Milliseconds(paused_until_ - now) + 1;
    epoll_event events[128];
    const int count =
        epoll_wait(epoll_fd_, events, 128, static_cast<int>(std::clamp<int64_t>(pause_ms, 0, kLongestWaitMs)));
    now = MonotonicTime::Now();
    // Ends first: they make room. A connection is removed here only, so that no pointer is of one that is gone.
    for (int k = 0; k < count; ++k) {
      if ((events[k].data.u64 & 1) != 0) continue;
      const auto* connection = static_cast<const Connection*>(events[k].data.ptr);
      epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, connection->control_fd(), nullptr);
      if (const auto why = connection->shut()) Refuse(*why);
      table_.Remove(connection, now);
    }
    for (int k = 0; k < count; ++k) {
      if ((events[k].data.u64 & 1) == 0) continue;
      const int fd = static_cast<int>(events[k].data.u64 >> 1);
      if (fd != wake_fd_ && may) AcceptAll(fd, now);
    }
  }
}

bool Acceptor::StoppedBefore(MonotonicTime until) {
  MutexLock lock(mutex_);
  while (!is_over_ && MonotonicTime::Now() < until) mutex_.WaitUntil(over_, until);
  return is_over_;
}

void Acceptor::LookAgainAndAgain() {
  pthread_setname_np(pthread_self(), "goad-look");
  MonotonicTime now = MonotonicTime::Now();
  while (!StoppedBefore(now + kLookEvery)) {
    now = MonotonicTime::Now();
    table_.Look(now, memory_short_ && memory_short_(), &Count);
    metrics_.Connections(table_.size());
  }
}

std::vector<std::string> Acceptor::Processes() const {
  std::set<std::string> processes;
  if (unix_path_.empty()) return {};
  for (const auto& connection : table_.All()) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(connection->control_fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) continue;
    processes.insert(absl::StrCat("uid=", peer.uid, " pid=", peer.pid));
  }
  return {processes.begin(), processes.end()};
}

absl::Status Acceptor::KnockFromOutside(bool tls, absl::Duration most) {
  const MonotonicTime until = MonotonicTime::Now() + most;
  sockaddr_storage at{};
  socklen_t size = sizeof at;
  if (getsockname(listening_[0], reinterpret_cast<sockaddr*>(&at), &size) != 0)
    return absl::InternalError("getsockname");
  if (at.ss_family == AF_UNIX) return absl::OkStatus();  // nobody but the operator reaches it
  if (at.ss_family == AF_INET6) {                        // the wildcard is reached by loopback
    auto& in = reinterpret_cast<sockaddr_in6&>(at);
    if (IN6_IS_ADDR_UNSPECIFIED(&in.sin6_addr))
      inet_pton(AF_INET6, "::ffff:127.0.0.1", &in.sin6_addr);  // ::1 may be off
  }
  const int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ResourceExhaustedError(absl::StrCat("no descriptor to look with: ", std::strerror(errno)));
  const auto wait_for = [&](short what) {
    pollfd waiting{fd, what, 0};
    const int64_t left_ms = absl::ToInt64Milliseconds(until - MonotonicTime::Now());
    return left_ms > 0 && poll(&waiting, 1, static_cast<int>(left_ms)) > 0;
  };
  const int off = 0;
  if (at.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  // The local port must be known before the connection is, so that the acceptor knows its own.
  sockaddr_storage from{};
  from.ss_family = at.ss_family;
  socklen_t from_size = size;
  absl::Status status;
  bool open = bind(fd, reinterpret_cast<sockaddr*>(&from), size) == 0 &&
              getsockname(fd, reinterpret_cast<sockaddr*>(&from), &from_size) == 0;
  if (open) {
    knocker_ = static_cast<uint64_t>(PortOf(from)) + 1;
    int error = 0;
    socklen_t error_size = sizeof error;
    open = connect(fd, reinterpret_cast<sockaddr*>(&at), size) == 0 || (errno == EINPROGRESS && wait_for(POLLOUT));
    if (open) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
    open = open && error == 0;
  }
  if (!open) {
    status = absl::UnavailableError("does not accept connections");
  } else if (tls) {
    SSL_CTX* context =
        SSL_CTX_new(TLS_client_method());  // says nothing of whom it meets: verification is off on purpose
    SSL* ssl = SSL_new(context);
    static const unsigned char kH2[] = {2, 'h', '2'};
    SSL_set_alpn_protos(ssl, kH2, sizeof kH2);
    SSL_set_fd(ssl, fd);
    int done = 0;
    while ((done = SSL_connect(ssl)) != 1) {
      const int why = SSL_get_error(ssl, done);
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) break;
      if (!wait_for(why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT)) break;
    }
    if (done != 1) status = absl::UnavailableError("accepts connections, but no TLS handshake comes to an end");
    SSL_free(ssl);
    SSL_CTX_free(context);
  } else {
    char byte = 0;
    if (!wait_for(POLLIN) || recv(fd, &byte, 1, 0) != 1)
      status = absl::UnavailableError("accepts connections, but says nothing on them");
  }
  knocker_ = 0;
  close(fd);
  return status;
}

}  // namespace goad::server
