#include "client_sdk/openai/chunk.h"

#include <string>
#include <vector>

#include "client_sdk/openai/utf8.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad::openai {
namespace {

using Strings = std::vector<std::string>;

TEST(ParseChunk, ReadsWhatLlamaServerSends) {
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

TEST(ParseChunk, GarbageIsAnErrorAndNeverACrash) {
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

TEST(ParseChunk, ACodePointCutBetweenEventsSurvives) {
  const auto first = ParseChunk("{\"choices\":[{\"text\":\"\xE2\x82\"}]}");
  const auto second = ParseChunk("{\"choices\":[{\"text\":\"\xAC!\"}]}");
  ASSERT_TRUE(first.ok() && second.ok());
  Utf8Assembler assembler;
  const std::string start = assembler.Push(first->text);
  EXPECT_EQ(start, "");
  EXPECT_EQ(assembler.Push(second->text), "\xE2\x82\xAC!");
}

TEST(ParseChunk, TheShapesThatServersGiveAChunk) {
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

TEST(ParseChunk, NumbersOutOfRangeAreRefusedAndTheRestIsRead) {
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

TEST(ParseChunk, CachedPromptTokensWhereTheServerTells) {
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

TEST(ParseChunk, FinishReasonsAreShortAndPrintable) {
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

TEST(ParseChunk, LogprobsInBothShapesWithNullAndInfinity) {
  const auto shown = [](const std::string& json) {
    std::string text;
    const auto chunk = ParseChunk(json);
    for (const TokenLogprob& token : chunk->logprobs) {
      text += token.token + "=" + std::to_string(static_cast<int>(token.logprob));
      for (const TokenLogprob& other : token.top)
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

TEST(ParseChunk, DepthIsBoundedBeforeParsing) {
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

TEST(ParseChunk, HalvesOfAPairAndRawBytesMeetAgain) {
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

TEST(ParseChunk, TextsThatAreObjectsAndThoughtInBlocks) {
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

TEST(ParseChunk, LogprobsAreThoseOfTheTextWhateverItsBytes) {
  for (const char* text : {"a", "\xC3\xA9", "\\ud83d\\ude00", "\\ud83d", "\xF0\x9F", "\\uf780"}) {
    const std::string token = std::string("\"token\":\"") + text + "\"";
    const std::string data = std::string(R"({"choices":[{"text":")") + text + R"(","logprobs":{"content":[{)" + token +
                             R"(,"logprob":-1,"top_logprobs":[{)" + token + R"(,"logprob":-1}]}]}}]})";
    const auto chunk = ParseChunk(data);
    const auto alone = ReadLogprobs(data);
    ASSERT_TRUE(chunk.ok() && alone.ok()) << data;
    ASSERT_EQ(chunk->logprobs.size(), 1u) << data;
    EXPECT_EQ(chunk->logprobs[0].token, alone->tokens[0].token) << data;
    ASSERT_EQ(chunk->logprobs[0].top.size(), 1u) << data;
    EXPECT_EQ(chunk->logprobs[0].top[0].token, alone->tokens[0].top[0].token) << data;
  }
}

}  // namespace
}  // namespace goad::openai
