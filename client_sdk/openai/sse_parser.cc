#include "client_sdk/openai/sse_parser.h"

#include <algorithm>
#include <utility>

namespace goad::openai {

bool SseParser::Push(std::string_view bytes, const OnEvent& on_event) {
  while (!bytes.empty()) {
    if (std::exchange(after_cr_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    size_t end = 0;  // find_first_of asks memchr for every byte
    while (end < bytes.size() && bytes[end] != '\n' && bytes[end] != '\r') ++end;
    line_ += bytes.substr(0, end);
    if (line_.size() + event_.data.size() > most_event_bytes_) return false;
    if (end == bytes.size()) return true;
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    EndLine(on_event);
  }
  return true;
}

void SseParser::End(const OnEvent& on_event) {
  if (!line_.empty()) EndLine(on_event);
  Dispatch(on_event);
}

void SseParser::EndLine(const OnEvent& on_event) {
  std::string_view line = line_;
  if (std::exchange(first_line_, false) && line.substr(0, 3) == "\xEF\xBB\xBF") line.remove_prefix(3);
  if (line.empty()) {
    if (!has_data_) ++passed_over_;
    Dispatch(on_event);
    line_.clear();
    return;
  }
  const size_t colon = std::min(line.find(':'), line.size());
  const std::string_view field = line.substr(0, colon);
  std::string_view value = line.substr(std::min(colon + 1, line.size()));
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (field == "data") {
    AddData(value, on_event);
  } else if (field == "error") {
    AddData(value, on_event);
    event_.type = "error";
  } else if (line.substr(0, 8) == "{\"error\"" || (colon > 0 && line.find("\"choices\"") != line.npos)) {
    AddData(line, on_event);
    event_.type = "error";
  } else {
    passed_over_ += line.size() + 1;
    if (field == "event") event_.type = value;
  }
  line_.clear();
}

void SseParser::AddData(std::string_view value, const OnEvent& on_event) {
  std::string& data = event_.data;
  const bool begins_anew = (!value.empty() && value.front() == '{') || value == "[DONE]";
  if (has_data_ && begins_anew && !data.empty() && data.back() == '}') Dispatch(on_event);
  if (has_data_) data += '\n';
  data += value;
  has_data_ = true;
}

void SseParser::Dispatch(const OnEvent& on_event) {
  if (has_data_) on_event(event_);
  event_ = SseEvent();
  has_data_ = false;
}

}  // namespace goad::openai
