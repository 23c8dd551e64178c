// Answers as apps get them.
#include "client_sdk/device/answer_json.h"

#include <gtest/gtest.h>

namespace goad::device {
namespace {

using nlohmann::json;
using Source = Answer::Source;

AppCall Call(bool chat, int top_logprobs = 0) {
  AppCall call;
  call.chat = chat;
  call.logprobs = top_logprobs > 0;
  call.top_logprobs = top_logprobs;
  return call;
}
AnswerPiece Piece(const std::string& text) {
  AnswerPiece piece;
  piece.text = text;
  piece.logprobs = {{text, -0.5, {{text, -0.5, {}}, {"other", -1.5, {}}, {"third", -2.5, {}}}}};
  return piece;
}
Answer Edge() {
  Answer answer;
  answer.source = Source::kEdge;
  answer.decision.reason = "UNCERTAIN";
  answer.decision.site = "cell-a";
  answer.backend = "cell-a/0";
  answer.finish_reason = "stop";
  answer.prompt_tokens = 5, answer.output_tokens = 2;
  answer.uncertainty = 0.9;
  return answer;
}

TEST(AnswerJson, SaysWhoAnswered) {
  EXPECT_EQ(AnsweredBy(Source::kEdge, Edge()), "edge cell-a UNCERTAIN");
  Answer local;
  local.why_local = "NO_GAIN";
  EXPECT_EQ(AnsweredBy(Source::kLocal, local), "local NO_GAIN");
}

TEST(AnswerJson, AStreamOfChat) {
  AnswerJson answer(Call(true, 2), "7", "slm", 12);
  const json first = json::parse(answer.Chunk(Piece("a")));
  EXPECT_EQ(first["id"], "chatcmpl-7");
  EXPECT_EQ(first["object"], "chat.completion.chunk");
  EXPECT_EQ(first["created"], 12);
  EXPECT_EQ(first["choices"][0]["delta"], (json{{"role", "assistant"}, {"content", "a"}}));
  const json& logprob = first["choices"][0]["logprobs"]["content"][0];
  EXPECT_EQ(logprob["top_logprobs"].size(), 2u) << "as many as the app asked for";
  EXPECT_EQ(logprob["bytes"], json::array({'a'}));
  EXPECT_EQ(json::parse(answer.Chunk(Piece("b")))["choices"][0]["delta"], (json{{"content", "b"}}));
  const json last = json::parse(answer.LastChunk(Edge(), Source::kEdge, 0.9));
  EXPECT_EQ(last["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(last["goad"]["answered_by"], "edge");
  EXPECT_EQ(last["goad"]["site"], "cell-a");
  const json usage = json::parse(answer.UsageChunk(Edge()));
  EXPECT_TRUE(usage["choices"].empty());
  EXPECT_EQ(usage["usage"]["total_tokens"], 7);
}

TEST(AnswerJson, AnAnswerThatBrokeOffSaysError) {
  AnswerJson answer(Call(true), "7", "edge", 12);
  Answer broken = Edge();
  broken.source = Source::kNone;
  broken.why_local = "STREAM_LOST";
  EXPECT_EQ(json::parse(answer.LastChunk(broken, Source::kEdge, 0.9))["choices"][0]["finish_reason"], "error");
}

TEST(AnswerJson, ToolCallsThoughtAndRefusal) {
  AnswerPiece piece;
  piece.reasoning = "hm";
  piece.text = "no!";
  piece.refusal_bytes = 2;
  piece.tool_calls = {{0, {"id1", "f", "{\"a\""}}, {0, {"", "", ":1}"}}};
  AnswerJson streamed(Call(true), "7", "slm", 12);
  const json delta = json::parse(streamed.Chunk(piece))["choices"][0]["delta"];
  EXPECT_EQ(delta["content"], "n");
  EXPECT_EQ(delta["refusal"], "o!");
  EXPECT_EQ(delta["reasoning_content"], "hm");
  EXPECT_EQ(delta["tool_calls"][0]["function"]["name"], "f");
  EXPECT_EQ(delta["tool_calls"][0]["type"], "function");
  EXPECT_EQ(delta["tool_calls"][1], (json{{"index", 0}, {"function", {{"arguments", ":1}"}}}}));

  AnswerJson whole(Call(true), "7", "slm", 12);
  whole.Add(piece);
  Answer answer = Edge();
  answer.text = "no!";
  answer.reasoning = "hm";
  answer.tool_calls = {{"id1", "f", "{\"a\":1}"}};
  const json message = json::parse(whole.Whole(answer, Source::kEdge, 0.9))["choices"][0]["message"];
  EXPECT_EQ(message["content"], "n");
  EXPECT_EQ(message["refusal"], "o!");
  EXPECT_EQ(message["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
  answer.text.clear();
  AnswerJson calls(Call(true), "7", "slm", 12);
  EXPECT_TRUE(json::parse(calls.Whole(answer, Source::kEdge, 0.9))["choices"][0]["message"]["content"].is_null());
}

TEST(AnswerJson, CompletionsHaveOpenAisOwnLogprobs) {
  AnswerJson answer(Call(false, 1), "7", "slm", 12);
  answer.Add(Piece("ab"));
  answer.Add(Piece("c"));
  Answer text = Edge();
  text.text = "abc";
  const json choice = json::parse(answer.Whole(text, Source::kEdge, 0.9))["choices"][0];
  EXPECT_EQ(choice["text"], "abc");
  EXPECT_EQ(choice["logprobs"]["tokens"], (json{"ab", "c"}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], (json{0, 2}));
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][0], (json{{"ab", -0.5}}));
}

// Tokens are bytes: half a character is no UTF-8, and must not end the process that writes it down.
TEST(AnswerJson, HalfACharacterIsReplaced) {
  AnswerJson answer(Call(true, 1), "7", "slm", 12);
  AnswerPiece piece;
  piece.logprobs = {{"\xC3", -1, {{"\xC3", -1, {}}}}};
  const json chunk = json::parse(answer.Chunk(piece));
  EXPECT_EQ(chunk["choices"][0]["logprobs"]["content"][0]["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(chunk["choices"][0]["logprobs"]["content"][0]["bytes"], json::array({0xC3}));
}

}  // namespace
}  // namespace goad::device
