#include "server/dispatch/backend_request.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad::server {
namespace {

TEST(MakeRequestBody, SaysEverything) {
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

TEST(MakeRequestBody, CarriesWhatAnAppAsksForAndGivesWayInNothingOfItsOwn) {
  BackendConfig backend;
  backend.api = BackendApi::kChat;
  PromptBody prompt;
  prompt.chat = true;
  prompt.messages = {{"developer", "be brief", ""},
                     {"tool", "4", R"({"role":"tool","tool_call_id":"c","content":"4"})"}};
  prompt.options = R"({"top_p":0.5,"stream":false,"max_tokens":99999,"messages":[],"tools":[{"type":"function"}]})";
  const auto body = nlohmann::json::parse(MakeRequestBody(backend, prompt, 9));
  EXPECT_EQ(body["top_p"], 0.5);
  EXPECT_EQ(body["tools"], nlohmann::json::parse(R"([{"type":"function"}])"));
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["max_tokens"], 9);
  EXPECT_EQ(body["model"], "llm");
  EXPECT_EQ(body["messages"],
            nlohmann::json::parse(
                R"([{"role":"developer","content":"be brief"},{"role":"tool","tool_call_id":"c","content":"4"}])"));
  prompt.options = R"({"model":"adapter-7"})";  // where the operator allows it
  EXPECT_EQ(nlohmann::json::parse(MakeRequestBody(backend, prompt, 9))["model"], "adapter-7");
}

TEST(MakeRequestBody, ChatAsTextIsParagraphsThatEndWhereTheAnswerBegins) {
  BackendConfig backend;
  backend.chat_as_text = true;
  PromptBody prompt;
  prompt.chat = true;
  prompt.messages = {{"system", "be brief", ""}, {"user", "why?", R"({"role":"user","content":"why?"})"}};
  auto body = nlohmann::json::parse(MakeRequestBody(backend, prompt, 9));
  EXPECT_EQ(body["prompt"], "system: be brief\n\nuser: why?\n\nassistant:");
  EXPECT_EQ(body.count("messages"), 0u);
  EXPECT_EQ(body["stop"], nlohmann::json::parse(R"(["\n\nuser:"])"));
  prompt.stop = {"a", "b", "c", "d"};
  EXPECT_EQ(nlohmann::json::parse(MakeRequestBody(backend, prompt, 9))["stop"].size(), 4u) << "servers take no more";
}

TEST(OtherDialect, AStrictServerIsAskedInAnotherDialect) {
  PromptBody prompt;
  prompt.seed = 1;
  Blame blame = Blame::kPrompt;
  const auto other = [&](const std::string& words, const std::string& field = "",
                         openai::RequestDialect from = openai::RequestDialect()) {
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
  openai::RequestDialect zero;
  zero.temperature = openai::RequestDialect::Temperature::kZeroOmitted;
  EXPECT_TRUE(other("HTTP 400: temperature 0 is not supported", "", zero).is_null()) << "it was left out already";
  EXPECT_FALSE(other("HTTP 400: seed is not supported", "", zero).contains("temperature"));
  prompt.temperature = 0.7;
  EXPECT_EQ(other("HTTP 400: seed is not supported", "", zero)["temperature"], 0.7);
  EXPECT_FALSE(other("HTTP 400: temperature: only the default (1) is supported").contains("temperature"));
  prompt.top_logprobs = 10;
  EXPECT_FALSE(other("HTTP 400: top_logprobs must be between 0 and 5", "top_logprobs").contains("logprobs"));
  openai::RequestDialect ten;
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
  openai::RequestDialect without;
  without.max_completion_tokens = true;
  EXPECT_TRUE(
      other("HTTP 400: 'max_tokens' or 'max_completion_tokens' is too large: invalid context length", "", without)
          .is_null())
      << "no way back, or there were no end";
  without.stream_options = false;
  EXPECT_TRUE(other("HTTP 400: stream_options is not supported", "", without).is_null()) << "it was left out already";
}

}  // namespace
}  // namespace goad::server
