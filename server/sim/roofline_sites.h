// Sites whose true service is not of the model's form: continuous batching on a roofline.
#ifndef GOAD_SERVER_SIM_ROOFLINE_SITES_H_
#define GOAD_SERVER_SIM_ROOFLINE_SITES_H_

#include <deque>
#include <vector>

#include "server/sim/flows.h"

namespace goad::server {

// A model of 8e9 parameters at 4 bits on one card with 300 GB/s and some 60 effective TFLOP/s: stated, not measured.
inline constexpr int kBatchLimit = 24;             // queries on one backend at once; more are not sent there
inline constexpr double kStepFloor_s = 0.02;       // of a decode step, however few are in it: all weights are read
inline constexpr double kStepPerQuery_s = 0.0015;  // of a decode step, once so many are in it that this is more
inline constexpr double kPrefillTokens_s = 4000;   // of one prompt after the other
inline constexpr double kPrefillDrag = 1.3;        // a decode step takes so much longer while a prompt is prefilled
inline constexpr double kNoise = 0.15;             // sigma of a factor with mean 1, lognormal: of a backend's steps in
                                                   // one second, and of a prompt's prefill
inline constexpr int kBackendsPerSite = 2;         // equal, but for:
inline constexpr double kSlowBackend = 1.4;        // the last site's last backend takes so much longer
inline constexpr double kSlowdown = 1.5;           // from half of the time on the first site takes so much longer

// The seconds of a decode step with so many in it, without noise, on a backend of speed 1.
double StepSeconds(int batch);
// How much longer than that site's backends take on average. `late`: from half of the time on.
double MeanSlowness(size_t site, size_t sites, bool late);

// A query goes to the backend of its site that has the fewest. Its prompt waits for those before it, and its first
// token is there when it is prefilled; then it takes part in every decode step until it has all of its tokens. Noise is
// of the seed, the second and the number of the question alone, whatever else is decided.
class RooflineSites final : public Flows {
 public:
  // `change`: when the first site becomes slower.
  RooflineSites(size_t sites, uint64_t seed, MonotonicTime start, MonotonicTime change);

  void Begin(const Question& question, MonotonicTime now) override;
  void Drop(sched::QueryId id, MonotonicTime now) override;
  MonotonicTime Next(MonotonicTime now) override;
  void Advance(MonotonicTime, MonotonicTime) override {}
  std::vector<End> Ended(MonotonicTime now) override;

 private:
  struct Running {
    const Question* question;
    MonotonicTime began;
    double first_token_s = 0;
    int left = 0;  // tokens
  };
  struct Backend {
    std::deque<Running> waiting;    // the first is being prefilled
    std::vector<Running> decoding;  // the first `in_step` are in the step
    size_t in_step = 0;
    MonotonicTime prefilled = MonotonicTime::Infinite(), step_ends = MonotonicTime::Infinite();
    size_t queries() const { return waiting.size() + decoding.size(); }
  };
  double Slowness(size_t backend, MonotonicTime now) const;
  void BeginPrefill(size_t backend, MonotonicTime now);
  void BeginStep(size_t backend, MonotonicTime now);
  void EndPrefill(size_t backend, MonotonicTime now, std::vector<End>* ended);
  void EndStep(size_t backend, MonotonicTime now, std::vector<End>* ended);

  const uint64_t seed_;
  const MonotonicTime start_, change_;
  std::vector<Backend> backends_;  // those of a site are neighbours
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_ROOFLINE_SITES_H_
