// goad-sim: the simulator's command line. Exit status 0 done, 2 bad input (one line on stderr says what).
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "scheduler/policy.h"
#include "scheduler/sim/bench.h"
#include "scheduler/sim/report.h"
#include "scheduler/sim/solve.h"
#include "scheduler/sim/sweep.h"
#include "server/sim/allocation_meter.h"
#include "server/sim/calibrate.h"
#include "server/sim/fit.h"
#include "server/sim/labels.h"
#include "server/sim/replay.h"
#include "server/sim/run.h"
#include "server/sim/run_report.h"

ABSL_FLAG(std::string, policy, "",
          "policy that decides; bench and sweep take a list: goa,min-delay. solve, run: goa when not given");
ABSL_FLAG(absl::optional<double>, lambda, absl::nullopt,
          "goa-relocate, optimal, genetic: seconds that a local answer costs per unit of uncertainty, >= 0 [0.05; "
          "replay as logged]");
ABSL_FLAG(std::vector<std::string>, users, std::vector<std::string>(),
          "bench, sweep: how many users ask in an epoch, a list [bench 100,1000,10000,100000; sweep 50,60,...,120]");
ABSL_FLAG(int, sites, 4, "bench, sweep, run: edge sites");
ABSL_FLAG(std::vector<std::string>, tau, std::vector<std::string>(),
          "uncertainty above this is offloaded, 0..1; sweep takes a list [bench, run 0.8; sweep 0.6,0.7,0.8,0.9,1; "
          "replay as logged]");
ABSL_FLAG(uint64_t, seed, 1, "bench, sweep, run: of the draws");
ABSL_FLAG(int, draws, 500, "sweep: random epochs per point");
ABSL_FLAG(int, threads, 0, "sweep: 0 = one per core");
ABSL_FLAG(std::string, workload, "",
          "sweep, run: recorded questions (deploy/llm/workload.jsonl); empty = modelled ones");
ABSL_FLAG(std::string, sweep, "sweep.jsonl",
          "sweep writes this file (and goes on where it stopped), plot and report read it");
ABSL_FLAG(std::string, out, "",
          "plot, report: the folder to write to [sweep-report]; calibrate: write the curves and the certificate there");
ABSL_FLAG(std::string, svg, "", "calibrate: draw reliability, and accuracy against share, there");
ABSL_FLAG(double, accuracy, 0.75, "calibrate: the share of right answers to be certified");
ABSL_FLAG(double, confidence, 0.9, "calibrate: how sure that is to be, one-sided");
ABSL_FLAG(absl::optional<double>, rate, absl::nullopt, "run: questions per second, Poisson [2000]");
ABSL_FLAG(absl::optional<double>, seconds, absl::nullopt, "run: of virtual time [10; all --arrivals]");
ABSL_FLAG(int, max_queries, 100, "run: queries at a site at once");
ABSL_FLAG(std::string, log, "", "run: write the snapshot of every epoch and every outcome there, for replay and fit");
ABSL_FLAG(std::string, arrivals, "",
          "run: questions of a trace at batching sites: CSV with columns time_s, prompt_tokens, output_tokens");
ABSL_FLAG(std::vector<std::string>, uplink, std::vector<std::string>(),
          "run with --arrivals: traces of uplinks, a list of CSV files with columns time_s, uplink_bps; devices take "
          "shifted pieces of them in turn");
ABSL_FLAG(double, time_scale, 1, "run with --arrivals: they come so much faster; see the slots held");
ABSL_FLAG(std::vector<std::string>, context, std::vector<std::string>(),
          "run with --arrivals: the context of each site's servers, tokens of prompt and answer, such as 4096,32768 "
          "[no end]");
ABSL_FLAG(int, devices, 200, "run with --uplink: devices that the questions come from");
ABSL_FLAG(std::string, learn, "on",
          "run with --arrivals: on: goad learns as the daemon does; off: the configured numbers count; true: the right "
          "ones do, to compare with");
ABSL_FLAG(double, configured_error, 1,
          "run with --arrivals: the configured numbers say that the sites are so much faster than they are");
ABSL_FLAG(std::vector<std::string>, compare, std::vector<std::string>(),
          "run: a list of policies, each with the same questions: one table");
ABSL_FLAG(bool, json, false, "bench: print a JSON array of rows; run, fit, calibrate: print an object");
ABSL_FLAG(uint32_t, after, 0, "fit: the first so many answers of a site are learned from, but count for no error");
ABSL_FLAG(double, zeros, 0, "bench: share of the users whose uncertainty is 0, as with a calibration, 0..1");
ABSL_FLAG(bool, csv, false, "bench: print comma-separated values");

namespace {

constexpr char kUsage[] =
    "decisions without a daemon.\n"
    "\n"
    "  goad-sim solve --policy NAME [FILE...]   decide goa-vectors/1 instances (standard input without FILE) and "
    "print\n"
    "                                           {\"answers\":[{\"id\",\"policy\",\"assign\",\"order\",\"total_ms\"}]}\n"
    "  goad-sim bench [--policy NAME,...] [--users N,...] [--sites M] [--zeros SHARE] [--json|--csv]\n"
    "                                           median time of an epoch on one core, on draws of the paper's "
    "experiment\n"
    "                                           with capacities and bandwidth scaled to the users\n"
    "  goad-sim sweep [--draws N] [--sweep FILE]\n"
    "                                           the paper's experiment: every policy on the same random epochs\n"
    "  goad-sim report [--sweep FILE] [--out DIR]\n"
    "                                           what the sweep shows, as one page: DIR/index.html\n"
    "  goad-sim plot [--sweep FILE] [--out DIR] its pictures alone, as SVG\n"
    "  goad-sim run [--policy NAME | --compare NAME,...] [--rate R] [--seconds S] [--log FILE] [--json]\n"
    "                                           questions over virtual time through the daemon's engine\n"
    "  goad-sim run --arrivals FILE [--uplink FILE,...] [--time-scale X] [--learn on|off|true] ...\n"
    "                                           the same with recorded arrivals and uplinks, and sites that goad has "
    "to learn\n"
    "  goad-sim replay [--policy NAME] FILE...  decide the snapshots of a decision log again, bit for bit, or by "
    "another\n"
    "                                           policy; exit status 1 when they differ from the log\n"
    "  goad-sim fit [--json] [--after N] FILE... how well the outcomes of a decision log (rotated ones oldest first) "
    "are\n"
    "                                           predicted by the configured numbers, and by what goad learns\n"
    "  goad-sim calibrate [--accuracy A] [--confidence C] [--json] [--out FILE] [--svg FILE] LABELS...\n"
    "                                           the tau that holds an accuracy; exit status 1 when none does\n"
    "\n"
    "Policies: ";

int Fail(const std::string& message) {
  std::cerr << "goad-sim: " << message << "\n";
  return 2;
}

bool Write(const std::filesystem::path& path, const std::string& text) {
  return static_cast<bool>((std::ofstream(path, std::ios::binary) << text).flush());
}

// The end of a command: what it has to say, and its exit status.
int Print(const std::string& text, int status = 0) {
  std::cout << text;
  return std::cout.flush() ? status : Fail("standard output cannot be written");
}
int Fail(const absl::Status& status) { return Fail(std::string(status.message())); }

// Where people watch: a line that is written over.
bool Watched() { return isatty(STDERR_FILENO) == 1; }
void ShowProgress(const std::string& what, double share) {
  const int full = static_cast<int>(30 * share);
  std::cerr << "\r" << what << " [" << std::string(static_cast<size_t>(full), '#')
            << std::string(static_cast<size_t>(30 - full), '.') << "] " << static_cast<int>(100 * share) << " % "
            << std::flush;
}
void EndProgress() {
  if (Watched()) std::cerr << "\r\033[K";
}

double Lambda() { return absl::GetFlag(FLAGS_lambda).value_or(goad::sched::PolicyParameters().lambda_s); }
std::string OnePolicy() { return absl::GetFlag(FLAGS_policy).empty() ? "goa" : absl::GetFlag(FLAGS_policy); }

// The flag's numbers, or `otherwise` when it was not given. INVALID_ARGUMENT names what is no number of 0..1.
absl::StatusOr<std::vector<double>> Taus(const std::vector<double>& otherwise) {
  std::vector<double> taus;
  for (const std::string& text : absl::GetFlag(FLAGS_tau)) {
    double tau = 0;
    if (!absl::SimpleAtod(text, &tau) || !(tau >= 0 && tau <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("--tau: \"", text, "\" is not in 0..1"));
    }
    taus.push_back(tau);
  }
  return taus.empty() ? otherwise : taus;
}
absl::StatusOr<double> OneTau() {
  const auto taus = Taus({0.8});
  if (!taus.ok()) return taus.status();
  if (taus->size() > 1) return absl::InvalidArgumentError("--tau: want one number");
  return taus->front();
}
absl::StatusOr<std::vector<size_t>> Users(const std::vector<size_t>& otherwise) {
  std::vector<size_t> users;
  for (const std::string& text : absl::GetFlag(FLAGS_users)) {
    uint32_t number = 0;
    if (!absl::SimpleAtoi(text, &number) || number < 1 || number > 10000000) {
      return absl::InvalidArgumentError(absl::StrCat("--users: \"", text, "\" is not in 1..10000000"));
    }
    users.push_back(number);
  }
  return users.empty() ? otherwise : users;
}

// Each file in turn, until one cannot be read or `read` refuses it.
absl::Status ReadFiles(const std::vector<std::string>& files,
                       const std::function<absl::Status(std::istream& in, const std::string& file)>& read) {
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return absl::InvalidArgumentError(absl::StrCat(file, ": cannot be read"));
    if (absl::Status status = read(in, file); !status.ok()) return status;
  }
  return absl::OkStatus();
}

int Solve(const std::vector<std::string>& files) {
  nlohmann::json answers = nlohmann::json::array();
  const std::string policy = OnePolicy();
  const auto solve = [&](std::istream& in, const std::string& source) {
    const std::string text(std::istreambuf_iterator<char>(in), {});
    return goad::sched::SolveDocument(source, text, policy, {.lambda_s = Lambda()}, answers);
  };
  const absl::Status status = files.empty() ? solve(std::cin, "standard input") : ReadFiles(files, solve);
  if (!status.ok()) return Fail(status);
  return Print(nlohmann::json{{"answers", std::move(answers)}}.dump() + "\n");
}

int Bench() {
  goad::sched::BenchOptions options;
  options.policies = absl::StrSplit(OnePolicy(), ',');
  const auto users = Users(options.users);
  const auto tau = OneTau();
  if (!users.ok()) return Fail(users.status());
  if (!tau.ok()) return Fail(tau.status());
  options.users = *users;
  options.tau = *tau;
  options.sites = static_cast<size_t>(std::max(0, absl::GetFlag(FLAGS_sites)));
  options.lambda_s = Lambda();
  options.seed = absl::GetFlag(FLAGS_seed);
  options.peak_bytes = &goad::PeakBytesSinceLastCall;
  if (Watched()) options.progress = [](const std::string& what) { std::cerr << "\r\033[K" << what << std::flush; };
  options.zero_share = absl::GetFlag(FLAGS_zeros);
  const auto rows = goad::sched::RunBench(options);
  EndProgress();
  if (!rows.ok()) return Fail(rows.status());
  return Print(absl::GetFlag(FLAGS_json)  ? goad::sched::BenchJson(*rows)
               : absl::GetFlag(FLAGS_csv) ? goad::sched::BenchCsv(*rows)
                                          : goad::sched::BenchTable(*rows));
}

int SweepCommand() {
  goad::sched::SweepOptions options;
  if (!absl::GetFlag(FLAGS_policy).empty()) options.policies = absl::StrSplit(absl::GetFlag(FLAGS_policy), ',');
  const auto users = Users(options.users);
  const auto taus = Taus(options.taus);
  if (!users.ok()) return Fail(users.status());
  if (!taus.ok()) return Fail(taus.status());
  options.users = *users;
  options.taus = *taus;
  options.sites = static_cast<size_t>(std::max(0, absl::GetFlag(FLAGS_sites)));
  options.draws = static_cast<size_t>(std::max(0, absl::GetFlag(FLAGS_draws)));
  options.seed = absl::GetFlag(FLAGS_seed);
  options.lambda_s = Lambda();
  options.workload = absl::GetFlag(FLAGS_workload);
  options.threads = absl::GetFlag(FLAGS_threads);
  const std::string path = absl::GetFlag(FLAGS_sweep);
  const auto sweep = goad::sched::RunSweep(options, path, [](size_t done, size_t all) {
    if (Watched())
      ShowProgress(absl::StrCat("point ", done, " of ", all), static_cast<double>(done) / static_cast<double>(all));
  });
  EndProgress();
  if (!sweep.ok()) return Fail(sweep.status());
  return Print(absl::StrCat(goad::sched::SweepTable(*sweep), "written to ", path, "; see `goad-sim report`\n"));
}

int PlotOrReport(bool report) {
  const auto sweep = goad::sched::ReadSweep(absl::GetFlag(FLAGS_sweep));
  if (!sweep.ok()) return Fail(sweep.status());
  const std::filesystem::path out = absl::GetFlag(FLAGS_out).empty() ? "sweep-report" : absl::GetFlag(FLAGS_out);
  std::error_code error;
  std::filesystem::create_directories(out, error);
  std::vector<std::pair<std::string, std::string>> files;
  if (report) {
    files = {{"index.html", goad::sched::SweepReport(*sweep)}};
    for (const goad::sched::Trend& trend : goad::sched::CheckTrends(*sweep)) {
      std::cout << goad::sched::VerdictText(trend) << ": " << trend.claim << " (" << trend.detail << ")\n";
    }
  } else {
    files = goad::sched::SweepCharts(*sweep);
  }
  for (const auto& [name, text] : files) {
    if (!Write(out / name, text)) return Fail(absl::StrCat((out / name).string(), ": cannot be written"));
    std::cout << "wrote " << (out / name).string() << "\n";
  }
  return 0;
}

int RunCommand() {
  namespace server = goad::server;
  server::RunOptions options;
  options.policy = OnePolicy();
  const auto tau = OneTau();
  if (!tau.ok()) return Fail(tau.status());
  options.tau = *tau;
  options.lambda_s = Lambda();
  if (const auto rate = absl::GetFlag(FLAGS_rate)) options.rate = *rate;
  if (const auto seconds = absl::GetFlag(FLAGS_seconds)) options.seconds = *seconds;
  options.sites = static_cast<size_t>(std::max(0, absl::GetFlag(FLAGS_sites)));
  options.max_queries = absl::GetFlag(FLAGS_max_queries);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.workload = absl::GetFlag(FLAGS_workload);
  options.log = absl::GetFlag(FLAGS_log);
  options.arrivals = absl::GetFlag(FLAGS_arrivals);
  options.time_scale = absl::GetFlag(FLAGS_time_scale);
  options.uplinks = absl::GetFlag(FLAGS_uplink);
  options.devices = static_cast<size_t>(std::max(0, absl::GetFlag(FLAGS_devices)));
  options.configured_error = absl::GetFlag(FLAGS_configured_error);
  for (const std::string& text : absl::GetFlag(FLAGS_context)) {
    if (!absl::SimpleAtoi(text, &options.contexts.emplace_back()))
      return Fail(absl::StrCat("context: \"", text, "\" is not a whole number of tokens"));
  }
  const std::map<std::string, server::Learn> ways = {
      {"on", server::Learn::kOn}, {"off", server::Learn::kOff}, {"true", server::Learn::kTrue}};
  const auto learn = ways.find(absl::GetFlag(FLAGS_learn));
  if (learn == ways.end())
    return Fail(absl::StrCat("learn: \"", absl::GetFlag(FLAGS_learn), "\" is not one of on, off, true"));
  options.learn = learn->second;
  if (Watched()) options.progress = [](double share) { ShowProgress("virtual time", share); };
  const std::vector<std::string> policies = absl::GetFlag(FLAGS_compare);
  if (!policies.empty() && !absl::GetFlag(FLAGS_policy).empty()) return Fail("policy: not with --compare");
  const bool one = policies.empty();
  const auto reports = server::SimulateRuns(options, one ? std::vector{options.policy} : policies);
  EndProgress();
  if (!reports.ok()) return Fail(reports.status());
  if (absl::GetFlag(FLAGS_json)) {
    const nlohmann::json json =
        one ? server::RunJson(reports->front(), options) : server::ComparisonJson(*reports, policies, options);
    return Print(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  return Print(one ? server::FormatRun(reports->front(), options)
                   : server::FormatComparison(*reports, policies, options));
}

int ReplayCommand(const std::vector<std::string>& files) {
  goad::server::ReplayOptions options;
  options.policy = absl::GetFlag(FLAGS_policy);
  if (!absl::GetFlag(FLAGS_tau).empty()) {
    const auto tau = OneTau();
    if (!tau.ok()) return Fail(tau.status());
    options.tau = *tau;
  }
  if (const auto lambda = absl::GetFlag(FLAGS_lambda)) options.lambda_s = *lambda;
  if (files.empty()) return Fail("replay: which decision log? want: goad-sim replay FILE...");
  goad::server::ReplayReport report;
  const absl::Status status = ReadFiles(files, [&](std::istream& in, const std::string& file) {
    return goad::server::Replay(in, file, options, &report);
  });
  if (!status.ok()) return Fail(status);
  return Print(goad::server::FormatReplay(report, options), report.differing.empty() ? 0 : 1);
}

int FitCommand(const std::vector<std::string>& files) {
  if (files.empty()) return Fail("fit: which decision log? want: goad-sim fit FILE...");
  goad::server::Fit fit(absl::GetFlag(FLAGS_after));
  const absl::Status status =
      ReadFiles(files, [&](std::istream& in, const std::string& file) { return fit.Read(in, file); });
  if (!status.ok()) return Fail(status);
  if (fit.outcomes() == 0) {
    return Fail(absl::StrCat(absl::StrJoin(files, ", "), ": no line of kind \"outcome\" to learn from"));
  }
  if (absl::GetFlag(FLAGS_json)) {
    return Print(fit.Json().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  return Print(fit.Table());
}

int CalibrateCommand(const std::vector<std::string>& files) {
  if (files.empty()) return Fail("calibrate: which labels? want: goad-sim calibrate FILE...");
  std::vector<goad::calibration::Label> labels;
  const absl::Status status = ReadFiles(
      files, [&](std::istream& in, const std::string& file) { return goad::server::ReadLabels(in, file, &labels); });
  if (!status.ok()) return Fail(status);
  const auto report = goad::server::Calibrate(labels, {absl::GetFlag(FLAGS_accuracy), absl::GetFlag(FLAGS_confidence)});
  if (!report.ok()) return Fail(absl::StrCat(absl::StrJoin(files, ", "), ": ", report.status().message()));
  for (const auto& [path, text] :
       {std::pair(absl::GetFlag(FLAGS_out), goad::server::CalibrationText(report->calibration)),
        std::pair(absl::GetFlag(FLAGS_svg), goad::server::CalibrationSvg(*report))}) {
    if (!path.empty() && !Write(path, text)) return Fail(absl::StrCat(path, ": cannot be written"));
  }
  return Print(absl::GetFlag(FLAGS_json) ? goad::server::CalibrationJson(*report).dump() + "\n"
                                         : goad::server::FormatCalibration(*report),
               report->calibration.certificate ? 0 : 1);
}

}  // namespace

int main(int argc, char** argv) {
  absl::FlagsUsageConfig usage;  // --help lists this program's own flags only
  usage.contains_help_flags = usage.contains_helpshort_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "server/sim/goad_sim.cc");
  };
  usage.version_string = [] { return std::string("goad-sim ") + GOAD_VERSION + "\n"; };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(absl::StrCat(kUsage, absl::StrJoin(goad::sched::PolicyNames(), ", "), "."));
  std::vector<std::string> spelled(argv, argv + argc);  // --time-scale is --time_scale
  std::vector<char*> words;
  for (std::string& word : spelled) {
    if (absl::StartsWith(word, "--")) {
      std::replace(word.begin() + 2, std::find(word.begin(), word.end(), '='), '-', '_');
    }
    words.push_back(word.data());
  }
  const std::vector<char*> rest = absl::ParseCommandLine(argc, words.data());
  constexpr char kCommands[] = "solve, bench, sweep, report, plot, run, replay, fit or calibrate";
  if (rest.size() < 2) return Fail(absl::StrCat("which command? want: ", kCommands, " (see goad-sim --help)"));
  const std::string command = rest[1];
  const std::vector<std::string> arguments(rest.begin() + 2, rest.end());
  if (command == "solve") return Solve(arguments);
  if (command == "replay") return ReplayCommand(arguments);
  if (command == "fit") return FitCommand(arguments);
  if (command == "calibrate") return CalibrateCommand(arguments);
  const std::map<std::string, std::function<int()>> without_arguments = {{"bench", Bench},
                                                                         {"sweep", SweepCommand},
                                                                         {"report", [] { return PlotOrReport(true); }},
                                                                         {"plot", [] { return PlotOrReport(false); }},
                                                                         {"run", RunCommand}};
  const auto found = without_arguments.find(command);
  if (found == without_arguments.end())
    return Fail(absl::StrCat("unknown command \"", command, "\"; want: ", kCommands));
  if (!arguments.empty()) return Fail(absl::StrCat(command, " takes flags only, not \"", arguments[0], "\""));
  return found->second();
}
