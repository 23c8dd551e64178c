// Requests to OpenAI-compatible servers (llama.cpp's llama-server, vLLM, SGLang, TGI, Ollama, LiteLLM). Pure, any
// thread.
#ifndef GOAD_CLIENT_SDK_OPENAI_REQUEST_H_
#define GOAD_CLIENT_SDK_OPENAI_REQUEST_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "client_sdk/openai/message.h"

namespace goad::openai {

struct Request {
  std::string model;
  bool chat = false;
  std::string prompt;             // when not chat
  std::vector<Message> messages;  // when chat
  double temperature = 0;
  std::vector<std::string> stop;
  std::optional<int64_t> seed;
  int top_logprobs = 0;  // 0 = no log-probabilities
  int max_tokens = 0;    // of the answer
  std::string
      options;  // an object with more fields (app_request.h), which none of the above gives way to; empty = none
};

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

// The body of a streaming request. Everything that has a server-side default we care about is said: temperature,
// max_tokens, stream, usage.
std::string RequestBody(Request request, const RequestDialect& dialect);
// "/v1/completions" or "/v1/chat/completions".
const char* RequestPath(bool chat);

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_REQUEST_H_
