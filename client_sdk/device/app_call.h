// What an app asks for over the OpenAI API: read once, bounded, and made into what the local server and goad take.
#ifndef GOAD_CLIENT_SDK_DEVICE_APP_CALL_H_
#define GOAD_CLIENT_SDK_DEVICE_APP_CALL_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client_sdk/device/api_error.h"
#include "goad/query.h"

namespace goad::device {

inline constexpr size_t kMostRequestBytes = 16 << 20;
inline constexpr int kMostRequestDepth = 64;
inline constexpr size_t kMostRequestValues = 65536;  // each takes some hundred bytes, in each copy of a request

struct AppCall {
  bool chat = false;
  bool stream = false;
  bool include_usage = false;
  std::string model;         // as the app says it; empty = not said
  bool logprobs = false;     // the app wants some
  int top_logprobs = 0;      // candidates a token that the app wants, 0..20
  nlohmann::json request;    // an object
  Query query;               // for goad
  absl::Status offloadable;  // why goad cannot be asked: what is in it has no place in a Query
};
// One that is no call of the API, or that goad-device does not take (n above 1), is an ApiError that names the field.
// What only the model's server can judge is left to it.
std::optional<ApiError> ReadAppCall(const std::string& body, bool chat, AppCall* call);

// The request for the local server: the app's, streamed, with usage, and with `candidates` log-probabilities a token
// (0 = only those that the app asks for).
std::string LocalBody(const AppCall& call, const std::string& local_model, int candidates);
// The app's own one, for a server that refuses that: llama-server gives no log-probabilities of streamed tool calls.
std::string AppsOwnBody(const AppCall& call, const std::string& local_model);

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_APP_CALL_H_
