// What uploads take, learned from those that goad has seen: by device, over its connections. Owned by the engine
// thread; thread-compatible.
#ifndef GOAD_SERVER_ENGINE_UPLINK_TABLE_H_
#define GOAD_SERVER_ENGINE_UPLINK_TABLE_H_

#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "scheduler/estimate/linear_estimate.h"
#include "server/base/monotonic_time.h"
#include "server/engine/status.h"

namespace goad::server {

class UplinkTable {
 public:
  static constexpr size_t kMostDevices = 10000;  // the one whose last upload is longest ago is forgotten

  // A prompt of `bits` came `seconds` after its grant, while `sharers` (itself included, the mean over that time)
  // shared the uplink.
  void Add(const std::string& device, double bits, double sharers, double seconds, MonotonicTime now);

  // The device's own, going back to the others' median in the minute after its last upload.
  UplinkTimes Of(const std::string& device, MonotonicTime now) const;

  // The median over the devices that uploaded within the last minute; what nobody moves alone. Without any it is
  // hopeful, so that somebody tries.
  const UplinkTimes& median() const { return median_; }
  // Brings the median up to date, at most once a second.
  void Refresh(MonotonicTime now);

  // Where a daemon starts that has seen no upload yet.
  static constexpr UplinkTimes kFirst = {.round_trip_s = 0, .uplink_bps = 10e6};  // LTE uplinks have 6 and 13 Mbit/s

 private:
  struct Device {
    std::string name;
    estimate::LinearEstimate estimate{0.7};  // some 3 uploads: a rate seen half a minute ago is 30 % off already
  };
  using Devices = std::list<Device>;

  Devices devices_;  // the latest upload first
  std::unordered_map<std::string_view, Devices::iterator> by_name_;
  UplinkTimes median_ = kFirst;
  MonotonicTime refreshed_;
  std::vector<double> round_trips_s_, bit_times_s_;  // scratch of Refresh
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_UPLINK_TABLE_H_
