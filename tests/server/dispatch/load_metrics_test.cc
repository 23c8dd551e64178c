#include "server/dispatch/load_metrics.h"

#include "gtest/gtest.h"

namespace goad::server {
namespace {

TEST(LoadMetrics, HasABound) {
  EXPECT_EQ(ParseServerLoad("vllm:num_requests_running 1.7e308\nvllm:num_requests_waiting 1.7e308\n"), 0);
  EXPECT_EQ(ParseServerLoad("vllm:num_requests_running 1e6\nvllm:num_requests_waiting 1e6\n"), 1e6);
}

TEST(LoadMetrics, SumsWhatRunsAndWaitsOverModelsAndIgnoresTheRest) {
  EXPECT_EQ(ParseServerLoad("# HELP vllm:num_requests_running Number of requests\n"
                            "# TYPE vllm:num_requests_running gauge\n"
                            "vllm:num_requests_running{engine=\"0\",model_name=\"a} 9\"} 2.0 1700000000\n"
                            "vllm:num_requests_running{engine=\"1\"} 1e0\r\n"
                            "vllm:num_requests_running_total 100\n"
                            "vllm:num_requests_waiting 4"),
            7);
  EXPECT_EQ(ParseServerLoad("llamacpp:requests_processing 1\nllamacpp:requests_deferred\t3\n"), 4);
  EXPECT_EQ(ParseServerLoad("sglang_num_queue_reqs 1\n"), 1);
}

TEST(LoadMetrics, WhatIsNoNumberIsNoLoadAndAnotherPageHasNone) {
  EXPECT_EQ(
      ParseServerLoad("vllm:num_requests_running NaN\nvllm:num_requests_waiting{ -3\nvllm:num_requests_waiting{\n"), 0);
  EXPECT_EQ(ParseServerLoad("process_cpu_seconds_total 7\n"), std::nullopt);
  EXPECT_EQ(ParseServerLoad("{\"error\":{\"code\":501}}"), std::nullopt);
  EXPECT_EQ(ParseServerLoad(""), std::nullopt);
}

}  // namespace
}  // namespace goad::server
