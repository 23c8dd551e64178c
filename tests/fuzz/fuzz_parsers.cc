// libFuzzer targets for the parsers of foreign bytes that need nothing around them; GOAD_FUZZ names the one to build.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#if GOAD_FUZZ_SSE || GOAD_FUZZ_COMPLETION
#include "client_sdk/openai/chunk.h"
#include "client_sdk/openai/plain_chunk.h"
#include "client_sdk/openai/sse_parser.h"
#include "client_sdk/openai/utf8.h"
#include "server/dispatch/answer_reader.h"
#include "server/dispatch/load_metrics.h"
#include "server/dispatch/probe_answers.h"
#include "server/dispatch/server_error.h"
#elif GOAD_FUZZ_LOGPROBS
#include <cmath>

#include "client_sdk/openai/json_text.h"
#include "client_sdk/openai/logprobs.h"
#include "client_sdk/openai/utf8.h"
#include "goad/uncertainty.h"
#elif GOAD_FUZZ_CONFIG
#include "server/config/config_loader.h"
#elif GOAD_FUZZ_TRACE
#include <cmath>
#include <sstream>

#include "scheduler/workload/trace.h"
#elif GOAD_FUZZ_CALIBRATION
#include <sstream>

#include "server/calibration/calibration_file.h"
#include "server/sim/calibrate.h"
#include "server/sim/labels.h"
#else
#include <sstream>

#include "server/sim/fit.h"
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
    goad::openai::SseParser parser(4096);
    const auto add = [&](const goad::openai::SseEvent& event) {
      if (event.data.size() > 4096) abort();
      all += event.type + '\1' + event.data + '\1';
    };
    if (parser.Push(stream.substr(0, cut), add) && parser.Push(stream.substr(cut), add)) parser.End(add);
    return all;
  };
  if (events(0) != events(stream.empty() ? 0 : data[0] % stream.size())) abort();
  // A whole answer, the same however it is cut, and no more of it than its bounds allow.
  const auto answer = [&](size_t cut) {
    auto prompt = std::make_shared<goad::server::PromptBody>();
    prompt->top_logprobs = 2;
    goad::server::AnswerReader reader(prompt, /*max_output_tokens=*/8);
    goad::server::HttpHead head;
    head.status = data[0] % 8 == 0 ? 400 : 200;
    head.framed = data[0] % 2 == 0;
    reader.OnHead(head);
    std::string text;
    const auto take = [&](const goad::server::AnswerPart& part) {
      for (const auto& token : part.logprobs) {
        if (token.top.size() > 20 || !goad::openai::IsValidUtf8(token.token)) abort();
      }
      if (!goad::openai::IsValidUtf8(part.text) || part.tokens < 0) abort();
      if (reader.state() != goad::server::AnswerReader::State::kFailed) text += part.text;
    };
    take(reader.OnBody(stream.substr(0, cut)));
    take(reader.OnBody(stream.substr(cut)));
    take(reader.OnEnd(goad::server::TransportEnd::kComplete, ""));
    if (reader.state() == goad::server::AnswerReader::State::kReading) abort();
    if (reader.finish_reason().size() > goad::openai::kMaxFinishReason || reader.error().words.size() > 400) abort();
    if (reader.usage() &&
        (reader.usage()->output_tokens < 0 || reader.usage()->output_tokens > goad::openai::kMaxUsageTokens))
      abort();
    return reader.state() == goad::server::AnswerReader::State::kWhole ? text : std::string("failed");
  };
  if (answer(0) != answer(stream.empty() ? 0 : data[0] % stream.size())) abort();
#elif GOAD_FUZZ_COMPLETION
  const auto any = goad::openai::ParseAnyChunk(std::string(bytes));
  if (const auto plain = goad::openai::ReadPlainChunk(std::string(bytes))) {
    if (!any.ok() || plain->text != any->text || plain->finish_reason != any->finish_reason) abort();
    if (plain->tokens != any->tokens || plain->thought != any->thought || any->usage || any->tool_call) abort();
  }
  const goad::server::Props props = goad::server::ParseProps(bytes);
  if (props.slots && (*props.slots < 1 || *props.slots > 4096)) abort();
  for (const auto& context : {props.can.context_tokens, goad::server::ParseContext(bytes, "llm")}) {
    if (context && (*context < 1 || *context > goad::server::kMostContext)) abort();
  }
  goad::server::PromptBody prompt;
  prompt.text = bytes.substr(0, bytes.size() / 2);
  for (const int status : {200, 400, 404, 500, 503}) {
    const goad::server::ServerError error = goad::server::ReadServerError(status, false, bytes, prompt);
    const std::string shown = goad::server::WithoutAddresses(error.words, "http://gpu-7:8000");
    if (!goad::openai::IsValidUtf8(goad::server::WithoutPrompt(error.words, prompt))) abort();
    if (error.words.size() > 300 || error.field.size() > 64 || !goad::openai::IsValidUtf8(error.words)) abort();
    if (!goad::openai::IsValidUtf8(shown) || shown.find("://") != std::string::npos) abort();
  }
  (void)goad::server::ParseServerLoad(bytes);
  // Whole code points come out, however the text arrives.
  goad::openai::Utf8Assembler whole, pieces;
  std::string at_once = whole.Push(std::string(bytes)) + whole.Finish(), piecewise;
  for (const char c : bytes) piecewise += pieces.Push(std::string(1, c));
  if (at_once != piecewise + pieces.Finish()) abort();
#elif GOAD_FUZZ_LOGPROBS
  // Every number that is read is one, and candidates and content make an uncertainty. Lines are the chunks of a stream.
  const std::string strict = goad::openai::StrictJson(bytes);
  if (goad::openai::StrictJson(strict) != strict) abort();
  if (!goad::openai::IsValidUtf8(strict)) abort();
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
  goad::ContentReader content(4), all_content(256);
  for (size_t from = 0; from < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', from), bytes.size());
    (void)reader.Push(bytes.substr(from, end - from));
    (void)content.Push(bytes.substr(from, end - from));
    (void)all_content.Push(bytes.substr(from, end - from));
    from = end + 1;
  }
  if (const auto top = reader.Candidates(); top.ok()) {
    if (top->size() < 2 || top->size() > 10) abort();
    const auto margin = goad::MarginUncertainty(*top);
    if (margin.ok() && !(*margin >= 0 && *margin <= 1)) abort();
    const auto max = goad::MaxProbabilityUncertainty(*top);
    if (max.ok() != margin.ok() || (max.ok() && !(*max >= 0 && *max <= *margin))) abort();
  }
  for (goad::ContentReader* const few : {&content, &all_content}) {
    few->End();
    const auto logprobs = few->Logprobs();
    const goad::LeftOut out = few->left_out();
    if (out.begins.size() > 60 || out.blanks < 0 || out.special < 0 || out.thoughts < 0 || out.tool_calls < 0) abort();
    if (!logprobs.ok()) continue;
    if (logprobs->empty() || logprobs->size() > (few == &content ? 4 : 256)) abort();
    const auto mean = goad::MeanLogprobUncertainty(*logprobs), low = goad::LowQuantileUncertainty(*logprobs);
    if (!mean.ok() || !low.ok() || !(*mean >= 0 && *mean <= 1 && *low >= 0 && *low <= 1)) abort();
  }
#elif GOAD_FUZZ_CONFIG
  (void)goad::server::ParseConfig("fuzz.yaml", std::string(bytes));
#elif GOAD_FUZZ_TRACE
  std::istringstream in{std::string(bytes)};
  if (const auto arrivals = goad::sched::ReadArrivals(in, "fuzz.csv"); arrivals.ok()) {
    double last_s = 0;
    for (const goad::sched::Arrival& arrival : *arrivals) {
      if (arrival.time_s < last_s || arrival.prompt_tokens < 0 || arrival.output_tokens < 0) abort();
      last_s = arrival.time_s;
    }
  }
  in.clear();
  in.seekg(0);
  if (const auto uplink = goad::sched::UplinkTrace::Read(in, "fuzz.csv"); uplink.ok()) {
    for (const double share : {0.0, 0.3, 1.0, 2.5}) {  // there and back
      const double bits = share * uplink->period_s() * uplink->mean_bps();
      const double time_s = uplink->TimeOf(bits);
      if (!(std::isfinite(time_s) && time_s >= 0)) abort();
      if (std::abs(uplink->BitsUntil(time_s) - bits) > 1e-6 * (1 + 3 * uplink->period_s() * uplink->mean_bps()))
        abort();
    }
  }
#elif GOAD_FUZZ_CALIBRATION
  if (const auto read = goad::server::ReadCalibration(bytes); read.ok()) {
    const std::string text = goad::server::CalibrationText(*read);
    const auto again = goad::server::ReadCalibration(text);
    if (!again.ok() || goad::server::CalibrationText(*again) != text) abort();
    for (const goad::calibration::Curve& curve : read->curves) {
      double last = 0;
      for (const double at : {0.0, 1e-300, 0.3, 0.5, 0.9, 1.0}) {
        const double value = curve.Value(at);
        if (!(value >= last && value <= 1)) abort();
        last = value;
      }
      if (const double tau = curve.TauFor(0.5); curve.Value(tau) > 0.5 && tau != 0) abort();
    }
  }
  std::istringstream in{std::string(bytes)};
  std::vector<goad::calibration::Label> labels;
  if (goad::server::ReadLabels(in, "fuzz.jsonl", &labels).ok()) {
    if (const auto report = goad::server::Calibrate(labels, {}); report.ok()) {
      (void)goad::server::FormatCalibration(*report);
      (void)goad::server::CalibrationSvg(*report);
      if (!goad::server::ReadCalibration(goad::server::CalibrationText(report->calibration)).ok()) abort();
    }
  }
#else
  std::istringstream in{std::string(bytes)};
  goad::server::ReplayReport report;
  (void)goad::server::Replay(in, "fuzz.jsonl", {}, &report);
  in.clear();
  in.seekg(0);
  goad::server::Fit fit;
  (void)fit.Read(in, "fuzz.jsonl");
  (void)fit.Table();
#endif
  return 0;
}
