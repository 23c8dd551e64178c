#include "client_sdk/openai/chunk.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_fields.h"
#include "client_sdk/openai/json_text.h"
#include "client_sdk/openai/logprobs_document.h"
#include "client_sdk/openai/plain_chunk.h"
#include "client_sdk/openai/utf8.h"
#include "nlohmann/json.hpp"

namespace goad::openai {
namespace {

using nlohmann::json;

constexpr size_t kMaxJson = 4 << 20;  // the callers have lower limits
constexpr size_t kMaxTokensOfEvent = 4096;
constexpr size_t kMaxParts = 4096;  // of a content that is a list

// Some servers cut a code point between two events: its bytes as they are, which is not valid JSON text, or escaped,
// which leaves one half of a UTF-16 pair in each. Such bytes travel through the JSON parser as the private-use code
// points U+F780..U+F7FF and become bytes again afterwards; a half is the three bytes that UTF-8 would have for it.

void Hide(unsigned char byte, std::string* hidden) {
  absl::StrAppend(hidden, "\\uf7", absl::Hex(byte, absl::kZeroPad2));
}
void HideUnit(int unit, std::string* hidden) {
  Hide(static_cast<unsigned char>(0xE0 | unit >> 12), hidden);
  Hide(static_cast<unsigned char>(0x80 | (unit >> 6 & 0x3F)), hidden);
  Hide(static_cast<unsigned char>(0x80 | (unit & 0x3F)), hidden);
}

// Every byte above 127, every half, and every escape of a code point that stands for a byte here. `*halves`: there was
// one.
std::string HideRawBytes(std::string_view text, bool* halves) {
  std::string hidden;
  for (size_t i = 0; i < text.size();) {
    const int unit = EscapedUnit(text, i);
    if (static_cast<unsigned char>(text[i]) >= 0x80) {
      Hide(static_cast<unsigned char>(text[i++]), &hidden);
    } else if (IsHighHalf(unit) && IsLowHalf(EscapedUnit(text, i + 6))) {
      hidden += text.substr(i, 12);
      i += 12;
    } else if (unit >= 0) {
      const bool half = IsHighHalf(unit) || IsLowHalf(unit);
      *halves |= half;
      if (half || (unit >= 0xF780 && unit <= 0xF7FF)) {
        HideUnit(unit, &hidden);
      } else {
        hidden += text.substr(i, 6);
      }
      i += 6;
    } else {
      const size_t length =
          text[i] == '\\' && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0x80 ? 2 : 1;
      hidden += text.substr(i, length);
      i += length;
    }
  }
  return hidden;
}
std::string RestoreRawBytes(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {  // U+F7xx is EF 9E..9F xx
    const auto at = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
    if (at(i) == 0xEF && i + 2 < text.size() && (at(i + 1) == 0x9E || at(i + 1) == 0x9F)) {
      const unsigned code = (at(i) & 0x0Fu) << 12 | (at(i + 1) & 0x3Fu) << 6 | (at(i + 2) & 0x3Fu);
      if (code >= 0xF780 && code <= 0xF7FF) {
        bytes += static_cast<char>(code & 0xFF);
        i += 2;
        continue;
      }
    }
    bytes += text[i];
  }
  return bytes;
}

// Discarded when it is no JSON or deeper than anything that servers send. `*hidden`: texts in it are to be restored.
json Parse(const std::string& text, bool* hidden) {
  if (!CheckJson(text, kMaxJson).ok()) return json(json::value_t::discarded);
  *hidden = !IsValidUtf8(text);
  std::string hiding;
  if (*hidden || text.find("\\ud") != text.npos || text.find("\\uD") != text.npos) hiding = HideRawBytes(text, hidden);
  return json::parse(StrictJson(*hidden ? hiding : text), nullptr, /*allow_exceptions=*/false);
}

// A whole number in 0..most, however it is written.
std::optional<int> Count(const json& value, int most) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= 0 && number <= most) || number != std::floor(number)) return std::nullopt;
  return static_cast<int>(number);
}

// A part's "text": "..." or {"value": "..."}.
std::string PartText(const json& part) {
  const json& text = Get(part, "text");
  return text.is_object() ? Text(text, "value") : Text(text);
}

// "text", or a list of parts of which those of text count; Mistral puts thought among them.
std::string ContentText(const json& content, bool* thought) {
  if (content.is_string()) return content.get<std::string>();
  if (content.is_object()) return PartText(content);
  std::string text;
  if (!content.is_array()) return text;
  for (size_t k = 0; k < std::min(content.size(), kMaxParts); ++k) {
    const json& part = content[k];
    const std::string type = Text(part, "type");
    if (part.is_string()) {
      text += part.get<std::string>();
    } else if (type.empty() || type == "text" || type == "output_text") {
      text += PartText(part);
    } else if (type == "thinking" || type == "reasoning") {
      *thought = true;
    }
  }
  return text;
}

// A piece of a call, or a whole one. Ollama and some gateways write arguments as an object.
void ReadToolCall(const json& call, size_t place, Chunk* chunk) {
  const json& index = Get(call, "index");
  const std::optional<int> at = index.is_null() ? static_cast<int>(place) : Count(index, kMostToolCalls - 1);
  if (!at) return;
  const json &function = Get(call, "function"), &arguments = Get(function, "arguments");
  ToolCallPiece piece{
      *at, Text(call, "id"), Text(function, "name"),
      arguments.is_object() ? arguments.dump(-1, ' ', false, json::error_handler_t::replace) : Text(arguments)};
  if (piece.id.empty() && piece.name.empty() && piece.arguments.empty()) return;
  chunk->tool_calls.push_back(std::move(piece));
}

// An answer or a part of one: a chat's delta or message, or the choice itself.
void ReadMessage(const json& message, Chunk* chunk) {
  if (const json& content = Get(message, "content"); !content.is_null()) {
    chunk->text = ContentText(content, &chunk->thought);
  }
  if (chunk->text.empty()) {
    chunk->text = Text(message, "refusal");  // the model's words for the user, too
    chunk->refusal = !chunk->text.empty();
  }
  for (const char* field : {"reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks"}) {
    const json& at = Get(message, field);
    chunk->thought |= (at.is_string() || at.is_object() || at.is_array()) && at != "" && !at.empty();
    if (chunk->reasoning.empty()) chunk->reasoning = Text(at);  // some say it under two names
  }
  const json& calls = Get(message, "tool_calls");
  for (const char* field : {"tool_calls", "function_call"}) chunk->tool_call |= !Get(message, field).empty();
  if (calls.is_array()) {
    for (size_t k = 0; k < std::min<size_t>(calls.size(), kMostToolCalls); ++k) ReadToolCall(calls[k], k, chunk);
  }
  if (const json& call = Get(message, "function_call"); call.is_object() && chunk->tool_calls.empty())
    ReadToolCall({{"function", call}}, 0, chunk);
}

// The positions that a choice's log-probabilities have, whether they are wanted or not.
size_t Positions(const json& choice) {
  const json& logprobs = Get(choice, "logprobs");
  for (const char* field : {"content", "tokens"}) {
    const json& list = Get(logprobs, field);
    if (list.is_array()) return std::min(list.size(), kMaxTokensOfEvent);
  }
  return 0;
}

// Of the `prompt` tokens those that the server had from an earlier one: OpenAI's word for it (vLLM, SGLang), else
// llama-server's. No more of them than there are.
int CachedTokens(const json& event, const json& usage, int prompt) {
  const json& cached = Get(Get(usage, "prompt_tokens_details"), "cached_tokens");
  return Count(cached.is_null() ? Get(Get(event, "timings"), "cache_n") : cached, prompt).value_or(0);
}

}  // namespace

std::string CleanFinishReason(const std::string& reason) {
  const bool readable = reason.size() <= kMaxFinishReason &&
                        std::all_of(reason.begin(), reason.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  return readable ? reason : "other";
}

absl::StatusOr<Chunk> ParseChunk(const std::string& data, bool logprobs_wanted) {
  if (std::optional<Chunk> plain = ReadPlainChunk(data)) return *std::move(plain);
  return ParseAnyChunk(data, logprobs_wanted);
}

absl::StatusOr<Chunk> ParseAnyChunk(const std::string& data, bool logprobs_wanted) {
  bool hidden = false;
  const json event = Parse(data, &hidden);
  if (event.is_discarded() || !event.is_object()) return absl::InvalidArgumentError("an event is no JSON object");
  Chunk chunk;
  const json& error = Get(event, "error");
  const json& choices = Get(event, "choices");
  if ((error != false && error != "" && !error.empty()) || Text(event, "object") == "error" ||
      (choices.is_null() && !Get(event, "detail").is_null())) {
    chunk.is_error = true;
    return chunk;
  }
  if (const json& usage = Get(event, "usage"); !usage.is_null()) {
    const json& prompt = Get(usage, "prompt_tokens");
    const std::optional<int> in = prompt.is_null() ? 0 : Count(prompt, kMaxUsageTokens);
    const std::optional<int> out = Count(Get(usage, "completion_tokens"), kMaxUsageTokens);
    if (in && out) chunk.usage = Usage{*in, *out, CachedTokens(event, usage, *in)};
  }
  if (choices.is_null()) return chunk;
  if (!choices.is_array()) return absl::InvalidArgumentError("an event has choices that are no list");
  const json* counts = nullptr;
  for (const json& at : choices) {
    if (!at.is_object()) continue;
    const json& index = Get(at, "index");
    if (!index.is_number() || index == 0) {
      counts = &at;
      break;
    }
    chunk.has_other_choices = true;
  }
  if (counts == nullptr) return chunk;
  const json& choice = *counts;
  chunk.has_choice = true;
  const json& delta = Get(choice, "delta");
  ReadMessage(delta.is_null() ? Get(choice, "message") : delta, &chunk);
  if (chunk.text.empty()) chunk.text = Text(choice, "text");
  if (hidden) {
    chunk.text = RestoreRawBytes(chunk.text);
    chunk.reasoning = RestoreRawBytes(chunk.reasoning);
    for (ToolCallPiece& piece : chunk.tool_calls) {
      for (std::string* part : {&piece.id, &piece.name, &piece.arguments}) *part = RestoreRawBytes(*part);
    }
  }
  if (const std::string reason = Text(choice, "finish_reason"); !reason.empty()) {
    chunk.finish_reason = CleanFinishReason(reason);
  }
  const size_t positions = Positions(choice);
  if (positions > 0 && logprobs_wanted) {
    // Where bytes are hidden, the document has others than the text.
    absl::StatusOr<Logprobs> read = hidden ? ReadLogprobs(data) : LogprobsOf(event);
    if (read.ok()) chunk.logprobs = std::move(read->tokens);  // the text counts, not what could not be read beside it
    if (chunk.logprobs.size() > kMaxTokensOfEvent) chunk.logprobs.resize(kMaxTokensOfEvent);
  }
  if (!chunk.text.empty()) chunk.tokens = static_cast<int>(std::max<size_t>(1, positions));
  return chunk;
}

}  // namespace goad::openai
