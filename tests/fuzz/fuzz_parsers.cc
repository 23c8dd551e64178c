// libFuzzer targets for the parsers of foreign bytes that need nothing around them; GOAD_FUZZ names the one to build.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#if GOAD_FUZZ_SSE || GOAD_FUZZ_COMPLETION
#include "server/dispatch/completion_json.h"
#include "server/dispatch/load_metrics.h"
#include "server/dispatch/sse_parser.h"
#include "server/dispatch/utf8.h"
#elif GOAD_FUZZ_LOGPROBS
#include <cmath>

#include "client_sdk/openai/json_text.h"
#include "client_sdk/openai/logprobs.h"
#include "goad/uncertainty.h"
#elif GOAD_FUZZ_CONFIG
#include "server/config/config_loader.h"
#else
#include <sstream>

#include "server/sim/replay.h"
#endif

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
#if GOAD_FUZZ_SSE
  // However the bytes are cut, the same events come out. The first byte says where.
  if (bytes.empty()) return 0;
  const std::string_view stream = bytes.substr(1);
  const auto events = [&](size_t cut) {
    std::string all;
    goad::server::SseParser parser;
    const auto add = [&](const std::string& event) { all += event + '\1'; };
    if (parser.Push(stream.substr(0, cut), add)) parser.Push(stream.substr(cut), add);
    return all;
  };
  if (events(0) != events(stream.empty() ? 0 : data[0] % stream.size())) abort();
#elif GOAD_FUZZ_COMPLETION
  (void)goad::server::ParseChunk(std::string(bytes));
  (void)goad::server::ParseSlots(std::string(bytes));
  (void)goad::server::ErrorMessage(500, std::string(bytes));
  (void)goad::server::ParseServerLoad(bytes);
  // Whole code points come out, however the text arrives.
  goad::server::Utf8Assembler whole, pieces;
  std::string at_once = whole.Push(std::string(bytes)) + whole.Finish(), piecewise;
  for (const char c : bytes) piecewise += pieces.Push(std::string(1, c));
  if (at_once != piecewise + pieces.Finish()) abort();
#elif GOAD_FUZZ_LOGPROBS
  // Every number that is read is one, and candidates make an uncertainty. Lines are the chunks of a stream.
  const std::string strict = goad::openai::StrictJson(bytes);
  if (goad::openai::StrictJson(strict) != strict) abort();
  if (goad::openai::FirstBadUtf8(strict) != std::string::npos) abort();
  if (const auto read = goad::openai::ReadLogprobs(bytes); read.ok()) {
    const auto good = [](double value) { return value >= goad::openai::kLogprobOfZero && value <= 0; };
    for (const auto& token : read->tokens) {
      if (!good(token.logprob) || token.top.size() > goad::openai::kMostTop) abort();
      for (const auto& top : token.top) {
        if (!good(top.logprob) || !top.top.empty()) abort();
      }
    }
  }
  goad::FirstTokenReader reader;
  for (size_t from = 0; from < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', from), bytes.size());
    (void)reader.Push(bytes.substr(from, end - from));
    from = end + 1;
  }
  if (const auto top = reader.Candidates(); top.ok()) {
    if (top->size() < 2 || top->size() > 10) abort();
    const auto margin = goad::MarginUncertainty(*top);
    if (!margin.ok() || !(*margin >= 0 && *margin <= 1)) abort();
  }
#elif GOAD_FUZZ_CONFIG
  (void)goad::server::ParseConfig("fuzz.yaml", std::string(bytes));
#else
  std::istringstream in{std::string(bytes)};
  goad::server::ReplayReport report;
  (void)goad::server::Replay(in, "fuzz.jsonl", {}, &report);
#endif
  return 0;
}
