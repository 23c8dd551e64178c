#include "server/dispatch/dispatch_thread.h"

#include <pthread.h>

namespace goad::server {

absl::StatusOr<std::unique_ptr<DispatchThread>> DispatchThread::Open(std::shared_ptr<const Config> config,
                                                                     SessionSink* sink, Metrics* metrics,
                                                                     Inbox* inbox) {
  absl::StatusOr<std::unique_ptr<CurlTransport>> transport = CurlTransport::Open();
  if (!transport.ok()) return transport.status();
  return std::unique_ptr<DispatchThread>(
      new DispatchThread(std::move(*transport), std::move(config), sink, metrics, inbox));
}

DispatchThread::DispatchThread(std::unique_ptr<CurlTransport> transport, std::shared_ptr<const Config> config,
                               SessionSink* sink, Metrics* metrics, Inbox* inbox)
    : transport_(std::move(transport)),
      dispatcher_(std::move(config), transport_.get(), sink, metrics,
                  [inbox](Event event) { inbox->Push(std::move(event)); }) {
  thread_ = std::thread([this] { Run(); });
}

DispatchThread::~DispatchThread() {
  stop_ = true;
  transport_->Wake();
  thread_.join();
}

void DispatchThread::Post(Command command) {
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = commands_.empty();  // else the thread is awake, or has been woken
    commands_.push_back(std::move(command));
  }
  if (first) transport_->Wake();
}

void DispatchThread::Start(DispatchRequest request) {
  Post([request = std::move(request)](Dispatcher& d, MonotonicTime now) mutable { d.Start(std::move(request), now); });
}
void DispatchThread::Abort(QueryId id) {
  Post([id](Dispatcher& d, MonotonicTime now) { d.Abort(id, now); });
}
void DispatchThread::Resume(SessionId session) {
  Post([session](Dispatcher& d, MonotonicTime now) { d.Resume(session, now); });
}
void DispatchThread::SetConfig(std::shared_ptr<const Config> config) {
  Post([config = std::move(config)](Dispatcher& d, MonotonicTime now) { d.SetConfig(config, now); });
}

BackendRows DispatchThread::Backends() const {
  MutexLock lock(mutex_);
  return backends_;
}

void DispatchThread::Run() {
  pthread_setname_np(pthread_self(), "goad-dispatch");
  MonotonicTime next_view;
  uint64_t seen_changes = 0;
  while (!stop_) {
    std::vector<Command> commands;
    const MonotonicTime now = MonotonicTime::Now();
    {
      MutexLock lock(mutex_);
      commands.swap(commands_);
    }
    for (Command& command : commands) command(dispatcher_, now);
    dispatcher_.Tick(now);
    if (next_view <= now ||
        dispatcher_.backend_changes() != seen_changes) {  // a new state is seen at once, numbers a little later
      next_view = now + absl::Milliseconds(100);
      seen_changes = dispatcher_.backend_changes();
      auto view = dispatcher_.Backends();
      MutexLock lock(mutex_);
      backends_.swap(view);
    }
    transport_->Poll(dispatcher_.NextWake());
  }
}

}  // namespace goad::server
