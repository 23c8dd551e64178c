// The model server on the device, over its OpenAI API: llama-server, Ollama, vLLM, whatever speaks /v1.
#ifndef GOAD_CLIENT_SDK_DEVICE_LOCAL_SERVER_H_
#define GOAD_CLIENT_SDK_DEVICE_LOCAL_SERVER_H_

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "goad/runtime.h"

namespace goad::device {

struct LocalAddress {
  std::string host;
  int port = 80;
  std::string path;  // before /v1; without a slash at its end
};
// "http://HOST[:PORT][/PATH][/v1]". INVALID_ARGUMENT names what is wrong.
absl::StatusOr<LocalAddress> ReadLocalAddress(const std::string& url);

// What a server said that had no answer for us, to be handed on. status 0: it said nothing.
struct LocalFailure {
  int status = 0;    // HTTP
  std::string body;  // at most 64 KiB
};

// What a look at it found.
struct LocalFacts {
  bool reachable = false;
  bool answers = false;             // the trial question had an answer
  std::string kind;                 // "llama-server", "Ollama", "vLLM", or "an OpenAI server"
  std::vector<std::string> models;  // at most 100
  int candidates = 0;               // best tokens that it tells for a position, of the ten that are wanted; 0 = none
  std::string problem;              // for people; empty = none
  double first_token_s = 0;         // of the trial question
};

// Thread-safe.
class LocalServer {
 public:
  // `silence`: longest wait for the next byte. api_key: sent as a bearer token; empty = none.
  LocalServer(LocalAddress address, std::string api_key, std::chrono::seconds silence);

  // Runs a request that is to be streamed. Pieces hold `top_logprobs` candidates a token when `logprobs`; the margin of
  // the first token of the answer's content is told when the server gives two candidates for it. Returns when the
  // answer has ended, or nobody wants it.
  LocalEnd Run(bool chat, const std::string& body, bool logprobs, LocalOutput& output, LocalFailure* failure) const;

  // Who it is, and which models it has: without `candidates` and `first_token_s`.
  LocalFacts LookAtModels() const;
  // The same, and one question of one token of `model` (empty = the first).
  LocalFacts Look(const std::string& model) const;

 private:
  const LocalAddress address_;
  const std::string api_key_;
  const std::chrono::seconds silence_;
};

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_LOCAL_SERVER_H_
