#include "client_sdk/device/local_answer.h"

#include "absl/strings/str_cat.h"

namespace goad::device {
namespace {

TokenLogprob LogprobOf(const openai::TokenLogprob& token) {
  TokenLogprob made{token.token, token.logprob, {}};
  for (const openai::TokenLogprob& top : token.top) made.top.push_back({top.token, top.logprob, {}});
  return made;
}

}  // namespace

LocalAnswer::LocalAnswer(bool streamed, bool logprobs, LocalOutput* output)
    : streamed_(streamed), logprobs_(logprobs), output_(output) {
  end_.finish_reason.clear();
}

bool LocalAnswer::Push(std::string_view bytes) {
  if (!streamed_) {
    whole_ += bytes;
    if (whole_.size() > kMostEventBytes) Fail(absl::StrCat("an answer of more than ", kMostEventBytes, " bytes"));
  } else if (!events_.Push(bytes, [this](const openai::SseEvent& event) {
               if (event.type == "error") return Fail(absl::StrCat("error: ", event.data.substr(0, 500)));
               OnData(event.data);
             })) {
    Fail(absl::StrCat("an event of more than ", kMostEventBytes, " bytes"));
  }
  return wanted_ && !done_ && end_.status.ok();
}

void LocalAnswer::OnData(const std::string& data) {
  if (!end_.status.ok() || !wanted_ || done_) return;
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  const auto chunk = openai::ParseChunk(data, logprobs_);
  if (!chunk.ok()) return Fail(absl::StrCat("what is no chunk: ", std::string(chunk.status().message())));
  if (chunk->is_error) return Fail(absl::StrCat("error: ", data.substr(0, 500)));
  OnChunk(*chunk);
  if (uncertainty_known_) return;
  const auto known = first_token_.Push(data);
  if (!known.ok() || !*known) return;  // a token that tells nothing: the answer's uncertainty stays unknown
  uncertainty_known_ = true;
  const auto candidates = first_token_.Candidates();
  if (!candidates.ok()) return;
  if (const auto margin = MarginUncertainty(*candidates); margin.ok()) output_->Uncertainty(*margin);
}

void LocalAnswer::OnChunk(const openai::Chunk& chunk) {
  if (chunk.usage) {
    end_.prompt_tokens = chunk.usage->prompt_tokens;
    end_.output_tokens = chunk.usage->output_tokens;
  }
  if (finished_) return;  // what comes after the end is no part of the answer
  if (chunk.tool_call && chunk.tool_calls.empty()) return Fail("a tool call that cannot be read");
  AnswerPiece piece;
  piece.text = text_.Push(chunk.text);
  piece.reasoning = reasoning_.Push(chunk.reasoning);
  if (chunk.finish_reason) {
    piece.text += text_.Finish();
    end_.finish_reason = openai::CleanFinishReason(*chunk.finish_reason);
    finished_ = true;
  }
  if (chunk.refusal) piece.refusal_bytes = piece.text.size();
  for (const openai::ToolCallPiece& call : chunk.tool_calls) {
    piece.tool_calls.push_back({call.index, {call.id, call.name, call.arguments}});
  }
  if (logprobs_) {
    for (const openai::TokenLogprob& token : chunk.logprobs) piece.logprobs.push_back(LogprobOf(token));
  }
  piece.tokens = chunk.tokens;
  if (!piece.text.empty() || !piece.reasoning.empty() || !piece.tool_calls.empty() || !piece.logprobs.empty())
    ++pieces_, wanted_ = output_->Push(std::move(piece));
}

LocalEnd LocalAnswer::End() {
  if (end_.status.ok() && wanted_) {
    const auto last = [this](const openai::SseEvent& event) { OnData(event.data); };
    if (streamed_) {
      events_.End(last);
    } else {
      OnData(whole_);
    }
  }
  AnswerPiece rest;  // half a character, of an answer whose end was not said
  rest.text = text_.Finish();
  if (end_.status.ok() && wanted_ && !rest.text.empty()) output_->Push(std::move(rest));
  if (end_.status.ok() && !finished_ && (!done_ || pieces_ == 0))
    Fail(done_ ? "an answer with nothing in it" : "the answer broke off");
  if (end_.finish_reason.empty()) end_.finish_reason = "stop";
  return end_;
}

void LocalAnswer::Fail(const std::string& what) {
  if (end_.status.ok()) end_.status = absl::UnavailableError(what);
}

}  // namespace goad::device
