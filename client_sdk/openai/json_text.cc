#include "client_sdk/openai/json_text.h"

#include <cmath>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/openai/utf8.h"

namespace goad::openai {
namespace {

bool IsAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }

bool IsWord(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '+' || c == '.';
}

// A word outside strings that means a number which JSON cannot write.
bool IsBeyondJson(std::string_view word) {
  const std::string_view bare = !word.empty() && (word[0] == '-' || word[0] == '+') ? word.substr(1) : word;
  const auto is = [&](const char* name) {
    return absl::EqualsIgnoreCase(absl::string_view(bare.data(), bare.size()), name);
  };
  if (is("nan") || is("inf") || is("infinity")) return true;
  if (bare.empty() || bare[0] < '0' || bare[0] > '9') return false;
  if (word.size() < 300 && word.find_first_of("eE") == std::string_view::npos) return false;
  const std::string number(word);
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end);
  return *end == '\0' && std::isinf(value);
}

}  // namespace

absl::Status CheckJson(std::string_view text, size_t most_bytes, int most_depth) {
  if (text.size() > most_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("JSON text: ", text.size(), " bytes, want at most ", most_bytes));
  }
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;  // whatever is escaped does not end the string
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > most_depth) {
        return absl::InvalidArgumentError(
            absl::StrCat("JSON text: more than ", most_depth, " arrays and objects within each other at byte ", i));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return absl::OkStatus();
}

int EscapedUnit(std::string_view text, size_t i) {
  if (i + 6 > text.size() || text[i] != '\\' || text[i + 1] != 'u') return -1;
  int unit = 0;
  for (size_t k = i + 2; k < i + 6; ++k) {
    const auto c = static_cast<unsigned char>(text[k]);
    if (!absl::ascii_isxdigit(c)) return -1;
    unit = unit * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return unit;
}

std::string StrictJson(std::string_view text) {
  std::string strict;
  strict.reserve(text.size() + 16);
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (!IsAscii(c)) {
      if (const int length = CodePointLength(text.substr(i)); length <= 0) {
        strict += "\xEF\xBF\xBD";
        ++i;
      } else {
        strict += text.substr(i, static_cast<size_t>(length));
        i += static_cast<size_t>(length);
      }
    } else if (in_string && c == '\\') {
      const int unit = EscapedUnit(text, i);
      if (IsHighHalf(unit) && IsLowHalf(EscapedUnit(text, i + 6))) {
        strict += text.substr(i, 12);
        i += 12;
      } else if (IsHighHalf(unit) || IsLowHalf(unit)) {
        strict += "\\ufffd";
        i += 6;
      } else {
        const size_t escaped = i + 1 < text.size() && IsAscii(text[i + 1]) ? 2 : 1;
        strict += text.substr(i, escaped);
        i += escaped;
      }
    } else if (in_string || !IsWord(c)) {
      if (c == '"') in_string = !in_string;
      strict += c;
      ++i;
    } else {
      size_t end = i;
      while (end < text.size() && IsWord(text[end])) ++end;
      const std::string_view word = text.substr(i, end - i);
      if (IsBeyondJson(word)) {
        strict += '"';
        strict += word;
        strict += '"';
      } else {
        strict += word;
      }
      i = end;
    }
  }
  return strict;
}

}  // namespace goad::openai
