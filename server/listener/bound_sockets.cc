#include "server/listener/bound_sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

constexpr int kBacklog = 4096;

std::string BindError() {
  return absl::StrCat("cannot be bound (",
                      errno == EADDRINUSE ? "in use by another goad or program" : std::strerror(errno), ")");
}

void SetPort(sockaddr_storage& address, int port) {
  if (address.ss_family == AF_INET)
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(static_cast<uint16_t>(port));
  if (address.ss_family == AF_INET6)
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(static_cast<uint16_t>(port));
}

absl::StatusOr<int> BindUnix(const char* field, const std::string& address, const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof name.sun_path) {
    return BindFailed(field, address,
                      absl::StrCat("a path of ", path.size(), " bytes, want 1 to ", sizeof name.sun_path - 1));
  }
  std::memcpy(name.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return BindFailed(field, address, std::strerror(errno));
  const auto* at = reinterpret_cast<const sockaddr*>(&name);
  struct stat there {};
  if (lstat(path.c_str(), &there) == 0 &&
      S_ISSOCK(there.st_mode)) {  // of a goad that was killed, unless somebody answers
    const int knock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const bool answered = knock >= 0 && (connect(knock, at, sizeof name) == 0 || errno == EAGAIN);
    if (knock >= 0) close(knock);
    if (!answered) unlink(path.c_str());
  }
  if (bind(fd, at, sizeof name) != 0 || chmod(path.c_str(), 0660) != 0 || listen(fd, kBacklog) != 0) {
    const absl::Status why = BindFailed(field, address, BindError());
    close(fd);
    return why;
  }
  return fd;
}

absl::StatusOr<int> BindTcp(const char* field, const std::string& address, const addrinfo& at, int port) {
  const int fd = socket(at.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return BindFailed(field, address, std::strerror(errno));
  const int one = 1, off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
             sizeof one);  // not REUSEPORT: a second goad must fail, not share the traffic
  sockaddr_storage name{};
  std::memcpy(&name, at.ai_addr, std::min<size_t>(at.ai_addrlen, sizeof name));
  if (at.ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (port != 0) SetPort(name, port);
  if (bind(fd, reinterpret_cast<sockaddr*>(&name), at.ai_addrlen) != 0 || listen(fd, kBacklog) != 0) {
    const absl::Status why = BindFailed(field, address, BindError());
    close(fd);
    return why;
  }
  return fd;
}

}  // namespace

absl::Status BindFailed(const char* field, const std::string& address, const std::string& what) {
  return absl::FailedPreconditionError(absl::StrCat(field, ": ", address, ": ", what));
}

int PortOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  return 0;
}

absl::StatusOr<BoundSockets> BindSockets(const char* field, const std::string& address) {
  std::vector<int> listening;
  std::string unix_path;
  int port = 0;
  if (absl::StartsWith(address, "unix:")) {
    unix_path = address.substr(5);
    auto fd = BindUnix(field, address, unix_path);
    if (!fd.ok()) return fd.status();
    listening.push_back(*fd);
  } else {
    const size_t colon = address.rfind(':');
    if (colon == std::string::npos) return BindFailed(field, address, "is not HOST:PORT or unix:PATH");
    std::string host = address.substr(0, colon);
    if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    const bool every = host.empty() || host == "0.0.0.0" || host == "::";
    absl::Status last = BindFailed(field, address, "names no address");
    // Every address: one socket for both families, or IPv4 alone where the kernel has no IPv6.
    for (const std::string& name : every ? std::vector<std::string>{"::", "0.0.0.0"} : std::vector<std::string>{host}) {
      addrinfo hints{}, *found = nullptr;
      hints.ai_socktype = SOCK_STREAM;
      hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
      if (const int error = getaddrinfo(name.c_str(), address.c_str() + colon + 1, &hints, &found); error != 0) {
        last = BindFailed(field, address, gai_strerror(error));
        continue;
      }
      for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
        auto fd = BindTcp(field, address, *at, port);
        if (!fd.ok()) {
          last = fd.status();
          continue;
        }
        sockaddr_storage bound{};
        socklen_t size = sizeof bound;
        getsockname(*fd, reinterpret_cast<sockaddr*>(&bound), &size);
        port = PortOf(bound);  // the others of the name get the same
        listening.push_back(*fd);
      }
      freeaddrinfo(found);
      if (!listening.empty()) break;
    }
    if (listening.empty()) return last;
  }
  BoundSockets bound;
  bound.fds = std::move(listening);
  bound.unix_path = std::move(unix_path);
  bound.port = port;
  return bound;
}

}  // namespace goad::server
