#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <sstream>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/config_loader.h"
#include "server/config/config_validator.h"

namespace goad::server {
namespace {

constexpr char kSmall[] = "sites: [{name: a, backends: [{url: \"http://127.0.0.1:1\"}]}]\n";

std::string Problems(const std::string& yaml) { return std::string(ParseConfig("f.yaml", yaml).status().message()); }

TEST(ConfigLoader, ReferenceFileHoldsEveryDefault) {
  std::ifstream in(std::string(GOAD_SOURCE_DIR) + "/deploy/goad.yaml");
  const auto file = ParseConfig("goad.yaml", std::string(std::istreambuf_iterator<char>(in), {}));
  ASSERT_TRUE(file.ok()) << file.status();
  Config defaults;
  SiteConfig site;
  site.name = "cell-a";
  BackendConfig backend;
  backend.url = "http://127.0.0.1:8082";
  site.backends = {backend};
  defaults.sites = {site};
  EXPECT_TRUE(RestartOnlyChanges(defaults, *file).empty());
  EXPECT_EQ(file->epoch.period, defaults.epoch.period);
  EXPECT_EQ(file->epoch.min_period, defaults.epoch.min_period);
  EXPECT_EQ(file->policy.name, defaults.policy.name);
  EXPECT_EQ(file->policy.tau, defaults.policy.tau);
  EXPECT_EQ(file->policy.lambda_s, defaults.policy.lambda_s);
  EXPECT_TRUE(file->auth.tokens_file.empty() && !file->auth.required && file->tenants.empty() && file->kinds.empty());
  const UplinkConfig &u = file->sites[0].uplink, &du = site.uplink;
  EXPECT_TRUE(u.model == du.model && u.bandwidth_hz == du.bandwidth_hz && u.shared == du.shared &&
              u.noise_density_dbm_hz == du.noise_density_dbm_hz && u.reference_power_dbm == du.reference_power_dbm);
  const ComputeConfig &c = file->sites[0].compute, &dc = site.compute;
  EXPECT_TRUE(c.model == dc.model && c.prefill_tokens_per_s == dc.prefill_tokens_per_s && c.learn == dc.learn &&
              c.overhead_s == dc.overhead_s && c.token_time_s == dc.token_time_s &&
              c.token_time_per_query_s == dc.token_time_per_query_s);
  EXPECT_EQ(file->sites[0].max_queries, site.max_queries);
  const BackendConfig& b = file->sites[0].backends[0];
  EXPECT_TRUE(b.first_byte == backend.first_byte && b.probe.path == backend.probe.path &&
              b.probe.timeout == backend.probe.timeout);
  const LimitsConfig &l = file->limits, &dl = defaults.limits;
  EXPECT_TRUE(l.sessions == dl.sessions && l.queries_per_session == dl.queries_per_session &&
              l.sessions_per_identity == dl.sessions_per_identity && l.frames_per_second == dl.frames_per_second &&
              l.waiting_queries == dl.waiting_queries && l.prompt_bytes == dl.prompt_bytes &&
              l.inline_prompt_bytes == dl.inline_prompt_bytes && l.outbox_bytes == dl.outbox_bytes &&
              l.max_output_tokens == dl.max_output_tokens && l.link_max_age == dl.link_max_age &&
              l.mandatory_wait == dl.mandatory_wait && l.grant == dl.grant && l.slow_consumer == dl.slow_consumer &&
              l.retry_after == dl.retry_after);
  const DispatchConfig &d = file->dispatch, &dd = defaults.dispatch;
  EXPECT_TRUE(d.connect == dd.connect && d.first_byte == dd.first_byte && d.between_tokens == dd.between_tokens &&
              d.total == dd.total && d.probe_period == dd.probe_period && d.failures_to_open == dd.failures_to_open);
  EXPECT_EQ(file->log.level, defaults.log.level);
  EXPECT_EQ(file->drain_timeout, defaults.drain_timeout);
}

TEST(ConfigLoader, UnitsAreReadAndExact) {
  const auto config = ParseConfig("f", R"(
sites:
  - name: a
    uplink: {model: shannon, bandwidth: 20.5MHz, noise_density: -170dBm/Hz, reference_power: 15.5dBm}
    compute: {model: equal_share, capacity: 15PFLOP/s, max_share: 1.5e3TFLOP/s, parameters: 8e9}
    backends: [{url: "https://llm.example/api", api: chat, slots: 16}]
limits: {prompt: 1MiB, link_max_age: 1.5s}
decision_log: {snapshots: 1/7}
policy: {name: goa-relocate, lambda: 20ms}
)");
  ASSERT_TRUE(config.ok()) << config.status();
  const SiteConfig& site = config->sites[0];
  EXPECT_DOUBLE_EQ(site.uplink.bandwidth_hz, 20.5e6);
  EXPECT_DOUBLE_EQ(site.uplink.noise_density_dbm_hz, -170);
  EXPECT_DOUBLE_EQ(site.uplink.reference_power_dbm, 15.5);
  EXPECT_DOUBLE_EQ(site.compute.capacity_flops, 15e15);
  EXPECT_DOUBLE_EQ(site.compute.max_share_flops, 1.5e15);
  EXPECT_DOUBLE_EQ(site.compute.parameters, 8e9);
  EXPECT_EQ(config->limits.prompt_bytes, 1 << 20);
  EXPECT_EQ(config->limits.link_max_age, absl::Milliseconds(1500));
  EXPECT_EQ(config->decision_log.snapshot_every, 7);
  EXPECT_DOUBLE_EQ(config->policy.lambda_s, 0.02);
}

TEST(ConfigLoader, FiveMistakesAreAllListedWithLineAndColumn) {
  EXPECT_EQ(
      Problems(R"(epoch: {period: 20ms, min_period: 30ms}
policy: {name: best, tau: 2}
sites:
  - name: Cell A
    backends:
      - {url: "localhost:80"}
)"),
      "f.yaml:1:23: epoch.min_period: 30ms is not in 0..20ms\n"
      "f.yaml:2:10: policy.name: \"best\" is not one of goa, goa-relocate, min-delay, all-edge, all-local, random\n"
      "f.yaml:2:22: policy.tau: 2 is not in 0..1\n"
      "f.yaml:4:5: sites[0].name: \"Cell A\" is not 1 to 63 of a-z 0-9 - _ .\n"
      "f.yaml:6:10: sites[0].backends[0].url: \"localhost:80\" is not http[s]://HOST[:PORT][/PATH] without /v1");
}

TEST(ConfigLoader, ABackendMayHaveItsOwnFirstByte) {
  const auto site = [](const char* first_byte) {
    return std::string("sites: [{name: a, backends: [{url: \"http://x:1\", first_byte: ") + first_byte + "}]}]\n";
  };
  EXPECT_EQ(ParseConfig("f.yaml", site("2m"))->sites[0].backends[0].first_byte, absl::Minutes(2));
  EXPECT_EQ(ParseConfig("f.yaml", site("0ms"))->sites[0].backends[0].first_byte, absl::ZeroDuration());
  EXPECT_NE(Problems(site("2h")).find("sites[0].backends[0].first_byte: 2h is not in 0..1h"), std::string::npos)
      << Problems(site("2h"));
  EXPECT_NE(Problems(site("-1s")), "");
}

TEST(ConfigLoader, UnknownAndDuplicateKeysAndWrongTypesAreMistakes) {
  EXPECT_EQ(Problems(std::string(kSmall) + "polcy: {tau: 1}\n").substr(0, 34), "f.yaml:2:1: polcy: unknown key; kn");
  EXPECT_EQ(Problems(std::string(kSmall) + "policy: {tau: 0.1, tau: 0.2}\n"),
            "f.yaml:2:20: policy.tau: is given twice");
  EXPECT_EQ(Problems(std::string(kSmall) + "policy: {tau: .nan}\n"),
            "f.yaml:2:15: policy.tau: \".nan\" is not a finite number (without leading zeros)");
  EXPECT_EQ(Problems(std::string(kSmall) + "epoch: {period: 20}\n"),
            "f.yaml:2:17: epoch.period: \"20\" is not a duration such as 20ms, 2s or 1m");
  EXPECT_EQ(Problems(std::string(kSmall) + "limits: [1]\n"), "f.yaml:2:9: limits: is not a map");
  EXPECT_EQ(Problems(std::string(kSmall) + "limits: {sessions: }\n"), "f.yaml:2:10: limits.sessions: has no value");
  EXPECT_EQ(Problems("sites: [}").substr(0, 18), "f.yaml:1:9: YAML: ");
  EXPECT_NE(Problems("").find("sites: 0 entries, want 1 to 64"), std::string::npos);
  EXPECT_NE(Problems("just text").find("configuration: is not a map"), std::string::npos);
  EXPECT_EQ(Problems(kSmall), "");
}

TEST(ConfigLoader, TheCommentedTenantOfTheReferenceIsTheDefaultOne) {
  std::ifstream in(std::string(GOAD_SOURCE_DIR) + "/deploy/goad.yaml");
  std::string yaml(std::istreambuf_iterator<char>(in), {});
  const size_t from = yaml.find("tenants: []\n"), to = yaml.find("\nsites:");
  ASSERT_LT(from, to);
  std::string rows = yaml.substr(from + 12, to - from - 12), tenants = "tenants:\n";
  std::istringstream lines(rows);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) tenants += line.substr(1) + "\n";  // without the #
  }
  const auto config = ParseConfig("f", std::string(kSmall) + tenants);
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->tenants.size(), 1u);
  const TenantConfig &tenant = config->tenants[0], defaults;
  EXPECT_EQ(tenant.name, "acme");
  EXPECT_EQ(tenant.certificates, std::vector<std::string>{"*.acme.example"});
  EXPECT_TRUE(tenant.weight == defaults.weight && tenant.max_queries == defaults.max_queries &&
              tenant.queries_per_second == defaults.queries_per_second &&
              tenant.prompt_tokens_per_minute == defaults.prompt_tokens_per_minute &&
              tenant.max_offloaded_share == defaults.max_offloaded_share);
}

TEST(ConfigLoader, KindsAreNamesEachOnce) {
  EXPECT_EQ(Problems(std::string(kSmall) + "kinds: [chat, \"a b\", chat]\n"),
            "f.yaml:2:1: kinds[1]: \"a b\" is not 1 to 63 of a-z 0-9 - _ .\n"
            "f.yaml:2:1: kinds[2]: \"chat\" is used twice");
  EXPECT_EQ(ParseConfig("f", std::string(kSmall) + "kinds: [chat, summary]\n")->kinds,
            (std::vector<std::string>{"chat", "summary"}));
}

TEST(Config, NeighboursHaveAddressesAndSitesOfTheirOwn) {
  const auto neighbours = [](const std::string& list) {
    return Problems(std::string(kSmall) + "neighbours: " + list + "\n");
  };
  EXPECT_EQ(neighbours("[{address: \"b.example:7443\", sites: [b1, b2]}, {address: \"[2001:db8::1]:1\"}]"), "");
  EXPECT_THAT(neighbours("[{address: \"unix:/x\"}]"), testing::HasSubstr("neighbours[0].address: \"unix:/x\" "));
  EXPECT_THAT(neighbours("[{sites: [b]}]"), testing::HasSubstr("neighbours[0].address: \"\" "));
  EXPECT_THAT(neighbours("[{address: \"b:0\"}]"),
              testing::HasSubstr("neighbours[0].address: \"b:0\" has port 0, want 1..65535"));
  EXPECT_THAT(neighbours("[{address: \"b:1\"}, {address: \"b:1\"}]"),
              testing::HasSubstr("neighbours[1].address: \"b:1\" is used twice"));
  EXPECT_THAT(neighbours("[{address: \"b:1\", sites: [b, a]}]"),
              testing::HasSubstr("neighbours[0].sites[1]: \"a\" is a site of this goad or of another neighbour"));
  EXPECT_THAT(neighbours("[{address: \"b:1\", sites: [b]}, {address: \"c:1\", sites: [b]}]"),
              testing::HasSubstr("neighbours[1].sites[0]: \"b\" is a site of this goad or of another neighbour"));
  EXPECT_THAT(neighbours("[{address: \"b:1\", sites: [\"B 1\"]}]"),
              testing::HasSubstr("neighbours[0].sites[0]: \"B 1\" is not 1 to 63 of a-z 0-9 - _ ."));
  EXPECT_NE(neighbours("[" + absl::StrJoin(std::vector<std::string>(17, "{address: \"b:1\"}"), ",") + "]"), "");
}

TEST(ConfigLoader, TokensAreReadAndTheirMistakesNamed) {
  const std::string path = testing::TempDir() + "goad_tokens_" + std::to_string(getpid());
  const std::string hex(64, 'a');
  const auto problems = [&](const std::string& tokens) {
    std::ofstream(path) << tokens;
    return Problems(std::string(kSmall) + "auth: {tokens_file: \"" + path + "\"}\ntenants: [{name: acme}]\n");
  };
  EXPECT_EQ(problems("# comment\n\nacme:" + hex + "\ndefault:" + std::string(64, 'b') + "\n"), "");
  EXPECT_NE(problems("acme:" + hex + "\ndefault:" + hex + "\n").find("one token for two tenants"), std::string::npos);
  EXPECT_EQ(problems("acme:" + hex + "\nacme:12\n"),
            "f.yaml:2:8: auth.tokens_file: " + path + ":2: want TENANT:HEX, HEX the 64 digits of a token's SHA-256");
  EXPECT_EQ(problems("other:" + hex + "\n"),
            "f.yaml:2:8: auth.tokens_file: names tenant \"other\", which is not listed under tenants");
  std::remove(path.c_str());
  EXPECT_EQ(Problems(std::string(kSmall) + "auth: {tokens_file: /nowhere}\n"),
            "f.yaml:2:8: auth.tokens_file: /nowhere: cannot be opened: No such file or directory");
  EXPECT_NE(Problems(std::string(kSmall) + "auth: {required: true}\n").find("nobody could come in"), std::string::npos);
  EXPECT_EQ(Problems(std::string(kSmall) + "tenants: [{name: a}, {name: a, weight: 0, certificates: b}]\n"),
            "f.yaml:2:23: tenants[1].name: \"a\" is used twice\n"
            "f.yaml:2:32: tenants[1].weight: 0 is not in 0.001..1000\n"
            "f.yaml:2:57: tenants[1].certificates: is not a list of at most 64 texts of 200 bytes");
}

TEST(ConfigLoader, NumbersAreDecimalAndFinite) {
  const auto with = [](const std::string& key, const std::string& value) {
    return Problems(std::string(kSmall) + key + ": {" + value + "}\n");
  };
  for (const char* bad : {"010", "0x10", "0o10", "1_000", "1e3", "5.0", "nan", "99999999999", "'4 '", "''", "--4"}) {
    EXPECT_NE(with("limits", std::string("sessions: ") + bad), "") << bad;
  }
  for (const char* bad : {"nan", ".inf", "1e999", "0x1p-1", "00.5", "'0.5 '", "1e", "."}) {
    EXPECT_NE(with("policy", std::string("tau: ") + bad), "") << bad;
  }
  for (const char* good : {"0.5", ".5", "1.", "5e-1", "+0.5", "0"})
    EXPECT_EQ(with("policy", std::string("tau: ") + good), "") << good;
  for (const char* bad : {"1e300GiB", "1e19", "1e400", "-1GiB", "nanMiB", "inf"}) {
    EXPECT_NE(with("limits", std::string("prompt: ") + bad), "") << bad;
  }
  const std::string site =
      "sites: [{name: a, uplink: {model: shannon, bandwidth: %}, backends: [{url: \"http://127.0.0.1:1\"}]}]\n";
  for (const char* bad : {"1e300GHz", "0Hz", "-1MHz", "nanHz"}) {
    std::string yaml = site;
    EXPECT_NE(Problems(yaml.replace(yaml.find('%'), 1, bad)).find("bandwidth"), std::string::npos) << bad;
  }
}

TEST(ConfigLoader, ABackendsSlotsAndProbes) {
  const auto with = [](const std::string& keys) {
    return ParseConfig("f", "sites: [{name: a, backends: [{url: \"http://h\", " + keys + "}]}]\n");
  };
  EXPECT_EQ(with("slots: auto")->sites[0].backends[0].slots, 0);
  EXPECT_EQ(with("slots: 4096")->sites[0].backends[0].slots, 4096);
  for (const char* bad : {"slots: 0", "slots: 4097", "slots: -1", "slots: many", "slots: 3.5", "probe: {path: health}",
                          "probe: {path: \"/a b\"}", "probe: {path: \"/a#b\"}", "probe: {timeout: 0s}",
                          "probe: {timeout: inf}", "first_byte: -1s", "first_byte: 2h"}) {
    EXPECT_FALSE(with(bad).ok()) << bad;
  }
  const auto slow = with("first_byte: 3m, gateway: true, probe: {path: /health/liveliness, timeout: 10s}");
  ASSERT_TRUE(slow.ok()) << slow.status();
  EXPECT_EQ(slow->sites[0].backends[0].first_byte, absl::Minutes(3));
  EXPECT_EQ(slow->sites[0].backends[0].probe.path, "/health/liveliness");
}

TEST(ConfigLoader, WhatABackendCan) {
  const auto with = [](const std::string& keys) {
    return ParseConfig("f", "sites:\n- name: a\n  backends:\n  - {url: \"http://h\", " + keys + "}\n");
  };
  const auto silent = with("api: chat, context: auto");
  ASSERT_TRUE(silent.ok()) << silent.status();
  EXPECT_EQ(silent->sites[0].backends[0].tools, std::nullopt);
  EXPECT_EQ(silent->sites[0].backends[0].images, std::nullopt);
  EXPECT_EQ(silent->sites[0].backends[0].context, 0);
  const auto said = with("api: chat, tools: false, images: true, context: 8192");
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_EQ(said->sites[0].backends[0].tools, false);
  EXPECT_EQ(said->sites[0].backends[0].images, true);
  EXPECT_EQ(said->sites[0].backends[0].context, 8192);
  EXPECT_TRUE(TakesChat(said->sites[0]));
  EXPECT_FALSE(TakesChat(with("tools: false")->sites[0]));
  EXPECT_TRUE(TakesChat(with("chat_as_text: true")->sites[0])) << "asked for";
  for (const auto& [bad, what] : std::vector<std::pair<std::string, std::string>>{
           {"tools: maybe", "f:4:30: sites[0].backends[0].tools: \"maybe\" is not true or false"},
           {"tools: true", "f:4:23: sites[0].backends[0].tools: is true and needs api: chat"},
           {"images: true", "f:4:23: sites[0].backends[0].images: is true and needs api: chat"},
           {"context: 0",
            "f:4:32: sites[0].backends[0].context: \"0\" is not auto or a whole number of tokens above 0, "
            "without leading zeros"},
           {"context: 8k", "context: \"8k\""},
           {"context: 100000001", "f:4:23: sites[0].backends[0].context: 100000001 is not in 1..100000000"},
           {"api: chat, chat_as_text: true", "chat_as_text: is true and api is chat"}}) {
    const auto config = with(bad);
    EXPECT_FALSE(config.ok()) << bad;
    EXPECT_NE(std::string(config.status().message()).find(what), std::string::npos) << config.status();
  }
}

TEST(ConfigLoader, OneDocumentWithoutTagsOrMergeKeys) {
  const std::string small = kSmall;
  EXPECT_NE(Problems(small + "---\nauth: {required: true}\n").find("2 YAML documents"), std::string::npos);
  EXPECT_NE(Problems(small + "...\n---\n").find("2 YAML documents"), std::string::npos);
  EXPECT_EQ(Problems("---\n" + small + "...\n"), "");
  for (const char* endless : {", a", ", keeps the", "a: b\n, c", "]", "}", "a]\n"})
    EXPECT_NE(Problems(endless), "") << endless;
  EXPECT_EQ(Problems("\xef\xbb\xbf" + small), "");
  EXPECT_EQ(Problems("sites: [{name: a, backends: [{url: \"http://127.0.0.1:1\"}]}]\r\nlimits: {sessions: 5}\r\n"), "");
  EXPECT_NE(Problems(small + "lock_file: !!binary Y2VsbC1h\n").find("has the tag"), std::string::npos);
  EXPECT_NE(Problems(small + "limits: !mine {sessions: 5}\n").find("has the tag"), std::string::npos);
  EXPECT_NE(Problems(small + "limits: {<<: {sessions: 5}}\n").find("merge keys are not read"), std::string::npos);
  EXPECT_FALSE(ParseConfig("f", small.substr(0, small.size() - 1))->warnings.empty())
      << "cut off before its last line end?";
  EXPECT_TRUE(ParseConfig("f", small)->warnings.empty());
}

// Aliases make a tree of 10^9 nodes out of a few lines; nothing of it may be walked.
TEST(ConfigLoader, ABombOfAliasesIsRefusedAtOnce) {
  std::string rows, many;
  for (int k = 0; k < 20000; ++k) rows += "*b,\n ";
  for (int k = 0; k < 20000; ++k) many += "{url: x},\n ";
  const auto began = std::chrono::steady_clock::now();
  EXPECT_NE(Problems("x: &b {name: a, backends: [" + many + "]}\nsites: [" + rows + "]\n")
                .find("20000 entries, want at most 64"),
            std::string::npos);
  rows = "{name: t, certificates: *c}";
  for (int k = 0; k < 900; ++k) rows += ",\n {name: t, certificates: *c}";
  std::string texts = "*s";
  for (int k = 0; k < 20000; ++k) texts += ",\n *s";
  EXPECT_NE(Problems("s: &s " + std::string(60000, 'x') + "\nc: &c [" + texts + "]\ntenants: [" + rows + "]\n"), "");
  std::string keys = "k0: 1";
  for (int k = 1; k < 50000; ++k) keys += ",\n k" + std::to_string(k) + ": 1";
  EXPECT_NE(Problems("m: &m {" + keys + "}\nsites: [{name: a, backends: [*m, *m, *m, *m, *m, *m, *m, *m]}]\n")
                .find("50000 keys"),
            std::string::npos);
  EXPECT_NE(Problems("sites: &s [{name: a, backends: *s}]\n"), "") << "a tree that holds itself";
  EXPECT_EQ(Problems(std::string(200000, '[')), "f.yaml:1:17: configuration: is nested deeper than 16 brackets");
  EXPECT_EQ(Problems("\n" + std::string(200000, '-')),
            "f.yaml:2:65538: configuration: has a line of more than 65536 bytes");
  EXPECT_NE(Problems(std::string(2 << 20, '\n')).find("want at most 1048576"), std::string::npos);
  std::string comments = kSmall;
  for (int k = 0; k < 50; ++k) comments += "# [ it's a { comment\n";
  EXPECT_EQ(Problems(comments + "log: {level: 'info'}\nlock_file: \"[[[[[[[[[[[[[[[[[[[[\"\n"), "");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(60));
}

TEST(ConfigLoader, WhatIsQuotedIsClippedAndOfOneLine) {
  const std::string yaml =
      std::string(kSmall) + "log: {level: \"" + std::string(4000, 'x') + "\"}\n\"a\\nb\\x1b[31m\": 1\n";
  const std::string problems = Problems(yaml);
  EXPECT_LT(problems.size(), 3000u);
  EXPECT_EQ(problems.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(problems.begin(), problems.end(), '\n'), 1) << problems;
}

TEST(ConfigLoader, UrlsOfASiteDiffer) {
  const auto two = [](const std::string& a, const std::string& b) {
    return Problems("sites: [{name: a, backends: [{url: \"" + a + "\"}, {url: \"" + b + "\"}]}]\n");
  };
  EXPECT_NE(two("http://h:80", "http://H").find("given twice"), std::string::npos);
  EXPECT_NE(two("http://[::1]:9", "http://[0:0::1]:9").find("given twice"), std::string::npos);
  EXPECT_EQ(two("http://h/a", "http://h/b"), "");
  EXPECT_EQ(two("http://h", "https://h"), "");
  const std::string secret = two("http://user:s3cret@h", "http://h");
  EXPECT_NE(secret.find("api_key_file"), std::string::npos) << secret;
  EXPECT_EQ(secret.find("s3cret"), std::string::npos) << "a password is never quoted";
}

TEST(ConfigLoader, OneServerIsOneBackend) {
  const auto two = [](const std::string& a, const std::string& b) {
    return Problems("sites: [{name: a, backends: [{" + a + "}]}, {name: b, backends: [{url: \"http://h\"}, {" + b +
                    "}]}]\n");
  };
  EXPECT_EQ(two("url: \"http://127.0.0.1:8\"", "url: \"http://LOCALHOST:8\""),
            "f.yaml:1:102: sites[1].backends[1].url: \"http://LOCALHOST:8\" is given twice, also as "
            "sites[0].backends[0].url: its slots "
            "would count twice");
  EXPECT_NE(two("url: \"http://x.:80\"", "url: \"http://x\"").find("given twice"), std::string::npos);
  EXPECT_EQ(two("url: \"http://x\", model: one", "url: \"http://x\", model: two"), "") << "one gateway, two models";
  EXPECT_NE(Problems("sites: [{name: a, backends: [{url: \"http://x\"}, {url: \"http://x\", model: two}]}]\n"), "");
}

TEST(ConfigLoader, WhatNeverTakesEffectIsAWarning) {
  const auto warnings = [](const std::string& dispatch, const std::string& backend = "") {
    const auto config = ParseConfig(
        "x", "sites: [{name: a, backends: [{url: \"http://h\"" + backend + "}]}]\ndispatch: " + dispatch + "\n");
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? absl::StrJoin(config->warnings, "\n") : "";
  };
  EXPECT_EQ(warnings("{}"), "");
  EXPECT_EQ(warnings("{first_byte: 300s, total: 300s}"), "");
  EXPECT_EQ(warnings("{first_byte: 60s, total: 30s}"),
            "dispatch.first_byte: 1m is more than dispatch.total (30s), which ends a request before");
  EXPECT_EQ(warnings("{}", ", first_byte: 10m"),
            "sites[0].backends[0].first_byte: 10m is more than dispatch.total (5m), which ends a request before");
}

TEST(ConfigLoader, AModelsNameIsPrintable) {
  const auto model = [](const std::string& name) {
    return Problems("sites: [{name: a, backends: [{url: \"http://h\", model: \"" + name + "\"}]}]\n");
  };
  EXPECT_EQ(model("meta/Llama-3:8b \xc3\xa4"), "");
  EXPECT_EQ(model("a\\e[31mb"),
            "f.yaml:1:48: sites[0].backends[0].model: \"a\\x1b[31mb\" holds a control character or what is no UTF-8");
  for (const char* bad : {"a\\tb", "a\\nb", "\\0", "\\x7f", "\\u0085", "\\u200b", "\\u202e", "caf\xe9"})
    EXPECT_NE(model(bad), "") << bad;
}

TEST(ConfigReload, WhatIsTakenAwayIsNamed) {
  Config running = *ParseConfig("f", kSmall);
  running.auth.required = true;
  running.auth.tokens = {{"acme", "x"}, {"other", "y"}};
  running.tenants.resize(2);
  running.tenants[0].name = "acme";
  running.tenants[1].name = "other";
  EXPECT_TRUE(ReloadWarnings(running, running).empty());
  Config next = running;
  next.auth.tokens.pop_back();
  next.tenants.pop_back();
  EXPECT_EQ(ReloadWarnings(running, next),
            (std::vector<std::string>{"tenants that are listed no more, their limits with them: other",
                                      "tenants that have no token any more: other"}));
  next = running;
  next.auth = {};
  const std::vector<std::string> warnings = ReloadWarnings(running, next);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_EQ(warnings[0].substr(0, 35), "auth.required was true and is false");
}

TEST(ConfigReload, RestartOnlyFieldsAreNamed) {
  const Config running = *ParseConfig("f", kSmall);
  Config next = running;
  next.policy.tau = 0.1;
  next.limits.grant = absl::Seconds(1);
  next.sites[0].max_queries = 3;
  next.sites[0].backends[0].slots = 9;
  next.sites.push_back(next.sites[0]);
  EXPECT_TRUE(RestartOnlyChanges(running, next).empty());
  next.listen.address = "0.0.0.0:1";
  next.lock_file = "/run/other";
  EXPECT_EQ(RestartOnlyChanges(running, next), (std::vector<std::string>{"listen.address", "lock_file"}));
}

}  // namespace
}  // namespace goad::server
