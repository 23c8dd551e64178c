#include "client_sdk/openai/app_request.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad::openai {
namespace {

std::string Wrong(const std::string& message, bool remote_images = false) {
  return std::string(ReadAppMessage(message, 10000, remote_images).status().message());
}

TEST(AppMessage, IsKeptWhole) {
  const std::string assistant =
      R"({"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":)"
      R"({"name":"weather","arguments":"{\"city\":\"Aachen\"}"}}],"name":"a","reasoning_content":"hm"})";
  const auto read = ReadAppMessage(assistant, 10000, false);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->role, "assistant");
  EXPECT_EQ(read->content, "");
  EXPECT_EQ(nlohmann::json::parse(read->json), nlohmann::json::parse(assistant));

  const auto parts = ReadAppMessage(
      R"({"role":"user","content":[{"type":"text","text":"what is "},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA","detail":"low"}},{"type":"text","text":"this?"}]})",
      10000, false);
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ(parts->content, "what is this?");
}

TEST(NeedsOf, SaysWhatIsInMessagesAndOptions) {
  const std::string plain = R"({"role":"user","content":"x"})";
  const std::string image =
      R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a.example/cat.png"}}]})";
  const std::string called = R"({"role":"tool","tool_call_id":"c","content":"4"})";
  const auto needs = [](const std::vector<std::string>& messages, const std::string& options) {
    const AppNeeds n = NeedsOf(messages, options);
    return std::string(n.tools ? "tools" : "") + (n.images ? "images" : "");
  };
  EXPECT_EQ(needs({}, ""), "");
  EXPECT_EQ(needs({plain}, R"({"top_p":0.5,"tools":[]})"), "");
  EXPECT_EQ(needs({plain}, R"({"tools":[{"type":"function"}]})"), "tools");
  EXPECT_EQ(needs({plain}, R"({"functions":[{}]})"), "tools");
  EXPECT_EQ(needs({plain, called}, ""), "tools");
  EXPECT_EQ(needs({image, plain}, ""), "images") << "whether it may go on is goad's to say";
  EXPECT_EQ(needs({image, called}, R"({"tools":[{}]})"), "toolsimages");
  for (const std::string& bad :
       {std::string("{"), std::string("7"), std::string(100, '['), std::string(R"({"tools":7})")}) {
    EXPECT_EQ(needs({bad}, bad), bad == R"({"tools":7})" ? "tools" : "") << bad;
  }
}

TEST(AppMessage, WhatIsWrongIsNamed) {
  EXPECT_EQ(Wrong(""), "is no JSON");
  EXPECT_EQ(Wrong("{"), "is no JSON");
  EXPECT_EQ(Wrong("[]"), "is array, want an object");
  EXPECT_EQ(Wrong(R"({"role":"user"})"), "content: is missing");
  EXPECT_EQ(Wrong(R"({"role":"robot","content":"x"})"),
            R"(role: "robot" is not one of system, developer, user, assistant, tool)");
  EXPECT_EQ(Wrong(R"({"role":7,"content":"x"})"), R"(role: "" is not one of system, developer, user, assistant, tool)");
  EXPECT_EQ(Wrong(R"({"role":"user","content":7})"), "content: is number, want a string or a list");
  EXPECT_EQ(Wrong(R"({"role":"user","content":[]})"), "content: 0 parts, want 1..64");
  EXPECT_EQ(Wrong(R"({"role":"user","content":[7]})"), R"(content[0].type: "" is not text or image_url)");
  EXPECT_EQ(Wrong(R"({"role":"user","content":[{"type":"input_audio"}]})"),
            R"(content[0].type: "input_audio" is not text or image_url)");
  EXPECT_EQ(Wrong(R"({"role":"user","content":[{"type":"text","text":null}]})"),
            "content[0].text: is null, want a string");
  EXPECT_EQ(Wrong(R"({"role":"user","content":[{"type":"image_url","image_url":"data:x"}]})"),
            "content[0].image_url: is string, want an object");
  EXPECT_EQ(Wrong(R"({"role":"user","content":"x","audio":1})").substr(0, 28), R"(field "audio" is not one of )");
  EXPECT_EQ(Wrong(R"({"role":"user","content":"x","tool_calls":[1]})"), "tool_calls: are the assistant's");
  EXPECT_EQ(Wrong(R"({"role":"assistant","tool_calls":{}})"), "tool_calls: want a list of 1..64");
  EXPECT_EQ(Wrong(R"({"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]})"),
            "tool_calls[0].function.arguments: is object, want a string");
  EXPECT_EQ(Wrong(R"({"role":"tool","content":"x"})"), "tool_call_id: is missing; role is tool");
  EXPECT_EQ(Wrong(R"({"role":"user","content":"x","name":")" + std::string(129, 'n') + "\"}"),
            "name: 129 bytes, want at most 128");
  EXPECT_NE(Wrong("{\"role\":\"user\",\"content\":\"\xff\"}"), "");
  EXPECT_NE(Wrong(R"({"role":"user","content":"\ud800"})"), "") << "half a character is in no JSON that may go on";
  EXPECT_NE(Wrong(std::string(17, '[') + std::string(17, ']')).find("16"), std::string::npos);
  EXPECT_NE(Wrong(R"({"role":"user","content":")" + std::string(10000, 'x') + "\"}").find("10000"), std::string::npos);
}

TEST(AppMessage, ImagesComeAlong) {
  const std::string remote =
      R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]})";
  EXPECT_EQ(Wrong(remote), R"(content[0].image_url.url: "file:///etc/passwd" does not begin with data:)");
  EXPECT_EQ(Wrong(remote, /*remote_images=*/true), "");
}

TEST(AppOptions, OnlyWhatIsAllowed) {
  const std::vector<std::string> allowed = {"top_p", "tools", "functions"};
  const auto wrong = [&](const std::string& text) {
    return std::string(ReadAppOptions(text, allowed).status().message());
  };
  EXPECT_EQ(wrong(R"({"top_p":0.1})"), "");
  EXPECT_EQ(ReadAppOptions("{}", allowed)->json, "");
  EXPECT_EQ(ReadAppOptions(R"({ "top_p" : 0.1 })", allowed)->json, R"({"top_p":0.1})");
  EXPECT_TRUE(ReadAppOptions(R"({"tools":[{"type":"function"}]})", allowed)->tools);
  EXPECT_TRUE(ReadAppOptions(R"({"functions":[{}]})", allowed)->tools);
  EXPECT_FALSE(ReadAppOptions(R"({"tools":[]})", allowed)->tools);
  EXPECT_FALSE(ReadAppOptions(R"({"tools":null})", allowed)->tools);
  EXPECT_EQ(wrong(R"({"tools":{}})"), "tools: is object, want a list");
  EXPECT_EQ(wrong(R"({"guided_regex":"(a+)+"})"),
            R"("guided_regex" is not passed on; allowed are top_p, tools, functions)");
  EXPECT_EQ(wrong("\"top_p\""), "is string, want an object");
  EXPECT_EQ(wrong("not json"), "is no JSON");
  EXPECT_EQ(wrong(R"({"top_p":1e999})"), "is no JSON");
  EXPECT_NE(wrong("{\"tools\":" + std::string(16, '[') + std::string(16, ']') + "}").find("16"), std::string::npos);
  EXPECT_NE(wrong("{\"top_p\":\"" + std::string(kMostOptionsBytes, 'x') + "\"}").find("65536"), std::string::npos);
  EXPECT_EQ(wrong("{\"\\u0000\\u001b[31m\":1}"),
            R"("\u0000\u001b[31m" is not passed on; allowed are top_p, tools, functions)")
      << "nothing that a terminal obeys";
  EXPECT_EQ(ReadAppOptions(R"({"x":1})", {}).status().message(), R"("x" is not passed on; allowed are none)");
  EXPECT_LT(ReadAppOptions(R"({"x":1})", std::vector<std::string>(128, std::string(64, 'o'))).status().message().size(),
            800u);
}

}  // namespace
}  // namespace goad::openai
