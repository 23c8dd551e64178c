// Requests to and answers from OpenAI-compatible servers (llama.cpp's llama-server, vLLM, SGLang, TGI, Ollama,
// LiteLLM); README.md has who sends what. Pure.
#ifndef GOAD_SERVER_DISPATCH_COMPLETION_JSON_H_
#define GOAD_SERVER_DISPATCH_COMPLETION_JSON_H_

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"
#include "server/dispatch/server_error.h"
#include "server/engine/ports.h"

namespace goad::server {

// How a server wants its requests: all as they are, until it has refused a field by name.
struct RequestDialect {
  // In this order. kAboveZero: 0 is said as 0.01; kZeroOmitted: only 0 is left out.
  enum class Temperature { kAsAsked, kAboveZero, kZeroOmitted, kOmitted };

  bool stream_options = true;
  bool seed = true;
  int logprobs_below = std::numeric_limits<int>::max();  // so many for each token, or more, were refused
  bool max_completion_tokens = false;                    // in the place of max_tokens
  Temperature temperature = Temperature::kAsAsked;
};
// What to try instead when a server that was spoken to in `dialect` has refused the request with `error`; nullopt when
// that names no field that could be left out or said otherwise. Every step leaves out more, so that there is an end.
std::optional<RequestDialect> OtherDialect(const RequestDialect& dialect, const PromptBody& prompt,
                                           const ServerError& error);

// The body of a streaming request. Everything that has a server-side default we care about is said: temperature,
// max_tokens, stream, usage. A text prompt for a chat backend becomes one user message.
std::string MakeRequestBody(const BackendConfig& backend, const PromptBody& prompt, int max_output_tokens,
                            const RequestDialect& dialect = RequestDialect());
// "/v1/completions" or "/v1/chat/completions".
const char* RequestPath(BackendApi api);

inline constexpr int kMaxUsageTokens = 10'000'000;  // of a prompt or an answer; a server that says more is not believed
inline constexpr size_t kMaxFinishReason = 32;  // bytes; a longer one, or one that is not printable ASCII, is "other"

struct Usage {
  int prompt_tokens = 0, output_tokens = 0;  // 0..kMaxUsageTokens
  int cached_tokens = 0;                     // of the prompt, not computed again; 0 where the server does not say
};
// One event of a streamed answer, or a whole one that was not streamed. Of several choices the one with index 0.
struct CompletionChunk {
  std::string text;      // raw bytes, possibly a part of a code point, or one half of a UTF-16 pair (utf8.h)
  int tokens = 0;        // tokens in `text`; 1 where the server does not say
  bool thought = false;  // the model thinks: reasoning beside or instead of text
  bool tool_call = false;
  bool has_choice = false;  // the one that counts
  bool has_other_choices = false;
  std::optional<std::string> finish_reason;
  std::optional<Usage> usage;  // nothing when a number in it is out of range
  std::vector<TokenLogprob> logprobs;
  bool is_error = false;  // and nothing else: ReadServerError reads it
};
// INVALID_ARGUMENT for what is no JSON object, too deep, or has choices that are no list. An object that has nothing of
// an answer is an empty chunk (progress, roles, pings).
absl::StatusOr<CompletionChunk> ParseChunk(const std::string& data, bool logprobs_wanted = true);
// The same without the short way for plain ones (plain_chunk.h).
absl::StatusOr<CompletionChunk> ParseAnyChunk(const std::string& data, bool logprobs_wanted = true);

// As it is told: "other" where it is longer than kMaxFinishReason or not printable ASCII.
std::string CleanFinishReason(const std::string& reason);
}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_COMPLETION_JSON_H_
