// Which limit of a tenant answered a query LOCAL, QUOTA. (What the caps are: fair_share_test, engine_test.)
#include "server/engine/tenant_table.h"

#include "gtest/gtest.h"

namespace goad::server {
namespace {

TenantConfig Tenant(const std::string& name) {
  TenantConfig tenant;
  tenant.name = name;
  return tenant;
}

TEST(TenantTable, ARefusalIsCountedUnderTheLimitThatItMet) {
  TenantTable table;
  TenantConfig few = Tenant("few"), little = Tenant("little"), many = Tenant("many");
  few.max_queries = 1;
  little.max_offloaded_share = 0;
  table.SetConfig({few, little, many});
  table.TakeSlot("few");
  std::vector<Query> queries(5);
  const char* const tenants[] = {"few", "little", "many", "many", "many"};
  std::vector<const Query*> candidates;
  for (size_t k = 0; k < queries.size(); ++k) {
    queries[k].meta.tenant = tenants[k];
    candidates.push_back(&queries[k]);
  }
  sched::EpochSnapshot snapshot;
  snapshot.candidates.resize(queries.size());
  snapshot.sites.resize(1);
  snapshot.sites[0].accepting = true;
  snapshot.sites[0].max_queries = 2;
  table.Cap(candidates, &snapshot);
  ASSERT_EQ(snapshot.tenant_caps, (std::vector<int>{0, 0, 0, 1}));

  EXPECT_EQ(table.Refused("few"), TenantLimit::kMaxQueries);
  EXPECT_EQ(table.Refused("little"), TenantLimit::kMaxOffloadedShare);
  EXPECT_EQ(table.Refused("many"), TenantLimit::kWeight);
  EXPECT_EQ(table.Refused("many"), TenantLimit::kWeight);
  table.Decided("many", true);
  table.Decided("many", false);
  const std::vector<TenantRow> rows = table.Rows();
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].config.name, "default");
  EXPECT_EQ(rows[1].active, 1);
  EXPECT_EQ(rows[1].refused[static_cast<size_t>(TenantLimit::kMaxQueries)], 1u);
  EXPECT_EQ(rows[2].refused[static_cast<size_t>(TenantLimit::kMaxOffloadedShare)], 1u);
  EXPECT_EQ(rows[3].refused[static_cast<size_t>(TenantLimit::kWeight)], 2u);
  EXPECT_EQ(rows[3].decisions, 2u);
  EXPECT_EQ(rows[3].offloaded, 1u);
  EXPECT_NEAR(rows[3].recent_share, 0.5, 0.001);
}

TEST(TenantTable, WhatATenantThatIsGoneHoldsIsTheDefaultsToShow) {
  TenantTable table;
  table.SetConfig({Tenant("gone")});
  table.TakeSlot("gone");
  table.Decided("gone", true);
  table.SetConfig({});
  const std::vector<TenantRow> rows = table.Rows();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].active, 1);
  EXPECT_EQ(rows[0].offloaded, 1u);
}

}  // namespace
}  // namespace goad::server
