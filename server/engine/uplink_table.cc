#include "server/engine/uplink_table.h"

#include <algorithm>

#include "server/base/median.h"

namespace goad::server {
namespace {

constexpr double kLeastBitSeconds = 1e-12;  // the fastest rate that a device may report

// In the order of the features: 1, bits x sharers.
estimate::Vector Prior(const UplinkTimes& times) { return {times.round_trip_s, 1 / times.uplink_bps}; }

UplinkTimes Times(double round_trip_s, double bit_s) { return {round_trip_s, 1 / std::max(bit_s, kLeastBitSeconds)}; }

double Seconds(MonotonicTime now) { return SecondsBetween(MonotonicTime(), now); }

}  // namespace

void UplinkTable::Add(const std::string& device, double bits, double sharers, double seconds, MonotonicTime now) {
  const auto found = by_name_.find(device);
  if (found != by_name_.end()) {
    devices_.splice(devices_.begin(), devices_, found->second);
  } else {
    if (devices_.size() == kMostDevices) {
      by_name_.erase(devices_.back().name);
      devices_.pop_back();
    }
    devices_.push_front({device});
    by_name_.emplace(devices_.front().name, devices_.begin());
  }
  devices_.front().estimate.Add({1, bits * sharers}, seconds, Prior(median_), Seconds(now));
}

UplinkTimes UplinkTable::Of(const std::string& device, MonotonicTime now) const {
  const auto found = by_name_.find(device);
  const uint64_t samples = found == by_name_.end() ? 0 : found->second->estimate.SamplesAt(Seconds(now));
  UplinkTimes times = median_;
  if (samples > 0) {
    const estimate::Vector learned = found->second->estimate.At(Prior(median_), Seconds(now));
    times = Times(learned[0], learned[1]);
  }
  times.samples = samples;
  return times;
}

void UplinkTable::Refresh(MonotonicTime now) {
  if (now < refreshed_ + absl::Seconds(1)) return;
  refreshed_ = now;
  round_trips_s_.clear();
  bit_times_s_.clear();
  for (const Device& device : devices_) {
    if (device.estimate.SamplesAt(Seconds(now)) == 0) break;  // nor do those after it
    const estimate::Vector learned = device.estimate.At(Prior(kFirst), Seconds(now));
    round_trips_s_.push_back(learned[0]);
    bit_times_s_.push_back(learned[1]);
  }
  median_ = round_trips_s_.empty() ? kFirst : Times(MedianOf(round_trips_s_), MedianOf(bit_times_s_));
  median_.samples = round_trips_s_.size();
}

}  // namespace goad::server
