#include "server/dispatch/backend_health.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/dispatch/probe_answers.h"

namespace goad::server {
namespace {

using Asked = BackendHealth::Asked;
constexpr absl::Duration kSecond = absl::Seconds(1);

class BackendHealthTest : public ::testing::Test {
 protected:
  // Asks what is due, answers it, and goes to the next.
  Asked Answer(int status, const std::string& words = "") {
    now_ = std::max(now_, health_.next_probe());
    path_ = health_.StartProbe(settings_);
    EXPECT_EQ(health_.next_probe(), MonotonicTime::Infinite());
    return health_.ProbeDone({status, false, false, words}, settings_, now_);
  }
  // A whole round, every page of it answered the same.
  void Round(int status, const std::string& words = "") {
    do {
      Answer(status, words);
    } while (health_.next_probe() <= now_);
  }
  void Late(bool busy) {
    now_ = std::max(now_, health_.next_probe());
    health_.StartProbe(settings_);
    health_.ProbeDone({0, true, busy, "no answer within 4s"}, settings_, now_);
  }
  void FailRequests(int count) {
    for (int k = 0; k < count; ++k) health_.RequestFailed("401: the key has expired", settings_, now_);
  }

  BackendHealth::Settings settings_;
  BackendHealth health_{7};
  MonotonicTime now_ = MonotonicTime::FromOrigin(kSecond);
  std::string path_;
};

TEST_F(BackendHealthTest, ARoundAsksForHealthThenSlotsModelsOnceAndLoadWhereThereIsSome) {
  EXPECT_EQ(health_.state(), BackendState::kUnknown);
  EXPECT_EQ(health_.usable_slots(4, now_), 0);
  EXPECT_EQ(Answer(404), Asked::kHealth);
  EXPECT_EQ(path_, "/health");
  EXPECT_EQ(Answer(200), Asked::kHealth);
  EXPECT_EQ(path_, "/v1/models");
  EXPECT_EQ(health_.state(), BackendState::kUp);
  EXPECT_EQ(health_.usable_slots(4, now_), 4);
  EXPECT_EQ(Answer(404), Asked::kProps);
  EXPECT_EQ(Answer(200), Asked::kModels);
  EXPECT_EQ(Answer(200), Asked::kMetrics);
  EXPECT_EQ(health_.next_probe(), now_ + kSecond);
  EXPECT_EQ(Answer(200), Asked::kHealth);
  EXPECT_EQ(path_, "/v1/models") << "what was good is asked for first";
  EXPECT_EQ(Answer(200), Asked::kMetrics);
  health_.NoMetrics();
  EXPECT_EQ(Answer(200), Asked::kHealth);
  EXPECT_EQ(health_.next_probe(), now_ + kSecond);
}

TEST_F(BackendHealthTest, ModelsAreAskedForAgainSomeTimesWhereThePageHasNoAnswer) {
  for (const int status : {0, 400, 408, 429, 500, 502, 503}) {
    health_ = BackendHealth();
    std::vector<absl::Duration> asked;
    now_ = health_.next_probe() + kSecond;
    const MonotonicTime began = now_;
    while (now_ < began + absl::Seconds(300)) {
      now_ = std::max(now_, health_.next_probe());
      const std::string path = health_.StartProbe(settings_);
      if (path == "/v1/models") asked.push_back(now_ - began);
      health_.ProbeDone({path == "/v1/models" ? status : 200, false, false, ""}, settings_, now_);
    }
    EXPECT_EQ(health_.state(), BackendState::kUp);
    EXPECT_EQ(asked, (std::vector<absl::Duration>{0 * kSecond, 2 * kSecond, 6 * kSecond, 14 * kSecond, 30 * kSecond,
                                                  62 * kSecond}))
        << status;
  }
  for (const int status : {200, 302, 401, 403, 404, 405, 501}) {
    health_ = BackendHealth();
    int asked = 0;
    for (int k = 0; k < 300; ++k) {
      now_ = std::max(now_, health_.next_probe());
      const std::string path = health_.StartProbe(settings_);
      asked += path == "/v1/models";
      health_.ProbeDone({path == "/v1/models" ? status : 200, false, false, ""}, settings_, now_);
    }
    EXPECT_EQ(asked, 1) << status;
  }
}

TEST_F(BackendHealthTest, WhatAProbeMayAnswer) {
  struct Row {
    int health, models;  // 0 = no answer
    BackendState state;
  };
  for (const Row& row : std::vector<Row>{{200, 500, BackendState::kUp},
                                         {204, 500, BackendState::kUp},
                                         {206, 0, BackendState::kUp},
                                         {429, 500, BackendState::kUp},
                                         {401, 200, BackendState::kUp},
                                         {403, 200, BackendState::kUp},
                                         {404, 200, BackendState::kUp},
                                         {405, 204, BackendState::kUp},
                                         {302, 200, BackendState::kUp},
                                         {307, 429, BackendState::kUp},
                                         {401, 401, BackendState::kDown},
                                         {404, 404, BackendState::kDown},
                                         {301, 302, BackendState::kDown},
                                         {500, 200, BackendState::kDown},
                                         {503, 200, BackendState::kDown},
                                         {0, 200, BackendState::kDown},
                                         {404, 502, BackendState::kDown},
                                         {400, 200, BackendState::kDown}}) {
    health_ = BackendHealth();
    Answer(row.health, "one");
    if (health_.state() == BackendState::kUnknown) Answer(row.models, "two");
    EXPECT_EQ(health_.state(), row.state) << row.health << " " << row.models;
    EXPECT_EQ(health_.last_error().empty(), row.state == BackendState::kUp);
  }
  EXPECT_EQ(health_.last_error(), "GET /health: one");
}

TEST_F(BackendHealthTest, AConfiguredPathIsTheOnlyOneAndAGatewayIsNotAskedForOneOfItsServers) {
  settings_.path = "/health/liveliness";
  settings_.gateway = true;
  Answer(200);
  EXPECT_EQ(path_, "/health/liveliness");
  EXPECT_EQ(Answer(200), Asked::kModels);
  EXPECT_EQ(health_.next_probe(), now_ + kSecond);
  Answer(404);
  EXPECT_EQ(path_, "/health/liveliness");
  EXPECT_EQ(health_.next_probe(), now_ + kSecond) << "there is no other page to try";
}

TEST_F(BackendHealthTest, LoadingIsNotDown) {
  Answer(503, "HTTP 503 Loading model");
  EXPECT_EQ(health_.state(), BackendState::kLoading);
  for (int k = 0; k < 10; ++k) Answer(503, "HTTP 503 Loading model");
  EXPECT_EQ(health_.state(), BackendState::kLoading);
  EXPECT_EQ(health_.usable_slots(4, now_), 0);
  Answer(200);
  EXPECT_EQ(health_.state(), BackendState::kUp);
  while (health_.next_probe() <= now_) Answer(404);
  Answer(503, "HTTP 503 no loading here... it is Loading Model");
  EXPECT_EQ(health_.state(), BackendState::kLoading) << "at once: it takes nothing";
  Answer(503, "HTTP 503 unhealthy");
  EXPECT_EQ(health_.state(), BackendState::kDown);
}

TEST_F(BackendHealthTest, AServerThatIsAwayIsAskedEveryTwoSecondsAtLeast) {
  settings_.period = absl::Seconds(20);
  Answer(0, "refused");
  EXPECT_EQ(health_.next_probe(), now_ + absl::Seconds(2));
  Answer(503, "loading");
  EXPECT_EQ(health_.next_probe(), now_ + absl::Seconds(2));
  Round(200);
  EXPECT_EQ(health_.next_probe(), now_ + absl::Seconds(20));
}

TEST_F(BackendHealthTest, ThreeBadRoundsAreDownAndOneGoodOneIsUpAgain) {
  Round(200);
  Answer(0);
  Answer(500);
  EXPECT_EQ(health_.state(), BackendState::kUp);
  const MonotonicTime before = health_.last_error_since();
  Answer(0, "refused");
  EXPECT_EQ(health_.state(), BackendState::kDown);
  EXPECT_EQ(health_.state_since(), now_);
  EXPECT_EQ(health_.last_error_since(), before) << "since the first of them";
  EXPECT_EQ(health_.last_error(), "GET /health: refused");
  Answer(200);
  EXPECT_EQ(health_.state(), BackendState::kUp);
  EXPECT_EQ(Answer(200), Asked::kProps) << "it may have been started anew";
}

TEST_F(BackendHealthTest, ASlowProbeUnderLoadIsNotADeadServer) {
  Round(200);
  for (int k = 0; k < 20; ++k) Late(/*busy=*/true);
  EXPECT_EQ(health_.state(), BackendState::kUp);
  for (int k = 0; k < 3; ++k) Late(/*busy=*/false);
  EXPECT_EQ(health_.state(), BackendState::kDown);
}

TEST_F(BackendHealthTest, WhatRequestsOpenedOnlyAWholeAnswerCloses) {
  Round(200);
  FailRequests(2);
  health_.RequestSucceeded(now_);
  FailRequests(2);
  EXPECT_EQ(health_.state(), BackendState::kUp);
  FailRequests(6);  // what ran beside them fails too: no try has failed yet
  EXPECT_EQ(health_.state(), BackendState::kHalfOpen);
  EXPECT_EQ(health_.usable_slots(4, now_), 0);
  EXPECT_LE(health_.next_try() - now_, kSecond * 1.25);
  absl::Duration last;
  for (int k = 0; k < 12; ++k) {
    Round(200);
    EXPECT_EQ(health_.state(), BackendState::kHalfOpen) << "whatever the probes say";
    now_ = std::max(now_, health_.next_try());
    EXPECT_EQ(health_.usable_slots(4, now_), 1) << "one at a time";
    FailRequests(1);
    EXPECT_EQ(health_.usable_slots(4, now_), 0);
    last = health_.next_try() - now_;
    EXPECT_LE(last, absl::Seconds(37.5));
  }
  EXPECT_GE(last, absl::Seconds(22.5));
  EXPECT_EQ(health_.last_error(), "401: the key has expired");
  now_ = health_.next_try();
  health_.RequestSucceeded(now_);
  EXPECT_EQ(health_.state(), BackendState::kUp);
  EXPECT_EQ(health_.usable_slots(4, now_), 4);
  FailRequests(3);
  EXPECT_LE(health_.next_try() - now_, kSecond * 1.25) << "the pauses begin anew";
}

TEST_F(BackendHealthTest, AServerThatWasAwayIsTriedAtOnceWhenItIsBack) {
  Round(200);
  FailRequests(3);
  for (int k = 0; k < 3; ++k) Answer(0, "refused");
  EXPECT_EQ(health_.state(), BackendState::kDown);
  Answer(200);
  EXPECT_EQ(health_.state(), BackendState::kHalfOpen);
  EXPECT_EQ(health_.usable_slots(4, now_), 1);
}

TEST_F(BackendHealthTest, OneThatTellsRequestsOfLoadingIsLoadingUntilAWholeAnswer) {
  Round(200);
  health_.RequestToldOfLoading("503: Loading model", settings_, now_);
  EXPECT_EQ(health_.state(), BackendState::kLoading) << "at once, however good its page is";
  EXPECT_EQ(health_.state_since(), now_);
  EXPECT_EQ(health_.last_error(), "503: Loading model");
  EXPECT_EQ(health_.usable_slots(4, now_), 0);
  absl::Duration last;
  for (int k = 0; k < 8; ++k) {
    Round(200);
    EXPECT_EQ(health_.state(), BackendState::kLoading);
    EXPECT_EQ(health_.usable_slots(4, health_.next_try() - absl::Milliseconds(1)), 0);
    now_ = std::max(now_, health_.next_try());
    EXPECT_EQ(health_.usable_slots(4, now_), 1) << "one at a time";
    health_.RequestToldOfLoading("503: Loading model", settings_, now_);
    last = health_.next_try() - now_;
  }
  EXPECT_GE(last, absl::Seconds(22.5)) << "with pauses that grow";
  EXPECT_LE(last, absl::Seconds(37.5));
  now_ = health_.next_try();
  FailRequests(3);
  EXPECT_EQ(health_.state(), BackendState::kHalfOpen) << "it loaded and failed";
  health_.RequestToldOfLoading("503: Loading model", settings_, now_);
  EXPECT_EQ(health_.state(), BackendState::kLoading);
  health_.RequestSucceeded(now_);
  EXPECT_EQ(health_.state(), BackendState::kUp);
  EXPECT_EQ(health_.usable_slots(4, now_), 4);
  for (int k = 0; k < 3; ++k) Answer(0, "refused");
  EXPECT_EQ(health_.state(), BackendState::kDown);
  health_.RequestToldOfLoading("503: Loading model", settings_, now_);
  EXPECT_EQ(health_.usable_slots(4, now_ + absl::Hours(1)), 0) << "no tries where probes fail";
  EXPECT_EQ(health_.next_try(), MonotonicTime::Infinite());
}

TEST_F(BackendHealthTest, OneLoadingServerBehindAGatewayIsNotAllOfThem) {
  settings_.gateway = true;
  Round(200);
  for (int k = 0; k < 10; ++k) {
    health_.RequestToldOfLoading("503: Loading model", settings_, now_);
    health_.RequestToldOfLoading("503: Loading model", settings_, now_);
    EXPECT_EQ(health_.state(), BackendState::kUp);
    health_.RequestSucceeded(now_);
  }
  for (int k = 0; k < 3; ++k) health_.RequestToldOfLoading("503: Loading model", settings_, now_);
  EXPECT_EQ(health_.state(), BackendState::kLoading);
}

TEST_F(BackendHealthTest, PausesOfDifferentBackendsDiffer) {
  std::vector<absl::Duration> pauses;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    health_ = BackendHealth(seed << 32);
    Round(200);
    FailRequests(3);
    pauses.push_back(health_.next_try() - now_);
  }
  std::sort(pauses.begin(), pauses.end());
  EXPECT_GT(std::unique(pauses.begin(), pauses.end()) - pauses.begin(), 4);
}

TEST(ProbeAnswers, SlotsAreAWholeNumberInRange) {
  EXPECT_EQ(ParseProps(R"({"total_slots": 8})").slots, 8);
  EXPECT_EQ(ParseProps(R"({"total_slots": 8.0})").slots, 8);
  EXPECT_EQ(ParseProps(R"({"total_slots": 4096})").slots, 4096);
  for (const std::string bad :
       {R"({"total_slots": -1})", R"({"total_slots": 0})", R"({"total_slots": 4097})", R"({"total_slots": 1e18})",
        R"({"total_slots": 1000000000000000000})", R"({"total_slots": 1e999})", R"({"total_slots": 3.9})",
        R"({"total_slots": "8"})", R"({"total_slots": NaN})", R"({"total_slots": null})", "[]", "", "x", "{"}) {
    EXPECT_EQ(ParseProps(bad).slots, std::nullopt) << bad;
  }
  EXPECT_EQ(ParseProps(std::string(500000, '[')).slots, std::nullopt);
  std::string deep;
  for (int k = 0; k < 100000; ++k) deep += "{\"a\":";
  EXPECT_EQ(ParseProps(deep + "1" + std::string(100000, '}')).slots, std::nullopt);
}

// What llama-server sends, cut to what is read; a template without tools leaves those of a request out silently.
TEST(ProbeAnswers, PropsTellWhatAServerCan) {
  const Props props =
      ParseProps(R"({"default_generation_settings":{"id":0,"n_ctx":8192,"params":{"n_predict":-1}},)"
                 R"("total_slots":2,"modalities":{"vision":false,"audio":true},"chat_template":"{{x}}",)"
                 R"("chat_template_caps":{"supports_tools":true,"supports_tool_calls":false}})");
  EXPECT_EQ(props.slots, 2);
  EXPECT_EQ(props.can.context_tokens, 8192);
  EXPECT_EQ(props.can.images, false);
  EXPECT_EQ(props.can.tools, true);
  for (const std::string silent :
       {R"({"total_slots":2})", R"({"default_generation_settings":7,"modalities":[],"chat_template_caps":"x"})",
        R"({"default_generation_settings":{"n_ctx":0},"modalities":{"vision":1},"chat_template_caps":{}})",
        R"({"default_generation_settings":{"n_ctx":100000001},"modalities":{"vision":null}})",
        R"({"default_generation_settings":{"n_ctx":-5},"chat_template_caps":{"supports_tools":"yes"}})",
        R"({"default_generation_settings":{"n_ctx":1e300}})", R"({"n_ctx":4096})", "[]", "", "{"}) {
    const SaidAbilities can = ParseProps(silent).can;
    EXPECT_FALSE(can.context_tokens || can.images || can.tools) << silent;
  }
}

TEST(ProbeAnswers, AModelsListTellsItsContext) {
  const std::string vllm =
      R"({"object":"list","data":[{"id":"small","max_model_len":2048},{"id":"m/big","root":"big","max_model_len":32768},)"
      R"({"id":"lora","max_model_len":null},{"id":"bad","max_model_len":1e99},7]})";
  EXPECT_EQ(ParseContext(vllm, "small"), 2048);
  EXPECT_EQ(ParseContext(vllm, "big"), 32768);
  for (const std::string none : {"lora", "bad", "other", ""}) EXPECT_EQ(ParseContext(vllm, none), std::nullopt) << none;
  EXPECT_EQ(ParseContext(R"({"data":[{"id":"x","owned_by":"llamacpp","meta":{"n_ctx_train":9}}]})", "llm"),
            std::nullopt);
  for (const std::string bad : {"", "[]", "7", R"({"data":7})", "{"}) EXPECT_EQ(ParseContext(bad, "a"), std::nullopt);
}

TEST(Abilities, AreTheOperatorsElseTheServersElseAssumed) {
  BackendConfig backend;
  SaidAbilities said;
  EXPECT_EQ(ToText(AbilitiesOf(backend, {true, true, 512})),
            "no chat, no tools (configured), no images (configured), context 512 (server)")
      << "both need the chat API";
  backend.api = BackendApi::kChat;
  EXPECT_EQ(ToText(AbilitiesOf(backend, {})), "chat, tools (assumed), no images (assumed), context not known");
  EXPECT_EQ(ToText(AbilitiesOf(backend, {false, true, 512})),
            "chat, no tools (server), images (server), context 512 (server)");
  backend.tools = true, backend.images = false, backend.context = 4096;
  EXPECT_EQ(ToText(AbilitiesOf(backend, {false, true, 512})),
            "chat, tools (configured), no images (configured), context 4096 (configured)");
  backend = BackendConfig();
  backend.chat_as_text = true;
  EXPECT_EQ(ToText(AbilitiesOf(backend, {})), "chat, no tools (configured), no images (configured), context not known");
}

TEST(ProbeAnswers, ModelsAreThereOrNot) {
  const auto vllm =
      ParseModels(R"({"object":"list","data":[{"id":"meta/Llama","owned_by":"vllm"},{"id":"lora"},7,{"x":1}]})");
  ASSERT_TRUE(vllm.has_value());
  EXPECT_TRUE(Lists(*vllm, "lora"));
  EXPECT_FALSE(Lists(*vllm, "llm"));
  EXPECT_FALSE(Lists(*vllm, ""));
  EXPECT_TRUE(Lists(*ParseModels(R"({"data":[{"id":"llama3.2:latest","owned_by":"library"}]})"), "llama3.2"));
  EXPECT_TRUE(Lists(*ParseModels(R"({"data":[{"id":"openai/*"}]})"), "openai/gpt"));
  EXPECT_TRUE(Lists(*ParseModels(R"({"data":[{"id":"x.gguf","owned_by":"llamacpp"}]})"), "llm")) << "it takes any name";
  EXPECT_FALSE(
      Lists(*ParseModels(R"({"data":[{"id":"x","owned_by":"llamacpp"},{"id":"y","owned_by":"llamacpp"}]})"), "llm"));
  for (const std::string bad : {"", "{}", "7", R"({"data":{}})", R"({"data":7})", "404 page not found", "[7]"}) {
    EXPECT_FALSE(ParseModels(bad).has_value()) << bad;
  }
  for (const std::string none : {"[]", R"({"data":null})", R"({"object":"list","data":[]})", R"({"models":[]})"}) {
    ASSERT_TRUE(ParseModels(none).has_value()) << none;
    EXPECT_TRUE(ParseModels(none)->ids.empty()) << none;
  }
}

TEST(ProbeAnswers, AModelHasMoreNamesThanItsId) {
  for (const std::string known :
       {R"({"data":[{"id":"/m/x.gguf","aliases":["a","llm"]}]})", R"({"data":[{"id":"/models/x","root":"llm"}]})",
        R"({"data":[{"id":"openai/llm"}]})", R"({"data":[{"id":"models/llm"},{"id":"b"}]})", R"([{"id":"llm"}])",
        R"({"models":[{"name":"llm"}]})", R"({"data":null,"models":[{"model":"llm"}]})"}) {
    ASSERT_TRUE(ParseModels(known).has_value()) << known;
    EXPECT_TRUE(Lists(*ParseModels(known), "llm")) << known;
    EXPECT_FALSE(Lists(*ParseModels(known), "lm")) << known;
  }
  EXPECT_TRUE(Lists(*ParseModels(R"({"data":[{"id":"llm"}]})"), "openai/llm"));
  EXPECT_FALSE(Lists(*ParseModels(R"({"data":[{"id":"openai/"}]})"), ""));
}

TEST(ProbeAnswers, WhatTheModelsPageSaysIsToldInOneLine) {
  const auto told = [](int status, const std::string& body, bool cut = false) {
    return ModelsProblem(status, "HTTP " + std::to_string(status) + " words", body, cut, "llm");
  };
  EXPECT_EQ(told(200, R"({"object":"list","data":[{"id":"llm"}]})"), "");
  EXPECT_EQ(told(404, "x"), "");
  EXPECT_EQ(told(405, ""), "");
  EXPECT_EQ(told(200, R"({"data":[{"id":"a"}],"has_more":true})"), "") << "it may be on another page";
  EXPECT_EQ(told(200, R"({"data":[{"id":"a"}],"has_more":false})"),
            "model=\"llm\" is not among the 1 that its /v1/models lists: a");
  for (const char* none : {R"({"object":"list","data":null})", R"({"object":"list","data":[]})"}) {
    EXPECT_EQ(told(200, none), "model=\"llm\" is not among the 0 that its /v1/models lists: nothing is loaded there");
  }
  for (const char* odd : {"<html><title>Welcome to nginx!</title>", "{}", "OK", ""}) {
    EXPECT_EQ(told(200, odd), "answers, but does not look like an OpenAI server: GET /v1/models: HTTP 200 words");
  }
  EXPECT_EQ(told(200, "<html>" + std::string(1000, 'x'), true).substr(0, 21), "answers, but does not");
  EXPECT_EQ(told(200, R"({"data":[{"id":"llm"},{"id":)", true), "") << "named before the cut";
  EXPECT_EQ(told(200, R"({"data":[{"id":"a"},{"id":)", true),
            "model=\"llm\" is not in the first 1 MiB that its /v1/models lists, and no more is read");
  EXPECT_EQ(told(401, ""),
            "GET /v1/models: HTTP 401 words: its requests will be refused, too, if they need the same "
            "key (api_key_file)");
  for (const int status : {302, 400, 429, 500, 503}) {
    EXPECT_EQ(told(status, ""),
              "GET /v1/models: HTTP " + std::to_string(status) + " words: whether it has model=\"llm\" is not known");
  }
  EXPECT_EQ(ModelsProblem(0, "no answer within 4s", "", false, "llm"),
            "GET /v1/models: no answer within 4s: whether it has model=\"llm\" is not known");
}

TEST(ProbeAnswers, WhereARedirectLeadsIsShownWithoutSecrets) {
  EXPECT_EQ(ShownLocation("https://llm.example/x"), "https://llm.example/x");
  EXPECT_EQ(ShownLocation("/login"), "/login");
  EXPECT_EQ(ShownLocation("/@x"), "/@x");
  EXPECT_EQ(ShownLocation("https://h/@x"), "https://h/@x");
  EXPECT_EQ(ShownLocation("https://h/login?token=s3cret#x"), "https://h/login?...");
  EXPECT_EQ(ShownLocation("https://h\x1b[31m"), "https://h\\x1b[31m");
  for (const char* secret : {"https://u:s3cret@h/x", "//u:s3cret@h/x", "https://s3cret@h", "https:u:s3cret@h/x",
                             "https://u:s3cret@u:s3cret@h/x", "https:\\\\u:s3cret@h", "u:s3cret@h",
                             "https:///u:s3cret@h", "https://u:s3/cret@h", "?s3cret"}) {
    EXPECT_EQ(ShownLocation(secret).find("s3"), std::string::npos) << secret << " " << ShownLocation(secret);
  }
  EXPECT_LE(ShownLocation("https://" + std::string(10000, 'x')).size(), 170u);
}

TEST(ProbeAnswers, FirstWordsAreOneShortLine) {
  EXPECT_EQ(FirstWords(R"({"error":{"message":"Loading model","type":"unavailable_error","code":503}})"),
            "Loading model");
  EXPECT_EQ(FirstWords(R"({"detail":"Not authenticated"})"), "Not authenticated");
  EXPECT_EQ(FirstWords(R"({"error":"Model is overloaded"})"), "Model is overloaded");
  EXPECT_EQ(FirstWords(R"([{"error":{"code":400,"message":"API key not valid"}}])"), "API key not valid");
  EXPECT_EQ(FirstWords("<html>\r\n<head><title>502 Bad Gateway</title></head><body>x"), "502 Bad Gateway");
  EXPECT_EQ(FirstWords("\n<!DOCTYPE html><HTML><TITLE lang=en>\n Welcome\n  to nginx! </TITLE>"), "Welcome to nginx!");
  EXPECT_EQ(FirstWords("<html><title>502 Bad Gateway"), "502 Bad Gateway");
  EXPECT_EQ(FirstWords("<p>It <b>works</b>!</p>\n"), "It works !");
  EXPECT_EQ(FirstWords("a < b"), "a < b");
  EXPECT_EQ(FirstWords("<"), "<");
  EXPECT_EQ(FirstWords("a\x1b[31m\nb"), "a\\x1b[31m b");
  EXPECT_LE(FirstWords(std::string(1000000, 'x')).size(), 170u);
  EXPECT_EQ(FirstWords("\xff\xfe ok"), "\\xff\\xfe ok");
  EXPECT_EQ(FirstWords(""), "");
}

}  // namespace
}  // namespace goad::server
