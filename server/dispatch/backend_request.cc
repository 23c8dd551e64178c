#include "server/dispatch/backend_request.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/dispatch/blame_words.h"

namespace goad::server {

using openai::RequestDialect;

namespace {
constexpr size_t kMostStops = 4;  // that OpenAI's API takes
}  // namespace

std::string MakeRequestBody(const BackendConfig& backend, const PromptBody& prompt, int max_output_tokens,
                            const RequestDialect& dialect) {
  openai::Request request;
  request.model = backend.model;
  request.chat = backend.api == BackendApi::kChat;
  request.prompt = prompt.text;
  request.messages = prompt.messages;
  if (!request.chat && prompt.chat) {
    for (const openai::Message& message : prompt.messages) {
      absl::StrAppend(&request.prompt, message.role, ": ", message.content, "\n\n");
    }
    request.prompt += "assistant:";
  }
  if (request.chat && !prompt.chat) request.messages = {{"user", std::move(request.prompt), ""}};
  request.temperature = prompt.temperature;
  request.stop = prompt.stop;
  if (!request.chat && prompt.chat && request.stop.size() < kMostStops) request.stop.push_back("\n\nuser:");
  request.seed = prompt.seed;
  request.top_logprobs = prompt.top_logprobs;
  request.max_tokens = max_output_tokens;
  request.options = prompt.options;
  return openai::RequestBody(std::move(request), dialect);
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

}  // namespace goad::server
