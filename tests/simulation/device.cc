#include "tests/simulation/device.h"

#include "absl/strings/str_cat.h"

namespace goad::server {

SimDevice::SimDevice(Stage* stage, const ClientOptions& options, std::function<SimGoad*(const std::string& address)> at,
                     std::function<void()> changed)
    : stage_(stage),
      at_(std::move(at)),
      changed_(std::move(changed)),
      core_(std::make_unique<internal::ClientCore>(options, stage->random())) {}

SimGoad* SimDevice::home() const {
  const auto link = streams_.find(used_);
  if (link == streams_.end() || link->second.left || link->second.stream->dead()) return nullptr;
  return link->second.stream->goad();
}

void SimDevice::Apply() {
  for (internal::Action& action : core_->TakeActions()) {
    if (const auto* open = std::get_if<internal::OpenStream>(&action)) {
      Open(open->generation, open->address);
    } else if (const auto* send = std::get_if<internal::SendFrame>(&action)) {
      Send(send->generation, send->frame);
    } else if (auto* notify = std::get_if<internal::Notify>(&action)) {
      notify->call();
    } else {
      Lose(std::get<internal::CloseStream>(action).generation);
    }
  }
  changed_();
}

void SimDevice::Open(uint64_t generation, const std::string& address) {
  SimGoad* const goad = at_(address);
  auto stream = goad->Open(this, generation);
  if (stream == nullptr) {
    const char* why = goad->killed() ? "connection refused" : "draining";
    stage_->At(stage_->Between(0, 30), [this, generation, why] { Lost(generation, why); });
    return;
  }
  streams_[generation].stream = std::move(stream);
}

void SimDevice::Send(uint64_t generation, const v1::DeviceFrame& frame) {
  const auto link = streams_.find(generation);
  if (link == streams_.end()) return;
  if (frame.has_query() || frame.has_link_report()) used_ = generation;
  if (frame.has_query()) OnAsked(generation, frame.query().query_id());
  const absl::Duration late = frame.has_prompt() && stage_->Chance(stage_->faults.late_prompt)
                                  ? stage_->Between(200, 500)
                                  : stage_->Between(0.1, 4);
  const absl::Duration after = frame.has_prompt() ? late : absl::Milliseconds(1);
  for (int copies = stage_->Chance(stage_->faults.duplicate) && !frame.has_hello() ? 2 : 1; copies > 0; --copies) {
    link->second.stream->Send(frame, after);
  }
}

void SimDevice::Deliver(uint64_t generation, const v1::ServerFrame& frame) {
  const auto link = streams_.find(generation);
  if (link == streams_.end()) return;
  link->second.left |= frame.has_goodbye();
  OnAnswer(generation, frame);
  core_->OnFrame(generation, frame, stage_->instant());
  Apply();
  if (stage_->Chance(stage_->faults.lose_stream)) {
    ++lost_streams_;
    Lose(generation);
  }
}

void SimDevice::Lose(uint64_t generation) {
  const auto link = streams_.find(generation);
  if (link == streams_.end()) return;
  const auto stream = link->second.stream;
  streams_.erase(link);
  stream->Lose();
}

void SimDevice::Lost(uint64_t generation, const char* why) {
  streams_.erase(generation);
  core_->OnStreamLost(generation, why, stage_->instant());
  Apply();
}

// --- questions -------------------------------------------------------------------------------------------------------

void SimDevice::OnAsked(uint64_t generation, const std::string& id) {
  const auto [at, fresh] = questions_.try_emplace(id);
  Question& question = at->second;
  const auto before = streams_.find(question.generation);
  const bool lives = !fresh && before != streams_.end() && !before->second.stream->dead();
  if (question.begun) stage_->Broken(absl::StrCat("asked again after its first token: ", id));
  if (lives && !question.over) stage_->Broken(absl::StrCat("asked twice at once: ", id));
  SimGoad* const goad = streams_.at(generation).stream->goad();
  if (!fresh && question.goad != goad) ++asked_elsewhere_;
  question = {generation, goad};
}

void SimDevice::OnAnswer(uint64_t generation, const v1::ServerFrame& frame) {
  std::string over;
  if (frame.has_tokens() || frame.has_completed()) {
    const std::string& id = frame.has_tokens() ? frame.tokens().query_id() : frame.completed().query_id();
    const auto question = questions_.find(id);
    if (question == questions_.end() || question->second.generation != generation)
      return stage_->Broken(absl::StrCat("an answer of a goad that was not asked last: ", id));
    question->second.begun = true;
    if (frame.has_completed()) over = id;
  }
  if (frame.decision().verdict() == v1::VERDICT_LOCAL) over = frame.decision().query_id();
  if (frame.has_failed()) over = frame.failed().query_id();
  if (frame.has_cancelled()) over = frame.cancelled().query_id();
  if (const auto question = questions_.find(over);
      question != questions_.end() && question->second.generation == generation) {
    question->second.over = true;
  }
}

}  // namespace goad::server
