// An OpenAI-compatible server by script, on loopback port 0. It behaves as llama-server was observed to: /health and
// /props answer, a stream is closed after its last event, a client that leaves is noticed.
#ifndef GOAD_TESTS_FAKES_FAKE_LLM_SERVER_H_
#define GOAD_TESTS_FAKES_FAKE_LLM_SERVER_H_

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/base/monotonic_time.h"

namespace goad::server {

class FakeLlmServer {
 public:
  // One connection as a script sees it.
  class Exchange {
   public:
    Exchange(FakeLlmServer* server, int fd, std::string request_head, std::string request_body)
        : head(std::move(request_head)), body(std::move(request_body)), server_(server), fd_(fd) {}
    bool Send(const std::string& bytes);                       // false when the client has left
    bool Head(int status = 200);                               // status line and headers
    bool Token(const std::string& text);                       // one completion event
    bool Finish(bool finish_reason = true, bool done = true);  // usage, finish_reason, [DONE]
    bool ClientLeftWithin(absl::Duration most);                // waits for it
    bool WaitForRelease();                                     // until the test calls Release(); false when shut down
    const std::string head, body;                              // of the request

   private:
    FakeLlmServer* const server_;
    const int fd_;
  };
  using Script = std::function<void(Exchange&)>;  // for POST; the connection is closed when it returns

  explicit FakeLlmServer(Script script, int slots = 4);
  ~FakeLlmServer();

  std::string url() const;
  void set_script(Script script);
  void set_props(std::string json);  // in the place of {"total_slots":SLOTS}; before anybody asks
  void Release();                    // lets one WaitForRelease go on
  int requests() const { return requests_; }
  int clients_left() const { return left_; }

  // The whole answer "hi there" in two tokens.
  static void Answer(Exchange& exchange);

 private:
  void Accept();
  void Serve(int fd);

  const int slots_;
  int listen_fd_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int> requests_{0}, left_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  Script script_;  // guarded by mutex_, as the next two
  std::string props_;
  int releases_ = 0;
  std::vector<std::thread> workers_;
  std::thread acceptor_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_FAKES_FAKE_LLM_SERVER_H_
