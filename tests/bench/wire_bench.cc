// What goad costs beside a bare gRPC server of the same protocol. Each server is a process of its own, and so is the
// emulated LLM server behind goad; the devices are in this one; the servers' CPU seconds are the system's. Rows are
// medians over rounds, goad and bare in turn. Prints, asserts nothing.
//
//   wire_bench [--json] [--seconds S=3] [--rounds N=3] [--row TEXT]     only rows whose names contain TEXT
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/bench/wire_devices.h"
#include "tests/bench/wire_servers.h"

extern char** environ;

namespace goad::server {
namespace {

double Percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p * static_cast<double>(values.size() - 1))];
}
double Median(std::vector<double> values) { return Percentile(std::move(values), 0.5); }

// A server process of wire_servers.h.
class Server {
 public:
  Server(const char* role, const ServerOptions& options) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    std::vector<std::string> words = {
        "wire_bench",        "--serve",  role, absl::StrCat(options.pace_s), absl::StrCat(options.source_port),
        options.certificate, options.key};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, "/proc/self/exe", &files, nullptr, argv.data(), environ) != 0) std::abort();
    posix_spawn_file_actions_destroy(&files);
    close(in[0]);
    close(out[1]);
    in_ = in[1];
    std::FILE* const says = fdopen(out[0], "r");
    if (std::fscanf(says, "%d", &port_) != 1) {
      std::fprintf(stderr, "wire_bench: the %s server did not start\n", role);
      std::exit(1);
    }
    std::fclose(says);
  }
  ~Server() {
    close(in_);
    waitpid(pid_, nullptr, 0);
  }
  int port() const { return port_; }
  double CpuSeconds() const {
    clockid_t clock;
    timespec time{};
    if (clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &time) != 0) std::abort();
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  double ResidentBytes() const {
    std::FILE* const file = std::fopen(absl::StrCat("/proc/", pid_, "/statm").c_str(), "r");
    long pages = 0;
    if (file == nullptr || std::fscanf(file, "%*d %ld", &pages) != 1) std::abort();
    std::fclose(file);
    return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
  }

 private:
  pid_t pid_ = 0;
  int in_ = -1;
  int port_ = 0;
};

struct Settings {
  double seconds = 3;
  int rounds = 3;
};

// What one side of a row did.
struct Measured {
  double value = 0;
  std::string beside;  // for people
};

struct Row {
  std::string name, unit;
  double goal;
  enum { kRatioAbove, kRatioBelow, kGoadBelow } goal_is;
  double pace_s;  // of the answers' tokens
  std::function<Measured(const Server&, const Settings&)> run;
};

void Sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// Whatever `count` counted per second of the server's CPU, after a second of warming up.
Measured PerCpuSecond(const Server& server, const Settings& settings, const std::function<uint64_t()>& count) {
  Sleep(1);
  const uint64_t before = count();
  const double cpu = server.CpuSeconds();
  const MonotonicTime start = MonotonicTime::Now();
  Sleep(settings.seconds);
  const double used = server.CpuSeconds() - cpu, passed = SecondsBetween(start, MonotonicTime::Now());
  const double counted = static_cast<double>(count() - before);
  char beside[64];
  std::snprintf(beside, sizeof beside, "%.0f/s on %.2f cores", counted / passed, used / passed);
  return {counted / used, beside};
}

Measured Decisions(const Server& server, const Settings& settings, int connections) {
  Fleet fleet(server.port(), {.connections = connections, .again = true});
  fleet.AskAll();
  const Measured measured = PerCpuSecond(server, settings, [&] { return fleet.answers(); });
  fleet.Finish();
  return measured;
}

// CPU per second at a rate that does not follow the answers.
Measured OpenLoop(const Server& server, const Settings& settings) {
  constexpr size_t kDevices = 1000;
  constexpr double kRate = 5000;
  Fleet fleet(server.port(), {.connections = kDevices});
  const MonotonicTime start = MonotonicTime::Now();
  double cpu = 0;
  uint64_t asked = 0, before = 0;
  for (MonotonicTime now = start; SecondsBetween(start, now) < 1 + settings.seconds; now = MonotonicTime::Now()) {
    if (cpu == 0 && SecondsBetween(start, now) > 1) {
      cpu = server.CpuSeconds();
      before = fleet.answers();
    }
    while (static_cast<double>(asked) < SecondsBetween(start, now) * kRate) fleet.Ask(asked++ % kDevices);
    Sleep(0.001);
  }
  const double used = server.CpuSeconds() - cpu;
  const double answered = static_cast<double>(fleet.answers() - before);
  fleet.Finish();
  char beside[64];
  std::snprintf(beside, sizeof beside, "%.0f/s", answered / settings.seconds);
  return {used / answered * 1e6, beside};
}

Measured Tokens(const Server& server, const Settings& settings, int answers, int length, double pace_s) {
  Fleet fleet(server.port(), {.connections = answers, .answer_tokens = length, .again = true});
  for (int k = 0; k < answers; ++k) {
    fleet.Ask(static_cast<size_t>(k));
    if (pace_s > 0) Sleep(pace_s / answers);  // not all at the same moment
  }
  Measured measured = PerCpuSecond(server, settings, [&] { return fleet.tokens(); });
  fleet.Finish();
  return measured;
}

// How far the time between two tokens is from the pace of their source.
Measured Gaps(const Server& server, const Settings& settings, int answers, double pace_s) {
  Fleet fleet(server.port(), {.connections = answers, .answer_tokens = 1000, .times_tokens = true});
  for (int k = 0; k < answers; ++k) {
    fleet.Ask(static_cast<size_t>(k));
    Sleep(pace_s / answers);
  }
  Sleep(1);
  fleet.TakeGaps();
  Sleep(settings.seconds);
  std::vector<double> off_ms;
  for (const double gap : fleet.TakeGaps()) off_ms.push_back(1e3 * std::fabs(gap - pace_s));
  char beside[64];
  std::snprintf(beside, sizeof beside, "p50 %.2f ms of %zu", Percentile(off_ms, 0.5), off_ms.size());
  return {Percentile(off_ms, 0.99), beside};
}

Measured FirstTokens(const Server& server, const Settings& settings) {
  Fleet fleet(server.port(), {.connections = 256, .answer_tokens = 4});
  std::vector<double> p50_ms, p99_ms;
  const double cpu = server.CpuSeconds();
  const MonotonicTime start = MonotonicTime::Now();
  do {
    fleet.AskAll();
    fleet.Finish();
    const std::vector<double> first_s = fleet.TakeFirstTokens();
    p50_ms.push_back(1e3 * Percentile(first_s, 0.5));
    p99_ms.push_back(1e3 * Percentile(first_s, 0.99));
  } while (SecondsBetween(start, MonotonicTime::Now()) < settings.seconds);
  char beside[64];
  std::snprintf(beside, sizeof beside, "p99 %.1f ms, %zu times, %.0f us of CPU each", Median(p99_ms), p50_ms.size(),
                1e6 * (server.CpuSeconds() - cpu) / static_cast<double>(fleet.answers()));
  return {Median(p50_ms), beside};
}

Measured IdleSessions(const Server& server, const std::string& root_pem) {
  Fleet first(server.port(), {.connections = 1, .root_pem = root_pem});
  const double before = server.ResidentBytes();
  constexpr int kSessions = 1000;
  Fleet fleet(server.port(), {.connections = kSessions, .root_pem = root_pem});
  Sleep(1);
  return {(server.ResidentBytes() - before) / kSessions / 1e3, ""};
}

struct Certificate {
  std::string folder, certificate, key, pem;
};

Certificate MakeCertificate() {
  char folder[] = "/tmp/wire_bench.XXXXXX";
  if (mkdtemp(folder) == nullptr) std::abort();
  Certificate made{folder, absl::StrCat(folder, "/cert.pem"), absl::StrCat(folder, "/key.pem"), ""};
  const std::string command = absl::StrCat(
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost ",
      "-addext subjectAltName=DNS:localhost -keyout ", made.key, " -out ", made.certificate, " 2>/dev/null");
  if (std::system(command.c_str()) != 0) std::abort();
  std::FILE* const file = std::fopen(made.certificate.c_str(), "r");
  char block[8192];
  made.pem.assign(block, std::fread(block, 1, sizeof block, file));
  std::fclose(file);
  return made;
}

int Run(int argc, char** argv) {
  Settings settings;
  bool json = false;
  std::string only;
  for (int k = 1; k < argc; ++k) {
    const std::string word = argv[k], value = k + 1 < argc ? argv[k + 1] : "";
    bool good = true;
    if (word == "--json") {
      json = true;
      continue;
    } else if (word == "--seconds") {
      good = absl::SimpleAtod(value, &settings.seconds) && settings.seconds >= 0.1 && settings.seconds <= 600;
    } else if (word == "--rounds") {
      good = absl::SimpleAtoi(value, &settings.rounds) && settings.rounds >= 1 && settings.rounds <= 100;
    } else if (word == "--row") {
      only = value;
    } else {
      good = false;
    }
    if (!good || ++k >= argc) {
      std::fprintf(stderr, "usage: wire_bench [--json] [--seconds 0.1..600] [--rounds 1..100] [--row TEXT]\n");
      return 2;
    }
  }
  const Certificate tls = MakeCertificate();
  constexpr double kPace = 0.02;
  using S = const Server&;
  using T = const Settings&;
  const std::vector<Row> rows = {
      {"decisions, 1000 connections", "per CPU s", 0.8, Row::kRatioAbove, 0,
       [](S s, T t) { return Decisions(s, t, 1000); }},
      {"decisions, 100 connections", "per CPU s", 0.75, Row::kRatioAbove, 0,
       [](S s, T t) { return Decisions(s, t, 100); }},
      {"5000 decisions/s, 1000 connections", "CPU us each", 1.0, Row::kRatioBelow, 0,
       [](S s, T t) { return OpenLoop(s, t); }},
      {"tokens, 64 answers, at full speed", "per CPU s", 1.5, Row::kRatioAbove, 0,
       [](S s, T t) { return Tokens(s, t, 64, 1000, 0); }},
      {"tokens, 256 answers, one each 20 ms", "per CPU s", 0.9, Row::kRatioAbove, kPace,
       [](S s, T t) { return Tokens(s, t, 256, 1000, kPace); }},
      {"between tokens, 16 answers, off 20 ms", "ms p99", 1.0, Row::kGoadBelow, kPace,
       [](S s, T t) { return Gaps(s, t, 16, kPace); }},
      {"first token of 256 answers at once", "ms p50", 1.5, Row::kRatioBelow, 0,
       [](S s, T t) { return FirstTokens(s, t); }},
      {"memory of an idle session", "kB", 1.12, Row::kRatioBelow, 0, [](S s, T) { return IdleSessions(s, ""); }},
      {"memory of an idle session, TLS", "kB", 1.12, Row::kRatioBelow, 0,
       [&](S s, T) { return IdleSessions(s, tls.pem); }},
  };
  nlohmann::json report = nlohmann::json::array();
  if (!json) std::printf("%-37s %-11s %9s %9s %6s  %-19s  %s\n", "", "", "goad", "bare", "ratio", "goal", "last round");
  for (const Row& row : rows) {
    if (!absl::StrContains(row.name, only)) continue;
    const bool with_tls = absl::StrContains(row.name, "TLS");
    std::vector<double> goad, bare, ratios;
    std::string beside;
    for (int round = 0; round < settings.rounds; ++round) {
      ServerOptions options{.pace_s = row.pace_s};
      if (with_tls) {
        options.certificate = tls.certificate;
        options.key = tls.key;
      }
      Measured of_bare, of_goad;
      {
        const Server server("bare", options);
        of_bare = row.run(server, settings);
      }
      const Server source("source", {.pace_s = row.pace_s});
      options.source_port = source.port();
      {
        const Server server("goad", options);
        of_goad = row.run(server, settings);
      }
      goad.push_back(of_goad.value);
      bare.push_back(of_bare.value);
      ratios.push_back(of_goad.value / of_bare.value);
      beside = of_goad.beside.empty() ? "" : absl::StrCat("goad ", of_goad.beside, "; bare ", of_bare.beside);
    }
    const double ratio = Median(ratios);
    const char* const goal_is = row.goal_is == Row::kRatioAbove   ? "ratio at least"
                                : row.goal_is == Row::kRatioBelow ? "ratio at most"
                                                                  : "goad at most";
    report.push_back({{"row", row.name},
                      {"unit", row.unit},
                      {"goad", Median(goad)},
                      {"bare", Median(bare)},
                      {"ratio", ratio},
                      {"goal_is", goal_is},
                      {"goal", row.goal}});
    if (json) continue;
    std::printf("%-37s %-11s %9.4g %9.4g %6.2f  %s %-4g  %s\n", row.name.c_str(), row.unit.c_str(), Median(goad),
                Median(bare), ratio, goal_is, row.goal, beside.c_str());
    std::fflush(stdout);
  }
  if (json) std::printf("%s\n", report.dump(1).c_str());
  for (const std::string& path : {tls.certificate, tls.key}) unlink(path.c_str());
  rmdir(tls.folder.c_str());
  return 0;
}

int Serve(char** argv) {
  const std::string role = argv[2];
  ServerOptions options;
  options.pace_s = std::atof(argv[3]);
  options.source_port = std::atoi(argv[4]);
  options.certificate = argv[5];
  options.key = argv[6];
  if (role == "bare") return RunBare(options);
  if (role == "source") return RunSource(options);
  return RunGoad(options);
}

}  // namespace
}  // namespace goad::server

int main(int argc, char** argv) {
  if (argc == 7 && std::strcmp(argv[1], "--serve") == 0) return goad::server::Serve(argv);
  return goad::server::Run(argc, argv);
}
