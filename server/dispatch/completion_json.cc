#include "server/dispatch/completion_json.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_text.h"
#include "client_sdk/openai/logprobs.h"
#include "nlohmann/json.hpp"
#include "server/dispatch/blame_words.h"
#include "server/dispatch/plain_chunk.h"
#include "server/dispatch/utf8.h"

namespace goad::server {
namespace {

using nlohmann::json;

constexpr size_t kMaxJson = 4 << 20;  // the callers have lower limits
constexpr size_t kMaxTokensOfEvent = 4096;
constexpr size_t kMaxParts = 4096;  // of a content that is a list

// --- bytes that JSON cannot hold
// ----------------------------------------------------------------------------------------- Some servers cut a code
// point between two events: its bytes as they are, which is not valid JSON text, or escaped, which leaves one half of a
// UTF-16 pair in each. Such bytes travel through the JSON parser as the private-use code points U+F780..U+F7FF and
// become bytes again afterwards; a half is the three bytes that UTF-8 would have for it.

// The unit of "\uXXXX" at `i`; -1 = none there.
int EscapedUnit(std::string_view text, size_t i) {
  if (i + 6 > text.size() || text[i] != '\\' || text[i + 1] != 'u') return -1;
  int unit = 0;
  for (size_t k = i + 2; k < i + 6; ++k) {
    const auto c = static_cast<unsigned char>(text[k]);
    if (!absl::ascii_isxdigit(c)) return -1;
    unit = unit * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return unit;
}
bool IsHigh(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
bool IsLow(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

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
    } else if (IsHigh(unit) && IsLow(EscapedUnit(text, i + 6))) {
      hidden += text.substr(i, 12);
      i += 12;
    } else if (unit >= 0) {
      const bool half = IsHigh(unit) || IsLow(unit);
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
  if (!openai::CheckJson(text, kMaxJson).ok()) return json(json::value_t::discarded);
  *hidden = !IsValidUtf8(text);
  std::string hiding;
  if (*hidden || text.find("\\ud") != text.npos || text.find("\\uD") != text.npos) hiding = HideRawBytes(text, hidden);
  return json::parse(openai::StrictJson(*hidden ? hiding : text), nullptr, /*allow_exceptions=*/false);
}

// --- fields: nlohmann throws on values of another type; servers leave fields out or write null
// -----------------------------
const json* Find(const json& object, const char* field) {
  if (!object.is_object()) return nullptr;
  const auto at = object.find(field);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}
std::string Text(const json& object, const char* field) {
  const json* at = Find(object, field);
  return at != nullptr && at->is_string() ? at->get<std::string>() : "";
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
  const json* text = Find(part, "text");
  return text != nullptr && text->is_object() ? Text(*text, "value") : Text(part, "text");
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

// An answer or a part of one: a chat's delta or message, or the choice itself.
void ReadMessage(const json& message, CompletionChunk* chunk) {
  if (const json* content = Find(message, "content")) chunk->text = ContentText(*content, &chunk->thought);
  if (chunk->text.empty()) chunk->text = Text(message, "refusal");  // the model's words for the user, too
  for (const char* field : {"reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks"}) {
    const json* at = Find(message, field);
    chunk->thought |=
        at != nullptr && (at->is_string() || at->is_object() || at->is_array()) && *at != "" && !at->empty();
  }
  for (const char* field : {"tool_calls", "function_call"}) {
    const json* at = Find(message, field);
    chunk->tool_call |= at != nullptr && !at->empty();
  }
}

std::vector<TokenLogprob> Logprobs(const std::string& data) {
  std::vector<TokenLogprob> logprobs;
  const auto read = openai::ReadLogprobs(data);
  if (!read.ok()) return logprobs;  // the text counts, not what could not be read beside it
  const auto clean = [](const std::string& token) {
    Utf8Assembler whole;
    std::string text = whole.Push(token);
    return text + whole.Finish();
  };
  for (const openai::TokenLogprob& token : read->tokens) {
    if (logprobs.size() >= kMaxTokensOfEvent) break;
    TokenLogprob& out = logprobs.emplace_back();
    out.token = clean(token.token);
    out.logprob = token.logprob;
    for (const openai::TokenLogprob& other : token.top) out.top.push_back({clean(other.token), other.logprob});
  }
  return logprobs;
}

// The positions that a choice's log-probabilities have, whether they are wanted or not.
size_t Positions(const json& choice) {
  const json* logprobs = Find(choice, "logprobs");
  if (logprobs == nullptr) return 0;
  for (const char* field : {"content", "tokens"}) {
    const json* list = Find(*logprobs, field);
    if (list != nullptr && list->is_array()) return std::min(list->size(), kMaxTokensOfEvent);
  }
  return 0;
}

// Of the `prompt` tokens those that the server had from an earlier one: OpenAI's word for it (vLLM, SGLang), else
// llama-server's. No more of them than there are.
int CachedTokens(const json& event, const json& usage, int prompt) {
  const json* details = Find(usage, "prompt_tokens_details");
  const json* cached = details == nullptr ? nullptr : Find(*details, "cached_tokens");
  const json* timings = cached == nullptr ? Find(event, "timings") : nullptr;
  if (timings != nullptr) cached = Find(*timings, "cache_n");
  return cached == nullptr ? 0 : Count(*cached, prompt).value_or(0);
}

}  // namespace

const char* RequestPath(BackendApi api) {
  return api == BackendApi::kChat ? "/v1/chat/completions" : "/v1/completions";
}

std::string MakeRequestBody(const BackendConfig& backend, const PromptBody& prompt, int max_output_tokens,
                            const RequestDialect& dialect) {
  using Temperature = RequestDialect::Temperature;
  json body = {{"model", backend.model}, {"stream", true}};
  body[dialect.max_completion_tokens ? "max_completion_tokens" : "max_tokens"] = max_output_tokens;
  if (dialect.stream_options) body["stream_options"] = {{"include_usage", true}};
  const bool no_temperature = dialect.temperature == Temperature::kOmitted ||
                              (dialect.temperature == Temperature::kZeroOmitted && prompt.temperature <= 0);
  if (!no_temperature) {
    body["temperature"] =
        dialect.temperature == Temperature::kAboveZero ? std::max(prompt.temperature, 0.01) : prompt.temperature;
  }
  if (backend.api == BackendApi::kChat) {
    json messages = json::array();
    if (prompt.chat) {
      for (const auto& [role, content] : prompt.messages) messages.push_back({{"role", role}, {"content", content}});
    } else {
      messages.push_back({{"role", "user"}, {"content", prompt.text}});
    }
    body["messages"] = std::move(messages);
  } else {
    body["prompt"] = prompt.text;
  }
  if (!prompt.stop.empty()) body["stop"] = prompt.stop;
  if (prompt.seed && dialect.seed) body["seed"] = *prompt.seed;
  if (prompt.top_logprobs > 0 && prompt.top_logprobs < dialect.logprobs_below) {
    if (backend.api == BackendApi::kChat) {
      body["logprobs"] = true;
      body["top_logprobs"] = prompt.top_logprobs;
    } else {
      body["logprobs"] = prompt.top_logprobs;
    }
  }
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<RequestDialect> OtherDialect(const RequestDialect& dialect, const PromptBody& prompt,
                                           const ServerError& error) {
  using Temperature = RequestDialect::Temperature;
  const std::string words = absl::AsciiStrToLower(error.words);
  const auto has = [&](std::string_view word) { return words.find(word) != words.npos; };
  // Not only what is the prompt's: a gateway's words may be a strict server's, and some call it their own fault.
  if (error.blame != Blame::kPrompt && !error.doubtful && !has("unexpected keyword")) return std::nullopt;
  if (std::none_of(std::begin(kFieldRefusals), std::end(kFieldRefusals), has)) return std::nullopt;
  const auto names = [&](std::string_view field) { return error.field == field || has(field); };
  RequestDialect other = dialect;
  bool changed = false;
  const auto set = [&](auto* value, auto to) {
    changed |= *value != to;
    *value = to;
  };
  if (names("stream_options") || has("stream options") || names("include_usage")) set(&other.stream_options, false);
  if (names("seed") && prompt.seed) set(&other.seed, false);
  if (names("logprobs") && prompt.top_logprobs > 0) {
    set(&other.logprobs_below, std::min(dialect.logprobs_below, prompt.top_logprobs));
  }
  const bool wants_other_name = names("max_tokens") && has("max_completion_tokens");
  if ((wants_other_name || (error.field == "max_tokens" && has("support"))) && !has("context")) {
    set(&other.max_completion_tokens, true);
  }
  if (names("temperature")) {  // one that is out of range is the query's own fault
    const bool zero = prompt.temperature <= 0;
    if (zero && dialect.temperature == Temperature::kAsAsked && (has("positive") || has("greater") || has("> 0"))) {
      set(&other.temperature, Temperature::kAboveZero);
    } else if (has("only the default") || (!zero && has("support"))) {
      set(&other.temperature, Temperature::kOmitted);
    } else if (zero) {
      set(&other.temperature, std::max(dialect.temperature, Temperature::kZeroOmitted));
    }
  }
  return changed ? std::optional<RequestDialect>(other) : std::nullopt;
}

std::string CleanFinishReason(const std::string& reason) {
  const bool readable = reason.size() <= kMaxFinishReason &&
                        std::all_of(reason.begin(), reason.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  return readable ? reason : "other";
}

absl::StatusOr<CompletionChunk> ParseChunk(const std::string& data, bool logprobs_wanted) {
  if (std::optional<CompletionChunk> plain = ReadPlainChunk(data)) return *std::move(plain);
  return ParseAnyChunk(data, logprobs_wanted);
}

absl::StatusOr<CompletionChunk> ParseAnyChunk(const std::string& data, bool logprobs_wanted) {
  bool hidden = false;
  const json event = Parse(data, &hidden);
  if (event.is_discarded() || !event.is_object()) return absl::InvalidArgumentError("an event is no JSON object");
  CompletionChunk chunk;
  const json* error = Find(event, "error");
  const json* choices = Find(event, "choices");
  if ((error != nullptr && *error != false && *error != "" && !error->empty()) || Text(event, "object") == "error" ||
      (choices == nullptr && Find(event, "detail") != nullptr)) {
    chunk.is_error = true;
    return chunk;
  }
  if (const json* usage = Find(event, "usage")) {
    const json* prompt = Find(*usage, "prompt_tokens");
    const json* output = Find(*usage, "completion_tokens");
    const std::optional<int> in = prompt == nullptr ? 0 : Count(*prompt, kMaxUsageTokens);
    const std::optional<int> out = output == nullptr ? std::nullopt : Count(*output, kMaxUsageTokens);
    if (in && out) chunk.usage = Usage{*in, *out, CachedTokens(event, *usage, *in)};
  }
  if (choices == nullptr) return chunk;
  if (!choices->is_array()) return absl::InvalidArgumentError("an event has choices that are no list");
  const json* choice = nullptr;
  for (const json& at : *choices) {
    if (!at.is_object()) continue;
    const json* index = Find(at, "index");
    if (index == nullptr || !index->is_number() || *index == 0) {
      choice = &at;
      break;
    }
    chunk.has_other_choices = true;
  }
  if (choice == nullptr) return chunk;
  chunk.has_choice = true;
  const json* message = Find(*choice, "delta");
  if (message == nullptr) message = Find(*choice, "message");
  if (message != nullptr) ReadMessage(*message, &chunk);
  if (chunk.text.empty()) chunk.text = Text(*choice, "text");
  if (hidden) chunk.text = RestoreRawBytes(chunk.text);
  if (const std::string reason = Text(*choice, "finish_reason"); !reason.empty())
    chunk.finish_reason = CleanFinishReason(reason);
  const size_t positions = Positions(*choice);
  if (positions > 0 && logprobs_wanted) chunk.logprobs = Logprobs(data);
  if (!chunk.text.empty()) chunk.tokens = static_cast<int>(std::max<size_t>(1, positions));
  return chunk;
}

}  // namespace goad::server
