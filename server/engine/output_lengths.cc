#include "server/engine/output_lengths.h"

#include <algorithm>
#include <cmath>

namespace goad::server {
namespace {

constexpr double kFirst = 64;        // tokens, before anything was answered
constexpr double kPriorAnswers = 4;  // what a prior is worth
constexpr double kKeep = 0.98;       // some 50 answers count
constexpr double kReturn_s = 10 * 60;

}  // namespace

OutputLengths::LikeView OutputLengths::LikeOf(const QueryMeta& meta) {
  return {meta.tenant, meta.kind, std::ilogb(std::max(1, meta.max_output_tokens))};
}

double OutputLengths::Mean::Trust(MonotonicTime now) const {
  const double idle = SecondsBetween(last, now) / kReturn_s;
  return std::max(0.0, 1 - idle * idle);
}

double OutputLengths::Mean::Of(double prior, MonotonicTime now) const {
  const double trust = Trust(now);
  return (kPriorAnswers * prior + trust * tokens) / (kPriorAnswers + trust * answers);
}

void OutputLengths::Mean::Add(double more, MonotonicTime now) {
  const double kept = answers > 0 ? kKeep * Trust(now) : 0;
  answers = kept * answers + 1;
  tokens = kept * tokens + more;
  last = now;
}

double OutputLengths::Expect(const QueryMeta& meta, MonotonicTime now) const {
  double expected = 0;
  if (meta.expected_output_tokens) {
    expected = *meta.expected_output_tokens;
  } else {
    expected = all_.Of(kFirst, now);
    if (const auto found = likes_.find(LikeOf(meta)); found != likes_.end()) expected = found->second.Of(expected, now);
  }
  return std::min<double>(meta.max_output_tokens, expected);
}

void OutputLengths::Add(const QueryMeta& meta, int output_tokens, MonotonicTime now) {
  const int tokens = std::clamp(output_tokens, 0, std::max(meta.max_output_tokens, 0));
  all_.Add(tokens, now);
  auto found = likes_.find(LikeOf(meta));
  if (found == likes_.end()) {
    if (likes_.size() == kMostLikes) likes_.clear();
    const auto [tenant, kind, power] = LikeOf(meta);
    found = likes_.try_emplace({std::string(tenant), std::string(kind), power}).first;
  }
  found->second.Add(tokens, now);
}

}  // namespace goad::server
