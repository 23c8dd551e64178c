#include "server/session/prompt_codec.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "client_sdk/openai/app_request.h"
#include "server/base/clip.h"
#include "server/session/wire_checks.h"

namespace goad::server {
namespace {

// Of text and messages.
size_t TextBytes(const v1::Prompt& prompt) {
  size_t bytes = prompt.text().size();
  for (const v1::ChatMessage& message : prompt.chat().messages())
    bytes += message.content().size() + message.json().size();
  return bytes;
}

// "PATH: what" of the OpenAI wire, below a field of ours.
ErrorInfo InvalidJson(const std::string& field, const absl::Status& status) {
  return Invalid(field, std::string(status.message()));
}

std::optional<ErrorInfo> DecodeMessage(const v1::ChatMessage& message, const std::string& field,
                                       const LimitsConfig& limits, openai::Message* decoded) {
  if (!message.json().empty()) {
    if (!message.role().empty() || !message.content().empty()) {
      return Invalid(field + ".json", "stands beside a role or a content; want one or the other");
    }
    auto read = openai::ReadAppMessage(message.json(), static_cast<size_t>(limits.prompt_bytes), limits.remote_images);
    if (!read.ok()) return InvalidJson(field + ".json", read.status());
    *decoded = *std::move(read);
    return std::nullopt;
  }
  constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant"};
  if (std::find(std::begin(kRoles), std::end(kRoles), message.role()) == std::end(kRoles)) {
    return Invalid(field + ".role",
                   absl::StrCat("\"", Clip(message.role()), "\" is not system, developer, user or assistant"));
  }
  decoded->role = message.role();
  decoded->content = message.content();
  return std::nullopt;
}

}  // namespace

std::optional<ErrorInfo> DecodePrompt(const v1::Prompt& prompt, const char* field, bool chat, int64_t max_bytes,
                                      const LimitsConfig& limits, std::shared_ptr<const PromptBody>* body) {
  const auto name = [&](const char* leaf) { return absl::StrCat(field, ".", leaf); };
  auto decoded = std::make_shared<PromptBody>();
  decoded->chat = chat;
  if (chat && prompt.body_case() != v1::Prompt::kChat) return Invalid(name("chat"), "is missing; prompt_kind is CHAT");
  if (!chat && prompt.body_case() != v1::Prompt::kText) return Invalid(name("text"), "is missing; prompt_kind is TEXT");
  const size_t text_bytes = TextBytes(prompt), most = static_cast<size_t>(max_bytes);
  GOAD_REFUSE_IF(CheckLength(name(chat ? "chat" : "text"), text_bytes, 1, most));
  GOAD_REFUSE_IF(CheckLength(name("options_json"), prompt.options_json().size(), 0, most - text_bytes));
  if (chat) {
    const int count = prompt.chat().messages_size();
    if (count < 1 || count > 256) return Invalid(name("chat.messages"), absl::StrCat(count, " entries, want 1..256"));
    for (int k = 0; k < count; ++k) {
      GOAD_REFUSE_IF(DecodeMessage(prompt.chat().messages(k), absl::StrCat(name("chat.messages"), "[", k, "]"), limits,
                                   &decoded->messages.emplace_back()));
    }
  } else {
    decoded->text = prompt.text();
  }
  if (!prompt.options_json().empty()) {
    auto options = openai::ReadAppOptions(prompt.options_json(), limits.prompt_options);
    if (!options.ok()) return InvalidJson(name("options_json"), options.status());
    if (options->tools && !chat) return Invalid(name("options_json"), "tools: only with prompt_kind CHAT");
    decoded->tools = options->tools;
    decoded->options = std::move(options->json);
  }
  decoded->reasoning = prompt.reasoning();
  if (prompt.has_temperature()) {
    GOAD_REFUSE_IF(CheckRange(name("temperature").c_str(), prompt.temperature(), 0, 2));
    decoded->temperature = prompt.temperature();
  }
  if (prompt.stop_size() > 4)
    return Invalid(name("stop"), absl::StrCat(prompt.stop_size(), " entries, want at most 4"));
  for (const std::string& stop : prompt.stop()) {
    GOAD_REFUSE_IF(CheckLength(name("stop"), stop.size(), 1, 64));
    decoded->stop.push_back(stop);
  }
  if (prompt.has_seed()) decoded->seed = prompt.seed();
  GOAD_REFUSE_IF(CheckRange(name("top_logprobs").c_str(), prompt.top_logprobs(), 0, 10));
  decoded->top_logprobs = static_cast<int>(prompt.top_logprobs());
  if (prompt.has_upload_s()) GOAD_REFUSE_IF(CheckRange(name("upload_s").c_str(), prompt.upload_s(), 0, 3600));
  *body = std::move(decoded);
  return std::nullopt;
}

}  // namespace goad::server
