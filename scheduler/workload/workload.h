// Recorded questions with both models' answers and times (deploy/llm/workload.jsonl; its README says where they are
// from).
#ifndef GOAD_SCHEDULER_WORKLOAD_WORKLOAD_H_
#define GOAD_SCHEDULER_WORKLOAD_WORKLOAD_H_

#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::sched {

struct RecordedAnswer {
  std::string answer;  // normalised
  bool correct = false;
  double prefill_s = 0, decode_s = 0;  // on the recording machine
  double local_s() const { return prefill_s + decode_s; }
};

struct RecordedQuestion {
  int id = 0;
  std::string kind;  // of question; empty = not said
  std::string prompt;
  std::string answer;      // the truth, normalised
  double uncertainty = 0;  // of the device model's first token
  int prompt_tokens = 0;
  RecordedAnswer device, edge;
};

// One JSON object per line. INVALID_ARGUMENT names the line and what is wrong with it; an empty file is an error.
absl::StatusOr<std::vector<RecordedQuestion>> ReadWorkload(std::istream& in, const std::string& source);

// As the recording compares answers: without surrounding blanks and final period, lower case.
std::string NormalisedAnswer(const std::string& text);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_WORKLOAD_WORKLOAD_H_
