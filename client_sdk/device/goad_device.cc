// goad-device: an OpenAI endpoint on the device, in front of the model server that is there. Exit status: 0 stopped by
// a signal, or --check found all well; 1 --check found something; 2 bad flags; 3 the address cannot be listened on.
#include <malloc.h>
#include <pthread.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>
#include <future>
#include <iostream>
#include <optional>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "client_sdk/device/app_listener.h"
#include "client_sdk/device/links_file.h"
#include "client_sdk/device/local_server.h"
#include "client_sdk/device/service.h"

ABSL_FLAG(std::vector<std::string>, edge, {"127.0.0.1:7443"},
          "goad's device listener, HOST:PORT; or several, HOST:PORT,HOST:PORT,..., in order of preference, at most 16");
ABSL_FLAG(std::string, local, "",
          "the model server on this device, http://HOST:PORT; empty = every question is the edge's");
ABSL_FLAG(std::string, listen, "127.0.0.1:11435", "where apps connect, ADDRESS:PORT; port 0 = any free one");
ABSL_FLAG(bool, check, false, "say what is found of the local server and of goad, and end");

ABSL_FLAG(std::string, local_model, "", "name of the local model that `auto` means; empty = the local server's first");
ABSL_FLAG(std::string, local_key_file, "", "file with the local server's API key");
ABSL_FLAG(absl::Duration, local_silence, absl::Seconds(120), "longest wait for the local server's next byte; 1s..24h");
ABSL_FLAG(absl::Duration, local_first_token, absl::Seconds(10),
          "the local server has written no token for so long: the edge is asked, too; 1ms..24h");
ABSL_FLAG(std::string, api_key_file, "", "file with the key that apps must send (Authorization: Bearer KEY)");
ABSL_FLAG(int, max_requests, 64, "requests of apps at once, more are refused; 1..1000");

ABSL_FLAG(std::string, device_name, "", "this device's name for goad's operator; at most 128 bytes");
ABSL_FLAG(std::string, ca, "", "PEM file of goad's certificate authority; set = TLS");
ABSL_FLAG(std::string, certificate, "", "PEM file of this device's certificate, for mTLS");
ABSL_FLAG(std::string, key, "", "PEM file of its key");
ABSL_FLAG(std::string, token_file, "", "file with this device's bearer token for goad");
ABSL_FLAG(std::string, links, "",
          "file with this device's radio links, read again whenever it changes: a JSON list of {\"site\": NAME, "
          "\"gain_db\": X} "
          "(or rsrp_dbm, uplink_snr_db, uplink_bps); sites with a measured uplink need none");
ABSL_FLAG(absl::Duration, decision_budget, absl::Milliseconds(500),
          "goad silent for so long: answered locally; 1ms..1h");
ABSL_FLAG(absl::Duration, answer_budget, absl::Seconds(60), "longest wait for an edge answer; 1ms..24h");
ABSL_FLAG(absl::Duration, between_tokens, absl::Seconds(5), "longest silence within an edge answer; 1ms..24h");

ABSL_FLAG(int, hedge_tokens, 1000000,
          "local tokens after OFFLOAD, until the edge's first; 0 = stop the local model at once");
ABSL_FLAG(absl::Duration, edge_first_token, absl::Seconds(10),
          "the edge has sent nothing for so long: the local answer is shown as soon as it is whole; 1ms..24h");
ABSL_FLAG(int, edge_hold, 0,
          "edge tokens that are kept back, so that a break within them is answered locally; 0..1000000");
ABSL_FLAG(
    double, unknown_uncertainty, -1,
    "what to ask goad with when the local server tells no uncertainty, 0..1; -1 = such answers are the local ones");
ABSL_FLAG(absl::Duration, local_token_time, absl::Milliseconds(30),
          "time of a local token, until it has been learned; 1us..1h");

namespace {

using goad::device::LocalFacts;
using goad::device::LocalServer;

int Fail(int code, const std::string& message) {
  std::cerr << "goad-device: " << message << "\n";
  return code;
}

// The one line of a secret's file. INVALID_ARGUMENT names the flag.
absl::StatusOr<std::string> ReadSecret(const char* flag, const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream in(path, std::ios::binary);
  std::string text(4097, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  const bool printable = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7F; });
  if (text.empty() || text.size() > 4096 || !printable) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, ": ", path, ": want one line of 1..4096 printable ASCII characters without blanks"));
  }
  return text;
}

absl::Status CheckFlags() {
  const auto bad = [](const auto&... parts) { return absl::InvalidArgumentError(absl::StrCat(parts...)); };
  const std::vector<std::string> edge = absl::GetFlag(FLAGS_edge);
  if (edge.empty() || edge.size() > 16) return bad("--edge: ", edge.size(), " addresses, want 1..16");
  if (std::count(edge.begin(), edge.end(), "") > 0) return bad("--edge: an address is empty");
  for (const auto& [name, value, least, most] :
       {std::tuple{"max_requests", absl::GetFlag(FLAGS_max_requests), 1, 1000},
        std::tuple{"hedge_tokens", absl::GetFlag(FLAGS_hedge_tokens), 0, 1000000},
        std::tuple{"edge_hold", absl::GetFlag(FLAGS_edge_hold), 0, 1000000}}) {
    if (value < least || value > most) return bad("--", name, ": ", value, " is not in ", least, "..", most);
  }
  for (const auto& [name, value, least, most] :
       {std::tuple{"local_silence", absl::GetFlag(FLAGS_local_silence), absl::Seconds(1), absl::Hours(24)},
        std::tuple{"edge_first_token", absl::GetFlag(FLAGS_edge_first_token), absl::Milliseconds(1), absl::Hours(24)},
        std::tuple{"local_first_token", absl::GetFlag(FLAGS_local_first_token), absl::Milliseconds(1), absl::Hours(24)},
        std::tuple{"decision_budget", absl::GetFlag(FLAGS_decision_budget), absl::Milliseconds(1), absl::Hours(1)},
        std::tuple{"answer_budget", absl::GetFlag(FLAGS_answer_budget), absl::Milliseconds(1), absl::Hours(24)},
        std::tuple{"between_tokens", absl::GetFlag(FLAGS_between_tokens), absl::Milliseconds(1), absl::Hours(24)},
        std::tuple{"local_token_time", absl::GetFlag(FLAGS_local_token_time), absl::Microseconds(1), absl::Hours(1)}}) {
    if (value < least || value > most) {
      return bad("--", name, ": ", absl::FormatDuration(value), " is not in ", absl::FormatDuration(least), "..",
                 absl::FormatDuration(most));
    }
  }
  const double unknown = absl::GetFlag(FLAGS_unknown_uncertainty);
  if (unknown != -1 && !(unknown >= 0 && unknown <= 1))
    return bad("--unknown_uncertainty: ", unknown, " is not -1 and not in 0..1");
  if (absl::GetFlag(FLAGS_local_model).size() > 128) return bad("--local_model: has more than 128 bytes");
  return absl::OkStatus();
}

goad::ClientOptions ClientOptionsFromFlags(const std::string& token, const std::string& local_model) {
  goad::ClientOptions options;
  const std::vector<std::string> edge = absl::GetFlag(FLAGS_edge);
  options.address = edge.at(0);  // CheckFlags has looked
  options.other_addresses.assign(edge.begin() + 1, edge.end());
  options.device_name = absl::GetFlag(FLAGS_device_name);
  options.local_model = local_model;
  options.uncertainty.candidates = 10;
  options.decision_budget = absl::GetFlag(FLAGS_decision_budget);
  options.answer_budget = absl::GetFlag(FLAGS_answer_budget);
  options.between_tokens_budget = absl::GetFlag(FLAGS_between_tokens);
  options.root_ca_file = absl::GetFlag(FLAGS_ca);
  options.certificate_file = absl::GetFlag(FLAGS_certificate);
  options.key_file = absl::GetFlag(FLAGS_key);
  options.token = token;
  // The local answer is at hand: it is not asked again behind the app's back.
  if (!absl::GetFlag(FLAGS_local).empty()) options.asks_per_query = 1;
  options.on_problem = [](const goad::Problem& problem) {
    std::cerr << "goad-device: " << problem.code << ": " << problem.detail << std::endl;
  };
  return options;
}

std::string Describe(const LocalFacts& facts) {
  if (!facts.reachable) return facts.problem;
  std::string text = facts.kind;
  if (!facts.models.empty()) {
    text += absl::StrCat(
        ", ", facts.models.size(), facts.models.size() == 1 ? " model: " : " models: ",
        absl::StrJoin(facts.models.begin(), facts.models.begin() + std::min<size_t>(facts.models.size(), 5), ", "),
        facts.models.size() > 5 ? ", ..." : "");
  }
  if (facts.candidates > 0)
    text += absl::StrFormat("; %d candidates a token, first token after %.0f ms", facts.candidates,
                            facts.first_token_s * 1e3);
  if (!facts.problem.empty()) text += "; " + facts.problem;
  return text;
}

int Check(const LocalServer* local, goad::Client* client) {
  bool well = true;
  if (local != nullptr) {
    const LocalFacts facts = local->Look(absl::GetFlag(FLAGS_local_model));
    std::cout << "local  " << absl::GetFlag(FLAGS_local) << ": " << Describe(facts) << "\n";
    well = facts.problem.empty();
  } else {
    std::cout << "local  none (--local): every question is the edge's\n";
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!client->connected() && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::cout << "edge   " << absl::StrJoin(absl::GetFlag(FLAGS_edge), ",") << ": ";
  if (!client->connected()) {
    std::cout << "no goad answers\n";
    return 1;
  }
  std::cout << "goad, " << client->sites().size() << " sites\n";
  for (const goad::Site& site : client->sites()) {
    if (!site.neighbour.empty()) {
      std::cout << "       " << site.name << ": of " << site.neighbour << "\n";
      continue;
    }
    std::cout << "       " << site.name << ": " << (site.measured ? "measured uplink" : "wants radio links (--links)")
              << (site.chat ? ", takes chat" : ", takes no chat") << "\n";
  }
  return well ? 0 : 1;
}

// Calls something twice a second, on a thread of its own, until it is destroyed.
class Repeatedly {
 public:
  using Stop = std::function<bool()>;  // it is being destroyed
  explicit Repeatedly(std::function<void(const Stop&)> call)
      : thread_([this, call = std::move(call)] {
          const std::future<void> stopped = stop_.get_future();
          const auto stop = [&] { return stopped.wait_for(std::chrono::seconds(0)) == std::future_status::ready; };
          do {
            call(stop);
          } while (stopped.wait_for(std::chrono::milliseconds(500)) == std::future_status::timeout);
        }) {}
  ~Repeatedly() {
    stop_.set_value();
    thread_.join();
  }

 private:
  std::promise<void> stop_;
  std::thread thread_;
};

// Looks at the local server: often until it is found, then for other models, and whether it has gone.
class LocalWatch {
 public:
  LocalWatch(const LocalServer* local, goad::device::Service* service) : local_(local), service_(service) {}

  void Look(const Repeatedly::Stop& stop) {
    if (until_look_-- > 0) return;
    if (found_) {
      const LocalFacts now = local_->LookAtModels();
      found_ = facts_.reachable = now.problem.empty();
      if (found_) facts_.models = now.models;
      facts_.problem = found_ ? facts_.problem : now.problem;
    } else {
      facts_ = local_->Look(absl::GetFlag(FLAGS_local_model));
      found_ = facts_.reachable && !facts_.models.empty() && facts_.answers;
      if (found_) service_->Warm(stop, facts_);
    }
    service_->SetFacts(facts_);
    if (const std::string now = Describe(facts_); now != told_)
      std::cerr << "goad-device: local server: " << (told_ = now) << std::endl;
    until_look_ = found_ ? 60 : 10;
  }

 private:
  const LocalServer* const local_;
  goad::device::Service* const service_;
  LocalFacts facts_;
  bool found_ = false;
  std::string told_;
  int until_look_ = 0;
};

void ReportLinks(goad::Client* client, std::string* told) {
  const auto links = goad::device::ReadLinksFile(absl::GetFlag(FLAGS_links));
  if (links.ok()) client->ReportLinks(*links);
  const std::string now(links.status().message());
  if (now != *told && !now.empty()) std::cerr << "goad-device: --links: " << now << std::endl;
  *told = now;
}

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT}) sigaddset(&signals, signal);
  return signals;
}
void BlockStopSignals() {
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  mallopt(M_ARENA_MAX, 2);                              // a thread per connection would have an arena each
  std::vector<std::string> spelled(argv, argv + argc);  // --edge-hold is --edge_hold
  std::vector<char*> words;
  for (std::string& word : spelled) {
    if (absl::StartsWith(word, "--"))
      std::replace(word.begin() + 2, std::find(word.begin(), word.end(), '='), '-', '_');
    words.push_back(word.data());
  }
  absl::FlagsUsageConfig usage;  // --help lists this program's own flags only
  usage.contains_help_flags = usage.contains_helpshort_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "device/goad_device.cc");
  };
  usage.version_string = [] { return std::string("goad-device ") + GOAD_VERSION + "\n"; };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(
      "an OpenAI endpoint on the device: answers with the local model, or with the edge's where goad says so.\n\n"
      "  goad-device --edge HOST:PORT --local http://127.0.0.1:8081 [--listen 127.0.0.1:11435]\n"
      "  goad-device --edge HOST:PORT --local http://127.0.0.1:8081 --check\n\n"
      "An app sets its base URL to http://127.0.0.1:11435/v1. Model names: auto (or any other) decides, local and "
      "edge\n"
      "force; so does the header x-goad-offload: never. Answers say who gave them: header x-goad, object goad.");
  if (absl::ParseCommandLine(static_cast<int>(words.size()), words.data()).size() > 1)
    return Fail(2, "takes flags only (see goad-device --help)");
  if (const absl::Status checked = CheckFlags(); !checked.ok()) return Fail(2, std::string(checked.message()));
  const std::string listen = absl::GetFlag(FLAGS_listen);
  const size_t colon = listen.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port < 0 ||
      port > 65535)
    return Fail(2, absl::StrCat("--listen: \"", listen, "\" is no ADDRESS:PORT"));
  std::string host = listen.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);

  std::array<std::string, 3> secrets;
  const std::array secret_files = {std::pair{"api_key_file", absl::GetFlag(FLAGS_api_key_file)},
                                   std::pair{"local_key_file", absl::GetFlag(FLAGS_local_key_file)},
                                   std::pair{"token_file", absl::GetFlag(FLAGS_token_file)}};
  for (size_t k = 0; k < secrets.size(); ++k) {
    const auto read = ReadSecret(secret_files[k].first, secret_files[k].second);
    if (!read.ok()) return Fail(2, std::string(read.status().message()));
    secrets[k] = *read;
  }
  std::unique_ptr<LocalServer> local;
  if (const std::string url = absl::GetFlag(FLAGS_local); !url.empty()) {
    const auto address = goad::device::ReadLocalAddress(url);
    if (!address.ok()) return Fail(2, absl::StrCat("--local: ", std::string(address.status().message())));
    local = std::make_unique<LocalServer>(
        *address, secrets[1], std::chrono::seconds(absl::ToInt64Seconds(absl::GetFlag(FLAGS_local_silence))));
  }

  signal(SIGPIPE, SIG_IGN);
  if (!absl::GetFlag(FLAGS_check)) BlockStopSignals();  // before any thread, so that all inherit it

  const auto client = goad::Client::Connect(ClientOptionsFromFlags(secrets[2], absl::GetFlag(FLAGS_local_model)));
  if (!client->status().ok()) return Fail(2, std::string(client->status().message()));
  if (absl::GetFlag(FLAGS_check)) return Check(local.get(), client.get());

  goad::RuntimeOptions runtime_options;
  runtime_options.hedge_tokens = absl::GetFlag(FLAGS_hedge_tokens);
  runtime_options.edge_hold_tokens = absl::GetFlag(FLAGS_edge_hold);
  runtime_options.edge_first_token = absl::GetFlag(FLAGS_edge_first_token);
  runtime_options.local_first_token = absl::GetFlag(FLAGS_local_first_token);
  runtime_options.local_token_time = absl::GetFlag(FLAGS_local_token_time);
  if (const double unknown = absl::GetFlag(FLAGS_unknown_uncertainty); unknown >= 0)
    runtime_options.unknown_uncertainty = unknown;
  goad::Runtime runtime(client.get(), runtime_options);
  goad::device::ServiceOptions service_options;
  service_options.api_key = secrets[0];
  service_options.local_model = absl::GetFlag(FLAGS_local_model);
  service_options.loopback = host == "127.0.0.1" || host == "localhost" || host == "::1";
  service_options.most_requests = absl::GetFlag(FLAGS_max_requests);
  goad::device::Service service(service_options, client.get(), &runtime, local.get());

  goad::device::AppListener listener(static_cast<size_t>(service_options.most_requests) + 64);
  service.AddRoutes(&listener);
  const int bound = listener.Bind(host, port);
  if (bound < 0)
    return Fail(3,
                absl::StrCat("--listen: ", listen, ": cannot be listened on: in use, or no address of this machine"));
  std::cerr << "goad-device: ready at http://" << listen.substr(0, colon) << ":" << bound << "/v1, edge "
            << absl::StrJoin(absl::GetFlag(FLAGS_edge), ",") << (local == nullptr ? ", no local model" : "")
            << std::endl;
  if (!service_options.loopback && secrets[0].empty())
    std::cerr << "goad-device: warning: other machines may use this endpoint, and no key is asked for (--api-key-file)"
              << std::endl;
  {
    LocalWatch local_watch(local.get(), &service);
    std::optional<Repeatedly> looks, reports;
    if (local != nullptr) looks.emplace([&](const Repeatedly::Stop& stop) { local_watch.Look(stop); });
    std::string links_told;
    if (!absl::GetFlag(FLAGS_links).empty())
      reports.emplace([&](const Repeatedly::Stop&) { ReportLinks(client.get(), &links_told); });
    std::thread accepting([&] { listener.listen_after_bind(); });
    while (!listener.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // or stop() does nothing
    sd_notify(0, "READY=1");
    int signal = 0;
    const sigset_t signals = StopSignals();
    sigwait(&signals, &signal);
    sd_notify(0, "STOPPING=1");
    listener.stop();
    std::promise<void> ended;
    std::thread impatient([&listener, over = ended.get_future()] {
      if (over.wait_for(std::chrono::seconds(10)) == std::future_status::timeout) listener.GiveUp();
    });
    accepting.join();
    ended.set_value();
    impatient.join();
  }
  return 0;
}
