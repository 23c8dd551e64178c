#include <random>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/dispatch/completion_json.h"
#include "server/dispatch/load_metrics.h"
#include "server/dispatch/sse_parser.h"
#include "server/dispatch/utf8.h"

namespace goad::server {
namespace {

using Strings = std::vector<std::string>;

Strings Events(const Strings& pieces) {
  SseParser parser;
  Strings events;
  for (const std::string& piece : pieces) {
    EXPECT_TRUE(parser.Push(piece, [&](const std::string& data) { events.push_back(data); }));
  }
  return events;
}

TEST(SseParser, EventsCutAnywhereWithAnyLineEnd) {
  EXPECT_EQ(Events({"data: a\n\ndata: b\n\n"}), (Strings{"a", "b"}));
  EXPECT_EQ(Events({"da", "ta: a", "\n", "\ndata:b\r", "\n\r\n", "data: c\r\r"}), (Strings{"a", "b", "c"}));
  EXPECT_EQ(Events({": comment\n\nevent: x\nid: 1\ndata: one\ndata: two\n\n"}), (Strings{"one\ntwo"}));
  EXPECT_EQ(Events({"data: never ended"}), Strings{});
  EXPECT_EQ(Events({"data:\n\n"}), Strings{""});
}

TEST(SseParser, RefusesAnEventWithoutEnd) {
  SseParser parser;
  const std::string piece(1 << 16, 'x');
  bool ok = true;
  for (int k = 0; k < 17; ++k) ok = ok && parser.Push(piece, [](const std::string&) {});
  EXPECT_FALSE(ok);
}

TEST(Utf8, AnyCutGivesTheSameText) {
  const std::string text = "h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80!";
  ASSERT_TRUE(IsValidUtf8(text));
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    for (size_t second = cut; second <= text.size(); ++second) {
      Utf8Assembler assembler;
      std::string out = assembler.Push(text.substr(0, cut));
      EXPECT_TRUE(IsValidUtf8(out));
      out += assembler.Push(text.substr(cut, second - cut));
      out += assembler.Push(text.substr(second));
      EXPECT_EQ(out + assembler.Finish(), text);
    }
  }
}

TEST(Utf8, InvalidBytesBecomeReplacements) {
  const auto all = [](const std::string& bytes) {
    Utf8Assembler assembler;
    const std::string out = assembler.Push(bytes);
    return out + assembler.Finish();
  };
  EXPECT_EQ(all("a\xFFz"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(all("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");          // overlong
  EXPECT_EQ(all("\xED\xA0\x80").size(), 9u);                       // a surrogate
  EXPECT_EQ(all("\xE2\x82"), "\xEF\xBF\xBD");                      // the end is missing
  std::mt19937 random(1);
  for (int k = 0; k < 2000; ++k) {
    std::string bytes(random() % 12, 0);
    for (char& c : bytes) c = static_cast<char>(random());
    EXPECT_TRUE(IsValidUtf8(all(bytes)));
  }
}

TEST(CompletionJson, ReadsWhatLlamaServerSends) {
  auto chunk = ParseChunk(R"({"choices":[{"text":" office","index":0,"logprobs":{"content":[{"id":419,"token":" office",
      "logprob":-0.3,"top_logprobs":[{"token":" Office","logprob":-1.3}]}]},"finish_reason":null}],"object":"text_completion"})");
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(chunk->text, " office");
  EXPECT_EQ(chunk->tokens, 1);
  EXPECT_EQ(chunk->logprobs[0].top[0].token, " Office");
  EXPECT_FALSE(chunk->finish_reason);
  chunk = ParseChunk(R"({"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"completion_tokens":2,"prompt_tokens":40}})");
  EXPECT_EQ(*chunk->finish_reason, "stop");
  EXPECT_EQ(chunk->usage->output_tokens, 2);
  EXPECT_EQ(chunk->tokens, 0);
  chunk = ParseChunk(R"({"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]})");
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(chunk->text, "");
  chunk = ParseChunk(R"({"choices":[],"usage":{"completion_tokens":2,"prompt_tokens":49}})");
  EXPECT_EQ(chunk->usage->prompt_tokens, 49);
}

TEST(CompletionJson, GarbageIsAnErrorAndNeverACrash) {
  for (const char* bad : {"", "[]", "{", "null", "{}", "{\"choices\":7}", "{\"usage\":3}"}) {
    EXPECT_FALSE(ParseChunk(bad).ok()) << bad;
  }
  for (const char* odd : {"{\"choices\":[null]}", "{\"choices\":[{\"text\":7}]}", "{\"choices\":[{\"delta\":[]}]}",
                          "{\"choices\":[{\"logprobs\":{\"content\":[3]}}]}"}) {
    EXPECT_TRUE(ParseChunk(odd).ok()) << odd;
  }
  const auto error = ParseChunk(R"({"error":{"code":500,"message":"out of memory"}})");
  EXPECT_EQ(error.status().message(), "HTTP 200: out of memory");
}

TEST(CompletionJson, ACodePointCutBetweenEventsSurvives) {
  const auto first = ParseChunk("{\"choices\":[{\"text\":\"\xE2\x82\"}]}");
  const auto second = ParseChunk("{\"choices\":[{\"text\":\"\xAC!\"}]}");
  ASSERT_TRUE(first.ok() && second.ok());
  Utf8Assembler assembler;
  const std::string start = assembler.Push(first->text);
  EXPECT_EQ(start, "");
  EXPECT_EQ(assembler.Push(second->text), "\xE2\x82\xAC!");
}

TEST(CompletionJson, RequestsSayEverything) {
  BackendConfig backend;
  PromptBody prompt;
  prompt.text = "why?";
  prompt.stop = {"\n"};
  prompt.seed = 7;
  prompt.top_logprobs = 3;
  auto body = nlohmann::json::parse(MakeRequestBody(backend, prompt, 9));
  EXPECT_EQ(body, nlohmann::json::parse(R"({"model":"llm","prompt":"why?","stream":true,"max_tokens":9,"temperature":0.0,
      "stream_options":{"include_usage":true},"stop":["\n"],"seed":7,"logprobs":3})"));
  backend.api = BackendApi::kChat;
  body = nlohmann::json::parse(MakeRequestBody(backend, prompt, 9));
  EXPECT_EQ(body["messages"], nlohmann::json::parse(R"([{"role":"user","content":"why?"}])"));
  EXPECT_EQ(body["logprobs"], true);
  EXPECT_EQ(body["top_logprobs"], 3);
}

TEST(CompletionJson, ErrorsAndSlots) {
  EXPECT_EQ(ErrorMessage(400, R"({"error":{"message":"too long"}})"), "HTTP 400: too long");
  EXPECT_EQ(ErrorMessage(503, "busy"), "HTTP 503: busy");
  EXPECT_EQ(ErrorMessage(500, std::string("\xFF\xFE")), "HTTP 500: (not text)");
  EXPECT_EQ(ParseSlots(R"({"total_slots":4})"), 4);
  EXPECT_EQ(ParseSlots(R"({"total_slots":"4"})"), std::nullopt);
  EXPECT_EQ(ParseSlots("x"), std::nullopt);
}

TEST(LoadMetrics, SumsWhatRunsAndWaitsOverModelsAndIgnoresTheRest) {
  EXPECT_EQ(ParseServerLoad("# HELP vllm:num_requests_running Number of requests\n"
                            "# TYPE vllm:num_requests_running gauge\n"
                            "vllm:num_requests_running{engine=\"0\",model_name=\"a} 9\"} 2.0 1700000000\n"
                            "vllm:num_requests_running{engine=\"1\"} 1e0\r\n"
                            "vllm:num_requests_running_total 100\n"
                            "vllm:num_requests_waiting 4"),
            7);
  EXPECT_EQ(ParseServerLoad("llamacpp:requests_processing 1\nllamacpp:requests_deferred\t3\n"), 4);
  EXPECT_EQ(ParseServerLoad("sglang_num_queue_reqs 1\n"), 1);
}

TEST(LoadMetrics, WhatIsNoNumberIsNoLoadAndAnotherPageHasNone) {
  EXPECT_EQ(ParseServerLoad("vllm:num_requests_running NaN\nvllm:num_requests_waiting{ -3\nvllm:num_requests_waiting{\n"), 0);
  EXPECT_EQ(ParseServerLoad("process_cpu_seconds_total 7\n"), std::nullopt);
  EXPECT_EQ(ParseServerLoad("{\"error\":{\"code\":501}}"), std::nullopt);
  EXPECT_EQ(ParseServerLoad(""), std::nullopt);
}

}  // namespace
}  // namespace goad::server
