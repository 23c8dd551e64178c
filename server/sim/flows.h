// What is under way in a simulated cell: uploads, and answers being computed. Four of them: the paper's radio and sites
// (paper_flows), uplinks that follow a trace (traced_uplinks) and sites whose batches are on a roofline
// (roofline_sites).
#ifndef GOAD_SERVER_SIM_FLOWS_H_
#define GOAD_SERVER_SIM_FLOWS_H_

#include <vector>

#include "scheduler/types.h"
#include "server/base/monotonic_time.h"

namespace goad::server {

// A question from the time it is asked until it is answered. Each has a query of the same number.
struct Question {
  sched::QueryId id{};
  size_t number = 0;           // how many were asked before it
  size_t device = 0;           // who asks
  sched::Candidate candidate;  // what it needs; local_delay_s is what its device expects
  std::vector<double> gain;    // to each site; shannon
  double local_s = 0;          // what its device would take
  int output_tokens = 0;       // batching; the answer's, which nobody knows before it is there
  double local_accuracy = 0, edge_accuracy = 0;
  MonotonicTime asked;

  // Once it is offloaded.
  size_t site = 0;
  MonotonicTime since;  // it uploads, or computes
  bool late = false;    // decided from half of the time on
  double predicted_upload_s = 0, predicted_compute_s = 0;
  double predicted_knowing_s = 0;  // batching: had the decision known output_tokens
};

// Time goes on by Advance alone. Thread-compatible.
class Flows {
 public:
  virtual ~Flows() = default;

  struct End {
    sched::QueryId id{};
    int backend = 0;           // of its site, that it ran on
    double first_token_s = 0;  // since it began; 0 = nobody looked
  };
  // `question` goes to its site. It outlives what it begins here.
  virtual void Begin(const Question& question, MonotonicTime now) = 0;
  virtual void Drop(sched::QueryId id, MonotonicTime now) = 0;  // REQUIRES: it is under way
  // When Ended has something to do; Infinite() when nothing is under way.
  virtual MonotonicTime Next(MonotonicTime now) = 0;
  virtual void Advance(MonotonicTime from, MonotonicTime to) = 0;  // REQUIRES: to <= Next(from)
  virtual std::vector<End> Ended(MonotonicTime now) = 0;           // each once
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_FLOWS_H_
