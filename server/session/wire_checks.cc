#include "server/session/wire_checks.h"

#include "absl/strings/str_cat.h"
#include "server/base/clip.h"

namespace goad::server {

ErrorInfo Invalid(std::string field, const std::string& message) {
  return MakeError(ErrorCode::kInvalidArgument, "OUT_OF_RANGE", std::move(field), message);
}

// NaN is refused: the comparison is then false.
std::optional<ErrorInfo> CheckRange(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return std::nullopt;
  return Invalid(field, absl::StrCat(value, " is not in ", low, "..", high));
}

std::optional<ErrorInfo> CheckAboveZero(const char* field, double value, double high) {
  if (value > 0 && value <= high) return std::nullopt;
  return Invalid(field, absl::StrCat(value, " is not above 0 and at most ", high));
}

std::optional<ErrorInfo> CheckLength(const std::string& field, size_t bytes, size_t low, size_t high) {
  if (bytes >= low && bytes <= high) return std::nullopt;
  return Invalid(field, absl::StrCat(bytes, " bytes, want ", low, "..", high));
}

std::optional<ErrorInfo> CheckName(const char* field, const std::string& name) {
  if (!HasControlCharacter(name)) return std::nullopt;
  return Invalid(field, absl::StrCat("\"", Clip(name), "\" holds a control character"));
}

}  // namespace goad::server
