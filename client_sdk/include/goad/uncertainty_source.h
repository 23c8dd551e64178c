// How the uncertainty of a device's queries is made: plain values, said once per session.
#ifndef GOAD_UNCERTAINTY_SOURCE_H_
#define GOAD_UNCERTAINTY_SOURCE_H_

#include <string>

namespace goad {

// As in goad.v1, number by number. All are in 0..1, 0 is sure.
enum class UncertaintyMetric {
  kMargin = 1,          // 1 - (p1 - p2) of the first token
  kMaxProbability = 2,  // 1 - p1 of the first token
  kMeanLogprob = 3,     // 1 - exp(mean log-probability) of the first content tokens
  kLowQuantile = 4,     // 1 - exp(their 0.1-quantile)
  kDeclared = 5,        // P(the local answer is wrong), by a method of the app's own
};
inline constexpr int kUncertaintyMetrics = 5;

// "MARGIN", ...
inline const char* ToString(UncertaintyMetric metric) {
  switch (metric) {
    case UncertaintyMetric::kMargin: return "MARGIN";
    case UncertaintyMetric::kMaxProbability: return "MAX_PROBABILITY";
    case UncertaintyMetric::kMeanLogprob: return "MEAN_LOGPROB";
    case UncertaintyMetric::kLowQuantile: return "LOW_QUANTILE";
    case UncertaintyMetric::kDeclared: return "DECLARED";
  }
  return "?";
}

// The same tau means another share of the queries with another metric, number of candidates, model or form of prompt;
// that is why goad is told.
struct UncertaintySource {
  UncertaintyMetric metric = UncertaintyMetric::kMargin;
  int tokens = 0;      // content tokens it is taken over: 1..256 with kMeanLogprob and kLowQuantile (16 is a start,
                       // a third of a second at 50 tokens a second), else 0
  int candidates = 0;  // best tokens asked of the local model per position, 2..100; 0 = not said
  std::string method;  // with kDeclared its name, 1..64 bytes without control characters; else empty
  std::string prompt_form;  // how the local model is prompted ("chat", "raw", a template's name); at most 64 bytes
                            // without control characters; empty = not said
};

}  // namespace goad

#endif  // GOAD_UNCERTAINTY_SOURCE_H_
