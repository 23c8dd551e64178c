#include "server/session/hello_codec.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "goad/uncertainty.h"
#include "server/session/wire_checks.h"

namespace goad::server {
namespace {

// From "FIELD: what is wrong" of the library that devices have, too.
ErrorInfo InvalidAs(const char* prefix, const absl::Status& status) {
  const std::string message(status.message());
  const size_t colon = message.find(": ");
  return Invalid(prefix + message.substr(0, colon), message.substr(colon + 2));
}

std::optional<ErrorInfo> DecodeModel(const v1::Hello& hello, LocalModelPtr* model) {
  GOAD_REFUSE_IF(CheckLength("hello.local_model", hello.local_model().size(), 0, 128));
  GOAD_REFUSE_IF(CheckName("hello.local_model", hello.local_model()));
  GOAD_REFUSE_IF(CheckRange("hello.uncertainty_version", hello.uncertainty_version(), 0, 1));
  GOAD_REFUSE_IF(CheckRange("hello.uncertainty_tokens", hello.uncertainty_tokens(), 0, 256));
  GOAD_REFUSE_IF(CheckRange("hello.uncertainty_candidates", hello.uncertainty_candidates(), 0, 100));
  GOAD_REFUSE_IF(CheckLength("hello.prompt_form", hello.prompt_form().size(), 0, 64));
  GOAD_REFUSE_IF(CheckName("hello.prompt_form", hello.prompt_form()));
  UncertaintySource source;
  if (hello.uncertainty_metric() != v1::UNCERTAINTY_METRIC_UNSPECIFIED) {
    source.metric = static_cast<UncertaintyMetric>(hello.uncertainty_metric());
  }
  source.tokens = static_cast<int>(hello.uncertainty_tokens());
  source.candidates = static_cast<int>(hello.uncertainty_candidates());
  source.method = hello.uncertainty_method();
  source.prompt_form = hello.prompt_form();
  if (const absl::Status checked = CheckUncertaintySource(source); !checked.ok()) {
    return InvalidAs("hello.uncertainty_", checked);
  }
  GOAD_REFUSE_IF(CheckName("hello.uncertainty_method", source.method));
  const bool neutral = source.metric == UncertaintyMetric::kMargin && source.candidates == 0 &&
                       source.prompt_form.empty() && hello.local_model().empty();
  *model = neutral ? nullptr : std::make_shared<const LocalModel>(LocalModel{hello.local_model(), std::move(source)});
  return std::nullopt;
}

}  // namespace

std::optional<ErrorInfo> DecodeHello(const v1::Hello& hello, double* tx_power_w, LocalModelPtr* model) {
  if (hello.protocol_version() != 1) {
    return Invalid("hello.protocol_version", absl::StrCat(hello.protocol_version(), " is not 1"));
  }
  GOAD_REFUSE_IF(CheckLength("hello.device_name", hello.device_name().size(), 0, 128));
  GOAD_REFUSE_IF(CheckName("hello.device_name", hello.device_name()));
  const double power_dbm = hello.has_tx_power_dbm() ? hello.tx_power_dbm() : 10 * std::log10(200);  // 0.2 W
  GOAD_REFUSE_IF(CheckRange("hello.tx_power_dbm", power_dbm, -60, 60));
  GOAD_REFUSE_IF(DecodeModel(hello, model));
  *tx_power_w = std::pow(10, (power_dbm - 30) / 10);
  return std::nullopt;
}

std::optional<ErrorInfo> DecodeUncertainty(const v1::Query& query, UncertaintyMetric metric, double* uncertainty) {
  switch (query.confidence_case()) {
    case v1::Query::kUncertainty:
      GOAD_REFUSE_IF(CheckRange("query.uncertainty", query.uncertainty(), 0, 1));
      *uncertainty = query.uncertainty();
      return std::nullopt;
    case v1::Query::kFirstToken: {
      if (query.first_token().top_size() > 100) {
        return Invalid("query.first_token.top", absl::StrCat(query.first_token().top_size(), " entries, want 1..100"));
      }
      std::vector<TokenProbability> top;
      for (const auto& entry : query.first_token().top()) top.push_back({entry.token(), entry.probability()});
      const auto computed = FirstTokenUncertainty(metric, std::move(top));
      if (!computed.ok()) return InvalidAs("query.", computed.status());
      *uncertainty = *computed;
      return std::nullopt;
    }
    case v1::Query::CONFIDENCE_NOT_SET: break;
  }
  if (!query.must_offload()) {
    return Invalid("query.uncertainty", "is missing; want uncertainty, first_token or must_offload");
  }
  *uncertainty = 1;
  return std::nullopt;
}

}  // namespace goad::server
