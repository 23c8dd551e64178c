#include "goad/uncertainty.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/openai/logprobs.h"

namespace goad {
namespace {

constexpr size_t kBest = 10;
constexpr size_t kMostTokens = 256;
constexpr double kLowQuantile = 0.1;

// Tokens with the same name are one answer. A text with U+FFFD is a part of a character, and of which one it does not
// say.
std::string AnswerNamed(const std::string& token, size_t entry) {
  if (token.find("\xEF\xBF\xBD") != std::string::npos) return absl::StrCat(token, "\n", entry);
  const std::string word(absl::StripAsciiWhitespace(token));
  return absl::AsciiStrToLower(word);
}

std::string Shown(const std::string& token) { return absl::CHexEscape(token.substr(0, 40)); }

// The two best answers, and the sum over all: not yet renormalised.
struct BestTwo {
  double first = 0, second = 0, sum = 0;
};

absl::StatusOr<BestTwo> Merge(std::vector<TokenProbability> top) {
  if (top.size() < 2)
    return absl::InvalidArgumentError(absl::StrCat("first_token.top: ", top.size(), " entries, want at least 2"));
  for (size_t k = 0; k < top.size(); ++k) {
    const double p = top[k].probability;
    if (!(p >= 0 && p <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("first_token.top[", k, "].probability: ", p, " is not in 0..1"));
    }
  }
  std::stable_sort(top.begin(), top.end(), [](const auto& a, const auto& b) { return a.probability > b.probability; });
  if (top.size() > kBest) top.resize(kBest);
  std::map<std::string, double> merged;
  BestTwo best;
  for (size_t k = 0; k < top.size(); ++k) {
    merged[AnswerNamed(top[k].token, k)] += top[k].probability;
    best.sum += top[k].probability;
  }
  if (best.sum == 0) return absl::InvalidArgumentError("first_token.top: probabilities sum to 0, want above 0");
  const auto possible = std::count_if(merged.begin(), merged.end(), [](const auto& word) { return word.second > 0; });
  if (possible < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("first_token.top: ", top.size(), " entries are 1 answer (\"", Shown(top[0].token),
                     "\") with a probability above 0, want at least 2: one alone says nothing"));
  }
  for (const auto& [word, p] : merged) {
    if (p > best.first) {
      best.second = best.first;
      best.first = p;
    } else {
      best.second = std::max(best.second, p);
    }
  }
  return best;
}

// In range, each.
absl::StatusOr<std::vector<double>> Checked(std::vector<double> logprobs) {
  if (logprobs.empty() || logprobs.size() > kMostTokens) {
    return absl::InvalidArgumentError(absl::StrCat("logprobs: ", logprobs.size(), " tokens, want 1..", kMostTokens));
  }
  for (size_t k = 0; k < logprobs.size(); ++k) {
    if (!(logprobs[k] <= openai::kRounding)) {
      return absl::InvalidArgumentError(absl::StrCat("logprobs[", k, "]: ", logprobs[k],
                                                     " is no natural logarithm of a probability, want at most 0"));
    }
    logprobs[k] = std::clamp(logprobs[k], openai::kLogprobOfZero, 0.0);
  }
  return logprobs;
}

double OneLessExp(double logprob) { return std::clamp(-std::expm1(logprob), 0.0, 1.0); }

}  // namespace

absl::StatusOr<double> MarginUncertainty(std::vector<TokenProbability> top) {
  const auto best = Merge(std::move(top));
  if (!best.ok()) return best.status();
  return std::clamp(1 - (best->first - best->second) / best->sum, 0.0, 1.0);
}

absl::StatusOr<double> MaxProbabilityUncertainty(std::vector<TokenProbability> top) {
  const auto best = Merge(std::move(top));
  if (!best.ok()) return best.status();
  return std::clamp(1 - best->first / best->sum, 0.0, 1.0);
}

absl::StatusOr<double> FirstTokenUncertainty(UncertaintyMetric metric, std::vector<TokenProbability> top) {
  switch (metric) {
    case UncertaintyMetric::kMargin: return MarginUncertainty(std::move(top));
    case UncertaintyMetric::kMaxProbability: return MaxProbabilityUncertainty(std::move(top));
    case UncertaintyMetric::kMeanLogprob:
    case UncertaintyMetric::kLowQuantile:
    case UncertaintyMetric::kDeclared: break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("first_token: ", ToString(metric), " is not made from it; want uncertainty"));
}

absl::StatusOr<double> MeanLogprobUncertainty(const std::vector<double>& logprobs) {
  const auto checked = Checked(logprobs);
  if (!checked.ok()) return checked.status();
  double sum = 0;
  for (const double logprob : *checked) sum += logprob;
  return OneLessExp(sum / static_cast<double>(checked->size()));
}

absl::StatusOr<double> LowQuantileUncertainty(std::vector<double> logprobs) {
  auto sorted = Checked(std::move(logprobs));
  if (!sorted.ok()) return sorted.status();
  std::sort(sorted->begin(), sorted->end());
  const double place = kLowQuantile * static_cast<double>(sorted->size() - 1);
  const auto below = static_cast<size_t>(place);
  const double least = (*sorted)[below], next = (*sorted)[std::min(below + 1, sorted->size() - 1)];
  return OneLessExp(least + (place - static_cast<double>(below)) * (next - least));
}

absl::Status CheckUncertaintySource(const UncertaintySource& source) {
  if (const int metric = static_cast<int>(source.metric); metric < 1 || metric > kUncertaintyMetrics) {
    return absl::InvalidArgumentError(
        absl::StrCat("metric: ", metric,
                     " is not MARGIN (1), MAX_PROBABILITY (2), MEAN_LOGPROB (3), LOW_QUANTILE (4) or DECLARED (5)"));
  }
  const bool over_tokens =
      source.metric == UncertaintyMetric::kMeanLogprob || source.metric == UncertaintyMetric::kLowQuantile;
  const int most = over_tokens ? static_cast<int>(kMostTokens) : 0;
  if (source.tokens < (over_tokens ? 1 : 0) || source.tokens > most) {
    return absl::InvalidArgumentError(absl::StrCat("tokens: ", source.tokens, " is not ",
                                                   over_tokens ? "in 1..256" : "0", " with ", ToString(source.metric)));
  }
  if (source.candidates != 0 && (source.candidates < 2 || source.candidates > 100)) {
    return absl::InvalidArgumentError(absl::StrCat("candidates: ", source.candidates, " is not 0 or in 2..100"));
  }
  const bool declared = source.metric == UncertaintyMetric::kDeclared;
  if (declared ? source.method.empty() || source.method.size() > 64 : !source.method.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("method: ", source.method.size(), " bytes, want ",
                                                   declared ? "1..64" : "0", " with ", ToString(source.metric)));
  }
  if (source.prompt_form.size() > 64) {
    return absl::InvalidArgumentError(absl::StrCat("prompt_form: ", source.prompt_form.size(), " bytes, want 0..64"));
  }
  return absl::OkStatus();
}

}  // namespace goad
