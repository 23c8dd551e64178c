#include "server/engine/inbox.h"

#include <algorithm>

namespace goad::server {

bool Inbox::Push(Event event) {
  bool wake = true;
  {
    MutexLock lock(mutex_);
    if (const auto* query = std::get_if<SubmitQuery>(&event)) {
      if (submits_ >= max_submits_) return false;
      ++submits_;
      wake = query->received < until_;
    } else if (auto* update = std::get_if<LinkUpdate>(&event)) {
      const auto [at, fresh] = unread_links_.try_emplace(update->session, events_.size());
      if (!fresh) {
        std::vector<LinkMeasurement>& known = std::get<LinkUpdate>(events_[at->second]).links;
        for (const LinkMeasurement& link : update->links) {
          const auto same =
              std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.site == link.site; });
          if (same != known.end()) {
            *same = link;
          } else {
            known.push_back(link);
          }
        }
        return true;
      }
    }
    events_.push_back(std::move(event));
  }
  if (wake) nonempty_.notify_one();
  return true;
}

std::vector<Event> Inbox::Drain(MonotonicTime until, absl::Duration patience) {
  MutexLock lock(mutex_);
  until_ = until - patience;
  if (events_.empty() && MonotonicTime::Now() < until) mutex_.WaitUntil(nonempty_, until);
  submits_ = 0;
  unread_links_.clear();
  return std::exchange(events_, {});
}

void Inbox::set_max_submits(int max_submits) {
  MutexLock lock(mutex_);
  max_submits_ = max_submits;
}

}  // namespace goad::server
