// The fleet's device model for real: a local server that answers questions while they are asked.
#ifndef GOAD_CLIENT_SDK_LOADGEN_LIVE_MODEL_H_
#define GOAD_CLIENT_SDK_LOADGEN_LIVE_MODEL_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client_sdk/device/local_server.h"

namespace goad::loadgen {

struct LiveAnswer {
  double uncertainty = 0;  // of its first token
  std::string text;
};

// Thread-safe.
class LiveModel {
 public:
  // At most `most_at_once` questions (1..64), a thread each.
  LiveModel(device::LocalAddress address, int most_at_once);
  ~LiveModel();

  // `done` gets the whole answer on one of these threads, or nothing when there was none with an uncertainty. False:
  // they are all busy.
  bool Begin(const std::string& prompt, int most_tokens, std::function<void(std::optional<LiveAnswer>)> done);

  // Waits until nothing is under way: what the `done`s use may go then.
  void Quiet();

  int most_at_once() const { return most_at_once_; }

 private:
  void Work();

  const device::LocalServer server_;
  const int most_at_once_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable wake_;
  std::deque<std::function<void()>> work_;
  int busy_ = 0;  // questions under way
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace goad::loadgen

#endif  // GOAD_CLIENT_SDK_LOADGEN_LIVE_MODEL_H_
