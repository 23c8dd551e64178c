// How a value of a frame is checked, and in which words it is refused: field, value, range. Pure; for wire_codec.
#ifndef GOAD_SERVER_SESSION_WIRE_CHECKS_H_
#define GOAD_SERVER_SESSION_WIRE_CHECKS_H_

#include <optional>
#include <string>

#include "server/engine/error.h"

namespace goad::server {

ErrorInfo Invalid(std::string field, const std::string& message);  // INVALID_ARGUMENT, OUT_OF_RANGE

// What is wrong, or nullopt. NaN is in no range.
std::optional<ErrorInfo> CheckRange(const char* field, double value, double low, double high);
std::optional<ErrorInfo> CheckAboveZero(const char* field, double value, double high);
std::optional<ErrorInfo> CheckLength(const std::string& field, size_t bytes, size_t low, size_t high);
std::optional<ErrorInfo> CheckName(const char* field, const std::string& name);  // no control characters

#define GOAD_REFUSE_IF(check) \
  if (auto refused_ = (check)) return refused_

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_WIRE_CHECKS_H_
