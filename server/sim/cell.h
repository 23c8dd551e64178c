// The devices and the sites of a simulated cell around one engine.
#ifndef GOAD_SERVER_SIM_CELL_H_
#define GOAD_SERVER_SIM_CELL_H_

#include <array>
#include <fstream>
#include <memory>
#include <random>
#include <unordered_map>
#include <vector>

#include "scheduler/sim/scenario.h"
#include "scheduler/workload/trace.h"
#include "server/engine/engine.h"
#include "server/sim/flows.h"
#include "server/sim/right_numbers.h"
#include "server/sim/run.h"
#include "server/sim/traced_uplinks.h"

namespace goad::server {

// A phone with a model of 3e9 parameters at 4 bits, at speed 1; each device has a speed of U(0.5, 1.5). Stated, not
// measured.
inline constexpr double kDevicePrefill_s = 1 / 400.0, kDeviceToken_s = 1 / 20.0;  // a token
inline constexpr double kBitsPerToken = 32;                                       // of a prompt that is uploaded

// What a run plays, read once.
struct RunInputs {
  sched::QuestionSource questions;
  std::vector<sched::Arrival> arrivals;  // those that are played, their times scaled; empty = Poisson
  double mean_output_tokens = 0;         // of arrivals: what devices expect of their own answers
  int max_output_tokens = 0;             // every question's
  std::vector<sched::UplinkTrace> uplinks;
  double rate = 0, seconds = 0;
};

// Time goes from event to event: questions, ends of uploads and answers, the engine's own wishes. Thread-compatible.
class Cell final : public SessionSink, public DispatchPort {
 public:
  // `numbers`: what is configured, with arrivals. What is referred to is not owned and outlives this; `log` and
  // `samples` (of the sites, as they were) may be null.
  Cell(const RunOptions& options, const RunInputs& inputs, const SiteNumbers& numbers, std::ofstream* log,
       ServiceSamples* samples);
  RunReport Run();

  // SessionSink and DispatchPort, called by the engine.
  Delivery Deliver(SessionId session, SessionEvent event) override;
  void Start(DispatchRequest request) override;
  void Abort(QueryId) override {}  // nobody cancels here
  void Resume(SessionId) override {}

 private:
  std::shared_ptr<const Config> MakeConfig(bool late) const;
  void Sample(const OutcomeRecord& record, ServiceSamples* samples) const;
  MonotonicTime NextQuestion();
  bool traced() const { return !inputs_.arrivals.empty(); }
  SessionId SessionOf(const Question& question) const;
  void Ask();
  void ReportLinks(const Question& question);
  void Advance(MonotonicTime to);
  void EndFlows();
  void Offload(Question& question, const DecisionEvent& decision);
  void AnswerLocally(Question& question);
  void AtEdge(const Question& question, const Flows::End& end);
  void ForgetGone();

  const RunOptions& options_;
  const RunInputs& inputs_;
  const SiteNumbers& numbers_;
  std::mt19937_64 random_;
  std::vector<sched::SiteState> sites_;  // the paper's
  std::vector<double> speeds_;           // of devices that stay; empty = each question has a new one
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Flows> uploads_, computations_;
  TracedUplinks* traced_uplinks_ = nullptr;  // uploads_, if it is that
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<const EpochRecord> record_;  // the latest

  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(1));
  const MonotonicTime first_ = now_;
  const MonotonicTime last_, change_;  // of the questions; when half of the time is over
  std::unordered_map<QueryId, Question> questions_;
  std::vector<QueryId> gone_;  // answered; the engine may still be at it
  std::vector<int> at_site_;   // slots held
  size_t flows_ = 0;
  RunReport report_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_CELL_H_
