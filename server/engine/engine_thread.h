// The thread that owns the engine: drains the inbox, ticks, sleeps until the next event or deadline.
#ifndef GOAD_SERVER_ENGINE_ENGINE_THREAD_H_
#define GOAD_SERVER_ENGINE_ENGINE_THREAD_H_

#include <atomic>
#include <thread>

#include "server/engine/engine.h"
#include "server/engine/inbox.h"

namespace goad::server {

// Joins its thread when destroyed. `engine` and `inbox` are not owned and outlive this.
class EngineThread {
 public:
  EngineThread(Engine* engine, Inbox* inbox, Metrics* metrics);
  ~EngineThread();

  // For the engine and its inbox. `keep_overrides`: of tau and policy.
  void SetConfig(std::shared_ptr<const Config> config, bool keep_overrides);

  // Grows with every turn of the loop; at least five times a second. The watchdog looks at it.
  uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }
  // Of all sites, as of the last turn.
  int active_queries() const { return active_queries_.load(std::memory_order_relaxed); }

 private:
  void Run();

  Engine* const engine_;
  Inbox* const inbox_;
  Metrics* const metrics_;
  std::atomic<uint64_t> turns_{0};
  std::atomic<int> active_queries_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_ENGINE_THREAD_H_
