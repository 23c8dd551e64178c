// A local server's answer as it comes in: pieces, uncertainty, end; and what servers send that is none.
#include "client_sdk/device/local_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client_sdk/device/local_server.h"

namespace goad::device {
namespace {

using ::testing::HasSubstr;

class Collected : public LocalOutput {
 public:
  bool Push(AnswerPiece piece) override {
    text += piece.text, reasoning += piece.reasoning, tokens += piece.tokens;
    calls += piece.tool_calls.size();
    logprobs += piece.logprobs.size();
    ++pieces;
    return pieces < most;
  }
  void Uncertainty(double told) override {
    uncertainty = told;
    told_after = pieces;
  }
  void OnUnwanted(std::function<void()>) override {}
  std::string text, reasoning;
  int tokens = 0, pieces = 0, most = 1000, told_after = -1;
  size_t calls = 0, logprobs = 0;
  std::optional<double> uncertainty;
};

std::string Chunk(const std::string& token, const std::string& more = "") {
  return "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + token + "\"}" + more + "}]}\n\n";
}
const char* const kTop =
    R"(,"logprobs":{"content":[{"token":" yes","logprob":-0.2231,"top_logprobs":[{"token":" yes","logprob":-0.2231},{"token":" no","logprob":-1.6094}]}]})";

LocalEnd Play(const std::string& body, Collected* to, bool streamed = true, bool logprobs = false, size_t cut = 7) {
  LocalAnswer answer(streamed, logprobs, to);
  for (size_t at = 0; at < body.size(); at += cut) {
    if (!answer.Push(std::string_view(body).substr(at, cut))) break;
  }
  return answer.End();
}

TEST(LocalAnswer, PiecesUncertaintyAndEnd) {
  const std::string body =
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n" + Chunk(" yes", kTop) +
      Chunk(" sir") +
      "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
  for (const size_t cut : {size_t{1}, size_t{3}, size_t{1000}}) {
    Collected to;
    const LocalEnd end = Play(body, &to, true, true, cut);
    EXPECT_TRUE(end.status.ok()) << end.status;
    EXPECT_EQ(end.finish_reason, "stop");
    EXPECT_EQ(end.prompt_tokens, 9);
    EXPECT_EQ(end.output_tokens, 2);
    EXPECT_EQ(to.text, " yes sir");
    EXPECT_EQ(to.logprobs, 1u);
    // 1 - (0.8 - 0.2), told with the first token and not with the second
    ASSERT_TRUE(to.uncertainty);
    EXPECT_NEAR(*to.uncertainty, 0.4, 1e-4);
    EXPECT_EQ(to.told_after, 1);
  }
}

TEST(LocalAnswer, WhatTheModelThinksIsNoContent) {
  const std::string body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n" +
                           Chunk(" yes", kTop) + "data: [DONE]\n\n";
  Collected to;
  EXPECT_TRUE(Play(body, &to).status.ok());
  EXPECT_EQ(to.reasoning, "hm");
  EXPECT_EQ(to.told_after, 2);
}

TEST(LocalAnswer, WithoutLogprobsNoUncertainty) {
  Collected to;
  EXPECT_TRUE(Play(Chunk("yes") + "data: [DONE]\n\n", &to).status.ok());
  EXPECT_FALSE(to.uncertainty);
}

TEST(LocalAnswer, AnAnswerThatBreaksOffOrMakesNoSenseIsNone) {
  for (const auto& [body, words] : std::initializer_list<std::pair<std::string, const char*>>{
           {Chunk("a"), "broke off"},
           {"", "broke off"},
           {"data: [DONE]\n\n", "nothing in it"},
           {"data: "
            "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1000000000,\"function\":{\"name\":\"f\"}}]}}]}\n\n",
            "tool call"},
           {Chunk("a") + "data: {\"error\":{\"message\":\"no memory\"}}\n\n", "no memory"},
           {Chunk("a") + "error: {\"message\":\"slot gone\"}\n\n", "slot gone"},
           {Chunk("a") + "data: nonsense\n\n", "no chunk"},
           {"data: " + std::string(LocalAnswer::kMostEventBytes + 10, 'x'), "bytes"}}) {
    Collected to;
    const LocalEnd end = Play(body, &to, true, false, 65536);
    EXPECT_FALSE(end.status.ok()) << body.substr(0, 60);
    EXPECT_THAT(std::string(end.status.message()), HasSubstr(words));
  }
}

TEST(LocalAnswer, AServerThatDoesNotStream) {
  Collected to;
  const LocalEnd end = Play(
      R"({"choices":[{"index":0,"message":{"content":"all of it"},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":3}})",
      &to, false);
  EXPECT_TRUE(end.status.ok()) << end.status;
  EXPECT_EQ(to.text, "all of it");
  EXPECT_EQ(end.finish_reason, "length");
}

// Some servers keep the connection after the end, and some write on.
TEST(LocalAnswer, TheEndIsTheEnd) {
  Collected to;
  LocalAnswer answer(true, false, &to);
  EXPECT_TRUE(answer.Push(Chunk("a")));
  EXPECT_FALSE(answer.finished());
  EXPECT_TRUE(answer.Push("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"));
  EXPECT_TRUE(answer.finished());
  EXPECT_TRUE(answer.Push(Chunk("more") +
                          "data: {\"choices\":[],\"usage\":{\"completion_tokens\":1,\"prompt_tokens\":2}}\n\n"));
  EXPECT_FALSE(answer.Push("data: [DONE]\n\n" + Chunk("and more")));
  const LocalEnd end = answer.End();
  EXPECT_TRUE(end.status.ok()) << end.status;
  EXPECT_EQ(end.output_tokens, 1);
  EXPECT_EQ(to.text, "a");
}

TEST(LocalAnswer, StopsWhenNobodyWantsTheRest) {
  Collected to;
  to.most = 1;
  std::string body;
  for (int k = 0; k < 100; ++k) body += Chunk("a");
  Play(body, &to);
  EXPECT_EQ(to.pieces, 1);
}

TEST(LocalAddress, OfAnUrl) {
  const auto plain = ReadLocalAddress("http://127.0.0.1:8081");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->host, "127.0.0.1");
  EXPECT_EQ(plain->port, 8081);
  EXPECT_EQ(plain->path, "");
  EXPECT_EQ(ReadLocalAddress("http://localhost:11434/v1/")->path, "");
  EXPECT_EQ(ReadLocalAddress("http://h/api/v1")->path, "/api");
  EXPECT_EQ(ReadLocalAddress("http://[::1]:9")->host, "::1");
  for (const char* bad : {"127.0.0.1:8081", "https://h", "http://", "http://h:0", "http://h:99999", "http://h:x",
                          "http://user:pw@h", "http://h/a?b", "http://:80"}) {
    EXPECT_FALSE(ReadLocalAddress(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace goad::device
