#include "server/dispatch/answer_reader.h"

#include <iterator>

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

constexpr size_t kMaxErrorBody = 4096;

}  // namespace

void AnswerReader::Fail(Blame blame, std::string code, std::string words) {
  state_ = State::kFailed;
  error_ = {blame, std::move(code), std::move(words)};
}

void AnswerReader::OnHead(const HttpHead& head) { head_ = head; }

AnswerPart AnswerReader::OnBody(std::string_view bytes) {
  AnswerPart part;
  if (state_ != State::kReading) return part;
  if (head_.status != 200) {
    if (error_body_.size() < kMaxErrorBody) error_body_ += bytes.substr(0, kMaxErrorBody);
    return part;
  }
  const bool fits = sse_.Push(bytes, [&](const std::string& data) {
    if (state_ == State::kReading) OnEvent(data, &part);
  });
  if (!fits && state_ == State::kReading) Fail(Blame::kBackend, "garbage", "an event of the answer is larger than 1 MiB");
  return part;
}

void AnswerReader::OnEvent(const std::string& data, AnswerPart* part) {
  if (data == "[DONE]") {
    if (finish_reason_.empty()) return Fail(Blame::kBackend, "broken", "the answer ended without a finish_reason");
    part->text += utf8_.Finish();
    state_ = State::kWhole;
    return;
  }
  absl::StatusOr<CompletionChunk> chunk = ParseChunk(data);
  if (!chunk.ok()) return Fail(Blame::kBackend, "garbage", std::string(chunk.status().message()));
  if (chunk->usage) usage_ = chunk->usage;
  if (chunk->finish_reason) finish_reason_ = *chunk->finish_reason;
  if (chunk->text.empty()) return;
  part->alive = true;
  part->text += utf8_.Push(chunk->text);
  part->tokens += chunk->tokens;
  if (!logprobs_wanted_) return;
  part->logprobs.insert(part->logprobs.end(), std::make_move_iterator(chunk->logprobs.begin()),
                        std::make_move_iterator(chunk->logprobs.end()));
}

AnswerPart AnswerReader::OnEnd(TransportEnd end, const std::string& detail) {
  if (state_ != State::kReading) return {};
  const int status = head_.status;
  if (end == TransportEnd::kConnectFailed) {
    Fail(Blame::kBackend, "connect_failed", detail);
  } else if (end == TransportEnd::kBroken) {
    Fail(Blame::kBackend, "broken", absl::StrCat("connection lost: ", detail));
  } else if (status == 200) {
    Fail(Blame::kBackend, "broken", "the answer ended without a finish_reason and [DONE]");
  } else {
    const bool busy = status == 429 || (status == 503 && head_.retry_after > absl::ZeroDuration());
    const bool refused = status == 400 || status == 413 || status == 422;
    Fail(refused ? Blame::kPrompt : busy ? Blame::kBusy : Blame::kBackend, absl::StrCat(status), ErrorMessage(status, error_body_));
  }
  return {};
}

}  // namespace goad::server
