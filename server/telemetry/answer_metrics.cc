#include "server/telemetry/answer_metrics.h"

namespace goad::server {
namespace {

using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kLongSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};
const Buckets kTokenSeconds = {1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};

constexpr std::array<const char*, kTerminals> kOutcomes = {"local",         "completed", "failed",
                                                           "device_failed", "cancelled", "lost"};

}  // namespace

AnswerMetrics::AnswerMetrics(prometheus::Registry& registry)
    : durations_(
          BuildHistogram()
              .Name("goad_request_duration_seconds")
              .Help("Query received to its terminal event, by outcome and the site that it was sent to (empty = "
                    "none); failed = by goad or an LLM server, device_failed = by the device or its prompt, lost = "
                    "its stream ended first.")
              .Register(registry)),
      uploads_(BuildHistogram()
                   .Name("goad_upload_seconds")
                   .Help("Decision sent to prompt complete, by site.")
                   .Register(registry)),
      ttfts_(BuildHistogram()
                 .Name("goad_request_ttft_seconds")
                 .Help("Prompt complete to first token, by site.")
                 .Register(registry)),
      tpots_(BuildHistogram()
                 .Name("goad_request_tpot_seconds")
                 .Help("Time per output token after the first, by site; answers of two tokens or more.")
                 .Register(registry)) {
  for (const Terminal outcome :
       {Terminal::kLocal, Terminal::kFailed, Terminal::kDeviceFailed, Terminal::kCancelled, Terminal::kLost}) {
    const auto at = static_cast<size_t>(outcome);
    nowhere.duration[at] = &durations_.Add({{"outcome", kOutcomes[at]}, {"site", ""}}, kLongSeconds);
  }
}

AnswerMetrics::Site AnswerMetrics::AddSite(const std::string& name) {
  Site site;
  for (const Terminal outcome :
       {Terminal::kCompleted, Terminal::kFailed, Terminal::kDeviceFailed, Terminal::kCancelled, Terminal::kLost}) {
    const auto at = static_cast<size_t>(outcome);
    site.duration[at] = &durations_.Add({{"outcome", kOutcomes[at]}, {"site", name}}, kLongSeconds);
  }
  site.upload = &uploads_.Add({{"site", name}}, kLongSeconds);
  site.ttft = &ttfts_.Add({{"site", name}}, kLongSeconds);
  site.tpot = &tpots_.Add({{"site", name}}, kTokenSeconds);
  return site;
}

}  // namespace goad::server
