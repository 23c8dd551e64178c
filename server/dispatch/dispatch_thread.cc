#include "server/dispatch/dispatch_thread.h"

#include <pthread.h>

namespace goad::server {

DispatchThread::DispatchThread(std::shared_ptr<const Config> config, SessionSink* sink, Metrics* metrics, Inbox* inbox)
    : dispatcher_(std::move(config), &transport_, sink, metrics, [inbox](Event event) { inbox->Push(std::move(event)); }) {
  thread_ = std::thread([this] { Run(); });
}

DispatchThread::~DispatchThread() {
  stop_ = true;
  transport_.Wake();
  thread_.join();
}

void DispatchThread::Post(Command command) {
  {
    MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
  }
  transport_.Wake();
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
  Post([config = std::move(config)](Dispatcher& d, MonotonicTime) { d.SetConfig(config); });
}

std::vector<std::vector<BackendPool::View>> DispatchThread::Backends() const {
  MutexLock lock(mutex_);
  return backends_;
}

void DispatchThread::Run() {
  pthread_setname_np(pthread_self(), "goad-dispatch");
  MonotonicTime next_view;
  while (!stop_) {
    std::vector<Command> commands;
    const MonotonicTime now = MonotonicTime::Now();
    const bool view_due = next_view <= now;
    if (view_due) next_view = now + absl::Milliseconds(100);
    {
      MutexLock lock(mutex_);
      commands.swap(commands_);
      if (view_due) backends_ = dispatcher_.Backends();
    }
    for (Command& command : commands) command(dispatcher_, now);
    dispatcher_.Tick(now);
    transport_.Poll(dispatcher_.NextWake());
  }
}

}  // namespace goad::server
