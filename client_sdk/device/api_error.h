// An error as OpenAI's API tells it: an HTTP status and {"error": {message, type, param, code}}.
#ifndef GOAD_CLIENT_SDK_DEVICE_API_ERROR_H_
#define GOAD_CLIENT_SDK_DEVICE_API_ERROR_H_

#include <nlohmann/json.hpp>
#include <string>

namespace goad::device {

struct ApiError {
  int status = 500;
  std::string type;  // invalid_request_error, authentication_error, ...
  std::string code;  // for programs; empty = null
  std::string message;
  std::string param;  // the field; empty = null
};

inline nlohmann::json ErrorJson(const ApiError& error) {
  const auto or_null = [](const std::string& text) { return text.empty() ? nlohmann::json() : nlohmann::json(text); };
  return {{"error",
           {{"message", error.message},
            {"type", error.type},
            {"param", or_null(error.param)},
            {"code", or_null(error.code)}}}};
}
// Whatever bytes are in it.
template <typename Json>
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_API_ERROR_H_
