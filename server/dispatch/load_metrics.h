// What an LLM server's own /metrics page (Prometheus text format 0.0.4) says of its load. Pure.
#ifndef GOAD_SERVER_DISPATCH_LOAD_METRICS_H_
#define GOAD_SERVER_DISPATCH_LOAD_METRICS_H_

#include <optional>
#include <string_view>

namespace goad::server {

// Requests that run or wait on the server, whoever sent them, summed over its models and engines; nullopt when the page
// has none of the names below. Values that are no finite numbers >= 0 count as 0. Any bytes are accepted.
//   vLLM       vllm:num_requests_running, vllm:num_requests_waiting; before V1 also vllm:num_requests_swapped
//   llama.cpp  llamacpp:requests_processing, llamacpp:requests_deferred (served with --metrics only)
//   SGLang     sglang:num_running_reqs, sglang:num_queue_reqs; with an underscore for the colon in older versions
std::optional<double> ParseServerLoad(std::string_view page);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_LOAD_METRICS_H_
