// What went wrong with a request, and whose fault it was, out of a status and the words of any server. Pure.
#ifndef GOAD_SERVER_DISPATCH_SERVER_ERROR_H_
#define GOAD_SERVER_DISPATCH_SERVER_ERROR_H_

#include <string>
#include <string_view>

#include "server/engine/events.h"

namespace goad::server {

enum class Blame {
  kPrompt,         // the query's own: it fails, is tried nowhere else, and says nothing of the backend
  kConfiguration,  // what goad was told to ask for (key, path, model): another backend may be tried
  kBackend,        // another backend may be tried
  kBusy,           // full, and says so: another backend may be tried, this one has not failed
  kLoading,        // says that it loads its model: the same, and it takes nobody until it has
};

struct ServerError {
  Blame blame = Blame::kBackend;
  bool doubtful = false;  // words that the prompt holds, too, say otherwise: nothing is held against the backend
  std::string code;       // a metric label of a closed set: a status, or what was wrong with the answer
  std::string words;      // for people, the server's own where it has some; at most 300 bytes, printable, on one line
  std::string field;      // of the request, where the server names one; at most 64 bytes
  std::string detail;     // more for operators: it may name addresses
};

// Types, codes and the field that a server names decide before its words, and words that the query's own `prompt` holds
// do not decide: servers repeat prompts, and one device's must not take a backend from everybody, or excuse it.
// `http_status`: of the answer; 200 for an error object within a stream, which may hold a status of its own. `body` in
// any of these shapes, or none of them:
//   {"error": {"message", "type", "code", "param"}}   OpenAI, llama.cpp, vLLM, SGLang, Ollama, LiteLLM (code may be a
//   text)
//   {"error": "...", "error_type": "..."}             TGI
//   {"object": "error", "message", "type", "code"}    vLLM and SGLang before
//   {"detail": "..." or [{"loc", "msg"}]}             FastAPI, so vLLM and SGLang where the request does not fit its
//   schema <title>...</title>                                gateways
// `is_whole`: the body is; else more of it may have been lost.
ServerError ReadServerError(int http_status, bool says_when_to_retry, std::string_view body, const PromptBody& prompt,
                            bool is_whole = true);

// Whether the prompt holds these words, however a server that repeats them writes them.
bool Repeats(const PromptBody& prompt, std::string_view words);

// Whether the words of a 503 say that the server is on its way.
bool SaysLoading(std::string_view words);

// `words` with "(prompt)" for each run of eight bytes or more that `prompt` holds, for logs and operators, who are
// shown no prompt. Takes as long as the prompt is.
std::string WithoutPrompt(std::string_view words, const PromptBody& prompt);

// URLs, IP addresses and `url`'s own host replaced by "(address)": for what devices may read.
std::string WithoutAddresses(std::string_view text, std::string_view url);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_SERVER_ERROR_H_
