// Many devices on the SDK against a live goad, open loop: questions arrive whether or not earlier ones are answered.
#ifndef GOAD_CLIENT_SDK_LOADGEN_DEVICE_FLEET_H_
#define GOAD_CLIENT_SDK_LOADGEN_DEVICE_FLEET_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client_sdk/loadgen/live_model.h"
#include "goad/client.h"
#include "scheduler/workload/workload.h"

namespace goad::loadgen {

struct FleetOptions {
  ClientOptions client;  // device_name is a prefix
  int devices = 50;
  int questions = 1500;
  double rate_per_s = 25;    // Poisson, over the whole fleet
  double device_factor = 8;  // a device takes this many times the recorded local time
  absl::Duration link_period = absl::Milliseconds(500);
  absl::Duration give_up = absl::Seconds(60);  // after the last question
  int max_output_tokens = 8;
  uint64_t seed = 1;
  bool kinds = false;          // say the kind of each question; goad has to know them all
  LiveModel* local = nullptr;  // the device model for real, as long as it is free; null: all local answers are recorded
};

// What became of one question.
struct Outcome {
  const sched::RecordedQuestion* question = nullptr;
  int answers = 0;  // 1 is right; 0 = lost, 2 = twice
  bool edge = false;
  bool correct = false;
  bool as_recorded = false;                          // equal to the recorded one of the same model
  bool live = false;                                 // the device model ran for it
  double uncertainty = 0;                            // that goad was asked with
  std::string reason;                                // of the decision, or why the device gave up waiting
  absl::Duration delay;                              // question to complete answer, from the asking of goad on
  absl::Duration first_token_after, between_tokens;  // edge; between_tokens 0 with fewer than 2 tokens
};

struct Progress {
  int asked = 0, edge = 0, local = 0, waiting = 0;
};

// Plays the fleet; `progress` is called about once a second. UNAVAILABLE when goad cannot be reached within 10 s.
absl::StatusOr<std::vector<Outcome>> PlayFleet(const FleetOptions& options,
                                               const std::vector<sched::RecordedQuestion>& workload,
                                               const std::function<void(const Progress&)>& progress);

}  // namespace goad::loadgen

#endif  // GOAD_CLIENT_SDK_LOADGEN_DEVICE_FLEET_H_
