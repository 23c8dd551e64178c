// The one way in which the daemon reads a file: configuration, certificates, keys, tokens. Any thread, but not one that
// may not wait for a disk.
#ifndef GOAD_SERVER_BASE_READ_FILE_H_
#define GOAD_SERVER_BASE_READ_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace goad::server {

// What any of the files that goad reads may hold, where nothing smaller is said.
inline constexpr size_t kMaxFileBytes = 16 << 20;

// The whole of the regular file `path`. Never blocks on a FIFO or a device, never throws, holds `most_bytes` at most.
// Fails in words that begin with the path when it is not a regular file, is larger, cannot be opened or read, or
// changed while it was read (whoever writes it was not through: better no file than half of one).
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most_bytes = kMaxFileBytes);

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_READ_FILE_H_
