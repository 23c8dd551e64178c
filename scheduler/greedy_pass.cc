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

// The same for the bounds made four at a time, with a rough log2 (within 3e-7) and reciprocals.
constexpr double kVectorSlack = 1 - 1e-6;

// Added to that log2: 1 + SINR is rounded, and the SINR of the bound may differ from the exact one in its last bit.
constexpr double kLog2Slack = 1e-15;

// A round that looks at this many, and at more than a quarter of the queue, scans the rest instead: everybody is alike. After
// rounds that came to that, the next one waits for a smaller part.
constexpr size_t kPopsBeforeScan = 16, kLeastImpatience = 4, kMostImpatience = 4096;

constexpr uint32_t kNone = ~uint32_t{0};

// Of a record, before the per-site columns. kBits is -1 for candidates that only LoadState::Evaluate can judge.
enum Field { kLocal, kBits, kWork, kFactor, kFields };

constexpr size_t kLine = 8;  // doubles in a cache line; with up to four sites a record is one line

double Key(double factor, double delay_s, double local_s) {
  const double key = factor * (delay_s - local_s);
  return std::isnan(key) ? kInfinity : key;  // 0 * infinity; see goa_policy.h
}

// Lower bounds of the keys of a record on block b of four sites; NaN where the link is unknown or the site closed. `sites` is per
// block: 1/disturbance, band share, 1/flops share, four doubles each. The slacks are far above all roundings.
GOAD_INLINE void BoundFour(const double* record, const double* sites, size_t b, Four* bounds) {
  Four signal, per_disturbance, band, per_flops, log2;
  Load(record + kFields + 4 * b, &signal);
  Load(sites + 12 * b, &per_disturbance);
  Load(sites + 12 * b + 4, &band);
  Load(sites + 12 * b + 8, &per_flops);
  const Four sinr = signal * per_disturbance;
  Log2OnePlus<Series::kRough>(sinr, &log2);
  log2 += kLog2Slack + (sinr - sinr);  // the difference carries NaN
  const Four delay = record[kBits] / (band * log2) + record[kWork] * per_flops;
  *bounds = record[kFactor] * (delay * kVectorSlack - record[kLocal]);
}

// Per site.
GOAD_WITH_AVX2 void BoundKeysOf(const double* record, const double* sites, size_t blocks, double* bounds) {
  for (size_t b = 0; b < blocks; ++b) {
    Four four;
    BoundFour(record, sites, b, &four);
    Store(four, bounds + 4 * b);
  }
}

// The least over the sites, of two records at once: one alone would wait for its divisions most of the time. +infinity when
// there is none.
GOAD_WITH_AVX2 void LeastBoundsOf(const double* const records[2], const double* sites, size_t blocks, double least[2]) {
  Four low[2] = {{kInfinity, kInfinity, kInfinity, kInfinity}, {kInfinity, kInfinity, kInfinity, kInfinity}};
  for (size_t b = 0; b < blocks; ++b) {
    Four four[2];
    BoundFour(records[0], sites, b, &four[0]);
    BoundFour(records[1], sites, b, &four[1]);
    for (int r = 0; r < 2; ++r) low[r] = four[r] < low[r] ? four[r] : low[r];  // NaN compares false
  }
  for (int r = 0; r < 2; ++r) {
    const double x = low[r][0] < low[r][1] ? low[r][0] : low[r][1], y = low[r][2] < low[r][3] ? low[r][2] : low[r][3];
    least[r] = x < y ? x : y;
  }
}

}  // namespace

GreedySolver::GreedySolver(const EpochSnapshot& snapshot)
    : snapshot_(snapshot), site_count_(snapshot.sites.size()), blocks_((site_count_ + 3) / 4),
      stride_(kFields + 4 * blocks_), state_(snapshot), sites_(site_count_), site_blocks_(blocks_), bounds_(4 * blocks_),
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
    record[kLocal] = candidate.local_delay_s;
    record[kBits] = candidate.prompt_bits;
    record[kWork] = candidate.edge_work_flop;
    bool plain = candidate.uncertainty > 0 && candidate.prompt_bits > 0;
    for (size_t j = 0; j < site_count_; ++j) {
      const double signal = candidate.tx_power_w * snapshot.Gain(i, j);
      record[kFields + j] = signal;
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
    if (state_.TenantFull(i) || (candidate.chat && !snapshot_.sites[j].chat)) return kUnknown;
    const double delay_s =
        ShannonSeconds(record[kBits], site.band_share_hz, record[kFields + j], site.disturbance_w) +
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
  BoundKeysOf(record, site_blocks_[0].per_disturbance, blocks_, bounds);
  if (all_plain_) return;
  for (size_t j = 0; j < site_count_; ++j) {
    if (!sites_[j].plain) bounds[j] = -kInfinity;
  }
}

// The least exact key of candidate i now, and a lower bound for later. Sites whose bound is above the least key found are
// not looked at: their own keys cannot be less.
GreedySolver::Best GreedySolver::FindBest(uint32_t i, double* bound) {
  const double* record = Record(i);
  double* bounds = bounds_.data();
  const double factor = record[kFactor];
  BoundKeys(record, bounds);
  Best best;
  const auto look = [&](size_t j) {
    const double delay_s = Delay(i, j);
    if (std::isnan(delay_s)) return kUnknown;
    const double key = Key(factor, delay_s, record[kLocal]);
    if (!best.eligible || key < best.key || (key == best.key && j < best.site)) best = {true, key, j};
    return Key(factor, delay_s * kBoundSlack, record[kLocal]);
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

// Lower bounds of the keys of two candidates, now and later: +infinity for one without an open site, -infinity when only FindBest
// can tell.
void GreedySolver::FreshBounds(uint32_t a, uint32_t b, double least[2]) {
  const double* const records[2] = {Record(a), Record(b)};
  if (all_plain_ && records[0][kBits] >= 0 && records[1][kBits] >= 0) {
    return LeastBoundsOf(records, site_blocks_[0].per_disturbance, blocks_, least);
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
    state_.AssignTransmitter(i, j, record + kFields);
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
  for (const auto& [p, q] : {std::pair(x.uncertainty, y.uncertainty), std::pair(x.local_delay_s, y.local_delay_s),
                             std::pair(x.prompt_bits, y.prompt_bits), std::pair(x.edge_work_flop, y.edge_work_flop),
                             std::pair(x.tx_power_w, y.tx_power_w), std::pair(x.deadline_s, y.deadline_s),
                             std::pair(x.prompt_tokens, y.prompt_tokens),
                             std::pair(x.expected_output_tokens, y.expected_output_tokens),
                             std::pair<double, double>(x.tenant, y.tenant), std::pair<double, double>(x.chat, y.chat)}) {
    if (const int c = order(p, q); c != 0) return c;
  }
  const auto known = [](double v) { return std::isnan(v) ? -1.0 : v; };
  for (size_t j = 0; j < site_count_; ++j) {
    if (const int c = order(known(snapshot_.Gain(a, j)), known(snapshot_.Gain(b, j))); c != 0) return c;
    if (const int c = order(known(snapshot_.UplinkBps(a, j)), known(snapshot_.UplinkBps(b, j))); c != 0) return c;
  }
  return 0;
}

void GreedySolver::Pass(std::span<const uint32_t> members, Weight weight, StopRule stop) {
  std::vector<BoundEntry> entries;
  entries.reserve(members.size());
  for (const uint32_t i : members) Record(i)[kFactor] = weight == Weight::kUncertainty ? snapshot_.candidates[i].uncertainty : 1.0;
  for (uint32_t position = 0; position < members.size(); position += 2) {
    const uint32_t last = std::min<uint32_t>(position + 1, static_cast<uint32_t>(members.size()) - 1);
    double bounds[2];
    FreshBounds(members[position], members[last], bounds);
    for (uint32_t at = position; at <= last; ++at) {
      BoundEntry entry{bounds[at - position], at, members[at]};
      if (std::isfinite(entry.bound) || FindBest(entry.candidate, &entry.bound).eligible) entries.push_back(entry);
    }
  }
  BoundQueue queue(std::move(entries));

  std::vector<BoundEntry> losers;
  std::vector<uint32_t> next_alike;  // per position, after a collapse: the next member with the same keys
  const auto prepare = [&] {         // the least entry is at hand afterwards
    if (!queue.Refill()) return;
    for (const BoundEntry& entry : queue.live()) __builtin_prefetch(Record(entry.candidate));
  };
  size_t impatience = kLeastImpatience;
  while (!queue.empty()) {
    Best best;
    BoundEntry winner;
    losers.clear();
    // Takes an exactly evaluated entry as the winner, or sees to it that it is back in the queue after this round.
    const auto consider = [&](const Best& found, BoundEntry& entry) {
      const bool wins = !best.eligible || found.key < best.key || (found.key == best.key && entry.position < winner.position);
      if (!wins) return false;
      std::swap(entry, winner);
      const bool displaced = best.eligible;
      best = found;
      return !displaced;  // entry holds the displaced winner, if there was one
    };
    size_t pops = 0;
    bool scanned = false;
    FreshList fresh;
    for (prepare(); !queue.empty() && (!best.eligible || queue.top().bound <= best.key); prepare()) {
      if (++pops > kPopsBeforeScan && pops * impatience > queue.size()) {
        scanned = true;
        std::vector<BoundEntry> all = queue.TakeAll();
        all.insert(all.end(), losers.begin(), losers.end());
        losers.clear();
        if (next_alike.empty()) {
          next_alike.assign(members.size(), kNone);
          CollapseAlike(all, &next_alike);
        }
        for (size_t k = 0; k < all.size(); k += 2) {  // the exact looks then are few
          const size_t last = std::min(k + 1, all.size() - 1);
          double bounds[2];
          FreshBounds(all[k].candidate, all[last].candidate, bounds);
          for (size_t at = k; at <= last; ++at) all[at].bound = std::max(all[at].bound, bounds[at - k]);
        }
        size_t kept = 0;
        for (BoundEntry entry : all) {
          if (entry.bound <= best.key) {
            const Best found = FindBest(entry.candidate, &entry.bound);
            if (!found.eligible || consider(found, entry)) continue;
          }
          all[kept++] = entry;
        }
        all.resize(kept);
        queue = BoundQueue(std::move(all));
        break;
      }
      BoundEntry entry = queue.top();
      if (!fresh.Has(entry.position)) {  // cheaply first: most stale entries then leave the top for good
        RefreshTop(queue, fresh);
        continue;
      }
      const Best found = FindBest(entry.candidate, &entry.bound);
      if (!found.eligible || consider(found, entry)) {
        queue.PopTop();
      } else if (entry.bound > best.key) {
        queue.ReplaceTop(entry);
      } else {  // equal within the slack: once a round is enough
        queue.PopTop();
        losers.push_back(entry);
      }
    }
    if (!best.eligible || (stop == StopRule::kNoGain && !(best.key < 0))) return;
    impatience = scanned ? std::min(2 * impatience, kMostImpatience) : std::max(impatience / 2, kLeastImpatience);
    Assign(winner.candidate, best.site);
    for (const BoundEntry& loser : losers) queue.Push(loser);
    if (!next_alike.empty() && next_alike[winner.position] != kNone) {
      const uint32_t position = next_alike[winner.position];
      queue.Push({winner.bound, position, members[position]});
    }
  }
}

// Gives the least entry, and the one that is likely to be next, bounds of the present state.
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

// Keeps, of all candidates that are exactly alike, only the first; the others follow when it is assigned. Done at most once in a
// pass.
void GreedySolver::CollapseAlike(std::vector<BoundEntry>& all, std::vector<uint32_t>* next_alike) {
  std::sort(all.begin(), all.end(), [&](const BoundEntry& a, const BoundEntry& b) {
    const int c = Compare(a.candidate, b.candidate);
    return c != 0 ? c < 0 : a.position < b.position;
  });
  size_t kept = 0;
  for (size_t k = 0; k < all.size(); ++k) {
    if (k > 0 && Compare(all[k].candidate, all[k - 1].candidate) == 0) {
      (*next_alike)[all[k - 1].position] = all[k].position;
    } else {
      all[kept++] = all[k];
    }
  }
  all.resize(kept);
}

}  // namespace goad::sched
