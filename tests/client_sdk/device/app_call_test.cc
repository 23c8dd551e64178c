// What apps ask for: read, refused by name, and made into what the local server and goad take.
#include "client_sdk/device/app_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace goad::device {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

AppCall Read(const std::string& body, bool chat = true) {
  AppCall call;
  const auto error = ReadAppCall(body, chat, &call);
  EXPECT_FALSE(error) << body << ": " << error->message;
  return call;
}
std::string Refused(const std::string& body, bool chat = true) {
  AppCall call;
  const auto error = ReadAppCall(body, chat, &call);
  if (!error) return "taken";
  EXPECT_EQ(error->status, 400);
  return error->param + "|" + error->message;
}

TEST(AppCall, AWholeRequestGoesToBoth) {
  const AppCall call = Read(R"({"model": "gpt-x", "messages": [{"role": "developer", "content": "short"},
      {"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stream": true,
      "stream_options": {"include_usage": true}, "max_completion_tokens": 7, "temperature": 0.5, "seed": 3,
      "stop": ["a", "b"], "top_p": 0.9, "tools": [{"type": "function", "function": {"name": "f"}}], "user": "me",
      "logprobs": true, "top_logprobs": 3, "metadata": {"a": "b"}})");
  EXPECT_TRUE(call.offloadable.ok()) << call.offloadable;
  EXPECT_TRUE(call.stream && call.include_usage && call.logprobs);
  EXPECT_EQ(call.model, "gpt-x");
  const Query& query = call.query;
  EXPECT_EQ(query.messages_json.size(), 2u);
  EXPECT_EQ(query.max_output_tokens, 7);
  EXPECT_EQ(query.temperature, 0.5);
  EXPECT_EQ(query.seed, 3);
  EXPECT_THAT(query.stop, ::testing::ElementsAre("a", "b"));
  EXPECT_EQ(query.top_logprobs, 3);
  // What goad has a field for, and what is nobody's business at the edge, is not among the options.
  const json options = json::parse(query.options_json);
  EXPECT_EQ(options, (json{{"top_p", 0.9}, {"tools", {{{"type", "function"}, {"function", {{"name", "f"}}}}}}}));

  const json local = json::parse(LocalBody(call, "slm", 10));
  EXPECT_EQ(local["model"], "slm");
  EXPECT_EQ(local["stream"], true);
  EXPECT_EQ(local["stream_options"]["include_usage"], true);
  EXPECT_EQ(local["top_logprobs"], 10);
  EXPECT_EQ(local["user"], "me");
  EXPECT_EQ(local["top_p"], 0.9);
}

TEST(AppCall, AListOfOnePromptIsAPrompt) {
  const AppCall call = Read(R"({"prompt": ["x"]})", false);
  EXPECT_TRUE(call.offloadable.ok()) << call.offloadable;
  EXPECT_EQ(call.query.prompt, "x");
}

TEST(AppCall, TheAppsOwnRequestIsForAServerThatRefusesMore) {
  const json own = json::parse(AppsOwnBody(Read(R"({"messages": [{}], "tools": [], "model": "gpt-x"})"), "slm"));
  EXPECT_EQ(own, json::parse(R"({"messages": [{}], "tools": [], "model": "slm"})"));
  const json streamed = json::parse(AppsOwnBody(Read(R"({"messages": [{}], "stream": true})"), ""));
  EXPECT_EQ(streamed, json::parse(R"({"messages": [{}], "stream": true, "stream_options": {"include_usage": true}})"));
}

TEST(AppCall, ValuesAreCountedAndTextIsNot) {
  std::string values, text;
  for (size_t k = 0; k < kMostRequestValues; ++k) {
    values += "0,";
    text += ",[{\\\"";
  }
  EXPECT_THAT(Refused(R"({"messages": [)" + values + "0]}"), HasSubstr("65536 values"));
  EXPECT_EQ(Refused(R"({"messages": [{"content": ")" + text + R"("}]})"), "taken");
}

TEST(AppCall, TheLocalServerIsAskedForNoMoreThanTheAppWhereItTellsNoLogprobs) {
  EXPECT_FALSE(json::parse(LocalBody(Read(R"({"messages": [{}]})"), "", 0)).contains("logprobs"));
  EXPECT_EQ(json::parse(
                LocalBody(Read(R"({"messages": [{}], "logprobs": true, "top_logprobs": 20})"), "", 10))["top_logprobs"],
            20);
  EXPECT_EQ(json::parse(LocalBody(Read(R"({"prompt": "x"})", false), "", 10))["logprobs"], 10);
}

TEST(AppCall, WhatIsNoCallIsRefusedByName) {
  EXPECT_THAT(Refused("{"), HasSubstr("no JSON"));
  EXPECT_THAT(Refused("[1]"), HasSubstr("no JSON object"));
  EXPECT_THAT(Refused("{}"), HasSubstr("messages|"));
  EXPECT_THAT(Refused("{}", false), HasSubstr("prompt|"));
  EXPECT_THAT(Refused(R"({"messages": []})"), HasSubstr("messages|"));
  EXPECT_THAT(Refused(R"({"messages": "hi"})"), HasSubstr("messages|"));
  EXPECT_THAT(Refused(R"({"messages": [{}], "n": 2})"), HasSubstr("n|"));
  EXPECT_THAT(Refused(R"({"prompt": ["a", "b"]})", false), HasSubstr("one answer is given"));
  EXPECT_THAT(Refused(R"({"prompt": "x", "best_of": 3})", false), HasSubstr("best_of|"));
  EXPECT_THAT(Refused(R"({"messages": [{}], "stream": "yes"})"), HasSubstr("stream|"));
  EXPECT_THAT(Refused(R"({"messages": [{}], "stream_options": {}})"), HasSubstr("stream_options|"));
  EXPECT_THAT(Refused(R"({"messages": [{}], "logprobs": 3})"), HasSubstr("logprobs|"));
  EXPECT_THAT(Refused(R"({"messages": [{}], "logprobs": true, "top_logprobs": 21})"), HasSubstr("top_logprobs|"));
  EXPECT_THAT(Refused(R"({"messages": [{}], "top_logprobs": 2})"), HasSubstr("needs logprobs"));
  EXPECT_THAT(Refused(R"({"prompt": "x", "logprobs": 1e300})", false), HasSubstr("logprobs|"));
  EXPECT_THAT(Refused(R"({"messages": [{}], "model": 3})"), HasSubstr("model|"));
  EXPECT_THAT(Refused(std::string(70, '[') + std::string(70, ']')), HasSubstr("within each other"));
  EXPECT_THAT(Refused(std::string(kMostRequestBytes + 1, ' ')), HasSubstr("bytes"));
  EXPECT_EQ(Refused(R"({"messages": [{}], "n": 1, "stream": null, "stop": null, "seed": null, "logprobs": null})"),
            "taken");
}

// The local server may know what to do with it; goad is not asked, and `edge` says why.
TEST(AppCall, WhatHasNoPlaceInAQueryIsLocal) {
  for (const auto& [body, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"({"prompt": [1, 2]})", "prompt"},
           {R"({"prompt": "a", "max_tokens": 0})", "max_tokens"},
           {R"({"prompt": "a", "max_tokens": 1.5})", "max_tokens"},
           {R"({"prompt": "a", "temperature": "hot"})", "temperature"},
           {R"({"prompt": "a", "seed": 18446744073709551615})", "seed"},
           {R"({"prompt": "a", "seed": 1.5})", "seed"},
           {R"({"prompt": "a", "stop": [1]})", "stop"},
           {R"({"prompt": "a", "stop": {}})", "stop"},
           {R"({"prompt": "a", "echo": true})", "echo"}}) {
    const AppCall call = Read(body, false);
    EXPECT_FALSE(call.offloadable.ok()) << body;
    EXPECT_THAT(std::string(call.offloadable.message()), HasSubstr(field));
  }
  EXPECT_TRUE(Read(R"({"prompt": "a", "max_tokens": -1})", false).offloadable.ok()) << "llama.cpp's no limit";
  EXPECT_EQ(Read(R"({"prompt": "a"})", false).query.temperature, 1) << "OpenAI's default";
}

}  // namespace
}  // namespace goad::device
