#include "scheduler/bound_queue.h"

#include <random>
#include <set>

#include "gtest/gtest.h"

namespace goad::sched {
namespace {

// Every operation against a multiset, with sizes at which segments are split and with many equal bounds.
TEST(BoundQueue, AgreesWithASortedSetUnderRaisesAndPushes) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const size_t n = 1 + random() % 5000;
    const bool coarse = seed % 3 == 0;
    const auto draw = [&] {
      const double value = std::uniform_real_distribution<double>(-1, 1)(random);
      return coarse ? std::round(value * 2) / 2 : value;
    };
    std::vector<BoundEntry> entries;
    std::multiset<double> model;
    for (uint32_t k = 0; k < n; ++k) {
      entries.push_back({draw(), k, k});
      if (random() % 50 == 0) entries.back().bound = random() % 2 == 0 ? kInfinity : -kInfinity;
      model.insert(entries.back().bound);
    }
    BoundQueue queue(std::move(entries));
    for (size_t step = 0; step < 3 * n; ++step) {
      queue.Refill();
      ASSERT_EQ(queue.size(), model.size());
      ASSERT_EQ(queue.empty(), model.empty());
      if (model.empty()) break;
      const BoundEntry top = queue.top();
      ASSERT_EQ(top.bound, *model.begin());
      const double more = top.bound + std::abs(draw());
      switch (random() % 4) {
        case 0:
          queue.PopTop();
          model.erase(model.begin());
          break;
        case 1:
          queue.ReplaceTop({more, top.position, top.candidate});
          model.erase(model.begin());
          model.insert(more);
          break;
        case 2:
          if (const size_t second = queue.Second(); second != 0) {
            const double bound = queue.live()[second].bound, raised = bound + std::abs(draw());
            model.erase(model.find(bound));
            model.insert(raised);
            queue.Raise(second, raised);
          }
          break;
        case 3:
          queue.PopTop();
          queue.Push({more, top.position, top.candidate});
          model.erase(model.begin());
          model.insert(more);
          break;
      }
    }
    ASSERT_EQ(queue.TakeAll().size(), model.size());
    ASSERT_TRUE(queue.empty());
    queue.Push({1, 0, 0});
    queue.Refill();
    ASSERT_EQ(queue.top().bound, 1);
  }
}

}  // namespace
}  // namespace goad::sched
