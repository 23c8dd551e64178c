#include "client_sdk/openai/json_text.h"

#include <cmath>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace goad::openai {
namespace {

unsigned char At(std::string_view text, size_t i) { return static_cast<unsigned char>(text[i]); }

// Length of the code point that starts at `i`; 0 when its bytes are no UTF-8 (overlong, surrogate, beyond U+10FFFF,
// cut).
size_t CodePoint(std::string_view text, size_t i) {
  const unsigned char first = At(text, i);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                        : first >= 0xE0 && first <= 0xEF ? 3
                        : first >= 0xF0 && first <= 0xF4 ? 4
                                                         : 0;
  if (length == 0 || i + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((At(text, i + k) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = At(text, i + 1);
  const bool bad = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                   (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
  return bad ? 0 : length;
}

// The value of "\uXXXX" at `i`, or -1.
int Escape(std::string_view text, size_t i) {
  if (i + 6 > text.size() || text[i] != '\\' || text[i + 1] != 'u') return -1;
  int value = 0;
  for (size_t k = i + 2; k < i + 6; ++k) {
    const char c = text[k];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = 16 * value + digit;
  }
  return value;
}
bool IsHigh(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
bool IsLow(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

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

std::string StrictJson(std::string_view text) {
  std::string strict;
  strict.reserve(text.size() + 16);
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (const size_t length = CodePoint(text, i); length != 1) {
      if (length == 0) {
        strict += "\xEF\xBF\xBD";
        ++i;
      } else {
        strict += text.substr(i, length);
        i += length;
      }
    } else if (in_string && c == '\\') {
      const int unit = Escape(text, i);
      if (IsHigh(unit) && IsLow(Escape(text, i + 6))) {
        strict += text.substr(i, 12);
        i += 12;
      } else if (IsHigh(unit) || IsLow(unit)) {
        strict += "\\ufffd";
        i += 6;
      } else {
        const size_t escaped = i + 1 < text.size() && CodePoint(text, i + 1) == 1 ? 2 : 1;
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
