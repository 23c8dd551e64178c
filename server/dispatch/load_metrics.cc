#include "server/dispatch/load_metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "absl/strings/numbers.h"

namespace goad::server {
namespace {

constexpr std::array<std::string_view, 9> kLoadNames = {
    "vllm:num_requests_running",    "vllm:num_requests_waiting",  "vllm:num_requests_swapped",
    "llamacpp:requests_processing", "llamacpp:requests_deferred", "sglang:num_running_reqs",
    "sglang:num_queue_reqs",        "sglang_num_running_reqs",    "sglang_num_queue_reqs"};

constexpr double kMostLoad = 1e6;  // requests; more is no count of any server

}  // namespace

std::optional<double> ParseServerLoad(std::string_view page) {
  std::optional<double> load;
  while (!page.empty()) {
    const size_t end = std::min(page.find('\n'), page.size());
    std::string_view line = page.substr(0, end);
    page.remove_prefix(std::min(end + 1, page.size()));
    const size_t name_end = line.find_first_of("{ \t");
    if (name_end == std::string_view::npos) continue;
    if (std::find(kLoadNames.begin(), kLoadNames.end(), line.substr(0, name_end)) == kLoadNames.end()) continue;
    // name{labels} value [timestamp]; a label's value may hold any character, so the labels end at the last brace.
    line.remove_prefix(line[name_end] == '{' ? std::min(line.rfind('}'), line.size() - 1) + 1 : name_end);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const std::string number(line.substr(0, line.find_first_of(" \t\r")));
    double value = 0;
    if (!absl::SimpleAtod(number, &value) || !(value >= 0 && value <= kMostLoad)) value = 0;
    load = std::min(kMostLoad, load.value_or(0) + value);
  }
  return load;
}

}  // namespace goad::server
