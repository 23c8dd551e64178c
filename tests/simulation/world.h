// A whole goad in one thread and virtual time: client cores, session cores, outboxes, inbox, engine, dispatcher and
// scripted backends, with faults at every boundary drawn from one seed. After every step it checks that each query got
// at most one decision and exactly one terminal per stream (a repeated question may get them again, the same ones),
// that tokens are contiguous, that queues keep their bounds, that nothing is dispatched past its deadline, and that
// site slots equal live grants.
#ifndef GOAD_TESTS_SIMULATION_WORLD_H_
#define GOAD_TESTS_SIMULATION_WORLD_H_

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "client_sdk/src/client_core.h"
#include "goad/client.h"
#include "server/dispatch/dispatcher.h"
#include "server/engine/engine.h"
#include "server/engine/inbox.h"
#include "server/session/session_core.h"

namespace goad::server {

struct Faults {                     // probabilities per opportunity
  double lose_stream = 0.0;         // per delivered frame
  double bad_backend_answer = 0.0;  // per request: refuse, 429/503, garbage, cut, hang, no finish_reason
  double kill_backend = 0.0;        // per request
  double late_prompt = 0.0;         // the grant runs out before the device sends
  double cancel = 0.0;              // per ask
  double reload = 0.0;              // per ask
  double sites = 0.0;               // per ask: a site or backend is added, removed, drained or resumed, slots change
  double stall = 0.0;               // per delivered frame: the device reads no further for up to 3 s
  double duplicate = 0.0;           // per frame of a device: it comes twice
  double jump = 0.0;                // per ask: the clock leaps by up to 3 s
  double drain = 0.0;               // per run: the daemon drains in the middle of it
  bool tiny_queues = false;         // inbox and outboxes are full at once
};

class World {
 public:
  World(uint64_t seed, int clients, Faults faults);
  ~World();

  // Asks `queries` questions spread over time, then runs until everything is quiet. Empty = every invariant held.
  std::string Run(int queries);
  std::string Counts() const;

 private:
  struct SimStream;
  struct Device;
  class Backends;
  class Port;
  struct Question;
  friend struct SimStream;

  void At(absl::Duration delay, std::function<void()> what);
  void Settle();
  void Apply(Device& device);
  void Deliver(Device& device, uint64_t generation, const v1::ServerFrame& frame);
  void LoseStream(Device& device);
  void AskOne();
  // As goad::Runtime does: a local model beside goad (question.cc).
  void AskBesideLocalModel(Device& device, internal::ClientCore* core, goad::Query query);
  void CountAnswer(const Answer& answer);
  void ChangeSites();
  void Apply(Config next, bool keep_overrides);
  void Watch();
  void Check();
  void Broken(const std::string& what) {
    if (broken_.empty()) broken_ = what;
  }
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(random_) < p; }
  absl::Duration Between(double low_ms, double high_ms) {
    return absl::Milliseconds(std::uniform_real_distribution<double>(low_ms, high_ms)(random_));
  }

  std::mt19937_64 random_;
  const Faults faults_;
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(1));
  std::multimap<absl::Duration, std::function<void()>> agenda_;
  std::string broken_;
  MonotonicTime reload_clock_;  // runs ahead: places of removed sites are given to others soon
  int site_changes_ = 0, places_reused_ = 0;
  int asked_ = 0, answered_ = 0, edge_ = 0, lost_streams_ = 0;
  std::map<std::string, int> why_local_;

  bool draining_ = false;
  absl::Duration jump_;
  std::unique_ptr<ConfigStore> config_;
  std::unique_ptr<Metrics> metrics_;
  QueryMemory memory_{1000};
  Inbox inbox_;
  std::atomic<uint64_t> next_query_id_{1};
  std::atomic<int64_t> inline_prompt_bytes_{0};
  TenantLimiter limiter_;
  OutboxBudget outboxes_;
  std::vector<std::shared_ptr<SessionStream>> woken_;
  std::unique_ptr<SessionRegistry> registry_;
  std::unique_ptr<Backends> backends_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<Engine> engine_;
  uint64_t next_session_ = 1;
  std::vector<std::unique_ptr<Device>> devices_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_WORLD_H_
