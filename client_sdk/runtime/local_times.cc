#include "client_sdk/runtime/local_times.h"

#include <algorithm>

namespace goad::internal {

double LocalTimes::Remaining(int tokens, int most_tokens, double now_s) const {
  double expected = output_tokens_;
  if (most_tokens > 0) expected = std::min(expected, static_cast<double>(most_tokens));
  const double left = std::max(expected - tokens, 0.0);
  return std::clamp(estimate::Dot(estimate_.At(Prior(), now_s), {1, left, 0, 0}), 0.0, 3600.0);
}

int LocalTimes::PromptTokens(size_t bytes) const {
  return static_cast<int>(std::clamp(static_cast<double>(bytes) / bytes_per_token_, 1.0, 1e6));
}

void LocalTimes::AddPrompt(size_t bytes, int tokens) {
  if (bytes == 0 || tokens < 1) return;
  bytes_per_token_ += (std::clamp(static_cast<double>(bytes) / tokens, 0.1, 100.0) - bytes_per_token_) / 16;
}

void LocalTimes::Add(int output_tokens, double seconds, double now_s) {
  if (output_tokens < 1 || !(seconds >= 0 && seconds <= 3600)) return;
  ++samples_;
  const double weight = std::max(1.0 / samples_, 1.0 / 16);
  output_tokens_ += std::max(1.0 / (samples_ + 1), 1.0 / 16) * (output_tokens - output_tokens_);
  const int left = output_tokens - 1;  // the first one is there when its time begins
  if (left > 0 && seconds > 0) token_s_ += weight * (seconds / left - token_s_);
  estimate_.Add({1, static_cast<double>(left), 0, 0}, seconds, Prior(), now_s);
}

}  // namespace goad::internal
