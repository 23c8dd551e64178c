// Fields of a JSON object that somebody else wrote, each with its bound; the first thing wrong is kept in words. Pure,
// any thread.
#ifndef GOAD_SERVER_CALIBRATION_FIELDS_H_
#define GOAD_SERVER_CALIBRATION_FIELDS_H_

#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace goad::server {

// The object that `text` is. INVALID_ARGUMENT where it is longer or deeper than allowed, no JSON object, or names a
// field twice, which says two things at once.
absl::StatusOr<nlohmann::json> ParseObject(std::string_view text, size_t most_bytes, int most_depth);

// Thread-compatible; `object` outlives it. What is read after something was wrong is of no meaning: Done says so.
class Fields {
 public:
  // `path` comes before the names in words: "curves[3]." or empty.
  Fields(const nlohmann::json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object.is_object()) Wrong("", "is no object");
  }

  bool Has(const char* name);  // null counts as missing
  double Number(const char* name, double least, double most);
  size_t Count(const char* name, size_t least, size_t most);  // a whole number
  bool Bool(const char* name);
  std::string Text(const char* name, size_t most_bytes);  // without control characters
  const nlohmann::json& Array(const char* name, size_t least, size_t most);
  const nlohmann::json& Object(const char* name);

  // For what is wrong with a field beyond its range; the first one counts.
  void Wrong(const std::string& name, const std::string& what);
  bool ok() const { return status_.ok(); }
  // Everything so far; a field that nobody asked for is wrong, too.
  absl::Status Done();

 private:
  const nlohmann::json& Find(const char* name);

  const nlohmann::json& object_;
  const std::string path_;
  std::set<std::string> asked_;
  absl::Status status_;
};

// At most 96 bytes of it, as it may be quoted.
std::string Quote(const nlohmann::json& value);

}  // namespace goad::server

#endif  // GOAD_SERVER_CALIBRATION_FIELDS_H_
