#include "server/dispatch/sse_parser.h"

namespace goad::server {

bool SseParser::Push(std::string_view bytes, const std::function<void(const std::string&)>& on_event) {
  for (const char c : bytes) {
    if (c == '\n' && after_cr_) {
      after_cr_ = false;
      continue;
    }
    after_cr_ = c == '\r';
    if (c == '\n' || c == '\r') {
      EndLine(on_event);
    } else {
      line_ += c;
      if (line_.size() + data_.size() > kMaxEventBytes) return false;
    }
  }
  return true;
}

void SseParser::EndLine(const std::function<void(const std::string&)>& on_event) {
  if (line_.empty()) {
    if (has_data_) on_event(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  std::string_view line = line_;
  if (line.substr(0, 5) == "data:") {
    line.remove_prefix(5);
    if (!line.empty() && line.front() == ' ') line.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += line;
    has_data_ = true;
  }
  line_.clear();
}

}  // namespace goad::server
