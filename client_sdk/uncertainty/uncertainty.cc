#include "goad/uncertainty.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace goad {
namespace {

constexpr size_t kBest = 10;

// `entry` is {"token": "...", "logprob": x}.
TokenProbability FromEntry(const nlohmann::json& entry) {
  return {entry.at("token").get<std::string>(), std::exp(entry.at("logprob").get<double>())};
}

}  // namespace

absl::StatusOr<double> MarginUncertainty(std::vector<TokenProbability> top) {
  if (top.empty()) return absl::InvalidArgumentError("first_token.top: 0 entries, want at least 1");
  for (size_t k = 0; k < top.size(); ++k) {
    const double p = top[k].probability;
    if (!(p >= 0 && p <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("first_token.top[", k, "].probability: ", p, " is not in 0..1"));
    }
  }
  const size_t best = std::min(kBest, top.size());
  std::stable_sort(top.begin(), top.end(), [](const auto& a, const auto& b) { return a.probability > b.probability; });
  std::map<std::string, double> merged;
  double sum = 0;
  for (size_t k = 0; k < best; ++k) {
    const std::string word(absl::StripAsciiWhitespace(top[k].token));
    merged[absl::AsciiStrToLower(word)] += top[k].probability;
    sum += top[k].probability;
  }
  if (sum == 0) return absl::InvalidArgumentError("first_token.top: probabilities sum to 0, want above 0");
  double first = 0, second = 0;
  for (const auto& [word, p] : merged) {
    if (p > first) {
      second = first;
      first = p;
    } else {
      second = std::max(second, p);
    }
  }
  return std::clamp(1 - (first - second) / sum, 0.0, 1.0);
}

absl::StatusOr<std::vector<TokenProbability>> FirstTokenFromJson(const std::string& text) {
  const nlohmann::json document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object()) return absl::InvalidArgumentError("not a JSON object");
  std::vector<TokenProbability> top;
  try {
    if (const auto native = document.find("completion_probabilities"); native != document.end()) {
      for (const auto& entry : native->at(0).at("top_logprobs")) top.push_back(FromEntry(entry));
    } else {
      const auto& logprobs = document.at("choices").at(0).at("logprobs");
      if (logprobs.contains("content")) {
        for (const auto& entry : logprobs.at("content").at(0).at("top_logprobs")) top.push_back(FromEntry(entry));
      } else {
        for (const auto& [token, logprob] : logprobs.at("top_logprobs").at(0).items()) {
          top.push_back({token, std::exp(logprob.get<double>())});
        }
      }
    }
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("no first-token logprobs: ", error.what()));
  }
  if (top.empty()) return absl::InvalidArgumentError("no first-token logprobs: the list is empty");
  return top;
}

}  // namespace goad
