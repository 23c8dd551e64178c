// goadctl top: what goad decides and where it runs, redrawn every second on the terminal's other screen.
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"

namespace goad::ctl {
namespace {

// The other screen without echo, as long as this lives.
class Screen {
 public:
  Screen() {
    tcgetattr(STDIN_FILENO, &before_);
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
    Put("\033[?1049h\033[?25l");
  }
  ~Screen() {
    Put("\033[?25h\033[?1049l");
    tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  static void Draw(const std::string& text) {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size = {24, 80, 0, 0};
    std::string frame = "\033[H";
    int rows = 0;
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      if (++rows >= size.ws_row) break;
      absl::StrAppend(&frame, line.substr(0, size.ws_col), "\033[K\n");
    }
    Put(frame + "\033[J");
  }

 private:
  static void Put(const std::string& bytes) {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  }
  termios before_{};
};

volatile sig_atomic_t interrupted = 0;

// What the epochs of the last second add up to.
struct Second {
  uint64_t epochs = 0, offloaded = 0, local = 0, dropped = 0;
  double solver_s = 0, solver_most_s = 0, upload_s = 0, compute_s = 0, local_s = 0;
  std::map<std::string, uint64_t> reasons;

  void Add(const v1::EpochSummary& epoch) {
    ++epochs;
    offloaded += epoch.offloaded();
    local += epoch.candidates() - epoch.offloaded() - epoch.waiting() + epoch.decided_early();
    solver_s += epoch.solver_s();
    solver_most_s = std::max(solver_most_s, epoch.solver_s());
    upload_s += epoch.upload_s();
    compute_s += epoch.compute_s();
    local_s += epoch.local_s();
    for (const v1::ReasonCount& row : epoch.reasons())
      reasons[v1::Reason_Name(row.reason()).substr(sizeof "REASON_" - 1)] += row.count();
  }
};

std::string Bar(double share, size_t width) {
  const size_t full = static_cast<size_t>(std::lround(std::clamp(share, 0.0, 1.0) * static_cast<double>(width)));
  return std::string(full, '#') + std::string(width - full, '.');
}

std::string Page(const v1::StatusResponse& status, const v1::SitesResponse& sites, const Second& last, double seconds) {
  std::string page = absl::StrFormat(
      "goad %s  %s  up %s  policy %s%s  tau %.3f%s\n", status.version(), status.draining() ? "DRAINING" : "serving",
      absl::FormatDuration(absl::Seconds(std::round(status.uptime_s()))), status.policy(),
      status.policy_overridden() ? "*" : "", status.tau(), status.tau_overridden() ? "*" : "");
  const uint64_t decisions = last.offloaded + last.local;
  const auto mean = [](double sum, uint64_t n) {
    return n == 0 ? std::string("-") : Duration(sum / static_cast<double>(n));
  };
  absl::StrAppendFormat(&page, "sessions %d   waiting %d   uploading %d   running %d\n\n", status.sessions(),
                        status.pending_queries(), status.granted_queries(), status.running_queries());
  absl::StrAppendFormat(
      &page, "decisions/s %6.0f   offloaded %5.1f %% [%s]\n", static_cast<double>(decisions) / seconds,
      decisions == 0 ? 0 : 100.0 * static_cast<double>(last.offloaded) / static_cast<double>(decisions),
      Bar(decisions == 0 ? 0 : static_cast<double>(last.offloaded) / static_cast<double>(decisions), 24));
  absl::StrAppendFormat(&page, "epochs/s    %6.0f   solver mean %s, most %s\n",
                        static_cast<double>(last.epochs) / seconds, mean(last.solver_s, last.epochs),
                        last.epochs == 0 ? "-" : Duration(last.solver_most_s));
  absl::StrAppend(&page, "predicted   offloaded: upload ", mean(last.upload_s, last.offloaded), " + compute ",
                  mean(last.compute_s, last.offloaded), "   local: ", mean(last.local_s, last.local), "\n");
  if (last.dropped > 0) absl::StrAppend(&page, "(", last.dropped, " epochs not counted: this end reads too slowly)\n");
  std::vector<std::pair<uint64_t, std::string>> reasons;
  for (const auto& [name, count] : last.reasons) reasons.push_back({count, name});
  std::sort(reasons.rbegin(), reasons.rend());
  page += "\n";
  for (const auto& [count, name] : reasons) {
    absl::StrAppendFormat(&page, "  %-14s %6d  %s\n", name, count,
                          Bar(static_cast<double>(count) / static_cast<double>(std::max<uint64_t>(decisions, 1)), 40));
  }
  page += "\n";
  Table table({"SITE", "STATE", ">QUERIES", "LOAD", ">UPLOADS", ">BACKENDS UP"});
  for (const v1::SiteStatus& site : sites.sites()) {
    const long up =
        std::count_if(site.backends().begin(), site.backends().end(), [](const auto& backend) { return backend.up(); });
    table.Add({site.name(), StateOf(site), absl::StrCat(site.active_queries(), "/", site.max_queries()),
               Bar(site.max_queries() == 0 ? 0 : static_cast<double>(site.active_queries()) / site.max_queries(), 20),
               absl::StrCat(site.active_uplinks()), absl::StrCat(up, "/", site.backends_size())});
  }
  return page + table.Text() + "\nq ends; * set by hand, until the next reload";
}

}  // namespace

int Top(const Context& context, const std::string&) {
  std::mutex mutex;
  Second gathering;
  grpc::ClientContext call;
  const auto stream = context.admin->WatchEpochs(&call, {});
  std::thread watcher([&] {
    v1::EpochSummary epoch;
    for (uint64_t dropped = 0; stream->Read(&epoch); dropped = epoch.dropped()) {
      std::lock_guard<std::mutex> lock(mutex);
      gathering.Add(epoch);
      gathering.dropped += epoch.dropped() - dropped;
    }
  });
  const bool screen_wanted = context.colours && !context.json;
  int status = kOk;
  {
    signal(SIGINT, [](int) { interrupted = 1; });
    signal(SIGTERM, [](int) { interrupted = 1; });
    std::unique_ptr<Screen> screen;
    absl::Time since = absl::Now();
    for (uint32_t drawn = 0; interrupted == 0 && (context.limit == 0 || drawn < context.limit); ++drawn) {
      v1::StatusResponse now;
      v1::SitesResponse sites;
      status = Call(context, &v1::Admin::Stub::Status, v1::StatusRequest(), &now);
      if (status == kOk) status = Call(context, &v1::Admin::Stub::Sites, v1::SitesRequest(), &sites);
      if (status != kOk) break;
      if (screen_wanted && screen == nullptr) screen = std::make_unique<Screen>();
      // The first picture waits for a second's worth of epochs, and so does each after it.
      pollfd key{STDIN_FILENO, POLLIN, 0};
      if (poll(&key, screen_wanted ? 1 : 0, 1000) > 0) {
        char byte = 0;
        if (read(STDIN_FILENO, &byte, 1) <= 0 || byte == 'q') break;
      }
      Second last;
      {
        std::lock_guard<std::mutex> lock(mutex);
        last = std::exchange(gathering, {});
      }
      const absl::Time until = absl::Now();
      if (context.json) {
        std::cout << "{\"status\":" << JsonText(now, false) << ",\"sites\":" << JsonText(sites, false) << "}"
                  << std::endl;
        continue;
      }
      const std::string page = Page(now, sites, last, absl::ToDoubleSeconds(until - since));
      since = until;
      if (screen != nullptr) {
        Screen::Draw(page);
      } else {
        std::printf("%s\n\n", page.c_str());
        std::fflush(stdout);
      }
    }
  }
  call.TryCancel();
  watcher.join();
  (void)stream->Finish();  // cancelled, as asked
  return status;
}

}  // namespace goad::ctl
