// libFuzzer: a trace of what happens to a client (frames of a server, asks, time, losses) into ClientCore. The input is
// a row of (kind byte, argument byte, for a frame its length in two bytes, low first, and that many bytes of a
// ServerFrame). Every Ask must get exactly one on_done, an answer that is none holds no text, and only an edge answer
// has no reason.
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>

#include "client_sdk/src/client_core.h"

namespace goad::internal {
namespace {

void Require(bool holds) {
  if (!holds) abort();
}

class Trace {
 public:
  Trace() : core_(Options(), 1) {}

  void Run(const uint8_t* data, size_t size) {
    size_t at = 0;
    const auto next = [&]() -> unsigned { return at < size ? data[at++] : 0; };
    for (int steps = 0; at < size && steps < 2000; ++steps) {
      const unsigned kind = next() % 8, argument = next();
      now_ += absl::Milliseconds(argument);
      switch (kind) {
        case 0:
        case 1:
        case 2: {
          const size_t wanted = next() | next() << 8, length = std::min(wanted, size - at);
          v1::ServerFrame frame;
          if (frame.ParseFromArray(data + at, static_cast<int>(length))) core_.OnFrame(Stream(argument), frame, now_);
          at += length;
          break;
        }
        case 3: Ask(argument); break;
        case 4: core_.OnStreamLost(Stream(argument), "lost", now_); break;
        case 5: core_.Cancel(Id(argument), now_); break;
        case 6: core_.ReportLinks({{.site = Id(argument), .uplink_bps = 1e6}}, now_); break;
        case 7: core_.CallbackFailed(Id(argument), "thrown", now_); break;
      }
      Collect();
      core_.Tick(now_);
      Collect();
    }
    core_.Shutdown(now_);
    Collect();
    Require(live_ == 0);
  }

 private:
  static ClientOptions Options() {
    ClientOptions options;
    options.other_addresses = {"b.example:7443", "c.example:7443"};
    options.on_problem = [](const Problem& problem) { Require(!problem.code.empty() && problem.detail.size() <= 512); };
    return options;
  }
  // The newest one; for a great argument one of the two before it.
  uint64_t Stream(unsigned argument) const {
    return generation_ - std::min<uint64_t>(generation_, argument < 192 ? 0 : 1 + argument % 2);
  }
  static std::string Id(unsigned argument) { return std::string(1, static_cast<char>('a' + argument % 8)); }

  void Ask(unsigned argument) {
    Query query;
    query.id = Id(argument);
    query.uncertainty = 0.5;
    query.prompt = "why?";
    query.must_offload = argument % 3 == 0;
    if (argument % 5 == 0) query.deadline = absl::Seconds(2);
    ++live_;
    auto done = std::make_shared<int>(0);
    AskCallbacks callbacks;
    callbacks.on_text = [](const std::string&) {};
    callbacks.on_done = [this, done](const Answer& answer) {
      Require(++*done == 1);
      --live_;
      const bool edge = answer.source == Answer::Source::kEdge;
      Require(edge == answer.why_local.empty());
      Require(edge || answer.text.empty());
      Require(answer.delay >= absl::ZeroDuration());
    };
    core_.Ask(query, callbacks, {}, now_);
  }
  void Collect() {
    for (Action& action : core_.TakeActions()) {
      if (const auto* open = std::get_if<OpenStream>(&action)) generation_ = open->generation;
      if (const auto* send = std::get_if<SendFrame>(&action)) Require(send->frame.SerializeAsString().size() < 1 << 20);
      if (const auto* notify = std::get_if<Notify>(&action)) notify->call();
    }
  }

  Instant now_ = absl::Seconds(1);
  ClientCore core_;
  uint64_t generation_ = 0;
  int live_ = 0;
};

}  // namespace
}  // namespace goad::internal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  google::protobuf::SetLogHandler(nullptr);
  goad::internal::Trace().Run(data, size);
  return 0;
}
