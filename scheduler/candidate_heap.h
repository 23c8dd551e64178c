// A 4-ary min-heap of (lower bound, position): half the depth of a binary heap, and the four children share a cache line.
#ifndef GOAD_SCHEDULER_CANDIDATE_HEAP_H_
#define GOAD_SCHEDULER_CANDIDATE_HEAP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace goad::sched {

struct HeapEntry {
  double bound = 0;
  uint32_t position = 0;   // decides ties of keys
  uint32_t candidate = 0;
};

// The order among equal bounds is deterministic but means nothing: ties of keys are for the caller. Thread-compatible.
class CandidateHeap {
 public:
  void Reserve(size_t n) { entries_.reserve(n); }
  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }
  const HeapEntry& top() const { return entries_.front(); }

  void Push(HeapEntry entry) {
    entries_.push_back(entry);
    size_t at = entries_.size() - 1;
    while (at > 0 && Before(entry, entries_[(at - 1) / 4])) {
      entries_[at] = entries_[(at - 1) / 4];
      at = (at - 1) / 4;
    }
    entries_[at] = entry;
  }
  void PopTop() {
    const HeapEntry last = entries_.back();
    entries_.pop_back();
    if (!entries_.empty()) SiftDown(0, last);
  }
  void ReplaceTop(HeapEntry entry) { SiftDown(0, entry); }

  // For a scan of everything: change or remove entries freely, then Restore.
  std::vector<HeapEntry>& entries() { return entries_; }
  void Restore() {
    for (size_t at = entries_.size() / 4 + 1; at-- > 0;) {
      if (at < entries_.size()) SiftDown(at, entries_[at]);
    }
  }

 private:
  static bool Before(const HeapEntry& a, const HeapEntry& b) { return a.bound < b.bound; }
  void SiftDown(size_t at, HeapEntry entry) {
    const size_t size = entries_.size();
    for (;;) {
      const size_t first = 4 * at + 1;
      if (first >= size) break;
      size_t least = first;
      if (first + 4 <= size) {  // two and two, then one: no branch depends on which is least
        const size_t low = first + (entries_[first + 1].bound < entries_[first].bound);
        const size_t high = first + 2 + (entries_[first + 3].bound < entries_[first + 2].bound);
        least = entries_[high].bound < entries_[low].bound ? high : low;
      } else {
        for (size_t child = first + 1; child < size; ++child) least = Before(entries_[child], entries_[least]) ? child : least;
      }
      if (!Before(entries_[least], entry)) break;
      entries_[at] = entries_[least];
      at = least;
    }
    entries_[at] = entry;
  }

  std::vector<HeapEntry> entries_;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_CANDIDATE_HEAP_H_
