#include "server/telemetry/metrics.h"

#include <set>

#include "gtest/gtest.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace goad::server {
namespace {

TEST(Metrics, FamiliesAreThoseOfTheDesignAndAppearOnce) {
  Metrics metrics({{"cell-a"}, {{"http://x"}}});
  metrics.Decision(sched::Verdict::kOffload, sched::Reason::kUncertain, sched::SiteIndex{0});
  metrics.TerminalEvent(Terminal::kCompleted, sched::SiteIndex{0}, 0.1);
  metrics.TerminalEvent(Terminal::kLocal, sched::SiteIndex::kNone, 0.1);
  metrics.TerminalEvent(Terminal::kLost, sched::SiteIndex::kNone, 0.1);
  metrics.Epoch("goa", 3, 1e-5, 1e-4);
  std::set<std::string> names;
  for (const auto& family : metrics.page()->Collect()) EXPECT_TRUE(names.insert(family.name).second) << family.name;
  for (const char* name : {"decisions_total",
                           "epochs_total",
                           "epoch_duration_seconds",
                           "solver_duration_seconds",
                           "epoch_candidates",
                           "uncertainty",
                           "pending_queries",
                           "engine_turns_total",
                           "running_queries",
                           "queue_wait_seconds",
                           "upload_seconds",
                           "request_ttft_seconds",
                           "request_tpot_seconds",
                           "request_duration_seconds",
                           "prediction_error_seconds",
                           "prediction_relative_error",
                           "service_seconds",
                           "service_samples",
                           "uplink_devices",
                           "uplink_round_trip_seconds",
                           "uplink_bytes_per_second",
                           "deadline_missed_total",
                           "tau",
                           "tau_infeasible_total",
                           "link_report_age_seconds",
                           "stale_links_total",
                           "sessions",
                           "refused_total",
                           "outbox_bytes",
                           "slow_consumers_total",
                           "late_terminals_total",
                           "backend_up",
                           "backend_state",
                           "backend_slots",
                           "backend_failures_total",
                           "backend_requests_total",
                           "backend_failovers_total",
                           "tokens_total",
                           "config_reloads_total",
                           "config_last_reload_successful",
                           "config_last_reload_success_timestamp_seconds",
                           "site_slots",
                           "backend_running",
                           "config_version",
                           "build_info"}) {
    EXPECT_EQ(names.count(std::string("goad_") + name), 1u) << name;
  }
  metrics.EngineTurned(3);
  metrics.Backend(sched::SiteIndex{0}, 0, 2, 0);
  metrics.BackendRunning(sched::SiteIndex{0}, 0, 2);
  metrics.Slots(sched::SiteIndex{0}, 3, 8);
  metrics.Upload(sched::SiteIndex{0}, 2, 1);
  metrics.FirstToken(sched::SiteIndex{0}, 0.1);
  metrics.TimePerOutputToken(sched::SiteIndex{0}, 0.1);
  metrics.TenantRefused("acme", TenantLimit::kWeight);
  metrics.ConfigReload(false);
  metrics.Compute(sched::SiteIndex{0}, 2, 1.1);  // 45 % of it was not foreseen
  metrics.Compute(sched::SiteIndex{0}, 0, 1);
  metrics.Uncertainty(UncertaintyMetric::kDeclared, 0.55);
  sched::SiteState state;
  state.prefill_tokens_per_s = 4;
  metrics.ServiceTimes(sched::SiteIndex{0}, state, 7);
  const std::string text = prometheus::TextSerializer().Serialize(metrics.page()->Collect());
  EXPECT_NE(text.find("goad_decisions_total{reason=\"UNCERTAIN\",site=\"cell-a\",verdict=\"OFFLOAD\"} 1\n"),
            std::string::npos);
  for (const char* line : {"goad_prediction_relative_error_bucket{part=\"compute\",site=\"cell-a\",le=\"0.25\"} 0\n",
                           "goad_request_duration_seconds_count{outcome=\"completed\",site=\"cell-a\"} 1\n",
                           "goad_request_duration_seconds_count{outcome=\"local\",site=\"\"} 1\n",
                           "goad_request_duration_seconds_count{outcome=\"lost\",site=\"\"} 1\n",
                           "goad_request_duration_seconds_count{outcome=\"lost\",site=\"cell-a\"} 0\n",
                           "goad_upload_seconds_count{site=\"cell-a\"} 1\n",
                           "goad_request_ttft_seconds_count{site=\"cell-a\"} 1\n",
                           "goad_request_tpot_seconds_count{site=\"cell-a\"} 1\n",
                           "goad_prediction_error_seconds_count{part=\"upload\",site=\"cell-a\"} 1\n",
                           "goad_engine_turns_total 1\n",
                           "goad_pending_queries 3\n",
                           "goad_site_slots{site=\"cell-a\"} 8\n",
                           "goad_running_queries{site=\"cell-a\"} 3\n",
                           "goad_backend_running{backend=\"http://x\",site=\"cell-a\"} 2\n",
                           "goad_tenant_refused_total{limit=\"weight\",tenant=\"acme\"} 1\n",
                           "goad_config_last_reload_successful 0\n",
                           "goad_prediction_relative_error_bucket{part=\"compute\",site=\"cell-a\",le=\"0.5\"} 1\n",
                           "goad_prediction_relative_error_count{part=\"compute\",site=\"cell-a\"} 1\n",
                           "goad_service_seconds{part=\"prompt_token\",site=\"cell-a\"} 0.25\n",
                           "goad_uncertainty_bucket{metric=\"DECLARED\",le=\"0.5\"} 0\n",
                           "goad_uncertainty_bucket{metric=\"DECLARED\",le=\"0.6\"} 1\n",
                           "goad_uncertainty_count{metric=\"MARGIN\"} 0\n",
                           "goad_uncertainty_count{metric=\"LOW_QUANTILE\"} 0\n",
                           "goad_service_samples{site=\"cell-a\"} 7\n",
                           "goad_backend_up{backend=\"http://x\",site=\"cell-a\"} 0\n",
                           "goad_backend_state{backend=\"http://x\",site=\"cell-a\",state=\"loading\"} 1\n",
                           "goad_backend_state{backend=\"http://x\",site=\"cell-a\",state=\"unknown\"} 0\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
  EXPECT_NE(text.find("goad_solver_duration_seconds_count{policy=\"goa\"} 1\n"), std::string::npos);
}

TEST(Metrics, WhatCannotBeIsNotExported) {
  Metrics metrics({{"cell-a"}, {{"http://x"}}});
  metrics.Listener("devices", {"NO_HELLO", "MEMORY"}, true);
  metrics.Listener("admin", {"", "MEMORY"}, false);
  std::set<std::string> offloads, local, listeners, refusals;
  for (const auto& family : metrics.page()->Collect()) {
    for (const auto& metric : family.metric) {
      const auto label = [&](const std::string& name) {
        for (const auto& one : metric.label) {
          if (one.name == name) return one.value;
        }
        return std::string();
      };
      if (family.name == "goad_decisions_total") {
        (label("verdict") == "LOCAL" ? local : offloads).insert(label("reason"));
        EXPECT_EQ(label("site"), label("verdict") == "LOCAL" ? "" : "cell-a");
      }
      if (family.name == "goad_listener_up") listeners.insert(label("listener"));
      if (family.name == "goad_connections_refused_total") refusals.insert(label("listener") + " " + label("reason"));
    }
  }
  EXPECT_EQ(offloads, (std::set<std::string>{"UNCERTAIN", "DELAY_GAIN", "POLICY"}));
  EXPECT_EQ(local.size(), static_cast<size_t>(sched::kReasonCount) - 2);
  EXPECT_EQ(local.count("UNCERTAIN") + local.count("DELAY_GAIN"), 0u);
  EXPECT_EQ(listeners, (std::set<std::string>{"devices"}));
  EXPECT_EQ(refusals, (std::set<std::string>{"devices NO_HELLO", "devices MEMORY", "admin MEMORY"}));
  // One that was thought impossible is counted all the same.
  metrics.Decision(sched::Verdict::kOffload, sched::Reason::kNoGain, sched::SiteIndex{0});
  EXPECT_NE(prometheus::TextSerializer()
                .Serialize(metrics.page()->Collect())
                .find("goad_decisions_total{reason=\"NO_GAIN\",site=\"cell-a\",verdict=\"OFFLOAD\"} 1\n"),
            std::string::npos);
}

}  // namespace
}  // namespace goad::server
