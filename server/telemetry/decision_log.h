// The decision log: a JSON line per decision and per outcome, whole snapshots of some epochs, rotated by size.
#ifndef GOAD_SERVER_TELEMETRY_DECISION_LOG_H_
#define GOAD_SERVER_TELEMETRY_DECISION_LOG_H_

#include <condition_variable>
#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "server/config/config.h"
#include "server/telemetry/epoch_feed.h"
#include "server/telemetry/metrics.h"
#include "server/telemetry/outcome_record.h"

namespace goad::server {

// Lines, by "kind":
// time (wall time, when it was written: UTC, ISO 8601), in every line
//   decision  device, tenant and trace_id (none: absent), as whoever asked has them; epoch, query_id, verdict, reason,
//   site (name), uncertainty, value (with a calibration: what the policy read instead), local_s, upload_s, compute_s
//   (predicted);
//             metric, and of the device's Hello what it said: model, prompt_form, uncertainty_tokens,
//             uncertainty_candidates, uncertainty_method. Logs of old have none of these: the metric is MARGIN
// (every decision of the engine; what a session refuses at the door, LOCAL/OVERLOAD, is counted in refused_total only)
//   snapshot  see snapshot_json.h
//   outcome   see outcome_json.h, of every query that was sent to a site, when it leaves it
// A full disk, a failed write or a folder that is gone costs lines, which are counted, and is logged once; serving goes
// on, and so does the log as soon as it can. A file that somebody moved away is begun anew. Writes on its own thread.
class DecisionLog {
 public:
  // FAILED_PRECONDITION when the file cannot be opened.
  static absl::StatusOr<std::unique_ptr<DecisionLog>> Open(const DecisionLogConfig& config, EpochFeed* feed,
                                                           Metrics* metrics);
  ~DecisionLog();  // writes what is waiting

  // A query has left its site. Thread-safe, never blocks for the disk: with kMostOutcomes waiting, it is lost and
  // counted.
  void Outcome(OutcomeRecord record);

  // Goes on in the file that has its name now, at once. Thread-safe. Without it that is noticed within a second of the
  // next line.
  void Reopen();

 private:
  static constexpr size_t kMostOutcomes = 16384;  // some 10 MB

  DecisionLog(const DecisionLogConfig& config, std::FILE* file, EpochFeed* feed, Metrics* metrics);
  void Run();
  void Write(const EpochRecord& record);
  void WriteDecision(const EpochRecord& record, const std::string& query_id, const sched::Decision& decision,
                     double uncertainty, double value, double local_delay_s, const LocalModelPtr& model,
                     const Asker& asker);
  void Write(const OutcomeRecord& record);
  void WriteJson(nlohmann::json line);  // with the time
  void WriteLine(const std::string& line);
  void Lost(uint64_t lines, const char* what);
  void Rotate();
  void LookAgain(bool at_once);  // else at most once a second: is the file still there, or again?
  void Flush();
  void Close();

  const DecisionLogConfig config_;
  Metrics* const metrics_;  // not owned
  std::FILE* file_;         // the thread's own, as the next; null = could not be opened
  int64_t size_ = 0;
  uint64_t epochs_ = 0;
  uint64_t unflushed_ = 0;  // lines
  uint64_t lost_ = 0;       // lines, since it last wrote
  uint64_t dropped_ = 0;    // of the subscription, as counted
  MonotonicTime looks_;     // when LookAgain does next

  Mutex mutex_;
  std::condition_variable wake_;
  bool new_ GOAD_GUARDED_BY(mutex_) = false;
  bool stop_ GOAD_GUARDED_BY(mutex_) = false;
  bool reopen_ GOAD_GUARDED_BY(mutex_) = false;
  std::deque<OutcomeRecord> outcomes_ GOAD_GUARDED_BY(mutex_);
  uint64_t outcomes_dropped_ GOAD_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<EpochSubscription> subscription_;
  std::thread thread_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_DECISION_LOG_H_
