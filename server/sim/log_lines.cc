#include "server/sim/log_lines.h"

#include <array>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_text.h"

namespace goad::server {
namespace {

using nlohmann::json;

// The next line, no more than a piece beyond the bound of it. False at the end.
bool Next(std::istream& in, size_t most_bytes, std::string* line) {
  std::array<char, 64 << 10> piece;
  line->clear();
  while (line->size() <= most_bytes) {
    in.getline(piece.data(), piece.size());
    const auto bytes = static_cast<size_t>(in.gcount());
    if (in.good()) {
      line->append(piece.data(), bytes - 1);  // without the line's end
      return true;
    }
    line->append(piece.data(), bytes);
    if (in.eof() || in.bad()) break;
    in.clear();  // the piece is full
  }
  return !line->empty();
}

absl::StatusOr<json> Parse(const std::string& text) {
  absl::Status checked = openai::CheckJson(text, kMostLogLineBytes, kMostLogLineDepth);
  if (!checked.ok()) return checked;
  json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return absl::InvalidArgumentError("is no JSON object");
  return line;
}

}  // namespace

absl::Status ReadLines(std::istream& in, const std::string& source, size_t most_bytes,
                       const std::function<absl::Status(const std::string& line, const std::string& place)>& take) {
  std::string text;
  for (int number = 1; Next(in, most_bytes, &text); ++number) {
    if (text.empty()) continue;
    const std::string place = absl::StrCat(source, ":", number);
    const absl::Status taken = text.size() > most_bytes
                                   ? absl::InvalidArgumentError(absl::StrCat("is longer than ", most_bytes, " bytes"))
                                   : take(text, place);
    if (!taken.ok()) return absl::InvalidArgumentError(absl::StrCat(place, ": ", taken.message()));
  }
  if (in.bad()) return absl::InvalidArgumentError(absl::StrCat(source, ": cannot be read"));
  return absl::OkStatus();
}

absl::Status ReadLogLines(
    std::istream& in, const std::string& source,
    const std::function<absl::Status(const nlohmann::json& line, const std::string& place)>& take) {
  return ReadLines(in, source, kMostLogLineBytes, [&](const std::string& text, const std::string& place) {
    const absl::StatusOr<json> line = Parse(text);
    return line.ok() ? take(*line, place) : line.status();
  });
}

}  // namespace goad::server
