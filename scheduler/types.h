// The decision library's data model: what a policy sees (EpochSnapshot) and what it answers (EpochResult).
// Callers: server/engine, server/planner, the simulators, tests. Passive data, SI units, no clock, no I/O.
//
// A snapshot is rows of candidates (users with one query each) against columns of sites (edge servers).
// Matrices are row-major: element (candidate i, site j) is at i * sites.size() + j.
#ifndef GOAD_SCHEDULER_TYPES_H_
#define GOAD_SCHEDULER_TYPES_H_

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace goad::sched {

enum class QueryId : uint64_t {};
enum class SiteIndex : int32_t { kNone = -1 };

inline constexpr size_t ToIndex(SiteIndex site) { return static_cast<size_t>(site); }
inline constexpr SiteIndex ToSite(size_t index) { return static_cast<SiteIndex>(index); }

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
inline constexpr int kUnlimited = std::numeric_limits<int>::max();

enum class Verdict { kLocal, kOffload };

// Why a decision is what it is. A closed set: it is a metric label and a wire enum. ToString gives the wire name.
enum class Reason {
  kUncertain,      // offloaded: uncertainty > tau, or the device has no local model
  kDelayGain,      // offloaded: predicted to be faster at the site
  kNoGain,         // local: no site is predicted to be faster
  kNoLink,         // local: no usable link to any site (never reported, or zero)
  kLinkStale,      // local: the last report is older than link_max_age
  kNoSite,         // local: no site is up and able to take this prompt kind
  kSiteFull,       // local: every usable site is at max_queries
  kTauInfeasible,  // local although uncertainty > tau: every usable site stayed at max_queries for mandatory_wait
  kDeadline,       // local: every usable site is predicted past the query's deadline
  kOverload,       // local: refused at the door, a queue is full
  kQuota,          // local: the tenant is at its cap
  kDraining,       // local: the daemon is shutting down
  kPolicy,         // a baseline policy (all-edge, all-local, random) that does not look at gain
  kUplinkBusy,     // local: the device's radio is busy with its own earlier prompt
  kSiteDraining,   // local: the site that could take it is being drained
  kNotAble,        // local: no site can all that the query needs (tools, images, so long a context)
};
inline constexpr int kReasonCount = static_cast<int>(Reason::kNotAble) + 1;

const char* ToString(Verdict verdict);
const char* ToString(Reason reason);

// What a query needs of the one server that answers it.
struct Needs {
  bool chat = false, tools = false, images = false;
  int context_tokens = 0;  // prompt and answer together, as far as known; >= 0

  static constexpr size_t kSets = 8;
  void Add(const Needs& other) {
    chat |= other.chat, tools |= other.tools, images |= other.images;
    context_tokens = other.context_tokens > context_tokens ? other.context_tokens : context_tokens;
  }
  size_t Set() const { return size_t{chat} + 2 * size_t{tools} + 4 * size_t{images}; }  // 0..kSets-1
};
std::string ToString(const Needs& needs);  // "chat, tools, images, 9000 tokens of context"; "nothing"
// By Needs::Set: the longest context of a server that can all of the set, kUnlimited = nobody knows its end, kCannot =
// there is no such server.
using Contexts = std::array<int, Needs::kSets>;
inline constexpr int kCannot = -1;
inline constexpr Contexts AnyContext() {
  Contexts contexts{};
  for (int& tokens : contexts) tokens = kUnlimited;
  return contexts;
}
inline constexpr Contexts NoContext() {
  Contexts contexts{};
  for (int& tokens : contexts) tokens = kCannot;
  return contexts;
}

enum class UplinkModel {
  kShannon,   // rate = (B/n) log2(1 + SINR); transmitters to other sites interfere
  kMeasured,  // rate = the device's own uplink_bps, divided by n when shared; makes no interference
};
enum class ComputeModel {
  kEqualShare,  // work / min(max_share_flops, compute_flops / n)
  kBatching,    // overhead + prompt_tokens / prefill_rate
                // + expected_output_tokens (token_time + token_time_per_query * n/backends)
};

// One edge server. The defaults of the production additions are neutral: they give back the paper's model exactly.
struct SiteState {
  double bandwidth_hz = 0;             // B_j, total uplink; > 0 with kShannon
  double noise_w = 0;                  // over the whole band; > 0 with kShannon
  double compute_flops = 0;            // C_j, total FLOP/s; > 0 with kEqualShare
  double max_share_flops = kInfinity;  // Cmax_j, most that one query can use, FLOP/s; > 0
  double work_flop_per_token = 0;      // 2 * parameters; added to a candidate's edge_work_flop per token; >= 0

  UplinkModel uplink = UplinkModel::kShannon;
  bool uplink_shared = true;  // kMeasured: divide a device's rate by the number of uploads

  ComputeModel compute = ComputeModel::kEqualShare;
  double overhead_s = 0;              // kBatching, of a query whatever its size; >= 0
  double prefill_tokens_per_s = 0;    // kBatching; > 0
  double token_time_s = 0;            // kBatching, a; >= 0
  double token_time_per_query_s = 0;  // kBatching, b, per query on the same backend; >= 0
  int backends = 1;                   // kBatching; >= 1

  int active_uplinks = 0;              // carried over: uploads still running, >= 0
  int active_queries = 0;              // carried over: queries granted or running, >= 0
  double resident_interference_w = 0;  // carried over: power received here from uploads to other sites, >= 0
  int max_queries = kUnlimited;        // active_queries may not exceed this by a decision; >= 0
  bool accepting = true;               // up and not draining
  bool draining = false;               // not accepting, because an operator wants it so (names the reason)
  bool chat = true;                    // can take chat prompts
  Contexts contexts = AnyContext();    // what its servers can, each for itself

  bool Can(const Needs& needs) const { return contexts[needs.Set()] >= needs.context_tokens; }
};

// One user with one query. uncertainty = 1 - (p1 - p2), the margin of the first answer token (paper, eq. for alpha);
// with a calibration what offloading it is worth (calibration/README.md). Whoever decides does not ask which.
struct Candidate {
  QueryId id{};
  double uncertainty = 0;             // alpha, 0..1
  double prompt_bits = 0;             // still to upload, >= 0; 0 = already here: takes no uplink and needs no link
  double round_trip_s = 0;            // of an upload that is still to come, whatever its size; >= 0
  double tx_power_w = 0;              // >= 0
  double local_delay_s = 0;           // t_i, expected remaining local inference time, >= 0
  double edge_work_flop = 0;          // work at the edge apart from the per-token work of the site, >= 0
  double deadline_s = kInfinity;      // from the epoch to the last token; > 0
  double prompt_tokens = 0;           // >= 0
  double expected_output_tokens = 0;  // >= 0
  int tenant = 0;                     // index into EpochSnapshot::tenant_caps when that is not empty
  bool must_offload = false;          // the device has no local model: forced whatever its uncertainty
  Needs needs;                        // all of it of one server of the site
  bool link_stale = false;            // some link is unknown only because its report is too old (names the reason)
  double tau = kUnknown;              // of its own, 0..1; NaN = EpochSnapshot::tau
};

// A query carried over from earlier epochs, whose delay the new ones add to. Counted in its site's active_queries and
// active_uplinks; policies that minimise the delay of everybody read it, GOA does not.
struct Resident {
  SiteIndex site = SiteIndex::kNone;
  Candidate query;               // what is left of it: bits to upload (0 = uploaded), work, output tokens
  double gain = kUnknown;        // to its own site; read while it uploads to a kShannon site
  double uplink_bps = kUnknown;  // read while it uploads to a kMeasured site
};

struct EpochSnapshot {
  uint64_t epoch = 0;
  std::vector<SiteState> sites;
  std::vector<Candidate> candidates;  // in order of arrival: ties go to the first
  std::vector<double> gain;           // candidates x sites, |h_ij|^2, linear power gain >= 0; NaN = unknown or stale
  std::vector<double> uplink_bps;   // candidates x sites, read for kMeasured sites; NaN = unknown; empty = all unknown
  std::vector<Resident> residents;  // neutral: none
  double tau = 1;                   // 0..1
  std::vector<int> tenant_caps;     // most new assignments per tenant in this epoch; empty = no caps
  uint64_t seed = 0;                // for `random`
  std::vector<uint32_t> sample;     // for `random`: the candidates to offload, in scan order; empty = draw from seed

  double TauOf(size_t i) const { return std::isnan(candidates[i].tau) ? tau : candidates[i].tau; }
  bool Forced(size_t i) const { return candidates[i].must_offload || candidates[i].uncertainty > TauOf(i); }
  double Gain(size_t i, size_t j) const { return gain[i * sites.size() + j]; }
  double UplinkBps(size_t i, size_t j) const {
    return uplink_bps.empty() ? kUnknown : uplink_bps[i * sites.size() + j];
  }
};

// What was decided for one candidate. Predictions come from the final assignment of the epoch, not from the state in
// which the candidate was picked (shares shrink as others join).
struct Decision {
  QueryId id{};
  Verdict verdict = Verdict::kLocal;
  Reason reason = Reason::kNoGain;
  SiteIndex site = SiteIndex::kNone;
  double uplink_hz = 0;    // model value B_j/n_j; 0 when local, measured or not transmitting
  double share_flops = 0;  // model value min(Cmax_j, C_j/n_j); 0 when local or batching
  double predicted_upload_s = 0;
  double predicted_compute_s = 0;
  double weighted_gain_s = 0;  // uncertainty * (upload + compute - local), negative = better; 0 when local
};

struct SiteTotal {
  int assigned = 0;
  double upload_s = 0;  // sums of the predictions over the newly assigned
  double compute_s = 0;
};

struct EpochResult {
  std::vector<Decision> decisions;                    // one per candidate, in their order
  std::vector<std::pair<uint32_t, SiteIndex>> order;  // (candidate, site) in order of assignment
  std::vector<SiteTotal> site_totals;
  double local_s = 0;        // sum of local_delay_s over those left local
  uint64_t evaluations = 0;  // pair costs computed, for the bench

  double TotalDelaySeconds() const {
    double total = local_s;
    for (const SiteTotal& site : site_totals) total += site.upload_s + site.compute_s;
    return total;
  }
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_TYPES_H_
