#include "server/telemetry/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/read_file.h"

namespace goad::server {
namespace {

void Add(std::vector<prometheus::MetricFamily>& families, const char* name, const char* help,
         prometheus::MetricType type, double value) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  family.metric.resize(1);
  (type == prometheus::MetricType::Counter ? family.metric[0].counter.value : family.metric[0].gauge.value) = value;
  families.push_back(std::move(family));
}

// Descriptors, but for the one that looks; -1 = not known.
double OpenDescriptors() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return -1;
  double count = -1;
  while (const dirent* entry = readdir(folder)) count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

double NumberIn(const std::string& path) {
  const auto text = ReadFile(path);
  double value = -1;
  return text.ok() && absl::SimpleAtod(absl::StripSuffix(*text, "\n"), &value) ? value : -1;
}

// Of the control group (cgroup v2) that a service manager or container put us into; -1 = none.
double MemoryLimit() {
  const auto groups = ReadFile("/proc/self/cgroup");
  if (!groups.ok()) return -1;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(*groups, '\n'))) {
    if (!absl::StartsWith(line, "0::/")) continue;
    const double limit = NumberIn(absl::StrCat("/sys/fs/cgroup", line.substr(3), "/memory.max"));
    return limit >= 0 ? limit : NumberIn("/sys/fs/cgroup/memory.max");  // in a container its group is the root
  }
  return -1;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> families;
  if (const double open = OpenDescriptors(); open >= 0) {
    Add(families, "process_open_fds", "Descriptors in use.", MetricType::Gauge, open);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    Add(families, "process_max_fds", "Descriptors that may be in use.", MetricType::Gauge,
        static_cast<double>(limit.rlim_cur));
  }
  if (const double most = MemoryLimit(); most >= 0) {
    Add(families, "goad_memory_limit_bytes", "Most memory of the control group; absent = no limit.", MetricType::Gauge,
        most);
  }
  // /proc/self/stat: what follows the name, which is in parentheses and may hold any character.
  const auto stat = ReadFile("/proc/self/stat"), boot = ReadFile("/proc/stat");
  if (!stat.ok()) return families;
  const std::vector<std::string> fields =
      absl::StrSplit(stat->substr(std::min(stat->rfind(')') + 2, stat->size())), ' ');
  const auto field = [&](size_t number) {  // as proc(5) numbers them; the first here is 3
    double value = 0;
    return number - 3 < fields.size() && absl::SimpleAtod(fields[number - 3], &value) ? value : 0;
  };
  const double ticks_per_s = static_cast<double>(sysconf(_SC_CLK_TCK)),
               page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
  Add(families, "process_cpu_seconds_total", "CPU time, user and system.", MetricType::Counter,
      (field(14) + field(15)) / ticks_per_s);
  Add(families, "process_threads", "Threads.", MetricType::Gauge, field(20));
  Add(families, "process_virtual_memory_bytes", "Address space in use.", MetricType::Gauge, field(23));
  Add(families, "process_resident_memory_bytes", "Memory in use.", MetricType::Gauge, field(24) * page_bytes);
  if (boot.ok()) {
    const size_t at = boot->find("\nbtime ");
    double boot_s = 0;
    if (at != std::string::npos && absl::SimpleAtod(boot->substr(at + 7, boot->find('\n', at + 7) - at - 7), &boot_s)) {
      Add(families, "process_start_time_seconds", "Unix time of its start.", MetricType::Gauge,
          boot_s + field(22) / ticks_per_s);
    }
  }
  return families;
}

}  // namespace goad::server
