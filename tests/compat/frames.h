// Recorded sessions: what an app called, what its SDK sent, what goad answered and what the app heard, line by line in
// the order in which the device saw it. Written by record_frames, read by frames_test.
//
//   # a comment
//   app ask {"id": ...}       what the app called, with its arguments as JSON: ask, cancel, links, local
//   device 0A1B  # text       a DeviceFrame in hex
//   ask 0A1B  # text          an AskRequest: the session is one call of Offload.Ask
//   server 0A1B  # text       a ServerFrame
//   heard {"done": ...}       what the app heard
#ifndef GOAD_TESTS_COMPAT_FRAMES_H_
#define GOAD_TESTS_COMPAT_FRAMES_H_

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client_sdk/src/client_core.h"
#include "goad/client.h"
#include "goad/v1/offload.pb.h"
#include "nlohmann/json.hpp"
#include "server/config/config.h"

namespace goad::compat {

struct TraceLine {
  std::string kind;   // app, device, ask, server, heard
  std::string value;  // bytes of a frame; else the text
};

class Trace {
 public:
  static Trace Read(const std::string& path) {
    Trace trace;
    std::ifstream in(path);
    for (std::string text; std::getline(in, text);) {
      if (text.empty() || text[0] == '#') continue;
      const std::pair<std::string, std::string> line = absl::StrSplit(text, absl::MaxSplits(' ', 1));
      const bool frame = line.first == "device" || line.first == "ask" || line.first == "server";
      trace.lines_.push_back(
          {line.first, frame ? absl::HexStringToBytes(line.second.substr(0, line.second.find(' '))) : line.second});
    }
    return trace;
  }
  void Comment(const std::string& text) { text_ += absl::StrCat("# ", text, "\n"); }
  void Text(const std::string& kind, const std::string& text) { text_ += absl::StrCat(kind, " ", text, "\n"); }
  void Frame(const std::string& kind, const google::protobuf::Message& frame) {
    text_ += absl::StrCat(kind, " ", absl::BytesToHexString(frame.SerializeAsString()), "  # ",
                          frame.ShortDebugString().substr(0, 200), "\n");
  }
  bool Write(const std::string& path) const {
    std::ofstream out(path, std::ios::binary);
    out << text_;
    return static_cast<bool>(out.flush());
  }
  const std::vector<TraceLine>& lines() const { return lines_; }

 private:
  std::vector<TraceLine> lines_;
  std::string text_;
};

// What the daemon was started with, but for addresses. What devices are told is set here, so that other defaults change
// nothing.
inline server::Config RecordedConfig() {
  server::Config config;
  config.sites.resize(2);
  config.sites[0].name = "radio";
  config.sites[0].uplink.model = sched::UplinkModel::kShannon;
  config.sites[0].backends.resize(1);
  config.sites[1].name = "rate";
  config.sites[1].backends.resize(1);
  config.sites[1].backends[0].api = server::BackendApi::kChat;
  config.sites[1].backends[0].images = true;
  config.sites[1].backends[0].context = 8192;
  config.neighbours = {{"north.example:7443", {"hill", "mill"}}};
  config.kinds = {"question", "summary"};
  config.policy.tau = 0.8;
  config.epoch.period = absl::Milliseconds(20);
  config.epoch.min_period = absl::Milliseconds(2);
  config.limits.prompt_bytes = 256 << 10;
  config.limits.max_output_tokens = 1024;
  config.limits.link_max_age = absl::Seconds(2);
  config.limits.retry_after = absl::Seconds(1);
  config.limits.frames_per_second = 500;
  config.limits.grant = absl::Milliseconds(300);
  config.limits.queries_per_session = 2;
  return config;
}

// An app on the SDK's core: calls what "app" lines say, and says what it hears as JSON.
class App {
 public:
  using Json = nlohmann::json;

  explicit App(std::function<void(const std::string&)> heard) : heard_(std::move(heard)), core_(Options(), 1) {}

  internal::ClientCore& core() { return core_; }

  void Hear(uint64_t generation, const v1::ServerFrame& frame, internal::Instant now) {
    core_.OnFrame(generation, frame, now);
    if (!frame.has_sites()) return;  // no callback tells of it: an app asks
    Json sites = Json::array();
    for (const Site& site : core_.sites()) sites.push_back({site.name, site.measured, site.chat});
    Say({{"sites", sites}});
  }

  void Call(const std::string& line, internal::Instant now) {
    const std::pair<std::string, std::string> call = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    const Json arguments = Json::parse(call.second);
    if (call.first == "ask") Ask(arguments, now);
    if (call.first == "cancel") core_.Cancel(arguments.get<std::string>(), now);
    if (call.first == "local") core_.ReportLocal(arguments[0], absl::Seconds(arguments[1].get<double>()), now);
    if (call.first == "links") {
      std::vector<Link> links;
      for (const Json& row : arguments) {
        Link link{.site = row.at("site")};
        if (row.contains("gain_db")) link.gain_db = row["gain_db"];
        if (row.contains("rsrp_dbm")) link.rsrp_dbm = row["rsrp_dbm"];
        if (row.contains("uplink_snr_db")) link.uplink_snr_db = row["uplink_snr_db"];
        if (row.contains("uplink_bps")) link.uplink_bps = row["uplink_bps"];
        links.push_back(std::move(link));
      }
      core_.ReportLinks(std::move(links), now);
    }
  }

 private:
  ClientOptions Options() {
    ClientOptions options;
    options.device_name = "phone-17";
    options.local_model = "small-1b";
    options.tx_power_dbm = 20;
    options.decision_budget = absl::Minutes(1);
    options.on_problem = [this](const Problem& problem) { Say({{"problem", problem.code}}); };
    return options;
  }
  void Ask(const Json& row, internal::Instant now) {
    Query query;
    const std::string id = query.id = row.at("id");
    if (row.contains("uncertainty")) query.uncertainty = row["uncertainty"];
    for (const Json& entry : row.value("first_token", Json::array())) query.first_token.push_back({entry[0], entry[1]});
    query.must_offload = row.value("must_offload", false);
    query.prompt = row.value("prompt", "");
    for (const Json& entry : row.value("chat", Json::array())) query.chat.emplace_back(entry[0], entry[1]);
    for (const Json& entry : row.value("messages", Json::array())) query.messages_json.push_back(entry.dump());
    if (row.contains("options")) query.options_json = row["options"].dump();
    query.reasoning = row.value("reasoning", false);
    query.prompt_tokens = row.value("prompt_tokens", 0);
    query.max_output_tokens = row.value("max_output_tokens", 0);
    if (row.contains("expected_output_tokens")) query.expected_output_tokens = row["expected_output_tokens"];
    query.kind = row.value("kind", "");
    query.local_delay = absl::Seconds(row.value("local_delay_s", 0.0));
    if (row.contains("deadline_s")) query.deadline = absl::Seconds(row["deadline_s"].get<double>());
    if (row.contains("edge_work_flop")) query.edge_work_flop = row["edge_work_flop"];
    query.temperature = row.value("temperature", 0.0);
    for (const Json& entry : row.value("stop", Json::array())) query.stop.push_back(entry);
    if (row.contains("seed")) query.seed = row["seed"];
    AskCallbacks callbacks;
    callbacks.on_decision = [this, id](const Decision& decision) {
      Say({{"decision", id},
           {"offload", decision.offload},
           {"reason", decision.reason},
           {"site", decision.site},
           {"epoch", decision.epoch},
           {"upload_within_s", absl::ToDoubleSeconds(decision.upload_within)},
           {"retry", decision.retry_after > absl::ZeroDuration()}});
    };
    if (row.value("never_upload", false)) callbacks.on_grant = [](const Decision&, std::function<void()>) {};
    callbacks.on_text = [this, id](const std::string& text) { Say({{"text", text}, {"of", id}}); };
    callbacks.on_done = [this, id](const Answer& answer) {
      Json calls = Json::array();
      for (const ToolCall& call : answer.tool_calls) calls.push_back({call.id, call.name, call.arguments});
      if (!calls.empty() || !answer.reasoning.empty() || answer.refusal) {
        Say({{"calls", calls}, {"reasoning", answer.reasoning}, {"refusal", answer.refusal}, {"of", id}});
      }
      Say({{"done", id},
           {"edge", answer.source == Answer::Source::kEdge},
           {"text", answer.text},
           {"why_local", answer.why_local},
           {"finish_reason", answer.finish_reason},
           {"backend", answer.backend},
           {"prompt_tokens", answer.prompt_tokens},
           {"output_tokens", answer.output_tokens},
           {"ttft_s", absl::ToDoubleSeconds(answer.ttft)},
           {"compute_s", absl::ToDoubleSeconds(answer.compute)}});
    };
    core_.Ask(
        std::move(query), std::move(callbacks), [] {}, now);
  }
  void Say(const Json& what) { heard_(what.dump()); }

  const std::function<void(const std::string&)> heard_;
  internal::ClientCore core_;
};

}  // namespace goad::compat

#endif  // GOAD_TESTS_COMPAT_FRAMES_H_
