#include "server/engine/fair_share.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "gtest/gtest.h"

namespace goad::server {
namespace {

using Caps = std::vector<int>;

TEST(FairCaps, HandWorked) {
  // Enough for all: everybody gets what it asks for.
  EXPECT_EQ(FairCaps({{1, 2, 3, 3}, {1, 0, 1, 1}}, 6), (Caps{3, 1}));
  // 8 slots, equal weights: 4 each; the first holds 6, so all that is free is the second's.
  EXPECT_EQ(FairCaps({{1, 6, 10, 10}, {1, 0, 10, 10}}, 8), (Caps{0, 4}));
  // Weight 3 against 1 of 8 slots: 6 and 2.
  EXPECT_EQ(FairCaps({{3, 0, 10, 10}, {1, 0, 10, 10}}, 8), (Caps{6, 2}));
  // A small demand is met whole, the rest is shared.
  EXPECT_EQ(FairCaps({{1, 0, 1, 1}, {1, 0, 10, 10}, {1, 0, 10, 10}}, 9), (Caps{1, 4, 4}));
  // Own limits come first.
  EXPECT_EQ(FairCaps({{1, 0, 10, 2}, {1, 0, 10, 10}}, 8), (Caps{2, 6}));
  EXPECT_EQ(FairCaps({{1, 0, 5, 5}}, 0), (Caps{0}));
  EXPECT_EQ(FairCaps({}, 8), Caps{});
}

// Max-min: nobody could get one more by taking it from a tenant with a larger share per weight; and nothing is left
// over.
TEST(FairCaps, IsWeightedMaxMinAndWastesNothing) {
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::vector<TenantDemand> tenants(1 + random() % 6);
    for (TenantDemand& t : tenants) {
      t.weight = 1 + static_cast<double>(random() % 4);
      t.asking = static_cast<int>(random() % 12);
      t.most_new = static_cast<int>(random() % static_cast<uint64_t>(t.asking + 1));
    }
    const int slots = static_cast<int>(random() % 30);
    const Caps caps = FairCaps(tenants, slots);
    int demand = 0;
    for (const TenantDemand& t : tenants) demand += t.most_new;
    EXPECT_EQ(std::accumulate(caps.begin(), caps.end(), 0), std::min(slots, demand));
    for (size_t a = 0; a < tenants.size(); ++a) {
      EXPECT_LE(caps[a], tenants[a].most_new);
      if (caps[a] == tenants[a].most_new) continue;
      for (size_t b = 0; b < tenants.size(); ++b) {
        EXPECT_GE((caps[a] + 1) / tenants[a].weight + 1e-9, caps[b] / tenants[b].weight) << a << " " << b;
      }
    }
  }
}

}  // namespace
}  // namespace goad::server
