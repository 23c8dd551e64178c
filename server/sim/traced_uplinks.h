// Uploads of devices whose uplinks follow a trace.
#ifndef GOAD_SERVER_SIM_TRACED_UPLINKS_H_
#define GOAD_SERVER_SIM_TRACED_UPLINKS_H_

#include <vector>

#include "scheduler/workload/trace.h"
#include "server/sim/flows.h"

namespace goad::server {

// From the decision until the first bit of the prompt is at the site; the delay of an LTE link with little to send.
inline constexpr double kRoundTrip_s = 0.05;

// Every device has a piece of one of the traces, shifted by a random time and wrapped around. An upload takes
// kRoundTrip_s and what the trace takes for its bits; a device's own uploads share its rate, others do not matter.
class TracedUplinks final : public Flows {
 public:
  // The traces are not owned and outlive this. `start`: when the simulation begins.
  TracedUplinks(const std::vector<sched::UplinkTrace>& traces, size_t devices, uint64_t seed, MonotonicTime start);

  void Begin(const Question& question, MonotonicTime now) override;
  void Drop(sched::QueryId id, MonotonicTime now) override;
  MonotonicTime Next(MonotonicTime now) override;
  void Advance(MonotonicTime from, MonotonicTime to) override;
  std::vector<End> Ended(MonotonicTime now) override;

  double MeanBps(size_t device) const { return devices_[device].trace->mean_bps(); }

 private:
  struct Device {
    const sched::UplinkTrace* trace;
    double offset_s;  // into it, at the start
    int sending = 0;
  };
  struct Upload {
    sched::QueryId id{};
    size_t device = 0;
    MonotonicTime begins;  // to send
    double left = 0;       // bits
    bool sending = false;
  };
  double PlaceOf(const Device& device, MonotonicTime at) const { return device.offset_s + SecondsBetween(start_, at); }

  const MonotonicTime start_;
  std::vector<Device> devices_;
  std::vector<Upload> uploads_;  // in order of their beginning
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_TRACED_UPLINKS_H_
