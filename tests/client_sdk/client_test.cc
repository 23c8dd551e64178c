// The client in an app's process, without any goad: what an app does wrong must neither end its process nor hang it.
#include "goad/client.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <future>
#include <stdexcept>

#include "gtest/gtest.h"

namespace goad {
namespace {

// Nobody listens there: connections are refused at once.
constexpr char kNobody[] = "127.0.0.1:1";
const std::string kTls = std::string(GOAD_TEST_DATA) + "/tls/";

Query Unsure() {
  Query query;
  query.uncertainty = 0.9;
  query.prompt = "why?";
  return query;
}
std::string Local() { return "local"; }

// The reason and the words of an Ask with these options.
std::string Refused(ClientOptions options) {
  const auto client = Client::Connect(std::move(options));
  const Answer answer = client->Ask(Unsure(), Local);
  EXPECT_EQ(answer.source, Answer::Source::kLocal);
  EXPECT_EQ(answer.text, "local");
  EXPECT_EQ(client->status().message(), answer.why_local == "INVALID_OPTIONS" ? answer.detail : "");
  return answer.why_local + " " + answer.detail;
}

TEST(Client, ATokenThatNoHeaderCanCarryIsAnErrorInWords) {
  const auto token = [](const std::string& value) { return Refused({.address = kNobody, .token = value}); };
  EXPECT_EQ(token("abc\n"),
            "INVALID_OPTIONS token: byte 3 is 0x0a, want printable ASCII without blanks "
            "(the newline that ends a file is no part of it)");
  EXPECT_EQ(token("a\nb"), "INVALID_OPTIONS token: byte 1 is 0x0a, want printable ASCII without blanks");
  EXPECT_EQ(token("ge\xc3\xbcheim"), "INVALID_OPTIONS token: byte 2 is 0xc3, want printable ASCII without blanks");
  EXPECT_EQ(token(std::string("a\0b", 3)),
            "INVALID_OPTIONS token: byte 1 is 0x00, want printable ASCII without blanks");
  EXPECT_EQ(token(std::string(5000, 'a')), "INVALID_OPTIONS token: 5000 bytes, want at most 4096");
  EXPECT_EQ(Refused({.address = kNobody, .token = "good-._~+/="}).substr(0, 11), "UNREACHABLE");
}

TEST(Client, OptionsThatCannotWorkAreNamed) {
  EXPECT_EQ(Refused({.address = ""}), "INVALID_OPTIONS address: is empty");
  EXPECT_EQ(Refused({.address = "edge\n:7443"}),
            "INVALID_OPTIONS address: byte 4 is 0x0a, want printable ASCII without blanks");
  for (const char* target :
       {"127.0.0.1:65537", "edge.example:99999999999", "[::1]:70000", "dns:///edge:70000", "dns:edge:0",
        "ipv4:1.2.3.4:80,5.6.7.8:65536", "edge:", "edge:x", "edge:-1", "edge:7443x"}) {
    EXPECT_EQ(Refused({.address = target}).substr(0, 30), "INVALID_OPTIONS address: port ") << target;
  }
  EXPECT_EQ(Refused({.address = "127.0.0.1:65537"}), "INVALID_OPTIONS address: port \"65537\" is not in 1..65535");
  for (const char* target :
       {"[::1]:1", "ipv4:127.0.0.1:1", "dns:///127.0.0.1:1", "unix:/nowhere:99999", "ipv6:[::1]:1"}) {
    EXPECT_EQ(Refused({.address = target}).find("INVALID_OPTIONS"), std::string::npos) << target;
  }
  EXPECT_EQ(Refused({.address = kNobody, .other_addresses = {"b:1", "c:0"}}),
            "INVALID_OPTIONS other_addresses[1]: port \"0\" is not in 1..65535");
  EXPECT_EQ(Refused({.address = kNobody, .other_addresses = {""}}), "INVALID_OPTIONS other_addresses[0]: is empty");
  EXPECT_EQ(Refused({.address = kNobody, .other_addresses = std::vector<std::string>(16, "b:1")}),
            "INVALID_OPTIONS other_addresses: 16 entries, want at most 15");
  EXPECT_EQ(Refused({.address = kNobody, .return_after = -absl::Seconds(1)}),
            "INVALID_OPTIONS return_after: -1s is not in 0..1h");
  EXPECT_EQ(Refused({.address = kNobody, .device_name = "caf\xe9"}),
            "INVALID_OPTIONS device_name: is not UTF-8 at byte 3");
  EXPECT_EQ(Refused({.address = kNobody, .device_name = std::string(129, 'x')}),
            "INVALID_OPTIONS device_name: 129 bytes, want 0..128");
  EXPECT_EQ(Refused({.address = kNobody, .uncertainty = {.metric = UncertaintyMetric::kMeanLogprob}}),
            "INVALID_OPTIONS uncertainty.tokens: 0 is not in 1..256 with MEAN_LOGPROB");
  EXPECT_EQ(Refused({.address = kNobody, .uncertainty = {.metric = UncertaintyMetric::kDeclared, .method = "a\nb"}}),
            "INVALID_OPTIONS uncertainty.method: holds a control character at byte 2");
  EXPECT_EQ(Refused({.address = kNobody, .uncertainty = {.prompt_form = "\xff"}}),
            "INVALID_OPTIONS uncertainty.prompt_form: is not UTF-8 at byte 0");
  EXPECT_EQ(Refused({.address = kNobody, .decision_budget = absl::InfiniteDuration()}),
            "INVALID_OPTIONS decision_budget: inf is not in 0..1h");
  EXPECT_EQ(Refused({.address = kNobody, .certificate_file = "a.pem"}),
            "INVALID_OPTIONS key_file: is empty; a client certificate takes both");
  EXPECT_EQ(Refused({.address = kNobody, .certificate_file = "a.pem", .key_file = "a.key"}),
            "INVALID_OPTIONS root_ca_file: is empty; certificate_file needs TLS, and TLS an authority");
  for (const char* odd : {"dns:///", "unix:", "ipv4:no", "xds:///x", ":::::", "[", "127.0.0.1:99999"}) {
    EXPECT_NE(Refused({.address = odd}), "") << odd;  // an answer, whatever gRPC makes of it
  }
}

TEST(Client, TlsFilesAreReadAndNamedAndNeverReplacedByTheSystems) {
  const std::string dir = testing::TempDir() + "goad_client_tls_" + std::to_string(getpid()) + "/";
  mkdir(dir.c_str(), 0700);
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(dir + name) << text;
    return dir + name;
  };
  const auto read = [](const std::string& path) {
    std::ifstream in(path);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string authority = read(kTls + "ca.pem");
  ASSERT_NE(authority.find("BEGIN CERTIFICATE"), std::string::npos);
  const auto root = [](const std::string& path) { return Refused({.address = kNobody, .root_ca_file = path}); };
  EXPECT_EQ(root(dir + "missing.pem"),
            "INVALID_OPTIONS root_ca_file: " + dir + "missing.pem: cannot be read: No such file or directory");
  EXPECT_EQ(root(dir), "INVALID_OPTIONS root_ca_file: " + dir + ": is no regular file");
  EXPECT_EQ(root("/dev/zero"), "INVALID_OPTIONS root_ca_file: /dev/zero: is no regular file");
  mkfifo((dir + "fifo").c_str(), 0600);
  EXPECT_EQ(root(dir + "fifo"), "INVALID_OPTIONS root_ca_file: " + dir + "fifo: is no regular file");
  EXPECT_EQ(root(write("empty", "")), "INVALID_OPTIONS root_ca_file: " + dir + "empty: is empty");
  EXPECT_EQ(root(write("garbage", "hello")),
            "INVALID_OPTIONS root_ca_file: " + dir + "garbage: holds no PEM certificate");
  EXPECT_EQ(root(write("huge", std::string((1 << 20) + 1, '\n'))),
            "INVALID_OPTIONS root_ca_file: " + dir + "huge: more than 1048576 bytes");
  EXPECT_EQ(root(write("half", authority.substr(0, authority.size() / 2))),
            "INVALID_OPTIONS root_ca_file: " + dir + "half: certificate 1 in it cannot be read");
  EXPECT_EQ(root(write("second", authority + authority.substr(0, authority.size() / 2))),
            "INVALID_OPTIONS root_ca_file: " + dir + "second: certificate 2 in it cannot be read");
  EXPECT_EQ(root(kTls + "ca.pem").substr(0, 11), "UNREACHABLE");

  const auto client = [&](const std::string& certificate, const std::string& key) {
    return Refused(
        {.address = kNobody, .root_ca_file = kTls + "ca.pem", .certificate_file = certificate, .key_file = key});
  };
  EXPECT_EQ(client(dir + "garbage", kTls + "device.key"),
            "INVALID_OPTIONS certificate_file: " + dir + "garbage: holds no PEM certificate");
  EXPECT_EQ(client(kTls + "device.pem", dir + "garbage"),
            "INVALID_OPTIONS key_file: " + dir + "garbage: holds no PEM private key without a passphrase");
  EXPECT_EQ(client(kTls + "device.pem", kTls + "server.key"),
            "INVALID_OPTIONS key_file: " + kTls + "server.key: is not the key of " + kTls + "device.pem");
  EXPECT_EQ(client(kTls + "device.pem", kTls + "device.key").substr(0, 11), "UNREACHABLE");
}

TEST(Client, ProblemsReachTheApp) {
  std::promise<Problem> told;
  const auto client =
      Client::Connect({.address = kNobody, .on_problem = [&, once = false](const Problem& problem) mutable {
                         if (!std::exchange(once, true)) told.set_value(problem);
                         throw std::runtime_error("nobody listens to this");
                       }});
  const Problem problem = told.get_future().get();
  EXPECT_EQ(problem.code, "UNREACHABLE");
  EXPECT_NE(problem.detail.find("127.0.0.1:1"), std::string::npos) << problem.detail;
  EXPECT_EQ(client->Ask(Unsure(), Local).text, "local");
}

TEST(Client, WhatCallbacksThrowFailsTheirCallAlone) {
  const auto client = Client::Connect({.address = kNobody});
  const Answer answer = client->Ask(Unsure(), []() -> std::string { throw std::runtime_error("no model"); });
  EXPECT_EQ(answer.source, Answer::Source::kNone);
  EXPECT_EQ(answer.why_local, "CALLBACK_FAILED");
  EXPECT_EQ(answer.detail, "the local model, asked because of UNREACHABLE, threw: exception: no model");
  EXPECT_EQ(client->Ask(Unsure(), []() -> std::string { throw 7; }).why_local, "CALLBACK_FAILED");
  std::promise<void> called;
  client->AskAsync(Unsure(), {.on_done = [&](const Answer&) {
                     called.set_value();
                     throw std::runtime_error("no");
                   }});
  called.get_future().wait();
  client->AskAsync(Unsure(), {});  // and nobody who listens
  EXPECT_EQ(client->Ask(Unsure(), Local).text, "local");
}

TEST(Client, AskFromACallbackIsAnErrorAtOnceAndAskAsyncIsAllowed) {
  const auto client = Client::Connect({.address = kNobody});
  std::promise<Answer> inner, async;
  client->AskAsync(Unsure(), {.on_done = [&](const Answer&) {
                     inner.set_value(client->Ask(Unsure(), Local));
                     client->AskAsync(Unsure(), {.on_done = [&](const Answer& answer) { async.set_value(answer); }});
                   }});
  const Answer answer = inner.get_future().get();
  EXPECT_EQ(answer.why_local, "ASK_IN_CALLBACK");
  EXPECT_EQ(answer.source, Answer::Source::kNone);
  EXPECT_EQ(async.get_future().get().why_local, "UNREACHABLE");
}

// TEST-NET-1 neither refuses nor answers, or cannot be reached at all: with a budget of a minute a query that must be
// offloaded waits until the client ends.
ClientOptions Silent() { return {.address = "192.0.2.1:7443", .decision_budget = absl::Minutes(1)}; }

TEST(Client, ItsEndEndsEveryAsk) {
  auto client = Client::Connect(Silent());
  Query must = Unsure();
  must.must_offload = true;  // waits, whether the address is unreachable or silent
  std::promise<void> asked;
  std::atomic<int> local{0};
  std::vector<std::future<Answer>> answers;
  Client* const raw = client.get();
  for (int k = 0; k < 4; ++k) {
    answers.push_back(std::async(std::launch::async, [&, raw, k] {
      Query query = must;
      query.id = std::to_string(k);
      return raw->Ask(query, [&] { return ++local, "local"; });
    }));
  }
  std::vector<std::promise<Answer>> async(4);
  for (auto& promise : async) {
    client->AskAsync(must, {.on_done = [&](const Answer& answer) { promise.set_value(answer); }});
  }
  for (int k = 0; k < 4; ++k) {  // until all four are in Ask: an invalid query under the id of a live one is told so
    Query probe;
    probe.id = std::to_string(k);
    while (client->Ask(probe, {}).why_local != "ID_REUSED") {
    }
  }
  client.reset();
  for (auto& answer : answers) {
    const Answer got = answer.get();
    EXPECT_EQ(got.why_local, "CANCELLED");
    EXPECT_EQ(got.source, Answer::Source::kNone);
  }
  for (auto& promise : async) EXPECT_EQ(promise.get_future().get().why_local, "CANCELLED");
  EXPECT_EQ(local, 0) << "a cancelled query runs no local model";
}

TEST(Client, MayBeDestroyedByItsOwnCallback) {
  auto client = Client::Connect({.address = kNobody});
  std::promise<void> gone;
  client->AskAsync(Unsure(), {.on_done = [&](const Answer&) {
                     client.reset();
                     gone.set_value();
                   }});
  gone.get_future().wait();
}

TEST(Client, ACancelledAskRunsNoLocalModel) {
  const auto client = Client::Connect(Silent());
  Query query = Unsure();
  query.must_offload = true;
  query.id = "q";
  auto answer = std::async(std::launch::async, [&] { return client->Ask(query, Local); });
  while (answer.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) client->Cancel("q");
  const Answer got = answer.get();
  EXPECT_EQ(got.why_local, "CANCELLED");
  EXPECT_EQ(got.source, Answer::Source::kNone);
  EXPECT_EQ(got.text, "");
}

}  // namespace
}  // namespace goad
