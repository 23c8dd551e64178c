#include "tests/fakes/tcp_proxy.h"

#include <poll.h>
#include <unistd.h>

#include <vector>

#include "tests/fakes/loopback.h"

namespace goad::server {

TcpProxy::TcpProxy(int target_port, std::string from) : from_(std::move(from)) {
  listen_fd_ = ListenOnLoopback(&port_);
  thread_ = std::thread([this, target_port] { Run(target_port); });
}

TcpProxy::~TcpProxy() {
  stop_ = true;
  shutdown(listen_fd_, SHUT_RDWR);
  thread_.join();
  close(listen_fd_);
}

std::string TcpProxy::address() const { return "127.0.0.1:" + std::to_string(port_); }

void TcpProxy::Run(int target_port) {
  std::vector<pollfd> sockets = {{listen_fd_, POLLIN, 0}};  // then pairs
  while (!stop_) {
    if (poll(sockets.data(), silent_ ? 1 : sockets.size(), 20) <= 0 || silent_) continue;
    const size_t known = sockets.size();
    if (sockets[0].revents != 0) {
      const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) break;
      sockets.push_back({fd, POLLIN, 0});
      sockets.push_back({ConnectToLoopback(target_port, from_), POLLIN, 0});
    }
    for (size_t k = 1; k < known; ++k) {
      if (sockets[k].revents == 0) continue;
      const int other = sockets[k % 2 == 1 ? k + 1 : k - 1].fd;
      char bytes[16384];
      const ssize_t n = recv(sockets[k].fd, bytes, sizeof bytes, 0);
      if (n > 0) {
        for (ssize_t sent = 0, step;
             sent < n && (step = send(other, bytes + sent, static_cast<size_t>(n - sent), MSG_NOSIGNAL)) > 0;
             sent += step) {
        }
      } else {
        shutdown(other, SHUT_WR);
        sockets[k].events = 0;
      }
    }
  }
  for (size_t k = 1; k < sockets.size(); ++k) close(sockets[k].fd);
}

}  // namespace goad::server
