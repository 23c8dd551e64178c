#include "scheduler/workload/workload.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace goad::sched {
namespace {

RecordedAnswer ReadAnswer(const nlohmann::json& side) {
  RecordedAnswer answer;
  answer.answer = side.at("answer").get<std::string>();
  answer.correct = side.at("correct").get<bool>();
  answer.prefill_s = side.at("prefill_s").get<double>();
  answer.decode_s = side.at("decode_s").get<double>();
  return answer;
}

}  // namespace

absl::StatusOr<std::vector<RecordedQuestion>> ReadWorkload(std::istream& in, const std::string& source) {
  std::vector<RecordedQuestion> questions;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    try {
      const nlohmann::json row = nlohmann::json::parse(line);
      RecordedQuestion question;
      question.id = row.at("id").get<int>();
      question.kind = row.value("kind", "");
      question.prompt = row.at("prompt").get<std::string>();
      question.answer = row.at("answer").get<std::string>();
      question.uncertainty = row.at("slm").at("alpha").get<double>();
      question.prompt_tokens = row.at("slm").at("prompt_tokens").get<int>();
      question.device = ReadAnswer(row.at("slm"));
      question.edge = ReadAnswer(row.at("llm"));
      questions.push_back(std::move(question));
    } catch (const nlohmann::json::exception& error) {
      return absl::InvalidArgumentError(absl::StrCat(source, ":", number, ": ", error.what()));
    }
  }
  if (questions.empty()) return absl::InvalidArgumentError(absl::StrCat(source, ": no questions in it"));
  return questions;
}

std::string NormalisedAnswer(const std::string& text) {
  std::string answer(absl::StripAsciiWhitespace(text));
  if (!answer.empty() && answer.back() == '.') answer.pop_back();
  return absl::AsciiStrToLower(answer);
}

}  // namespace goad::sched
