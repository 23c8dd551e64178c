#include "server/admin/epoch_watchers.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "server/base/reaction.h"
#include "server/wire/enums.h"

namespace goad::server {
namespace {

// As many writes as cost a device's frame 0.2 ms; 200 watchers take 4 ms.
constexpr int kGroup = 16;
constexpr std::chrono::microseconds kPause(200);

}  // namespace

v1::EpochSummary Summarise(const EpochRecord& record) {
  v1::EpochSummary summary;
  summary.set_epoch(record.snapshot.epoch);
  summary.set_policy(record.policy);
  summary.set_tau(record.snapshot.tau);
  summary.set_candidates(static_cast<uint32_t>(record.snapshot.candidates.size()));
  summary.set_offloaded(static_cast<uint32_t>(record.result.order.size()));
  summary.set_waiting(static_cast<uint32_t>(std::count(record.held.begin(), record.held.end(), true)));
  summary.set_solver_s(record.solver_s);
  std::map<sched::Reason, uint32_t> reasons;
  for (size_t i = 0; i < record.held.size(); ++i) {
    if (!record.held[i]) ++reasons[record.result.decisions[i].reason];
  }
  for (const EarlyDecline& early : record.early) ++reasons[early.reason];
  for (const sched::SiteTotal& site : record.result.site_totals) {
    summary.set_upload_s(summary.upload_s() + site.upload_s);
    summary.set_compute_s(summary.compute_s() + site.compute_s);
  }
  summary.set_local_s(record.result.local_s);
  summary.set_decided_early(static_cast<uint32_t>(record.early.size()));
  for (const auto& [reason, count] : reasons) {
    v1::ReasonCount& row = *summary.add_reasons();
    row.set_reason(ToWire(reason));
    row.set_count(count);
  }
  return summary;
}

bool EpochWatch::Offer(std::shared_ptr<const v1::EpochSummary> summary, uint64_t missed) {
  {
    MutexLock lock(mutex_);
    dropped_ += missed;
    if (cancelled_) return false;
    if (waiting_.size() >= kMostWaiting) {
      ++dropped_;
      return false;
    }
    waiting_.push_back(std::move(summary));
  }
  return GoOn();
}

void EpochWatch::WriteDone(bool ok) {
  {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) cancelled_ = true;
  }
  GoOn();
}

void EpochWatch::Cancel() {
  {
    MutexLock lock(mutex_);
    cancelled_ = true;
    waiting_.clear();
  }
  GoOn();
}

// Decides under the lock and acts after it. Whoever sets writing_ or finished_ is alone until WriteDone, or for good.
bool EpochWatch::GoOn() {
  std::shared_ptr<const v1::EpochSummary> next;
  uint64_t dropped = 0;
  {
    MutexLock lock(mutex_);
    if (writing_ || finished_) return false;
    if (cancelled_) {
      finished_ = true;
    } else if (waiting_.empty()) {
      return false;
    } else {
      next = std::move(waiting_.front());
      waiting_.pop_front();
      dropped = dropped_;
      writing_ = true;
    }
  }
  if (next == nullptr) {
    Finish();
    return false;
  }
  {
    const Reaction start(this);  // happens after the end of the write before
    out_ = *next;
    out_.set_dropped(dropped);
  }
  StartWriting(out_);
  return true;
}

std::shared_ptr<EpochWatchers> EpochWatchers::Make(EpochFeed* feed, PumpThread* pump) {
  std::shared_ptr<EpochWatchers> watchers(new EpochWatchers(pump));
  watchers->self_ = watchers;
  watchers->subscription_ = feed->Subscribe(/*capacity=*/256, [pump, weak = watchers->self_] {
    if (auto alive = weak.lock()) pump->Wake(std::move(alive));
  });
  return watchers;
}

// The lock says, to ThreadSanitizer too, that the last Remove is over; that it is, gRPC's shutdown has seen to.
EpochWatchers::~EpochWatchers() { MutexLock lock(mutex_); }

void EpochWatchers::Add(std::shared_ptr<EpochWatch> watch) {
  MutexLock lock(mutex_);
  const EpochWatch* const key = watch.get();
  watches_.emplace(key, std::move(watch));
}

void EpochWatchers::Remove(const EpochWatch* watch) {
  std::shared_ptr<EpochWatch> last;  // freed after unlocking
  MutexLock lock(mutex_);
  const auto found = watches_.find(watch);
  if (found == watches_.end()) return;
  last = std::move(found->second);
  watches_.erase(found);
}

void EpochWatchers::Pump() {
  const auto record = subscription_->Pop();
  if (record == nullptr) return;
  if (auto alive = self_.lock()) pump_->Wake(std::move(alive));  // for the next one, if there is one
  const uint64_t dropped = subscription_->dropped();
  const uint64_t missed = dropped - std::exchange(missed_, dropped);
  std::vector<std::shared_ptr<EpochWatch>> watches;
  {
    MutexLock lock(mutex_);
    for (const auto& [key, watch] : watches_) watches.push_back(watch);
  }
  if (watches.empty()) return;
  const auto summary = std::make_shared<const v1::EpochSummary>(Summarise(*record));
  int started = 0;
  for (const auto& watch : watches) {
    if (watch->Offer(summary, missed) && ++started % kGroup == 0) std::this_thread::sleep_for(kPause);
  }
}

}  // namespace goad::server
