// The half of ClientCore that has to do with streams; Attachment decides which.
#include "absl/strings/str_cat.h"
#include "client_sdk/src/client_core.h"
#include "client_sdk/src/wire.h"

namespace goad::internal {

void ClientCore::Advance(Instant now) {
  for (const Attachment::Step& step : attachment_.Advance(now, [this](uint64_t g) { return Busy(g); })) {
    if (step.open) {
      actions_.push_back(OpenStream{step.generation, step.address});
      Send(step.generation, HelloFrame(options_));
    } else {
      actions_.emplace_back(CloseStream{step.generation});
    }
  }
  UseCurrent(now);
}

void ClientCore::UseCurrent(Instant now) {
  const Attachment::Stream* stream = attachment_.ready();
  const uint64_t generation = stream != nullptr ? stream->generation : 0;
  if (std::exchange(used_, generation) == generation || stream == nullptr) return;
  not_now_.Greeted();
  limits_ = ReadLimits(stream->welcome.limits());
  ReadSites(now);
  RejectWaiting(now);  // the limits may be other ones
}

void ClientCore::ReadSites(Instant now) {
  const v1::Welcome& welcome = attachment_.ready()->welcome;
  sites_ = internal::ReadSites(welcome.sites());
  AddNeighbours(welcome.neighbours(), &sites_);
  ++welcomes_;
  links_.Again(sites_);
  SendLinks(now);
}

bool ClientCore::MayAskAgain(const Live& live) {
  return !live.begun && live.asks < options_.asks_per_query && retries_.Take();
}

void ClientCore::Wait(Live& live, Instant now) {
  LeaveStream(live);
  live.phase = Phase::kWaiting;
  live.expires = std::min(live.expires, now + options_.decision_budget);
  waiting_[live.number] = &live;
}

void ClientCore::LeaveStream(Live& live) {
  const auto running = running_.find(std::exchange(live.stream, 0));
  if (running != running_.end() && --running->second == 0) running_.erase(running);
}

void ClientCore::OnStreamLost(uint64_t generation, const std::string& why, Instant now, absl::Duration retry_after) {
  const auto before = attachment_.Lost(generation, retry_after, now, random_);
  if (!before) return;
  if (before != Attachment::State::kLeaving) {
    Tell(before == Attachment::State::kReady ? "STREAM_LOST" : "UNREACHABLE", why, now);
  }
  std::vector<Live*> given_up;
  for (auto& [id, live] : queries_) {
    if (live.stream != generation) continue;
    if (MayAskAgain(live)) {
      Wait(live, now);
    } else {
      given_up.push_back(&live);
    }
  }
  for (Live* live : given_up) FinishLocally(*live, "STREAM_LOST", why, now);
  if (before == Attachment::State::kGreeting && !attachment_.Hope(now)) not_now_.Away("UNREACHABLE", why);
  UseCurrent(now);
  RejectWaiting(now);
}

// Those that wait for what is known not to come.
void ClientCore::RejectWaiting(Instant now) {
  const std::map<uint64_t, Live*> waiting = waiting_;
  for (const auto& [number, live] : waiting) {
    const auto [why, detail] = Reject(live->query, now);
    if (!why.empty()) FinishLocally(*live, why, detail, now);
  }
}

void ClientCore::OnGoodbye(uint64_t generation, const v1::Goodbye& goodbye, Instant now) {
  const bool current = attachment_.current() == attachment_.Find(generation);  // not one on trial
  if (!attachment_.Goodbye(generation, goodbye, now, random_) || !current) return;
  const Instant opens_at = std::max(attachment_.opens_at(), now);
  if (!attachment_.Hope(now)) not_now_.Away("DRAINING", goodbye.message());
  Tell("GOODBYE",
       absl::StrCat(goodbye.message(), " (",
                    attachment_.current() != nullptr ? "another goad is there"
                    : opens_at == absl::InfiniteDuration()
                        ? "reconnecting when what runs is finished"
                        : absl::StrCat("reconnecting in ", absl::FormatDuration(opens_at - now)),
                    ")"),
       now);
  UseCurrent(now);
  RejectWaiting(now);
}

void ClientCore::OnFrame(uint64_t generation, const v1::ServerFrame& frame, Instant now) {
  if (attachment_.Find(generation) == nullptr) return;
  attachment_.Heard(generation, now);
  switch (frame.frame_case()) {
    case v1::ServerFrame::kWelcome:
      if (attachment_.Greeted(generation, frame.welcome(), now, random_)) UseCurrent(now);
      break;
    case v1::ServerFrame::kGoodbye: OnGoodbye(generation, frame.goodbye(), now); break;
    case v1::ServerFrame::kSites:
      if (attachment_.SitesChanged(generation, frame.sites()) && generation == used_) ReadSites(now);
      break;
    default: OnQueryFrame(generation, frame, now);
  }
  AskWaiting(now);
}

void ClientCore::OnQueryFrame(uint64_t generation, const v1::ServerFrame& frame, Instant now) {
  const auto find = [&](const std::string& query_id) {
    Live* live = Find(query_id);
    return live != nullptr && live->stream == generation ? live : nullptr;
  };
  switch (frame.frame_case()) {
    case v1::ServerFrame::kDecision:
      if (Live* live = find(frame.decision().query_id())) OnDecision(*live, frame.decision(), now);
      break;
    case v1::ServerFrame::kTokens:
      if (Live* live = find(frame.tokens().query_id())) OnTokens(*live, frame.tokens(), now);
      break;
    case v1::ServerFrame::kCompleted:
      if (Live* live = find(frame.completed().query_id())) OnCompleted(*live, frame.completed(), now);
      break;
    case v1::ServerFrame::kFailed: {
      const v1::Failed& failed = frame.failed();
      if (Live* live = find(failed.query_id())) {
        live->answer.retry_after = ReadRetryAfter(failed.error().retry_after_s());
        FinishLocally(*live, ErrorName(failed.error()), failed.error().message(), now);
      }
      break;
    }
    case v1::ServerFrame::kCancelled:
      if (Live* live = find(frame.cancelled().query_id())) {
        FinishLocally(*live, "CANCELLED_BY_GOAD", "cancelled by goad", now);
      }
      break;
    case v1::ServerFrame::kProtocolError: {
      const v1::ProtocolError& error = frame.protocol_error();
      Tell("PROTOCOL_ERROR",
           absl::StrCat(ErrorName(error.error()), ": ", error.error().field(), ": ", error.error().message()), now);
      // A second Prompt (never ours, but a network's) leaves the answer alone that the first one brought.
      if (Live* live = find(error.query_id()); live != nullptr && error.error().reason() != "PROMPT_TWICE") {
        FinishLocally(*live, ErrorName(error.error()), error.error().message(), now);
      }
      break;
    }
    default: break;
  }
}

}  // namespace goad::internal
