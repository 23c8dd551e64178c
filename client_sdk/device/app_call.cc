#include "client_sdk/device/app_call.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_fields.h"
#include "client_sdk/openai/json_text.h"

namespace goad::device {
namespace {

using openai::Get;

ApiError Invalid(const std::string& param, const std::string& message) {
  return {400, "invalid_request_error", "", message, param};
}

// What a Query has a field of its own for, what goad says itself, and what is about this endpoint or the local server
// alone. Everything else goes on in options_json, where goad's operator decides.
constexpr std::array kNotOptions = {"messages",
                                    "prompt",
                                    "model",
                                    "stream",
                                    "stream_options",
                                    "max_tokens",
                                    "temperature",
                                    "stop",
                                    "seed",
                                    "logprobs",
                                    "top_logprobs",
                                    "n",
                                    "best_of",
                                    "store",
                                    "metadata",
                                    "service_tier",
                                    "prompt_cache_key",
                                    "user",
                                    "cache_prompt",
                                    "id_slot",
                                    "n_predict",
                                    "return_progress",
                                    "return_tokens",
                                    "timings_per_token",
                                    "n_probs",
                                    "safety_identifier",
                                    "max_completion_tokens",
                                    "keep_alive",
                                    "echo",
                                    "post_sampling_probs"};

std::optional<int> IntIn(const nlohmann::json& value, int least, int most) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= least && number <= most) || number != std::floor(number)) return std::nullopt;
  return static_cast<int>(number);
}

// At least so many values are in it. Of what is no JSON any number.
size_t Values(const std::string& json) {
  size_t values = 1;
  bool text = false;
  for (size_t k = 0; k < json.size(); ++k) {
    const char c = json[k];
    if (c == '"') text = !text;
    if (text && c == '\\') ++k;
    if (!text && (c == ',' || c == '[' || c == '{')) ++values;
  }
  return values;
}

// A value that is null is one that was not given, as in OpenAI's API.
bool Given(const nlohmann::json& value) { return !value.is_null(); }

std::optional<ApiError> ReadFlag(const nlohmann::json& object, const char* field, bool* to) {
  const auto& value = Get(object, field);
  if (!Given(value)) return std::nullopt;
  if (!value.is_boolean()) return Invalid(field, absl::StrCat(field, ": is no boolean"));
  *to = value.get<bool>();
  return std::nullopt;
}

std::optional<ApiError> ReadLogprobsWanted(AppCall* call) {
  const auto& wanted = Get(call->request, "logprobs");
  if (!call->chat) {
    if (!Given(wanted) || wanted == false) return std::nullopt;
    const auto most = wanted == true ? 0 : IntIn(wanted, 0, 20);
    if (!most) return Invalid("logprobs", "logprobs: is no integer in 0..20");
    call->logprobs = true;
    call->top_logprobs = *most;
    return std::nullopt;
  }
  if (auto error = ReadFlag(call->request, "logprobs", &call->logprobs)) return error;
  const auto& top = Get(call->request, "top_logprobs");
  if (!Given(top)) return std::nullopt;
  const auto most = IntIn(top, 0, 20);
  if (!most) return Invalid("top_logprobs", "top_logprobs: is no integer in 0..20");
  if (*most > 0 && !call->logprobs) return Invalid("top_logprobs", "top_logprobs: needs logprobs to be true");
  call->top_logprobs = *most;
  return std::nullopt;
}

// The fields that a Query has of its own. Not OK: the local server may know what to do with it, goad does not.
absl::Status FillQuery(const AppCall& call, Query* query) {
  const auto bad = [](absl::string_view what) { return absl::InvalidArgumentError(what); };
  const nlohmann::json& request = call.request;
  if (call.chat) {
    for (const auto& message : request["messages"]) query->messages_json.push_back(Dump(message));
    query->reasoning = true;
  } else if (const auto& prompt = request["prompt"]; prompt.is_string()) {
    query->prompt = prompt.get<std::string>();
  } else if (prompt.is_array() && prompt.size() == 1 && prompt[0].is_string()) {
    query->prompt = prompt[0].get<std::string>();
  } else {
    return bad("prompt: goad takes one text");
  }
  for (const char* field : {"max_completion_tokens", "max_tokens", "n_predict"}) {
    const auto& most = Get(request, field);
    if (!Given(most) || most == -1) continue;  // llama.cpp's "no limit"
    const auto tokens = IntIn(most, 1, 1000000);
    if (!tokens) return bad(absl::StrCat(field, ": is no integer in 1..1000000"));
    query->max_output_tokens = *tokens;
    break;
  }
  if (const auto& value = Get(request, "temperature"); Given(value)) {
    if (!value.is_number()) return bad("temperature: is no number");
    query->temperature = value.get<double>();
  } else {
    query->temperature = 1;  // as OpenAI's API has it
  }
  if (const auto& value = Get(request, "seed"); Given(value)) {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX))
      return bad("seed: is no 64-bit integer");
    query->seed = value.get<int64_t>();
  }
  if (const auto& value = Get(request, "stop"); value.is_string()) {
    query->stop.push_back(value.get<std::string>());
  } else if (value.is_array()) {
    for (const auto& stop : value) {
      if (!stop.is_string()) return bad("stop: holds something that is no text");
      query->stop.push_back(stop.get<std::string>());
    }
  } else if (Given(value)) {
    return bad("stop: is no text and no list");
  }
  query->top_logprobs = call.logprobs ? std::clamp(call.top_logprobs, 1, 10) : 0;
  nlohmann::json options = nlohmann::json::object();
  for (const auto& [field, value] : request.items()) {
    if (Given(value) && std::find(kNotOptions.begin(), kNotOptions.end(), std::string_view(field)) == kNotOptions.end())
      options[field] = value;
  }
  if (!options.empty()) query->options_json = Dump(options);
  if (Get(request, "echo") == true) return bad("echo: goad does not repeat the prompt");
  return absl::OkStatus();
}

}  // namespace

std::optional<ApiError> ReadAppCall(const std::string& body, bool chat, AppCall* call) {
  *call = {};
  call->chat = chat;
  if (const absl::Status bounded = openai::CheckJson(body, kMostRequestBytes, kMostRequestDepth); !bounded.ok())
    return Invalid("", absl::StrCat("the request: ", std::string(bounded.message())));
  if (Values(body) > kMostRequestValues)
    return Invalid("", absl::StrCat("the request: has more than ", kMostRequestValues, " values in it"));
  call->request = nlohmann::json::parse(body, nullptr, false);
  if (call->request.is_discarded()) return Invalid("", "the request is no JSON");
  if (!call->request.is_object()) return Invalid("", "the request is no JSON object");
  const nlohmann::json& request = call->request;
  const char* const input = chat ? "messages" : "prompt";
  if (!Given(Get(request, input))) return Invalid(input, absl::StrCat(input, ": is missing"));
  if (chat && (!request["messages"].is_array() || request["messages"].empty()))
    return Invalid("messages", "messages: is no list with something in it");
  for (const char* field : {"n", "best_of"}) {
    if (const auto& value = Get(request, field); Given(value) && value != 1)
      return Invalid(field, absl::StrCat(field, ": one answer is given, 1"));
  }
  if (!chat && request["prompt"].is_array() && request["prompt"].size() > 1 && request["prompt"][0].is_string())
    return Invalid("prompt", "prompt: a list of several; one answer is given, so want one");
  if (const auto& model = Get(request, "model"); Given(model)) {
    if (!model.is_string() || model.get<std::string>().size() > 256)
      return Invalid("model", "model: is no text of at most 256 bytes");
    call->model = model.get<std::string>();
  }
  if (auto error = ReadFlag(request, "stream", &call->stream)) return error;
  const auto& stream_options = Get(request, "stream_options");
  if (Given(stream_options)) {
    if (!call->stream) return Invalid("stream_options", "stream_options: only with stream");
    if (auto error = ReadFlag(stream_options, "include_usage", &call->include_usage)) return error;
  }
  if (auto error = ReadLogprobsWanted(call)) return error;
  call->offloadable = FillQuery(*call, &call->query);
  return std::nullopt;
}

std::string AppsOwnBody(const AppCall& call, const std::string& local_model) {
  nlohmann::json body = call.request;
  if (!local_model.empty()) body["model"] = local_model;
  if (call.stream) body["stream_options"] = {{"include_usage", true}};
  return Dump(body);
}

std::string LocalBody(const AppCall& call, const std::string& local_model, int candidates) {
  nlohmann::json body = call.request;
  if (!local_model.empty()) body["model"] = local_model;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  const int top = std::max(candidates, call.top_logprobs);
  if (call.chat && top > 0) {
    body["logprobs"] = true;
    body["top_logprobs"] = top;
  } else if (top > 0) {
    body["logprobs"] = top;
  }
  return Dump(body);
}

}  // namespace goad::device
