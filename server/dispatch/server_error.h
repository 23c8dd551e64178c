// What went wrong with a request, and whose fault it was, out of a status and the words of any server. Pure.
#ifndef GOAD_SERVER_DISPATCH_SERVER_ERROR_H_
#define GOAD_SERVER_DISPATCH_SERVER_ERROR_H_

#include <string>
#include <string_view>

namespace goad::server {

enum class Blame {
  kPrompt,         // the query's own: it fails, is tried nowhere else, and says nothing of the backend
  kConfiguration,  // what goad was told to ask for (key, path, model): another backend may be tried
  kBackend,        // another backend may be tried
  kBusy,           // full or still loading, and says so: another backend may be tried, this one has not failed
};

struct ServerError {
  Blame blame = Blame::kBackend;
  std::string code;    // a metric label of a closed set: a status, or what was wrong with the answer
  std::string words;   // for people, the server's own where it has some; at most 300 bytes, printable, on one line
  std::string field;   // of the request, where the server names one; at most 64 bytes
  std::string detail;  // more for operators: it may name addresses
};

// `http_status`: of the answer; 200 for an error object within a stream, which may hold a status of its own. `body` in
// any of these shapes, or none of them:
//   {"error": {"message", "type", "code", "param"}}   OpenAI, llama.cpp, vLLM, SGLang, Ollama, LiteLLM (code may be a
//   text)
//   {"error": "...", "error_type": "..."}             TGI
//   {"object": "error", "message", "type", "code"}    vLLM and SGLang before
//   {"detail": "..." or [{"loc", "msg"}]}             FastAPI, so vLLM and SGLang where the request does not fit its
//   schema <title>...</title>                                gateways
ServerError ReadServerError(int http_status, bool says_when_to_retry, std::string_view body);

// URLs, IP addresses and `url`'s own host replaced by "(address)": for what devices may read.
std::string WithoutAddresses(std::string_view text, std::string_view url);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_SERVER_ERROR_H_
