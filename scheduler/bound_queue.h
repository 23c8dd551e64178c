// A priority queue of (lower bound, candidate) that keeps its live part small: a 4-ary heap of the least bounds, and
// the rest in unsorted segments by ranges of the bound, split only when their turn comes (as incremental quicksort
// does).
#ifndef GOAD_SCHEDULER_BOUND_QUEUE_H_
#define GOAD_SCHEDULER_BOUND_QUEUE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "scheduler/types.h"

namespace goad::sched {

struct BoundEntry {
  double bound = 0;
  uint32_t position = 0;  // decides ties of keys
  uint32_t candidate = 0;
};

// The order among equal bounds is deterministic but means nothing: ties of keys are for the caller. Thread-compatible.
class BoundQueue {
 public:
  // Takes everything at once, in any order.
  explicit BoundQueue(std::vector<BoundEntry> entries)
      : size_(entries.size()), limit_(entries.empty() ? kInfinity : -kInfinity) {
    if (!entries.empty()) segments_.push_back({kInfinity, std::move(entries)});
  }

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

  // Sees to it that top() is the least, if there is one; true when the live part was made anew. Called before top()
  // after every change but Push.
  bool Refill() {
    while (!live_.empty() && live_.front().bound > limit_) {  // was raised
      const BoundEntry entry = live_.front();
      PopTop();
      Push(entry);
    }
    if (!live_.empty() || size_ == 0) return false;
    while (segments_.back().entries.size() > kMostLive && Split()) {
    }
    live_.swap(segments_.back().entries);
    limit_ = segments_.back().limit;
    segments_.pop_back();
    Heapify();
    return true;
  }

  // The heap: the least entry first, its four children next. REQUIRES for all of these: Refill() was called.
  const std::vector<BoundEntry>& live() const { return live_; }
  const BoundEntry& top() const { return live_.front(); }
  void PopTop() {
    const BoundEntry last = live_.back();
    live_.pop_back();
    --size_;
    if (!live_.empty()) SiftDown(0, last);
  }
  // The index of the least but one, 0 when there is only one; Raise gives the entry at an index below the least's a
  // larger bound.
  size_t Second() const {
    if (live_.size() < 2) return 0;
    size_t least = 1;
    for (size_t child = 2; child < std::min<size_t>(5, live_.size()); ++child) {
      least = live_[child].bound < live_[least].bound ? child : least;
    }
    return least;
  }
  void Raise(size_t at, double bound) { SiftDown(at, {bound, live_[at].position, live_[at].candidate}); }
  // `entry` takes the place of the least.
  void ReplaceTop(const BoundEntry& entry) {
    if (entry.bound <= limit_) return SiftDown(0, entry);
    PopTop();
    Push(entry);
  }
  void Push(const BoundEntry& entry) {
    ++size_;
    if (entry.bound > limit_) {
      size_t k = segments_.size() - 1;
      while (entry.bound > segments_[k].limit) --k;
      segments_[k].entries.push_back(entry);
      return;
    }
    live_.push_back(entry);
    size_t at = live_.size() - 1;
    while (at > 0 && entry.bound < live_[(at - 1) / 4].bound) {
      live_[at] = live_[(at - 1) / 4];
      at = (at - 1) / 4;
    }
    live_[at] = entry;
  }

  // For a scan of everybody: takes all out, in no order. What remains is given back by a new queue.
  std::vector<BoundEntry> TakeAll() {
    std::vector<BoundEntry> all = std::move(live_);
    for (Segment& segment : segments_) all.insert(all.end(), segment.entries.begin(), segment.entries.end());
    *this = BoundQueue({});
    return all;
  }

 private:
  // Entries with bounds up to `limit` and above that of the next segment (of limit_ for the last). The first has no
  // limit.
  struct Segment {
    double limit = kInfinity;
    std::vector<BoundEntry> entries;
  };
  static constexpr size_t kMostLive = 512;  // 8 KiB: with the candidates' records it stays in the cache

  // Splits the last segment at about its median; false when all its bounds are equal.
  bool Split() {
    std::vector<BoundEntry>& all = segments_.back().entries;
    double sample[15];
    for (size_t k = 0; k < std::size(sample); ++k) {
      sample[k] = all[(2 * k + 1) * all.size() / (2 * std::size(sample))].bound;
    }
    std::sort(std::begin(sample), std::end(sample));
    double pivot = sample[std::size(sample) / 2];
    auto middle = std::partition(all.begin(), all.end(), [&](const BoundEntry& e) { return e.bound > pivot; });
    if (middle == all.begin()) {  // nothing above: the pivot is the largest; split below it
      double lower = -kInfinity;
      for (const BoundEntry& e : all) lower = e.bound < pivot && e.bound > lower ? e.bound : lower;
      if (lower == -kInfinity) return false;
      pivot = lower;
      middle = std::partition(all.begin(), all.end(), [&](const BoundEntry& e) { return e.bound > pivot; });
    }
    std::vector<BoundEntry> low(middle, all.end());
    all.erase(middle, all.end());
    segments_.push_back({pivot, std::move(low)});
    return true;
  }

  void Heapify() {
    for (size_t at = live_.size() / 4 + 1; at-- > 0;) {
      if (at < live_.size()) SiftDown(at, live_[at]);
    }
  }
  void SiftDown(size_t at, BoundEntry entry) {
    const size_t size = live_.size();
    for (;;) {
      const size_t first = 4 * at + 1;
      if (first >= size) break;
      size_t least = first;
      if (first + 4 <= size) {  // two and two, then one: no branch depends on which is least
        const size_t low = first + (live_[first + 1].bound < live_[first].bound);
        const size_t high = first + 2 + (live_[first + 3].bound < live_[first + 2].bound);
        least = live_[high].bound < live_[low].bound ? high : low;
      } else {
        for (size_t child = first + 1; child < size; ++child) {
          least = live_[child].bound < live_[least].bound ? child : least;
        }
      }
      if (!(live_[least].bound < entry.bound)) break;
      live_[at] = live_[least];
      at = least;
    }
    live_[at] = entry;
  }

  size_t size_;
  double limit_;  // of live_; what is above goes into a segment
  std::vector<BoundEntry> live_;
  std::vector<Segment> segments_;  // the last has the least bounds
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_BOUND_QUEUE_H_
