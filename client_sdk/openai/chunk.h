// What OpenAI-compatible servers answer (llama.cpp's llama-server, vLLM, SGLang, TGI, Ollama, LiteLLM), one event of a
// stream at a time. Pure, any thread.
#ifndef GOAD_CLIENT_SDK_OPENAI_CHUNK_H_
#define GOAD_CLIENT_SDK_OPENAI_CHUNK_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client_sdk/openai/logprobs.h"
#include "client_sdk/openai/message.h"

namespace goad::openai {

inline constexpr int kMaxUsageTokens = 10'000'000;  // of a prompt or an answer; a server that says more is not believed
inline constexpr size_t kMaxFinishReason = 32;  // bytes; a longer one, or one that is not printable ASCII, is "other"

struct Usage {
  int prompt_tokens = 0, output_tokens = 0;  // 0..kMaxUsageTokens
  int cached_tokens = 0;                     // of the prompt, not computed again; 0 where the server does not say
};
// One event of a streamed answer, or a whole one that was not streamed. Of several choices the one with index 0.
struct Chunk {
  std::string text;       // raw bytes, possibly a part of a code point, or one half of a UTF-16 pair (utf8.h)
  int tokens = 0;         // tokens in `text`; 1 where the server does not say
  bool thought = false;   // the model thinks: reasoning beside or instead of text
  bool refusal = false;   // `text` is the model's refusal
  std::string reasoning;  // what it thinks, where that is text: raw bytes as `text` is
  std::vector<ToolCallPiece> tool_calls;  // at most kMostToolCalls; raw bytes likewise
  bool tool_call = false;                 // there was one, perhaps in a form that is read into none of these
  bool has_choice = false;                // the one that counts
  bool has_other_choices = false;
  std::optional<std::string> finish_reason;
  std::optional<Usage> usage;          // nothing when a number in it is out of range
  std::vector<TokenLogprob> logprobs;  // at most 4096
  bool is_error = false;               // and nothing else
};
// INVALID_ARGUMENT for what is no JSON object, too deep, or has choices that are no list. An object that has nothing of
// an answer is an empty chunk (progress, roles, pings).
absl::StatusOr<Chunk> ParseChunk(const std::string& data, bool logprobs_wanted = true);
// The same without the short way for plain ones (plain_chunk.h).
absl::StatusOr<Chunk> ParseAnyChunk(const std::string& data, bool logprobs_wanted = true);

// As it is told: "other" where it is longer than kMaxFinishReason or not printable ASCII.
std::string CleanFinishReason(const std::string& reason);

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_CHUNK_H_
