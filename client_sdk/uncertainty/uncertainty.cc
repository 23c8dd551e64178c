#include "goad/uncertainty.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/openai/logprobs.h"
#include "client_sdk/uncertainty/answer_start.h"

namespace goad {
namespace {

constexpr size_t kBest = 10;

// Tokens with the same name are one answer. A text with U+FFFD is a part of a character, and of which one it does not
// say.
std::string AnswerNamed(const std::string& token, size_t entry) {
  if (token.find("\xEF\xBF\xBD") != std::string::npos) return absl::StrCat(token, "\n", entry);
  const std::string word(absl::StripAsciiWhitespace(token));
  return absl::AsciiStrToLower(word);
}

std::string Shown(const std::string& token) { return absl::CHexEscape(token.substr(0, 40)); }

void CutToBest(std::vector<TokenProbability>* top) {
  std::stable_sort(top->begin(), top->end(),
                   [](const auto& a, const auto& b) { return a.probability > b.probability; });
  if (top->size() > kBest) top->resize(kBest);
}

absl::StatusOr<std::vector<TokenProbability>> BestOf(const openai::TokenLogprob& first) {
  std::vector<TokenProbability> top;
  for (const openai::TokenLogprob& entry : first.top) top.push_back({entry.token, std::exp(entry.logprob)});
  if (top.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat("first token \"", Shown(first.token), "\": ", top.size(),
                                                   " candidates, want at least 2 (ask for top_logprobs)"));
  }
  CutToBest(&top);
  if (top[0].probability == 0) return absl::InvalidArgumentError("first token: every candidate has probability 0");
  return top;
}

}  // namespace

absl::StatusOr<double> MarginUncertainty(std::vector<TokenProbability> top) {
  if (top.size() < 2)
    return absl::InvalidArgumentError(absl::StrCat("first_token.top: ", top.size(), " entries, want at least 2"));
  for (size_t k = 0; k < top.size(); ++k) {
    const double p = top[k].probability;
    if (!(p >= 0 && p <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("first_token.top[", k, "].probability: ", p, " is not in 0..1"));
    }
  }
  CutToBest(&top);
  std::map<std::string, double> merged;
  double sum = 0;
  for (size_t k = 0; k < top.size(); ++k) {
    merged[AnswerNamed(top[k].token, k)] += top[k].probability;
    sum += top[k].probability;
  }
  if (sum == 0) return absl::InvalidArgumentError("first_token.top: probabilities sum to 0, want above 0");
  const auto possible = std::count_if(merged.begin(), merged.end(), [](const auto& word) { return word.second > 0; });
  if (possible < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("first_token.top: ", top.size(), " entries are 1 answer (\"", Shown(top[0].token),
                     "\") with a probability above 0, want at least 2: one alone says nothing"));
  }
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

struct FirstTokenReader::Impl {
  AnswerStart start;
  bool began = false;                         // a token has come
  bool tells_thought = false;                 // the server says which text is thought
  std::optional<openai::TokenLogprob> first;  // of the answer
};

FirstTokenReader::FirstTokenReader() : impl_(std::make_unique<Impl>()) {}
FirstTokenReader::~FirstTokenReader() = default;

absl::StatusOr<bool> FirstTokenReader::Push(std::string_view json) {
  auto read = openai::ReadLogprobs(json);
  if (!read.ok()) return read.status();
  if (impl_->first) return true;
  if (read->from_the_start) *impl_ = Impl();
  std::string text;
  for (const openai::TokenLogprob& token : read->tokens) text += token.token;
  const std::string answer(absl::StripAsciiWhitespace(read->answer));
  size_t skip = 0;  // bytes of `text` that are known to come before the answer
  if (read->has_thought && !read->thought_apart) {
    if (!impl_->began) impl_->start.BeginInThought();
    impl_->tells_thought = true;
    if (const size_t at = answer.empty() ? std::string::npos : text.rfind(answer); at != std::string::npos) {
      skip = at;  // in one text with its thought the answer comes last
      impl_->start.EndThought();
    }
  } else if (impl_->tells_thought && !answer.empty()) {
    impl_->start.EndThought();
  } else if (!impl_->began && EndsThoughtItDoesNotOpen(text)) {  // the prompt had opened it
    impl_->start.BeginInThought();
  }
  for (openai::TokenLogprob& token : read->tokens) {
    impl_->began = true;
    const size_t length = token.token.size();
    if (length > skip || skip == 0) {
      if ((impl_->first = impl_->start.Push(std::move(token)))) return true;
    }
    skip -= std::min(skip, length);
  }
  return false;
}

absl::StatusOr<std::vector<TokenProbability>> FirstTokenReader::Candidates() const {
  if (impl_->first) return BestOf(*impl_->first);
  if (impl_->start.held()) return BestOf(*impl_->start.held());
  if (!impl_->began) return absl::InvalidArgumentError("no log-probabilities (is logprobs or n_probs asked for?)");
  return absl::InvalidArgumentError(absl::StrCat("no token of the answer: it begins with \"",
                                                 absl::CHexEscape(impl_->start.passed()), "\" and ends there"));
}

absl::StatusOr<std::vector<TokenProbability>> FirstTokenFromJson(std::string_view json) {
  FirstTokenReader reader;
  if (const auto pushed = reader.Push(json); !pushed.ok()) return pushed.status();
  return reader.Candidates();
}

}  // namespace goad
