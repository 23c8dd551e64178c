#include "scheduler/policy.h"

#include <cmath>
#include <cstdlib>
#include <functional>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/delay_model.h"
#include "scheduler/explain.h"
#include "scheduler/snapshot_check.h"
#include "tests/support/random_snapshots.h"
#include "tests/support/result_checks.h"

namespace goad::sched {
namespace {

EpochResult Decide(const std::string& policy, const EpochSnapshot& snapshot) {
  EXPECT_TRUE(CheckSnapshot(snapshot).ok()) << CheckSnapshot(snapshot);
  return DecideChecked(**MakePolicy(policy), snapshot);
}

// One site of 4 FLOP/s with at most 2 a query, a link whose SINR is 1 (log2(2) = 1): everything is worked by hand.
SiteState HandSite() {
  SiteState site;
  site.bandwidth_hz = 8;
  site.noise_w = 1;
  site.compute_flops = 4;
  site.max_share_flops = 2;
  return site;
}
Candidate HandUser(uint64_t id, double uncertainty, double local_delay_s) {
  Candidate user;
  user.id = QueryId{id};
  user.uncertainty = uncertainty;
  user.prompt_bits = 8;
  user.tx_power_w = 1;
  user.local_delay_s = local_delay_s;
  user.edge_work_flop = 2;
  return user;
}
EpochSnapshot HandSnapshot(std::vector<Candidate> users, double tau) {
  EpochSnapshot snapshot;
  snapshot.sites = {HandSite()};
  snapshot.candidates = std::move(users);
  snapshot.gain.assign(snapshot.candidates.size(), 1.0);
  snapshot.tau = tau;
  return snapshot;
}

TEST(Goa, HandWorkedEpoch) {
  // Alone: upload 8/(8*1) = 1 s, compute 2/min(2,4) = 1 s. Two: 2 + 1. Three: 3 + 2/(4/3) = 4.5.
  // User 0 is forced (0.9 > 0.5) though 2 - 1 = +1. Then user 1: 0.5*(3-10) < 0 goes; user 2: 4.5-4 > 0 stays.
  const EpochResult result =
      Decide("goa", HandSnapshot({HandUser(0, 0.9, 1), HandUser(1, 0.5, 10), HandUser(2, 0.5, 4)}, 0.5));
  EXPECT_EQ(result.order, (AssignmentOrder{{0, SiteIndex{0}}, {1, SiteIndex{0}}}));
  EXPECT_EQ(result.decisions[0].reason, Reason::kUncertain);
  EXPECT_EQ(result.decisions[1].reason, Reason::kDelayGain);
  EXPECT_EQ(result.decisions[2].reason, Reason::kNoGain);
  EXPECT_DOUBLE_EQ(result.decisions[0].predicted_upload_s, 2);  // final share, not the one when it was picked
  EXPECT_DOUBLE_EQ(result.decisions[0].predicted_compute_s, 1);
  EXPECT_DOUBLE_EQ(result.decisions[0].uplink_hz, 4);
  EXPECT_DOUBLE_EQ(result.decisions[0].share_flops, 2);
  EXPECT_DOUBLE_EQ(result.TotalDelaySeconds(), 3 + 3 + 4);
}

TEST(Goa, UncertaintyEqualToTauIsNotForced) {
  EXPECT_EQ(Decide("goa", HandSnapshot({HandUser(0, 0.5, 1)}, 0.5)).decisions[0].verdict, Verdict::kLocal);
  EXPECT_EQ(Decide("goa", HandSnapshot({HandUser(0, 0.5001, 1)}, 0.5)).decisions[0].verdict, Verdict::kOffload);
}

// Each production addition changes the decision; its neutral value is what the golden vectors run with.
struct Addition {
  const char* name;
  void (*change)(EpochSnapshot&);
  Reason with;
};
class ProductionAddition : public testing::TestWithParam<Addition> {};
TEST_P(ProductionAddition, NeutralValueGivesThePaper) {
  for (const char* policy : {"goa", "reference"}) {
    EpochSnapshot snapshot = HandSnapshot({HandUser(0, 0.4, 3)}, 0.5);
    EXPECT_EQ(Decide(policy, snapshot).decisions[0].reason, Reason::kDelayGain);
    GetParam().change(snapshot);
    EXPECT_EQ(Decide(policy, snapshot).decisions[0].reason, GetParam().with);
  }
}
INSTANTIATE_TEST_SUITE_P(
    All, ProductionAddition,
    testing::Values(
        Addition{"carried_uplinks", [](EpochSnapshot& s) { s.sites[0].active_uplinks = 2; }, Reason::kNoGain},
        Addition{"carried_queries", [](EpochSnapshot& s) { s.sites[0].active_queries = 7; }, Reason::kNoGain},
        Addition{"resident_interference", [](EpochSnapshot& s) { s.sites[0].resident_interference_w = 9; },
                 Reason::kNoGain},
        Addition{"max_queries", [](EpochSnapshot& s) { s.sites[0].max_queries = 0; }, Reason::kSiteFull},
        Addition{"site_down", [](EpochSnapshot& s) { s.sites[0].accepting = false; }, Reason::kNoSite},
        Addition{"site_draining", [](EpochSnapshot& s) { s.sites[0].accepting = false, s.sites[0].draining = true; },
                 Reason::kSiteDraining},
        Addition{"link_unknown", [](EpochSnapshot& s) { s.gain[0] = kUnknown; }, Reason::kNoLink},
        Addition{"link_stale",
                 [](EpochSnapshot& s) {
                   s.gain[0] = kUnknown;
                   s.candidates[0].link_stale = true;
                 },
                 Reason::kLinkStale},
        Addition{"deadline", [](EpochSnapshot& s) { s.candidates[0].deadline_s = 1.5; }, Reason::kDeadline},
        Addition{"tenant_cap", [](EpochSnapshot& s) { s.tenant_caps = {0}; }, Reason::kQuota},
        Addition{"chat",
                 [](EpochSnapshot& s) {
                   s.candidates[0].needs.chat = true;
                   s.sites[0].chat = false;
                 },
                 Reason::kNoSite},
        Addition{"tools",
                 [](EpochSnapshot& s) {
                   s.candidates[0].needs.tools = true;
                   s.sites[0].contexts[s.candidates[0].needs.Set()] = kCannot;
                 },
                 Reason::kNotAble},
        Addition{"context",
                 [](EpochSnapshot& s) {
                   s.candidates[0].needs.context_tokens = 4097;
                   s.sites[0].contexts[0] = 4096;
                 },
                 Reason::kNotAble},
        Addition{"able",  // which changes nothing
                 [](EpochSnapshot& s) {
                   s.candidates[0].needs = {true, true, true, 4096};
                   s.sites[0].contexts[s.candidates[0].needs.Set()] = 4096;
                   s.sites[0].contexts[0] = kCannot;  // of those that need less
                 },
                 Reason::kDelayGain},
        Addition{"per_token_work",
                 [](EpochSnapshot& s) {
                   s.sites[0].work_flop_per_token = 1;
                   s.candidates[0].prompt_tokens = 9;
                 },
                 Reason::kNoGain},
        Addition{"must_offload", [](EpochSnapshot& s) { s.candidates[0].must_offload = true; }, Reason::kUncertain},
        Addition{"forced_infeasible",
                 [](EpochSnapshot& s) {
                   s.candidates[0].uncertainty = 1;
                   s.sites[0].max_queries = 0;
                 },
                 Reason::kTauInfeasible},
        Addition{"forced_no_link",
                 [](EpochSnapshot& s) {
                   s.candidates[0].uncertainty = 1;
                   s.gain[0] = kUnknown;
                 },
                 Reason::kNoLink},
        Addition{"forced_deadline",
                 [](EpochSnapshot& s) {
                   s.candidates[0].uncertainty = 1;
                   s.candidates[0].deadline_s = 1.5;
                 },
                 Reason::kDeadline},
        Addition{"measured_uplink_slow",
                 [](EpochSnapshot& s) {
                   s.sites[0].uplink = UplinkModel::kMeasured;
                   s.uplink_bps = {1};
                 },
                 Reason::kNoGain},
        Addition{"batching_slow",
                 [](EpochSnapshot& s) {
                   s.sites[0].compute = ComputeModel::kBatching;
                   s.sites[0].prefill_tokens_per_s = 1;
                   s.candidates[0].prompt_tokens = 9;
                 },
                 Reason::kNoGain},
        Addition{"batching_overhead",
                 [](EpochSnapshot& s) {
                   s.sites[0].compute = ComputeModel::kBatching;
                   s.sites[0].prefill_tokens_per_s = 1;
                   s.sites[0].overhead_s = 9;
                 },
                 Reason::kNoGain},
        Addition{"round_trip", [](EpochSnapshot& s) { s.candidates[0].round_trip_s = 1; }, Reason::kNoGain}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(DelayModel, ProductionVariantsByHand) {
  SiteState site = HandSite();
  Candidate user = HandUser(0, 1, 1);
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, 1, kUnknown, 0, 1), 1);
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, 3, kUnknown, 0, 1), 0.5);  // log2(1+3) = 2
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, 6, kUnknown, 1, 1), 0.5);  // interference doubles the noise
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, 0, kUnknown, 0, 1), kInfinity);
  site.uplink = UplinkModel::kMeasured;
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, kUnknown, 4, 99, 2), 4);  // 8 / (4/2)
  site.uplink_shared = false;
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, kUnknown, 4, 99, 2), 2);
  user.round_trip_s = 0.25;
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, kUnknown, 4, 99, 2), 2.25);
  site.uplink = UplinkModel::kShannon;
  EXPECT_DOUBLE_EQ(UploadSeconds(site, user, 1, kUnknown, 0, 2), 2.25);
  user.prompt_bits = 0;  // already here
  EXPECT_EQ(UploadSeconds(site, user, kUnknown, kUnknown, 0, 1), 0);
  EXPECT_DOUBLE_EQ(ComputeSeconds(site, user, 4), 2);  // 2 / min(2, 4/4)
  site.work_flop_per_token = 3;
  user.prompt_tokens = 1;
  user.expected_output_tokens = 1;
  EXPECT_DOUBLE_EQ(ComputeSeconds(site, user, 4), 8);  // (2 + 3*2) / 1
  site.compute = ComputeModel::kBatching;
  site.prefill_tokens_per_s = 2;
  site.token_time_s = 1;
  site.token_time_per_query_s = 0.5;
  site.backends = 2;
  EXPECT_DOUBLE_EQ(ComputeSeconds(site, user, 4), 0.5 + 1 * (1 + 0.5 * 2));
  site.overhead_s = 3;
  EXPECT_DOUBLE_EQ(ComputeSeconds(site, user, 4), 3 + 0.5 + 1 * (1 + 0.5 * 2));
}

TEST(Baselines, DifferOnlyWhereTheyShould) {
  EpochSnapshot snapshot = HandSnapshot({HandUser(0, 0.9, 1), HandUser(1, 0.1, 10), HandUser(2, 0.2, 1)}, 0.5);
  EXPECT_EQ(Decide("all-local", snapshot).order.size(), 0u);
  EXPECT_EQ(Decide("all-edge", snapshot).order.size(), 3u);
  EXPECT_EQ(Decide("min-delay", snapshot).order, (AssignmentOrder{{1, SiteIndex{0}}}));
  EXPECT_EQ(Decide("random", snapshot).order.size(), Decide("goa", snapshot).order.size());
  snapshot.sample = {2, 0};
  EXPECT_EQ(Decide("random", snapshot).decisions[1].verdict, Verdict::kLocal);
}

TEST(Goa, AgreesWithTheReferenceOnRandomSnapshots) {
  const char* from_environment = std::getenv("GOAD_TEST_SEED");
  const char* count_from_environment = std::getenv("GOAD_TEST_COUNT");
  const uint64_t count = count_from_environment != nullptr ? std::strtoull(count_from_environment, nullptr, 10) : 3000;
  const uint64_t first = from_environment != nullptr ? std::strtoull(from_environment, nullptr, 10) : 1;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE(testing::Message() << "GOAD_TEST_SEED=" << seed);
    const EpochSnapshot snapshot = SnapshotMaker(seed).Make(seed % 50 == 0 ? 60 : 14, 5);
    ASSERT_TRUE(CheckSnapshot(snapshot).ok()) << CheckSnapshot(snapshot);
    const EpochResult fast = Decide("goa", snapshot), slow = Decide("reference", snapshot);
    ASSERT_EQ(fast.order, slow.order);
    for (const char* other : {"min-delay", "all-edge", "all-local", "random"}) Decide(other, snapshot);
    if (seed % 20 == 0) Decide("genetic", snapshot);
    if (HasFatalFailure()) return;
  }
}

TEST(Explain, HandWorkedEpoch) {
  const EpochSnapshot snapshot = HandSnapshot({HandUser(0, 0.9, 1), HandUser(1, 0.5, 10), HandUser(2, 0.5, 4)}, 0.5);
  const EpochResult result = Decide("goa", snapshot);
  const Explanation second = Explain(snapshot, result.order, 1, /*others_decided=*/false);
  EXPECT_EQ(second.assigned_before, 1u);
  EXPECT_EQ(second.sites.at(0).queries, 1);
  EXPECT_DOUBLE_EQ(second.sites.at(0).cost.upload_s, 2);
  EXPECT_DOUBLE_EQ(second.sites.at(0).delta_s, -7);
  EXPECT_DOUBLE_EQ(second.sites.at(0).key_s, -3.5);
  const Explanation left = Explain(snapshot, result.order, 2, false);
  EXPECT_EQ(left.assigned_before, 2u);
  EXPECT_DOUBLE_EQ(left.sites.at(0).delta_s, 0.5);
  const Explanation first = Explain(snapshot, result.order, 0, /*others_decided=*/true);  // as if 1 had gone before
  EXPECT_EQ(first.assigned_before, 1u);
  EXPECT_DOUBLE_EQ(first.sites.at(0).delta_s, 2);
}

// What is explained is what GOA compared: each took its least eligible key, below 0 unless forced; who was left had
// none.
TEST(Explain, IsWhatGoaComparedOnRandomSnapshots) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    const EpochSnapshot snapshot = SnapshotMaker(seed).Make(14, 5);
    const EpochResult result = Decide("goa", snapshot);
    for (size_t i = 0; i < snapshot.candidates.size(); ++i) {
      const Decision& decision = result.decisions[i];
      double least = kInfinity;
      size_t best = 0;
      const Explanation explanation = Explain(snapshot, result.order, i, false);
      for (size_t j = 0; j < explanation.sites.size(); ++j) {
        const SiteCost& site = explanation.sites[j];
        if (site.cost.eligibility != Eligibility::kEligible || !(site.key_s < least)) continue;
        least = site.key_s;
        best = j;
      }
      if (decision.verdict == Verdict::kOffload && least < kInfinity) {
        EXPECT_EQ(decision.site, ToSite(best)) << "candidate " << i;
        EXPECT_TRUE(snapshot.Forced(i) || least < 0) << "candidate " << i;
      } else if (decision.verdict == Verdict::kLocal && !snapshot.Forced(i)) {
        EXPECT_GE(least, 0) << "candidate " << i;
      }
    }
  }
}

// Crowds of users that are exactly or almost alike take the scan and the collapse instead of the heap.
TEST(Goa, AgreesWithTheReferenceWhenUsersAreAlike) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    SnapshotMaker maker(seed);
    EpochSnapshot snapshot;
    while (snapshot.candidates.size() < 2) snapshot = maker.Make(6, 4);
    const size_t kinds = 1 + maker.Below(3), sites = snapshot.sites.size(), users = 70;
    const bool almost = maker.Chance(0.4);
    const std::vector<Candidate> prototypes = snapshot.candidates;
    const std::vector<double> gain = snapshot.gain, bps = snapshot.uplink_bps;
    snapshot.candidates.clear(), snapshot.gain.clear(), snapshot.uplink_bps.clear();
    for (size_t i = 0; i < users; ++i) {
      const size_t k = maker.Below(std::min(kinds, prototypes.size()));
      snapshot.candidates.push_back(prototypes[k]);
      snapshot.candidates.back().id = QueryId{i};
      if (almost) snapshot.candidates.back().local_delay_s *= maker.Uniform(1, 1.0001);
      snapshot.gain.insert(snapshot.gain.end(), gain.begin() + k * sites, gain.begin() + (k + 1) * sites);
      snapshot.uplink_bps.insert(snapshot.uplink_bps.end(), bps.begin() + k * sites, bps.begin() + (k + 1) * sites);
    }
    for (SiteState& site : snapshot.sites) {
      if (site.max_queries != kUnlimited) site.max_queries = 40;
    }
    ASSERT_EQ(Decide("goa", snapshot).order, Decide("reference", snapshot).order);
    if (HasFatalFailure()) return;
  }
}

// Every field that can change a decision does, alone, in a crowd that is alike but for it: whoever takes unlike
// candidates for alike, or hoists a site's value and forgets another, disagrees with the reference.
struct CandidateField {
  const char* name;
  void (*change)(Candidate&);
};
constexpr CandidateField kCandidateFields[] = {
    {"uncertainty", [](Candidate& c) { c.uncertainty = 0.6; }},
    {"prompt_bits", [](Candidate& c) { c.prompt_bits = 900; }},
    {"round_trip_s", [](Candidate& c) { c.round_trip_s = 0.01; }},
    {"tx_power_w", [](Candidate& c) { c.tx_power_w = 0.1; }},
    {"local_delay_s", [](Candidate& c) { c.local_delay_s = 0.05; }},
    {"edge_work_flop", [](Candidate& c) { c.edge_work_flop = 2e13; }},
    {"deadline_s", [](Candidate& c) { c.deadline_s = 0.03; }},
    {"prompt_tokens", [](Candidate& c) { c.prompt_tokens = 90; }},
    {"expected_output_tokens", [](Candidate& c) { c.expected_output_tokens = 12; }},
    {"tenant", [](Candidate& c) { c.tenant = 1; }},
    {"must_offload", [](Candidate& c) { c.must_offload = true; }},
    {"needs.chat", [](Candidate& c) { c.needs.chat = true; }},
    {"needs.tools", [](Candidate& c) { c.needs.tools = true; }},
    {"needs.images", [](Candidate& c) { c.needs.images = true; }},
    {"needs.context", [](Candidate& c) { c.needs.context_tokens = 5000; }},
    {"link_stale", [](Candidate& c) { c.link_stale = true; }},
    {"tau", [](Candidate& c) { c.tau = 0.4; }},
};
struct SiteField {
  const char* name;
  void (*change)(SiteState&);
};
constexpr SiteField kSiteFields[] = {
    {"bandwidth_hz", [](SiteState& s) { s.bandwidth_hz = 3e5; }},
    {"noise_w", [](SiteState& s) { s.noise_w = 1e-11; }},
    {"compute_flops", [](SiteState& s) { s.compute_flops = 1e15; }},
    {"max_share_flops", [](SiteState& s) { s.max_share_flops = 1e15; }},
    {"work_flop_per_token", [](SiteState& s) { s.work_flop_per_token = 4e11; }},
    {"uplink",
     [](SiteState& s) {
       s.uplink = s.uplink == UplinkModel::kShannon ? UplinkModel::kMeasured : UplinkModel::kShannon;
     }},
    {"uplink_shared", [](SiteState& s) { s.uplink_shared = false; }},
    {"compute",
     [](SiteState& s) {
       s.compute = s.compute == ComputeModel::kBatching ? ComputeModel::kEqualShare : ComputeModel::kBatching;
     }},
    {"overhead_s", [](SiteState& s) { s.overhead_s = 0.01; }},
    {"prefill_tokens_per_s", [](SiteState& s) { s.prefill_tokens_per_s = 2000; }},
    {"token_time_s", [](SiteState& s) { s.token_time_s = 0.002; }},
    {"token_time_per_query_s", [](SiteState& s) { s.token_time_per_query_s = 0.0008; }},
    {"backends", [](SiteState& s) { s.backends = 3; }},
    {"active_uplinks", [](SiteState& s) { s.active_uplinks = 3; }},
    {"active_queries", [](SiteState& s) { s.active_queries = 4; }},
    {"resident_interference_w", [](SiteState& s) { s.resident_interference_w = 1e-9; }},
    {"max_queries", [](SiteState& s) { s.max_queries = 3; }},
    {"accepting", [](SiteState& s) { s.accepting = false; }},
    {"draining", [](SiteState& s) { s.accepting = false, s.draining = true; }},
    {"chat", [](SiteState& s) { s.chat = false; }},
    {"contexts", [](SiteState& s) { s.contexts = {4096, kCannot, kCannot, 8192, 4096, 0, kUnlimited, kCannot}; }},
};

// A field that is new fails to compile here until it is listed above.
static_assert([] {
  const auto [id, uncertainty, prompt_bits, round_trip_s, tx_power_w, local_delay_s, edge_work_flop, deadline_s,
              prompt_tokens, expected_output_tokens, tenant, must_offload, needs, link_stale, tau] = Candidate{};
  const auto [chat, tools, images, context_tokens] = needs;
  return id == QueryId{} && context_tokens == 0;
}() && std::size(kCandidateFields) == 17);  // all but the id
static_assert([] {
  const auto [bandwidth_hz, noise_w, compute_flops, max_share_flops, work_flop_per_token, uplink, uplink_shared,
              compute, overhead_s, prefill_tokens_per_s, token_time_s, token_time_per_query_s, backends, active_uplinks,
              active_queries, resident_interference_w, max_queries, accepting, draining, chat, contexts] = SiteState{};
  return backends == 1;
}() && std::size(kSiteFields) == 21);

// 70 users who are alike, 7 of them forced, between a site of each model of uplink and compute; all numbers matter.
EpochSnapshot Crowd() {
  EpochSnapshot snapshot;
  for (int j = 0; j < 4; ++j) {
    SiteState site;
    site.bandwidth_hz = 1e6 * (1 + j);
    site.noise_w = 1e-12;
    site.compute_flops = 4e15;
    site.max_share_flops = 3e15;
    site.uplink = j < 2 ? UplinkModel::kShannon : UplinkModel::kMeasured;
    site.compute = j % 2 == 0 ? ComputeModel::kEqualShare : ComputeModel::kBatching;
    site.work_flop_per_token = j == 2 ? 1e10 : 0;
    site.prefill_tokens_per_s = 20000;
    site.token_time_s = 0.0005;
    site.token_time_per_query_s = 0.0002;
    snapshot.sites.push_back(site);
  }
  for (size_t i = 0; i < 70; ++i) {
    Candidate user;
    user.id = QueryId{i};
    user.uncertainty = 0.5;
    user.prompt_bits = 500;
    user.tx_power_w = 0.2;
    user.local_delay_s = 0.08;
    user.edge_work_flop = 1e13;
    user.prompt_tokens = 40;
    user.expected_output_tokens = 5;
    user.must_offload = i % 10 == 0;
    snapshot.candidates.push_back(user);
    for (size_t j = 0; j < 4; ++j) {
      snapshot.gain.push_back(1e-9 * (4 - static_cast<double>(j)));
      snapshot.uplink_bps.push_back(1e6);
    }
  }
  snapshot.tau = 0.7;
  snapshot.tenant_caps = {kUnlimited, 5};
  return snapshot;
}

// What devices and operators see of a result.
bool SameAnswers(const EpochResult& a, const EpochResult& b) {
  bool same = a.order == b.order;
  for (size_t i = 0; i < a.decisions.size() && same; ++i) {
    const Decision &x = a.decisions[i], &y = b.decisions[i];
    same = x.reason == y.reason && x.predicted_upload_s == y.predicted_upload_s &&
           x.predicted_compute_s == y.predicted_compute_s && x.weighted_gain_s == y.weighted_gain_s;
  }
  return same;
}

void HoldToTheReference(const EpochSnapshot& snapshot) {
  const EpochResult goa = Decide("goa", snapshot);
  ASSERT_EQ(goa.order, Decide("reference", snapshot).order);
  Decide("goa-relocate", snapshot);
}

TEST(EveryField, OfACandidateCountsInACrowd) {
  for (const CandidateField& field : kCandidateFields) {
    for (const bool all_plain : {true, false}) {  // the bounds in fours, and the general path
      SCOPED_TRACE(testing::Message() << field.name << (all_plain ? ", plain sites" : ", all sites"));
      EpochSnapshot snapshot = Crowd();
      const bool reads_tokens = std::string(field.name).find("_tokens") != std::string::npos;
      if (all_plain && !reads_tokens) {
        for (SiteState& site : snapshot.sites) site.uplink = UplinkModel::kShannon;
        for (SiteState& site : snapshot.sites) site.compute = ComputeModel::kEqualShare, site.work_flop_per_token = 0;
      }
      snapshot.sites[3].chat = false;
      snapshot.sites[1].contexts = {4096, kUnlimited, kCannot, kCannot, kCannot, kCannot, kCannot, kCannot};
      if (std::string(field.name) == "link_stale")
        snapshot.gain = snapshot.uplink_bps = std::vector<double>(280, kUnknown);
      const EpochResult alike = Decide("goa", snapshot);
      for (size_t i = 0; i < snapshot.candidates.size(); ++i) {
        if (i % 3 != 0) field.change(snapshot.candidates[i]);
      }
      EXPECT_FALSE(SameAnswers(Decide("goa", snapshot), alike)) << "does not matter here: the test sees nothing";
      HoldToTheReference(snapshot);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(EveryField, OfASiteCountsInACrowd) {
  for (const SiteField& field : kSiteFields) {
    bool matters = false;
    for (size_t j = 0; j < 4; ++j) {
      SCOPED_TRACE(testing::Message() << field.name << " of site " << j);
      EpochSnapshot snapshot = Crowd();
      for (size_t i = 0; i < snapshot.candidates.size(); ++i) snapshot.candidates[i].needs.chat = i % 2 == 0;
      const EpochResult before = Decide("goa", snapshot);
      field.change(snapshot.sites[j]);
      matters |= !SameAnswers(Decide("goa", snapshot), before);
      HoldToTheReference(snapshot);
      if (HasFatalFailure()) return;
    }
    EXPECT_TRUE(matters) << field.name << " does not matter here: the test sees nothing";
  }
}

TEST(CheckSnapshot, NamesFieldValueAndRange) {
  const EpochSnapshot good = HandSnapshot({HandUser(0, 0.5, 1)}, 0.5);
  ASSERT_TRUE(CheckSnapshot(good).ok());
  const auto message = [&](auto change) {
    EpochSnapshot bad = good;
    change(bad);
    return std::string(CheckSnapshot(bad).message());
  };
  EXPECT_EQ(message([](auto& s) { s.tau = std::nan(""); }), "tau: nan is not in 0..1");
  EXPECT_EQ(message([](auto& s) { s.gain.clear(); }), "gain: 0 entries, want candidates x sites = 1");
  EXPECT_EQ(message([](auto& s) { s.gain[0] = -1; }), "candidates[0].gain: -1 is not finite and >= 0, or NaN");
  EXPECT_EQ(message([](auto& s) { s.candidates[0].local_delay_s = kInfinity; }),
            "candidates[0].local_delay_s: inf is not finite and >= 0");
  EXPECT_EQ(message([](auto& s) { s.candidates[0].round_trip_s = -1; }),
            "candidates[0].round_trip_s: -1 is not finite and >= 0");
  EXPECT_EQ(message([](auto& s) {
              s.sites[0].compute = ComputeModel::kBatching;
              s.sites[0].overhead_s = kInfinity;
            }),
            "sites[0].overhead_s: inf is not finite and >= 0");
  EXPECT_EQ(message([](auto& s) { s.sites[0].noise_w = 0; }), "sites[0].noise_w: 0 is not finite and > 0");
  EXPECT_EQ(message([](auto& s) { s.sample = {0, 0}; }), "sample: 0 is not a candidate or is listed twice");
  EXPECT_EQ(message([](auto& s) { s.residents = {{SiteIndex{1}}}; }),
            "residents[0].site: 1 is not an index into sites");
  EXPECT_EQ(message([](auto& s) {
              s.residents = {{SiteIndex{0}, s.candidates[0]}};
            }),
            "residents[0].gain: nan is not finite and > 0");
}

// Each part at fault can be taken out, and what is left is sound, decided, and the same for those who had no part in
// it.
TEST(CheckSnapshot, TheFaultNamesItsPartWhichCanBeTakenOut) {
  using Part = SnapshotFault::Part;
  const EpochSnapshot good = HandSnapshot({HandUser(0, 0.5, 1), HandUser(1, 0.9, 1), HandUser(2, 0.9, 1)}, 0.7);
  ASSERT_TRUE(CheckSnapshot(good).ok());
  const auto repaired = [&](Part part, size_t index, auto change) {
    EpochSnapshot bad = good;
    change(bad);
    SnapshotFault fault;
    EXPECT_FALSE(CheckSnapshot(bad, &fault).ok());
    EXPECT_EQ(fault.part, part);
    EXPECT_EQ(fault.index, index);
    EXPECT_TRUE(TakeOut(fault, &bad));
    EXPECT_TRUE(CheckSnapshot(bad).ok()) << CheckSnapshot(bad);
    return Decide("goa", bad).decisions;
  };
  for (auto change : std::vector<std::function<void(Candidate&)>>{
           [](Candidate& c) { c.prompt_bits = std::nan(""); }, [](Candidate& c) { c.uncertainty = 7; },
           [](Candidate& c) { c.tenant = -3; }, [](Candidate& c) { c.expected_output_tokens = kInfinity; },
           [](Candidate& c) { c.deadline_s = 0; }}) {
    const auto decisions = repaired(Part::kCandidate, 1, [&](EpochSnapshot& s) {
      s.tenant_caps = {5};
      change(s.candidates[1]);
    });
    EXPECT_EQ(decisions[1].verdict, Verdict::kLocal);
    EXPECT_EQ(decisions[2].verdict, Verdict::kOffload);
  }
  EXPECT_EQ(repaired(Part::kCandidate, 1, [](auto& s) { s.gain[1] = -1; })[2].verdict, Verdict::kOffload);
  for (const Decision& decision : repaired(Part::kSite, 0, [](auto& s) { s.sites[0].noise_w = 0; })) {
    EXPECT_EQ(decision.verdict, Verdict::kLocal);
  }
  EXPECT_EQ(repaired(Part::kResident, 0, [](auto& s) { s.residents = {{SiteIndex{7}}}; })[2].verdict,
            Verdict::kOffload);
  EpochSnapshot whole = good;
  whole.tau = 2;
  SnapshotFault fault;
  EXPECT_FALSE(CheckSnapshot(whole, &fault).ok());
  EXPECT_FALSE(TakeOut(fault, &whole));
}

// What others go by (planner, explain) is declared beside the policy; a new one has it here or fails.
TEST(MakePolicy, EveryPolicyDeclaresWhatItIs) {
  const std::set<std::string> moves_what_it_assigned = {"goa-relocate", "genetic", "optimal"};
  for (const std::string& name : PolicyNames()) {
    EXPECT_GT(MostPairs(name), 0u) << name;
    EXPECT_LE(MostPairs(name), 1000000u) << name;
    EXPECT_EQ((*MakePolicy(name))->guarantees().chosen_in_order, moves_what_it_assigned.count(name) == 0) << name;
  }
  for (const std::string& name : ServingPolicyNames()) EXPECT_EQ(MostPairs(name), 1000000u) << name;
  EXPECT_EQ(MostPairs("nonsense"), 0u);
}

TEST(MakePolicy, UnknownNameListsTheKnown) {
  EXPECT_EQ(MakePolicy("best").status().message(),
            "policy: \"best\" is not one of goa, goa-relocate, min-delay, all-edge, all-local, random, genetic, "
            "optimal, reference");
}

}  // namespace
}  // namespace goad::sched
