// goadctl log: the decision log for people, from when, of whom.
#include <algorithm>
#include <deque>
#include <fstream>
#include <iostream>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "server/base/clip.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"

namespace goad::ctl {
namespace {

using nlohmann::json;

constexpr int kMostFiles = 100;                       // decision_log.max_files
constexpr std::streamsize kMostLineBytes = 64 << 10;  // a decision has some hundred
constexpr char kTime[] = "%Y-%m-%dT%H:%M:%E3SZ";

std::string Word(const json& line, const char* name) {
  const auto found = line.find(name);
  return found == line.end() || !found->is_string() ? "" : found->get<std::string>();
}
std::string Seconds(const json& line, const char* name) {
  const auto found = line.find(name);
  return found == line.end() || !found->is_number() ? "-" : Duration(found->get<double>());
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : server::Clip(text); }

std::string ForPeople(const json& line) {
  absl::Time time;
  const bool timed = absl::ParseTime(kTime, Word(line, "time"), &time, nullptr);
  std::string text =
      absl::StrFormat("%-23s  %-10s  %-24s  %-24s  ",
                      timed ? absl::FormatTime("%Y-%m-%d %H:%M:%E3S", time, absl::LocalTimeZone()) : "-",
                      OrDash(Word(line, "tenant")), OrDash(Word(line, "device")), OrDash(Word(line, "query_id")));
  if (Word(line, "kind") == "outcome") {
    absl::StrAppend(&text, OrDash(Word(line, "ended")), " at ", OrDash(Word(line, "site")), ": upload ",
                    Seconds(line, "upload_s"), " (predicted ", Seconds(line, "predicted_upload_s"), "), compute ",
                    Seconds(line, "compute_s"), " (predicted ", Seconds(line, "predicted_compute_s"), ")");
  } else {
    const auto uncertainty = line.find("uncertainty");
    absl::StrAppend(&text, OrDash(Word(line, "verdict")), " ", OrDash(Word(line, "reason")), " ",
                    OrDash(Word(line, "site")), ": uncertainty ",
                    uncertainty != line.end() && uncertainty->is_number()
                        ? absl::StrFormat("%.4f", uncertainty->get<double>())
                        : "-",
                    ", local ", Seconds(line, "local_s"), ", upload ", Seconds(line, "upload_s"), ", compute ",
                    Seconds(line, "compute_s"));
  }
  if (const std::string trace = Word(line, "trace_id"); !trace.empty())
    absl::StrAppend(&text, "  trace ", server::Clip(trace));
  return text;
}

// The next line, without its end; of one that is longer than any for people no more than the bound. False at the end.
bool NextLine(std::istream& in, std::string* line) {
  line->resize(kMostLineBytes);
  in.getline(line->data(), kMostLineBytes);
  const auto bytes = static_cast<size_t>(in.gcount());
  line->resize(in.good() ? bytes - 1 : bytes);
  if (in.good() || in.eof()) return bytes > 0;
  in.clear();
  in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  return bytes > 0;
}

// The file and what it was rotated to, oldest first.
std::vector<std::string> Files(const std::string& path) {
  std::vector<std::string> files;
  for (int k = kMostFiles; k >= 1; --k) {
    std::string rotated = absl::StrCat(path, ".", k);
    if (std::ifstream(rotated).good()) files.push_back(std::move(rotated));
  }
  files.push_back(path);
  return files;
}

}  // namespace

bool ParseSince(const std::string& text, absl::Time now, absl::TimeZone zone, absl::Time* since) {
  absl::Duration ago;
  if (absl::ParseDuration(text, &ago) && ago >= absl::ZeroDuration()) return *since = now - ago, true;
  for (const char* format : {absl::RFC3339_full, "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"}) {
    if (absl::ParseTime(format, text, zone, since, nullptr)) return true;
  }
  const absl::CivilDay today = absl::ToCivilDay(now, zone);
  for (const char* format : {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"}) {
    for (const absl::CivilDay day : {today, today - 1}) {
      if (absl::ParseTime(format, absl::StrCat(absl::FormatCivilTime(day), " ", text), zone, since, nullptr) &&
          *since <= now)
        return true;
    }
  }
  return false;
}

int Log(const Context& context, const std::string& file) {
  absl::Time from = absl::InfinitePast();
  if (!context.since.empty() && !ParseSince(context.since, absl::Now(), absl::LocalTimeZone(), &from)) {
    std::cerr << "goadctl: --since: \"" << server::Clip(context.since)
              << "\" is no time: 14:00, \"2026-11-26 14:00\", 2026-11-26T14:00:00Z or 30m (ago)\n";
    return kUsage;
  }
  std::string path = file;
  if (path.empty()) {
    if (!absl::StartsWith(context.address, "unix:")) {
      std::cerr << "goadctl: goad at " << server::Clip(context.address)
                << " writes its decision log where it runs, which need not be here: log FILE\n";
      return kUsage;
    }
    v1::StatusResponse status;
    if (const int failed = Call(context, &v1::Admin::Stub::Status, v1::StatusRequest(), &status)) return failed;
    path = status.decision_log();
  }
  if (path.empty()) {
    std::cerr << "goadctl: goad writes no decision log (decision_log.path in its configuration)\n";
    return kRefused;
  }
  // As the lines have it: such texts are ordered as their times are.
  const std::string since = from == absl::InfinitePast() ? "" : absl::FormatTime(kTime, from, absl::UTCTimeZone());
  std::deque<std::string> last;  // with a limit
  bool read = false;
  for (const std::string& name : Files(path)) {
    std::ifstream in(name, std::ios::binary);
    read |= in.good();
    for (std::string text; NextLine(in, &text);) {
      if (text.find("\"kind\":\"snapshot\"") != std::string::npos) continue;  // goad-sim reads those
      const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
      if (!line.is_object() || Word(line, "time") < since) continue;  // the last line may be half written
      if (!context.tenant.empty() && Word(line, "tenant") != context.tenant) continue;
      std::string shown = context.json ? std::move(text) : ForPeople(line);
      if (context.limit == 0) {
        std::cout << shown << "\n";
        continue;
      }
      last.push_back(std::move(shown));
      if (last.size() > context.limit) last.pop_front();
    }
  }
  if (!read) {
    std::cerr << "goadctl: " << server::Clip(path, 256)
              << ": cannot be opened; it belongs to goad's user (sudo, or the group goad)\n";
    return kRefused;
  }
  for (const std::string& line : last) std::cout << line << "\n";
  return kOk;
}

}  // namespace goad::ctl
