// What is wrong with a configuration, as it is collected. Used by the checks alone.
#ifndef GOAD_SERVER_CONFIG_PROBLEMS_H_
#define GOAD_SERVER_CONFIG_PROBLEMS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/base/clip.h"
#include "server/config/config_validator.h"

namespace goad::server {

class Problems {
 public:
  void Add(std::string path, std::string message) { list.push_back({std::move(path), std::move(message)}); }
  void Range(const std::string& path, double value, double low, double high) {
    if (!(value >= low && value <= high)) Add(path, absl::StrCat(value, " is not in ", low, "..", high));
  }
  void Range(const std::string& path, absl::Duration value, absl::Duration low, absl::Duration high) {
    if (value < low || value > high) {
      Add(path, absl::StrCat(absl::FormatDuration(value), " is not in ", absl::FormatDuration(low), "..",
                             absl::FormatDuration(high)));
    }
  }
  std::vector<ConfigProblem> list;
};

// In quotes, as it may be shown.
inline std::string Quoted(const std::string& text) { return absl::StrCat("\"", Clip(text, 200), "\""); }

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_PROBLEMS_H_
