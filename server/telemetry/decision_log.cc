#include "server/telemetry/decision_log.h"

#include <pthread.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

using nlohmann::json;

json NumberOrNull(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

json Matrix(const std::vector<double>& values) {
  json list = json::array();
  for (const double value : values) list.push_back(NumberOrNull(value));
  return list;
}

json SnapshotLine(const EpochRecord& record) {
  const sched::EpochSnapshot& s = record.snapshot;
  json sites = json::array(), candidates = json::array(), order = json::array();
  for (const sched::SiteState& site : s.sites) {
    sites.push_back({{"bandwidth_hz", site.bandwidth_hz},
                     {"noise_w", site.noise_w},
                     {"compute_flops", site.compute_flops},
                     {"max_share_flops", NumberOrNull(site.max_share_flops)},
                     {"work_flop_per_token", site.work_flop_per_token},
                     {"uplink", site.uplink == sched::UplinkModel::kShannon ? "shannon" : "measured"},
                     {"uplink_shared", site.uplink_shared},
                     {"compute", site.compute == sched::ComputeModel::kBatching ? "batching" : "equal_share"},
                     {"prefill_tokens_per_s", site.prefill_tokens_per_s},
                     {"token_time_s", site.token_time_s},
                     {"token_time_per_query_s", site.token_time_per_query_s},
                     {"backends", site.backends},
                     {"active_uplinks", site.active_uplinks},
                     {"active_queries", site.active_queries},
                     {"resident_interference_w", site.resident_interference_w},
                     {"max_queries", site.max_queries},
                     {"accepting", site.accepting},
                     {"chat", site.chat}});
  }
  for (const sched::Candidate& c : s.candidates) {
    candidates.push_back({{"id", static_cast<uint64_t>(c.id)},
                          {"uncertainty", c.uncertainty},
                          {"prompt_bits", c.prompt_bits},
                          {"tx_power_w", c.tx_power_w},
                          {"local_delay_s", c.local_delay_s},
                          {"edge_work_flop", c.edge_work_flop},
                          {"deadline_s", NumberOrNull(c.deadline_s)},
                          {"prompt_tokens", c.prompt_tokens},
                          {"expected_output_tokens", c.expected_output_tokens},
                          {"tenant", c.tenant},
                          {"must_offload", c.must_offload},
                          {"chat", c.chat},
                          {"link_stale", c.link_stale}});
  }
  for (const auto& [i, site] : record.result.order) order.push_back({i, static_cast<int>(site)});
  return {{"kind", "snapshot"},  {"epoch", s.epoch},           {"policy", record.policy},
          {"tau", s.tau},        {"seed", s.seed},             {"sites", sites},
          {"candidates", candidates}, {"gain", Matrix(s.gain)}, {"uplink_bps", Matrix(s.uplink_bps)},
          {"tenant_caps", s.tenant_caps}, {"order", order}};
}

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
    WriteLine(SnapshotLine(record).dump());
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
