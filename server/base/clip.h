// What others wrote, as it may be quoted: in errors, log lines, frames and terminals. The one place where that is
// decided.
#ifndef GOAD_SERVER_BASE_CLIP_H_
#define GOAD_SERVER_BASE_CLIP_H_

#include <string>
#include <string_view>

namespace goad::server {

inline constexpr size_t kQuotedBytes = 64;

// Control characters (C0, DEL, C1, which some terminals obey, and those that turn or hide what is written) and what is
// no UTF-8 as \\xNN; a line end or tab as one blank. At most four times as long.
std::string Printable(std::string_view text);

// Made printable, of that at most `most` bytes, cut between code points; "..." where cut.
std::string Clip(std::string_view text, size_t most = kQuotedBytes);

// Whether `text` holds a control character, which a name must not.
bool HasControlCharacter(std::string_view text);

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_CLIP_H_
