// One question between a local model and goad: who is asked, who is stopped, what is shown. Pure: no thread, no clock,
// no socket; driven by Runtime and by the simulation.
#ifndef GOAD_CLIENT_SDK_RUNTIME_ANSWER_FLOW_H_
#define GOAD_CLIENT_SDK_RUNTIME_ANSWER_FLOW_H_

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "goad/runtime.h"

namespace goad::internal {

// What the shell must do, in order.
struct StartLocal {};
struct StopLocal {};
struct AskEdge {
  std::optional<double> uncertainty;  // nothing: must_offload
  bool local_is_whole = false;        // so that nothing of it is still to come
};
struct CancelEdge {};
struct Show {
  AnswerPiece piece;
};
struct EndFlow {};
using FlowAction = std::variant<StartLocal, StopLocal, AskEdge, CancelEdge, Show, EndFlow>;

// Thread-compatible. Whatever comes in, in whatever order: one EndFlow, nothing shown after it, all that is shown is of
// one source, and what is running then has been told to stop.
class AnswerFlow {
 public:
  static constexpr size_t kMostBytes = 16 << 20;  // of one local answer

  // `whole`: nobody sees anything before the end, so whoever fails before it can still be replaced.
  AnswerFlow(const RuntimeOptions& options, Route route, bool whole = false);

  void Start();
  // Of the local answer that was started last; what comes of one that was stopped must not be passed in.
  void OnLocalPiece(AnswerPiece piece);
  void OnUncertainty(double uncertainty);
  void OnLocalEnd(LocalEnd end);
  void OnLocalSlow();  // it has not said how unsure it is, and takes long
  void OnAsked(const std::string& query_id) { answer_.query_id = query_id; }
  // Of the query that was asked last, until its OnEdgeEnd.
  void OnDecision(const Decision& decision);
  void OnEdgePiece(AnswerPiece piece);
  void OnEdgeEnd(const Answer& answer);
  void OnEdgeSlow();  // it was granted, and has shown nothing for long
  void OnEdgeAway();  // goad is not connected at present
  void OnCancel();

  std::vector<FlowAction> TakeActions() { return std::exchange(actions_, {}); }
  bool ended() const { return ended_; }
  // The local answer is whole, and goad has not decided: OnEdgeAway would show it.
  bool waits_for_goad() const { return !ended_ && edge_ == Edge::kAsked && local_ == Local::kDone; }
  Answer::Source source() const { return shown_; }
  std::optional<double> uncertainty() const { return uncertainty_; }
  const Answer& answer() const { return answer_; }

 private:
  enum class Local { kIdle, kRunning, kDone, kFailed, kStopped };
  enum class Edge { kIdle, kAsked, kGranted, kOver };

  void Ask(std::optional<double> uncertainty);
  void ShowLocal(const std::string& why);
  void ShowEdge();
  void ShowPiece(AnswerPiece piece);
  void StopLocalModel();
  void StopEdge();
  void PreferLocal();  // when it is whole and the edge is not
  void EndLocally();
  void Fail(const std::string& why, const std::string& detail);
  void End();

  const RuntimeOptions options_;
  const Route route_;
  const bool whole_;
  Local local_ = Local::kIdle;
  Edge edge_ = Edge::kIdle;
  Answer::Source shown_ = Answer::Source::kNone;
  bool ended_ = false;
  bool edge_slow_ = false;
  std::optional<double> uncertainty_;                    // that goad was asked with
  bool chosen_ = false;                                  // the local answer, shown once it is whole
  bool forced_ = false;                                  // the edge was asked with must_offload
  std::vector<AnswerPiece> local_pieces_, edge_pieces_;  // not yet shown
  size_t local_bytes_ = 0;
  int hedged_tokens_ = 0, held_tokens_ = 0;
  LocalEnd local_end_;
  Answer answer_;
  std::vector<FlowAction> actions_;
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_RUNTIME_ANSWER_FLOW_H_
