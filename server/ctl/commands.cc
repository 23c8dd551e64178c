#include "server/ctl/commands.h"

#include <grpcpp/generic/generic_stub.h>

#include <cmath>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/base/clip.h"
#include "server/config/config_loader.h"
#include "server/ctl/table.h"

namespace goad::ctl {

int Report(const Context& context, const grpc::Status& status) {
  if (status.ok()) return kOk;
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
      status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    std::cerr << "goadctl: goad does not answer at " << context.address << ": "
              << server::Printable(status.error_message())
              << "\n  Is it running, and may you use its socket? --address names another.\n";
    return kUnreachable;
  }
  std::cerr << "goadctl: refused: " << server::Printable(status.error_message()) << "\n";
  return kRefused;
}

std::string Coloured(const Context& context, bool good, const std::string& text) {
  return context.colours ? absl::StrCat(good ? "\033[32m" : "\033[31m", text, "\033[0m") : text;
}

std::string Ago(double seconds) { return absl::FormatDuration(absl::Seconds(std::round(seconds))); }

namespace {

std::string Reasons(const v1::EpochSummary& epoch) {
  std::vector<std::string> words;
  for (const v1::ReasonCount& row : epoch.reasons()) {
    words.push_back(absl::StrCat(row.count(), " ", v1::Reason_Name(row.reason()).substr(sizeof "REASON_" - 1)));
  }
  return absl::StrJoin(words, ", ");
}

// chat, tools (assumed), no images (server), context 4096 (server)
std::string AbilitiesText(const v1::Abilities& can) {
  const auto from = [](v1::Abilities::From who) {
    return who == v1::Abilities::FROM_SERVER       ? " (server)"
           : who == v1::Abilities::FROM_CONFIGURED ? " (configured)"
                                                   : " (assumed)";
  };
  return absl::StrCat(can.chat() ? "chat, " : "no chat, ", can.tools() ? "tools" : "no tools", from(can.tools_from()),
                      can.images() ? ", images" : ", no images", from(can.images_from()),
                      can.context_tokens() > 0
                          ? absl::StrCat(", context ", can.context_tokens(), from(can.context_from()))
                          : ", context not known");
}

int Sites(const Context& context, const std::string&) {
  v1::SitesResponse sites;
  if (const int failed = Call(context, &v1::Admin::Stub::Sites, v1::SitesRequest(), &sites)) return failed;
  if (context.json) return PrintJson(sites), kOk;
  Table table({"SITE", "STATE", ">QUERIES", ">MAX", ">UPLOADS", "BACKEND", "STATE", ">FOR", ">RUNNING", ">SLOTS",
               "FROM", ">OTHERS'"});
  std::string remarks;
  for (const v1::SiteStatus& site : sites.sites()) {
    std::vector<std::string> row = {site.name(), StateOf(site), absl::StrCat(site.active_queries()),
                                    absl::StrCat(site.max_queries()), absl::StrCat(site.active_uplinks())};
    for (const v1::BackendStatus& backend : site.backends()) {
      const std::string state =
          backend.state().empty() ? (backend.up() ? "up" : "down") : backend.state();  // an older goad
      std::vector<std::string> whole = row;
      const std::string leaving = backend.removed() ? "removed" : backend.draining() ? "draining" : "";
      whole.insert(whole.end(), {backend.url(),
                                 !leaving.empty()  ? leaving
                                 : state == "down" ? "DOWN"
                                                   : state,
                                 Ago(backend.state_s()), absl::StrCat(backend.in_flight()),
                                 absl::StrCat(backend.slots()), backend.slots_from(), absl::StrCat(backend.foreign())});
      table.Add(std::move(whole));
      row.assign(row.size(), "");  // the site is named once
      if (!backend.last_error().empty()) {
        absl::StrAppend(&remarks, backend.url(), ": ", state == "up" ? "last error" : "error", ", ",
                        Ago(backend.last_error_s()), " ago", state == "up" ? "" : " first", ": ", backend.last_error(),
                        "\n");
      }
      if (backend.has_abilities()) {
        absl::StrAppend(&remarks, backend.url(), ": ", AbilitiesText(backend.abilities()), "\n");
      }
      if (backend.configured_slots() != 0 && backend.reported_slots() != 0 &&
          backend.configured_slots() != backend.reported_slots()) {
        absl::StrAppend(&remarks, backend.url(), ": warning: slots: ", backend.configured_slots(),
                        " are configured, the server says ", backend.reported_slots(), "; ", backend.slots(),
                        " are in force\n");
      }
    }
  }
  for (const v1::SiteStatus& site : sites.sites()) {
    if (site.has_service()) absl::StrAppend(&remarks, site.name(), ": compute ", ServiceText(site.service()), "\n");
  }
  if (sites.has_uplink()) {
    const v1::UplinkTimes& uplink = sites.uplink();
    absl::StrAppend(&remarks, "uplinks that nobody reports: ",
                    uplink.devices() > 0 ? absl::StrCat("median of ", uplink.devices(), " devices") : "none seen yet",
                    ", round trip ", Duration(uplink.round_trip_s()), " + ", Megabits(uplink.uplink_bps()), "\n");
  }
  std::cout << table.Text() << remarks;
  return kOk;
}

// MARGIN of 10, MEAN_LOGPROB over 16, DECLARED by vote-5; empty from a goad that does not tell
std::string Uncertainty(const v1::SessionInfo& session) {
  if (session.uncertainty_metric() == v1::UNCERTAINTY_METRIC_UNSPECIFIED) return "";
  const std::string name = v1::UncertaintyMetric_Name(session.uncertainty_metric());
  constexpr size_t kPrefix = sizeof("UNCERTAINTY_METRIC_") - 1;
  std::string text = name.size() > kPrefix ? name.substr(kPrefix) : absl::StrCat(session.uncertainty_metric());
  if (session.uncertainty_tokens() > 0) absl::StrAppend(&text, " over ", session.uncertainty_tokens());
  if (session.uncertainty_candidates() > 0) absl::StrAppend(&text, " of ", session.uncertainty_candidates());
  if (!session.uncertainty_method().empty()) absl::StrAppend(&text, " by ", session.uncertainty_method());
  return text;
}

int Sessions(const Context& context, const std::string&) {
  v1::SessionsRequest request;
  request.set_limit(context.limit);
  v1::SessionsResponse sessions;
  if (const int failed = Call(context, &v1::Admin::Stub::Sessions, request, &sessions)) return failed;
  if (context.json) return PrintJson(sessions), kOk;
  Table table(
      {"SESSION", "DEVICE", "TENANT", "PEER", ">AGE", ">QUERIES", ">UNREAD BYTES", "UNCERTAINTY", "MODEL", "PROMPT"});
  for (const v1::SessionInfo& session : sessions.sessions()) {
    table.Add({session.session_id(), session.device_name(), session.tenant(), session.peer(), Ago(session.age_s()),
               absl::StrCat(session.live_queries()), absl::StrCat(session.outbox_bytes()), Uncertainty(session),
               session.local_model(), session.prompt_form()});
  }
  std::cout << table.Text();
  if (sessions.total() > static_cast<uint64_t>(sessions.sessions_size())) {
    std::cout << "(" << sessions.sessions_size() << " of " << sessions.total() << "; --limit shows up to 1000)\n";
  }
  return kOk;
}

constexpr char kEpochHeading[] = "  EPOCH  POLICY         TAU  ASKING  OFFLOAD  WAIT    SOLVER  REASONS\n";
std::string EpochLine(const v1::EpochSummary& epoch) {
  return absl::StrFormat("%7d  %-12s %5.2f  %6d  %7d  %4d  %8s  %s\n", epoch.epoch(), epoch.policy(), epoch.tau(),
                         epoch.candidates(), epoch.offloaded(), epoch.waiting(), Duration(epoch.solver_s()),
                         Reasons(epoch));
}

int Epochs(const Context& context, const std::string&) {
  if (!context.watch) {
    v1::EpochsRequest request;
    request.set_limit(context.limit);
    v1::EpochsResponse epochs;
    if (const int failed = Call(context, &v1::Admin::Stub::Epochs, request, &epochs)) return failed;
    if (context.json) return PrintJson(epochs), kOk;
    std::cout << kEpochHeading;
    for (const v1::EpochSummary& epoch : epochs.epochs()) std::cout << EpochLine(epoch);
    return kOk;
  }
  grpc::ClientContext call;
  const auto stream = context.admin->WatchEpochs(&call, {});
  v1::EpochSummary epoch;
  uint64_t dropped = 0;
  for (uint32_t seen = 0; stream->Read(&epoch); ++seen) {
    if (context.json) {
      PrintJson(epoch, /*pretty=*/false);
    } else {
      if (seen % 20 == 0) std::cout << kEpochHeading;
      if (epoch.dropped() > dropped)
        std::cout << "(" << epoch.dropped() - dropped << " epochs not shown: this end reads too slowly)\n";
      std::cout << EpochLine(epoch) << std::flush;
    }
    dropped = epoch.dropped();
    if (seen + 1 == context.limit) return kOk;
  }
  return Report(context, stream->Finish());
}

int Tau(const Context& context, const std::string& text) {
  if (text.empty()) {
    v1::StatusResponse status;
    if (const int failed = Call(context, &v1::Admin::Stub::Status, v1::StatusRequest(), &status)) return failed;
    std::cout << (context.json ? absl::StrCat("{\"tau\":", status.tau(), "}") : absl::StrCat(status.tau())) << "\n";
    return kOk;
  }
  v1::SetTauRequest request;
  double tau = 0;
  if (!absl::SimpleAtod(text, &tau)) {
    std::cerr << "goadctl: tau: \"" << text << "\" is not a number in 0..1\n";
    return kUsage;
  }
  request.set_tau(tau);
  v1::SetTauResponse response;
  if (const int failed = Call(context, &v1::Admin::Stub::SetTau, request, &response)) return failed;
  if (context.json) return PrintJson(response), kOk;
  std::cout << "tau is " << tau << " until the next reload\n";
  return kOk;
}

int Policy(const Context& context, const std::string& name) {
  if (name.empty()) {
    v1::StatusResponse status;
    if (const int failed = Call(context, &v1::Admin::Stub::Status, v1::StatusRequest(), &status)) return failed;
    std::cout << (context.json ? absl::StrCat("{\"policy\":\"", status.policy(), "\"}") : status.policy()) << "\n";
    return kOk;
  }
  v1::SetPolicyRequest request;
  request.set_policy(name);
  request.set_trial_s(absl::ToDoubleSeconds(context.trial));
  v1::SetPolicyResponse response;
  if (const int failed = Call(context, &v1::Admin::Stub::SetPolicy, request, &response)) return failed;
  if (context.json) return PrintJson(response), kOk;
  std::cout << "policy is " << name;
  if (context.trial > absl::ZeroDuration()) {
    std::cout << " for " << absl::FormatDuration(context.trial) << ", then what it was before\n";
  } else {
    std::cout << " until the next reload\n";
  }
  return kOk;
}

int Kick(const Context& context, const std::string& session) {
  v1::KickRequest request;
  request.set_session_id(session);
  v1::KickResponse response;
  if (const int failed = Call(context, &v1::Admin::Stub::Kick, request, &response)) return failed;
  if (context.json) return PrintJson(response), kOk;
  std::cout << session << " is ended\n";
  return kOk;
}

int DrainSite(const Context& context, v1::DrainSiteRequest request, const std::string& what, const std::string& verb) {
  if (verb != "drain" && verb != "resume") {
    std::cerr << "goadctl: \"" << verb << "\" is not drain or resume\n";
    return kUsage;
  }
  request.set_resume(verb == "resume");
  v1::DrainSiteResponse response;
  if (const int failed = Call(context, &v1::Admin::Stub::DrainSite, request, &response)) return failed;
  if (context.json) return PrintJson(response), kOk;
  std::cout << what
            << (request.resume()
                    ? " takes queries again\n"
                    : " takes nothing new, and finishes what it has; a reload leaves it so, a restart does not\n");
  return kOk;
}

int Site(const Context& context, const std::string& site) {
  v1::DrainSiteRequest request;
  request.set_site(site);
  return DrainSite(context, request, site, context.arguments[1]);
}

int Backend(const Context& context, const std::string& site) {
  v1::DrainSiteRequest request;
  request.set_site(site);
  request.set_backend(context.arguments[1]);
  return DrainSite(context, request, absl::StrCat(site, " ", context.arguments[1]), context.arguments[2]);
}

int Drain(const Context& context, const std::string&) {
  v1::DrainResponse response;
  if (const int failed = Call(context, &v1::Admin::Stub::Drain, v1::DrainRequest(), &response)) return failed;
  if (context.json) return PrintJson(response), kOk;
  std::cout << "draining: no new queries, what runs is finished, then goad stops\n";
  return kOk;
}

int Reload(const Context& context, const std::string&) {
  v1::ReloadResponse response;
  if (const int failed = Call(context, &v1::Admin::Stub::Reload, v1::ReloadRequest(), &response)) return failed;
  if (context.json) return PrintJson(response), kOk;
  for (const std::string& warning : response.warnings()) std::cout << "warning: " << warning << "\n";
  std::cout << "reloaded: configuration version " << response.config_version() << "\n";
  return kOk;
}

// grpc.health.v1.Health/Check. Debian ships no health.proto, so its two messages are taken as bytes: an empty
// HealthCheckRequest (the whole server), and a HealthCheckResponse whose only field is status = 1, SERVING.
int Health(const Context& context, const std::string&) {
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub(context.channel);
  grpc::ClientContext call;
  call.set_deadline(absl::ToChronoTime(absl::Now() + context.timeout));
  const grpc::Slice nothing("");
  const grpc::ByteBuffer request(&nothing, 1);
  grpc::ByteBuffer response;
  grpc::CompletionQueue queue;
  grpc::Status status;
  const auto reader = stub.PrepareUnaryCall(&call, "/grpc.health.v1.Health/Check", request, &queue);
  reader->StartCall();
  reader->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (const int failed = Report(context, status)) return failed;
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (response.Dump(&slices).ok()) {
    for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  const bool serving = bytes == std::string("\x08\x01");
  std::cout << (context.json ? (serving ? "{\"serving\":true}" : "{\"serving\":false}")
                             : (serving ? "serving" : "not serving"))
            << "\n";
  return serving ? kOk : kRefused;
}

int Check(const Context& context, const std::string& file) {
  const auto config = server::LoadConfig(file);
  if (context.json) {
    const std::vector<std::string> problems = absl::StrSplit(config.status().message(), '\n', absl::SkipEmpty());
    std::cout << "{\"good\":" << (config.ok() ? "true" : "false") << ",\"problems\":" << JsonText(problems)
              << ",\"warnings\":" << JsonText(config.ok() ? config->warnings : std::vector<std::string>()) << "}\n";
    return config.ok() ? kOk : kRefused;
  }
  if (!config.ok()) {
    std::cerr << std::string(config.status().message()) << "\n";
    return kRefused;
  }
  for (const std::string& warning : config->warnings) std::cout << file << ": warning: " << warning << "\n";
  std::cout << file << ": good\n";
  return kOk;
}

int PrintCompletion(const Context&, const std::string& shell) {
  const std::string script = Completion(shell);
  if (script.empty()) {
    std::cerr << "goadctl: completion: \"" << shell << "\" is not bash or zsh\n";
    return kUsage;
  }
  std::cout << script;
  return kOk;
}

}  // namespace

const std::vector<Command>& Commands() {
  static const std::vector<Command> commands = {
      {"status", "", "what goad is doing", true, &Status},
      {"sites", "", "sites and their LLM servers", true, &Sites},
      {"tenants", "", "what each tenant holds, may and was refused, and by which limit", true, &Tenants},
      {"promise", "", "the accuracy that is promised, its price, and whether it is kept", true, &Promise},
      {"sessions", "", "connected devices (--limit)", true, &Sessions},
      {"epochs", "", "the last epochs (--limit); --watch: as they are decided", true, &Epochs},
      {"top", "", "a live full-screen view; q or Ctrl-C ends it", true, &Top},
      {"explain", "QUERY", "the costs that led to a recent decision", true, &Explain},
      {"log", "[FILE]", "the decision log: --since 14:00 --tenant NAME --limit N; FILE where goad runs elsewhere", true,
       &Log},
      {"ask", "QUESTION", "one question end to end, as a device asks it", true, &Ask},
      {"tau", "[TAU]", "show tau, or set it (0..1) until the next reload", true, &Tau},
      {"policy", "[NAME]", "show the policy, or set it until the next reload or --for a time", true, &Policy},
      {"kick", "SESSION", "end one session (its name as in sessions); the device may come again", true, &Kick},
      {"site", "SITE drain|resume", "nothing new to a site, what runs there is finished; or take it back", true, &Site},
      {"backend", "SITE URL drain|resume", "the same for one of its LLM servers, by URL or number from 0", true,
       &Backend},
      {"drain", "", "no new queries, finish what runs, stop", true, &Drain},
      {"reload", "", "read the configuration file again", true, &Reload},
      {"health", "", "exit status 0 when it serves; ask the device listener: --address HOST:7443", true, &Health},
      {"check", "FILE", "list what is wrong with a configuration file", false, &Check},
      {"completion", "SHELL", "print the completion script for bash or zsh", false, &PrintCompletion},
  };
  return commands;
}

std::string StateOf(const v1::SiteStatus& site) {
  if (site.removed()) return "removed";
  if (site.draining()) return "draining";
  if (site.accepting()) return "up";
  int draining = 0, other = 0;
  for (const v1::BackendStatus& backend : site.backends()) {
    if (!backend.removed()) ++(backend.draining() ? draining : other);
  }
  if (draining > 0 && other == 0) return "draining";
  for (const char* state : {"loading", "half-open"}) {
    for (const v1::BackendStatus& backend : site.backends()) {
      if (backend.state() == state) return state;
    }
  }
  return "DOWN";
}

}  // namespace goad::ctl
