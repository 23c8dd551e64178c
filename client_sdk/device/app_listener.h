// Where apps come in: cpp-httplib's server, with the bounds that it has none of. A thread per connection and at most so
// many; a request that trickles in, an answer that nobody takes and an idle connection that others need each have their
// time; and a handler can ask whether its app is still there.
#ifndef GOAD_CLIENT_SDK_DEVICE_APP_LISTENER_H_
#define GOAD_CLIENT_SDK_DEVICE_APP_LISTENER_H_

#include <httplib.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <thread>

namespace goad::device {

// Threads are made when they are needed and kept. One connection more than `most` waits in the kernel's queue.
class ConnectionThreads : public httplib::TaskQueue {
 public:
  explicit ConnectionThreads(size_t most) : most_(most) {}

  void enqueue(std::function<void()> task) override;
  void shutdown() override;
  bool crowded() const { return crowded_; }  // a connection waits for a thread

 private:
  void Run();

  const size_t most_;
  std::atomic<bool> crowded_{false};
  std::mutex mutex_;  // guards the rest
  std::condition_variable wake_;
  std::list<std::function<void()>> tasks_;
  std::list<std::thread> threads_;
  size_t idle_ = 0;
  bool stop_ = false;
};

class AppListener : public httplib::Server {
 public:
  explicit AppListener(size_t most_connections);

  // `port` 0 = any free one. The port that it is; -1: it cannot be.
  int Bind(const std::string& host, int port);

  // On a handler's own thread: its app has hung up, or the listener has stopped and given its answers up.
  static bool AppGone();
  // On a handler's own thread: the request could not be read, because all together have too many bytes.
  static bool TooMuchAtOnce();
  // On a handler's own thread: the connection serves no other request, for what is on it cannot be told apart any more.
  static void CloseAfterThis();
  // Answers that still run are to end: AppGone becomes true.
  void GiveUp() { given_up_ = true; }

 private:
  bool process_and_close_socket(socket_t socket) override;

  ConnectionThreads* threads_ = nullptr;  // httplib's own
  std::atomic<bool> given_up_{false};
  std::atomic<int64_t> bytes_{0};  // of requests that are read or answered
};

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_APP_LISTENER_H_
