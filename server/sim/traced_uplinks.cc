#include "server/sim/traced_uplinks.h"

#include <algorithm>
#include <random>

namespace goad::server {
namespace {

constexpr double kNothing = 1e-3;  // bits; what rounding leaves must not wait for the end of an outage

}  // namespace

TracedUplinks::TracedUplinks(const std::vector<sched::UplinkTrace>& traces, size_t devices, uint64_t seed,
                             MonotonicTime start)
    : start_(start) {
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < devices; ++i) {
    const sched::UplinkTrace& trace = traces[i % traces.size()];
    devices_.push_back({&trace, std::uniform_real_distribution<double>(0, trace.period_s())(random)});
  }
}

void TracedUplinks::Begin(const Question& question, MonotonicTime now) {
  uploads_.push_back({question.id, question.device, now + absl::Seconds(kRoundTrip_s), question.candidate.prompt_bits});
}

void TracedUplinks::Drop(sched::QueryId id, MonotonicTime) {
  const auto found = std::find_if(uploads_.begin(), uploads_.end(), [&](const Upload& up) { return up.id == id; });
  if (found->sending) --devices_[found->device].sending;
  uploads_.erase(found);
}

MonotonicTime TracedUplinks::Next(MonotonicTime now) {
  MonotonicTime next = MonotonicTime::Infinite();
  for (const Upload& upload : uploads_) {
    const Device& device = devices_[upload.device];
    if (!upload.sending) {
      next = std::min(next, upload.begins);
      continue;
    }
    const double place_s = PlaceOf(device, now);
    const double end_s = device.trace->TimeOf(device.trace->BitsUntil(place_s) + device.sending * upload.left);
    next = std::min(next, now + absl::Seconds(std::max(0.0, end_s - place_s)) + absl::Nanoseconds(1));
  }
  return next;
}

void TracedUplinks::Advance(MonotonicTime from, MonotonicTime to) {
  for (Upload& upload : uploads_) {
    if (!upload.sending) continue;
    const Device& device = devices_[upload.device];
    upload.left -= (device.trace->BitsUntil(PlaceOf(device, to)) - device.trace->BitsUntil(PlaceOf(device, from))) /
                   device.sending;
  }
}

std::vector<Flows::End> TracedUplinks::Ended(MonotonicTime now) {
  std::vector<End> ended;
  for (Upload& upload : uploads_) {
    if (!upload.sending && upload.begins <= now) {
      upload.sending = true;
      ++devices_[upload.device].sending;
    } else if (upload.sending && upload.left <= kNothing) {
      --devices_[upload.device].sending;
      ended.push_back({upload.id});
    }
  }
  const auto through = [](const Upload& upload) { return upload.sending && upload.left <= kNothing; };
  uploads_.erase(std::remove_if(uploads_.begin(), uploads_.end(), through), uploads_.end());
  return ended;
}

}  // namespace goad::server
