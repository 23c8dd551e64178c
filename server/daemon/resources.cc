#include "server/daemon/resources.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

constexpr size_t kDescriptors = 40;  // an idle goad with some sites has about half as many
constexpr size_t kAddressSpace = size_t{512}
                                 << 20;  // of which an idle goad uses the most for the stacks of its threads

constexpr int64_t kGrowth = 16 << 20;
constexpr absl::Duration kAskEvery = absl::Milliseconds(50);

}  // namespace

absl::Status EnoughToStart() {
  std::vector<int> open_fds;
  while (open_fds.size() < kDescriptors) {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) break;
    open_fds.push_back(fd);
  }
  const int error = errno;
  for (const int fd : open_fds) close(fd);
  if (open_fds.size() < kDescriptors) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    return absl::ResourceExhaustedError(absl::StrCat("only ", open_fds.size(), " descriptors are to be had (",
                                                     std::strerror(error), "; the limit is ", limit.rlim_cur,
                                                     "), want ", kDescriptors,
                                                     " and two for each device and running query: raise "
                                                     "LimitNOFILE= of the unit or ulimit -n"));
  }
  void* const space = mmap(nullptr, kAddressSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("no ", kAddressSpace >> 20, "MiB of address space are to be had (",
                                                     std::strerror(errno),
                                                     "): raise LimitAS= of the unit or ulimit -v"));
  }
  munmap(space, kAddressSpace);
  return absl::OkStatus();
}

bool HeapWatch::Over(int64_t most_bytes, MonotonicTime now) {
  long resident_pages = 0;
  if (std::FILE* statm = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(statm, "%*d %ld", &resident_pages) != 1) resident_pages = 0;
    std::fclose(statm);
  }
  const int64_t resident = resident_pages * sysconf(_SC_PAGESIZE);
  if (resident <= most_bytes) return over_ = false;
  if (now < next_ask_) return over_ || resident > resident_then_ + kGrowth;
  const struct mallinfo2 heap = mallinfo2();
  resident_then_ = resident;
  over_ = heap.uordblks + heap.hblkhd > static_cast<size_t>(most_bytes);
  if (!over_ && resident > most_bytes + most_bytes / 4 && next_trim_ <= now) {
    malloc_trim(0);
    next_trim_ = now + absl::Seconds(10);
  }
  const MonotonicTime asked = MonotonicTime::Now();
  next_ask_ = asked + std::max(kAskEvery, 10 * (asked - now));
  return over_;
}

}  // namespace goad::server
