#include "server/dispatch/server_error.h"

#include <algorithm>
#include <string>

#include "client_sdk/openai/utf8.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad::server {
namespace {

// What a server says of a request whose prompt is `prompt`, in a message that repeats it.
ServerError Repeated(int status, const std::string& message, const std::string& prompt, bool chat = false) {
  PromptBody body;
  body.chat = chat;
  if (chat) {
    body.messages = {{"system", "be brief"}, {"user", prompt}};
  } else {
    body.text = prompt;
  }
  return ReadServerError(status, false, nlohmann::json({{"error", {{"message", message}}}}).dump(), body);
}

TEST(ServerError, WhoseFaultInTheWordsOfManyServers) {
  const auto blame = [](int status, const std::string& body) {
    return ReadServerError(status, false, body, PromptBody()).blame;
  };
  // llama.cpp, vLLM, SGLang, TGI, Ollama, LiteLLM, OpenAI, FastAPI: the prompt's.
  for (
      const char* body :
      {R"({"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":512}})",
       R"({"error":{"code":500,"message":"Value is not callable: null at row 1: Jinja Exception: Conversation roles must alternate","type":"server_error"}})",
       R"({"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400})",
       R"({"error":{"message":"The input (5000 tokens) is longer than the model's context length (4096 tokens).","type":"BadRequestError","code":400}})",
       R"({"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096","error_type":"validation"})",
       R"({"error":"Template error: unknown filter","error_type":"template_error"})",
       R"({"error":{"message":"litellm.ContextWindowExceededError: too long","type":null,"param":null,"code":"400"}})",
       R"({"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}})"}) {
    EXPECT_EQ(blame(200, body), Blame::kPrompt) << body;
    EXPECT_EQ(blame(500, body), Blame::kPrompt) << body;
  }
  EXPECT_EQ(blame(400, R"({"error":"anything"})"), Blame::kPrompt);
  EXPECT_EQ(blame(413, ""), Blame::kPrompt);
  EXPECT_EQ(blame(422, R"({"detail":[{"loc":["body","messages",0],"msg":"field required","input":{}}]})"),
            Blame::kPrompt);
  EXPECT_EQ(blame(400, R"({"error":{"message":"Invalid model name passed in model=llm","code":"400"}})"),
            Blame::kConfiguration);
  for (const int status : {301, 302, 401, 403, 404, 405})
    EXPECT_EQ(blame(status, "the context length"), Blame::kConfiguration) << status;
  EXPECT_EQ(blame(200, R"({"error":{"message":"no such key","type":"authentication_error"}})"), Blame::kConfiguration);
  EXPECT_EQ(blame(429, R"({"error":"Model is overloaded","error_type":"overloaded"})"), Blame::kBusy);
  EXPECT_EQ(blame(200, R"({"error":{"message":"quota is used up","code":429}})"), Blame::kBusy);
  EXPECT_EQ(blame(503, R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})"),
            Blame::kLoading);
  EXPECT_EQ(blame(503, R"({"error":"Model x is currently loading","estimated_time":20})"), Blame::kLoading);
  EXPECT_EQ(blame(503, "the engine is warming up"), Blame::kLoading);
  EXPECT_EQ(blame(503, R"({"error":{"message":"server busy, please try again.  maximum pending requests exceeded"}})"),
            Blame::kBusy);
  EXPECT_EQ(blame(529, R"({"error":{"message":"Overloaded"}})"), Blame::kBusy);
  EXPECT_EQ(blame(500, "overloaded"), Blame::kBackend);
  EXPECT_EQ(blame(200, R"({"error":{"message":"Loading model","code":503}})"), Blame::kLoading);
  EXPECT_EQ(blame(400, R"({"error":{"message":"no","param":"model"}})"), Blame::kConfiguration);
  EXPECT_EQ(blame(400, R"({"error":{"message":"no","code":"invalid_api_key"}})"), Blame::kConfiguration);
  EXPECT_EQ(ReadServerError(503, true, "", PromptBody()).blame, Blame::kBusy);
  for (const char* body : {R"({"error":{"message":"CUDA out of memory","code":500}})",
                           R"({"error":"no","error_type":"generation"})", "<html>", ""}) {
    EXPECT_EQ(blame(200, body), Blame::kBackend) << body;
    EXPECT_EQ(blame(502, body), Blame::kBackend) << body;
    EXPECT_EQ(blame(503, body), Blame::kBackend) << body;
  }
}

// An error object of a server's own, and nothing of a prompt in it.
ServerError Says(int status, const std::string& message) {
  return ReadServerError(status, false, nlohmann::json({{"error", {{"message", message}}}}).dump(), PromptBody());
}

TEST(ServerError, ATemplateThatRefusesMessagesIsThePrompts) {
  for (const char* words :
       {"System role not supported at row 1, column 72:\n{{ bos_token }}\n",
        "Value is not callable: null at row 49, column 79:\n {%- set content = (m_content.split('</think>')|last) %}",
        "Undefined variable or function: 'strftime_now' at row 4, column 2", "Unexpected message role.",
        "\n------------\nWhile executing FilterExpression at line 12, column 40 in source:\n...\nError: Unknown filter",
        "Cannot have 2 or more assistant messages at the end of the list.",
        "Assistant response prefill is incompatible with enable_thinking.",
        "Failed to parse messages: Missing 'content' in message", "System message must be at the beginning.",
        "Only user, assistant and tool roles are supported, got system.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"}) {
    for (const int status : {200, 424, 500, 503}) EXPECT_EQ(Says(status, words).blame, Blame::kPrompt) << words;
    EXPECT_EQ(Repeated(500, std::string("cannot run ") + words, words).blame, Blame::kBackend) << words;
    EXPECT_TRUE(Repeated(500, std::string("cannot run ") + words, words).doubtful) << words;
  }
  EXPECT_EQ(Says(500, "parse error at row one, column 5").blame, Blame::kBackend);
  EXPECT_EQ(Repeated(500, "of 'at row 3, column 4' at row 5, column 6", "at row 3, column 4").blame, Blame::kPrompt)
      << "another place than the one that is the prompt's";
}

TEST(ServerError, AnOverLongPromptInManyWordings) {
  for (const char* words :
       {"Input prompt (9001 tokens) is too long and exceeds the capacity of block_manager",
        "This model's maximum prompt length is 4096 but the request contains 9001 tokens.",
        "Prompt exceeds the KV cache capacity", "Input prompt is empty", "Failed to tokenize prompt",
        "The decoder prompt (length 9001) is longer than the maximum model length of 4096.",
        "Prompt length (9001) exceeds maximum input length (4096).", "Sequence length 9001 exceeds model limit",
        "The input token count (9001) exceeds the maximum number of tokens allowed (4096)."}) {
    for (const int status : {200, 424, 500, 502}) EXPECT_EQ(Says(status, words).blame, Blame::kPrompt) << words;
  }
  EXPECT_EQ(Says(500, "CUDA error: sequence length mismatch").blame, Blame::kBackend);
}

TEST(ServerError, AFilterThatRefusesAPromptIsNoConfiguration) {
  const std::string flagged = "Your chosen model requires moderation and your input was flagged";
  EXPECT_EQ(Says(403, flagged).blame, Blame::kPrompt);
  EXPECT_EQ(Says(406, flagged).blame, Blame::kPrompt);
  EXPECT_EQ(Says(403, "Conversation roles must alternate").blame, Blame::kPrompt);
  EXPECT_EQ(Says(424, "Request failed during generation: Conversation roles must alternate").blame, Blame::kPrompt);
  EXPECT_EQ(Says(424, "Request failed during generation: CUDA error").blame, Blame::kBackend);
  EXPECT_EQ(Says(403, "Country, region, or territory not supported").blame, Blame::kConfiguration);
  EXPECT_FALSE(Says(403, "Country, region, or territory not supported").doubtful);
  EXPECT_EQ(Repeated(403, "denied: is it flagged by you", "is it flagged by you").blame, Blame::kConfiguration);
  EXPECT_TRUE(Repeated(403, "denied: is it flagged by you", "is it flagged by you").doubtful);
  const char* wall = "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head>";
  for (const int status : {403, 406}) {
    const ServerError error = ReadServerError(status, false, wall, PromptBody());
    EXPECT_EQ(error.blame, Blame::kConfiguration);
    EXPECT_TRUE(error.doubtful) << "it may be the prompt's: tried elsewhere, and held against nobody";
  }
  EXPECT_FALSE(ReadServerError(404, false, wall, PromptBody()).doubtful);
}

TEST(ServerError, A400ThatEveryPromptWouldGetIsTheConfigurations) {
  for (const char* words :
       {"Model llm not found or vLLM engine is sleeping.", "model 'llm' not found", "model is not loaded",
        "Cannot use chat template functions because tokenizer.chat_template is not set and no template was passed!",
        "The model does not support Completions API", "The model does not support Chat Completions API",
        "registry.ollama.ai/library/llm:latest does not support generate", "No models loaded. Please load a model",
        "Model Not Exist", "The model `llm` has been decommissioned and is no longer supported.",
        "The provided model identifier is invalid.", "API version not supported",
        "Your organization must be verified to stream this model.", "Your credit balance is too low to access the API",
        "Budget has been exceeded! Current cost: 12.3, Max budget: 10.0"}) {
    EXPECT_EQ(Says(400, words).blame, Blame::kConfiguration) << words;
    EXPECT_FALSE(Says(400, words).doubtful) << words;
    EXPECT_EQ(Repeated(400, std::string("no such thing: ") + words, words).blame, Blame::kPrompt) << words;
  }
  for (const char* code : {"model_decommissioned", "budget_exceeded"}) {
    const std::string body = std::string(R"({"error":{"message":"no","type":")") + code + R"("}})";
    EXPECT_EQ(ReadServerError(400, false, body, PromptBody()).blame, Blame::kConfiguration) << code;
  }
  for (const char* page : {"Client sent an HTTP request to an HTTPS server.\n", "Invalid host header",
                           "<html><head><title>400 Bad Request</title></head><body>\n"
                           "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />\n",
                           "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n"}) {
    const ServerError error = ReadServerError(400, false, page, PromptBody());
    EXPECT_EQ(error.blame, Blame::kConfiguration) << page;
    EXPECT_FALSE(error.doubtful) << page;
  }
}

TEST(ServerError, A400ThatIsNoJsonIsAGatewaysAndInDoubt) {
  for (const char* page : {"", " \r\n", "Bad Request", "<html><head><title>400 Bad Request</title></head></html>"}) {
    const ServerError error = ReadServerError(400, false, page, PromptBody());
    EXPECT_EQ(error.blame, Blame::kConfiguration) << page;
    EXPECT_TRUE(error.doubtful) << page;
  }
  EXPECT_EQ(ReadServerError(400, false, "prompt is too long", PromptBody()).blame, Blame::kPrompt);
  EXPECT_EQ(ReadServerError(400, false, "<?xml?><Message>Prompt too long</Message>", PromptBody()).blame,
            Blame::kPrompt);
  EXPECT_EQ(ReadServerError(413, false, "<html><title>413 Request Entity Too Large</title>", PromptBody()).blame,
            Blame::kPrompt);
  EXPECT_EQ(ReadServerError(400, false, "", PromptBody(), /*is_whole=*/false).blame, Blame::kPrompt)
      << "nothing of it has come";
  EXPECT_EQ(ReadServerError(400, false, "{\"error\":{\"mess", PromptBody(), /*is_whole=*/false).blame, Blame::kPrompt);
}

TEST(ServerError, BusyAndLoadingInMoreWords) {
  EXPECT_EQ(ReadServerError(529, false, "", PromptBody()).blame, Blame::kBusy);
  EXPECT_EQ(Says(503, "no slot available").blame, Blame::kBusy);
  EXPECT_EQ(Says(503, "Model is not ready yet").blame, Blame::kLoading);
}

TEST(ServerError, WordsAreClippedPrintableAndWithoutAddresses) {
  const auto words = [](int status, const std::string& body) {
    return ReadServerError(status, false, body, PromptBody()).words;
  };
  EXPECT_EQ(words(400, R"({"error":{"message":"too long"}})"), "HTTP 400: too long");
  EXPECT_EQ(words(503, "busy"), "HTTP 503: busy");
  EXPECT_EQ(words(502, "<html>\r\n<head><title>502 Bad Gateway</title></head>"), "HTTP 502: 502 Bad Gateway");
  EXPECT_EQ(
      words(
          422,
          R"({"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]})"),
      "HTTP 422: body.stream_options: Extra inputs are not permitted");
  EXPECT_EQ(words(500, R"({"error":{"message":"a\u001b[31mred\nline\u0000"}})"), "HTTP 500: a\\x1b[31mred line\\x00");
  const std::string clipped =
      words(500, "{\"error\":\"" + std::string(290, 'x') + "\xE2\x82\xAC" + std::string(900, 'y') + "\"}");
  EXPECT_LE(clipped.size(), 300u);
  EXPECT_TRUE(openai::IsValidUtf8(clipped));
  EXPECT_TRUE(openai::IsValidUtf8(words(500, "\xFF\xFE")));
  EXPECT_LE(words(500, std::string(290, '\x01')).size(), 300u) << "escapes count";
  const std::string param = R"({"error":{"param":")" + std::string(90, 'x') + R"("}})";
  EXPECT_LE(ReadServerError(400, false, param, PromptBody()).field.size(), 64u);
  EXPECT_LE(words(500, "{\"error\":" + std::string(50000, '[') + std::string(50000, ']') + "}").size(), 300u);
  EXPECT_EQ(
      WithoutAddresses("no route to http://user:pw@10.1.2.3:8000/v1, nor 10.1.2.4:80. Version 1.2.3", "http://gpu-7:1"),
      "no route to (address), nor (address) Version 1.2.3");
  EXPECT_EQ(WithoutAddresses("upstream gpu-7.lan:8000 sent 3.14", "https://gpu-7.lan:8000/x"),
            "upstream (address) sent 3.14");
}

TEST(ServerError, WordsThatThePromptHoldsTooDoNotDecide) {
  for (const bool chat : {false, true}) {
    for (const std::string prompt : {"why incorrect api key", "Unknown  model?", "INVALID\nMODEL", "no chat template!",
                                     "Is it plain HTTP request was sent to HTTPS port"}) {
      std::string echo = prompt;  // unquoted, on one line, as a server may print it
      std::replace(echo.begin(), echo.end(), '\n', ' ');
      for (const std::string& message : {echo, "cannot be parsed: " + echo + " (at 3)", "'" + echo + "' is refused"}) {
        EXPECT_EQ(Repeated(400, message, prompt, chat).blame, Blame::kPrompt) << message;
        EXPECT_EQ(Repeated(422, message, prompt, chat).blame, Blame::kPrompt) << message;
      }
    }
    for (const std::string prompt : {"what is a context length", "CONTEXT  WINDOW", "is Jinja a template error"}) {
      for (const int status : {500, 502, 503}) {
        const ServerError error = Repeated(status, "worker died at: " + prompt, prompt, chat);
        EXPECT_EQ(error.blame, Blame::kBackend) << status << prompt;
        const ServerError other = Repeated(status, "worker died", prompt, chat);
        EXPECT_EQ(other.blame, Blame::kBackend);
        EXPECT_FALSE(other.doubtful);
      }
    }
    const ServerError loading = Repeated(503, "no worker for: is it loading", "is it loading", chat);
    EXPECT_EQ(loading.blame, Blame::kBackend);
  }
  // It may be as the words say all the same, so it is not held against the backend.
  EXPECT_TRUE(Repeated(500, "exceeds the context size", "context size?").doubtful);
  EXPECT_TRUE(Repeated(503, "Loading model", "loading?").doubtful);
  EXPECT_TRUE(Repeated(503, "overloaded", "overloaded?").doubtful);
  EXPECT_EQ(Repeated(500, "exceeds the context size: max_model_len", "context size?").blame, Blame::kPrompt)
      << "words of its own beside them";
  EXPECT_EQ(Repeated(400, "unknown model. Incorrect API key", "an unknown model").blame, Blame::kConfiguration);
  const std::string stop = "incorrect api key";
  PromptBody with_stop;
  with_stop.stop = {stop};
  EXPECT_EQ(ReadServerError(400, false, "{\"error\":\"stop: " + stop + "\"}", with_stop).blame, Blame::kPrompt);
}

TEST(ServerError, TypesCodesAndTheFieldDecideBeforeWords) {
  PromptBody body;
  body.text = "context length, incorrect api key, loading";
  const auto blame = [&](int status, const char* error) { return ReadServerError(status, false, error, body).blame; };
  EXPECT_EQ(blame(500, R"({"error":{"message":"context length","type":"exceed_context_size_error"}})"), Blame::kPrompt);
  EXPECT_EQ(blame(400, R"({"error":{"message":"incorrect api key","code":"context_length_exceeded"}})"),
            Blame::kPrompt);
  EXPECT_EQ(blame(400, R"({"error":{"message":"incorrect api key","code":"invalid_api_key"}})"), Blame::kConfiguration);
  EXPECT_EQ(blame(400, R"({"error":{"message":"the context length","param":"model"}})"), Blame::kConfiguration);
  EXPECT_EQ(blame(200, R"({"error":{"message":"incorrect api key","type":"invalid_request_error"}})"), Blame::kPrompt);
}

TEST(ServerError, OperatorsAreShownNoPrompt) {
  PromptBody body;
  body.messages = {{"user", "my number is 4711, \xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC"}};
  body.stop = {"until the end"};
  EXPECT_EQ(WithoutPrompt("HTTP 400: cannot parse 'my number is 4711' at 3", body),
            "HTTP 400: cannot parse '(prompt)' at 3");
  EXPECT_EQ(WithoutPrompt("my number is 4711, my number is", body), "(prompt)");
  EXPECT_EQ(WithoutPrompt("my number is (until the end)", body), "(prompt)((prompt))");
  EXPECT_EQ(WithoutPrompt("numbers: 4711", body), "numbers: 4711");
  EXPECT_EQ(WithoutPrompt("", body), "");
  EXPECT_TRUE(openai::IsValidUtf8(WithoutPrompt("is \xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC!", body)));
  EXPECT_TRUE(openai::IsValidUtf8(WithoutPrompt("\xC3\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC", body)));
}

TEST(ServerError, WordsDecideHoweverFarBehindTheyStand) {
  EXPECT_EQ(Repeated(500, std::string(5000, 'x') + " exceeds the context size", std::string(5000, 'x')).blame,
            Blame::kPrompt);
}

// Seen of a llama-server without a vision model, and of one that was given tools it cannot parse: 500, and no circuit
// opens for it, since one device could keep all others away.
TEST(ReadServerError, WhatAQueryAsksBeyondTextIsHeldAgainstNoBackend) {
  PromptBody plain, tools, image;
  plain.chat = tools.chat = image.chat = true;
  plain.messages = tools.messages = {{"user", "hi", ""}};
  tools.options = R"({"tools":[1]})";
  image.messages = {{"user", "", R"({"role":"user","content":[]})"}};
  const std::string body =
      R"({"error":{"code":500,"message":"image input is not supported - hint: mmproj","type":"server_error"}})";
  for (const int status : {500, 501, 404}) {
    for (const PromptBody* asked : {&tools, &image}) {
      const ServerError error = ReadServerError(status, false, body, *asked);
      EXPECT_TRUE(error.doubtful || error.blame == Blame::kPrompt) << status;
    }
  }
  EXPECT_FALSE(ReadServerError(500, false, body, plain).doubtful);
  EXPECT_FALSE(ReadServerError(401, false, body, tools).doubtful) << "a key is wrong for all";
  EXPECT_EQ(ReadServerError(401, false, body, tools).blame, Blame::kConfiguration);
}

}  // namespace
}  // namespace goad::server
