#include "client_sdk/openai/logprobs.h"

#include "gtest/gtest.h"

namespace goad::openai {
namespace {

// The first token and its candidates as one line: `text id logprob | text id logprob | ...`, or the error.
std::string First(const std::string& json) {
  const auto read = ReadLogprobs(json);
  if (!read.ok()) return std::string(read.status().message());
  if (read->tokens.empty()) return "none";
  const auto show = [](const TokenLogprob& token) {
    char number[32];
    snprintf(number, sizeof number, "%.3g", token.logprob);
    return token.token + (token.id ? " #" + std::to_string(*token.id) : "") + " " + number;
  };
  std::string line = show(read->tokens[0]);
  for (const TokenLogprob& top : read->tokens[0].top) line += " | " + show(top);
  return line;
}

// In one place: what each server sends, from its own source or reference (README.md names them).
TEST(ReadLogprobs, ReadsEveryShape) {
  // OpenAI chat, whole and streamed.
  EXPECT_EQ(First(R"({"choices":[{"index":0,"message":{"role":"assistant","content":"a"},
      "logprobs":{"content":[{"token":" a","logprob":-0.5,
      "bytes":[32,97],"top_logprobs":[{"token":" a","logprob":-0.5,"bytes":[32,97]},{"token":"b","logprob":-2,
      "bytes":[98]}]}],"refusal":null},
      "finish_reason":"stop"}]})"),
            " a -0.5 |  a -0.5 | b -2");
  EXPECT_EQ(First(R"({"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" a"},
      "logprobs":{"content":[{"token":" a",
      "logprob":-0.5,"bytes":null,"top_logprobs":[{"token":" a","logprob":-0.5},{"token":"b","logprob":-2}]}]},
      "finish_reason":null}]})"),
            " a -0.5 |  a -0.5 | b -2");
  // OpenAI completions, vLLM and llama-cpp-python: an object per position.
  EXPECT_EQ(First(R"({"choices":[{"index":0,"text":" a","logprobs":{"text_offset":[0],"tokens":[" a"],
      "token_logprobs":[-0.5],
      "top_logprobs":[{" a":-0.5,"b":-2.0}]},"finish_reason":null}]})"),
            " a -0.5 |  a -0.5 | b -2");
  EXPECT_EQ(First(R"({"choices":[{"text":" a","logprobs":{"tokens":["token_id:7"],"token_logprobs":[-0.5],
      "top_logprobs":[{"token_id:7":-0.5,"token_id:9":-Infinity}]}}]})"),
            "token_id:7 -0.5 | token_id:7 -0.5 | token_id:9 -1e+04");
  EXPECT_EQ(First(R"({"choices":[{"logprobs":{"content":null,"tokens":["a"],"token_logprobs":[-0.1],
      "top_logprobs":[{"a":-0.1,"b":-2}]}}]})"),
            "a -0.1 | a -0.1 | b -2");
  // llama.cpp, new: log-probabilities and, after sampling, probabilities; the text is cut where it is no UTF-8, the
  // bytes are not.
  EXPECT_EQ(First(R"({"content":"","completion_probabilities":[{"id":12,"token":"","bytes":[228],"logprob":-0.5,
      "top_logprobs":[{"id":12,"token":"","bytes":[228],"logprob":-0.5},{"id":13,"token":"","bytes":[229],
      "logprob":-3.4028234663852886e38}]}]})"),
            "\xe4 #12 -0.5 | \xe4 #12 -0.5 | \xe5 #13 -1e+04");
  EXPECT_EQ(First(R"({"completion_probabilities":[{"id":1,"token":" a","bytes":[32,97],"prob":1.0,
      "top_probs":[{"id":1,"token":" a","bytes":[32,97],
      "prob":1.0000001},{"id":2,"token":"b","prob":0.0}]}]})"),
            " a #1 0 |  a #1 0 | b #2 -1e+04");
  // llama.cpp before 2025.
  EXPECT_EQ(First(R"({"content":" a","completion_probabilities":[{"content":" a","probs":[{"tok_str":" a",
      "prob":0.5},{"tok_str":"byte: \\xe4","prob":0.25}]}]})"),
            " a -0.693 |  a -0.693 | \xe4 -1.39");
  // SGLang's own, without and with texts.
  EXPECT_EQ(First(R"({"text":" a","meta_info":{"completion_tokens":1,"output_token_logprobs":[[-0.5,7,null]],
      "output_top_logprobs":[[[-0.5,7,null],
      [-2.0,9,null]]]}})"),
            "token_id:7 #7 -0.5 | token_id:7 #7 -0.5 | token_id:9 #9 -2");
  EXPECT_EQ(First(R"([{"text":" a","meta_info":{"output_token_logprobs":[[-0.5,7," a"]],
      "output_top_logprobs":[[[-0.5,7," a"],[null,9,"b"]]]}}])"),
            " a #7 -0.5 |  a #7 -0.5 | b #9 -1e+04");
  // TGI, whole and streamed.
  EXPECT_EQ(First(R"([{"generated_text":" a","details":{"finish_reason":"length","generated_tokens":1,"prefill":[],
      "tokens":[{"id":7,"text":" a",
      "logprob":-0.5,"special":false}],"top_tokens":[[{"id":7,"text":" a","logprob":-0.5,"special":false},{"id":9,
      "text":"b","logprob":-2.0,"special":false}]]}}])"),
            " a #7 -0.5 |  a #7 -0.5 | b #9 -2");
  EXPECT_EQ(First(R"({"index":1,"token":{"id":7,"text":" a","logprob":-0.5,"special":false},"top_tokens":[{"id":7,
      "text":" a","logprob":-0.5,
      "special":false},{"id":9,"text":"b","logprob":-2.0,"special":false}],"generated_text":null,
      "details":null})"),
            " a #7 -0.5 |  a #7 -0.5 | b #9 -2");
  // Ollama, generate and chat.
  EXPECT_EQ(First(R"({"model":"m","response":" a","done":false,"logprobs":[{"token":" a","logprob":-0.5,"bytes":[32,97],
      "top_logprobs":[{"token":" a","logprob":-0.5,"bytes":[32,97]},{"token":"b","logprob":-2,
      "bytes":[98]}]}]})"),
            " a -0.5 |  a -0.5 | b -2");
}

TEST(ReadLogprobs, NumbersThatServersWrite) {
  const auto second = [](const std::string& number) {
    return First(R"({"logprobs":[{"token":"a","logprob":-1,"top_logprobs":[{"token":"b",
      "logprob":)" +
                 number + "}]}]}");
  };
  for (const char* zero :
       {"null", "-Infinity", "-inf", "\"-inf\"", "\"-Infinity\"", "-9999", "-9999.0", "\"-9999\"", "-1e999", "-1e30"}) {
    EXPECT_EQ(second(zero), "a -1 | b -1e+04") << zero;
  }
  for (const char* one : {"0", "-0.0", "1e-7", "0.0099", "1e-300"}) {
    EXPECT_TRUE(second(one) == "a -1 | b 0" || second(one) == "a -1 | b -0") << one << " " << second(one);
  }
  const std::string path = "logprobs[0].top_logprobs[0].logprob: ";
  EXPECT_EQ(second("0.5"), path + "0.5 is above 0, want a natural logarithm of a probability");
  EXPECT_EQ(second("Infinity"), path + "inf is above 0, want a natural logarithm of a probability");
  EXPECT_EQ(second("1e999"), path + "inf is above 0, want a natural logarithm of a probability");
  EXPECT_EQ(second("NaN"), path + "is not a number");
  EXPECT_EQ(second("\"much\""), path + "\"much\" is no number");
  EXPECT_EQ(second("[]"), path + "is array, want a number");
  EXPECT_EQ(First(R"({"completion_probabilities":[{"probs":[{"tok_str":"a","prob":1.5}]}]})"),
            "completion_probabilities[0].probs[0].prob: 1.5 is not in 0..1");
}

TEST(ReadLogprobs, HasNoneInARoleAUsageOrAnotherChoice) {
  for (const char* none :
       {R"({"choices":[{"index":0,"delta":{"role":"assistant","content":""},
      "logprobs":null}]})",
        R"({"choices":[],"usage":{}})",
        R"({"choices":[{"index":1,"logprobs":{"content":[{"token":"a","logprob":-1,
      "top_logprobs":[]}]}}]})",
        "{}", R"({"error":null,"prompt_progress":{"total":10}})", R"({"logprobs":{"content":[]}})"}) {
    EXPECT_EQ(First(none), "none") << none;
  }
}

TEST(ReadLogprobs, SaysWhatIsWrong) {
  EXPECT_EQ(First(""), "not a JSON object");
  EXPECT_EQ(First("[]"), "not a JSON object");
  EXPECT_EQ(First("[1]"), "not a JSON object");
  EXPECT_EQ(First("{\"choices\":[{"), "not a JSON object");
  EXPECT_EQ(First(R"({"error":{"message":"no such model","code":404}})"), "the server says: no such model");
  EXPECT_EQ(First(std::string(100, '[')), "JSON text: more than 64 arrays and objects within each other at byte 64");
  EXPECT_EQ(First(R"({"logprobs":[{"token":"a",
      "top_logprobs":[3]}]})"),
            "logprobs[0].top_logprobs[0]: is number, want an object");
  EXPECT_EQ(First(R"({"logprobs":[{"token":"a",
      "top_logprobs":3}]})"),
            "logprobs[0].top_logprobs: is number, want a list");
  EXPECT_EQ(First(R"({"choices":[{"logprobs":{"top_logprobs":[{"\ufffd":-0.7,"a":-0.9}]}}]})").substr(0, 63),
            "logprobs.top_logprobs[0]: names candidates by a text that is pa");
}

TEST(ReadLogprobs, KeepsTheBestTwentyOfOneLevelAndATokenOnce) {
  std::string top = R"({"id":5,"token":"x","logprob":-3},{"id":5,"token":"x","logprob":-3})";
  for (int k = 0; k < 100; ++k)
    top += ",{\"id\":" + std::to_string(100 + k) + ",\"token\":\"t\",\"logprob\":" + std::to_string(-100 + k) + "}";
  const auto read = ReadLogprobs(R"({"logprobs":[{"token":"x","logprob":-3,"top_logprobs":[)" + top + "]}]}");
  ASSERT_TRUE(read.ok()) << read.status();
  const auto& kept = read->tokens[0].top;
  ASSERT_EQ(kept.size(), kMostTop);
  EXPECT_EQ(*kept[0].id, 5);  // in the order given
  EXPECT_EQ(*kept[1].id, 181);
  EXPECT_EQ(*kept[19].id, 199);
  const auto deep = ReadLogprobs(R"({"logprobs":[{"token":"x","top_logprobs":[{"token":"y","logprob":-1,
      "top_logprobs":[{"token":"z"}]}]}]})");
  EXPECT_TRUE(deep->tokens[0].top[0].top.empty());
}

TEST(ReadLogprobs, TellsThoughtFromAnswer) {
  const auto thought = ReadLogprobs(R"({"choices":[{"delta":{"reasoning_content":"hm","content":null}}]})");
  EXPECT_TRUE(thought->has_thought && thought->answer.empty());
  const auto both = ReadLogprobs(R"({"choices":[{"message":{"reasoning":"hm","content":"yes"},
      "logprobs":{"content":[{"token":"hm"}],"reasoning_content":[]}}]})");
  EXPECT_TRUE(both->has_thought && both->thought_apart);
  EXPECT_EQ(both->answer, "yes");
  EXPECT_TRUE(ReadLogprobs(R"({"message":{"thinking":"hm","content":""}})")->has_thought);  // Ollama
}

}  // namespace
}  // namespace goad::openai
