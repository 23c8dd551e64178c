#include "server/base/pump.h"

#include <pthread.h>

namespace goad::server {
namespace {

constexpr absl::Duration kBeat = absl::Milliseconds(100);

}  // namespace

PumpThread::PumpThread(const char* name, std::function<void()> beat)
    : beat_(std::move(beat)), thread_([this, name] { Run(name); }) {}

PumpThread::~PumpThread() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  nonempty_.notify_one();
  thread_.join();
}

void PumpThread::Wake(std::shared_ptr<Pumped> pumped) {
  if (pumped->queued_.exchange(true)) return;
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = queue_.empty();  // else the thread is awake, or has been woken
    queue_.push_back(std::move(pumped));
  }
  if (first) nonempty_.notify_one();
}

void PumpThread::Run(const char* name) {
  pthread_setname_np(pthread_self(), name);
  std::vector<std::shared_ptr<Pumped>> batch;
  MonotonicTime next_beat = beat_ ? MonotonicTime::Now() + kBeat : MonotonicTime::Infinite();
  for (;;) {
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stop_ && MonotonicTime::Now() < next_beat) mutex_.WaitUntil(nonempty_, next_beat);
      if (stop_) return;
      batch.swap(queue_);
    }
    if (const MonotonicTime now = MonotonicTime::Now(); next_beat <= now) {
      beat_();
      next_beat = now + kBeat;
    }
    for (const auto& pumped : batch) {
      pumped->queued_ = false;  // before Pump: what arrives during it queues it again
      pumped->Pump();
    }
    batch.clear();
  }
}

}  // namespace goad::server
