// Token buckets per tenant: queries per second and prompt tokens per minute, over all its sessions.
#ifndef GOAD_SERVER_SESSION_TENANT_LIMITER_H_
#define GOAD_SERVER_SESSION_TENANT_LIMITER_H_

#include <algorithm>
#include <string>
#include <unordered_map>

#include "server/base/mutex.h"
#include "server/base/refusal.h"
#include "server/base/token_bucket.h"
#include "server/config/config.h"

namespace goad::server {

// Thread-safe. Bounded by the tenants there ever were in the configuration.
class TenantLimiter {
 public:
  // Zero when the tenant may ask now, else when to try again, and in `by`, if given, the limit.
  absl::Duration Admit(const TenantConfig& tenant, int prompt_tokens, MonotonicTime now, TenantLimit* by = nullptr) {
    if (tenant.queries_per_second <= 0 && tenant.prompt_tokens_per_minute <= 0) return absl::ZeroDuration();
    MutexLock lock(mutex_);
    Buckets& buckets = buckets_[tenant.name];
    absl::Duration wait;
    TenantLimit limit = TenantLimit::kQueriesPerSecond;
    if (tenant.queries_per_second > 0) {
      wait = buckets.queries.Take(1, tenant.queries_per_second, std::max(1.0, tenant.queries_per_second), now);
    }
    if (wait == absl::ZeroDuration() && tenant.prompt_tokens_per_minute > 0) {
      limit = TenantLimit::kPromptTokensPerMinute;
      wait = buckets.tokens.Take(prompt_tokens, tenant.prompt_tokens_per_minute / 60, tenant.prompt_tokens_per_minute,
                                 now);
    }
    if (wait > absl::ZeroDuration()) {
      ++buckets.refused[static_cast<size_t>(limit)];
      if (by != nullptr) *by = limit;
    }
    return wait;
  }
  // Queries that were turned away since the start.
  TenantRefusals Refused(const std::string& tenant) {
    MutexLock lock(mutex_);
    const auto found = buckets_.find(tenant);
    return found == buckets_.end() ? TenantRefusals() : found->second.refused;
  }

 private:
  struct Buckets {
    TokenBucket queries, tokens;
    TenantRefusals refused{};
  };
  Mutex mutex_;
  std::unordered_map<std::string, Buckets> buckets_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_TENANT_LIMITER_H_
