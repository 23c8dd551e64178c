#include "server/telemetry/decision_log.h"

#include <pthread.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/telemetry/snapshot_json.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

using nlohmann::json;

json NumberOrNull(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

}  // namespace

absl::StatusOr<std::unique_ptr<DecisionLog>> DecisionLog::Open(const DecisionLogConfig& config,
                                                               std::vector<std::string> site_names, EpochFeed* feed) {
  std::FILE* file = std::fopen(config.path.c_str(), "ae");
  if (file == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("decision_log.path: ", config.path, ": cannot be opened: ", std::strerror(errno)));
  }
  return std::unique_ptr<DecisionLog>(new DecisionLog(config, std::move(site_names), file, feed));
}

DecisionLog::DecisionLog(const DecisionLogConfig& config, std::vector<std::string> site_names, std::FILE* file,
                         EpochFeed* feed)
    : config_(config), site_names_(std::move(site_names)), file_(file), size_(std::ftell(file)) {
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
  if (file_ != nullptr) std::fclose(file_);
}

void DecisionLog::Run() {
  pthread_setname_np(pthread_self(), "goad-decisions");
  bool stop = false;
  while (!stop) {
    {
      MutexLock lock(mutex_);
      while (!new_ && !stop_) mutex_.WaitUntil(wake_, MonotonicTime::Infinite());
      new_ = false;
      stop = stop_;
    }
    while (const auto record = subscription_->Pop()) Write(*record);
    if (file_ != nullptr) std::fflush(file_);
  }
}

void DecisionLog::Write(const EpochRecord& record) {
  for (size_t i = 0; i < record.result.decisions.size(); ++i) {
    if (record.held[i]) continue;
    const sched::Decision& d = record.result.decisions[i];
    const sched::Candidate& c = record.snapshot.candidates[i];
    WriteDecision(record.snapshot.epoch, record.query_ids[i], d, c.uncertainty, c.local_delay_s);
  }
  for (const EarlyDecline& early : record.early) {
    sched::Decision decision;
    decision.reason = early.reason;
    WriteDecision(record.snapshot.epoch, early.query_id, decision, early.uncertainty, early.local_delay_s);
  }
  if (record.snapshot.candidates.empty()) return;
  if (config_.snapshot_every > 0 && epochs_++ % static_cast<uint64_t>(config_.snapshot_every) == 0) {
    WriteLine(ToJson(record.policy, record.lambda_s, record.snapshot, record.result.order).dump());
  }
}

void DecisionLog::WriteDecision(uint64_t epoch, const std::string& query_id, const sched::Decision& decision,
                                double uncertainty, double local_delay_s) {
  WriteLine(json{{"kind", "decision"},
                 {"epoch", epoch},
                 {"query_id", query_id},
                 {"verdict", sched::ToString(decision.verdict)},
                 {"reason", sched::ToString(decision.reason)},
                 {"site", decision.site == sched::SiteIndex::kNone ? "" : site_names_[sched::ToIndex(decision.site)]},
                 {"uncertainty", uncertainty},
                 {"local_s", local_delay_s},
                 {"upload_s", NumberOrNull(decision.predicted_upload_s)},
                 {"compute_s", NumberOrNull(decision.predicted_compute_s)}}
                .dump(-1, ' ', false, json::error_handler_t::replace));
}

void DecisionLog::WriteLine(const std::string& line) {
  if (size_ + static_cast<int64_t>(line.size()) + 1 > config_.max_size_bytes) Rotate();
  if (file_ != nullptr && std::fwrite(line.data(), 1, line.size(), file_) == line.size() &&
      std::fputc('\n', file_) != EOF) {
    size_ += static_cast<int64_t>(line.size()) + 1;
  } else if (++lost_ == 1) {
    spdlog::error("decision_log.path={}: write failed: {}; decisions go on unlogged", config_.path, std::strerror(errno));
  }
}

// path -> path.1 -> ... -> path.(max_files - 1)
void DecisionLog::Rotate() {
  if (file_ != nullptr) std::fclose(file_);
  for (int k = config_.max_files - 1; k >= 1; --k) {
    const std::string from = k == 1 ? config_.path : absl::StrCat(config_.path, ".", k - 1);
    std::rename(from.c_str(), absl::StrCat(config_.path, ".", k).c_str());
  }
  file_ = std::fopen(config_.path.c_str(), "we");
  size_ = 0;
}

}  // namespace goad::server
