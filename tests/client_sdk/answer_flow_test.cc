// One question between a local model and goad: every order in which things can happen.
#include "client_sdk/runtime/answer_flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace goad::internal {
namespace {

using Source = Answer::Source;

AnswerPiece Piece(const std::string& text) {
  AnswerPiece piece;
  piece.text = text;
  piece.tokens = 1;
  return piece;
}
Answer EdgeAnswer(const std::string& text) {
  Answer answer;
  answer.source = Source::kEdge;
  answer.text = text;
  return answer;
}
Answer NoAnswer(const std::string& why) {
  Answer answer;
  answer.why_local = why;
  return answer;
}
Decision Offload(const std::string& reason) {
  Decision decision;
  decision.offload = true;
  decision.reason = reason;
  return decision;
}

// Plays a world against the flow: it starts, stops and asks as the flow says, and lets things happen in the order of a
// script of choices. Every rule of the flow is looked at after every step.
struct World {
  RuntimeOptions options;
  Route route = Route::kAuto;
  bool local_breaks = false;  // after its tokens
  bool tells_uncertainty = true;
  std::string verdict = "UNCERTAIN";  // or DELAY_GAIN; else a reason of LOCAL
  int edge_tokens = 2;
  bool edge_breaks = false;  // after its tokens
  bool cancel = false;       // by the app, at any moment
  bool whole = false;        // nobody sees anything before the end
  bool slow = false;         // the local model takes long, as seen at any moment
  bool edge_slow = false;    // so does the edge
  bool goad_dies = false;    // at any moment: what is asked ends with STREAM_LOST
};

class Play {
 public:
  explicit Play(const World& world) : world_(world), flow_(world.options, world.route, world.whole) {
    flow_.Start();
    Apply();
  }

  // What can happen now.
  std::vector<char> Choices() const {
    std::vector<char> can;
    if (stopped_edge && !late_) can.push_back('p');
    if (flow_.ended()) return can;
    if (local_running_) can.push_back('l');
    if (asked_) can.push_back('e');
    if (flow_.waits_for_goad() && world_.goad_dies) can.push_back('a');
    if (asked_ && world_.goad_dies && !died_) can.push_back('d');
    if (world_.cancel) can.push_back('c');
    if (world_.slow && !slow_) can.push_back('s');
    if (world_.edge_slow && !edge_slow_) can.push_back('t');
    return can;
  }
  void Do(char choice) {
    history += choice;
    switch (choice) {
      case 'l': LocalStep(); break;
      case 'e': EdgeStep(); break;
      case 'a': flow_.OnEdgeAway(); break;
      case 'd':
        died_ = true;
        asked_ = granted_ = false;
        flow_.OnEdgeEnd(NoAnswer("STREAM_LOST"));
        break;
      case 'p':  // what was on its way when the edge was stopped
        late_ = true;
        flow_.OnEdgePiece(Piece("E"));
        flow_.OnEdgeEnd(NoAnswer("CANCELLED"));
        break;
      case 't':
        edge_slow_ = true;
        flow_.OnEdgeSlow();
        break;
      case 's':
        slow_ = true;
        flow_.OnLocalSlow();
        break;
      case 'c':
        cancelled_ = true;
        flow_.OnCancel();
        break;
    }
    Apply();
  }

  std::string history, shown;
  const AnswerFlow& flow() const { return flow_; }
  bool local_running() const { return local_running_; }
  bool edge_running() const { return asked_; }
  bool cancelled() const { return cancelled_; }
  int ends = 0, asks = 0, starts = 0;
  bool stopped_edge = false;

 private:
  void LocalStep() {  // uncertainty after the first token; three tokens; the end
    if (local_step_ < 3) {
      flow_.OnLocalPiece(Piece("L"));
      if (local_step_ == 0 && world_.tells_uncertainty && local_running_) flow_.OnUncertainty(0.9);
    } else {
      local_running_ = false;
      LocalEnd end;
      if (world_.local_breaks) end.status = absl::UnavailableError("broke");
      flow_.OnLocalEnd(end);
    }
    ++local_step_;
  }
  void EdgeStep() {  // decision; tokens; the end
    const bool offload = world_.verdict == "UNCERTAIN" || world_.verdict == "DELAY_GAIN" || forced_;
    if (!granted_) {
      if (!offload) {
        asked_ = false;
        Answer local = NoAnswer(world_.verdict);
        local.decided = true;
        local.decision.reason = world_.verdict;
        flow_.OnEdgeEnd(local);
      } else {
        granted_ = true;
        flow_.OnDecision(Offload(forced_ ? "UNCERTAIN" : world_.verdict));
      }
    } else if (edge_step_ < world_.edge_tokens) {
      ++edge_step_;
      flow_.OnEdgePiece(Piece("E"));
    } else {
      asked_ = false;
      Answer end = world_.edge_breaks ? NoAnswer("BACKEND_FAILED")
                                      : EdgeAnswer(std::string(static_cast<size_t>(edge_step_), 'E'));
      end.decided = true;
      end.decision = Offload(world_.verdict);
      flow_.OnEdgeEnd(end);
    }
  }
  void Apply() {
    for (const FlowAction& action : flow_.TakeActions()) {
      ASSERT_EQ(ends, 0) << history << ": something after the end";
      if (std::holds_alternative<StartLocal>(action)) {
        ASSERT_FALSE(local_running_) << history;
        local_running_ = true;
        local_step_ = 0;
        ++starts;
      } else if (std::holds_alternative<StopLocal>(action)) {
        ASSERT_TRUE(local_running_) << history << ": stopped, and was not running";
        local_running_ = false;
      } else if (const auto* ask = std::get_if<AskEdge>(&action)) {
        ASSERT_FALSE(asked_) << history;
        asked_ = true;
        granted_ = false;
        edge_step_ = 0;
        forced_ = !ask->uncertainty;
        ++asks;
      } else if (std::holds_alternative<CancelEdge>(action)) {
        ASSERT_TRUE(asked_) << history << ": cancelled, and was not asked";
        asked_ = false;
        stopped_edge = true;
      } else if (const auto* show = std::get_if<Show>(&action)) {
        shown += show->piece.text;
      } else {
        ++ends;
      }
    }
  }

  const World world_;
  AnswerFlow flow_;
  bool local_running_ = false, asked_ = false, granted_ = false, forced_ = false, died_ = false, cancelled_ = false,
       late_ = false, slow_ = false, edge_slow_ = false;
  int local_step_ = 0, edge_step_ = 0;
};

void CheckShown(const Play& play) {
  const std::string& shown = play.shown;
  EXPECT_TRUE(shown.find('L') == shown.npos || shown.find('E') == shown.npos) << play.history << " shows " << shown;
  const Source speaks = play.flow().source();
  if (speaks == Source::kNone) {
    EXPECT_EQ(shown, "") << play.history;
  }
  if (speaks == Source::kLocal) {
    EXPECT_EQ(shown.find('E'), shown.npos) << play.history;
  }
  if (speaks == Source::kEdge) {
    EXPECT_EQ(shown.find('L'), shown.npos) << play.history;
  }
}

// All orders; `at_end` judges each.
int Explore(const World& world, const std::function<void(const Play&)>& at_end) {
  int ends = 0;
  std::vector<std::string> open = {""};
  while (!open.empty()) {
    const std::string script = open.back();
    open.pop_back();
    Play play(world);
    for (const char choice : script) play.Do(choice);
    CheckShown(play);
    const std::vector<char> can = play.Choices();
    if (can.empty()) {
      ++ends;
      EXPECT_EQ(play.ends, 1) << script << ": stuck or ended twice";
      EXPECT_FALSE(play.local_running()) << script << ": the local model runs on";
      EXPECT_FALSE(play.edge_running()) << script << ": the edge runs on";
      at_end(play);
    }
    for (const char choice : can) open.push_back(script + choice);
    if (::testing::Test::HasFailure()) return ends;
  }
  return ends;
}

TEST(AnswerFlow, EveryOrderOfThingsEndsOnceWithOneWholeAnswer) {
  int orders = 0;
  for (const Route route : {Route::kAuto, Route::kLocal, Route::kEdge}) {
    for (const std::string verdict : {"UNCERTAIN", "DELAY_GAIN", "NO_GAIN"}) {
      for (const int hedge : {0, 1, 1000}) {
        for (const int hold : {0, 1, 1000}) {
          for (int flags = 0; flags < 256; ++flags) {
            World world;
            world.route = route;
            world.verdict = verdict;
            world.options.hedge_tokens = hedge;
            world.options.edge_hold_tokens = hold;
            world.local_breaks = flags & 1;
            world.edge_breaks = flags & 2;
            world.cancel = flags & 4;
            world.goad_dies = flags & 8;
            world.tells_uncertainty = !(flags & 16);
            world.whole = flags & 32;
            world.slow = flags & 64;
            world.edge_slow = flags & 128;
            if (world.slow + world.edge_slow + world.goad_dies + world.cancel > 2) continue;  // too many orders
            orders += Explore(world, [&](const Play& play) {
              const Answer& answer = play.flow().answer();
              if (play.cancelled()) return;
              const bool edge_shown = play.flow().source() == Source::kEdge;
              if (answer.source == Source::kLocal) {
                EXPECT_EQ(play.shown, "LLL") << play.history;
                EXPECT_EQ(answer.text, "LLL") << play.history;
                EXPECT_NE(answer.why_local, "") << play.history;
              } else if (answer.source == Source::kEdge) {
                EXPECT_EQ(play.shown, "EE") << play.history;
              } else {  // nobody could, or edge text had been shown and broke off
                EXPECT_NE(answer.why_local, "") << play.history;
                EXPECT_TRUE(edge_shown || world.local_breaks || route == Route::kEdge) << play.history;
              }
              if (!world.local_breaks && route != Route::kEdge && !edge_shown) {
                EXPECT_EQ(answer.source, Source::kLocal) << play.history << ": a whole local answer was there";
              }
            });
            ASSERT_FALSE(HasFailure()) << "route " << static_cast<int>(route) << " " << verdict << " hedge " << hedge
                                       << " hold " << hold << " flags " << flags;
          }
        }
      }
    }
  }
  std::cout << orders << " orders\n";
  EXPECT_GT(orders, 10000);
}

TEST(AnswerFlow, WhoIsThereFirstWinsWhereTheDecisionWasForDelay) {
  World world;
  world.verdict = "DELAY_GAIN";
  std::set<std::string> why;
  Explore(world, [&](const Play& play) {
    const Answer& answer = play.flow().answer();
    if (answer.source == Source::kLocal) why.insert(answer.why_local);
    // The local answer was whole before the edge's first token, or the edge spoke first.
    const size_t local_end = [&] {
      size_t steps = 0;
      for (size_t k = 0; k < play.history.size(); ++k) {
        if (play.history[k] == 'l' && ++steps == 4) return k;
      }
      return play.history.npos;
    }();
    const size_t edge_first = [&] {
      size_t steps = 0;
      for (size_t k = 0; k < play.history.size(); ++k) {
        if (play.history[k] == 'e' && ++steps == 2) return k;
      }
      return play.history.npos;
    }();
    EXPECT_EQ(answer.source, local_end < edge_first ? Source::kLocal : Source::kEdge) << play.history;
  });
  EXPECT_THAT(why, ::testing::ElementsAre("LOCAL_FIRST"));
}

TEST(AnswerFlow, AnUnsureAnswerWaitsForTheEdge) {
  World world;
  world.verdict = "UNCERTAIN";
  Explore(world, [&](const Play& play) { EXPECT_EQ(play.flow().answer().source, Source::kEdge) << play.history; });
}

TEST(AnswerFlow, AnEdgeThatIsSilentForLongIsNotWaitedFor) {
  World world;
  world.edge_slow = true;
  std::set<std::string> why;
  Explore(world, [&](const Play& play) {
    const Answer& answer = play.flow().answer();
    if (answer.source == Source::kLocal) why.insert(answer.why_local);
  });
  EXPECT_THAT(why, ::testing::ElementsAre("EDGE_SLOW"));
}

TEST(AnswerFlow, AHedgeOfNoTokensStopsTheLocalModelAndBeginsItAnewWhenTheEdgeFails) {
  World world;
  world.options.hedge_tokens = 0;
  world.edge_tokens = 0;
  world.edge_breaks = true;
  int anew = 0;
  Explore(world, [&](const Play& play) {
    anew += play.starts == 2;
    EXPECT_EQ(play.shown, "LLL") << play.history;
  });
  EXPECT_GT(anew, 0);
}

TEST(AnswerFlow, HeldEdgeTokensAreNotShownWhenTheEdgeBreaksWithinThem) {
  World world;
  world.options.edge_hold_tokens = 2;
  world.edge_breaks = true;
  Explore(world, [&](const Play& play) { EXPECT_EQ(play.flow().answer().source, Source::kLocal) << play.history; });
  world.options.edge_hold_tokens = 1;
  Explore(world, [&](const Play& play) { EXPECT_EQ(play.flow().answer().source, Source::kNone) << play.history; });
}

TEST(AnswerFlow, ALocalModelThatFailsIsReplacedByTheEdge) {
  World world;
  world.local_breaks = true;
  world.verdict = "NO_GAIN";  // goad cannot know
  Explore(world, [&](const Play& play) {
    if (play.flow().source() == Source::kLocal) return;  // it broke while its text was shown
    EXPECT_EQ(play.shown, "EE") << play.history;
  });
}

TEST(AnswerFlow, AWholeAnswerIsGivenByTheOtherWhoeverFails) {
  World world;
  world.whole = true;
  world.edge_breaks = true;
  Explore(world, [&](const Play& play) { EXPECT_EQ(play.shown, "LLL") << play.history; });
  world.edge_breaks = false;
  world.local_breaks = true;
  for (const char* verdict : {"NO_GAIN", "UNCERTAIN"}) {
    world.verdict = verdict;
    Explore(world, [&](const Play& play) { EXPECT_EQ(play.shown, "EE") << play.history; });
  }
}

TEST(AnswerFlow, ALocalModelThatTakesLongIsOvertakenByTheEdge) {
  World world;
  world.slow = true;
  int overtaken = 0;
  Explore(world, [&](const Play& play) {
    const bool slow_first = play.history.front() == 's';
    overtaken += slow_first && play.shown == "EE";
    if (slow_first && play.history.find("llll") == 1) {
      EXPECT_EQ(play.shown, "LLL") << play.history;
    }
  });
  EXPECT_GT(overtaken, 0);
}

TEST(AnswerFlow, WithoutUncertaintyTheFlagDecides) {
  World world;
  world.tells_uncertainty = false;
  Explore(world, [&](const Play& play) {
    EXPECT_EQ(play.flow().answer().why_local, "NO_UNCERTAINTY");
    EXPECT_EQ(play.asks, 0);
  });
  world.options.unknown_uncertainty = 1;
  Explore(world, [&](const Play& play) {
    EXPECT_EQ(play.asks, 1);
    EXPECT_EQ(play.flow().answer().source, Source::kEdge);
  });
}

TEST(AnswerFlow, ALocalAnswerOfTooManyBytesIsBrokenOff) {
  AnswerFlow flow({}, Route::kLocal);
  flow.Start();
  for (int k = 0; k < 100 && !flow.ended(); ++k) flow.OnLocalPiece(Piece(std::string(1 << 20, 'x')));
  EXPECT_EQ(flow.answer().why_local, "LOCAL_FAILED");
  EXPECT_THAT(flow.answer().detail, ::testing::HasSubstr("bytes"));
}

}  // namespace
}  // namespace goad::internal
