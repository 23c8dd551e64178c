#include "client_sdk/loadgen/live_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace goad::loadgen {
namespace {

class Collected : public LocalOutput {
 public:
  bool Push(AnswerPiece piece) override {
    text += piece.text;
    return true;
  }
  void Uncertainty(double told) override { uncertainty = told; }
  void OnUnwanted(std::function<void()>) override {}

  std::string text;
  std::optional<double> uncertainty;
};

}  // namespace

LiveModel::LiveModel(device::LocalAddress address, int most_at_once)
    : server_(std::move(address), "", std::chrono::seconds(10)), most_at_once_(std::clamp(most_at_once, 1, 64)) {
  for (int k = 0; k < most_at_once_; ++k) threads_.emplace_back([this] { Work(); });
}

LiveModel::~LiveModel() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool LiveModel::Begin(const std::string& prompt, int most_tokens, std::function<void(std::optional<LiveAnswer>)> done) {
  const nlohmann::json request = {
      {"prompt", prompt}, {"max_tokens", most_tokens}, {"temperature", 0}, {"stream", true}, {"logprobs", 10}};
  std::lock_guard<std::mutex> lock(mutex_);
  if (busy_ >= most_at_once_) return false;
  ++busy_;
  work_.push_back(
      [this, body = request.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), done = std::move(done)] {
        Collected collected;
        device::LocalFailure failure;
        const LocalEnd end = server_.Run(false, body, false, collected, &failure);
        std::optional<LiveAnswer> answer;
        if (end.status.ok() && collected.uncertainty)
          answer = LiveAnswer{*collected.uncertainty, std::move(collected.text)};
        done(std::move(answer));
      });
  wake_.notify_one();
  return true;
}

void LiveModel::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || !work_.empty(); });
    if (stop_) return;
    const auto task = std::move(work_.front());
    work_.pop_front();
    lock.unlock();
    task();
    lock.lock();
    --busy_;
    wake_.notify_all();
  }
}

void LiveModel::Quiet() {
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [this] { return busy_ == 0; });
}

}  // namespace goad::loadgen
