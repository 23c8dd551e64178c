// A thread that goes on for those who may not: the engine and the dispatcher wake what has something to write or an
// answer to give, and its Pump, which calls gRPC, is called here.
#ifndef GOAD_SERVER_BASE_PUMP_H_
#define GOAD_SERVER_BASE_PUMP_H_

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "server/base/mutex.h"

namespace goad::server {

class Pumped {
 public:
  virtual ~Pumped() = default;
  // Does what there is to do, and nothing when there is nothing. Thread-safe: others than the pump may call it, too.
  virtual void Pump() = 0;

 private:
  friend class PumpThread;
  std::atomic<bool> queued_{false};
};

// Thread-safe. The queue holds each Pumped at most once, so it is bounded by how many there are.
class PumpThread {
 public:
  // `name`: of the thread, at most 15 characters. `beat`, if given, is called on it ten times a second.
  explicit PumpThread(const char* name, std::function<void()> beat = nullptr);
  ~PumpThread();  // what is still queued is let go without a Pump

  // Has Pump called on the thread, soon and once more than before now; holds `pumped` until then. Never blocks.
  void Wake(std::shared_ptr<Pumped> pumped);

 private:
  void Run(const char* name);

  const std::function<void()> beat_;  // constant after construction

  Mutex mutex_;
  std::condition_variable nonempty_;
  std::vector<std::shared_ptr<Pumped>> queue_ GOAD_GUARDED_BY(mutex_);
  bool stop_ GOAD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_PUMP_H_
