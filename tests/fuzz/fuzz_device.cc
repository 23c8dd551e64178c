// libFuzzer target for what reaches goad-device: an app's request, and a local server's answer. The first byte says
// which, and where the answer is cut.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "client_sdk/device/answer_json.h"
#include "client_sdk/device/app_call.h"
#include "client_sdk/device/local_answer.h"
#include "client_sdk/openai/utf8.h"

namespace {

using namespace goad::device;

void Request(const std::string& body, bool chat) {
  AppCall call;
  if (const auto error = ReadAppCall(body, chat, &call)) {
    if (error->status != 400 || error->message.empty()) abort();
    Dump(ErrorJson(*error));
    return;
  }
  // The local server gets JSON, and goad texts that a frame can carry.
  const auto local = nlohmann::json::parse(LocalBody(call, "slm", 10), nullptr, false);
  if (local.is_discarded() || local["stream"] != true) abort();
  if (!call.offloadable.ok()) return;
  if (call.query.prompt.empty() && call.query.messages_json.empty() && local["prompt"] != "" &&
      local["prompt"] != nlohmann::json::array({""}))
    abort();
  for (const std::string& message : call.query.messages_json) {
    if (!goad::openai::IsValidUtf8(message)) abort();
  }
  if (!goad::openai::IsValidUtf8(call.query.options_json)) abort();
}

class Collected : public goad::LocalOutput {
 public:
  bool Push(goad::AnswerPiece piece) override {
    if (!goad::openai::IsValidUtf8(piece.text) || !goad::openai::IsValidUtf8(piece.reasoning)) abort();
    if (piece.refusal_bytes > piece.text.size()) abort();
    all += piece.text + '\1' + piece.reasoning;
    chunks += json.Chunk(piece).size();
    return true;
  }
  void Uncertainty(double told) override {
    if (!(told >= 0 && told <= 1)) abort();
    all += std::to_string(told);
  }
  void OnUnwanted(std::function<void()>) override {}

  std::string all;
  size_t chunks = 0;
  AnswerJson json{AppCall{.chat = true, .logprobs = true, .top_logprobs = 2}, "id", "slm", 0};
};

std::string Answer(std::string_view body, size_t cut, bool streamed) {
  Collected to;
  LocalAnswer answer(streamed, true, &to);
  if (answer.Push(body.substr(0, cut))) answer.Push(body.substr(cut));
  const goad::LocalEnd end = answer.End();
  return to.all + '\2' + (end.status.ok() ? end.finish_reason : "broken");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: Request(std::string(rest), true); break;
    case 1: Request(std::string(rest), false); break;
    case 2: Answer(rest, 0, false); break;
    default:
      if (Answer(rest, 0, true) != Answer(rest, rest.empty() ? 0 : data[0] % rest.size(), true)) abort();
  }
  return 0;
}
