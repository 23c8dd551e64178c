// Which tokens of what servers send are an answer's content, and what becomes of the others.
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "goad/uncertainty.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad {
namespace {

using Tokens = std::vector<std::string>;

// "yes" is the content: its log-probability is -1, that of everything else -5.
std::string Entry(const std::string& token) {
  return absl::StrCat("{\"token\":", nlohmann::json(token).dump(), ",\"logprob\":", token == "yes" ? -1 : -5, "}");
}
std::string Chat(const Tokens& tokens, const std::string& message = "{\"content\":null}") {
  std::string list;
  for (const std::string& token : tokens) list += (list.empty() ? "" : ",") + Entry(token);
  return absl::StrCat(R"({"choices":[{"index":0,"message":)", message, R"(,"logprobs":{"content":[)", list, "]}}]}");
}
std::string Chunk(const std::string& token, const std::string& delta = "{}") {
  return absl::StrCat(R"({"choices":[{"index":0,"delta":)", delta, R"(,"logprobs":{"content":[)", Entry(token),
                      "]}}]}");
}

std::string Shown(const ContentReader& reader) {
  const auto logprobs = reader.Logprobs();
  if (!logprobs.ok()) return std::string(logprobs.status().message());
  return absl::StrJoin(*logprobs, " ");
}
std::string Read(const std::string& json, int wanted = 16) {
  ContentReader reader(wanted);
  if (const auto pushed = reader.Push(json); !pushed.ok()) return std::string(pushed.status().message());
  reader.End();
  return Shown(reader);
}
std::string Counts(const ContentReader& reader) {
  const LeftOut out = reader.left_out();
  return absl::StrCat(out.blanks, " ", out.special, " ", out.thoughts, " ", out.tool_calls);
}

struct Case {
  Tokens tokens;
  const char* left_out;  // blanks, special, thoughts, tool calls
};
// Each has the content "yes" "yes", as one text and in chunks.
const Case kCases[] = {
    {{"yes", "yes"}, "0 0 0 0"},
    {{" ", "yes", "\n", "\n\n", "yes", "\t"}, "4 0 0 0"},
    {{"", "yes", "", "yes", "<|im_end|>"}, "0 3 0 0"},
    {{"<s>", "yes", "yes", "</s>"}, "0 2 0 0"},
    {{"<|im_start|>", "assistant", "\n", "yes", "yes"}, "0 3 0 0"},
    {{"<think>", "\n", "Let", " me", "</think>", "\n\n", "yes", "yes"}, "1 0 5 0"},
    {{"\n", "<", "think", ">", "hm", "</", "think", ">", "yes", " ", "yes"}, "2 0 7 0"},
    {{"yes", "<think>", "hm", "</think>", "yes"}, "0 0 3 0"},    // between two parts of an answer
    {{"Well", ",", "</think>", "\n", "yes", "yes"}, "1 0 3 0"},  // the prompt had opened it
    {{"<|channel|>", "analysis", "<|message|>", "The", " user", "<|end|>", "<|start|>", "assistant", "<|channel|>",
      "final", "<|message|>", "yes", "yes", "<|return|>"},
     "0 9 3 0"},
    {{"<|channel|>", "commentary", " to=functions.f", "<|message|>", "{}", "<|call|>", "yes", "yes"}, "0 4 0 2"},
    {{"yes", "yes", "<tool_call>", "\n", "{\"name\"", ":", "\"f\"}", "</tool_call>"}, "0 0 0 6"},
    {{"yes", "<", "tool", "_call", ">", "{}", "</", "tool_call", ">", "\n", "yes"}, "1 0 0 8"},
    {{"<|python_tag|>", "f()", "<|eom_id|>", "yes", "yes"}, "0 0 0 3"},
    {{"yes", "yes", "[TOOL_CALLS]", "[{", "}]", "</s>"}, "0 0 0 4"},
    {{"<\xEF\xBD\x9Ctool\xE2\x96\x81"
      "calls\xE2\x96\x81"
      "begin\xEF\xBD\x9C>",
      "f",
      "<\xEF\xBD\x9Ctool\xE2\x96\x81"
      "calls\xE2\x96\x81"
      "end\xEF\xBD\x9C>",
      "yes", "yes"},
     "0 0 0 3"},
    {{"<unused94>", "<think>", "hm", "</think>", "yes", "yes"}, "0 1 3 0"},
    {{"<unused94>", "thought", "\n", "hm", "<unused95>", "yes", "yes"}, "0 1 4 0"},
};

TEST(ContentReader, TakesTheContentAlone) {
  for (const auto& [tokens, left_out] : kCases) {
    const std::string name = absl::StrJoin(tokens, "|");
    ContentReader whole(16), streamed(16);
    EXPECT_FALSE(*whole.Push(Chat(tokens))) << name;
    for (const std::string& token : tokens) EXPECT_FALSE(*streamed.Push(Chunk(token))) << name;
    for (ContentReader* reader : {&whole, &streamed}) {
      reader->End();
      EXPECT_EQ(Shown(*reader), "-1 -1") << name;
      EXPECT_EQ(Counts(*reader), left_out) << name;
    }
  }
}

// Whatever is left out and wherever it is cut: nothing is counted twice and nothing is lost.
TEST(ContentReader, EveryTokenIsContentOrLeftOut) {
  for (const auto& [tokens, left_out] : kCases) {
    ContentReader reader(256);
    for (const std::string& token : tokens) ASSERT_TRUE(reader.Push(Chunk(token)).ok());
    reader.End();
    const LeftOut out = reader.left_out();
    const auto logprobs = reader.Logprobs();
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    EXPECT_EQ(logprobs->size() + static_cast<size_t>(out.blanks + out.special + out.thoughts + out.tool_calls),
              tokens.size())
        << absl::StrJoin(tokens, "|");
  }
}

TEST(ContentReader, WhatOnlyLooksLikeAMarkerIsContent) {
  for (const Tokens& tokens : {Tokens{"<", "p", ">"},
                               {"<"},
                               {"[", "1", "]"},
                               {"<", " ", "think", ">"},
                               {"<", "<|im_end|>"},
                               {"<th", "ead>"}}) {
    ContentReader reader(16);
    for (const std::string& token : tokens) ASSERT_TRUE(reader.Push(Chunk(token)).ok());
    reader.End();
    const LeftOut out = reader.left_out();
    const auto logprobs = reader.Logprobs();
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    EXPECT_EQ(logprobs->size() + static_cast<size_t>(out.blanks + out.special), tokens.size());
    EXPECT_EQ(out.thoughts, 0);
  }
}

TEST(ContentReader, StopsAtK) {
  ContentReader reader(2);
  EXPECT_EQ(Shown(reader), "0 of 2 content tokens, and the answer has not ended");
  EXPECT_FALSE(*reader.Push(Chunk("yes")));
  EXPECT_EQ(reader.Logprobs().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Shown(reader), "1 of 2 content tokens, and the answer has not ended");
  EXPECT_FALSE(*reader.Push(Chunk("\n")));
  EXPECT_FALSE(*reader.Push(R"({"choices":[{"delta":{"role":"assistant"}}]})"));
  EXPECT_TRUE(*reader.Push(Chunk("b")));
  EXPECT_TRUE(*reader.Push(Chunk("yes")));  // changes nothing
  EXPECT_EQ(Shown(reader), "-1 -5");
  EXPECT_EQ(Counts(reader), "1 0 0 0");
  EXPECT_EQ(Read(Chat({"yes", "b", "c"}), 2), "-1 -5");
  EXPECT_EQ(Read(Chat({"yes", "b"}), 0), "-1");  // moved into 1..256
  EXPECT_EQ(Read(Chat(Tokens(300, "b")), 1000).size(), 256 * 3 - 1u);
}

TEST(ContentReader, AnAnswerThatHasEndedIsKnownByWhatItHas) {
  ContentReader reader(16);
  EXPECT_FALSE(*reader.Push(Chunk("yes")));
  EXPECT_FALSE(*reader.Push(Chunk("<")));  // held: it may begin a thought
  reader.End();
  EXPECT_EQ(Shown(reader), "-1 -5");
  EXPECT_TRUE(*reader.Push(Chunk("yes")));
  EXPECT_EQ(Shown(reader), "-1 -5");
}

TEST(ContentReader, SaysWhatCameInsteadOfContent) {
  EXPECT_EQ(Read("{}"), "no log-probabilities (is logprobs or n_probs asked for?)");
  EXPECT_EQ(Read(Chat({"\n", "<think>", "hm", "<|im_end|>"})),
            "no content: the answer has 1 blanks, 0 special tokens, 3 of thoughts, 0 of tool calls; it begins with "
            "\"\\n<think>hm<|im_end|>\"");
  EXPECT_EQ(Read(""), "not a JSON object");
  EXPECT_EQ(Read(R"({"error":{"message":"out of memory"}})"), "the server says: out of memory");
  ContentReader reader(1);
  ASSERT_TRUE(reader.Push(Chat(Tokens(100, "<think>"))).ok());
  EXPECT_LE(reader.left_out().begins.size(), 60u);
}

TEST(ContentReader, BelievesAServerThatTellsThoughtsAndToolCallsFromContent) {
  const std::string thought = R"({"reasoning_content":"hm, no","content":"\n\nyesyes"})";
  EXPECT_EQ(Read(Chat({"hm", ",", " no", "\n\n", "yes", "yes", "<|im_end|>"}, thought)), "-1 -1")
      << "no marker is seen";
  const std::string call = R"({"content":"yesyes","tool_calls":[{"function":{"name":"f","arguments":"yesyes"}}]})";
  EXPECT_EQ(Read(Chat({"yes", "yes", "f", "yes", "yes"}, call)), "-1 -1");
  const std::string alone = R"({"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]})";
  EXPECT_EQ(
      Read(Chat({"f", "{}"}, alone)),
      "no content: the answer has 0 blanks, 0 special tokens, 0 of thoughts, 2 of tool calls; it begins with \"f{}\"");
  EXPECT_EQ(Read(Chat({"yes"}, R"({"content":"yes","tool_calls":null})")), "-1");
  EXPECT_EQ(Read(Chat({"yes"}, R"({"content":null,"tool_calls":[]})")), "-1");
  ContentReader held(16);  // "<" may begin a thought, and does not
  EXPECT_FALSE(*held.Push(Chunk("<", R"({"content":"<"})")));
  EXPECT_FALSE(*held.Push(Chunk("hm", R"({"reasoning_content":"x"})")));
  EXPECT_FALSE(*held.Push(Chunk("yes", R"({"content":"yes"})")));
  held.End();
  EXPECT_EQ(Shown(held), "-5 -1");
  ContentReader reader(16);  // streamed
  for (const char* token : {"hm", ","}) EXPECT_FALSE(*reader.Push(Chunk(token, R"({"reasoning_content":"x"})")));
  EXPECT_FALSE(*reader.Push(Chunk("yes", R"({"content":"yes","tool_calls":null})")));
  EXPECT_FALSE(*reader.Push(Chunk("hm", R"({"reasoning_content":"x"})")));  // it thinks again
  EXPECT_FALSE(*reader.Push(Chunk("yes", R"({"content":"yes"})")));
  for (const char* token : {"f", "("}) EXPECT_FALSE(*reader.Push(Chunk(token, R"({"tool_calls":[{"index":0}]})")));
  EXPECT_FALSE(*reader.Push(Chunk(")")));  // with neither: the call goes on
  reader.End();
  EXPECT_EQ(Shown(reader), "-1 -1");
  EXPECT_EQ(Counts(reader), "0 0 3 3");
}

// The token's own log-probability, wherever the server puts it; one that nobody told is no probability of 0.
TEST(ContentReader, ReadsTheChosenTokenInEveryShape) {
  for (
      const char* json : {
          R"({"choices":[{"logprobs":{"content":[{"token":"a","logprob":-1.5,"top_logprobs":[{"token":"b","logprob":-1}]}]}}]})",
          R"({"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":[-1.5],"top_logprobs":[{"b":-1}]}}]})",
          R"({"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":[null],"top_logprobs":[{"b":-1,"a":-1.5}]}}]})",
          R"({"completion_probabilities":[{"token":"a","logprob":-1.5,"top_logprobs":[]}]})",
          R"({"completion_probabilities":[{"content":"a","probs":[{"tok_str":"b","prob":0.5},{"tok_str":"a","prob":0.22313016014843}]}]})",
          R"({"meta_info":{"completion_tokens":1,"output_token_logprobs":[[-1.5,7,"a"]]}})",
          R"({"token":{"id":7,"text":"a","logprob":-1.5,"special":false}})",
          R"({"details":{"tokens":[{"id":7,"text":"a","logprob":-1.5,"special":false},{"text":"</s>","logprob":0,"special":true}]}})",
          R"({"message":{"content":"a"},"logprobs":[{"token":"a","logprob":-1.5}]})",
          R"({"choices":[{"logprobs":{"top_logprobs":[{"b":-1.5,"a":-3}]}}]})",  // not said which: the best
      }) {
    EXPECT_EQ(Read(json), "-1.5") << json;
  }
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"tokens":["a","b"],"token_logprobs":[-1,null]}}]})"),
            "content token 1 \"b\": the server told no log-probability of it");
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"content":[{"token":"a"}]}}]})"),
            "content token 0 \"a\": the server told no log-probability of it");
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"content":[{"token":"a","logprob":-9999.0}]}}]})"), "-9999");
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"tokens":["a","b"],"token_logprobs":[-1,"x"]}}]})"),
            "logprobs.tokens[1].logprob: \"x\" is no number");
}

TEST(ContentReader, SglangChunksThatBeginAgainEachTime) {
  ContentReader reader(2);
  EXPECT_FALSE(
      *reader.Push(R"({"text":"a","meta_info":{"completion_tokens":1,"output_token_logprobs":[[-1,1,"a"]]}})"));
  EXPECT_TRUE(*reader.Push(
      R"({"text":"ab","meta_info":{"completion_tokens":2,"output_token_logprobs":[[-1,1,"a"],[-2,2,"b"]]}})"));
  EXPECT_EQ(Shown(reader), "-1 -2");
}

}  // namespace
}  // namespace goad
