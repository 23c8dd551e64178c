#include "server/telemetry/decision_log.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/telemetry/outcome_json.h"
#include "server/telemetry/snapshot_json.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

using nlohmann::json;

constexpr absl::Duration kLooks = absl::Seconds(1);

// Not blocking: a FIFO that nobody reads is an error.
std::FILE* OpenFile(const std::string& path, int how) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | how, 0640);
  std::FILE* const file = fd < 0 ? nullptr : fdopen(fd, "a");
  if (fd >= 0 && file == nullptr) close(fd);
  return file;
}

int64_t SizeOf(std::FILE* file) {
  struct stat info {};
  return fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
}

void AddSaid(const LocalModel& model, json* line) {
  const UncertaintySource& source = model.uncertainty;
  if (!model.name.empty()) (*line)["model"] = model.name;
  if (!source.prompt_form.empty()) (*line)["prompt_form"] = source.prompt_form;
  if (source.tokens > 0) (*line)["uncertainty_tokens"] = source.tokens;
  if (source.candidates > 0) (*line)["uncertainty_candidates"] = source.candidates;
  if (!source.method.empty()) (*line)["uncertainty_method"] = source.method;
}

json NumberOrNull(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

}  // namespace

absl::StatusOr<std::unique_ptr<DecisionLog>> DecisionLog::Open(const DecisionLogConfig& config, EpochFeed* feed,
                                                               Metrics* metrics) {
  std::FILE* file = OpenFile(config.path, O_APPEND);
  if (file == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("decision_log.path: ", config.path, ": cannot be opened: ", std::strerror(errno)));
  }
  return std::unique_ptr<DecisionLog>(new DecisionLog(config, file, feed, metrics));
}

DecisionLog::DecisionLog(const DecisionLogConfig& config, std::FILE* file, EpochFeed* feed, Metrics* metrics)
    : config_(config), metrics_(metrics), file_(file), size_(SizeOf(file)) {
  subscription_ = feed->Subscribe(/*capacity=*/1024, [this] {
    {
      MutexLock lock(mutex_);
      new_ = true;
    }
    wake_.notify_one();
  });
  thread_ = std::thread([this] { Run(); });
}

DecisionLog::~DecisionLog() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
  Close();
}

void DecisionLog::Outcome(OutcomeRecord record) {
  {
    MutexLock lock(mutex_);
    if (outcomes_.size() < kMostOutcomes) {
      outcomes_.push_back(std::move(record));
    } else {
      ++outcomes_dropped_;
    }
    new_ = true;
  }
  wake_.notify_one();
}

void DecisionLog::Reopen() {
  {
    MutexLock lock(mutex_);
    reopen_ = new_ = true;
  }
  wake_.notify_one();
}

void DecisionLog::Run() {
  pthread_setname_np(pthread_self(), "goad-decisions");
  bool stop = false, reopen = false;
  while (!stop) {
    std::deque<OutcomeRecord> outcomes;  // a query is decided before it ends: of what waits, decisions go first
    uint64_t outcomes_dropped = 0;
    {
      MutexLock lock(mutex_);
      while (!new_ && !stop_) mutex_.WaitUntil(wake_, MonotonicTime::Infinite());
      new_ = false;
      stop = stop_;
      reopen = std::exchange(reopen_, false);
      outcomes = std::exchange(outcomes_, {});
      outcomes_dropped = std::exchange(outcomes_dropped_, 0);
    }
    LookAgain(reopen);
    while (const auto record = subscription_->Pop()) Write(*record);
    for (const OutcomeRecord& outcome : outcomes) Write(outcome);
    Flush();
    if (outcomes_dropped > 0) Lost(outcomes_dropped, "the disk is too slow, outcomes");
    const uint64_t dropped = subscription_->dropped();
    if (dropped != dropped_) Lost(dropped - std::exchange(dropped_, dropped), "the disk is too slow, whole epochs");
  }
}

void DecisionLog::Write(const EpochRecord& record) {
  for (size_t i = 0; i < record.result.decisions.size(); ++i) {
    if (record.held[i]) continue;
    const sched::Decision& d = record.result.decisions[i];
    const sched::Candidate& c = record.snapshot.candidates[i];
    WriteDecision(record, record.query_ids[i], d, record.uncertainties[i], c.uncertainty, c.local_delay_s,
                  record.models[i], record.askers[i]);
  }
  for (const EarlyDecline& early : record.early) {
    sched::Decision decision;
    decision.reason = early.reason;
    WriteDecision(record, early.query_id, decision, early.uncertainty, early.value, early.local_delay_s, early.model,
                  early.asker);
  }
  if (record.snapshot.candidates.empty()) return;
  if (config_.snapshot_every > 0 && epochs_++ % static_cast<uint64_t>(config_.snapshot_every) == 0) {
    WriteJson(ToJson(record));
  }
}

void DecisionLog::WriteDecision(const EpochRecord& record, const std::string& query_id, const sched::Decision& decision,
                                double uncertainty, double value, double local_delay_s, const LocalModelPtr& model,
                                const Asker& asker) {
  json line = json{{"kind", "decision"},
                   {"epoch", record.snapshot.epoch},
                   {"query_id", query_id},
                   {"device", asker.device},
                   {"tenant", asker.tenant},
                   {"verdict", sched::ToString(decision.verdict)},
                   {"reason", sched::ToString(decision.reason)},
                   {"site", record.SiteName(decision.site)},
                   {"uncertainty", uncertainty},
                   {"local_s", local_delay_s},
                   {"upload_s", NumberOrNull(decision.predicted_upload_s)},
                   {"compute_s", NumberOrNull(decision.predicted_compute_s)},
                   {"metric", ToString(MetricOf(model))}};
  if (record.HasValues()) line["value"] = value;
  if (!asker.trace_id.empty()) line["trace_id"] = asker.trace_id;
  if (model != nullptr) AddSaid(*model, &line);
  WriteJson(std::move(line));
}

void DecisionLog::Write(const OutcomeRecord& record) { WriteJson(ToJson(record)); }

void DecisionLog::WriteJson(json line) {
  line["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  WriteLine(line.dump(-1, ' ', false, json::error_handler_t::replace));
}

void DecisionLog::WriteLine(const std::string& line) {
  if (size_ + static_cast<int64_t>(line.size()) + 1 > config_.max_size_bytes) Rotate();
  if (file_ == nullptr) return Lost(1, "it cannot be opened");
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fputc('\n', file_) == EOF) {
    Lost(std::exchange(unflushed_, 0) + 1, std::strerror(errno));
    std::clearerr(file_);
    return;
  }
  size_ += static_cast<int64_t>(line.size()) + 1;
  ++unflushed_;
}

void DecisionLog::Flush() {
  if (file_ == nullptr || unflushed_ == 0) return;
  if (std::fflush(file_) != 0) {
    Lost(std::exchange(unflushed_, 0), std::strerror(errno));
    std::clearerr(file_);
    return;
  }
  unflushed_ = 0;
  if (lost_ > 0)
    spdlog::warn("decision_log.path={}: writes again; {} lines are lost", config_.path, std::exchange(lost_, 0));
}

void DecisionLog::Lost(uint64_t lines, const char* what) {
  metrics_->DecisionLogLost(lines);
  if (lost_ == 0)
    spdlog::error("decision_log.path={}: cannot be written: {}; decisions go on unlogged", config_.path, what);
  lost_ += lines;
}

void DecisionLog::Close() {
  if (file_ == nullptr) return;
  Flush();
  std::fclose(file_);
  file_ = nullptr;
}

// What is written to a file without a name is gone with it.
void DecisionLog::LookAgain(bool at_once) {
  const MonotonicTime now = MonotonicTime::Now();
  if (now < looks_ && !at_once) return;
  looks_ = now + kLooks;
  struct stat there {
  }, ours{};
  const bool same = file_ != nullptr && stat(config_.path.c_str(), &there) == 0 && fstat(fileno(file_), &ours) == 0 &&
                    there.st_dev == ours.st_dev && there.st_ino == ours.st_ino;
  if (same) return;
  Close();
  file_ = OpenFile(config_.path, O_APPEND);
  if (file_ != nullptr) size_ = SizeOf(file_);
}

// path -> path.1 -> ... -> path.(max_files - 1)
void DecisionLog::Rotate() {
  Close();
  for (int k = config_.max_files - 1; k >= 1; --k) {
    const std::string from = k == 1 ? config_.path : absl::StrCat(config_.path, ".", k - 1);
    std::rename(from.c_str(), absl::StrCat(config_.path, ".", k).c_str());
  }
  file_ = OpenFile(config_.path, O_TRUNC);
  size_ = 0;
}

}  // namespace goad::server
