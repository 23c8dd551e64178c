#include "server/daemon/journal.h"

#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

// A line end within it begins another entry of the journal, which has a priority of its own.
std::string Entries(const char* priority, const std::string& text) {
  return absl::StrCat(priority, absl::StrReplaceAll(text, {{"\n", absl::StrCat("\n", priority)}}));
}

const char* PriorityOf(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::critical: return SD_CRIT;
    case spdlog::level::err: return SD_ERR;
    case spdlog::level::warn: return SD_WARNING;
    case spdlog::level::info: return SD_INFO;
    default: return SD_DEBUG;
  }
}

class JournalEntry final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text = Entries(PriorityOf(message.level), {message.payload.data(), message.payload.size()});
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<JournalEntry>(); }
};

}  // namespace

bool IsJournal() {
  const char* const stream = std::getenv("JOURNAL_STREAM");  // device:inode of what systemd connected
  struct stat ours {};
  return stream != nullptr && fstat(STDERR_FILENO, &ours) == 0 && stream == absl::StrCat(ours.st_dev, ":", ours.st_ino);
}

void LogToStandardError() {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("goad"));
  if (!IsJournal()) return spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<JournalEntry>('*').set_pattern("%*");
  spdlog::set_formatter(std::move(formatter));
}

void Complain(const std::string& what) {
  std::cerr << (IsJournal() ? Entries(SD_ERR, what) : absl::StrCat("goad: ", what)) << "\n";
}

}  // namespace goad::server
