#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/uncertainty/answer_tokens.h"
#include "goad/uncertainty.h"

namespace goad {
namespace {

constexpr size_t kBest = 10;
constexpr int kMostTokens = 256;

std::string Shown(const std::string& token) { return absl::CHexEscape(token.substr(0, 40)); }

absl::Status NoLogprobs() {
  return absl::InvalidArgumentError("no log-probabilities (is logprobs or n_probs asked for?)");
}

absl::StatusOr<std::vector<TokenProbability>> BestOf(const openai::TokenLogprob& first) {
  std::vector<TokenProbability> top;
  for (const openai::TokenLogprob& entry : first.top) top.push_back({entry.token, std::exp(entry.logprob)});
  if (top.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat("first token \"", Shown(first.token), "\": ", top.size(),
                                                   " candidates, want at least 2 (ask for top_logprobs)"));
  }
  std::stable_sort(top.begin(), top.end(), [](const auto& a, const auto& b) { return a.probability > b.probability; });
  if (top.size() > kBest) top.resize(kBest);
  if (top[0].probability == 0) return absl::InvalidArgumentError("first token: every candidate has probability 0");
  return top;
}

}  // namespace

struct FirstTokenReader::Impl {
  AnswerTokens tokens{AnswerSieve::Keeps::kAnswer, 1};
};

FirstTokenReader::FirstTokenReader() : impl_(std::make_unique<Impl>()) {}
FirstTokenReader::~FirstTokenReader() = default;

absl::StatusOr<bool> FirstTokenReader::Push(std::string_view json) { return impl_->tokens.Push(json); }

absl::StatusOr<std::vector<TokenProbability>> FirstTokenReader::Candidates() const {
  const AnswerTokens& read = impl_->tokens;
  if (!read.tokens().empty()) return BestOf(read.tokens()[0]);
  if (!read.sieve().held().empty()) return BestOf(read.sieve().held()[0]);
  if (!read.began()) return NoLogprobs();
  return absl::InvalidArgumentError(absl::StrCat("no token of the answer: it begins with \"",
                                                 absl::CHexEscape(read.sieve().left_out().begins),
                                                 "\" and ends there"));
}

absl::StatusOr<std::vector<TokenProbability>> FirstTokenFromJson(std::string_view json) {
  FirstTokenReader reader;
  if (const auto pushed = reader.Push(json); !pushed.ok()) return pushed.status();
  return reader.Candidates();
}

struct ContentReader::Impl {
  int wanted;
  AnswerTokens tokens{AnswerSieve::Keeps::kContent, static_cast<size_t>(wanted)};
};

ContentReader::ContentReader(int tokens) : impl_(new Impl{std::clamp(tokens, 1, kMostTokens)}) {}
ContentReader::~ContentReader() = default;

absl::StatusOr<bool> ContentReader::Push(std::string_view json) { return impl_->tokens.Push(json); }
void ContentReader::End() { impl_->tokens.End(); }
LeftOut ContentReader::left_out() const { return impl_->tokens.sieve().left_out(); }

absl::StatusOr<std::vector<double>> ContentReader::Logprobs() const {
  const std::vector<openai::TokenLogprob>& tokens = impl_->tokens.tokens();
  if (!impl_->tokens.known()) {
    return absl::FailedPreconditionError(
        absl::StrCat(tokens.size(), " of ", impl_->wanted, " content tokens, and the answer has not ended"));
  }
  if (!impl_->tokens.began()) return NoLogprobs();
  if (tokens.empty()) {
    const LeftOut& out = impl_->tokens.sieve().left_out();
    return absl::InvalidArgumentError(absl::StrCat(
        "no content: the answer has ", out.blanks, " blanks, ", out.special, " special tokens, ", out.thoughts,
        " of thoughts, ", out.tool_calls, " of tool calls; it begins with \"", absl::CHexEscape(out.begins), "\""));
  }
  std::vector<double> logprobs;
  for (const openai::TokenLogprob& token : tokens) {
    if (!token.has_logprob) {
      return absl::InvalidArgumentError(absl::StrCat("content token ", logprobs.size(), " \"", Shown(token.token),
                                                     "\": the server told no log-probability of it"));
    }
    logprobs.push_back(token.logprob);
  }
  return logprobs;
}

}  // namespace goad
