// Requests to and answers from OpenAI-compatible servers (llama.cpp's llama-server, vLLM, SGLang, Ollama). Pure.
#ifndef GOAD_SERVER_DISPATCH_COMPLETION_JSON_H_
#define GOAD_SERVER_DISPATCH_COMPLETION_JSON_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"
#include "server/engine/ports.h"

namespace goad::server {

// The body of a streaming request. Everything that has a server-side default we care about is said: temperature,
// max_tokens, stream, usage. A text prompt for a chat backend becomes one user message.
std::string MakeRequestBody(const BackendConfig& backend, const PromptBody& prompt, int max_output_tokens);
// "/v1/completions" or "/v1/chat/completions".
const char* RequestPath(BackendApi api);

struct Usage {
  int prompt_tokens = 0, output_tokens = 0;
};
// One SSE event of a streamed answer.
struct CompletionChunk {
  std::string text;               // raw bytes, possibly a part of a code point
  int tokens = 0;                 // tokens in `text`; 1 where the server does not say
  std::optional<std::string> finish_reason;
  std::optional<Usage> usage;
  std::vector<TokenLogprob> logprobs;
};
// INVALID_ARGUMENT for what is no JSON or no completion chunk; UNAVAILABLE with the server's words for an error event.
absl::StatusOr<CompletionChunk> ParseChunk(const std::string& data);

// What went wrong, in the server's own words where it gives some: {"error":{"message":...}}. At most 300 bytes.
std::string ErrorMessage(int http_status, const std::string& body);

// `total_slots` of llama-server's /props; nullopt elsewhere.
std::optional<int> ParseSlots(const std::string& props);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_COMPLETION_JSON_H_
