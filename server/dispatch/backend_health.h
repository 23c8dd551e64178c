// Whether a backend can be used, and why not: what its probes and its requests say. Pure.
#ifndef GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_
#define GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_

#include <string>
#include <vector>

#include "server/base/monotonic_time.h"
#include "server/config/config.h"
#include "server/engine/status.h"

namespace goad::server {

// Thread-compatible.
//
// A round of probes asks for the configured path, else /health and then /v1/models. Any 2xx is good, and so is 429
// (busy). 401, 403, 404, 405 and 3xx (no such page here, or not for us) lead to the next path, and on the last one are
// bad like any other answer. A path that was good is asked first from then on. After a good answer, each at once:
// /props where it was not up (slots of llama-server), /v1/models once (again where it had no answer: after 2 s, 4 s and
// so on, six times in all), /metrics (load) as long as there is some in it; behind a gateway neither /props nor
// /metrics, which are those of one of many.
//
// `failures_to_open` bad rounds in a row are kDown, and one good round ends that; one that is away is asked every 2 s
// at least. As many failed requests in a row are kHalfOpen, whatever probes say (the key has expired, the model is
// gone), and one that is told of loading is kLoading (behind a gateway, where others may serve: as many in a row). It
// takes one request at a time, after a pause, until one answer is whole. The pause doubles up to 30 s.
class BackendHealth {
 public:
  enum class Asked { kHealth, kProps, kModels, kMetrics };
  struct Settings {
    int failures_to_open = 3;
    absl::Duration period = absl::Seconds(1);
    bool gateway = false;
    std::string path;  // empty = /health, then /v1/models
  };
  struct ProbeAnswer {
    int status = 0;     // 0 = none
    bool late = false;  // none within the probe's time limit
    bool busy = false;  // requests of ours run there, which have time limits of their own
    std::string words;  // what came instead of a good answer
  };

  // `seed` makes the pauses of different backends differ.
  explicit BackendHealth(uint64_t seed = 0) : seed_(seed) {}

  BackendState state() const { return probes_ == BackendState::kUp ? requests_ : probes_; }
  int usable_slots(int slots, MonotonicTime now) const;  // that it may fill now, of `slots`
  MonotonicTime next_probe() const { return probing_ ? MonotonicTime::Infinite() : next_probe_; }
  MonotonicTime next_try() const;  // from when on there are usable slots, as far as is known

  std::string StartProbe(const Settings& settings);  // the path to ask for now; the answer must be reported
  Asked ProbeDone(const ProbeAnswer& answer, const Settings& settings, MonotonicTime now);
  void NoMetrics() { has_metrics_ = false; }
  void AskPropsAgain() { wants_props_ = true; }  // after the next good round

  void RequestFailed(const std::string& words, const Settings& settings, MonotonicTime now);
  void RequestToldOfLoading(const std::string& words, const Settings& settings, MonotonicTime now);
  void RequestSucceeded(MonotonicTime now);
  void Refused(const std::string& words, MonotonicTime now) { Note(words, now); }  // said, and no failure

  // The last that was wrong, "" = nothing yet, and since when it has been so without a good answer in between.
  const std::string& last_error() const { return last_error_; }
  MonotonicTime last_error_since() const { return last_error_since_; }
  MonotonicTime state_since() const { return state_since_; }

 private:
  void Enter(BackendState probes, BackendState requests, MonotonicTime now);
  void Note(const std::string& words, MonotonicTime now);
  void RoundWas(bool good, const ProbeAnswer& answer, const Settings& settings, MonotonicTime now);
  void Open(BackendState as, const Settings& settings, MonotonicTime now);
  void Pause(const Settings& settings, MonotonicTime now);

  uint64_t seed_;
  BackendState probes_ = BackendState::kUnknown;  // what they say: kUnknown, kUp, kLoading or kDown
  BackendState requests_ = BackendState::kUp;     // the same: kUp, kLoading or kHalfOpen
  MonotonicTime state_since_;
  bool probing_ = false;
  size_t path_ = 0;            // of the paths, the one to ask for
  size_t tried_ = 0;           // paths of this round that led to the next
  std::vector<Asked> to_ask_;  // in this round, still: what a good answer is followed by
  int asked_models_ = 0;
  MonotonicTime next_models_;
  bool has_metrics_ = true, knows_models_ = false, wants_props_ = false;
  int bad_rounds_ = 0, failed_requests_ = 0, told_of_loading_ = 0;  // in a row
  int pauses_ = 0;
  MonotonicTime next_probe_, next_try_;
  bool in_error_ = false;
  std::string last_error_;
  MonotonicTime last_error_since_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_
