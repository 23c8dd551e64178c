#include "server/dispatch/completion_json.h"

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/dispatch/utf8.h"

namespace goad::server {
namespace {

using nlohmann::json;

// Some servers cut a code point between two events, which is not valid JSON text. Such bytes travel through the JSON
// parser as the private-use code points U+F780..U+F7FF and become bytes again afterwards.
std::string HideRawBytes(const std::string& text) {
  std::string hidden;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80) {
      hidden += c;
    } else {
      absl::StrAppend(&hidden, "\\uf7", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
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

// nlohmann throws on values of another type; servers leave fields out or write null.
std::string StringOr(const json& object, const char* field) {
  const auto at = object.find(field);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}
int IntOr(const json& object, const char* field, int otherwise) {
  const auto at = object.find(field);
  return at != object.end() && at->is_number() ? at->get<int>() : otherwise;
}

TokenLogprob ParseLogprob(const json& entry) {
  TokenLogprob logprob;
  logprob.token = StringOr(entry, "token");
  if (const auto at = entry.find("logprob"); at != entry.end() && at->is_number()) logprob.logprob = at->get<double>();
  if (const auto top = entry.find("top_logprobs"); top != entry.end() && top->is_array()) {
    for (const json& other : *top) {
      if (other.is_object()) logprob.top.push_back(ParseLogprob(other));
    }
  }
  return logprob;
}

}  // namespace

const char* RequestPath(BackendApi api) {
  return api == BackendApi::kChat ? "/v1/chat/completions" : "/v1/completions";
}

std::string MakeRequestBody(const BackendConfig& backend, const PromptBody& prompt, int max_output_tokens) {
  json body = {{"model", backend.model},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}},
               {"max_tokens", max_output_tokens},
               {"temperature", prompt.temperature}};
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
  if (prompt.seed) body["seed"] = *prompt.seed;
  if (prompt.top_logprobs > 0) {
    if (backend.api == BackendApi::kChat) {
      body["logprobs"] = true;
      body["top_logprobs"] = prompt.top_logprobs;
    } else {
      body["logprobs"] = prompt.top_logprobs;
    }
  }
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<CompletionChunk> ParseChunk(const std::string& data) {
  const bool raw = !IsValidUtf8(data);
  const json event = json::parse(raw ? HideRawBytes(data) : data, nullptr, /*allow_exceptions=*/false);
  if (event.is_discarded() || !event.is_object()) return absl::InvalidArgumentError("an event is no JSON object");
  if (event.contains("error")) return absl::UnavailableError(ErrorMessage(200, event.dump()));
  const auto choices = event.find("choices");
  const auto usage = event.find("usage");
  const bool has_usage = usage != event.end() && usage->is_object();
  if ((choices == event.end() || !choices->is_array()) && !has_usage) {
    return absl::InvalidArgumentError("an event has neither choices nor usage");
  }
  CompletionChunk chunk;
  if (has_usage) chunk.usage = Usage{IntOr(*usage, "prompt_tokens", 0), IntOr(*usage, "completion_tokens", 0)};
  if (choices == event.end() || choices->empty() || !(*choices)[0].is_object()) return chunk;
  const json& choice = (*choices)[0];
  if (const auto delta = choice.find("delta"); delta != choice.end() && delta->is_object()) {
    chunk.text = StringOr(*delta, "content");
  } else {
    chunk.text = StringOr(choice, "text");
  }
  if (raw) chunk.text = RestoreRawBytes(chunk.text);
  if (const auto reason = choice.find("finish_reason"); reason != choice.end() && reason->is_string()) {
    chunk.finish_reason = reason->get<std::string>();
  }
  if (const auto logprobs = choice.find("logprobs"); logprobs != choice.end() && logprobs->is_object()) {
    if (const auto content = logprobs->find("content"); content != logprobs->end() && content->is_array()) {
      for (const json& entry : *content) {
        if (entry.is_object()) chunk.logprobs.push_back(ParseLogprob(entry));
      }
    }
  }
  if (!chunk.text.empty()) chunk.tokens = std::max<int>(1, static_cast<int>(chunk.logprobs.size()));
  return chunk;
}

std::string ErrorMessage(int http_status, const std::string& body) {
  std::string message = body;
  const json document = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (document.is_object()) {
    if (const auto error = document.find("error"); error != document.end()) {
      message = error->is_object() ? StringOr(*error, "message") : error->is_string() ? error->get<std::string>() : body;
    }
  }
  if (!IsValidUtf8(message)) message = "(not text)";
  if (message.size() > 300) message.resize(300);
  Utf8Assembler whole;  // the cut may have split a code point
  return absl::StrCat("HTTP ", http_status, ": ", whole.Push(message));
}

std::optional<int> ParseSlots(const std::string& props) {
  const json document = json::parse(props, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return std::nullopt;
  const int slots = IntOr(document, "total_slots", 0);
  return slots > 0 ? std::optional<int>(slots) : std::nullopt;
}

}  // namespace goad::server
