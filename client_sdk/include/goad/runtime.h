// A local model and an edge behind one question: the local model begins, goad decides, and one of the two answers.
//
//   goad::Runtime runtime(client.get(), {});
//   goad::Answer answer = runtime.Ask(query, [&](goad::LocalOutput& out) { return my_model(out); }, show_piece);
//
// The local model runs from the start, and nothing of it is shown. As soon as it has said how unsure it is, goad is
// asked, with what the local answer would still take; meanwhile it goes on into a buffer. LOCAL: the buffer is shown,
// and the question cost nothing. OFFLOAD: the edge's answer is shown, and until its first token the local one is kept
// as a hedge. Text of the two is never mixed. goad-device is this flow behind an OpenAI endpoint.
#ifndef GOAD_RUNTIME_H_
#define GOAD_RUNTIME_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "goad/client.h"

namespace goad {
namespace internal {
struct RuntimeState;
}

// How a local answer ended.
struct LocalEnd {
  absl::Status status;  // not OK: there is no (whole) answer
  std::string finish_reason = "stop";
  int prompt_tokens = 0, output_tokens = 0;  // where they are known
};

// What a local model writes into. Thread-safe.
class LocalOutput {
 public:
  virtual ~LocalOutput() = default;
  // The next piece of the answer. False: nobody wants the rest, return soon.
  virtual bool Push(AnswerPiece piece) = 0;
  // 0..1, as ClientOptions::uncertainty says; the first one counts. As soon as it is known.
  virtual void Uncertainty(double uncertainty) = 0;
  // `call` is run once, on any thread, when nobody wants the rest: at once when that is so already. It may be what
  // wakes a model that waits, and must not block. Only the last one given counts.
  virtual void OnUnwanted(std::function<void()> call) = 0;
};
// Runs the local model on a thread of the runtime's own; may be called a second time when the first answer was stopped
// and the edge then failed. What it throws ends that answer with its words.
using LocalModel = std::function<LocalEnd(LocalOutput&)>;

enum class Route {
  kAuto,   // goad decides
  kLocal,  // goad is not asked
  kEdge,   // must_offload; the local model is not run
};

// What is out of its range is moved into it.
struct RuntimeOptions {
  // After OFFLOAD the local model may go on for so many tokens, as long as the edge has shown none; 0 = it is stopped
  // at once, and begins anew should the edge fail. 0..1000000.
  int hedge_tokens = 1000000;
  // So many tokens of an edge answer are kept back, so that a break within them can still be answered locally.
  // 0..1000000.
  int edge_hold_tokens = 0;
  // What to ask goad with when the local answer ended and its uncertainty was never known; nothing: it is the answer.
  std::optional<double> unknown_uncertainty;  // 0..1
  // The local model has not said how unsure it is for so long: the edge is asked with must_offload, and who is there
  // first answers. 1 ms..24 h.
  absl::Duration local_first_token = absl::Seconds(10);
  // After OFFLOAD the edge has sent nothing for so long: the local answer is shown as soon as it is whole, whatever the
  // reason of the decision was. 1 ms..24 h.
  absl::Duration edge_first_token = absl::Seconds(10);
  // What a local answer takes until some have been seen.
  absl::Duration local_token_time = absl::Milliseconds(30);  // above 0, at most 1 h
  int local_output_tokens = 128;                             // 1..1000000
};

// One question under way. For one thread; Cancel may be called from any.
class Answering {
 public:
  virtual ~Answering() = default;  // cancels what is live, and waits for the local model to return
  // The next piece to show, waited for at most so long; nothing when there is none yet, or when the answer has ended.
  virtual std::optional<AnswerPiece> Next(absl::Duration at_most) = 0;
  virtual bool ended() const = 0;
  // Who speaks: kNone until the first piece can be shown, or at the end when nobody could.
  virtual Answer::Source source() const = 0;
  // That goad was asked with; nothing when it was not asked, or with must_offload.
  virtual std::optional<double> uncertainty() const = 0;
  // What is known; whole once ended. source kNone: no whole answer; what Next gave was broken off (why_local, detail).
  // why_local of a local answer may also be LOCAL_FIRST (offloaded, but the local answer was there first),
  // EDGE_SLOW, LOCAL_ONLY, NO_UNCERTAINTY, or, of none, LOCAL_FAILED.
  virtual const Answer& answer() const = 0;
  virtual void Cancel() = 0;
};

// Thread-safe; `client` must outlive it and all that it began. It learns from its local answers what they take.
class Runtime {
 public:
  Runtime(Client* client, RuntimeOptions options);
  ~Runtime();

  // query.uncertainty, first_token, local_delay and must_offload are filled in here, and prompt_tokens where it is 0:
  // by what tokens of earlier prompts had in bytes, as their LocalEnd told. Without `local` the route is kEdge.
  // `whole`: nobody sees the answer before its end, so nothing is shown before it, and an answer that breaks off
  // anywhere is given by the other of the two.
  std::unique_ptr<Answering> Begin(Query query, LocalModel local, Route route = Route::kAuto, bool whole = false);
  // The same until its end. `show` may be empty, and the answer is `whole` then; it has the whole text in any case.
  Answer Ask(Query query, LocalModel local, const std::function<void(const AnswerPiece&)>& show = {},
             Route route = Route::kAuto);

 private:
  const std::shared_ptr<internal::RuntimeState> state_;
};

}  // namespace goad

#endif  // GOAD_RUNTIME_H_
