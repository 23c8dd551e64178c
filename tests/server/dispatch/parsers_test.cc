#include <random>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/dispatch/completion_json.h"
#include "server/dispatch/load_metrics.h"
#include "server/dispatch/plain_chunk.h"
#include "server/dispatch/server_error.h"
#include "server/dispatch/sse_parser.h"
#include "server/dispatch/utf8.h"

namespace goad::server {
namespace {

using Strings = std::vector<std::string>;

Strings Events(const Strings& pieces, bool at_end = false) {
  SseParser parser(1000);
  Strings events;
  const auto add = [&](const SseEvent& event) {
    events.push_back(event.type.empty() ? event.data : event.type + "=" + event.data);
  };
  for (const std::string& piece : pieces) EXPECT_TRUE(parser.Push(piece, add));
  if (at_end) parser.End(add);
  return events;
}

TEST(SseParser, EventsCutAnywhereWithAnyLineEnd) {
  EXPECT_EQ(Events({"data: a\n\ndata: b\n\n"}), (Strings{"a", "b"}));
  EXPECT_EQ(Events({"da", "ta: a", "\n", "\ndata:b\r", "\n\r\n", "data: c\r\r"}), (Strings{"a", "b", "c"}));
  EXPECT_EQ(Events({": comment\n\nevent: x\nid: 1\ndata: one\ndata: two\n\ndata: z\n\n"}),
            (Strings{"x=one\ntwo", "z"}));
  EXPECT_EQ(Events({"data: never ended"}), Strings{});
  EXPECT_EQ(Events({"data:\n\n"}), Strings{""});
}

TEST(SseParser, WhatTheStandardSaysOfFields) {
  EXPECT_EQ(Events({"\xEF\xBB\xBF"
                    "data: a\n\n\xEF\xBB\xBF"
                    "data: b\n\n"}),
            Strings{"a"});  // one BOM, at the start
  EXPECT_EQ(Events({"\xEF", "\xBB",
                    "\xBF"
                    "data: a\n\n"}),
            Strings{"a"});
  EXPECT_EQ(Events({"data\n\ndata\ndata\n\ndata:"}), (Strings{"", "\n"}));  // the standard's own example
  EXPECT_EQ(Events({"data:  two blanks\n\ndata:\ttab\n\n"}), (Strings{" two blanks", "\ttab"}));
  EXPECT_EQ(Events({"retry: 3000\n\nid: 7\n\nevent: ping\n\n"}), Strings{});  // no data, no event
  EXPECT_EQ(Events({"event: ping\n\ndata: a\n\n"}), Strings{"a"});            // the type does not outlive its block
  EXPECT_EQ(Events({"Data: a\n\n data: b\n\ndatax: c\n\n"}), Strings{});
}

TEST(SseParser, WhatServersSendThatTheStandardHasNot) {
  EXPECT_EQ(Events({"error: {\"code\":400}\n\n"}), Strings{"error={\"code\":400}"});
  EXPECT_EQ(Events({"data: a\n\n{\"error\":{}}\n"}, /*at_end=*/true), (Strings{"a", "error={\"error\":{}}"}));
  EXPECT_EQ(Events({"data: {\"a\":1}\ndata: {\"b\":2}\ndata: [DONE]\n\n"}),
            (Strings{"{\"a\":1}", "{\"b\":2}", "[DONE]"}));
  EXPECT_EQ(Events({"data: {\"a\":[{}\ndata: ,{\"b\":2}]}\n\n"}),
            Strings{"{\"a\":[{}\n,{\"b\":2}]}"});  // one text on two lines
  EXPECT_EQ(Events({"data: a\n\ndata: [DONE]\n"}, /*at_end=*/true), (Strings{"a", "[DONE]"}));
  EXPECT_EQ(Events({"data: [DONE]"}, /*at_end=*/true), Strings{"[DONE]"});
}

TEST(SseParser, RefusesAnEventWithoutEnd) {
  for (const char* begin : {"", "data: ", ": "}) {
    SseParser parser(1000);
    bool ok = parser.Push(begin, [](const SseEvent&) {});
    for (int k = 0; k < 10; ++k) ok = ok && parser.Push(std::string(100, 'x'), [](const SseEvent&) {});
    EXPECT_FALSE(parser.Push("x", [](const SseEvent&) {})) << begin;
  }
  SseParser lines(1000);
  bool ok = true;
  for (int k = 0; k < 200 && ok; ++k) ok = lines.Push("data: xxxxxxxxxx\n", [](const SseEvent&) {});
  EXPECT_FALSE(ok) << "many lines of one event";
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
  EXPECT_EQ(all("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");  // overlong
  EXPECT_EQ(all("\xED\xA0\x80"), "\xEF\xBF\xBD");          // half of a UTF-16 pair
  EXPECT_EQ(all("\xED\xA0\x80"
                "a\xED\xB0\x80"),
            "\xEF\xBF\xBD"
            "a\xEF\xBF\xBD");
  EXPECT_EQ(all("\xED\xA0\xBD\xED\xB8\x80"), "\xF0\x9F\x98\x80");  // both
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
  chunk = ParseChunk(
      R"({"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"completion_tokens":2,"prompt_tokens":40}})");
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
  for (const char* bad : {"", "[]", "{", "null", "{\"choices\":7}"}) {
    EXPECT_FALSE(ParseChunk(bad).ok()) << bad;
  }
  for (const char* odd : {"{}", "{\"usage\":3}", "{\"choices\":null}", "{\"error\":null}", "{\"choices\":[null]}",
                          "{\"choices\":[{\"text\":7}]}", "{\"choices\":[{\"delta\":[]}]}",
                          "{\"choices\":[{\"logprobs\":{\"content\":[3]}}]}"}) {
    EXPECT_TRUE(ParseChunk(odd).ok()) << odd;
  }
  const auto error = ParseChunk(R"({"error":{"code":500,"message":"out of memory"}})");
  EXPECT_TRUE(error.ok() && error->is_error);
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
  EXPECT_EQ(body,
            nlohmann::json::parse(R"({"model":"llm","prompt":"why?","stream":true,"max_tokens":9,"temperature":0.0,
      "stream_options":{"include_usage":true},"stop":["\n"],"seed":7,"logprobs":3})"));
  backend.api = BackendApi::kChat;
  body = nlohmann::json::parse(MakeRequestBody(backend, prompt, 9));
  EXPECT_EQ(body["messages"], nlohmann::json::parse(R"([{"role":"user","content":"why?"}])"));
  EXPECT_EQ(body["logprobs"], true);
  EXPECT_EQ(body["top_logprobs"], 3);
}

TEST(CompletionJson, TheShapesThatServersGiveAChunk) {
  const auto text = [](const std::string& json) {
    const auto chunk = ParseChunk(json);
    return chunk.ok() ? chunk->text + (chunk->thought ? "+thought" : "") + (chunk->tool_call ? "+tools" : "")
                      : "refused";
  };
  EXPECT_EQ(
      text(
          R"({"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})"),
      "");
  EXPECT_EQ(
      text(
          R"({"choices":[{"index":0,"delta":{"content":"a","reasoning_content":null,"tool_calls":null},"error":null}],"error":null})"),
      "a");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"content":[{"type":"text","text":"a"},{"type":"image"},"b"]}}]})"), "ab");
  EXPECT_EQ(
      text(R"({"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}}]})"),
      "+thought");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})"), "+thought");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"content":"","reasoning":"hm"}}]})"), "+thought");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"content":"a","reasoning":"hm"}}]})"), "a+thought");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]})"), "+tools");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"refusal":"I cannot"}}]})"), "I cannot");
  EXPECT_EQ(text(R"({"choices":[{"index":1,"text":"b"},{"index":0,"text":"a"}]})"), "a");
  EXPECT_EQ(text(R"({"choices":[{"index":1,"text":"b"}]})"), "");
  EXPECT_EQ(text(R"({"choices":[{"index":0,"message":{"role":"assistant","content":"whole"}}]})"), "whole");
  EXPECT_EQ(text(R"({"choices":[{"index":0,"delta":null,"text":"a"}]})"), "a");
  EXPECT_EQ(text(R"({"object":"chunk","prompt_progress":{"total":10,"processed":5}})"), "");
  EXPECT_EQ(text(R"({"choices":[],"prompt_filter_results":[{"prompt_index":0}]})"), "");
}

TEST(CompletionJson, NumbersOutOfRangeAreRefusedAndTheRestIsRead) {
  for (const char* bad : {"-1", "-2147483648", "1e300", "1e999", "10000001", "4294967295", "1.5", "NaN", "Infinity",
                          "\"7\"", "null", "[]"}) {
    const auto chunk = ParseChunk(
        std::string(R"({"choices":[{"text":"a"}],"usage":{"prompt_tokens":3,"completion_tokens":)") + bad + "}}");
    ASSERT_TRUE(chunk.ok()) << bad;
    EXPECT_EQ(chunk->text, "a");
    EXPECT_FALSE(chunk->usage) << bad;
  }
  const auto chunk = ParseChunk(R"({"choices":[],"usage":{"prompt_tokens":3.0,"completion_tokens":10000000}})");
  EXPECT_EQ(chunk->usage->prompt_tokens, 3);
  EXPECT_EQ(chunk->usage->output_tokens, kMaxUsageTokens);
}

TEST(CompletionJson, CachedPromptTokensWhereTheServerTells) {
  const auto cached = [](const std::string& usage, const std::string& beside = "") {
    const auto chunk =
        ParseChunk(R"({"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":2)" + usage + "}" + beside + "}");
    return chunk->usage->cached_tokens;
  };
  EXPECT_EQ(cached(""), 0);
  EXPECT_EQ(cached(R"(,"prompt_tokens_details":{"cached_tokens":32})"), 32);  // OpenAI, vLLM, SGLang
  EXPECT_EQ(cached(R"(,"prompt_tokens_details":null)"), 0);                   // vLLM unless told to
  EXPECT_EQ(cached("", R"(,"timings":{"cache_n":30,"prompt_n":10})"), 30);    // llama-server
  EXPECT_EQ(cached(R"(,"prompt_tokens_details":{"cached_tokens":32})", R"(,"timings":{"cache_n":30})"), 32);
  for (const char* bad : {"41", "-1", "1e300", "\"3\"", "{}"}) {
    EXPECT_EQ(cached(std::string(R"(,"prompt_tokens_details":{"cached_tokens":)") + bad + "}"), 0) << bad;
  }
}

TEST(CompletionJson, FinishReasonsAreShortAndPrintable) {
  const auto reason = [](const std::string& said) {
    return ParseChunk(nlohmann::json{{"choices", {{{"text", ""}, {"finish_reason", said}}}}}.dump())
        ->finish_reason.value_or("none");
  };
  EXPECT_EQ(reason("content_filter"), "content_filter");
  EXPECT_EQ(reason(""), "none");
  EXPECT_EQ(reason(std::string(32, 'r')), std::string(32, 'r'));
  EXPECT_EQ(reason(std::string(33, 'r')), "other");
  EXPECT_EQ(reason("a\nb"), "other");
  EXPECT_EQ(reason("h\xC3\xA9"), "other");
}

TEST(CompletionJson, LogprobsInBothShapesWithNullAndInfinity) {
  const auto shown = [](const std::string& json) {
    std::string text;
    const auto chunk = ParseChunk(json);
    for (const TokenLogprob& token : chunk->logprobs) {
      text += token.token + "=" + std::to_string(static_cast<int>(token.logprob));
      for (const TokenAlternative& other : token.top)
        text += "|" + other.token + "=" + std::to_string(static_cast<int>(other.logprob));
    }
    return text;
  };
  EXPECT_EQ(shown(R"({"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-1.0,
      "top_logprobs":[{"token":"a","logprob":-1.0},{"token":"b","logprob":null},{"token":"c","logprob":-Infinity}]}]}}]})"),
            "a=-1|a=-1|b=-9999|c=-9999");
  EXPECT_EQ(
      shown(
          R"({"choices":[{"text":" a","logprobs":{"tokens":[" a"],"token_logprobs":[-1.0],"top_logprobs":[{" a":-1.0," b":-2.0}]}}]})"),
      " a=-1| a=-1| b=-2");
  EXPECT_EQ(
      ParseChunk(R"({"choices":[{"text":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[-1.0,-1.0]}}]})", false)
          ->tokens,
      2);
  EXPECT_TRUE(ParseChunk(R"({"choices":[{"text":"a","logprobs":{"content":[{"token":"a","logprob":-1}]}}]})", false)
                  ->logprobs.empty());
  // More alternatives than anybody may ask for, and one within another.
  std::string top;
  for (int k = 0; k < 50; ++k)
    top += std::string(k > 0 ? "," : "") + R"({"token":"t","logprob":-)" + std::to_string(k) +
           R"(,"top_logprobs":[{"token":"x","logprob":-1}]})";
  const auto many = ParseChunk(
      R"({"choices":[{"text":"a","logprobs":{"content":[{"token":"a","logprob":-1,"top_logprobs":[)" + top + "]}]}}]}");
  ASSERT_EQ(many->logprobs.size(), 1u);
  EXPECT_EQ(many->logprobs[0].top.size(), 20u);
}

TEST(CompletionJson, DepthIsBoundedBeforeParsing) {
  const auto nested = [](const std::string& begin, const std::string& open, const std::string& close, int depth) {
    std::string text = begin;
    for (int k = 0; k < depth; ++k) text += open;
    for (int k = 0; k < depth; ++k) text += close;
    return text + "}";
  };
  EXPECT_FALSE(ParseChunk(nested(R"({"error":)", "[", "]", 500000)).ok());
  EXPECT_FALSE(ParseChunk(nested(R"({"choices":)", "[", "]", 500000)).ok());
  EXPECT_FALSE(ParseChunk(nested(R"({"more":)", R"({"a":[)", "]}", 40)).ok());
  EXPECT_TRUE(ParseChunk(nested(R"({"more":)", "[", "]", 20)).ok());
}

TEST(CompletionJson, HalvesOfAPairAndRawBytesMeetAgain) {
  const auto joined = [](const Strings& chunks) {
    Utf8Assembler whole;
    std::string text;
    for (const std::string& escaped : chunks)
      text += whole.Push(ParseChunk("{\"choices\":[{\"text\":\"" + escaped + "\"}]}")->text);
    return text + whole.Finish();
  };
  EXPECT_EQ(joined({"\\ud83d", "\\ude00!"}), "\xF0\x9F\x98\x80!");
  EXPECT_EQ(joined({"a\\uD83D\\uDE00"}), "a\xF0\x9F\x98\x80");
  EXPECT_EQ(joined({"\\ud83d", "x"}), "\xEF\xBF\xBDx");
  EXPECT_EQ(joined({"\\\\ud83d"}), "\\ud83d");  // an escaped backslash, no escape
  EXPECT_EQ(joined({"\\uf780\\ud83d", "\\ude00"}),
            "\xEF\x9E\x80\xF0\x9F\x98\x80");  // a private-use character stays one
  EXPECT_EQ(joined({"\xEF\x9E\x80\\ud83d", "\\ude00"}), "\xEF\x9E\x80\xF0\x9F\x98\x80");
  EXPECT_EQ(joined({"\xF0\x9F", "\x98\x80"}), "\xF0\x9F\x98\x80");
}

TEST(CompletionJson, TextsThatAreObjectsAndThoughtInBlocks) {
  const auto delta = [](const std::string& fields) {
    return *ParseChunk("{\"choices\":[{\"index\":0,\"delta\":{" + fields + "}}]}");
  };
  EXPECT_EQ(
      delta(R"("content":[{"type":"text","text":{"value":"Hello","annotations":[]}},{"type":"text","text":" you"}])")
          .text,
      "Hello you");
  EXPECT_EQ(delta(R"("content":{"type":"text","text":{"value":"Hello"}})").text, "Hello");
  EXPECT_TRUE(delta(R"("content":"","reasoning_details":[{"type":"reasoning.encrypted","data":"xx"}])").thought);
  EXPECT_TRUE(delta(R"("thinking_blocks":[{"type":"thinking","thinking":"hm"}])").thought);
  EXPECT_FALSE(delta(R"("reasoning_details":[],"thinking_blocks":null)").thought);
}

TEST(CompletionJson, AStrictServerIsAskedInAnotherDialect) {
  PromptBody prompt;
  prompt.seed = 1;
  Blame blame = Blame::kPrompt;
  const auto other = [&](const std::string& words, const std::string& field = "",
                         RequestDialect from = RequestDialect()) {
    ServerError error;
    error.blame = blame;
    error.words = words;
    error.field = field;
    const auto dialect = OtherDialect(from, prompt, error);
    return dialect ? nlohmann::json::parse(MakeRequestBody(BackendConfig(), prompt, 9, *dialect)) : nlohmann::json();
  };
  EXPECT_FALSE(other("HTTP 422: body.stream_options: Extra inputs are not permitted").contains("stream_options"));
  EXPECT_FALSE(other("HTTP 400: Stream options can only be defined when stream is true").contains("stream_options"));
  EXPECT_FALSE(other("HTTP 400: Unrecognized request argument supplied: seed").contains("seed"));
  EXPECT_EQ(other("HTTP 422: `temperature` must be strictly positive")["temperature"], 0.01);
  EXPECT_FALSE(
      other("HTTP 400: Unsupported value: 'temperature' does not support 0 with this model.").contains("temperature"));
  const auto completion = other(
      "HTTP 400: Unsupported parameter: 'max_tokens' is not supported with this model. "
      "Use 'max_completion_tokens' instead.",
      "max_tokens");
  EXPECT_EQ(completion["max_completion_tokens"], 9);
  EXPECT_FALSE(completion.contains("max_tokens"));
  EXPECT_TRUE(other("HTTP 400: 'max_tokens' or 'max_completion_tokens' is too large: 900. This model's maximum context "
                    "length is 512")
                  .is_null());
  EXPECT_TRUE(other("HTTP 400: messages: roles must alternate").is_null());
  RequestDialect zero;
  zero.temperature = RequestDialect::Temperature::kZeroOmitted;
  EXPECT_TRUE(other("HTTP 400: temperature 0 is not supported", "", zero).is_null()) << "it was left out already";
  EXPECT_FALSE(other("HTTP 400: seed is not supported", "", zero).contains("temperature"));
  prompt.temperature = 0.7;
  EXPECT_EQ(other("HTTP 400: seed is not supported", "", zero)["temperature"], 0.7);
  EXPECT_FALSE(other("HTTP 400: temperature: only the default (1) is supported").contains("temperature"));
  prompt.top_logprobs = 10;
  EXPECT_FALSE(other("HTTP 400: top_logprobs must be between 0 and 5", "top_logprobs").contains("logprobs"));
  RequestDialect ten;
  ten.logprobs_below = 10;
  EXPECT_FALSE(other("HTTP 400: seed is not supported", "", ten).contains("logprobs"));
  prompt.top_logprobs = 5;
  EXPECT_EQ(other("HTTP 400: seed is not supported", "", ten)["logprobs"], 5) << "so many were not refused";
  prompt.top_logprobs = 0;
  blame = Blame::kBackend;
  EXPECT_TRUE(other("HTTP 500: stream_options is not supported").is_null());
  EXPECT_FALSE(other("HTTP 500: TypeError: create() got an unexpected keyword argument 'stream_options'")
                   .contains("stream_options"));
  blame = Blame::kPrompt;
  prompt.temperature = 3;
  EXPECT_TRUE(other("HTTP 400: temperature must be at most 2").is_null()) << "the query's own fault";
  RequestDialect without;
  without.max_completion_tokens = true;
  EXPECT_TRUE(
      other("HTTP 400: 'max_tokens' or 'max_completion_tokens' is too large: invalid context length", "", without)
          .is_null())
      << "no way back, or there were no end";
  without.stream_options = false;
  EXPECT_TRUE(other("HTTP 400: stream_options is not supported", "", without).is_null()) << "it was left out already";
}

TEST(LoadMetrics, HasABound) {
  EXPECT_EQ(ParseServerLoad("vllm:num_requests_running 1.7e308\nvllm:num_requests_waiting 1.7e308\n"), 0);
  EXPECT_EQ(ParseServerLoad("vllm:num_requests_running 1e6\nvllm:num_requests_waiting 1e6\n"), 1e6);
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
  EXPECT_EQ(
      ParseServerLoad("vllm:num_requests_running NaN\nvllm:num_requests_waiting{ -3\nvllm:num_requests_waiting{\n"), 0);
  EXPECT_EQ(ParseServerLoad("process_cpu_seconds_total 7\n"), std::nullopt);
  EXPECT_EQ(ParseServerLoad("{\"error\":{\"code\":501}}"), std::nullopt);
  EXPECT_EQ(ParseServerLoad(""), std::nullopt);
}

// A JSON text of the fields that chunks have, at places and with values that they have or might have.
class ChunkMaker {
 public:
  explicit ChunkMaker(unsigned seed) : random_(seed) {}

  std::string Chunk() {
    std::string data = Object(
        {"id", "choices", "choices", "choices", "usage", "error", "object", "detail", "timings", "text", "index"}, 0);
    if (Below(8) == 0) data[Below(data.size())] = static_cast<char>(Below(256));
    if (Below(20) == 0) data.resize(Below(data.size()));
    return data;
  }

 private:
  size_t Below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }
  std::string Pick(const Strings& of) { return of[Below(of.size())]; }
  std::string Object(const Strings& names, int depth) {
    std::string text = "{";
    for (size_t k = Below(4) + (depth < 3 ? 1 : 0); k > 0; --k) {
      const std::string name = Pick(names);
      text += '"' + name + "\":" + Value(name, depth + 1) + (k > 1 ? "," : "");
    }
    return text + "}";
  }
  std::string Value(const std::string& name, int depth) {
    if (depth < 6 && Below(4) != 0) {
      if (name == "choices") {
        const std::string choice = Choice(depth + 1);
        return Below(6) == 0 ? "[" + choice + "," + Choice(depth + 1) + "]" : "[" + choice + "]";
      }
      if (name == "delta" || name == "message") return Message(depth + 1);
      if (name == "index") return Pick({"0", "0", "1", "0.0", "-1"});
    }
    if (depth < 6 && Below(8) == 0) return Object({"content", "a", "text"}, depth + 1);
    if (depth < 6 && Below(8) == 0) return "[" + Value("", depth + 1) + "]";
    return Pick({"null",
                 "null",
                 "\"\"",
                 "\" word\"",
                 "\" word\"",
                 "\" other\"",
                 "\" third\"",
                 "\"stop\"",
                 "\"a\\u00e4\\n\"",
                 "\"\xC3\xA4\"",
                 "\"\\ud83d\"",
                 "\"\\ud83d\\ude00\"",
                 "\"\xC3\"",
                 "\"\xEF\x9E\x80\"",
                 "\"error\"",
                 "true",
                 "false",
                 "0",
                 "1",
                 "-2.5",
                 "1e400",
                 "NaN",
                 "[]",
                 "{}",
                 "123456789012345678901234567890",
                 "\"a long reason of more than 32 bytes\""});
  }
  std::string Choice(int depth) {
    return Object({"text", "text", "index", "delta", "delta", "message", "finish_reason", "logprobs", "x"}, depth);
  }
  std::string Message(int depth) {
    return Object({"content", "content", "role", "refusal", "reasoning_content", "reasoning", "thinking", "tool_calls",
                   "function_call", "reasoning_details", "thinking_blocks", "y"},
                  depth);
  }

  std::mt19937 random_;
};

TEST(ReadPlainChunk, SaysWhatTheLongWaySaysOrNothing) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  ChunkMaker maker(seed);
  int plain = 0, with_text = 0;
  for (int k = 0; k < 200000; ++k) {
    const std::string data = maker.Chunk();
    const std::optional<CompletionChunk> got = ReadPlainChunk(data);
    if (!got) continue;
    const absl::StatusOr<CompletionChunk> want = ParseAnyChunk(data);
    ASSERT_TRUE(want.ok()) << data;
    ASSERT_EQ(got->text, want->text) << data;
    ASSERT_EQ(got->tokens, want->tokens) << data;
    ASSERT_EQ(got->thought, want->thought) << data;
    ASSERT_EQ(got->finish_reason, want->finish_reason) << data;
    ASSERT_TRUE(want->has_choice && !want->has_other_choices && !want->tool_call && !want->is_error) << data;
    ASSERT_TRUE(!want->usage && want->logprobs.empty()) << data;
    ++plain;
    with_text += got->text.empty() ? 0 : 1;
  }
  EXPECT_GT(plain, 1000);
  EXPECT_GT(with_text, 300);
}

TEST(ReadPlainChunk, TakesWhatServersSendForAToken) {
  const auto is_plain = [](const std::string& data) { return ReadPlainChunk(data).has_value(); };
  EXPECT_TRUE(is_plain(R"({"choices":[{"text":" a","index":0,"logprobs":null,"finish_reason":null}],"created":1,)"
                       R"("object":"text_completion","timings":{"cache_n":1,"x":[1,2]}})"));
  EXPECT_TRUE(is_plain(R"({"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"b"},)"
                       R"("logprobs":null,"finish_reason":null,"token_ids":null}],"usage":null})"));
  EXPECT_TRUE(is_plain(R"({"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"c"}}]})"));
  EXPECT_FALSE(is_plain(R"({"choices":[{"text":"d","index":0}],"usage":{"completion_tokens":1}})"));
  EXPECT_FALSE(is_plain(R"({"choices":[{"text":"e","index":0,"logprobs":{"tokens":["e"]}}]})"));
}

}  // namespace
}  // namespace goad::server
