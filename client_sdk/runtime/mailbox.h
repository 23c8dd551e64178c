// What happened to one question, for the thread that takes its answer. The local model's thread and the client's put
// it in.
#ifndef GOAD_CLIENT_SDK_RUNTIME_MAILBOX_H_
#define GOAD_CLIENT_SDK_RUNTIME_MAILBOX_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

namespace goad::internal {

// Thread-safe.
class Mailbox {
 public:
  using Item = std::function<void()>;
  using Time = std::chrono::steady_clock::time_point;
  static constexpr size_t kMostItems = 1024;  // then the local model waits; the client's thread is never held up

  void Post(Item item) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      items_.push_back(std::move(item));
    }
    wake_.notify_all();
  }
  // Waits for room; when `given_up` has become true, and Wake was called, the item is dropped.
  void PostInTurn(Item item, const std::atomic<bool>& given_up) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return items_.size() < kMostItems || given_up; });
      if (given_up) return;
      items_.push_back(std::move(item));
    }
    wake_.notify_all();
  }
  void Wake() {
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  // Everything that is there, as soon as there is something; nothing at `until`.
  std::deque<Item> Take(Time until) {
    std::deque<Item> taken;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait_until(lock, until, [&] { return !items_.empty(); });
      taken.swap(items_);
    }
    if (taken.size() >= kMostItems) wake_.notify_all();
    return taken;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> items_;
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_RUNTIME_MAILBOX_H_
