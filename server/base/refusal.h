// Why something was turned away at the door of a session.
#ifndef GOAD_SERVER_BASE_REFUSAL_H_
#define GOAD_SERVER_BASE_REFUSAL_H_

#include <array>
#include <cstdint>

namespace goad::server {

// A closed set: metrics count by it, and ToString is the label. Where the caller hears an error of its own for it, the
// error's reason is the same word; a late prompt's is NO_SUCH_QUERY.
enum class Refusal {
  kBadFrame,             // a frame that is an error of its own; the stream goes on
  kBadPrompt,            // its query fails
  kLatePrompt,           // of a query that is not live any more
  kBadAsk,               // an Ask that asks nothing
  kUndecodable,          // no protobuf message of ours
  kHelloFirst,           // no Hello came in time
  kSessions,             // limits.sessions
  kSessionsPerIdentity,  // limits.sessions_per_identity
  kUnauthenticated,
  kDraining,
  kMoved,              // the session was sent to the neighbour whose sites it hears
  kFramesPerSecond,    // limits.frames_per_second
  kQueriesPerSession,  // limits.queries_per_session
  kWaitingQueries,     // limits.waiting_queries
  kInlinePrompts,      // limits.inline_prompts
  kOutboxFull,         // nothing of what it was sent is read: no room for another answer
  kTenantRate,         // queries_per_second or prompt_tokens_per_minute of its tenant
  kSlowConsumer,       // reads nothing for limits.slow_consumer
};
inline constexpr int kRefusalCount = static_cast<int>(Refusal::kSlowConsumer) + 1;

inline const char* ToString(Refusal refusal) {
  switch (refusal) {
    case Refusal::kBadFrame: return "BAD_FRAME";
    case Refusal::kBadPrompt: return "BAD_PROMPT";
    case Refusal::kLatePrompt: return "LATE_PROMPT";
    case Refusal::kBadAsk: return "BAD_ASK";
    case Refusal::kUndecodable: return "UNDECODABLE";
    case Refusal::kHelloFirst: return "HELLO_FIRST";
    case Refusal::kSessions: return "SESSIONS";
    case Refusal::kSessionsPerIdentity: return "SESSIONS_PER_IDENTITY";
    case Refusal::kUnauthenticated: return "UNAUTHENTICATED";
    case Refusal::kDraining: return "DRAINING";
    case Refusal::kMoved: return "MOVED";
    case Refusal::kFramesPerSecond: return "FRAMES_PER_SECOND";
    case Refusal::kQueriesPerSession: return "QUERIES_PER_SESSION";
    case Refusal::kWaitingQueries: return "WAITING_QUERIES";
    case Refusal::kInlinePrompts: return "INLINE_PROMPTS";
    case Refusal::kOutboxFull: return "OUTBOX_FULL";
    case Refusal::kTenantRate: return "TENANT_RATE";
    case Refusal::kSlowConsumer: return "SLOW_CONSUMER";
  }
  return "?";
}

// Which limit of a tenant answered a query LOCAL, QUOTA: its word is the key in the configuration, and a metric label.
enum class TenantLimit { kQueriesPerSecond, kPromptTokensPerMinute, kMaxQueries, kMaxOffloadedShare, kWeight };
inline constexpr int kTenantLimits = static_cast<int>(TenantLimit::kWeight) + 1;
inline const char* ToString(TenantLimit limit) {
  switch (limit) {
    case TenantLimit::kQueriesPerSecond: return "queries_per_second";
    case TenantLimit::kPromptTokensPerMinute: return "prompt_tokens_per_minute";
    case TenantLimit::kMaxQueries: return "max_queries";
    case TenantLimit::kMaxOffloadedShare: return "max_offloaded_share";
    case TenantLimit::kWeight: return "weight";  // its share of slots that are short
  }
  return "?";
}
using TenantRefusals = std::array<uint64_t, kTenantLimits>;  // queries, by limit

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_REFUSAL_H_
