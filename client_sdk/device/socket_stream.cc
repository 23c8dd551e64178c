#include "client_sdk/device/socket_stream.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace goad::device {
namespace {

using std::chrono::milliseconds;

void Name(int socket, int (*name_of)(int, sockaddr*, socklen_t*), std::string& ip, int& port) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  char host[NI_MAXHOST], service[NI_MAXSERV];
  if (name_of(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return;
  if (getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof(host), service, sizeof(service),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return;
  ip = host;
  port = std::atoi(service);
}

}  // namespace

bool SocketStream::Ready(int socket, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 60000)));
    if (ready > 0) return (entry.revents & (events | POLLHUP | POLLERR)) != 0;
    if (ready == 0 && Clock::now() >= until) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

bool SocketStream::Readable(milliseconds slice) const {
  return begin_ < end_ || Ready(socket_, POLLIN, Clock::now() + slice);
}
bool SocketStream::is_readable() const { return begin_ < end_ || Ready(socket_, POLLIN, read_until_); }
bool SocketStream::is_writable() const { return Ready(socket_, POLLOUT, Clock::now() + write_time_); }

ssize_t SocketStream::read(char* to, size_t size) {
  if (begin_ == end_) {
    if (Clock::now() >= read_until_ || !Ready(socket_, POLLIN, read_until_)) return -1;
    const ssize_t got = recv(socket_, buffer_, sizeof(buffer_), 0);
    if (got <= 0) return got;
    if (!Count(got)) return -1;
    begin_ = 0, end_ = static_cast<size_t>(got);
  }
  if (head_left_ == 0) return -1;
  const size_t taken = std::min({size, end_ - begin_, head_left_.value_or(size)});
  if (head_left_) *head_left_ -= taken;
  std::memcpy(to, buffer_ + begin_, taken);
  begin_ += taken;
  return static_cast<ssize_t>(taken);
}

ssize_t SocketStream::write(const char* from, size_t size) {
  if (!Ready(socket_, POLLOUT, Clock::now() + write_time_)) return -1;
  return send(socket_, from, size, MSG_NOSIGNAL);
}

void SocketStream::get_remote_ip_and_port(std::string& ip, int& port) const { Name(socket_, &getpeername, ip, port); }
void SocketStream::get_local_ip_and_port(std::string& ip, int& port) const { Name(socket_, &getsockname, ip, port); }

}  // namespace goad::device
