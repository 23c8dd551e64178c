// What everything in one simulation shares: the seed, the clock, what is to happen, and the first invariant that did
// not hold.
#ifndef GOAD_TESTS_SIMULATION_STAGE_H_
#define GOAD_TESTS_SIMULATION_STAGE_H_

#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "server/base/monotonic_time.h"

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
  double drain = 0.0;               // per run: a goad drains in the middle of it; of several, it comes back
  int goads = 1;                    // each other's neighbours
  double kill = 0.0;                // per ask, of several goads: one is killed, and started again within 2 s
  double move = 0.0;                // per ask, of several goads: a device hears one goad's sites from now on
  bool tiny_queues = false;         // inbox and outboxes are full at once
};

// Thread-compatible.
class Stage {
 public:
  Stage(uint64_t seed, const Faults& which) : random(seed), faults(which) {}

  std::mt19937_64 random;
  const Faults faults;
  MonotonicTime now = MonotonicTime::FromOrigin(absl::Seconds(1));

  absl::Duration instant() const { return now - MonotonicTime(); }  // the same, as devices count it
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(random) < p; }
  absl::Duration Between(double low_ms, double high_ms) {
    return absl::Milliseconds(std::uniform_real_distribution<double>(low_ms, high_ms)(random));
  }

  void At(absl::Duration delay, std::function<void()> what) { AtInstant(instant() + delay, std::move(what)); }
  void AtInstant(absl::Duration instant, std::function<void()> what) { agenda_.emplace(instant, std::move(what)); }
  MonotonicTime next() const {
    return agenda_.empty() ? MonotonicTime::Infinite() : MonotonicTime::FromOrigin(agenda_.begin()->first);
  }
  void Play() {  // all that is due
    while (next() <= now) {
      const auto what = std::move(agenda_.begin()->second);
      agenda_.erase(agenda_.begin());
      what();
    }
  }
  void Clear() { agenda_.clear(); }

  void Broken(const std::string& what) {
    if (broken_.empty()) broken_ = what;
  }
  const std::string& broken() const { return broken_; }

 private:
  std::multimap<absl::Duration, std::function<void()>> agenda_;
  std::string broken_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_STAGE_H_
