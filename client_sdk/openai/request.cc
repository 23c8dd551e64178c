#include "client_sdk/openai/request.h"

#include <algorithm>

#include "nlohmann/json.hpp"

namespace goad::openai {

using nlohmann::json;

const char* RequestPath(bool chat) { return chat ? "/v1/chat/completions" : "/v1/completions"; }

std::string RequestBody(Request request, const RequestDialect& dialect) {
  using Temperature = RequestDialect::Temperature;
  json body = json::object();
  if (!request.options.empty()) body = json::parse(request.options, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object()) body = json::object();
  if (!body.contains("model")) body["model"] = std::move(request.model);  // there only where the operator allows it
  body["stream"] = true;
  body[dialect.max_completion_tokens ? "max_completion_tokens" : "max_tokens"] = request.max_tokens;
  if (dialect.stream_options) body["stream_options"] = {{"include_usage", true}};
  const bool no_temperature = dialect.temperature == Temperature::kOmitted ||
                              (dialect.temperature == Temperature::kZeroOmitted && request.temperature <= 0);
  if (!no_temperature) {
    body["temperature"] =
        dialect.temperature == Temperature::kAboveZero ? std::max(request.temperature, 0.01) : request.temperature;
  }
  if (request.chat) {
    json messages = json::array();
    for (Message& message : request.messages) {
      if (message.json.empty()) {
        messages.push_back({{"role", std::move(message.role)}, {"content", std::move(message.content)}});
      } else {
        messages.push_back(json::parse(message.json, nullptr, /*allow_exceptions=*/false));
      }
    }
    body["messages"] = std::move(messages);
  } else {
    body["prompt"] = std::move(request.prompt);
  }
  if (!request.stop.empty()) body["stop"] = std::move(request.stop);
  if (request.seed && dialect.seed) body["seed"] = *request.seed;
  if (request.top_logprobs > 0 && request.top_logprobs < dialect.logprobs_below) {
    if (request.chat) {
      body["logprobs"] = true;
      body["top_logprobs"] = request.top_logprobs;
    } else {
      body["logprobs"] = request.top_logprobs;
    }
  }
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace goad::openai
