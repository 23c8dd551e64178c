// A TCP proxy on loopback port 0 that can go silent, as a radio link that is lost without a word: connections stay open
// and nothing crosses any more.
#ifndef GOAD_TESTS_FAKES_TCP_PROXY_H_
#define GOAD_TESTS_FAKES_TCP_PROXY_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>

namespace goad::server {

class TcpProxy {
 public:
  explicit TcpProxy(int target_port, std::string from = "");  // whose address it has; empty = 127.0.0.1
  ~TcpProxy();                                                // closes every connection
  std::string address() const;
  void GoSilent() { silent_ = true; }

 private:
  void Run(int target_port);

  const std::string from_;
  int listen_fd_ = -1, port_ = 0;
  std::atomic<bool> silent_{false}, stop_{false};
  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_FAKES_TCP_PROXY_H_
