// The threads that accept connections of one listener, hand their sockets on, and look after them. gRPC 1.51 ends its
// own listener for good at the first accept error (out of descriptors, say), and bounds neither connections nor
// handshakes.
#ifndef GOAD_SERVER_LISTENER_ACCEPTOR_H_
#define GOAD_SERVER_LISTENER_ACCEPTOR_H_

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/listener/connection_table.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// Thread-safe. A running listener: bound, accepting, looking after what it accepted.
class Acceptor {
 public:
  // Binds "HOST:PORT" ("0.0.0.0" and "[::]" mean every address of both families), or "unix:PATH" (mode 0660; a socket
  // file left there is replaced). FAILED_PRECONDITION names `field` and what is in the way. Accepts nothing until
  // Start.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Bind(const char* field, const std::string& address,
                                                        const ListenerLimits& limits, const ListenerMetrics& metrics);
  ~Acceptor();

  // `take` owns the descriptor it is given; called on the accepting thread, in order. It may take its time, as gRPC
  // does, which reads and parses there what has come already. `memory_short`, asked 100 times a second on the looking
  // thread, says when what connections sent takes more memory than it may; empty = never.
  void Start(std::function<void(int fd)> take, std::function<bool()> memory_short = nullptr);
  // No more connections; those there are stay. Idempotent, joins the threads.
  void Stop();

  int port() const { return port_; }  // 0 for a unix socket
  ConnectionTable& table() { return table_; }
  void SetLimits(const ListenerLimits& limits) { table_.SetLimits(limits); }

  // Of a unix socket's peers, what the kernel knows: "uid=1000 pid=4711" for each process that is connected now, in
  // order. The library does not tell which of them a call is from; mostly there is one. Empty on TCP.
  std::vector<std::string> Processes() const;

  // Connects to this listener from outside, and waits for the first bytes that whoever speaks on connections says by
  // itself or, with `tls`, answers to a handshake. OK, or what failed within `most`. Not counted and not refused as a
  // connection. Blocks.
  absl::Status KnockFromOutside(bool tls, absl::Duration most);

 private:
  Acceptor(std::vector<int> listening, std::string unix_path, std::string address, int port,
           const ListenerLimits& limits, const ListenerMetrics& metrics);
  void Run();
  void LookAgainAndAgain();
  bool StoppedBefore(MonotonicTime until);
  void AcceptAll(int listening, MonotonicTime now);
  void Refuse(ConnectionRefusal why);

  // Constant after construction.
  const std::vector<int> listening_;  // owned
  const std::string unix_path_, address_;
  const int port_;
  const ListenerMetrics metrics_;
  const int descriptor_limit_;  // descriptors from here on are the reserve

  int epoll_fd_ = -1, wake_fd_ = -1;
  std::function<void(int)> take_;
  std::function<bool()> memory_short_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> knocker_{0};  // local port of KnockFromOutside's socket, plus one; 0 = nobody knocks
  uint64_t refused_since_ = 0;
  MonotonicTime next_word_;
  MonotonicTime paused_until_;  // out of descriptors, or enough handshakes at once
  ConnectionTable table_;
  std::condition_variable over_;
  Mutex mutex_;
  bool is_over_ GOAD_GUARDED_BY(mutex_) = false;
  std::thread accepting_, looking_;
};

// The soft limit on descriptors becomes the hard one. Returns it.
int RaiseDescriptorLimit();

// What `limits` and the rest of the daemon can need: two descriptors a connection (ours and the library's), one a
// backend request.
int DescriptorsNeeded(int connections, int backend_requests);

}  // namespace goad::server

#endif  // GOAD_SERVER_LISTENER_ACCEPTOR_H_
