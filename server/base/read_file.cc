#include "server/base/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

constexpr size_t kMostQuoted = 256;  // of a path, in an error

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

const char* KindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  if (S_ISSOCK(mode)) return "a socket";
  return "something else";
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most_bytes) {
  const std::string name = absl::Utf8SafeCHexEscape(path.substr(0, kMostQuoted));
  if (path.find('\0') != std::string::npos)
    return absl::InvalidArgumentError(absl::StrCat(name, ": is no path: it holds a NUL"));
  const Descriptor file{open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)};
  struct stat before {};
  if (file.fd < 0 || fstat(file.fd, &before) != 0) {
    const int error = errno;
    if (error == ENXIO)
      return absl::FailedPreconditionError(absl::StrCat(name, ": is a socket or a device, want a regular file"));
    return absl::ErrnoToStatus(error, absl::StrCat(name, ": cannot be opened"));
  }
  if (!S_ISREG(before.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(name, ": is ", KindOf(before.st_mode), ", want a regular file"));
  }
  const absl::Status too_large = absl::ResourceExhaustedError(
      absl::StrCat(name, ": holds more than ", most_bytes, " bytes, which is the most for it"));
  if (before.st_size > 0 && static_cast<size_t>(before.st_size) > most_bytes) return too_large;

  std::string text;
  char part[16 << 10];
  for (;;) {  // to the end, whatever the size was said to be
    const ssize_t got = read(file.fd, part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat(name, ": cannot be read"));
    if (got == 0) break;
    if (text.size() + static_cast<size_t>(got) > most_bytes) return too_large;
    text.append(part, static_cast<size_t>(got));
  }
  struct stat after {};
  const bool same = fstat(file.fd, &after) == 0 && after.st_size == before.st_size &&
                    after.st_mtim.tv_sec == before.st_mtim.tv_sec && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec &&
                    text.size() >= static_cast<size_t>(std::max<off_t>(before.st_size, 0));  // files of /proc say 0
  if (!same) return absl::AbortedError(absl::StrCat(name, ": changed while it was read; try again when it is written"));
  return text;
}

}  // namespace goad::server
