#include "server/sim/paper_flows.h"

#include <algorithm>

#include "scheduler/delay_model.h"
#include "scheduler/sim/scenario.h"

namespace goad::server {

void SharedFlows::Begin(const Question& question, MonotonicTime) { flows_.push_back({&question, Amount(question), 0}); }

void SharedFlows::Drop(sched::QueryId id, MonotonicTime) {
  flows_.erase(std::find_if(flows_.begin(), flows_.end(), [&](const Flow& flow) { return flow.question->id == id; }));
}

MonotonicTime SharedFlows::Next(MonotonicTime now) {
  SetRates();
  MonotonicTime earliest = MonotonicTime::Infinite();
  for (const Flow& flow : flows_)
    earliest = std::min(earliest, now + absl::Seconds(flow.left / flow.rate) + absl::Nanoseconds(1));
  return earliest;
}

void SharedFlows::Advance(MonotonicTime from, MonotonicTime to) {
  const double seconds = SecondsBetween(from, to);
  for (Flow& flow : flows_) flow.left -= flow.rate * seconds;
}

std::vector<Flows::End> SharedFlows::Ended(MonotonicTime) {
  std::vector<End> ended;
  for (const Flow& flow : flows_) {
    if (flow.left <= 0) ended.push_back({flow.question->id});
  }
  flows_.erase(std::remove_if(flows_.begin(), flows_.end(), [](const Flow& flow) { return flow.left <= 0; }),
               flows_.end());
  return ended;
}

double RadioUplinks::Amount(const Question& question) const { return question.candidate.prompt_bits; }

void RadioUplinks::SetRates() {
  std::vector<int> uploads(sites_.size());
  std::vector<double> interference_w(sites_.size());
  for (const auto& [question, left, rate] : flows_) {
    ++uploads[question->site];
    for (size_t j = 0; j < sites_.size(); ++j) {
      if (j != question->site) interference_w[j] += question->candidate.tx_power_w * question->gain[j];
    }
  }
  for (auto& [question, left, rate] : flows_) {
    const size_t j = question->site;
    rate = question->candidate.prompt_bits / sched::UploadSeconds(sites_[j], question->candidate, question->gain[j],
                                                                  sched::kUnknown, interference_w[j], uploads[j]);
  }
}

double EqualShareSites::Amount(const Question& question) const {
  return sched::kMeasuredWork * question.candidate.edge_work_flop;
}

void EqualShareSites::SetRates() {
  std::vector<int> computing(sites_.size());
  for (const auto& [question, left, rate] : flows_) ++computing[question->site];
  for (auto& [question, left, rate] : flows_) {
    const size_t j = question->site;
    rate = question->candidate.edge_work_flop / sched::ComputeSeconds(sites_[j], question->candidate, computing[j]);
  }
}

}  // namespace goad::server
