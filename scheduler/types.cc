#include "scheduler/types.h"

namespace goad::sched {

const char* ToString(Verdict verdict) { return verdict == Verdict::kOffload ? "OFFLOAD" : "LOCAL"; }

const char* ToString(Reason reason) {
  switch (reason) {
    case Reason::kUncertain: return "UNCERTAIN";
    case Reason::kDelayGain: return "DELAY_GAIN";
    case Reason::kNoGain: return "NO_GAIN";
    case Reason::kNoLink: return "NO_LINK";
    case Reason::kLinkStale: return "LINK_STALE";
    case Reason::kNoSite: return "NO_SITE";
    case Reason::kSiteFull: return "SITE_FULL";
    case Reason::kTauInfeasible: return "TAU_INFEASIBLE";
    case Reason::kDeadline: return "DEADLINE";
    case Reason::kOverload: return "OVERLOAD";
    case Reason::kQuota: return "QUOTA";
    case Reason::kDraining: return "DRAINING";
    case Reason::kPolicy: return "POLICY";
    case Reason::kUplinkBusy: return "UPLINK_BUSY";
    case Reason::kSiteDraining: return "SITE_DRAINING";
    case Reason::kNotAble: return "NOT_ABLE";
  }
  return "UNKNOWN";
}

std::string ToString(const Needs& needs) {
  std::string text;
  const auto add = [&](bool needed, const std::string& what) {
    if (needed) text += (text.empty() ? "" : ", ") + what;
  };
  add(needs.chat, "chat");
  add(needs.tools, "tools");
  add(needs.images, "images");
  add(needs.context_tokens > 0, std::to_string(needs.context_tokens) + " tokens of context");
  return text.empty() ? "nothing" : text;
}

}  // namespace goad::sched
