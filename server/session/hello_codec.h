// What a Hello says of a device, and the uncertainty of its queries as it said there. Pure functions, as wire_codec's.
#ifndef GOAD_SERVER_SESSION_HELLO_CODEC_H_
#define GOAD_SERVER_SESSION_HELLO_CODEC_H_

#include <optional>

#include "goad/v1/offload.pb.h"
#include "server/base/local_model.h"
#include "server/engine/error.h"

namespace goad::server {

// Fills its outputs and returns nullopt, or returns what is wrong: field, value, range. `model` is null when the Hello
// says no more of it than the neutral values.
std::optional<ErrorInfo> DecodeHello(const v1::Hello& hello, double* tx_power_w, LocalModelPtr* model);

// 1 for a query that must be offloaded and says nothing.
std::optional<ErrorInfo> DecodeUncertainty(const v1::Query& query, UncertaintyMetric metric, double* uncertainty);

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_HELLO_CODEC_H_
