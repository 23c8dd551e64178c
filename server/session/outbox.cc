#include "server/session/outbox.h"

#include <algorithm>

#include "server/session/wire_codec.h"

namespace goad::server {
namespace {

QueryId IdOf(const SessionEvent& event) {
  return std::visit([](const auto& e) { return e.id; }, event);
}

// Whose fault it is: the service level is about goad and its LLM servers.
Terminal FailureOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kFailedPrecondition:
    case ErrorCode::kNotFound:
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kGrantExpired:
    case ErrorCode::kSlowConsumer:
    case ErrorCode::kUnauthenticated: return Terminal::kDeviceFailed;
    case ErrorCode::kUnavailable:
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kInternal: return Terminal::kFailed;
  }
  return Terminal::kFailed;
}

std::optional<Terminal> TerminalOf(const SessionEvent& event) {
  if (const auto* decision = std::get_if<DecisionEvent>(&event)) {
    if (decision->verdict == sched::Verdict::kLocal) return Terminal::kLocal;
    return std::nullopt;
  }
  if (std::holds_alternative<CompletedEvent>(event)) return Terminal::kCompleted;
  if (const auto* failed = std::get_if<FailedEvent>(&event)) return FailureOf(failed->error.code);
  if (std::holds_alternative<CancelledEvent>(event)) return Terminal::kCancelled;
  return std::nullopt;
}

constexpr int64_t kTokensOverhead = 96;  // frame and bookkeeping beside the text

}  // namespace

Outbox::~Outbox() {
  MutexLock lock(mutex_);  // nobody else is here, but ThreadSanitizer does not see the reference counts in gRPC's rooms
  AddBytes(-bytes_);
}

void Outbox::AddBytes(int64_t delta) {
  bytes_ += delta;
  budget_->bytes.fetch_add(delta, std::memory_order_relaxed);
  metrics_->OutboxBytes(delta);
}

bool Outbox::Full(int64_t more) const {
  return bytes_ + more > max_bytes_ || (budget_->full() && bytes_ + more > kFairBytes);
}

Outbox::Opened Outbox::OpenSlot(Slot slot) {
  MutexLock lock(mutex_);
  if (closed_ || finished_) return Opened::kClosed;
  if (Full(kSlotBytes)) return Opened::kNoRoom;
  AddBytes(kSlotBytes);
  const QueryId id = slot.id;
  slots_.emplace(id, std::move(slot));
  return Opened::kOpen;
}

void Outbox::CloseSlot(QueryId id) {
  slots_.erase(id);
  AddBytes(-kSlotBytes);
}

std::optional<Outbox::Slot> Outbox::FindSlot(const std::string& query_id) const {
  MutexLock lock(mutex_);
  for (const auto& [id, slot] : slots_) {  // a handful per session
    if (slot.query_id == query_id) return slot;
  }
  return std::nullopt;
}

bool Outbox::TakePrompt(QueryId id) {
  MutexLock lock(mutex_);
  const auto slot = slots_.find(id);
  if (slot == slots_.end() || slot->second.state != SlotState::kGranted) return false;
  slot->second.state = SlotState::kPrompted;
  return true;
}

size_t Outbox::live() const {
  MutexLock lock(mutex_);
  return slots_.size();
}

int64_t Outbox::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

void Outbox::Push(std::deque<Item>& queue, FramePtr frame, int64_t more) {
  const int64_t bytes = static_cast<int64_t>(frame->ByteSizeLong()) + kTokensOverhead + more;
  queue.push_back({std::move(frame), bytes});
  AddBytes(bytes);
}

Outbox::PutResult Outbox::PutTokens(Slot& slot, TokensEvent event) {
  PutResult result;
  int64_t text_bytes = static_cast<int64_t>(event.text.size() + event.reasoning.size());
  int64_t bytes = text_bytes;
  for (const openai::ToolCallPiece& piece : event.tool_calls) {
    bytes += static_cast<int64_t>(kToolCallBytes + piece.id.size() + piece.name.size() + piece.arguments.size());
  }
  for (const TokenLogprob& logprob : event.logprobs) bytes += 64 * static_cast<int64_t>(1 + logprob.top.size());
  if (Full(bytes)) {
    FailedEvent failed;
    failed.id = event.id;
    failed.error = MakeError(ErrorCode::kSlowConsumer, Refusal::kOutboxFull, "", "the device did not read its answer");
    failed.text_bytes = event.text_offset;
    Tell(slot, std::move(failed), {}, &result);
    result.delivery = Delivery::kDropped;
    metrics_->SlowConsumer();
    return result;
  }
  const bool joins = event.logprobs.empty();
  Item* last = queue_.empty() ? nullptr : &queue_.back();
  if (last != nullptr && last->tokens_of == event.id && joins) {
    last->tokens->mutable_text()->append(event.text);
    last->tokens->mutable_reasoning()->append(event.reasoning);
    text_bytes += static_cast<int64_t>(EncodeToolCalls(std::move(event.tool_calls), last->tokens));
    last->tokens->set_refusal_bytes(last->tokens->refusal_bytes() + event.refusal_bytes);
    last->tokens->set_tokens(last->tokens->tokens() + static_cast<uint32_t>(event.tokens));
    last->bytes += text_bytes;
    AddBytes(text_bytes);
  } else {
    const QueryId id = event.id;
    auto frame = std::make_shared<v1::ServerFrame>(EncodeEvent(std::move(event), slot.query_id, {}));
    v1::Tokens* const tokens = frame->mutable_tokens();
    Push(queue_, std::move(frame), static_cast<int64_t>(kToolCallBytes) * tokens->tool_calls_size());
    if (joins) {
      queue_.back().tokens_of = id;
      queue_.back().tokens = tokens;
    }
  }
  paused_ |= unread() > max_bytes_ / 2;
  result.delivery = paused_ ? Delivery::kPause : Delivery::kAccepted;
  return result;
}

// A decision or a terminal; the slot of a terminal is closed.
void Outbox::Tell(Slot& slot, SessionEvent event, const std::vector<SiteConfig>& sites, PutResult* result) {
  const bool is_decision = std::holds_alternative<DecisionEvent>(event);
  result->delivery = Delivery::kAccepted;
  result->terminal = TerminalOf(event);
  if (const auto* decision = std::get_if<DecisionEvent>(&event)) slot.site = decision->site;
  if (const auto* completed = std::get_if<CompletedEvent>(&event))
    slot.site = completed->site;  // another has taken over
  result->site = slot.site;
  v1::ServerFrame frame = EncodeEvent(std::move(event), slot.query_id, sites);
  if (frame.decision().reason() == v1::REASON_NO_LINK) frame.mutable_decision()->set_neighbour(slot.neighbour);
  result->frame = std::make_shared<const v1::ServerFrame>(std::move(frame));
  result->received = slot.received;
  Push(is_decision ? urgent_ : queue_, result->frame);
  if (result->terminal) {
    result->memory_key = std::move(slot.memory_key);
    CloseSlot(slot.id);
  } else {
    result->memory_key = slot.memory_key;
    slot.state = slot.prompt_bytes > 0 ? SlotState::kGranted : SlotState::kPrompted;
  }
}

Outbox::PutResult Outbox::Put(SessionEvent event, const std::vector<SiteConfig>& sites) {
  MutexLock lock(mutex_);
  const auto found = slots_.find(IdOf(event));
  if (closed_ || found == slots_.end()) {
    if (!closed_ && TerminalOf(event)) metrics_->LateTerminal();
    return {};
  }
  Slot& slot = found->second;
  if (auto* tokens = std::get_if<TokensEvent>(&event)) return PutTokens(slot, std::move(*tokens));
  if (std::holds_alternative<DecisionEvent>(event) && slot.state != SlotState::kPending) {  // at most one decision
    metrics_->LateTerminal();
    return {};
  }
  PutResult result;
  Tell(slot, std::move(event), sites, &result);
  return result;
}

void Outbox::PutUrgent(v1::ServerFrame frame) {
  MutexLock lock(mutex_);
  if (!closed_) Push(urgent_, std::make_shared<const v1::ServerFrame>(std::move(frame)));
}

bool Outbox::PutIfRoom(FramePtr frame) {
  MutexLock lock(mutex_);
  if (closed_ || bytes_ > max_bytes_ / 2 || (budget_->full() && bytes_ > kFairBytes)) return false;
  Push(urgent_, std::move(frame));
  return true;
}

void Outbox::HalfClose() {
  MutexLock lock(mutex_);
  half_closed_ = true;
}

void Outbox::SayGoodbye(v1::ServerFrame goodbye, ErrorInfo why) {
  MutexLock lock(mutex_);
  if (closed_ || goodbye_) return;
  goodbye_ = std::move(why);
  Push(urgent_, std::make_shared<const v1::ServerFrame>(std::move(goodbye)));
}

bool Outbox::leaving() const {
  MutexLock lock(mutex_);
  return goodbye_.has_value();
}

void Outbox::EndGoodbye() {
  MutexLock lock(mutex_);
  goodbye_over_ = true;
}

bool Outbox::HoldOpen() {
  MutexLock lock(mutex_);
  if (finished_) return false;
  ++held_open_;
  return true;
}

void Outbox::LetGo() {
  MutexLock lock(mutex_);
  --held_open_;
}

Outbox::Flow Outbox::flow() const {
  MutexLock lock(mutex_);
  return {writes_done_, writing_ || !urgent_.empty() || !queue_.empty()};
}

void Outbox::Close(std::optional<ErrorInfo> why, MonotonicTime now) {
  MutexLock lock(mutex_);
  if (closed_) return;
  closed_ = true;
  close_error_ = std::move(why);
  for (const auto& [id, slot] : slots_) metrics_->QueryLostWithStream(slot.site, SecondsBetween(slot.received, now));
  slots_.clear();
  urgent_.clear();
  queue_.clear();
  AddBytes(-bytes_);
}

Outbox::Step Outbox::Next() {
  MutexLock lock(mutex_);
  Step step;
  if (writing_ || finished_) return step;
  std::deque<Item>* queue = !urgent_.empty() ? &urgent_ : &queue_;
  if (!queue->empty()) {
    step.kind = Step::kWrite;
    step.frame = std::move(queue->front().frame);
    AddBytes(-queue->front().bytes);
    queue->pop_front();
    writing_ = true;
    step.more = !urgent_.empty() || !queue_.empty();
    if (paused_ && unread() <= max_bytes_ / 4) {
      paused_ = false;
      step.resume = true;
    }
    return step;
  }
  const bool gone = goodbye_ && goodbye_over_ && !half_closed_;
  if (held_open_ == 0 && (closed_ || ((half_closed_ || gone) && slots_.empty()))) {
    step.kind = Step::kFinish;
    step.error = gone && !closed_ ? goodbye_ : close_error_;
    finished_ = true;
  }
  return step;
}

void Outbox::WriteDone() {
  MutexLock lock(mutex_);
  writing_ = false;
  ++writes_done_;
}

}  // namespace goad::server
