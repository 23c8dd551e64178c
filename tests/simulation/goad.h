// One goad of a simulation, from start to end: session cores, outboxes, inbox, engine, dispatcher and scripted backends
// in one thread and virtual time. After every step it checks that each query got at most one decision and exactly one
// terminal per stream (a repeated question may get them again, the same ones), that tokens are contiguous, that queues
// keep their bounds, that nothing is dispatched past its deadline, and that site slots equal live grants.
#ifndef GOAD_TESTS_SIMULATION_GOAD_H_
#define GOAD_TESTS_SIMULATION_GOAD_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/dispatch/dispatcher.h"
#include "server/engine/engine.h"
#include "server/engine/inbox.h"
#include "server/session/session_core.h"
#include "tests/simulation/backends.h"
#include "tests/simulation/stage.h"

namespace goad::server {

class SimGoad;

// The device's end of a stream.
class SimPeer {
 public:
  virtual ~SimPeer() = default;
  virtual void Deliver(uint64_t generation, const v1::ServerFrame& frame) = 0;
  virtual void Lost(uint64_t generation, const char* why) = 0;
};

// The transport of one session on the server side, with its link to the device.
class SimStream final : public SessionStream, public std::enable_shared_from_this<SimStream> {
 public:
  SimStream(SimGoad* goad, SimPeer* peer, uint64_t generation) : goad_(goad), peer_(peer), generation_(generation) {}

  void Send(const v1::DeviceFrame& frame, absl::Duration after);  // the device's, on its way for so long
  void Lose();  // the device and the server hear of it at different times
  bool dead() const { return dead_; }
  SimGoad* goad() const { return goad_; }

  void Pump() override;
  void End(const ErrorInfo& why) override;

 private:
  friend class SimGoad;
  void Count(const v1::ServerFrame& frame);

  SimGoad* const goad_;
  SimPeer* const peer_;
  const uint64_t generation_;
  std::shared_ptr<Session> session_;
  std::unique_ptr<SessionCore> core_;
  bool dead_ = false;
  absl::Duration last_arrival_;                               // frames arrive in order
  std::map<std::string, std::string> decisions_, terminals_;  // by query id, as first sent
  std::map<std::string, uint64_t> text_end_;
};

// Thread-compatible. What its streams have on the stage refers to it: it stays, killed, until that is cleared.
class SimGoad {
 public:
  SimGoad(Stage* stage, Config config);
  ~SimGoad();

  // Null when it is refused: it is draining or was killed.
  std::shared_ptr<SimStream> Open(SimPeer* peer, uint64_t generation);
  void Drain(absl::Duration reconnect_after, absl::Duration timeout);
  // All its streams are lost at once, and nothing of it goes on.
  void Kill();
  void Apply(Config next, bool keep_overrides);  // as the daemon does
  int ChangeSites(Config next);                  // returns how many places were given to another site
  const Config& config() const { return *config_.Current(); }
  bool draining() const { return draining_; }
  bool killed() const { return killed_; }

  bool Step();                                    // whatever is due now; false: nothing was
  bool woken() const { return !woken_.empty(); }  // there is something to be written
  void Check();
  MonotonicTime NextWake() const;
  bool idle() const { return killed_ || engine_->idle(); }
  bool SlotsLeak();

 private:
  friend class SimStream;
  class Port;

  void Watch();
  void CheckStatus(const EngineStatus& status);

  Stage* const stage_;
  bool draining_ = false, killed_ = false;
  MonotonicTime reload_clock_;  // runs ahead: places of removed sites are given to others soon
  ConfigStore config_;
  Metrics metrics_;
  QueryMemory memory_{1000};
  Inbox inbox_;
  std::atomic<uint64_t> next_query_id_{1};
  std::atomic<int64_t> inline_prompt_bytes_{0};
  TenantLimiter limiter_;
  OutboxBudget outboxes_;
  std::vector<std::shared_ptr<SessionStream>> woken_;
  std::unique_ptr<SessionRegistry> registry_;
  SimBackends backends_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<Engine> engine_;
  uint64_t next_session_ = 1;
  std::map<SessionId, std::shared_ptr<SimStream>> streams_;  // that it has not seen the end of
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_GOAD_H_
