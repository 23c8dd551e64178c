// What others wrote, as it may be quoted: in errors, log lines, frames and terminals. The one place where that is decided.
#ifndef GOAD_SERVER_BASE_CLIP_H_
#define GOAD_SERVER_BASE_CLIP_H_

#include <string>
#include <string_view>

#include "absl/strings/escaping.h"

namespace goad::server {

inline constexpr size_t kQuotedBytes = 64;

// The first `most` bytes, cut between code points, control characters and what is no UTF-8 escaped (\n, \x1b), "..." where cut. The
// result is at most four times as long, and printable.
inline std::string Clip(std::string_view text, size_t most = kQuotedBytes) {
  const bool cut = text.size() > most;
  if (cut) {
    size_t end = most;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end == 0 ? most : end);
  }
  std::string out = absl::Utf8SafeCHexEscape(absl::string_view(text.data(), text.size()));
  return cut ? out + "..." : out;
}

// Whether `text` holds a control character (C0, DEL, or C1 in UTF-8), which a name must not.
inline bool HasControlCharacter(std::string_view text) {
  for (size_t k = 0; k < text.size(); ++k) {
    const auto c = static_cast<unsigned char>(text[k]);
    if (c < 0x20 || c == 0x7F) return true;
    if (c == 0xC2 && k + 1 < text.size() && static_cast<unsigned char>(text[k + 1]) < 0xA0) return true;
  }
  return false;
}

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_CLIP_H_
