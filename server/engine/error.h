// What a device is told when something cannot be done.
#ifndef GOAD_SERVER_ENGINE_ERROR_H_
#define GOAD_SERVER_ENGINE_ERROR_H_

#include <string>
#include <utility>

#include "server/base/refusal.h"

namespace goad::server {

enum class ErrorCode {
  kInvalidArgument,
  kFailedPrecondition,
  kNotFound,
  kResourceExhausted,
  kUnavailable,
  kDeadlineExceeded,
  kGrantExpired,
  kSlowConsumer,
  kUnauthenticated,
  kInternal,
};

struct ErrorInfo {
  ErrorCode code = ErrorCode::kInternal;
  std::string reason;        // UPPER_SNAKE, a closed set per code
  std::string field;         // empty when no field is at fault
  std::string message;       // for people: the value and what is allowed
  double retry_after_s = 0;  // when it may be asked again; see RetryHint. 0 = nothing is said
};

// The one way to make one. `message` follows the field's name, where there is one.
inline ErrorInfo MakeError(ErrorCode code, const char* reason, std::string field, const std::string& message,
                           double retry_after_s = 0) {
  std::string text = field.empty() ? message : field + ": " + message;
  return {code, reason, std::move(field), std::move(text), retry_after_s};
}
// For what was turned away at the door.
inline ErrorInfo MakeError(ErrorCode code, Refusal refusal, std::string field, const std::string& message,
                           double retry_after_s = 0) {
  return MakeError(code, ToString(refusal), std::move(field), message, retry_after_s);
}

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_ERROR_H_
