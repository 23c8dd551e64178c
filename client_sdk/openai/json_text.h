// What a JSON text of somebody else's goes through before a parser sees it. Parsers of the nlohmann kind build a tree
// and take it down by recursion, so the depth is bounded here, without recursion, as the size is. Pure, any thread.
#ifndef GOAD_CLIENT_SDK_OPENAI_JSON_TEXT_H_
#define GOAD_CLIENT_SDK_OPENAI_JSON_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace goad::openai {

// Arrays and objects within each other. The deepest answer known (choices, logprobs, content, top_logprobs, bytes)
// has 9.
inline constexpr int kMostJsonDepth = 64;

// INVALID_ARGUMENT when the text has more bytes, or opens more arrays and objects within each other, than allowed. It
// reads strings and escapes as a parser does, so brackets within a string count for nothing; whether the text is JSON
// is the parser's to say.
absl::Status CheckJson(std::string_view text, size_t most_bytes, int most_depth = kMostJsonDepth);

// The same text as a strict parser takes it:
//   NaN, Infinity, inf, -Infinity, -inf (Python and printf write them) and numbers beyond a double become strings of
//   those letters; halves of a UTF-16 pair escaped alone, and bytes that are not UTF-8, become U+FFFD.
// Everything else stays as it is, errors included. At most three times as long.
std::string StrictJson(std::string_view text);

// The UTF-16 unit that "\uXXXX" at `i` of a JSON text stands for; -1 where there is no such escape.
int EscapedUnit(std::string_view text, size_t i);
// Halves of a pair, the one that comes first and the one that follows it.
inline bool IsHighHalf(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
inline bool IsLowHalf(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_JSON_TEXT_H_
