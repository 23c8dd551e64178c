// How many tokens the answer to a query will have, learned from the answers to its like: those of its tenant, its kind
// and the power of two of its maximum. A device's own statement wins.
#ifndef GOAD_SERVER_ENGINE_OUTPUT_LENGTHS_H_
#define GOAD_SERVER_ENGINE_OUTPUT_LENGTHS_H_

#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "server/base/monotonic_time.h"
#include "server/engine/events.h"

namespace goad::server {

// Owned by the engine thread; thread-compatible. Expect does not allocate.
class OutputLengths {
 public:
  static constexpr size_t kMostLikes = 20000;  // one more, and all of them are forgotten but for the mean over all

  // 0..max_output_tokens.
  double Expect(const QueryMeta& meta, MonotonicTime now) const;

  // A completed answer had so many; what a server claims beyond the maximum, or below 0, does not count.
  void Add(const QueryMeta& meta, int output_tokens, MonotonicTime now);

 private:
  // A fading mean that knows how much it is from: few answers, or answers of long ago, leave it near its prior.
  struct Mean {
    double Of(double prior, MonotonicTime now) const;
    void Add(double tokens, MonotonicTime now);
    double Trust(MonotonicTime now) const;  // 1 at an answer, 0 from ten minutes after it on

    double answers = 0, tokens = 0;  // fading sums
    MonotonicTime last;
  };

  using Like = std::tuple<std::string, std::string, int>;  // tenant, kind, power of two of the maximum
  using LikeView = std::tuple<std::string_view, std::string_view, int>;
  struct Before {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return LikeView(a) < LikeView(b);
    }
  };
  static LikeView LikeOf(const QueryMeta& meta);

  std::map<Like, Mean, Before> likes_;
  Mean all_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_OUTPUT_LENGTHS_H_
