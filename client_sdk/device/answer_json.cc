#include "client_sdk/device/answer_json.h"

#include "absl/strings/str_cat.h"

namespace goad::device {
namespace {

using json = nlohmann::ordered_json;  // in the order that people read

json Bytes(const std::string& text) {
  json bytes = json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

json UsageOf(const Answer& answer) {
  return {{"prompt_tokens", answer.prompt_tokens},
          {"completion_tokens", answer.output_tokens},
          {"total_tokens", answer.prompt_tokens + answer.output_tokens}};
}

// Who answered and why, for an app that wants to know.
json GoadOf(const Answer& answer, Answer::Source source, std::optional<double> uncertainty) {
  json goad = {{"answered_by", source == Answer::Source::kEdge ? "edge" : "local"},
               {"reason", source == Answer::Source::kEdge ? answer.decision.reason : answer.why_local}};
  if (uncertainty) goad["uncertainty"] = *uncertainty;
  if (source == Answer::Source::kEdge) goad["site"] = answer.decision.site;
  if (source == Answer::Source::kEdge) goad["first_token_s"] = absl::ToDoubleSeconds(answer.first_token_after);
  if (!answer.backend.empty()) goad["backend"] = answer.backend;
  if (!answer.query_id.empty()) goad["query_id"] = answer.query_id;
  if (!answer.detail.empty()) goad["detail"] = answer.detail;
  return goad;
}

json ToolCallOf(const ToolCall& call) {
  return {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

}  // namespace

std::string AnsweredBy(Answer::Source source, const Answer& answer) {
  return source == Answer::Source::kEdge ? absl::StrCat("edge ", answer.decision.site, " ", answer.decision.reason)
                                         : absl::StrCat("local ", answer.why_local);
}

AnswerJson::AnswerJson(const AppCall& call, std::string id, std::string model, int64_t created_s)
    : chat_(call.chat),
      logprobs_(call.logprobs),
      top_logprobs_(call.top_logprobs),
      id_(std::move(id)),
      model_(std::move(model)),
      created_s_(created_s) {}

json AnswerJson::Frame(bool chunk) const {
  const char* const object = !chat_ ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion";
  return {{"id", absl::StrCat(chat_ ? "chatcmpl-" : "cmpl-", id_)},
          {"object", object},
          {"created", created_s_},
          {"model", model_}};
}

json AnswerJson::Logprobs(const std::vector<TokenLogprob>& tokens) {
  if (!logprobs_ || tokens.empty()) return nullptr;
  if (chat_) {
    json content = json::array();
    for (const TokenLogprob& token : tokens) {
      json top = json::array();
      for (size_t k = 0; k < token.top.size() && k < static_cast<size_t>(top_logprobs_); ++k) {
        const TokenLogprob& candidate = token.top[k];
        top.push_back({{"token", candidate.token}, {"logprob", candidate.logprob}, {"bytes", Bytes(candidate.token)}});
      }
      content.push_back(
          {{"token", token.token}, {"logprob", token.logprob}, {"bytes", Bytes(token.token)}, {"top_logprobs", top}});
    }
    return {{"content", content}};
  }
  json logprobs = {{"tokens", json::array()},
                   {"token_logprobs", json::array()},
                   {"top_logprobs", json::array()},
                   {"text_offset", json::array()}};
  for (const TokenLogprob& token : tokens) {
    json top = json::object();
    for (size_t k = 0; k < token.top.size() && k < static_cast<size_t>(top_logprobs_); ++k)
      top[token.top[k].token] = token.top[k].logprob;
    logprobs["tokens"].push_back(token.token);
    logprobs["token_logprobs"].push_back(token.logprob);
    logprobs["top_logprobs"].push_back(top);
    logprobs["text_offset"].push_back(text_bytes_);
    text_bytes_ += token.token.size();
  }
  return logprobs;
}

std::string AnswerJson::Chunk(const AnswerPiece& piece) {
  json frame = Frame(true);
  json choice = {{"index", 0}, {"logprobs", Logprobs(piece.logprobs)}, {"finish_reason", nullptr}};
  if (!chat_) {
    choice["text"] = piece.text;
  } else {
    json delta = json::object();
    if (!std::exchange(begun_, true)) delta["role"] = "assistant";
    const size_t content = piece.text.size() - piece.refusal_bytes;
    if (content > 0) delta["content"] = piece.text.substr(0, content);
    if (piece.refusal_bytes > 0) delta["refusal"] = piece.text.substr(content);
    if (!piece.reasoning.empty()) delta["reasoning_content"] = piece.reasoning;
    for (const auto& [index, call] : piece.tool_calls) {
      json part = {{"index", index}};
      if (!call.id.empty()) part["id"] = call.id, part["type"] = "function";
      if (!call.name.empty()) part["function"]["name"] = call.name;
      part["function"]["arguments"] = call.arguments;
      delta["tool_calls"].push_back(part);
    }
    choice["delta"] = delta;
  }
  frame["choices"] = json::array({choice});
  return Dump(frame);
}

std::string AnswerJson::LastChunk(const Answer& answer, Answer::Source source, std::optional<double> uncertainty) {
  json frame = Frame(true);
  const bool whole = answer.source != Answer::Source::kNone;
  json choice = {{"index", 0}, {"logprobs", nullptr}, {"finish_reason", whole ? answer.finish_reason : "error"}};
  if (chat_) {
    choice["delta"] = json::object();
    if (!std::exchange(begun_, true)) choice["delta"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    choice["text"] = "";
  }
  frame["choices"] = json::array({choice});
  frame["goad"] = GoadOf(answer, source, uncertainty);
  return Dump(frame);
}

std::string AnswerJson::UsageChunk(const Answer& answer) const {
  json frame = Frame(true);
  frame["choices"] = json::array();
  frame["usage"] = UsageOf(answer);
  return Dump(frame);
}

void AnswerJson::Add(const AnswerPiece& piece) {
  if (logprobs_) tokens_.insert(tokens_.end(), piece.logprobs.begin(), piece.logprobs.end());
  if (piece.refusal_bytes > 0) refusal_ += piece.text.substr(piece.text.size() - piece.refusal_bytes);
}

std::string AnswerJson::Whole(const Answer& answer, Answer::Source source, std::optional<double> uncertainty) {
  json frame = Frame(false);
  json choice = {{"index", 0}, {"logprobs", Logprobs(tokens_)}, {"finish_reason", answer.finish_reason}};
  if (chat_) {
    const std::string content =
        answer.text.substr(0, answer.text.size() - std::min(refusal_.size(), answer.text.size()));
    json message = {{"role", "assistant"}, {"content", content}};
    if (content.empty() && (!answer.tool_calls.empty() || !refusal_.empty())) message["content"] = nullptr;
    message["refusal"] = refusal_.empty() ? json() : json(refusal_);
    if (!answer.reasoning.empty()) message["reasoning_content"] = answer.reasoning;
    for (const ToolCall& call : answer.tool_calls) message["tool_calls"].push_back(ToolCallOf(call));
    choice["message"] = message;
  } else {
    choice["text"] = answer.text;
  }
  frame["choices"] = json::array({choice});
  if (answer.prompt_tokens + answer.output_tokens > 0) frame["usage"] = UsageOf(answer);  // else nobody told
  frame["goad"] = GoadOf(answer, source, uncertainty);
  return Dump(frame);
}

}  // namespace goad::device
