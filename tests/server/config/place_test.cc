#include "server/config/place.h"

#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace goad::server {
namespace {

Config Read(const std::vector<std::pair<std::string, std::vector<std::string>>>& sites) {
  Config config;
  for (const auto& [name, urls] : sites) {
    config.sites.emplace_back().name = name;
    for (const std::string& url : urls) config.sites.back().backends.emplace_back().url = url;
  }
  return config;
}

class PlaceTest : public testing::Test {
 protected:
  absl::Status Reload(Config next) {
    const absl::Status status = KeepPlaces(
        config_,
        [this](size_t site, std::optional<size_t> backend) {
          return in_use_.count({site, backend.value_or(99)}) > 0;
        },
        now_, &next);
    if (status.ok()) config_ = std::move(next);
    return status;
  }
  // "a:1,2 (b:3)": names and the hosts of their backends, in brackets what is removed.
  std::string Places() const {
    std::string text;
    const auto add = [&](const std::string& name, const Presence& presence, const char* before) {
      absl::StrAppend(&text, before, presence.removed() ? "(" : "", name, presence.drained ? "!" : "",
                      presence.removed() ? ")" : "");
    };
    for (const SiteConfig& site : config_.sites) {
      add(site.name, site.presence, text.empty() ? "" : " ");
      const char* before = ":";
      for (const BackendConfig& backend : site.backends) {
        add(backend.url.substr(7), backend.presence, before);
        before = ",";
      }
    }
    return text;
  }

  Config config_ = Read({{"a", {"http://1", "http://2"}}, {"b", {"http://3"}}});
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(100));
  std::set<std::pair<size_t, size_t>> in_use_;  // 99 = of the site
};

TEST_F(PlaceTest, WhatIsThereKeepsItsPlaceInWhateverOrderItIsWritten) {
  ASSERT_TRUE(
      Reload(Read({{"c", {"http://4"}}, {"b", {"http://3"}}, {"a", {"http://2", "http://5", "http://1"}}})).ok());
  EXPECT_EQ(Places(), "a:1,2,5 b:3 c:4");
}

TEST_F(PlaceTest, WhatIsRemovedKeepsItsPlaceForAMinuteAndForAsLongAsSomethingRunsThere) {
  ASSERT_TRUE(Reload(Read({{"a", {"http://2"}}})).ok());
  EXPECT_EQ(Places(), "a:(1),2 (b):(3)");
  now_ = now_ + kPlaceKept / 2;
  ASSERT_TRUE(Reload(Read({{"a", {"http://2", "http://6"}}, {"c", {"http://4"}}})).ok());
  EXPECT_EQ(Places(), "a:(1),2,6 (b):(3) c:4");
  now_ = now_ + kPlaceKept / 2;
  in_use_ = {{0, 0}, {1, 99}};
  ASSERT_TRUE(
      Reload(Read({{"a", {"http://2", "http://6", "http://7"}}, {"c", {"http://4"}}, {"d", {"http://8"}}})).ok());
  EXPECT_EQ(Places(), "a:(1),2,6,7 (b):(3) c:4 d:8");
  in_use_.clear();
  ASSERT_TRUE(Reload(Read({{"e", {"http://9"}}, {"a", {"http://10", "http://2"}}, {"c", {"http://4"}}})).ok());
  EXPECT_EQ(Places(), "a:10,2,(6),(7) e:9 c:4 (d):(8)");
}

TEST_F(PlaceTest, WhatComesBackHasItsOldPlace) {
  ASSERT_TRUE(Reload(Read({{"b", {"http://3"}}})).ok());
  ASSERT_TRUE(Reload(Read({{"b", {"http://3"}}, {"a", {"http://2"}}})).ok());
  EXPECT_EQ(Places(), "a:(1),2 b:3");
}

TEST_F(PlaceTest, DrainedStaysDrainedUntilItIsResumedOrRemoved) {
  ASSERT_TRUE(SetDrained("a", "", true, &config_).ok());
  ASSERT_TRUE(SetDrained("a", "http://2", true, &config_).ok());
  ASSERT_TRUE(SetDrained("b", "0", true, &config_).ok());
  ASSERT_TRUE(Reload(Read({{"b", {"http://3"}}, {"a", {"http://1", "http://2"}}})).ok());
  EXPECT_EQ(Places(), "a!:1,2! b:3!");
  ASSERT_TRUE(SetDrained("a", "", false, &config_).ok());
  ASSERT_TRUE(Reload(Read({{"a", {"http://1", "http://2"}}})).ok());
  ASSERT_TRUE(Reload(Read({{"a", {"http://1", "http://2"}}, {"b", {"http://3"}}})).ok());
  EXPECT_EQ(Places(), "a:1,2! b:3");
  EXPECT_EQ(SetDrained("c", "", true, &config_).message(), "site: \"c\" is not one of a, b");
  EXPECT_EQ(SetDrained("a", "7", true, &config_).message(), "backend: \"7\" is not one of http://1, http://2");
}

TEST_F(PlaceTest, MoreThanThereIsRoomForIsRefused) {
  std::vector<std::pair<std::string, std::vector<std::string>>> many;
  for (size_t k = 0; k < kMostSites - 1; ++k) many.push_back({absl::StrCat("s", k), {"http://1"}});
  EXPECT_EQ(Reload(Read(many)).message(),
            "sites: 65 with those that were removed and still finish, want at most 64; reload again in a minute");
  EXPECT_EQ(Places(), "a:1,2 b:3");
}

}  // namespace
}  // namespace goad::server
