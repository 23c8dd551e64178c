// Logs of old are read for ever: each data/compat/decisions-*.jsonl is decided again bit for bit by the policy that
// wrote it, and what a line of another time does not hold has its neutral value.
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "scheduler/policy.h"
#include "server/sim/fit.h"
#include "server/sim/replay.h"
#include "server/telemetry/outcome_json.h"
#include "server/telemetry/snapshot_json.h"

namespace goad::server {
namespace {

using nlohmann::json;

std::vector<std::string> Logs() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(GOAD_TEST_DATA "/compat")) {
    if (entry.path().filename().string().rfind("decisions-", 0) == 0) paths.push_back(entry.path());
  }
  return paths;
}

std::vector<json> LinesOf(const std::string& path, const char* kind) {
  std::vector<json> lines;
  std::ifstream in(path);
  for (std::string text; std::getline(in, text);) {
    json line = json::parse(text, nullptr, false);
    if (line.is_object() && line.at("kind") == kind) lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<json> All(const char* kind) {
  std::vector<json> all;
  for (const std::string& path : Logs()) {
    for (json& line : LinesOf(path, kind)) all.push_back(std::move(line));
  }
  return all;
}
std::vector<json> AllSnapshots() { return All("snapshot"); }

// What replay says of this one line.
struct Replayed {
  absl::Status status;
  ReplayReport report;
};
Replayed ReplayLine(const json& line) {
  Replayed replayed;
  std::istringstream in(line.dump());
  replayed.status = Replay(in, "line", {}, &replayed.report);
  return replayed;
}

json Written(const LoggedEpoch& epoch) {
  EpochRecord record;
  record.policy = epoch.policy;
  record.lambda_s = epoch.lambda_s;
  record.snapshot = epoch.snapshot;
  record.result.order = epoch.order;
  return ToJson(record);
}

// `now` without the fields that `then` does not have.
json Kept(json now, const json& then) {
  if (now.is_object() && then.is_object()) {
    json kept = json::object();
    for (const auto& [name, value] : now.items()) {
      if (then.contains(name)) kept[name] = Kept(value, then.at(name));
    }
    return kept;
  }
  if (now.is_array() && then.is_array() && now.size() == then.size()) {
    for (size_t k = 0; k < now.size(); ++k) now[k] = Kept(now[k], then[k]);
  }
  return now;
}

TEST(OldDecisionLog, IsDecidedAgainBitForBit) {
  ASSERT_FALSE(Logs().empty());
  for (const std::string& path : Logs()) {
    std::ifstream in(path, std::ios::binary);
    ReplayReport report;
    const absl::Status status = Replay(in, path, {}, &report);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_GT(report.epochs, 0u) << path;
    EXPECT_TRUE(report.differing.empty()) << FormatReplay(report, {});
    EXPECT_EQ(report.logged.delay_s, report.replayed.delay_s) << path;
  }
}

// So that the above means something.
TEST(OldDecisionLog, HoldsWhatThereIsToHold) {
  std::set<std::string> policies, uplinks, computes;
  std::map<std::string, int> lines;
  for (const json& line : AllSnapshots()) {
    policies.insert(line.at("policy"));
    lines["residents"] += !line.at("residents").empty();
    lines["caps"] += !line.at("tenant_caps").empty();
    lines["assigned"] += line.at("order").size() > 1;
    for (const json& site : line.at("sites")) {
      uplinks.insert(site.at("uplink"));
      computes.insert(site.at("compute"));
      lines["no chat"] += !site.at("chat").get<bool>();
      lines["draining"] += site.value("draining", false);  // came with decisions-2
      lines["interference"] += site.at("resident_interference_w").get<double>() > 0;
      lines["own rate"] += site.at("uplink") == "measured" && !site.at("uplink_shared").get<bool>();
    }
    for (const json& candidate : line.at("candidates")) {
      lines["chat"] += candidate.at("chat").get<bool>();
      lines["forced"] += candidate.at("must_offload").get<bool>();
      lines["stale"] += candidate.at("link_stale").get<bool>();
      lines["deadline"] += !candidate.at("deadline_s").is_null();
      lines["inline"] += candidate.at("prompt_bits") == 0;
      lines["own tau"] += candidate.contains("tau") && !candidate.at("tau").is_null();  // came with decisions-4
    }
  }
  for (const std::string& policy : sched::ServingPolicyNames()) EXPECT_EQ(policies.count(policy), 1u) << policy;
  EXPECT_EQ(uplinks, (std::set<std::string>{"measured", "shannon"}));
  EXPECT_EQ(computes, (std::set<std::string>{"batching", "equal_share"}));
  for (const char* what : {"residents", "caps", "assigned", "chat", "no chat", "forced", "stale", "deadline", "inline",
                           "interference", "own rate", "draining", "own tau"}) {
    EXPECT_GT(lines[what], 0) << what;
  }
}

// A line as a goad would have written it that knew nothing of what lies beyond the paper's model.
TEST(OldDecisionLog, AMissingFieldIsItsNeutralValue) {
  const json neutral_site = {{"max_share_flops", nullptr},
                             {"work_flop_per_token", 0.0},
                             {"uplink_shared", true},
                             {"overhead_s", 0.0},
                             {"prefill_tokens_per_s", 0.0},
                             {"token_time_s", 0.0},
                             {"token_time_per_query_s", 0.0},
                             {"backends", 1},
                             {"active_uplinks", 0},
                             {"active_queries", 0},
                             {"accepting", true},
                             {"draining", false},
                             {"chat", true},
                             {"resident_interference_w", 0.0},
                             {"max_queries", 2147483647},
                             {"uplink", "shannon"},
                             {"compute", "equal_share"}};
  const json neutral_candidate = {{"deadline_s", nullptr}, {"round_trip_s", 0.0},           {"prompt_tokens", 0.0},
                                  {"tenant", 0},           {"expected_output_tokens", 0.0}, {"chat", false},
                                  {"must_offload", false}, {"link_stale", false},           {"tau", nullptr}};
  const json neutral_top = {
      {"residents", json::array()}, {"uplink_bps", json::array()}, {"tenant_caps", json::array()}, {"seed", 0}};
  int whole = 0;
  for (const json& line : AllSnapshots()) {
    json full = line, bare = line;
    full.erase("time");  // of the line, not of the snapshot; came with decisions-4
    bare.erase("time");
    full.update(neutral_top);
    for (const auto& [name, value] : neutral_top.items()) bare.erase(name);
    for (size_t j = 0; j < line.at("sites").size(); ++j) {
      full["sites"][j].update(neutral_site);
      full["sites"][j].erase("name");  // for people; nobody reads it back
      if (full["sites"][j]["compute_flops"] == 0.0) full["sites"][j]["compute_flops"] = 1e15;
      bare["sites"][j] = full["sites"][j];
      for (const auto& [name, value] : neutral_site.items()) bare["sites"][j].erase(name);
    }
    for (size_t i = 0; i < line.at("candidates").size(); ++i) {
      full["candidates"][i].update(neutral_candidate);
      for (const auto& [name, value] : neutral_candidate.items()) bare["candidates"][i].erase(name);
    }
    const auto from_full = LoggedEpochFromJson(full), from_bare = LoggedEpochFromJson(bare);
    ASSERT_TRUE(from_full.ok()) << from_full.status();
    ASSERT_TRUE(from_bare.ok()) << from_bare.status();
    const json read_full = Written(*from_full), read_bare = Written(*from_bare);
    EXPECT_EQ(read_bare, read_full);
    EXPECT_EQ(Kept(read_full, full), full);  // what came later aside
    // Both are decided, and alike.
    const Replayed of_full = ReplayLine(full), of_bare = ReplayLine(bare);
    EXPECT_EQ(of_bare.status, of_full.status);
    EXPECT_EQ(of_bare.report.replayed.delay_s, of_full.report.replayed.delay_s);
    EXPECT_EQ(of_bare.report.replayed.offloaded, of_full.report.replayed.offloaded);
    whole += of_full.status.ok();
  }
  EXPECT_GT(whole, 20);
}

// Each optional field on its own, where it is neutral anyway: the same decision bit for bit.
TEST(OldDecisionLog, ANeutralFieldMayBeAbsent) {
  int left_out = 0;
  const json neutral = {{"accepting", true},
                        {"chat", true},
                        {"uplink", "shannon"},
                        {"work_flop_per_token", 0.0},
                        {"max_share_flops", nullptr},
                        {"uplink_shared", true},
                        {"resident_interference_w", 0.0}};
  for (json line : AllSnapshots()) {
    for (json& site : line["sites"]) {
      for (const auto& [name, value] : neutral.items()) {
        if (site.at(name) == value) left_out += static_cast<int>(site.erase(name));
      }
    }
    if (line["residents"].empty()) line.erase("residents");
    if (line["tenant_caps"].empty()) line.erase("tenant_caps");
    const Replayed replayed = ReplayLine(line);
    ASSERT_TRUE(replayed.status.ok()) << replayed.status;
    EXPECT_TRUE(replayed.report.differing.empty()) << replayed.report.differing[0];
  }
  EXPECT_GT(left_out, 100);
}

TEST(OldDecisionLog, AFieldOfTheFutureIsPassedOver) {
  for (json line : AllSnapshots()) {
    line["future"] = {{"x", 1}};
    for (json& site : line["sites"]) site["name_of_the_future"] = "a";
    for (json& candidate : line["candidates"]) candidate["future"] = json::array();
    const Replayed replayed = ReplayLine(line);
    ASSERT_TRUE(replayed.status.ok()) << replayed.status;
    EXPECT_TRUE(replayed.report.differing.empty()) << replayed.report.differing[0];
  }
}

// Without these there is nothing to decide, and a guess would be a lie.
TEST(OldDecisionLog, WhatThePapersModelNeedsMustBeThere) {
  const json line = AllSnapshots().at(0);
  const auto without = [&](const auto& erase) {
    json damaged = line;
    erase(damaged);
    return LoggedEpochFromJson(damaged).status();
  };
  for (const char* name : {"epoch", "policy", "lambda_s", "tau", "sites", "candidates", "gain", "order"}) {
    EXPECT_NE(without([&](json& l) { l.erase(name); }).message().find(name), std::string::npos) << name;
  }
  for (const char* name : {"bandwidth_hz", "noise_w", "compute_flops"}) {
    EXPECT_NE(without([&](json& l) { l["sites"][0].erase(name); }).message().find(name), std::string::npos) << name;
  }
  for (const char* name : {"id", "uncertainty", "prompt_bits", "tx_power_w", "local_delay_s", "edge_work_flop"}) {
    EXPECT_NE(without([&](json& l) { l["candidates"][0].erase(name); }).message().find(name), std::string::npos)
        << name;
  }
  EXPECT_FALSE(without([&](json& l) { l["sites"][0]["uplink"] = "of the future"; }).ok());
  EXPECT_FALSE(without([&](json& l) { l["sites"][0]["compute"] = 7; }).ok());
}

// Outcomes came with decisions-3.
TEST(OldDecisionLog, EveryOutcomeIsUnderstood) {
  std::set<std::string> endings;
  std::map<std::string, int> lines;
  for (const json& line : All("outcome")) {
    const auto outcome = OutcomeFromJson(line);
    ASSERT_TRUE(outcome.ok()) << outcome.status() << line;
    EXPECT_EQ(Kept(ToJson(*outcome), line), [&] {
      json untimed = line;
      untimed.erase("time");  // the log's own; nobody reads it back
      return untimed;
    }());
    endings.insert(line.at("ended"));
    lines["upload"] += outcome->upload_s.has_value();
    lines["no upload"] += outcome->prompt_bits == 0;
    lines["link sample"] += outcome->sharers.has_value();
    lines["sample"] += outcome->computed_tokens.has_value();
    lines["completed, no sample"] += outcome->compute_s.has_value() && !outcome->computed_tokens;
    lines["not batching"] += !outcome->configured.has_value();
  }
  EXPECT_EQ(endings, (std::set<std::string>{"cancelled", "completed", "drained", "expired", "failed"}));
  for (const char* what : {"upload", "no upload", "link sample", "sample", "completed, no sample", "not batching"}) {
    EXPECT_GT(lines[what], 0) << what;
  }
  for (const std::string& path : Logs()) {
    std::ifstream in(path, std::ios::binary);
    EXPECT_TRUE(Fit().Read(in, path).ok()) << path;
  }
}

TEST(OldDecisionLog, AnOutcomeNeedsItsTimeItsSiteAndItsEnd) {
  const json bare = {{"at_s", 1}, {"site", "a"}, {"ended", "completed"}, {"of the future", 1}};
  ASSERT_TRUE(OutcomeFromJson(bare).ok());
  EXPECT_FALSE(OutcomeFromJson(bare)->compute_s.has_value());
  for (const char* name : {"at_s", "site", "ended"}) {
    json damaged = bare;
    damaged.erase(name);
    EXPECT_NE(OutcomeFromJson(damaged).status().message().find(name), std::string::npos) << name;
  }
  const json beyond = {{"at_s", -1},           {"site", 7},       {"ended", "in tears"},
                       {"compute_s", -0.1},    {"upload_s", "1"}, {"queries", json::array()},
                       {"output_tokens", 3e9}, {"configured", 1}};
  for (const auto& [name, value] : beyond.items()) {
    json damaged = bare;
    damaged[name] = value;
    const absl::Status status = OutcomeFromJson(damaged).status();
    EXPECT_NE(status.message().find(name), std::string::npos) << name << ": " << status;
    EXPECT_NE(status.message().find(value.dump()), std::string::npos) << name << ": " << status;
  }
  json damaged = bare;
  damaged["configured"] = {{"prefill_tokens_per_s", 0}};
  EXPECT_EQ(OutcomeFromJson(damaged).status().message(), "configured.prefill_tokens_per_s: 0 is not at least 1e-9");
}

}  // namespace
}  // namespace goad::server
