#include "scheduler/greedy_pass.h"

#include <algorithm>
#include <cmath>

#include "scheduler/delay_model.h"
#include "scheduler/vector_log2.h"

namespace goad::sched {
namespace {

// Delays never fall while candidates are assigned, up to the last bits of log2; this much slack makes a stale key a
// lower bound whatever those bits do. Applied to the delay and not to the key, because the key suffers cancellation.
constexpr double kBoundSlack = 1 - 1e-12;

constexpr size_t kLine = 8;  // doubles in a cache line; with up to four sites a record is one line

double Key(double factor, double delay_s, double local_s) {
  const double key = factor * (delay_s - local_s);
  return std::isnan(key) ? kInfinity : key;  // 0 * infinity; see goa_policy.h
}

// What the bounds subtract from the rest of the delay: raised by more than what the sums of the exact key round away.
double LocalLessRoundTrip(const Candidate& candidate) {
  if (candidate.round_trip_s == 0) return candidate.local_delay_s;
  return std::nextafter(candidate.local_delay_s - candidate.round_trip_s * kBoundSlack, kInfinity);
}

// How long a round goes on looking at one entry after another: when it has looked at kLooksBeforeScan and at more than
// a quarter of the queue, everybody is alike and a scan is cheaper. After rounds that came to that, the next one waits
// for a smaller part.
class Patience {
 public:
  bool Lost(size_t looks, size_t queued) const { return looks > kLooksBeforeScan && looks * impatience_ > queued; }
  void Learn(bool scanned) {
    impatience_ = scanned ? std::min(2 * impatience_, kMost) : std::max(impatience_ / 2, kLeast);
  }

 private:
  static constexpr size_t kLooksBeforeScan = 16, kLeast = 4, kMost = 4096;
  size_t impatience_ = kLeast;
};

}  // namespace

GreedySolver::GreedySolver(const EpochSnapshot& snapshot)
    : snapshot_(snapshot),
      site_count_(snapshot.sites.size()),
      blocks_((site_count_ + 3) / 4),
      stride_(kSignals + 4 * blocks_),
      state_(snapshot),
      sites_(site_count_),
      site_blocks_(blocks_),
      bounds_(4 * blocks_),
      memory_(snapshot.candidates.size() * stride_ + kLine, kUnknown) {
  const size_t past = reinterpret_cast<uintptr_t>(memory_.data()) / sizeof(double) % kLine;
  records_ = memory_.data() + (kLine - past) % kLine;
  for (size_t j = 0; j < site_count_; ++j) {
    const SiteState& site = snapshot.sites[j];
    sites_[j].plain = site.uplink == UplinkModel::kShannon && site.compute == ComputeModel::kEqualShare &&
                      site.work_flop_per_token == 0;
    all_plain_ = all_plain_ && sites_[j].plain;
  }
  for (uint32_t i = 0; i < snapshot.candidates.size(); ++i) {
    const Candidate& candidate = snapshot.candidates[i];
    double* record = Record(i);
    record[kLocalRest] = LocalLessRoundTrip(candidate);
    record[kBits] = candidate.prompt_bits;
    record[kWork] = candidate.edge_work_flop;
    bool plain = candidate.uncertainty > 0 && candidate.prompt_bits > 0;
    for (size_t j = 0; j < site_count_; ++j) {
      const double signal = candidate.tx_power_w * snapshot.Gain(i, j);
      record[kSignals + j] = signal;
      if (signal > kMostSinr * snapshot.sites[j].noise_w) plain = false;
    }
    if (!plain) record[kBits] = -1;
  }
  order_.reserve(snapshot.candidates.size());
  for (SiteBlock& block : site_blocks_) std::fill_n(block.per_disturbance, 4, kUnknown);
  for (size_t j = 0; j < site_count_; ++j) RefreshSite(j);
}

// Brings site j up to what is on it; RefreshDisturbance to the interference that the others make.
void GreedySolver::RefreshSite(size_t j) {
  const SiteState& site = snapshot_.sites[j];
  Site& now = sites_[j];
  now.band_share_hz = BandShareHz(site, state_.uplinks(j) + 1);
  now.flops_share = ShareFlops(site, state_.queries(j) + 1);
  now.open = site.accepting && state_.queries(j) < site.max_queries;
  SiteBlock& block = site_blocks_[j / 4];
  block.band_share_hz[j % 4] = now.band_share_hz;
  block.per_flops[j % 4] = 1 / now.flops_share;
  RefreshDisturbance(j);
}

void GreedySolver::RefreshDisturbance(size_t j) {
  Site& now = sites_[j];
  now.disturbance_w = DisturbanceW(snapshot_.sites[j], state_.interference_w(j));
  site_blocks_[j / 4].per_disturbance[j % 4] = now.open && now.plain ? 1 / now.disturbance_w : kUnknown;
}

double GreedySolver::Delay(uint32_t i, size_t j) {
  const Site& site = sites_[j];
  if (!site.open) return kUnknown;
  ++evaluations_;
  const double* record = Record(i);
  if (site.plain && record[kBits] > 0) {  // an unknown gain makes this NaN by itself
    const Candidate& candidate = snapshot_.candidates[i];
    const SiteState& state = snapshot_.sites[j];
    if (state_.TenantFull(i) || (candidate.needs.chat && !state.chat) || !state.Can(candidate.needs)) return kUnknown;
    const double delay_s = candidate.round_trip_s +
                           ShannonSeconds(record[kBits], site.band_share_hz, record[kSignals + j], site.disturbance_w) +
                           WorkSeconds(record[kWork], site.flops_share);
    return delay_s > candidate.deadline_s ? kUnknown : delay_s;
  }
  const LoadState::PairCost cost = state_.Evaluate(i, j);
  return cost.eligibility == Eligibility::kEligible ? cost.upload_s + cost.compute_s : kUnknown;
}

// Lower bounds of all keys of a candidate now: -infinity where only an exact look tells.
void GreedySolver::BoundKeys(const double* record, double* bounds) const {
  if (record[kBits] < 0) {
    std::fill(bounds, bounds + site_count_, -kInfinity);
    return;
  }
  BoundKeysOf(record, site_blocks_.data(), blocks_, bounds);
  if (all_plain_) return;
  for (size_t j = 0; j < site_count_; ++j) {
    if (!sites_[j].plain) bounds[j] = -kInfinity;
  }
}

// The least exact key of candidate i now, and a lower bound for later. Sites whose bound is above the least key found
// are not looked at: their own keys cannot be less.
GreedySolver::Best GreedySolver::FindBest(uint32_t i, double* bound) {
  const double* record = Record(i);
  double* bounds = bounds_.data();
  const double factor = record[kFactor], local_delay_s = snapshot_.candidates[i].local_delay_s;
  BoundKeys(record, bounds);
  Best best;
  const auto look = [&](size_t j) {
    const double delay_s = Delay(i, j);
    if (std::isnan(delay_s)) return kUnknown;
    const double key = Key(factor, delay_s, local_delay_s);
    if (!best.eligible || key < best.key || (key == best.key && j < best.site)) best = {true, key, j};
    return Key(factor, delay_s * kBoundSlack, local_delay_s);
  };
  // The two least bounds, without branches: which site is best is anybody's guess.
  size_t first = 0;
  double least = kInfinity, second = kInfinity;
  for (size_t j = 0; j < site_count_; ++j) {
    const double b = bounds[j];  // NaN compares false: such a site is neither
    const bool less = b < least;
    second = less ? least : b < second ? b : second;
    first = less ? j : first;
    least = less ? b : least;
  }
  if (least > -kInfinity && least < kInfinity) {
    const double bound_of_first = look(first);
    if (best.eligible && best.key < second) {  // nearly always
      *bound = std::min(bound_of_first, second);
      return best;
    }
    bounds[first] = bound_of_first;
  } else {
    first = site_count_;
  }
  *bound = kInfinity;
  for (size_t j = 0; j < site_count_; ++j) {
    if (j != first && bounds[j] <= best.key) bounds[j] = look(j);
    if (bounds[j] < *bound) *bound = bounds[j];
  }
  return best;
}

// Lower bounds of the keys of two candidates, now and later: +infinity for one without an open site, -infinity when
// only FindBest can tell.
void GreedySolver::FreshBounds(uint32_t a, uint32_t b, double least[2]) {
  const double* const records[2] = {Record(a), Record(b)};
  if (all_plain_ && records[0][kBits] >= 0 && records[1][kBits] >= 0) {
    return LeastBoundsOf(records, site_blocks_.data(), blocks_, least);
  }
  for (int r = 0; r < 2; ++r) {
    BoundKeys(records[r], bounds_.data());
    least[r] = kInfinity;
    for (size_t j = 0; j < site_count_; ++j) least[r] = bounds_[j] < least[r] ? bounds_[j] : least[r];
  }
}

void GreedySolver::Assign(uint32_t i, size_t j) {
  const double* record = Record(i);
  if (record[kBits] > 0 && sites_[j].plain) {
    state_.AssignTransmitter(i, j, record + kSignals);
  } else {
    state_.Assign(i, j);
  }
  order_.emplace_back(i, ToSite(j));
  for (size_t k = 0; k < site_count_; ++k) {
    if (k != j) RefreshDisturbance(k);
  }
  RefreshSite(j);
}

// Orders candidates by all that a delay or an eligibility depends on: 0 = the same keys, whatever is assigned.
int GreedySolver::Compare(uint32_t a, uint32_t b) const {
  const Candidate &x = snapshot_.candidates[a], &y = snapshot_.candidates[b];
  const auto order = [](double p, double q) { return p < q ? -1 : q < p ? 1 : 0; };
  for (const auto& [p, q] :
       {std::pair(x.uncertainty, y.uncertainty), std::pair(x.local_delay_s, y.local_delay_s),
        std::pair(x.prompt_bits, y.prompt_bits), std::pair(x.round_trip_s, y.round_trip_s),
        std::pair(x.edge_work_flop, y.edge_work_flop), std::pair(x.tx_power_w, y.tx_power_w),
        std::pair(x.deadline_s, y.deadline_s), std::pair(x.prompt_tokens, y.prompt_tokens),
        std::pair(x.expected_output_tokens, y.expected_output_tokens), std::pair<double, double>(x.tenant, y.tenant),
        std::pair<double, double>(x.needs.Set(), y.needs.Set()),
        std::pair<double, double>(x.needs.context_tokens, y.needs.context_tokens)}) {
    if (const int c = order(p, q); c != 0) return c;
  }
  const auto known = [](double v) { return std::isnan(v) ? -1.0 : v; };
  for (size_t j = 0; j < site_count_; ++j) {
    if (const int c = order(known(snapshot_.Gain(a, j)), known(snapshot_.Gain(b, j))); c != 0) return c;
    if (const int c = order(known(snapshot_.UplinkBps(a, j)), known(snapshot_.UplinkBps(b, j))); c != 0) return c;
  }
  return 0;
}

// README.md, "The lazy greedy", has the five steps by these numbers.
void GreedySolver::Pass(std::span<const uint32_t> members, Weight weight, StopRule stop) {
  BoundQueue queue(FirstBounds(members, weight));
  Followers followers{members, {}};
  Patience patience;
  Round round;
  while (!queue.empty()) {
    round.Start();
    size_t looks = 0;
    bool scanned = false;
    for (;;) {
      if (queue.Refill()) {  // 5; not a function of its own: gcc would find it without effect and drop the call
        for (const BoundEntry& entry : queue.live()) __builtin_prefetch(Record(entry.candidate));
      }
      if (queue.empty() || !round.MayGoTo(queue.top())) break;  // 3
      if (patience.Lost(++looks, queue.size())) {
        ScanRest(queue, round, followers);  // 4
        scanned = true;
        break;
      }
      if (!round.fresh.Has(queue.top().position)) {
        RefreshTop(queue, round.fresh);  // 1
      } else {
        OfferTop(queue, round);  // 2
      }
    }
    if (!round.best.eligible || (stop == StopRule::kNoGain && !(round.best.key < 0))) return;
    patience.Learn(scanned);
    Assign(round.winner.candidate, round.best.site);
    for (const BoundEntry& loser : round.losers) queue.Push(loser);
    if (const auto follower = followers.After(round.winner)) queue.Push(*follower);
  }
}

// Everybody who has an eligible site, with a lower bound of the best key.
std::vector<BoundEntry> GreedySolver::FirstBounds(std::span<const uint32_t> members, Weight weight) {
  std::vector<BoundEntry> entries;
  entries.reserve(members.size());
  for (const uint32_t i : members) {
    Record(i)[kFactor] = weight == Weight::kUncertainty ? snapshot_.candidates[i].uncertainty : 1.0;
  }
  for (uint32_t position = 0; position < members.size(); position += 2) {
    const uint32_t last = std::min<uint32_t>(position + 1, static_cast<uint32_t>(members.size()) - 1);
    double bounds[2];
    FreshBounds(members[position], members[last], bounds);
    for (uint32_t at = position; at <= last; ++at) {
      BoundEntry entry{bounds[at - position], at, members[at]};
      if (std::isfinite(entry.bound) || FindBest(entry.candidate, &entry.bound).eligible) entries.push_back(entry);
    }
  }
  return entries;
}

// Gives the least entry, and the one that is likely to be next, bounds of the present state. Cheap, and most stale
// entries then leave the top for good.
void GreedySolver::RefreshTop(BoundQueue& queue, FreshList& fresh) {
  const size_t second = queue.Second();
  BoundEntry entries[2] = {queue.top(), queue.live()[second]};
  double bounds[2];
  FreshBounds(entries[0].candidate, entries[1].candidate, bounds);
  fresh.Add(entries[0].position);
  if (second != 0) {
    fresh.Add(entries[1].position);
    if (bounds[1] > entries[1].bound) queue.Raise(second, bounds[1]);
  }
  if (bounds[0] > entries[0].bound) queue.ReplaceTop({bounds[0], entries[0].position, entries[0].candidate});
}

// Puts up the least entry, looked at exactly. Whoever stays behind waits in the queue, or outside it until the round is
// over when the queue would bring it up again at once.
void GreedySolver::OfferTop(BoundQueue& queue, Round& round) {
  BoundEntry entry = queue.top();
  const Best found = FindBest(entry.candidate, &entry.bound);
  const std::optional<BoundEntry> behind = round.Offer(found, entry);
  if (behind.has_value() && behind->bound > round.best.key) return queue.ReplaceTop(*behind);
  queue.PopTop();
  if (behind.has_value()) round.losers.push_back(*behind);
}

// Ends a round in which everybody looks alike by looking at everybody, in no order: a bound for each, and an exact look
// where the bound does not rule it out. Who cannot be assigned any more is dropped, all others are back in the queue
// but the winner.
void GreedySolver::ScanRest(BoundQueue& queue, Round& round, Followers& followers) {
  std::vector<BoundEntry> all = queue.TakeAll();
  all.insert(all.end(), round.losers.begin(), round.losers.end());
  round.losers.clear();
  if (followers.next.empty()) CollapseAlike(all, followers);
  for (size_t k = 0; k < all.size(); k += 2) {  // the exact looks then are few
    const size_t last = std::min(k + 1, all.size() - 1);
    double bounds[2];
    FreshBounds(all[k].candidate, all[last].candidate, bounds);
    for (size_t at = k; at <= last; ++at) all[at].bound = std::max(all[at].bound, bounds[at - k]);
  }
  size_t kept = 0;
  for (BoundEntry entry : all) {
    std::optional<BoundEntry> behind = entry;
    if (entry.bound <= round.best.key) {
      const Best found = FindBest(entry.candidate, &entry.bound);
      behind = round.Offer(found, entry);
    }
    if (behind.has_value()) all[kept++] = *behind;
  }
  all.resize(kept);
  queue = BoundQueue(std::move(all));
}

// Keeps, of all candidates that are exactly alike, only the first; the others follow when it is assigned. Done at most
// once in a pass.
void GreedySolver::CollapseAlike(std::vector<BoundEntry>& all, Followers& followers) {
  followers.next.assign(followers.members.size(), kNone);
  std::sort(all.begin(), all.end(), [&](const BoundEntry& a, const BoundEntry& b) {
    const int c = Compare(a.candidate, b.candidate);
    return c != 0 ? c < 0 : a.position < b.position;
  });
  size_t kept = 0;
  for (size_t k = 0; k < all.size(); ++k) {
    if (k > 0 && Compare(all[k].candidate, all[k - 1].candidate) == 0) {
      followers.next[all[k - 1].position] = all[k].position;
    } else {
      all[kept++] = all[k];
    }
  }
  all.resize(kept);
}

std::optional<BoundEntry> GreedySolver::Followers::After(const BoundEntry& winner) const {
  if (next.empty() || next[winner.position] == kNone) return std::nullopt;
  const uint32_t position = next[winner.position];
  return BoundEntry{winner.bound, position, members[position]};
}

}  // namespace goad::sched
