#include "server/session/session_writer.h"

#include <pthread.h>

namespace goad::server {

namespace {
constexpr absl::Duration kBeat = absl::Milliseconds(100);
}  // namespace

SessionWriter::SessionWriter(std::function<void()> beat) : beat_(std::move(beat)), thread_([this] { Run(); }) {}

SessionWriter::~SessionWriter() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  nonempty_.notify_one();
  thread_.join();
}

void SessionWriter::Wake(std::shared_ptr<SessionStream> stream) {
  if (stream->wake_queued.exchange(true)) return;
  {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(stream));
  }
  nonempty_.notify_one();
}

void SessionWriter::Run() {
  pthread_setname_np(pthread_self(), "goad-writer");
  std::vector<std::shared_ptr<SessionStream>> batch;
  MonotonicTime next_beat = MonotonicTime::Now() + kBeat;
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
    for (const auto& stream : batch) {
      stream->wake_queued = false;  // before Pump: what arrives during it queues the stream again
      stream->Pump();
    }
    batch.clear();
  }
}

}  // namespace goad::server
