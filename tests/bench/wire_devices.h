// The devices of wire_bench, each with a connection of its own, in the bench's own process.
#ifndef GOAD_TESTS_BENCH_WIRE_DEVICES_H_
#define GOAD_TESTS_BENCH_WIRE_DEVICES_H_

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/base/monotonic_time.h"

namespace goad::server {

class Device;

class Fleet {
 public:
  struct Options {
    int connections = 1;
    int answer_tokens = 0;      // of each question; 0 = without a prompt, to be answered LOCAL
    bool again = false;         // asks again as soon as it has its answer
    bool times_tokens = false;  // see TakeGaps
    std::string root_pem;       // of the server's certificate; empty = plaintext
  };
  // Connects, says Hello, reports its link and waits until all are welcome.
  Fleet(int port, Options options);
  ~Fleet();  // ends the streams

  void AskAll();
  void Ask(size_t device);  // REQUIRES: it waits for no answer. From one thread.
  // Every question asked has its answer; nobody asks again.
  void Finish();

  uint64_t answers() const { return answers_; }
  uint64_t tokens() const { return tokens_; }
  // Since the last call, in seconds: from a question to its first token, and between the tokens of an answer.
  std::vector<double> TakeFirstTokens();
  std::vector<double> TakeGaps();

 private:
  friend class Device;
  const Options options_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::atomic<uint64_t> answers_{0}, tokens_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  int welcome_ = 0, waiting_ = 0;  // guarded by mutex_, as all below
  std::vector<double> first_tokens_s_, gaps_s_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_BENCH_WIRE_DEVICES_H_
