// One daemon per lock file.
#ifndef GOAD_SERVER_DAEMON_LOCK_FILE_H_
#define GOAD_SERVER_DAEMON_LOCK_FILE_H_

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace goad::server {

// The file stays locked as long as this lives. Thread-compatible.
class LockFile {
 public:
  ~LockFile() {
    if (fd_ >= 0) close(fd_);
  }
  absl::Status Lock(const std::string& path) {
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd_ < 0) return absl::FailedPreconditionError(absl::StrCat("lock_file: ", path, ": ", std::strerror(errno)));
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(absl::StrCat("lock_file: ", path, ": another goad holds it"));
    }
    return absl::OkStatus();
  }

 private:
  int fd_ = -1;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_LOCK_FILE_H_
